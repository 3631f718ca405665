//! Maglev hashing (Eisenbud and others, NSDI 2016, section 3.4): a table filled by the endpoints' own permutations, so
//! that a key costs one look, shares are exact to a fraction of a percent, and one endpoint that goes moves little more
//! than its own keys.
//!
//! As with `Ring`, names and weights decide alone: no seed, no order of a list.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::asked::Asked;
use super::random::{mix, scale};
use super::ring::{from_key, members};

/// Entries of a table (2 bytes each): the first of these primes that has [`ENTRIES_PER_ENDPOINT_MIN`] for each endpoint,
/// or else the last. The first is the paper's.
pub const SIZES: [usize; 5] = [TABLE_DEFAULT, 131_071, 262_139, 524_287, 1_048_573];
pub const TABLE_DEFAULT: usize = 65_537;

/// The paper's: shares then differ by 1 % at most.
pub const ENTRIES_PER_ENDPOINT_MIN: usize = 100;

/// Other entries that a key tries after its own endpoint was refused, before the rest are asked one by one.
const PROBES_MAX: u64 = 32;

/// Tells the second hash of a name from the first.
const SKIP_SEED: u64 = 1;

/// A turn's time is this over the weight: an exact order up to a million turns.
const TURN_TIME: u64 = 1 << 40;

/// Built once on the control thread; read by every core.
#[derive(Debug)]
pub struct Maglev {
    table: Box<[u16]>,
    /// Those with entries, in an order that every gateway agrees on.
    members: Box<[u16]>,
    /// The length of the list that it was built from.
    endpoints: usize,
}

impl Maglev {
    /// `endpoints` are names, each different, with weights; one of weight 0 has no entry. Numbers are places in it.
    pub fn build(endpoints: &[(&str, u32)]) -> Maglev {
        let members = members(endpoints);
        let wanted = members.len() * ENTRIES_PER_ENDPOINT_MIN;
        let size = *SIZES.iter().find(|&&size| size >= wanted).unwrap_or(&SIZES[SIZES.len() - 1]);
        let named = members.iter().map(|&member| (member, endpoints[usize::from(member)]));
        let claims = named.map(|(member, (name, weight))| Claim::new(member, weight, Permutation::of(name, size)));
        let table = if members.is_empty() { Box::default() } else { fill(claims.collect(), size) };
        Maglev { table, members, endpoints: endpoints.len() }
    }

    pub fn entries(&self) -> usize {
        self.table.len()
    }

    /// The endpoint that has `hash`, if `accept` takes it; else another that is taken, the same for the same key, each
    /// asked once. `None` if nobody is.
    pub fn pick(&self, hash: u64, mut accept: impl FnMut(u16) -> bool) -> Option<u16> {
        let owner = *self.table.get(self.place(hash))?;
        if accept(owner) { Some(owner) } else { self.pick_after(owner, hash, accept) }
    }

    /// Entries that the key's hash leads to when it is mixed again and again: what one endpoint had goes to all others
    /// by their weight.
    #[cold]
    fn pick_after(&self, refused: u16, hash: u64, mut accept: impl FnMut(u16) -> bool) -> Option<u16> {
        let mut asked = Asked::new(self.endpoints);
        asked.first_time(refused);
        let probes = (1..=PROBES_MAX).map(|probe| self.table[self.place(mix(hash.wrapping_add(probe)))]);
        let rest = from_key(&self.members, hash).copied();
        probes.chain(rest).find(|&endpoint| asked.first_time(endpoint) && accept(endpoint))
    }

    fn place(&self, hash: u64) -> usize {
        scale(hash, self.table.len() as u64) as usize
    }
}

/// A walk over all places of the table, each endpoint's own: the size is prime, so any step leads everywhere.
struct Permutation {
    next: usize,
    step: usize,
}

impl Permutation {
    fn of(name: &str, size: usize) -> Permutation {
        let size = size as u64;
        let next = xxh3_64(name.as_bytes()) % size;
        let step = xxh3_64_with_seed(name.as_bytes(), SKIP_SEED) % (size - 1) + 1;
        Permutation { next: next as usize, step: step as usize }
    }

    fn next(&mut self, size: usize) -> usize {
        let place = self.next;
        self.next = (place + self.step) % size;
        place
    }
}

/// One endpoint while the table is filled.
struct Claim {
    endpoint: u16,
    weight: u64,
    walk: Permutation,
    entries: u64,
}

impl Claim {
    fn new(endpoint: u16, weight: u32, walk: Permutation) -> Claim {
        Claim { endpoint, weight: u64::from(weight), walk, entries: 0 }
    }
}

/// In turn each endpoint takes the first place of its walk that is free. One of twice the weight has twice as many
/// turns, evenly among the others'.
fn fill(mut claims: Vec<Claim>, size: usize) -> Box<[u16]> {
    let mut turns: BinaryHeap<Reverse<(u64, usize)>> = (0..claims.len()).map(|rank| Reverse((0, rank))).collect();
    let mut table: Vec<Option<u16>> = vec![None; size];
    let mut free = size;
    while free > 0
        && let Some(Reverse((_, rank))) = turns.pop()
    {
        let claim = &mut claims[rank];
        // There is a free place, and a walk comes to each.
        let place = loop {
            let place = claim.walk.next(size);
            if table[place].is_none() {
                break place;
            }
        };
        table[place] = Some(claim.endpoint);
        free -= 1;
        claim.entries += 1;
        turns.push(Reverse((claim.entries * TURN_TIME / claim.weight, rank)));
    }
    table.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::chi_square;
    use super::*;

    const KEYS: u64 = 20_000;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("10.0.{}.{}:8080", number / 256, number % 256)).collect()
    }

    fn equals(names: &[String]) -> Maglev {
        Maglev::build(&names.iter().map(|name| (name.as_str(), 1)).collect::<Vec<_>>())
    }

    fn entries(table: &Maglev, endpoints: usize) -> Vec<u64> {
        let mut counts = vec![0; endpoints];
        table.table.iter().for_each(|&owner| counts[usize::from(owner)] += 1);
        counts
    }

    #[test]
    fn sizes_are_primes() {
        for size in SIZES {
            assert!(size < 1024 * 1024 && (2..1024).all(|divisor| size % divisor != 0), "{size}");
        }
    }

    #[test]
    fn a_table_grows_with_its_endpoints() {
        for (count, size) in [(1, 65_537), (655, 65_537), (656, 131_071), (1311, 262_139)] {
            assert_eq!(equals(&names(count)).entries(), size);
        }
    }

    /// The paper's example: three endpoints and seven places, before and after the second endpoint goes.
    #[test]
    fn fills_as_the_papers_example_does() {
        let claim = |endpoint, next, step| Claim::new(endpoint, 1, Permutation { next, step });
        let three = fill(vec![claim(0, 3, 4), claim(1, 0, 2), claim(2, 3, 1)], 7);
        assert_eq!(*three, [1, 0, 1, 0, 2, 2, 0]);
        let two = fill(vec![claim(0, 3, 4), claim(2, 3, 1)], 7);
        assert_eq!(*two, [0, 0, 0, 0, 2, 2, 2]);
    }

    #[test]
    fn entries_follow_weights_to_a_percent() {
        let all = names(40);
        let equal = entries(&equals(&all), 40);
        assert!(equal.iter().max().unwrap() - equal.iter().min().unwrap() <= 1);

        let weights = [1, 2, 3, 10, 0, 100];
        let endpoints: Vec<(&str, u32)> = all.iter().map(String::as_str).zip(weights).collect();
        let table = Maglev::build(&endpoints);
        for (&count, weight) in entries(&table, weights.len()).iter().zip(weights) {
            let expected = f64::from(weight) / 116.0 * TABLE_DEFAULT as f64;
            assert!((count as f64 - expected).abs() <= 1.0 + expected / 100.0, "{count} for {expected}");
        }
        let mut counts = vec![0; weights.len()];
        (0..KEYS).for_each(|key| counts[usize::from(table.pick(mix(key), |_| true).unwrap())] += 1);
        chi_square::assert_weighted(&counts, &weights);
    }

    #[test]
    fn one_that_goes_moves_little_more_than_its_own_keys() {
        for count in [2, 5, 50] {
            let all = names(count);
            let (before, after) = (equals(&all), equals(&all[..count - 1]));
            let moved = before.table.iter().zip(&after.table).filter(|(old, new)| old != new).count();
            let own = before.entries() / count;
            assert!(moved >= own);
            // The paper's figure 12: a few percent at this size.
            assert!(moved < own + before.entries() / 20, "{moved} entries moved, {own} had to");
        }
    }

    #[test]
    fn a_refused_ones_keys_go_to_all_others_and_nobody_elses_move() {
        let all = names(5);
        let table = equals(&all);
        let mut counts = vec![0; 5];
        for key in (0..5 * KEYS).map(mix) {
            let owner = table.pick(key, |_| true).unwrap();
            let taker = table.pick(key, |endpoint| endpoint != 2).unwrap();
            if owner == 2 {
                counts[usize::from(taker)] += 1;
            } else {
                assert_eq!(owner, taker);
            }
        }
        chi_square::assert_weighted(&counts, &[1, 1, 0, 1, 1]);
    }

    #[test]
    fn the_order_of_the_list_does_not_count() {
        let all = names(9);
        let mut turned = all.clone();
        turned.rotate_left(4);
        turned.swap(0, 5);
        let (one, other) = (equals(&all), equals(&turned));
        let name = |one: &u16| &all[usize::from(*one)];
        let same = |other: &u16| &turned[usize::from(*other)];
        assert!(one.table.iter().map(name).eq(other.table.iter().map(same)));
        assert!(one.members.iter().map(name).eq(other.members.iter().map(same)));
    }

    /// A gateway of the last release stands beside one of the next: neither may move a key.
    #[test]
    fn keys_stay_where_they_were_in_earlier_releases() {
        let all = names(5);
        let table = Maglev::build(&all.iter().map(String::as_str).zip([1, 2, 1, 1, 3]).collect::<Vec<_>>());
        let owners: Vec<u16> = (0..16).map(|key| table.pick(mix(key), |_| true).unwrap()).collect();
        assert_eq!(owners, [4, 4, 1, 3, 1, 4, 0, 4, 1, 4, 4, 4, 4, 4, 3, 4]);
        let others: Vec<u16> = (0..16).map(|key| table.pick(mix(key), |one| one != 4).unwrap()).collect();
        assert_eq!(others, [3, 2, 1, 3, 1, 3, 0, 3, 1, 0, 1, 2, 1, 1, 3, 3]);
    }

    #[test]
    fn nobody_is_found_in_an_empty_table() {
        for table in [Maglev::build(&[]), Maglev::build(&[("none", 0)])] {
            assert_eq!(table.pick(7, |_| true), None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whoever_accepts_is_found_and_each_is_asked_once(
            weights in proptest::collection::vec(0..4_u32, 1..100),
            hash: u64,
            taker in 0..100_u16,
        ) {
            let names = names(weights.len());
            let endpoints: Vec<(&str, u32)> = names.iter().map(String::as_str).zip(weights.iter().copied()).collect();
            let table = Maglev::build(&endpoints);
            let mut asked = Vec::new();
            let found = table.pick(hash, |endpoint| {
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
