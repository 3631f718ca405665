//! An origin that freezes: one of three is stopped where it is (SIGSTOP) under a load of constant rate, and the 99th
//! percentile of each slice of time says how long clients felt it. The load counts from the planned moment, so that
//! what waits for a connection counts, too.

use std::io;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::gateway::Gateway;
use crate::latency::Latencies;
use crate::open::{OpenLoop, Sample, run_each};
use crate::origin::ADDRESSES;
use crate::other::OriginProcess;
use crate::peer::Peer;
use crate::stats::median;
use crate::trial::{Bench, GATEWAY_CORE, LOAD_CORE, Trial};
use crate::usage::{CoreUse, of_processes, tree};

/// Found out by its requests alone, and by active checks as well.
pub const ARMS: [&str; 2] = ["ringway-unchecked", "ringway-resilient"];
pub const RUNS: usize = 3;
/// Far from what the gateway can: it is the frozen origin that is measured, not a queue.
const RATE: f64 = 2000.0;
const CONNECTIONS: usize = 256;
const PATH: &str = "/b100";
const SLICE: Duration = Duration::from_millis(500);
const WARM: Duration = Duration::from_secs(2);
const BEFORE_SLICES: usize = 12;
/// Long enough for the end of the first ejection (30 s in the example), when requests try the frozen one again.
const AFTER_SLICES: usize = 76;
/// A gateway that has found its way back stays there: most of so many slices.
const STEADY_SLICES: usize = 4;
/// 3 s, in the table.
const SHOWN_SLICES: usize = 6;
/// The place of the one that freezes.
const FROZEN: usize = 1;
/// A request without an answer counts as this slow.
const NEVER: Duration = Duration::MAX;

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Frozen {
    pub frozen_arm: String,
    /// The 99th percentile of each slice before and after the moment of the freeze.
    pub before_us: Vec<f64>,
    pub after_us: Vec<f64>,
    /// The share of the time that others had of either core, the larger, and the hypervisor of both.
    pub foreign: f64,
    pub steal: f64,
    pub errors: u64,
    pub first_error: Option<String>,
}

impl Frozen {
    /// Who waits for a core behind others is slow for that: such a run says nothing, good or bad.
    pub fn disturbed(&self) -> bool {
        Trial { foreign: self.foreign, steal: self.steal, ..Trial::default() }.disturbed()
    }

    pub fn normal_us(&self) -> f64 {
        median(&self.before_us)
    }

    /// Seconds from the freeze to the slice from which on p99 is at most `ratio` times the normal one.
    pub fn back_s(&self, ratio: f64) -> Option<f64> {
        let limit_us = self.normal_us() * ratio;
        let is_back = |run: &[f64]| run[0] <= limit_us && median(run) <= limit_us;
        let slice = self.after_us.windows(STEADY_SLICES).position(is_back)?;
        Some(slice as f64 * SLICE.as_secs_f64())
    }

    /// Percent of the slices from `from_s` after the freeze on in which p99 is above `ratio` times the normal one.
    pub fn over_percent(&self, ratio: f64, from_s: f64) -> f64 {
        over(&self.after_us[self.slice_at(from_s)..], self.normal_us() * ratio)
    }

    /// The same before the freeze: what the machine does by itself.
    pub fn over_before_percent(&self, ratio: f64) -> f64 {
        over(&self.before_us, self.normal_us() * ratio)
    }

    fn slice_at(&self, from_s: f64) -> usize {
        ((from_s / SLICE.as_secs_f64()).ceil() as usize).min(self.after_us.len())
    }
}

fn over(slices_us: &[f64], limit_us: f64) -> f64 {
    let over = slices_us.iter().filter(|&&p99_us| p99_us > limit_us).count();
    over as f64 / slices_us.len().max(1) as f64 * 100.0
}

/// # Errors
/// What kept origins, gateway or load from starting.
pub fn measure(bench: &mut Bench, arm: &str) -> io::Result<Frozen> {
    let peer = Peer::named(arm).ok_or_else(|| io::Error::other(format!("there is no {arm}")))?;
    let ports = bench.ports(false);
    // Beside the gateway, whose core has room: the load never sleeps and has its core to itself.
    let origins = ADDRESSES
        .iter()
        .map(|&address| OriginProcess::start(&bench.programs, GATEWAY_CORE, address, ports.origin))
        .collect::<io::Result<Vec<_>>>()?;
    let gateway = Gateway::start(peer, &bench.programs, ports, &bench.scratch)?;
    let plan = OpenLoop {
        gateway_port: ports.gateway,
        origin_port: None,
        path: PATH.to_owned(),
        connections: CONNECTIONS,
        rate: RATE,
        warm: WARM,
        duration: SLICE * (BEFORE_SLICES + AFTER_SLICES) as u32,
    };
    let here = tree(gateway.pid()).into_iter().chain(origins.iter().map(OriginProcess::pid)).collect::<Vec<_>>();
    let there = [rustix::process::getpid()];
    let watch = || Ok::<_, io::Error>([Watch::look(GATEWAY_CORE, &here)?, Watch::look(LOAD_CORE, &there)?]);
    let (mut samples, mut started) = (Vec::with_capacity((RATE * plan.duration.as_secs_f64()) as usize), None);
    let looked = watch()?;
    let report = std::thread::scope(|scope| {
        let mut freezing = None;
        let start = || {
            started = Some(Instant::now());
            freezing = Some(scope.spawn(|| {
                std::thread::sleep(SLICE * BEFORE_SLICES as u32);
                origins[FROZEN].freeze()
            }));
        };
        let report = run_each(&plan, start, |sample| samples.push(sample))?;
        freezing.map_or(Ok(()), |thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("no freeze"))))?;
        Ok::<_, io::Error>(report)
    })?;
    let now = watch()?;
    drop(gateway);
    let others = [now[0].others_since(&looked[0]), now[1].others_since(&looked[1])];
    let started = started.ok_or_else(|| io::Error::other("the load has not measured"))?;
    let mut before_us = p99_of_slices(&samples, started);
    let after_us = before_us.split_off(BEFORE_SLICES.min(before_us.len()));
    Ok(Frozen {
        frozen_arm: arm.to_owned(),
        before_us,
        after_us,
        foreign: others[0].0.max(others[1].0),
        steal: others[0].1 + others[1].1,
        errors: report.errors,
        first_error: report.first_error,
    })
}

/// A core, and what those of ours have had of it, at one moment.
struct Watch {
    at: Instant,
    core: CoreUse,
    ours_s: f64,
}

impl Watch {
    fn look(core: usize, ours: &[Pid]) -> io::Result<Self> {
        Ok(Self { at: Instant::now(), core: CoreUse::read(core)?, ours_s: of_processes(ours).run_s })
    }

    /// The shares of the time that other processes and the hypervisor had of the core.
    fn others_since(&self, before: &Self) -> (f64, f64) {
        let wall_s = (self.at - before.at).as_secs_f64();
        let steal_s = self.core.steal_s - before.core.steal_s;
        let busy_s = wall_s - (self.core.idle_s - before.core.idle_s) - steal_s;
        ((busy_s - (self.ours_s - before.ours_s)).max(0.0) / wall_s, steal_s / wall_s)
    }
}

fn p99_of_slices(samples: &[Sample], started: Instant) -> Vec<f64> {
    let mut slices: Vec<Latencies> =
        std::iter::repeat_with(Latencies::new).take(BEFORE_SLICES + AFTER_SLICES).collect();
    for sample in samples {
        let since = sample.planned.saturating_duration_since(started);
        // The last request is due a little before the end, seen from a start that was a little earlier than the plan's.
        let slice = ((since.as_secs_f64() / SLICE.as_secs_f64()) as usize).min(slices.len() - 1);
        slices[slice].record(sample.latency.unwrap_or(NEVER));
    }
    slices.iter().map(|slice| slice.at_us(0.99)).collect()
}

pub fn markdown(runs: &[Frozen]) -> String {
    let mut text = format!(
        "### One of three origins freezes at {RATE:.0} requests/s: p99 in slices of {} ms (`frozen`)\n\n\
         | arm | normal ms | from the freeze on, ms | at its worst 3 s later, ms | others | errors |\n\
         |---|---|---|---|---|---|\n",
        SLICE.as_millis()
    );
    for run in runs {
        let ms = |us: f64| format!("{:.1}", us / 1e3);
        let first: Vec<String> = run.after_us.iter().take(SHOWN_SLICES).map(|&us| ms(us)).collect();
        let worst = run.after_us.iter().skip(SHOWN_SLICES).copied().fold(0.0, f64::max);
        let errors = run.first_error.as_ref().map_or(String::new(), |why| format!(" ({why})"));
        text += &format!(
            "| {} | {} | {} | {} | {:.0} % | {}{errors} |\n",
            run.frozen_arm,
            ms(run.normal_us()),
            first.join(" "),
            ms(worst),
            (run.foreign + run.steal) * 100.0,
            run.errors
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frozen(after_us: &[f64]) -> Frozen {
        let before_us = vec![100.0, 110.0, 90.0, 200.0];
        let after_us = after_us.to_vec();
        Frozen {
            frozen_arm: "a".to_owned(),
            before_us,
            after_us,
            foreign: 0.0,
            steal: 0.0,
            errors: 0,
            first_error: None,
        }
    }

    #[test]
    fn back_is_where_it_stays() {
        let run = frozen(&[5e5, 100.0, 5e5, 5e5, 157.0, 100.0, 300.0, 110.0, 120.0, 400.0]);
        assert_eq!(run.normal_us(), 105.0);
        assert_eq!(run.back_s(1.5), Some(2.0), "one good slice between bad ones is no way back");
        assert_eq!(run.over_percent(1.5, 3.5).round(), 33.0);
        assert_eq!(run.over_before_percent(1.5), 25.0);
        assert_eq!(frozen(&[5e5; 8]).back_s(1.5), None);
    }

    #[test]
    fn a_request_belongs_to_the_slice_it_was_planned_in() {
        let started = Instant::now();
        let sample = |at: Duration, latency| Sample { planned: started + at, latency };
        let ms = Duration::from_millis;
        let samples = [
            sample(ms(0), Some(ms(1))),
            sample(ms(499), Some(ms(700))),
            sample(ms(500), Some(ms(2))),
            sample(ms(1100), None),
        ];
        let slices = p99_of_slices(&samples, started);
        assert_eq!(slices.len(), BEFORE_SLICES + AFTER_SLICES);
        assert!(slices[0] >= 700_000.0 && (2_000.0..3_000.0).contains(&slices[1]), "{slices:?}");
        assert!(slices[2] >= 59e6, "what never came is the worst: {slices:?}");
    }
}
