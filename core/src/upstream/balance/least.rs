//! The endpoint that costs least, by looking at each: for few endpoints, or where the best is worth the look.

use std::cmp::Ordering;

use super::random::Random;

/// Endpoints looked at for one choice. Of more a sample of this size is looked at: the least of 64 is among the best
/// 5 % of all with a chance of 96 %, and a choice stays below a microsecond.
pub const SCAN_MAX: usize = 64;

/// Requests for a weight, compared exactly: 1 for a weight of 2 is less than 2 for a weight of 3.
///
/// With the requests under way, endpoints at rest are equal whatever they weigh. With one more, the one to come, the
/// heavier of two at rest is the cheaper.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    requests: u32,
    weight: u32,
}

impl Load {
    /// Any unit of `weight` will do that the compared share, such as 1/1024. A weight of 0 is dearer than any other.
    pub fn new(requests: u64, weight: u32) -> Load {
        // More than 2^32 requests do not fit on a core.
        Load { requests: u32::try_from(requests).unwrap_or(u32::MAX), weight }
    }
}

impl Ord for Load {
    fn cmp(&self, other: &Load) -> Ordering {
        // A weight of 0 would make any two equal; the order must be one.
        let weightless = (self.weight == 0).cmp(&(other.weight == 0));
        let product = |one: &Load, other: &Load| u64::from(one.requests) * u64::from(other.weight.max(1));
        weightless.then_with(|| product(self, other).cmp(&product(other, self)))
    }
}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Load) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Load {
    fn eq(&self, other: &Load) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Load {}

/// The one of `usable` with the smallest cost, the first from place `start` on if several have it.
///
/// Equals get equal shares, whichever they are, if `start` is [`place_after`] the endpoint chosen last; shares by weight
/// if all are equal and `start` is [`place_of`] whose turn it is. Above [`SCAN_MAX`] endpoints, chance decides where to
/// start.
///
/// # Panics
/// If nobody is usable.
pub fn least<C: Ord>(usable: &[u16], start: usize, random: &Random, cost: impl Fn(u16) -> C) -> u16 {
    if usable.len() > SCAN_MAX {
        return least_of_sample(usable, random, cost);
    }
    let (before, from) = usable.split_at(start.min(usable.len()));
    first_least(from.iter().chain(before).copied(), cost)
}

/// A sample at equal distances, so that none is looked at twice; with a random start, so that all are as likely.
fn least_of_sample<C: Ord>(usable: &[u16], random: &Random, cost: impl Fn(u16) -> C) -> u16 {
    let count = usable.len();
    let offset = random.below(count as u64) as usize;
    let places = (0..SCAN_MAX).map(|step| {
        let place = offset + step * count / SCAN_MAX;
        if place < count { place } else { place - count }
    });
    first_least(places.map(|place| usable[place]), cost)
}

fn first_least<C: Ord>(mut endpoints: impl Iterator<Item = u16>, cost: impl Fn(u16) -> C) -> u16 {
    let mut best = endpoints.next().expect("somebody is usable");
    let mut best_cost = cost(best);
    for endpoint in endpoints {
        let cost = cost(endpoint);
        if cost < best_cost {
            (best, best_cost) = (endpoint, cost);
        }
    }
    best
}

/// Where `endpoint` stands in `usable`, which is in ascending order, or would stand.
pub fn place_of(usable: &[u16], endpoint: u16) -> usize {
    usable.partition_point(|&one| one < endpoint)
}

/// The place behind `endpoint`'s.
pub fn place_after(usable: &[u16], endpoint: u16) -> usize {
    usable.partition_point(|&one| one <= endpoint)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::chi_square;
    use super::*;

    #[test]
    fn loads_are_compared_without_rounding() {
        assert!(Load::new(1, 2) < Load::new(2, 3));
        assert!(Load::new(1, 3) < Load::new(333_334, 1_000_000));
        assert!(Load::new(333_333, 1_000_000) < Load::new(1, 3));
        assert_eq!(Load::new(2, 4), Load::new(1, 2));
        assert_eq!(Load::new(0, 1), Load::new(0, 1000));
        assert!(Load::new(1, 1000) < Load::new(1, 1));
        assert!(Load::new(u64::MAX, u32::MAX) > Load::new(1, 2));
        assert!(Load::new(0, 0) > Load::new(u64::MAX, 1));
    }

    #[test]
    fn equals_take_turns_from_the_start() {
        let random = Random::new(1);
        let usable = [2, 5, 9];
        let chosen = |start| least(&usable, start, &random, |_| 0);
        assert_eq!([chosen(0), chosen(1), chosen(2), chosen(3), chosen(4)], [2, 5, 9, 2, 2]);
        assert_eq!([place_of(&usable, 5), place_of(&usable, 6), place_of(&usable, 10)], [1, 2, 3]);
        assert_eq!([place_after(&usable, 5), place_after(&usable, 1), place_after(&usable, 9)], [2, 0, 3]);
    }

    #[test]
    fn some_equals_among_dearer_ones_have_equal_shares() {
        let random = Random::new(1);
        let usable: Vec<u16> = (0..7).collect();
        let mut last = 0;
        let mut counts = [0; 7];
        for _ in 0..300 {
            last = least(&usable, place_after(&usable, last), &random, |endpoint| endpoint % 3 != 0);
            counts[usize::from(last)] += 1;
        }
        assert_eq!(counts, [100, 0, 0, 100, 0, 0, 100]);
    }

    #[test]
    fn of_many_equals_each_is_as_likely() {
        for count in [65, 100, 127, 1000] {
            let usable: Vec<u16> = (0..count).collect();
            let random = Random::new(u64::from(count));
            let mut counts = vec![0; usable.len()];
            for _ in 0..20 * u32::from(count) {
                counts[usize::from(least(&usable, 0, &random, |_| 0))] += 1;
            }
            chi_square::assert_even(&counts);
        }
    }

    #[test]
    fn a_sample_has_no_endpoint_twice() {
        for count in [65, 100, 128, 1000, 10_000] {
            let usable: Vec<u16> = (0..count).collect();
            let random = Random::new(9);
            for _ in 0..100 {
                let seen = std::cell::RefCell::new(Vec::new());
                least(&usable, 0, &random, |endpoint| seen.borrow_mut().push(endpoint));
                let mut seen = seen.into_inner();
                seen.sort_unstable();
                seen.dedup();
                assert_eq!(seen.len(), SCAN_MAX);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn is_never_beaten(
            loads in proptest::collection::vec((0..50_u64, 1..20_u32), 1..=SCAN_MAX),
            start in 0..100_usize,
        ) {
            let usable: Vec<u16> = (0..loads.len() as u16).collect();
            let load = |endpoint: u16| Load::new(loads[usize::from(endpoint)].0, loads[usize::from(endpoint)].1);
            let best = least(&usable, start, &Random::new(1), load);
            for &other in &usable {
                prop_assert!(load(best) <= load(other));
            }
        }
    }
}
