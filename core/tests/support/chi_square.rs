//! Pearson's test for what must come out by weight at the origins. What goes in is random here, so that the bound is one
//! which pure chance passes once in a million tests. Not for exact sequences.

/// Standard deviations that all but a millionth of a normal distribution stay below.
const NORMAL_BOUND: f64 = 4.7534;

/// Fails unless `counts` may come from chances by `weights`.
#[track_caller]
pub fn assert_weighted(what: &str, counts: &[usize], weights: &[u32]) {
    let (sum, weight) = (counts.iter().sum::<usize>() as f64, f64::from(weights.iter().sum::<u32>()));
    let statistic: f64 = std::iter::zip(counts, weights)
        .map(|(&count, &share)| {
            let expected = sum * f64::from(share) / weight;
            assert!(expected >= 5.0, "{what}: {sum} draws are too few for {weights:?}");
            (count as f64 - expected).powi(2) / expected
        })
        .sum();
    // Wilson and Hilferty's approximation (1931).
    let freedom = (counts.len() - 1) as f64;
    let spread = 2.0 / (9.0 * freedom);
    let bound = freedom * (1.0 - spread + NORMAL_BOUND * spread.sqrt()).powi(3);
    assert!(statistic <= bound, "{what}: chi-square {statistic:.1} > {bound:.1}: {counts:?} for {weights:?}");
}
