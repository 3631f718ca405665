//! Consistent hashing on a ring of points, as libketama has it: each endpoint owns the arcs that end at its points, so
//! that one that comes or goes moves only the keys of its own arcs.
//!
//! Nothing in it is random and no order of a list counts: gateways that know the same names and weights send a key to
//! the same endpoint.

use std::fmt::Write;

use xxhash_rust::xxh3::xxh3_64;

use super::asked::Asked;
use super::random::scale;

/// Points of an endpoint for each unit of its weight. libketama's number: shares then are within about 8 % (one standard
/// deviation) of what the weight says, and the heavier the closer.
pub const POINTS_PER_UNIT: u64 = 160;

/// Points of a ring (10 bytes each), beyond one for each endpoint. Where weights ask for more, all are halved until they
/// fit; by halving, since then a changed weight seldom changes how many points the others have.
pub const POINTS_MAX: u64 = 256 * 1024;

/// Points passed in search of a taker, for each endpoint. Of equals nearly all are met within 8 points each; beyond
/// this the rest are asked in the order of their names' hashes.
const WALK_PER_ENDPOINT_MAX: usize = 32;

/// Built once on the control thread; read by every core.
#[derive(Debug)]
pub struct Ring {
    /// Ascending.
    points: Box<[u64]>,
    /// By point.
    owners: Box<[u16]>,
    /// By the leading bits of a hash: the first point that may be at or after it. One more than there are such bits.
    starts: Box<[u32]>,
    /// A hash's leading bits are those above this.
    shift: u32,
    /// Those with points, in an order that every gateway agrees on.
    members: Box<[u16]>,
    /// The length of the list that it was built from.
    endpoints: usize,
}

impl Ring {
    /// `endpoints` are names, each different, with weights; one of weight 0 has no point. Numbers are places in it.
    pub fn build(endpoints: &[(&str, u32)]) -> Ring {
        let counts = point_counts(endpoints);
        let mut points = Vec::with_capacity(counts.iter().sum::<u64>() as usize);
        let mut text = String::new();
        for (number, (&(name, _), &count)) in endpoints.iter().zip(&counts).enumerate() {
            points.extend((0..count).map(|replica| (point(name, replica, &mut text), number as u16)));
        }
        let name = |number: u16| endpoints[usize::from(number)].0;
        points.sort_unstable_by(|one, other| one.0.cmp(&other.0).then_with(|| name(one.1).cmp(name(other.1))));
        let shift = u64::BITS - points.len().next_power_of_two().ilog2().max(1);
        let starts = (0..=u64::MAX >> shift).map(|lead| points.partition_point(|point| point.0 >> shift < lead) as u32);
        Ring {
            starts: starts.chain([points.len() as u32]).collect(),
            shift,
            members: members(endpoints),
            endpoints: endpoints.len(),
            owners: points.iter().map(|point| point.1).collect(),
            points: points.into_iter().map(|point| point.0).collect(),
        }
    }

    pub fn points(&self) -> usize {
        self.points.len()
    }

    /// The endpoint that owns `hash`, if `accept` takes it; else the next one on the ring that is taken, each asked
    /// once. `None` if nobody is.
    pub fn pick(&self, hash: u64, mut accept: impl FnMut(u16) -> bool) -> Option<u16> {
        let place = self.place(hash);
        let owner = *self.owners.get(place)?;
        if accept(owner) { Some(owner) } else { self.pick_after(place, hash, accept) }
    }

    #[cold]
    fn pick_after(&self, place: usize, hash: u64, mut accept: impl FnMut(u16) -> bool) -> Option<u16> {
        let mut asked = Asked::new(self.endpoints);
        asked.first_time(self.owners[place]);
        let mut left = self.members.len() - 1;
        let mut ask = |endpoint: u16| {
            let first_time = asked.first_time(endpoint);
            left -= usize::from(first_time);
            (first_time && accept(endpoint), left == 0)
        };
        let (passed, ahead) = self.owners.split_at(place);
        let walk = ahead.iter().chain(passed).take(WALK_PER_ENDPOINT_MAX * self.members.len());
        for &endpoint in walk.chain(from_key(&self.members, hash)) {
            match ask(endpoint) {
                (true, _) => return Some(endpoint),
                (false, true) => return None,
                (false, false) => {}
            }
        }
        None
    }

    /// The first point at or after `hash`, going round.
    fn place(&self, hash: u64) -> usize {
        let lead = (hash >> self.shift) as usize;
        let (start, end) = (self.starts[lead] as usize, self.starts[lead + 1] as usize);
        let place = start + self.points[start..end].partition_point(|&point| point < hash);
        if place == self.points.len() { 0 } else { place }
    }
}

/// Once round `members`, beginning at a place that depends on the key: what one that fell out had does not go to a
/// single other one.
pub(super) fn from_key(members: &[u16], hash: u64) -> impl Iterator<Item = &u16> {
    // The leading bits chose the place in the table; these are others.
    let (passed, ahead) = members.split_at(scale(hash.swap_bytes(), members.len() as u64) as usize);
    ahead.iter().chain(passed)
}

/// Numbers of those with weight, by their names' hashes.
pub(super) fn members(endpoints: &[(&str, u32)]) -> Box<[u16]> {
    let mut members: Vec<u16> = (0..endpoints.len() as u16).filter(|&one| endpoints[usize::from(one)].1 > 0).collect();
    members.sort_by_cached_key(|&one| {
        let name = endpoints[usize::from(one)].0;
        (xxh3_64(name.as_bytes()), name)
    });
    members.into_boxed_slice()
}

/// XXH3-64 of `NAME_REPLICA`, as anybody can compute.
fn point(name: &str, replica: u64, text: &mut String) -> u64 {
    text.clear();
    // Writing to memory does not fail.
    let _ = write!(text, "{name}_{replica}");
    xxh3_64(text.as_bytes())
}

fn point_counts(endpoints: &[(&str, u32)]) -> Vec<u64> {
    let weight: u64 = endpoints.iter().map(|&(_, weight)| u64::from(weight)).sum();
    let halvings = (0..u64::BITS).find(|halvings| (POINTS_PER_UNIT * weight) >> halvings <= POINTS_MAX).unwrap_or(0);
    let count = |weight: u32| ((POINTS_PER_UNIT * u64::from(weight)) >> halvings).max(u64::from(weight.min(1)));
    endpoints.iter().map(|&(_, weight)| count(weight)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::chi_square;
    use super::super::random::mix;
    use super::*;

    const KEYS: u64 = 20_000;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("10.0.{}.{}:8080", number / 256, number % 256)).collect()
    }

    fn equals(names: &[String]) -> Ring {
        Ring::build(&names.iter().map(|name| (name.as_str(), 1)).collect::<Vec<_>>())
    }

    /// Each endpoint's part of all hashes.
    fn shares(ring: &Ring, endpoints: usize) -> Vec<f64> {
        let mut shares = vec![0.0; endpoints];
        let mut before = ring.points[ring.points.len() - 1];
        for (&point, &owner) in ring.points.iter().zip(&ring.owners) {
            shares[usize::from(owner)] += point.wrapping_sub(before) as f64 / 2_f64.powi(64);
            before = point;
        }
        shares
    }

    #[test]
    fn points_are_the_documented_hashes() {
        // `printf '10.0.0.1:8080_0' | xxhsum -H3`
        let ring = Ring::build(&[("10.0.0.1:8080", 1), ("10.0.0.2:8080", 2)]);
        assert_eq!(ring.points(), 3 * POINTS_PER_UNIT as usize);
        assert!(ring.points.contains(&xxh3_64(b"10.0.0.1:8080_0")));
        assert!(ring.points.contains(&xxh3_64(b"10.0.0.2:8080_319")));
        assert_eq!(xxh3_64(b""), 0x2d06_8005_38d3_94c2, "XXH3 of nothing, by its specification");
    }

    #[test]
    fn points_follow_weights_up_to_their_limit() {
        assert_eq!(point_counts(&[("a", 1), ("b", 3), ("c", 0)]), [160, 480, 0]);
        let heavy = vec![("a", 1000); 10_000];
        let counts = point_counts(&heavy);
        assert!(counts.iter().sum::<u64>() <= POINTS_MAX);
        assert!(counts.iter().sum::<u64>() > POINTS_MAX / 2);
        assert_eq!(point_counts(&[("a", u32::MAX), ("b", 1)])[1], 1);
    }

    #[test]
    fn keys_go_to_the_next_point() {
        let ring = equals(&names(3));
        let last = ring.points.len() - 1;
        for place in [0, 1, 77, last] {
            assert_eq!(ring.place(ring.points[place]), place);
            assert_eq!(ring.place(ring.points[place] + 1), (place + 1) % ring.points.len());
        }
        assert_eq!(ring.place(0), 0);
        assert_eq!(ring.place(u64::MAX), 0);
    }

    #[test]
    fn shares_follow_weights() {
        let names = names(20);
        let endpoints: Vec<(&str, u32)> = names.iter().map(String::as_str).zip((1..=20).cycle()).collect();
        let ring = Ring::build(&endpoints);
        let shares = shares(&ring, endpoints.len());
        let weight: u32 = endpoints.iter().map(|endpoint| endpoint.1).sum();
        for (share, &(_, own)) in shares.iter().zip(&endpoints) {
            let expected = f64::from(own) / f64::from(weight);
            // Four standard deviations of a sum of that many arcs.
            let bound = 4.0 / f64::from(own * POINTS_PER_UNIT as u32).sqrt();
            assert!((share / expected - 1.0).abs() < bound, "{share} for {expected}");
        }
        // Keys are spread over the arcs as the arcs' lengths say.
        let mut counts = vec![0; endpoints.len()];
        (0..KEYS).for_each(|key| counts[usize::from(ring.pick(mix(key), |_| true).unwrap())] += 1);
        let lengths: Vec<u32> = shares.iter().map(|share| (share * 1e9) as u32).collect();
        chi_square::assert_weighted(&counts, &lengths);
    }

    #[test]
    fn one_that_goes_moves_its_own_keys_only() {
        for count in [2, 5, 50] {
            let all = names(count);
            let (before, after) = (equals(&all), equals(&all[..count - 1]));
            let gone = (count - 1) as u16;
            let mut moved = 0;
            for key in (0..KEYS).map(mix) {
                let (old, new) = (before.pick(key, |_| true).unwrap(), after.pick(key, |_| true).unwrap());
                // Refusing it has the effect of its having gone.
                assert_eq!(before.pick(key, |endpoint| endpoint != gone), Some(new));
                assert!(old == new || old == gone);
                moved += u64::from(old != new);
            }
            let expected = KEYS / count as u64;
            assert!(moved.abs_diff(expected) < expected / 3, "{moved} of {KEYS} moved, 1 of {count} went");
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_count() {
        let all = names(9);
        let mut turned = all.clone();
        turned.rotate_left(4);
        turned.swap(0, 5);
        let (one, other) = (equals(&all), equals(&turned));
        for key in (0..2000).map(mix) {
            let refuse_first = |mut times: u64| {
                move |_| {
                    times = times.wrapping_sub(1);
                    times == u64::MAX
                }
            };
            let one = one.pick(key, refuse_first(key % 9));
            let other = other.pick(key, refuse_first(key % 9));
            assert_eq!(all[usize::from(one.unwrap())], turned[usize::from(other.unwrap())]);
        }
    }

    #[test]
    fn a_light_one_among_heavy_ones_is_found_in_bounded_steps() {
        let ring = Ring::build(&[("light", 1), ("heavy", 1_000_000), ("none", 0)]);
        for key in (0..1000).map(mix) {
            assert_eq!(ring.pick(key, |endpoint| endpoint == 0), Some(0));
            assert_eq!(ring.pick(key, |endpoint| endpoint == 2), None);
        }
    }

    /// A gateway of the last release stands beside one of the next: neither may move a key.
    #[test]
    fn keys_stay_where_they_were_in_earlier_releases() {
        let all = names(5);
        let table = Ring::build(&all.iter().map(String::as_str).zip([1, 2, 1, 1, 3]).collect::<Vec<_>>());
        let owners: Vec<u16> = (0..16).map(|key| table.pick(mix(key), |_| true).unwrap()).collect();
        assert_eq!(owners, [1, 3, 0, 1, 1, 4, 2, 1, 1, 4, 2, 1, 0, 4, 4, 1]);
        let others: Vec<u16> = (0..16).map(|key| table.pick(mix(key), |one| one != 4).unwrap()).collect();
        assert_eq!(others, [1, 3, 0, 1, 1, 0, 2, 1, 1, 1, 2, 1, 0, 1, 3, 1]);
    }

    #[test]
    fn nobody_is_found_on_an_empty_ring() {
        for ring in [Ring::build(&[]), Ring::build(&[("none", 0)])] {
            assert_eq!(ring.pick(7, |_| true), None);
            assert_eq!(ring.pick(u64::MAX, |_| true), None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whoever_accepts_is_found_and_each_is_asked_once(
            weights in proptest::collection::vec(0..4_u32, 1..30),
            hash: u64,
            taker in 0..30_u16,
        ) {
            let names = names(weights.len());
            let endpoints: Vec<(&str, u32)> = names.iter().map(String::as_str).zip(weights.iter().copied()).collect();
            let ring = Ring::build(&endpoints);
            let mut asked = Vec::new();
            let found = ring.pick(hash, |endpoint| {
                asked.push(endpoint);
                endpoint == taker
            });
            let there = weights.get(usize::from(taker)).is_some_and(|&weight| weight > 0);
            prop_assert_eq!(found, there.then_some(taker));
            let times = asked.len();
            asked.sort_unstable();
            asked.dedup();
            prop_assert_eq!(asked.len(), times);
            if !there {
                prop_assert_eq!(times, weights.iter().filter(|weight| **weight > 0).count());
            }
        }
    }
}
