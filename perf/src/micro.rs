//! Timing of small pieces of code, for `benches/`: enough to see a change of a few percent. What such a change is worth
//! to a gateway only the side-by-side run tells.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::stats::median;

const SAMPLES: usize = 25;
const SAMPLE_TIME: Duration = Duration::from_millis(10);

/// Runs what its command line asks for: all, or what contains the first argument that is no flag.
pub struct Micro {
    filter: Option<String>,
    /// Under `cargo test` a bench only has to run.
    once: bool,
}

impl Micro {
    pub fn from_args() -> Self {
        let mut filter = None;
        // Cargo passes `--bench` when it measures, and nothing of the kind when it tests.
        let mut once = true;
        for argument in std::env::args().skip(1) {
            match argument.as_str() {
                "--bench" => once = false,
                flag if flag.starts_with('-') => {}
                _ => filter = Some(argument),
            }
        }
        Self { filter, once }
    }

    /// Times `work` and prints nanoseconds per call: median, least and most of the samples.
    pub fn time<T>(&self, name: &str, mut work: impl FnMut() -> T) {
        if !self.asks_for(name) {
            return;
        }
        if self.once {
            black_box(work());
            return;
        }
        let calls = calls_in(SAMPLE_TIME, &mut work);
        let mut samples = [0.0; SAMPLES];
        for sample in &mut samples {
            *sample = timed(calls, &mut work).as_nanos() as f64 / calls as f64;
        }
        let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
        let most = samples.iter().copied().fold(0.0, f64::max);
        println!("{name:40} {:9.1} ns ({least:.1}..{most:.1})", median(&samples));
    }

    /// True if the command line asks for what has this name.
    pub fn asks_for(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()))
    }

    /// Nothing is measured, each piece only has to run.
    pub fn once(&self) -> bool {
        self.once
    }
}

/// How many calls take about that long, found by doubling; warms up on the way.
fn calls_in<T>(time: Duration, work: &mut impl FnMut() -> T) -> u64 {
    let mut calls = 1;
    while timed(calls, work) < time {
        calls *= 2;
    }
    calls
}

fn timed<T>(calls: u64, work: &mut impl FnMut() -> T) -> Duration {
    let start = Instant::now();
    for _ in 0..calls {
        black_box(work());
    }
    start.elapsed()
}
