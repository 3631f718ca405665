//! Tiers: requests go to the first while it is well, and spill over to the next as it falls ill, by Envoy's rules for
//! priority levels. Also when to stop believing that nearly everybody is ill (`panic`).

use smallvec::SmallVec;

/// Tiers that need no heap.
const TIERS_INLINE: usize = 4;

/// Which tier a request goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spill {
    /// Percent of requests up to and with each tier.
    cumulative: SmallVec<[u8; TIERS_INLINE]>,
    short: bool,
}

impl Spill {
    /// From each tier's usable weight and its whole weight, the primary one first. With a factor of 140 % a tier may lose
    /// two endpoints of seven before any spill over.
    ///
    /// A tier's health is its usable part times the factor, at most 100 %. Each takes as many percent of all requests as its
    /// health, as far as those before it left any. Where all healths together are below 100 %, they share all requests
    /// in proportion, and what rounding leaves goes where it took most. With nobody usable all go to tier 0.
    pub fn new(tiers: impl IntoIterator<Item = (u64, u64)>, factor_percent: u64) -> Spill {
        let healths: SmallVec<[u64; TIERS_INLINE]> =
            tiers.into_iter().map(|(usable, all)| health_percent(usable, all, factor_percent)).collect();
        let sum: u64 = healths.iter().sum();
        let whole = sum.clamp(1, 100);
        let mut left = 100;
        let mut loads: SmallVec<[Load; TIERS_INLINE]> = SmallVec::new();
        for health in &healths {
            let percent = (health * 100 / whole).min(left);
            left -= percent;
            loads.push(Load { percent, rounded_off: health * 100 % whole });
        }
        if sum == 0 {
            loads.iter_mut().take(1).for_each(|load| load.percent = 100);
        } else {
            give(left, &mut loads);
        }
        let mut before = 0;
        let cumulative = loads.iter().map(|load| {
            before += load.percent;
            before as u8
        });
        Spill { cumulative: cumulative.collect(), short: sum < 100 }
    }

    /// The tier for a number of 0..=99, mostly a random one.
    pub fn tier(&self, percent: u32) -> usize {
        self.cumulative.iter().position(|&end| percent < u32::from(end)).unwrap_or(0)
    }

    /// True if all tiers together are too ill for all requests. Only then is any of them in panic, as in Envoy: while
    /// others have room, an ill tier's requests go to those.
    pub fn is_short(&self) -> bool {
        self.short
    }
}

struct Load {
    percent: u64,
    rounded_off: u64,
}

/// One percent to each of the tiers that rounding took most of, the first among equals.
fn give(left: u64, loads: &mut [Load]) {
    for _ in 0..left {
        if let Some(load) = loads.iter_mut().rev().max_by_key(|load| load.rounded_off) {
            load.percent += 1;
            load.rounded_off = 0;
        }
    }
}

/// Rounded down. Some health is left as long as somebody is usable.
fn health_percent(usable: u64, all: u64, factor_percent: u64) -> u64 {
    let percent = u128::from(usable) * u128::from(factor_percent) / u128::from(all.max(1));
    (percent.min(100) as u64).max(usable.min(1))
}

/// True if so few of a tier are usable that who is ill is not to be believed, or does not matter: requests then go to
/// all, since to send everything to the few left would fell those, too. A threshold of 0 never panics.
pub fn panic(usable: u64, all: u64, threshold_percent: u32) -> bool {
    u128::from(usable) * 100 < u128::from(all) * u128::from(threshold_percent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn loads(healthy_percents: &[u64]) -> Vec<u64> {
        let spill = Spill::new(healthy_percents.iter().map(|&percent| (percent, 100)), 140);
        let mut counts = vec![0; healthy_percents.len()];
        (0..100).for_each(|percent| counts[spill.tier(percent)] += 1);
        counts
    }

    /// The tables of Envoy's page on priority levels.
    #[test]
    fn shares_are_envoys() {
        for (healthy, expected) in [
            (&[100, 100][..], &[100, 0][..]),
            (&[72, 72], &[100, 0]),
            (&[71, 71], &[99, 1]),
            (&[50, 50], &[70, 30]),
            (&[25, 100], &[35, 65]),
            (&[0, 100], &[0, 100]),
            (&[25, 25], &[50, 50]),
            (&[100, 100, 100], &[100, 0, 0]),
            (&[71, 71, 100], &[99, 1, 0]),
            (&[72, 72, 100], &[100, 0, 0]),
            (&[50, 50, 100], &[70, 30, 0]),
            (&[25, 100, 100], &[35, 65, 0]),
            (&[25, 25, 100], &[35, 35, 30]),
            (&[25, 25, 20], &[36, 36, 28]),
        ] {
            assert_eq!(loads(healthy), expected, "{healthy:?}");
        }
    }

    #[test]
    fn what_rounding_leaves_goes_to_the_first_of_equals() {
        assert_eq!(loads(&[0, 10, 10, 10]), [0, 34, 33, 33]);
    }

    #[test]
    fn with_nobody_usable_all_go_to_the_first() {
        assert_eq!(loads(&[0, 0]), [100, 0]);
        assert_eq!(Spill::new([], 140).tier(50), 0);
        assert_eq!(Spill::new([(0, 0), (0, 0)], 140).tier(99), 0);
        assert_eq!(Spill::new([(0, 0), (1, 1)], 140).tier(0), 1);
    }

    #[test]
    fn one_of_very_many_still_counts() {
        assert_eq!(Spill::new([(1, 10_000), (0, 1)], 140).tier(99), 0);
        assert_eq!(Spill::new([(1, 10_000), (1, 1)], 140).tier(0), 0);
        assert_eq!(Spill::new([(1, 10_000), (1, 1)], 140).tier(1), 1);
    }

    #[test]
    fn shortness_is_of_all_tiers_together() {
        assert!(!Spill::new([(3, 10), (10, 10)], 140).is_short());
        assert!(Spill::new([(3, 10), (4, 10)], 140).is_short());
        assert!(!Spill::new([(5, 7)], 140).is_short());
        assert!(Spill::new([(4, 7)], 140).is_short());
    }

    #[test]
    fn panic_is_below_the_threshold() {
        assert!(panic(4, 10, 50));
        assert!(!panic(5, 10, 50));
        assert!(panic(0, 1, 1));
        assert!(!panic(0, 10, 0));
        assert!(!panic(0, 0, 50));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_request_goes_to_a_dead_tier_while_one_lives(
            tiers in proptest::collection::vec((0..20_u64, 0..20_u64), 1..8),
            percent in 0..100_u32,
        ) {
            let tiers: Vec<(u64, u64)> = tiers.into_iter().map(|(usable, more)| (usable, usable + more)).collect();
            let tier = Spill::new(tiers.iter().copied(), 140).tier(percent);
            prop_assert!(tiers[tier].0 > 0 || tiers.iter().all(|tier| tier.0 == 0));
        }
    }
}
