//! Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam 2016): how many requests an endpoint may have
//! under way before its keys go on to the next one. The walk itself is `Ring`'s or `Maglev`'s.

/// The most requests that an endpoint of `weight` should have, the next one included, when `total_active` are under way
/// on endpoints that weigh `total_weight` together: its share of all times `factor_percent` / 100, rounded up. One with
/// fewer under way takes the next.
///
/// Since the next request counts, and shares are rounded up, some endpoint always has room. A factor below 100, which
/// would leave no room, counts as 100. The lower it is, the more even the load, and the more keys leave their endpoint.
/// It is the number that HAProxy calls `hash-balance-factor`.
pub fn limit(total_active: u64, total_weight: u64, weight: u32, factor_percent: u32) -> u64 {
    let factor = factor_percent.max(100);
    let requests = total_active.saturating_add(1);
    let whole = total_weight.max(1);
    let share = requests.checked_mul(u64::from(factor)).and_then(|share| share.checked_mul(u64::from(weight)));
    if let (Some(share), Some(whole)) = (share, whole.checked_mul(100)) {
        return share.div_ceil(whole);
    }
    // At 2^32 requests or the like; the division is slower.
    let share = u128::from(requests) * u128::from(factor) * u128::from(weight);
    u64::try_from(share.div_ceil(u128::from(whole) * 100)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn is_the_share_times_the_factor_rounded_up() {
        // 10 under way and one to come on 4 equals: 11 / 4 * 1.25 = 3.4
        assert_eq!(limit(10, 4, 1, 125), 4);
        assert_eq!(limit(0, 4, 1, 125), 1);
        assert_eq!(limit(15, 4, 1, 100), 4);
        assert_eq!(limit(15, 4, 1, 200), 8);
        assert_eq!(limit(99, 10, 5, 150), 75);
        assert_eq!(limit(99, 10, 5, 50), limit(99, 10, 5, 100));
        assert_eq!(limit(99, 10, 0, 150), 0);
        assert_eq!(limit(7, 0, 1, 100), 8);
    }

    #[test]
    fn large_numbers_saturate() {
        assert_eq!(limit(u64::MAX, 1, u32::MAX, u32::MAX), u64::MAX);
        assert_eq!(limit(u64::MAX - 1, 10, 10, 100), u64::MAX);
        assert_eq!(limit(0, u64::MAX, u32::MAX, 100), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn somebody_has_room(
            endpoints in proptest::collection::vec((0..1000_u64, 1..1000_u32), 1..50),
            factor in 100..300_u32,
        ) {
            let active = endpoints.iter().map(|endpoint| endpoint.0).sum();
            let weight = endpoints.iter().map(|endpoint| u64::from(endpoint.1)).sum();
            prop_assert!(endpoints.iter().any(|&(own, share)| own < limit(active, weight, share, factor)));
        }
    }
}
