//! Latencies of one run and their summary, as the loads print it and the bench reads it.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

const LOWEST_NS: u64 = 1_000;
const HIGHEST_NS: u64 = 60_000_000_000; // beyond it a request counts as this slow
const DIGITS: u8 = 3;

pub struct Latencies(Histogram<u32>);

impl Latencies {
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, DIGITS);
        Self(histogram.expect("the bounds above are in order"))
    }

    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    pub fn at_us(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }

    pub fn max_us(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

/// The last line that `load` and `open_loop` print.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LoadReport {
    /// Checked answers within the measured time.
    pub requests: u64,
    /// Connections lost, wrong answers, answers that never came; warm-up included.
    pub errors: u64,
    /// The first of them, in words.
    pub first_error: Option<String>,
    pub seconds: f64,
    pub qps: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

impl LoadReport {
    pub fn new(latencies: &Latencies, requests: u64, errors: Errors, time: Duration) -> Self {
        let seconds = time.as_secs_f64();
        Self {
            requests,
            errors: errors.count,
            first_error: errors.first,
            seconds,
            qps: requests as f64 / seconds,
            p50_us: latencies.at_us(0.50),
            p99_us: latencies.at_us(0.99),
            p999_us: latencies.at_us(0.999),
            max_us: latencies.max_us(),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Errors {
    pub count: u64,
    first: Option<String>,
}

impl Errors {
    /// A gateway that refuses everything would have the load spin on errors.
    pub const MAX: u64 = 10_000;

    pub fn add(&mut self, why: impl FnOnce() -> String) {
        self.count += 1;
        self.first.get_or_insert_with(why);
    }
}
