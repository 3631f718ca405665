//! Smooth weighted round robin, laid out ahead as one period, so that a choice is one look into a table.
//!
//! Each core starts at another place of the period: with one request on each of them the node has gone round, too,
//! which it has not if all cores start with the first endpoint.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Entries of one period. Weights whose sum is larger are scaled down, each staying at least 1.
const PERIOD_MAX: u64 = 16 * 1024;

#[derive(Debug, Clone)]
pub struct RoundRobin {
    period: Box<[u16]>,
    at: Cell<usize>,
}

impl RoundRobin {
    /// `endpoints` are numbers with weights; a weight of 0 means no turn. `core` is below `cores`.
    pub fn new(endpoints: &[(u16, u32)], core: usize, cores: usize) -> RoundRobin {
        let period = period(endpoints);
        let at = Cell::new(if period.is_empty() { 0 } else { period.len() * core / cores.max(1) % period.len() });
        RoundRobin { period, at }
    }

    /// True if nobody has a turn.
    pub fn is_empty(&self) -> bool {
        self.period.is_empty()
    }

    /// The endpoint whose turn it is.
    ///
    /// # Panics
    /// If nobody has a turn.
    pub fn next(&self) -> u16 {
        let at = self.at.get();
        self.at.set(if at + 1 >= self.period.len() { 0 } else { at + 1 });
        self.period[at]
    }

    /// Goes on where `before` stood: with the same endpoint, or, where that is gone, the next one that is not; at about
    /// the same place of the period. So a core that rebuilds often serves everybody, and cores that rebuild together do
    /// not all begin with the same endpoint.
    ///
    /// Endpoints are told by their numbers. If those were given anew, the place is carried over all the same.
    pub fn follow(&self, before: &RoundRobin) {
        if self.is_empty() || before.is_empty() {
            return;
        }
        let near = before.at.get() * self.period.len() / before.period.len();
        let has_turn = numbers_in(&self.period);
        let mut due = from(&before.period, before.at.get());
        let due = due.find(|&endpoint| has_turn.get(usize::from(endpoint)) == Some(&true));
        let further = due.and_then(|due| from(&self.period, near).position(|endpoint| endpoint == due));
        self.at.set((near + further.unwrap_or(0)) % self.period.len());
    }
}

/// Once round `period`, beginning at `at`.
fn from(period: &[u16], at: usize) -> impl Iterator<Item = u16> {
    let (passed, ahead) = period.split_at(at);
    ahead.iter().chain(passed).copied()
}

fn numbers_in(period: &[u16]) -> Vec<bool> {
    let mut found = vec![false; period.iter().max().map_or(0, |&most| usize::from(most) + 1)];
    for &endpoint in period {
        found[usize::from(endpoint)] = true;
    }
    found
}

/// Endpoints of one weight. Among themselves they go round, so that only one of them can be next: a turn costs as much
/// as there are different weights, not endpoints.
struct Rank {
    weight: i64,
    /// Of the member that is due.
    score: i64,
    /// By place in the list.
    members: Vec<usize>,
    due: usize,
}

/// The order that nginx's smooth weighted round robin gives: each turn every weight is added to its endpoint's score,
/// the highest score wins, the first in the list among equals, and pays the sum.
fn period(endpoints: &[(u16, u32)]) -> Box<[u16]> {
    let scaled = scale(endpoints);
    let sum: i64 = scaled.iter().sum();
    let mut ranks: BTreeMap<i64, Rank> = BTreeMap::new();
    for (place, &weight) in scaled.iter().enumerate().filter(|(_, weight)| **weight > 0) {
        let rank = ranks.entry(weight).or_insert(Rank { weight, score: 0, members: Vec::new(), due: 0 });
        rank.members.push(place);
    }
    let mut ranks: Vec<Rank> = ranks.into_values().collect();
    (0..sum).filter_map(|_| turn(&mut ranks, sum)).map(|place| endpoints[place].0).collect()
}

/// The place whose turn it is.
fn turn(ranks: &mut [Rank], sum: i64) -> Option<usize> {
    for rank in &mut *ranks {
        rank.score += rank.weight;
    }
    let best = ranks.iter_mut().max_by_key(|rank| (rank.score, Reverse(rank.members[rank.due])))?;
    let winner = best.members[best.due];
    best.due += 1;
    if best.due == best.members.len() {
        best.due = 0;
        best.score -= sum;
    }
    Some(winner)
}

fn scale(endpoints: &[(u16, u32)]) -> Vec<i64> {
    let divisor = endpoints.iter().fold(0, |a, &(_, b)| greatest_common_divisor(a, b)).max(1);
    let sum: u64 = endpoints.iter().map(|&(_, weight)| u64::from(weight / divisor)).sum();
    let scaled = endpoints.iter().map(|&(_, weight)| {
        let weight = u64::from(weight / divisor);
        let scaled = if sum > PERIOD_MAX { (weight * PERIOD_MAX / sum).max(1) } else { weight };
        scaled.min(weight) as i64
    });
    scaled.collect()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::chi_square;
    use super::*;

    fn numbered(weights: &[u32]) -> Vec<(u16, u32)> {
        weights.iter().enumerate().map(|(index, &weight)| (index as u16, weight)).collect()
    }

    fn turns(weights: &[u32], core: usize, cores: usize, count: usize) -> Vec<u16> {
        let turns = RoundRobin::new(&numbered(weights), core, cores);
        (0..count).map(|_| turns.next()).collect()
    }

    #[test]
    fn weights_are_spread_smoothly() {
        assert_eq!(turns(&[5, 1, 1], 0, 1, 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(turns(&[1, 1, 1], 0, 1, 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(turns(&[10, 20], 0, 1, 3), [1, 0, 1]);
        assert_eq!(turns(&[4, 2, 1], 0, 1, 7), [0, 1, 0, 2, 0, 1, 0]);
    }

    #[test]
    fn cores_together_are_round_robin_too() {
        for cores in [1, 2, 4, 7] {
            let endpoints = 4;
            let mut counts = vec![0; endpoints];
            for core in 0..cores {
                for turn in turns(&vec![1; endpoints], core, cores, 1) {
                    counts[usize::from(turn)] += 1;
                }
            }
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(most - least <= 1, "{cores} cores: {counts:?}");
        }
    }

    #[test]
    fn odd_weights_have_a_bounded_period() {
        let weights: Vec<u32> = (0..500).map(|index| 997 - index).collect();
        assert!(period(&numbered(&weights)).len() as u64 <= PERIOD_MAX + 500);
        assert_eq!(period(&numbered(&[1000; 800])).len(), 800);
        assert_eq!(period(&numbered(&[1; 10_000])).len(), 10_000);
    }

    #[test]
    fn an_endpoint_without_weight_has_no_turn() {
        assert_eq!(turns(&[0, 1, 0, 1], 0, 1, 3), [1, 3, 1]);
        for nobody in [&[][..], &[0, 0]] {
            let nobody = RoundRobin::new(&numbered(nobody), 0, 1);
            assert!(nobody.is_empty());
            let one = RoundRobin::new(&[(3, 1)], 0, 1);
            one.follow(&nobody);
            nobody.follow(&one);
            assert_eq!(one.next(), 3);
        }
    }

    #[test]
    fn a_rebuild_goes_on_where_it_was() {
        let before = RoundRobin::new(&numbered(&[1; 5]), 0, 1);
        assert_eq!([before.next(), before.next()], [0, 1]);
        // 2 was due and is gone, so that it is 3's turn.
        let after = RoundRobin::new(&[(0, 1), (1, 1), (3, 1), (4, 1)], 0, 1);
        after.follow(&before);
        assert_eq!([after.next(), after.next(), after.next()], [3, 4, 0]);
        // It comes back when 1 is due.
        before.follow(&after);
        assert_eq!([before.next(), before.next(), before.next()], [1, 2, 3]);
        // None of those before is there any more.
        let others = RoundRobin::new(&[(7, 1), (8, 1), (9, 1)], 0, 1);
        others.follow(&before);
        assert_eq!(others.next(), 9);
    }

    #[test]
    fn cores_that_rebuild_together_stay_apart() {
        let cores = 4;
        let mut first: Vec<u16> = (0..cores)
            .map(|core| {
                let before = RoundRobin::new(&numbered(&[1; 8]), core, cores);
                let after = RoundRobin::new(&numbered(&[1; 7]), core, cores);
                after.follow(&before);
                after.next()
            })
            .collect();
        first.dedup();
        assert_eq!(first, [0, 2, 4, 6]);
    }

    #[test]
    fn a_core_that_rebuilds_for_each_request_serves_everybody() {
        let weights = [3, 1, 1, 1];
        let mut turns = RoundRobin::new(&numbered(&weights), 0, 1);
        let mut counts = [0; 4];
        for _ in 0..6000 {
            counts[usize::from(turns.next())] += 1;
            let again = RoundRobin::new(&numbered(&weights), 0, 1);
            again.follow(&turns);
            turns = again;
        }
        chi_square::assert_weighted(&counts, &weights);
    }

    /// The textbook version, which looks at every endpoint each turn.
    fn one_by_one(weights: &[u32]) -> Vec<u16> {
        let scaled = scale(&numbered(weights));
        let sum: i64 = scaled.iter().sum();
        let mut scores = vec![0; scaled.len()];
        let turn = |_| {
            scores.iter_mut().zip(&scaled).for_each(|(score, weight)| *score += weight);
            let best = (0..scores.len()).rev().max_by_key(|&index| scores[index]).unwrap();
            scores[best] -= sum;
            best as u16
        };
        (0..sum).map(turn).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn ranks_give_the_order_of_the_textbook(weights in proptest::collection::vec(1..6_u32, 1..40)) {
            prop_assert_eq!(&*period(&numbered(&weights)), one_by_one(&weights));
        }

        #[test]
        fn a_period_on_each_core_is_exact(weights in proptest::collection::vec(1..50_u32, 1..20), place in 0..4_usize) {
            let cores = [1, 2, 4, 7][place];
            let rounds = scale(&numbered(&weights));
            let sum: i64 = rounds.iter().sum();
            let mut counts = vec![0; weights.len()];
            for core in 0..cores {
                turns(&weights, core, cores, sum as usize).iter().for_each(|&turn| counts[usize::from(turn)] += 1);
            }
            let expected: Vec<i64> = rounds.iter().map(|weight| weight * cores as i64).collect();
            prop_assert_eq!(counts, expected);
        }
    }
}
