//! A limit of requests under way that follows the latency which this core sees. Refuses nobody itself.
//!
//! Both ways look at the mean latency of a short while. `gradient` compares it with the best one known: as long as it is
//! not much worse, the limit grows by a small queue; when it is, the limit shrinks by their ratio (after Netflix's
//! concurrency-limits). The best is known anew from time to time, by halving the limit for a while, as BBR does: a mean
//! over a long time would take the queue of an overload for what is usual. `aimd` compares with a target: up by one, down
//! by a tenth.

use std::cell::Cell;

use ringway_config::snapshot::{Adaptive as Rules, AdaptiveBy};

/// A while has at least so many answers and lasts at least so long.
const SAMPLES_MIN: u32 = 10;
const WHILE_MS: u64 = 50;
/// So much worse than usual is still well.
const TOLERANCE: f64 = 1.5;
/// What the limit leaves for a queue to build up in, by which growth is found out.
const QUEUE: f64 = 4.0;
/// Weight of a new limit against the old one.
const SMOOTHING: f64 = 0.2;
/// How long the best latency is believed, and by which part of the limit it is found anew.
const PROBE_EVERY_MS: u64 = 10_000;
const PROBE_SHARE: f64 = 0.5;
const BACK_OFF: f64 = 0.9;

#[derive(Debug)]
pub struct Adaptive {
    limit: Cell<f64>,
    under_way: Cell<u32>,
    /// Microseconds; 0: not known yet.
    best_us: Cell<f64>,
    best_at_ms: Cell<u64>,
    /// The present while finds the best latency anew.
    probes: Cell<bool>,
    /// Of the present while.
    sum_us: Cell<u64>,
    samples: Cell<u32>,
    busiest: Cell<u32>,
    began_ms: Cell<u64>,
}

impl Adaptive {
    pub fn new(rules: &Rules) -> Adaptive {
        // In the middle at first: neither a trickle for who has just started nor everything at once.
        let limit = f64::from(rules.requests_min.max(rules.requests_max.min(20)));
        Adaptive {
            limit: Cell::new(limit),
            under_way: Cell::new(0),
            best_us: Cell::new(0.0),
            best_at_ms: Cell::new(0),
            probes: Cell::new(false),
            sum_us: Cell::new(0),
            samples: Cell::new(0),
            busiest: Cell::new(0),
            began_ms: Cell::new(0),
        }
    }

    pub fn limit(&self) -> u32 {
        let share = if self.probes.get() { PROBE_SHARE } else { 1.0 };
        (self.limit.get() * share) as u32
    }

    /// True: the request is counted until [`Adaptive::leave`].
    pub fn enter(&self, rules: &Rules) -> bool {
        let limit = self.limit().clamp(rules.requests_min, rules.requests_max);
        let under_way = self.under_way.get();
        if under_way >= limit {
            return false;
        }
        self.under_way.set(under_way + 1);
        self.busiest.set(self.busiest.get().max(under_way + 1));
        true
    }

    pub fn leave(&self) {
        self.under_way.set(self.under_way.get().saturating_sub(1));
    }

    /// A request's time to the head of its answer, or to its timeout.
    pub fn observe(&self, rules: &Rules, now_ms: u64, latency_us: u64) {
        self.sum_us.set(self.sum_us.get() + latency_us);
        self.samples.set(self.samples.get() + 1);
        if self.samples.get() < SAMPLES_MIN || now_ms < self.began_ms.get() + WHILE_MS {
            return;
        }
        let mean_us = self.sum_us.take() as f64 / f64::from(self.samples.take());
        let busiest = self.busiest.replace(self.under_way.get());
        self.began_ms.set(now_ms);
        let next = match rules.by {
            AdaptiveBy::Gradient => self.by_gradient(mean_us.max(1.0), busiest, now_ms),
            AdaptiveBy::Aimd { target } => self.by_target(mean_us, target.as_micros() as f64, busiest),
        };
        self.limit.set(next.clamp(rules.requests_min.into(), rules.requests_max.into()));
    }

    fn by_gradient(&self, mean_us: f64, busiest: u32, now_ms: u64) -> f64 {
        let (limit, best_us) = (self.limit.get(), self.best_us.get());
        let probed = self.probes.replace(false);
        if probed || best_us == 0.0 || mean_us <= best_us {
            self.best_us.set(mean_us);
            self.best_at_ms.set(now_ms);
        }
        if probed {
            return limit;
        }
        let needed = f64::from(busiest) >= limit / 2.0;
        self.probes.set(needed && now_ms >= self.best_at_ms.get() + PROBE_EVERY_MS);
        let gradient = (TOLERANCE * self.best_us.get() / mean_us).clamp(0.5, 1.0);
        if gradient >= 1.0 && !needed {
            return limit;
        }
        limit * (1.0 - SMOOTHING) + (limit * gradient + QUEUE) * SMOOTHING
    }

    fn by_target(&self, mean_us: f64, target_us: f64, busiest: u32) -> f64 {
        let limit = self.limit.get();
        match () {
            () if mean_us > target_us => limit * BACK_OFF,
            () if f64::from(busiest) >= limit / 2.0 => limit + 1.0,
            () => limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn rules(by: AdaptiveBy) -> Rules {
        Rules { by, requests_min: 4, requests_max: 200 }
    }

    /// An origin that serves `capacity` at once, each in a millisecond, and lets the others queue; its callers keep
    /// `offered` requests under way as far as the limit lets them. Latency of the last while, and the limit.
    fn simulate(by: AdaptiveBy, capacity: u32, offered: u32) -> (u64, u32) {
        let (rules, limit) = (rules(by), Adaptive::new(&rules(by)));
        let mut latency_us = 0;
        for round in 0..4000_u64 {
            let entered = (0..offered).filter(|_| limit.enter(&rules)).count() as u32;
            latency_us = 1000 * u64::from(entered.div_ceil(capacity).max(1));
            for _ in 0..entered {
                limit.leave();
                limit.observe(&rules, round * 10, latency_us);
            }
        }
        (latency_us, limit.limit())
    }

    #[test]
    fn it_sheds_what_would_only_wait() {
        for by in [AdaptiveBy::Gradient, AdaptiveBy::Aimd { target: Duration::from_micros(2500) }] {
            let (latency_us, limit) = simulate(by, 20, 150);
            assert!(latency_us <= 4000, "{by:?}: {latency_us} us");
            assert!((20..=80).contains(&limit), "{by:?}: {limit}");
        }
    }

    #[test]
    fn it_grows_to_what_an_able_origin_is_asked_for() {
        for by in [AdaptiveBy::Gradient, AdaptiveBy::Aimd { target: Duration::from_millis(5) }] {
            let (latency_us, limit) = simulate(by, 500, 150);
            assert_eq!(latency_us, 1000);
            assert!(limit >= 150, "{by:?}: {limit}");
        }
    }

    #[test]
    fn it_stays_within_its_bounds_and_alone_it_does_not_grow() {
        let by = AdaptiveBy::Aimd { target: Duration::from_millis(1) };
        let limit = Adaptive::new(&rules(by));
        (0..10_000).for_each(|n| limit.observe(&rules(by), n * 10, 1_000_000));
        assert_eq!(limit.limit(), 4);
        assert_eq!((0..9).filter(|_| limit.enter(&rules(by))).count(), 4);
        (0..4).for_each(|_| limit.leave());
        let (_, limit) = simulate(AdaptiveBy::Gradient, 500, 1);
        assert!(limit <= 24, "{limit}");
    }
}
