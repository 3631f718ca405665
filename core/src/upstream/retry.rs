//! Whether a request is tried again, after what wait, and what the budget says. Sends nothing.

use std::time::{Duration, SystemTime};

use ringway_config::snapshot::{Retry, RetryBudget};

use super::balance::Random;
use super::node::ClusterNode;
use crate::observe::Flag;

/// Kinds of `ClusterNode::tried`.
pub const REQUESTS: usize = 0;
pub const RETRIES: usize = 1;
/// A tenth of the time that the budget looks back.
const STEP_MS: u64 = 1000;
/// Seconds that the budget looks back.
const LOOK_BACK_S: u64 = 10;

/// What a try came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Failed(Flag),
    Status(u16),
    /// `grpc-status` of an answer without a message.
    Grpc(u8),
}

/// True if the rules want another try after this.
pub fn wants(rules: &Retry, cause: Cause) -> bool {
    match cause {
        Cause::Failed(Flag::ConnectFailed | Flag::ConnectTimeout | Flag::NoPort | Flag::Overflow) => {
            rules.connect_failure
        }
        Cause::Failed(Flag::OriginClosed | Flag::OriginReset) => rules.reset,
        Cause::Failed(Flag::OriginTimeout) => rules.timeout,
        Cause::Failed(_) => false,
        Cause::Status(status) => rules.statuses.contains(&status),
        Cause::Grpc(code) => rules.grpc_codes.contains(&code),
    }
}

/// The wait before retry number `retry` (from 1): a random part of `backoff` doubled with each one. Of the whole and not
/// of its upper half, so that those who failed together do not come together (AWS Architecture Blog, "Exponential
/// Backoff And Jitter").
pub fn backoff(rules: &Retry, retry: u32, random: &Random) -> Duration {
    let longest = rules.backoff.saturating_mul(1 << (retry - 1).min(16)).min(rules.backoff_max);
    Duration::from_micros(random.below(longest.as_micros() as u64 + 1))
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date.
pub fn retry_after(value: &[u8], now: SystemTime) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Counts for the budget of the cluster; `core` is the caller's.
pub fn count(node: &ClusterNode, core: usize, now_ms: u64, kind: usize, more: u64) {
    node.tried.add(core, now_ms, STEP_MS, kind, more);
}

/// Requests and retries that the budget looks back on.
pub fn budget(node: &ClusterNode, now_ms: u64) -> [u64; 2] {
    node.tried.sum(now_ms, STEP_MS)
}

/// True if the budget allows one more.
pub fn allowed(node: &ClusterNode, budget: RetryBudget, now_ms: u64) -> bool {
    let tried = self::budget(node, now_ms);
    let most = tried[REQUESTS] * u64::from(budget.percent) / 100 + u64::from(budget.per_second_min) * LOOK_BACK_S;
    tried[RETRIES] < most
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn rules() -> Retry {
        Retry {
            attempts_max: 3,
            connect_failure: true,
            reset: false,
            timeout: false,
            statuses: vec![503],
            grpc_codes: vec![14],
            unsafe_methods: false,
            per_try_timeout: None,
            backoff: Duration::from_millis(25),
            backoff_max: Duration::from_millis(80),
            retry_after_max: Duration::from_secs(1),
            body_bytes_max: 0,
        }
    }

    #[test]
    fn only_what_is_named_is_tried_again() {
        let wanted = |cause| wants(&rules(), cause);
        assert!(wanted(Cause::Failed(Flag::ConnectFailed)) && wanted(Cause::Failed(Flag::ConnectTimeout)));
        assert!(wanted(Cause::Status(503)) && wanted(Cause::Grpc(14)));
        assert!(!wanted(Cause::Failed(Flag::OriginReset)) && !wanted(Cause::Failed(Flag::OriginTimeout)));
        assert!(!wanted(Cause::Status(500)) && !wanted(Cause::Grpc(0)) && !wanted(Cause::Failed(Flag::ClientGone)));
    }

    #[test]
    fn a_wait_is_a_random_part_of_what_doubles_up_to_the_longest() {
        let random = Random::new(7);
        for (retry, longest_ms) in [(1, 25), (2, 50), (3, 80), (9, 80), (64, 80)] {
            let waits: Vec<Duration> = (0..2000).map(|_| backoff(&rules(), retry, &random)).collect();
            let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
            assert!(*most <= Duration::from_millis(longest_ms), "retry {retry}: {most:?}");
            assert!(*most > Duration::from_millis(longest_ms) * 9 / 10 && *least < Duration::from_millis(5));
        }
        let none = Retry { backoff: Duration::ZERO, ..rules() };
        assert_eq!(backoff(&none, 3, &random), Duration::ZERO);
    }

    /// Retries that a node of three cores is allowed at each of these moments, of so many asked for, when there were so
    /// many requests a second until then.
    fn play(budget: RetryBudget, scenario: &[(u64, u64, u64)]) -> Vec<u64> {
        let source = ringway_config::Source { name: String::new(), text: ringway_config::DEMO.to_owned() };
        let config = ringway_config::load(&source).unwrap().snapshot.clusters.remove(0);
        let node = ClusterNode::next(&config, &[], None, 3, 0);
        let mut counted_ms = 0;
        let moment = |&(now_ms, per_second, asked): &(u64, u64, u64)| {
            while counted_ms < now_ms {
                count(&node, (counted_ms / 1000) as usize % 3, counted_ms, REQUESTS, per_second);
                counted_ms += 1000;
            }
            let mut taken = 0;
            for core in 0..asked {
                if allowed(&node, budget, now_ms) {
                    count(&node, core as usize % 3, now_ms, RETRIES, 1);
                    taken += 1;
                }
            }
            taken
        };
        scenario.iter().map(moment).collect()
    }

    #[test]
    fn the_budget_is_a_share_of_ten_seconds_and_a_minimum() {
        let share = RetryBudget { percent: 20, per_second_min: 0 };
        // 100 a second for ten seconds are 1000 requests, so 200 retries, once; those drop out with the step that they
        // were made in.
        let moments = [(9_999, 100, 500), (12_000, 100, 500), (18_999, 100, 500), (19_000, 100, 500)];
        assert_eq!(play(share, &moments), [200, 0, 0, 180]);
        assert_eq!(play(share, &[(1, 0, 9)]), [0], "nothing of nothing");
        let minimum = RetryBudget { percent: 0, per_second_min: 3 };
        assert_eq!(play(minimum, &[(1, 0, 90), (5_000, 1000, 90), (10_001, 1000, 90)]), [30, 0, 30]);
        let both = RetryBudget { percent: 10, per_second_min: 1 };
        assert_eq!(play(both, &[(9_999, 50, 500)]), [60]);
    }

    #[test]
    fn a_process_that_stood_still_has_no_budget_of_before() {
        let share = RetryBudget { percent: 20, per_second_min: 0 };
        assert_eq!(play(share, &[(9_999, 100, 0)]), [0]);
        let source = RetryBudget { percent: 50, per_second_min: 0 };
        assert_eq!(play(source, &[(1_000, 10, 2), (31_000, 0, 9)]), [2, 0]);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        assert_eq!(retry_after(b"120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after(b" Sun, 06 Nov 1994 08:49:39 GMT", now), Some(Duration::from_secs(2)));
        assert_eq!(retry_after(b"Sun, 06 Nov 1994 08:49:30 GMT", now), Some(Duration::ZERO));
        for bad in [&b"soon"[..], b"-1", b"", b"\xff"] {
            assert_eq!(retry_after(bad, now), None);
        }
    }
}
