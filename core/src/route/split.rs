//! A canary split: which of a route's arms takes a request, by its key or by turn. Knows neither clusters nor what the
//! key is made of.

use std::cell::Cell;

use smallvec::SmallVec;

/// Arms that need no heap.
const ARMS_INLINE: usize = 4;

/// All keys: each arm has a part of this range, one behind the other.
const RANGE: u128 = 1 << 32;

/// 2^64 divided by the golden ratio: of all steps round a circle the one that leaves the most even gaps, after however
/// many of them.
const GOLDEN_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The same on every gateway and after every reload, since only the weights go in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Where each arm's part of the range ends.
    ends: SmallVec<[u64; ARMS_INLINE]>,
}

impl Split {
    /// An arm of weight 0 gets nothing; if all have none, the first gets everything.
    ///
    /// When weights change, only the ends of the parts shift: from 95/5 to 90/10 5 % of the keys move, all of them to the
    /// second arm. With three arms or more, those behind a change shift, too: put the arm that grows and the one that
    /// shrinks for it next to each other, and no key moves without need.
    pub fn new(weights: &[u32]) -> Split {
        let sum: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
        let mut before = 0;
        let ends = weights.iter().map(|&weight| {
            before += u128::from(weight);
            if sum == 0 { RANGE as u64 } else { (before * RANGE).div_ceil(sum) as u64 }
        });
        Split { ends: ends.collect() }
    }

    /// The arm of a key, always the same one. `hash` should be spread over all 64 bits, and salted by the split's name,
    /// or else the same keys are the first to move in every split.
    pub fn by_key(&self, hash: u64) -> usize {
        let place = hash >> 32;
        self.ends.iter().position(|&end| place < end).unwrap_or(0)
    }

    /// The arm of a request without a key. Goes round in golden steps from [`first_turn`], which keep to the weights in
    /// any run of requests: of any 100, an arm with 5 % takes 4 to 6.
    pub fn by_turn(&self, turn: &Cell<u64>) -> usize {
        let place = turn.get();
        turn.set(place.wrapping_add(GOLDEN_STEP));
        self.by_key(place)
    }
}

/// Where a core starts: as far from the others as can be, so that the node keeps to the weights, too.
pub fn first_turn(core: usize, cores: usize) -> u64 {
    // Half a step in: the first request of the only core goes to the middle, not to the first arm however small it is.
    let half_steps = 2 * core as u128 + 1;
    ((half_steps << 63) / cores.max(1) as u128) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    /// The smallest hash at `thousandth`/1000 of the range.
    fn at(thousandth: u64) -> u64 {
        (RANGE as u64 * thousandth).div_ceil(1000) << 32
    }

    fn counts(split: &Split, turn: &Cell<u64>, requests: usize) -> Vec<usize> {
        let mut counts = vec![0; split.ends.len()];
        (0..requests).for_each(|_| counts[split.by_turn(turn)] += 1);
        counts
    }

    #[test]
    fn parts_lie_one_behind_the_other() {
        let split = Split::new(&[95, 5]);
        assert_eq!([split.by_key(0), split.by_key(at(950) - 1), split.by_key(at(950))], [0, 0, 1]);
        assert_eq!(split.by_key(u64::MAX), 1);
        let split = Split::new(&[0, 1, 0, 1, 0]);
        assert_eq!([split.by_key(0), split.by_key(at(500) - 1), split.by_key(at(500))], [1, 1, 3]);
        assert_eq!(split.by_key(u64::MAX), 3);
    }

    #[test]
    fn more_for_the_canary_moves_only_the_keys_it_gains() {
        let (before, after) = (Split::new(&[95, 5]), Split::new(&[90, 10]));
        for thousandth in 0..1000 {
            let key = at(thousandth);
            let moves = (900..950).contains(&thousandth);
            assert_eq!(before.by_key(key) != after.by_key(key), moves, "{thousandth}");
        }
        // The same in other numbers.
        assert_eq!(Split::new(&[950, 50]), before);
    }

    #[test]
    fn without_weights_the_first_takes_everything() {
        let split = Split::new(&[0, 0]);
        assert_eq!([split.by_key(0), split.by_key(u64::MAX)], [0, 0]);
        assert_eq!(Split::new(&[]).by_key(7), 0);
        assert_eq!(Split::new(&[u32::MAX; 3]).by_key(u64::MAX), 2);
    }

    /// Any run of 100 requests is the same pattern, turned. So it is enough to lay every window of 5 % on one of them:
    /// counts change only where a window begins at one of its places, or just behind.
    #[test]
    fn a_small_arm_has_its_share_of_any_hundred() {
        let places: Vec<u64> = (0..100).map(|turn: u64| turn.wrapping_mul(GOLDEN_STEP)).collect();
        for &begin in &places {
            for begin in [begin, begin + 1] {
                let within = places.iter().filter(|place| place.wrapping_sub(begin) < u64::MAX / 20);
                assert!((4..=6).contains(&within.count()));
            }
        }
        let split = Split::new(&[95, 5]);
        let turn = Cell::new(first_turn(3, 7));
        for _ in 0..100 {
            assert!((4..=6).contains(&counts(&split, &turn, 100)[1]));
        }
    }

    #[test]
    fn cores_together_keep_to_the_weights() {
        let split = Split::new(&[75, 25]);
        for cores in [4, 8, 16, 64] {
            let firsts = (0..cores).map(|core| split.by_turn(&Cell::new(first_turn(core, cores))));
            assert_eq!(firsts.filter(|&arm| arm == 1).count(), cores / 4, "{cores} cores");
        }
    }

    proptest! {
        // The bound is from experience, not proven: always the same cases.
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            rng_seed: RngSeed::Fixed(1),
            ..ProptestConfig::default()
        })]

        #[test]
        fn every_run_keeps_to_the_weights(
            weights in proptest::collection::vec(1..100_u32, 1..6),
            phase: u64,
            requests in 1..2000_usize,
        ) {
            let split = Split::new(&weights);
            let sum: u32 = weights.iter().sum();
            let counts = counts(&split, &Cell::new(phase), requests);
            for (&count, &weight) in counts.iter().zip(&weights) {
                let expected = requests as f64 * f64::from(weight) / f64::from(sum);
                prop_assert!((count as f64 - expected).abs() < 5.0, "{count} for {expected}");
            }
        }
    }
}
