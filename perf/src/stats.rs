//! Medians of runs and how sure they are.

/// Resamples of the bootstrap: enough for two digits of a 95 % interval.
const RESAMPLES: usize = 10_000;
const SEED: u64 = 0x9E37_79B9_7F4A_7C15; // fixed, so that the same runs give the same interval

/// A median and its 95 % bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub median: f64,
    pub low: f64,
    pub high: f64,
    pub samples: usize,
}

impl Estimate {
    /// Of the given values, resampled as they are: give it one value per pair, not per run.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let mut random = Xorshift(SEED);
        let mut sample = vec![0.0; values.len()];
        let mut medians: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                sample.fill_with(|| values[random.below(values.len())]);
                median(&sample)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        let at = |quantile: f64| medians[((RESAMPLES - 1) as f64 * quantile) as usize];
        Some(Self { median: median(values), low: at(0.025), high: at(0.975), samples: values.len() })
    }
}

/// Not a number for no values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => (sorted[even / 2 - 1] + sorted[even / 2]) / 2.0,
    }
}

/// The same numbers in every run.
pub(crate) struct Xorshift(pub(crate) u64);

impl Xorshift {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_interval_holds_the_median_and_narrows_with_agreement() {
        let wide = Estimate::of(&[0.7, 0.9, 0.8, 0.6, 1.0, 0.75, 0.85, 0.65, 0.95]).expect("values");
        assert!(wide.low < wide.median && wide.median < wide.high, "{wide:?}");
        let narrow = Estimate::of(&[0.8; 9]).expect("values");
        assert_eq!((narrow.low, narrow.median, narrow.high), (0.8, 0.8, 0.8));
        assert_eq!(Estimate::of(&[]), None);
    }
}
