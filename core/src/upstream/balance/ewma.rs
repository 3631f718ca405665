//! What an endpoint's next answer may take, by those it gave: a moving average that believes bad news at once and good
//! news slowly, after Finagle's peak EWMA.
//!
//! It differs from Finagle's in one point. There a cost read long after the last answer has faded towards nothing, and a
//! burst that comes before the next answer runs to that endpoint as a whole. Here an average fades only while nothing is
//! under way: age earns an endpoint one request, and until that is answered the old average holds.

use std::cell::Cell;

/// For each request under way at an endpoint that never answered: longer than any answer takes, so that the second
/// request goes there only if nobody else can take it.
pub const PENALTY_NS: u64 = 3_600_000_000_000;

/// A cost's unit: this many for a nanosecond at a weight of 1, so that large weights do not round it away.
const COST_PER_NS: f64 = 1024.0;

/// One endpoint as one core knows it.
#[derive(Debug, Default, Clone)]
pub struct PeakEwma {
    /// Nanoseconds; 0 before the first answer.
    average: Cell<f64>,
    /// Of the last answer.
    seen_ns: Cell<u64>,
}

impl PeakEwma {
    /// An answer took `rtt_ns`. `tau_ns` is the time in which an old average loses 63 % of its say.
    pub fn observe(&self, rtt_ns: u64, now_ns: u64, tau_ns: u64) {
        let rtt = rtt_ns.max(1) as f64;
        let average = self.average.get();
        let kept = faded(now_ns.saturating_sub(self.seen_ns.get()), tau_ns);
        self.average.set(if rtt > average { rtt } else { average * kept + rtt * (1.0 - kept) });
        self.seen_ns.set(now_ns.max(self.seen_ns.get()));
    }

    /// What one more request costs with `active` under way: comparable among endpoints asked with the same `tau_ns`, and
    /// nothing else. One that never answered costs nothing until somebody tries it, and [`PENALTY_NS`] a request then. A
    /// weight of 0 counts as 1.
    pub fn cost(&self, active: u64, now_ns: u64, tau_ns: u64, weight: u32) -> u64 {
        let average = self.average.get();
        let cost_ns = match active {
            0 => average * faded(now_ns.saturating_sub(self.seen_ns.get()), tau_ns),
            _ if average == 0.0 => active as f64 * PENALTY_NS as f64,
            _ => average * (active + 1) as f64,
        };
        // What is too much for a u64 becomes the largest one.
        (cost_ns * COST_PER_NS / f64::from(weight.max(1))) as u64
    }
}

/// e^(-`age` / `tau`). The C library's takes about 7 ns (`perf/benches/balance.rs`): no need for an approximation.
fn faded(age_ns: u64, tau_ns: u64) -> f64 {
    if age_ns == 0 { 1.0 } else { (-(age_ns as f64) / tau_ns.max(1) as f64).exp() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TAU: u64 = 10_000_000_000;
    const MS: u64 = 1_000_000;

    fn observed(samples: &[(u64, u64)]) -> PeakEwma {
        let ewma = PeakEwma::default();
        samples.iter().for_each(|&(rtt, now)| ewma.observe(rtt, now, TAU));
        ewma
    }

    /// Nanoseconds for the one request under way of two.
    fn average(ewma: &PeakEwma) -> u64 {
        ewma.cost(1, 0, TAU, 1) / 2 / COST_PER_NS as u64
    }

    #[test]
    fn a_peak_counts_at_once() {
        let ewma = observed(&[(10 * MS, 0), (500 * MS, MS)]);
        assert_eq!(average(&ewma), 500 * MS);
    }

    #[test]
    fn good_news_fades_in_over_tau() {
        let ewma = observed(&[(100 * MS, 0)]);
        ewma.observe(20 * MS, TAU, TAU);
        let expected = 100.0 / std::f64::consts::E + 20.0 * (1.0 - 1.0 / std::f64::consts::E);
        assert_eq!(average(&ewma), (expected * MS as f64) as u64);
        // Two answers at one instant: the second adds nothing.
        ewma.observe(MS, TAU, TAU);
        assert_eq!(average(&ewma), (expected * MS as f64) as u64);
    }

    #[test]
    fn a_newcomer_is_tried_once_at_a_time() {
        let (known, new) = (observed(&[(10 * MS, 0)]), PeakEwma::default());
        assert_eq!(new.cost(0, 0, TAU, 1), 0);
        assert!(known.cost(0, 0, TAU, 1) > 0);
        assert!(new.cost(1, 0, TAU, 1) > known.cost(1000, 0, TAU, 1));
        assert!(new.cost(2, 0, TAU, 1) > new.cost(1, 0, TAU, 1));
        assert!(new.cost(2, 0, TAU, 4) < new.cost(1, 0, TAU, 1));
    }

    #[test]
    fn an_old_average_earns_one_request() {
        let (slow, fast) = (observed(&[(500 * MS, 0)]), observed(&[(10 * MS, 10 * TAU)]));
        let now = 10 * TAU;
        assert!(slow.cost(0, now, TAU, 1) < fast.cost(0, now, TAU, 1));
        assert!(slow.cost(1, now, TAU, 1) > fast.cost(90, now, TAU, 1));
    }

    #[test]
    fn weight_divides_and_requests_multiply() {
        let ewma = observed(&[(MS, 0)]);
        assert_eq!(ewma.cost(5, 0, TAU, 3), ewma.cost(1, 0, TAU, 1));
        assert_eq!(ewma.cost(1, 0, TAU, 0), ewma.cost(1, 0, TAU, 1));
        assert!(ewma.cost(1, 0, TAU, 1001) < ewma.cost(1, 0, TAU, 1000));
    }

    #[test]
    fn odd_numbers_do_no_harm() {
        let ewma = observed(&[(u64::MAX, 5), (0, 3)]);
        assert_eq!(ewma.cost(u64::MAX - 1, u64::MAX, 0, 1), u64::MAX);
        assert_eq!(ewma.cost(0, u64::MAX, 0, 1), 0);
        assert_eq!(PeakEwma::default().cost(u64::MAX, 0, 0, 1), u64::MAX);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn stays_between_its_samples(samples in proptest::collection::vec((1..10_000 * MS, 0..TAU), 1..50)) {
            let ewma = PeakEwma::default();
            let mut now = 0;
            for &(rtt, step) in &samples {
                now += step;
                ewma.observe(rtt, now, TAU);
                prop_assert!(average(&ewma) + 1 >= rtt);
            }
            let least = samples.iter().map(|sample| sample.0).min().unwrap();
            let most = samples.iter().map(|sample| sample.0).max().unwrap();
            prop_assert!((least - 1..=most).contains(&average(&ewma)));
        }
    }
}
