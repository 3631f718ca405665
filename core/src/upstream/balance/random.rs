//! Numbers that are random enough to choose by: a core's own, fast, and guessable. Not for secrets.

use std::cell::Cell;

/// xorshift64* (Marsaglia 2003, multiplier from Vigna 2016): 64 bits of state, period 2^64 - 1.
#[derive(Debug, Clone)]
pub struct Random(Cell<u64>);

impl Random {
    /// Seeds that differ in one bit, such as core numbers, give unrelated sequences.
    pub fn new(seed: u64) -> Random {
        // The state must not be 0, which xorshift never leaves.
        Random(Cell::new(mix(seed).max(1)))
    }

    pub fn bits(&self) -> u64 {
        let mut state = self.0.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.0.set(state);
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0..`bound`; 0 if there is nothing below. Some numbers are likelier by up to `bound` / 2^64, which nobody sees.
    pub fn below(&self, bound: u64) -> u64 {
        scale(self.bits(), bound)
    }

    /// 0..=99.
    pub fn percent(&self) -> u32 {
        self.below(100) as u32
    }
}

/// A number spread over 0..2^64 brought to 0..`bound` without a division (Lemire 2016).
pub(super) fn scale(spread: u64, bound: u64) -> u64 {
    ((u128::from(spread) * u128::from(bound)) >> 64) as u64
}

/// SplitMix64's step (Steele, Lea, Flood 2014): each bit of the result depends on each bit of `value`, and no two values
/// share a result.
pub(super) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::chi_square;
    use super::*;

    #[test]
    fn splitmix_is_the_published_one() {
        // The first outputs of its reference program for the seed 0.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(0x9e37_79b9_7f4a_7c15), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn every_seed_runs() {
        for seed in 0..1000 {
            let random = Random::new(seed);
            assert_ne!(random.bits(), random.bits());
        }
        // The one seed that SplitMix64 takes to 0.
        let random = Random::new(0_u64.wrapping_sub(0x9e37_79b9_7f4a_7c15));
        assert_ne!(random.bits(), 0);
    }

    #[test]
    fn stays_below_its_bound_and_is_even() {
        for bound in [1, 2, 3, 7, 100] {
            let random = Random::new(bound);
            let mut counts = vec![0; bound as usize];
            for _ in 0..20_000 {
                counts[random.below(bound) as usize] += 1;
            }
            chi_square::assert_even(&counts);
        }
        assert_eq!(Random::new(1).below(0), 0);
    }

    #[test]
    fn neighbouring_seeds_start_apart() {
        let mut counts = vec![0; 16];
        for seed in 0..16_000 {
            counts[Random::new(seed).below(16) as usize] += 1;
        }
        chi_square::assert_even(&counts);
    }

    #[test]
    fn a_percentage_covers_its_hundred() {
        let random = Random::new(7);
        let mut counts = vec![0; 100];
        for _ in 0..100_000 {
            counts[random.percent() as usize] += 1;
        }
        chi_square::assert_even(&counts);
    }
}
