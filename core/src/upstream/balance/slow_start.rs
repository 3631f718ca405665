//! Slow start: an endpoint that came, or came back, gets its part of the requests bit by bit, while its caches are cold.

/// All of a weight.
pub const WHOLE: u32 = 1024;

/// How much of its weight, in 1/1024, an endpoint has at `now_ms` that came at `since_ms`. As in Envoy it is
/// (elapsed / window)^(1 / aggression), at least `min_percent`: with an aggression of 1.0 it grows evenly, above that
/// quickly at first, below slowly at first. Never 0, so that the endpoint is tried; all of it after the window.
///
/// An aggression that is not above 0 counts as 1.0.
pub fn share(now_ms: u64, since_ms: u64, window_ms: u64, min_percent: u32, aggression: f64) -> u32 {
    let elapsed_ms = now_ms.saturating_sub(since_ms);
    if elapsed_ms >= window_ms {
        return WHOLE;
    }
    let grown = if aggression == 1.0 || aggression.is_nan() || aggression <= 0.0 {
        (u128::from(elapsed_ms) * u128::from(WHOLE) / u128::from(window_ms)) as u32
    } else {
        let elapsed = elapsed_ms as f64 / window_ms as f64;
        (elapsed.powf(aggression.recip()) * f64::from(WHOLE)) as u32
    };
    let least = min_percent.min(100) * WHOLE / 100;
    grown.clamp(least.max(1), WHOLE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn grows_evenly_by_default() {
        let after = |elapsed| share(5_000 + elapsed, 5_000, 60_000, 10, 1.0);
        assert_eq!([after(0), after(6_000), after(15_000), after(30_000)], [102, 102, 256, 512]);
        assert_eq!([after(59_999), after(60_000), after(u64::MAX / 2)], [1023, 1024, 1024]);
    }

    #[test]
    fn aggression_bends_the_line() {
        // Envoy's formula by hand, at a quarter of the window: 0.25^(1/2) and 0.25^2.
        assert_eq!(share(15_000, 0, 60_000, 0, 2.0), 512);
        assert_eq!(share(15_000, 0, 60_000, 0, 0.5), 64);
        assert_eq!(share(15_000, 0, 60_000, 10, 0.5), 102);
    }

    #[test]
    fn odd_settings_do_no_harm() {
        assert_eq!(share(0, 0, 0, 10, 1.0), WHOLE, "no window, no slow start");
        assert_eq!(share(0, 1_000, 60_000, 0, 1.0), 1, "the clocks disagree");
        assert_eq!(share(1, 0, u64::MAX, 0, 1.0), 1);
        assert_eq!(share(u64::MAX - 1, 0, u64::MAX, 0, 1.0), 1023);
        assert_eq!(share(0, 0, 60_000, 500, 1.0), WHOLE);
        for odd in [0.0, -1.0, f64::NAN] {
            assert_eq!(share(30_000, 0, 60_000, 0, odd), 512);
        }
        assert_eq!(share(1, 0, 60_000, 0, f64::INFINITY), WHOLE);
        assert_eq!(share(1, 0, 60_000, 0, f64::MIN_POSITIVE), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn never_shrinks(window in 1..100_000_u64, min in 0..=100_u32, aggression in 0.1..10.0_f64, at in 0..100_000_u64) {
            let (now, later) = (share(at, 0, window, min, aggression), share(at + 7, 0, window, min, aggression));
            prop_assert!(now <= later);
            prop_assert!((1..=WHOLE).contains(&now));
        }
    }
}
