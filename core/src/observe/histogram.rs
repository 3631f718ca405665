//! A histogram with fixed buckets in plain cells. Does not know what it measures nor how it is printed.

use std::cell::Cell;

/// Upper bounds (inclusive, as Prometheus' `le`) that one histogram can have; one more bucket counts what is above.
pub const BOUNDS_MAX: usize = 20;
const BUCKETS: usize = BOUNDS_MAX + 1;

/// Bounds in nanoseconds, ascending, with where to begin the search for a value of each bit length.
#[derive(Debug)]
pub struct Bounds {
    ns: &'static [u64],
    /// `first[bits]`: the first bound that is not below the smallest value of that many bits.
    first: [u8; 65],
}

impl Bounds {
    pub const fn new(ns: &'static [u64]) -> Bounds {
        assert!(ns.len() <= BOUNDS_MAX);
        let mut first = [0; 65];
        let mut bits = 1;
        while bits <= 64 {
            let smallest = 1u64 << (bits - 1);
            let mut at = 0;
            while at < ns.len() && ns[at] < smallest {
                assert!(at == 0 || ns[at - 1] < ns[at], "bounds ascend");
                at += 1;
            }
            first[bits] = at as u8;
            bits += 1;
        }
        Bounds { ns, first }
    }

    pub fn ns(&self) -> &'static [u64] {
        self.ns
    }

    /// The bucket of a value. The bit length leaves at most three bounds to compare with in our tables.
    fn bucket(&self, ns: u64) -> usize {
        let mut at = self.first[64 - ns.leading_zeros() as usize] as usize;
        while at < self.ns.len() && self.ns[at] < ns {
            at += 1;
        }
        at
    }
}

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

/// Response times: 0.1 ms to 10 s. 0.1, 0.5, 1, 2 and 5 s are asked for by name in the alert rules.
pub static RESPONSE_TIME: Bounds = Bounds::new(&[
    100 * US,
    250 * US,
    500 * US,
    MS,
    2_500 * US,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    S,
    2 * S,
    2_500 * MS,
    5 * S,
    10 * S,
]);

/// The gateway's own share of a request, and the lag of a core's loop: 10 us to 1 s.
pub static OVERHEAD: Bounds = Bounds::new(&[
    10 * US,
    25 * US,
    50 * US,
    100 * US,
    250 * US,
    500 * US,
    MS,
    2_500 * US,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    S,
]);

#[derive(Debug)]
pub struct Histogram {
    bounds: &'static Bounds,
    counts: [Cell<u64>; BUCKETS],
    sum_ns: Cell<u64>,
}

impl Histogram {
    pub fn new(bounds: &'static Bounds) -> Histogram {
        Histogram { bounds, counts: [const { Cell::new(0) }; BUCKETS], sum_ns: Cell::new(0) }
    }

    pub fn record(&self, ns: u64) {
        let count = &self.counts[self.bounds.bucket(ns)];
        count.set(count.get() + 1);
        self.sum_ns.set(self.sum_ns.get().wrapping_add(ns));
    }

    pub fn snapshot(&self) -> HistogramSnapshot {
        let counts = std::array::from_fn(|at| self.counts[at].get());
        HistogramSnapshot { bounds: self.bounds, counts, sum_ns: self.sum_ns.get() }
    }

    /// Takes over what another one with the same bounds has counted.
    pub fn add(&self, other: &Histogram) {
        debug_assert!(std::ptr::eq(self.bounds, other.bounds));
        self.counts.iter().zip(&other.counts).for_each(|(to, from)| to.set(to.get() + from.get()));
        self.sum_ns.set(self.sum_ns.get().wrapping_add(other.sum_ns.get()));
    }
}

/// The counts of a histogram at one moment.
#[derive(Debug, Clone, Copy)]
pub struct HistogramSnapshot {
    bounds: &'static Bounds,
    counts: [u64; BUCKETS],
    sum_ns: u64,
}

impl HistogramSnapshot {
    pub fn empty(bounds: &'static Bounds) -> HistogramSnapshot {
        HistogramSnapshot { bounds, counts: [0; BUCKETS], sum_ns: 0 }
    }

    pub fn merge(&mut self, other: &HistogramSnapshot) {
        debug_assert!(std::ptr::eq(self.bounds, other.bounds));
        self.counts.iter_mut().zip(&other.counts).for_each(|(to, from)| *to += from);
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// (upper bound in ns, how many were at most that), without the last bucket: that one is `count`.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let bounds = self.bounds.ns.iter().copied();
        bounds.zip(self.counts).scan(0, |below, (bound, count)| {
            *below += count;
            Some((bound, *below))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, spelled out: the first bound that is not below the value.
    fn slow(bounds: &Bounds, ns: u64) -> usize {
        bounds.ns.iter().position(|bound| ns <= *bound).unwrap_or(bounds.ns.len())
    }

    #[test]
    fn the_bucket_is_the_first_bound_not_below() {
        for bounds in [&RESPONSE_TIME, &OVERHEAD] {
            let edges = bounds.ns.iter().flat_map(|bound| [bound - 1, *bound, bound + 1]);
            let powers = (0..64).flat_map(|bit| [1u64 << bit, (1u64 << bit) - 1]);
            for ns in edges.chain(powers).chain([0, u64::MAX]) {
                assert_eq!(bounds.bucket(ns), slow(bounds, ns), "{ns}");
            }
        }
    }

    #[test]
    fn the_bounds_that_alert_rules_name_are_there() {
        for ms in [100, 500, 1_000, 2_000, 5_000] {
            assert!(RESPONSE_TIME.ns.contains(&(ms * MS)), "{ms} ms");
        }
        assert_eq!(OVERHEAD.ns[0], 10 * US);
    }

    #[test]
    fn counts_cumulate_and_merge() {
        let one = Histogram::new(&RESPONSE_TIME);
        [50 * US, 100 * US, 101 * US, 3 * S, 60 * S].into_iter().for_each(|ns| one.record(ns));
        let mut both = one.snapshot();
        both.merge(&one.snapshot());
        let at = |bound: u64| both.cumulative().find(|(ns, _)| *ns == bound).unwrap().1;
        assert_eq!((at(100 * US), at(250 * US), at(2_500 * MS), at(5 * S), at(10 * S)), (4, 6, 6, 8, 8));
        assert_eq!(both.count(), 10, "the slowest is above all bounds");
        assert_eq!(both.sum_ns(), 2 * (50 * US + 100 * US + 101 * US + 63 * S));

        let other = Histogram::new(&RESPONSE_TIME);
        other.add(&one);
        assert_eq!(other.snapshot().count(), 5);
    }
}
