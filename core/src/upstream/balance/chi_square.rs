//! Pearson's test, for what must come out by weight: counts that pure chance would explain once in a thousand tests
//! fail. The numbers that go in are fixed, so a test that holds once holds always.

/// Standard deviations that 99.9 % of a normal distribution stay below.
const NORMAL_999: f64 = 3.0902;

/// Fails unless `counts` may come from equal chances.
pub(crate) fn assert_even(counts: &[u64]) {
    assert_weighted(counts, &vec![1; counts.len()]);
}

/// Fails unless `counts` may come from chances by `weights`. What has no weight must have no count.
pub(crate) fn assert_weighted(counts: &[u64], weights: &[u32]) {
    assert_eq!(counts.len(), weights.len());
    let sum: u64 = counts.iter().sum();
    let weight: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    let mut statistic = 0.0;
    let mut classes = 0;
    for (&count, &share) in counts.iter().zip(weights) {
        let expected = sum as f64 * f64::from(share) / weight as f64;
        if share == 0 {
            assert_eq!(count, 0, "without weight, yet chosen: {counts:?}");
            continue;
        }
        assert!(expected >= 5.0, "{sum} draws are too few for {weights:?}");
        statistic += (count as f64 - expected).powi(2) / expected;
        classes += 1;
    }
    let bound = quantile_999(classes - 1);
    assert!(statistic <= bound, "chi-square {statistic:.1} > {bound:.1}: {counts:?} for {weights:?}");
}

/// Wilson and Hilferty's approximation (1931), at most 3.1 % too high at one degree of freedom, 0.7 % at nine.
fn quantile_999(freedom: u32) -> f64 {
    if freedom == 0 {
        return 0.0;
    }
    let freedom = f64::from(freedom);
    let spread = 2.0 / (9.0 * freedom);
    freedom * (1.0 - spread + NORMAL_999 * spread.sqrt()).powi(3)
}

#[test]
fn quantiles_are_those_of_the_tables() {
    for (freedom, tabled, error) in [(1, 10.828, 0.031), (3, 16.266, 0.02), (9, 27.877, 0.007), (99, 148.230, 0.001)] {
        assert!((quantile_999(freedom) / tabled - 1.0).abs() < error, "{freedom}: {}", quantile_999(freedom));
    }
}

#[test]
fn tells_a_fair_coin_from_a_bent_one() {
    assert_even(&[5_050, 4_950]);
    assert!(std::panic::catch_unwind(|| assert_even(&[5_200, 4_800])).is_err());
}
