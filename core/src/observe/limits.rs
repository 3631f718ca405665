//! What the node knows of its rate and concurrency limits, as Prometheus shows it. Gathers nothing itself.

use super::prometheus::Page;

/// One limit, as of the last ticks of the cores.
#[derive(Debug, Clone, Default)]
pub struct LimitFacts {
    pub name: String,
    pub allowed: u64,
    pub denied: u64,
    pub delayed: u64,
    pub overflowed: u64,
    pub keys: u64,
}

pub(super) fn render(page: &mut Page, limits: &[LimitFacts]) {
    if limits.is_empty() {
        return;
    }
    const DECISIONS: &str = "ringway_ratelimit_decisions_total";
    page.family(DECISIONS, "counter", "What became of requests at a rate limit, a quota or a concurrency limit.");
    for limit in limits {
        for (decision, count) in [("allowed", limit.allowed), ("denied", limit.denied), ("delayed", limit.delayed)] {
            page.sample(DECISIONS, &[("rule", &limit.name), ("decision", &decision)], count);
        }
    }
    const KEYS: &str = "ringway_ratelimit_keys";
    page.family(KEYS, "gauge", "Keys that have a budget of their own.");
    limits.iter().for_each(|limit| page.sample(KEYS, &[("rule", &limit.name)], limit.keys));
    const OVERFLOW: &str = "ringway_ratelimit_overflow_total";
    page.family(OVERFLOW, "counter", "Requests that shared the budget of new keys, since the limit's table was full.");
    limits.iter().for_each(|limit| page.sample(OVERFLOW, &[("rule", &limit.name)], limit.overflowed));
}
