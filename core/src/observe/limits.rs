//! What the node knows of its rate and concurrency limits, as Prometheus shows it. Gathers nothing itself.

use std::collections::BTreeMap;

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
    pub fleet: Option<FleetFacts>,
}

/// Of a limit that a fleet shares.
#[derive(Debug, Clone, Default)]
pub struct FleetFacts {
    pub redis: String,
    /// By their heartbeats; 0: not known yet.
    pub gateways: u64,
    pub lent: u64,
    pub refused: u64,
    pub failed: u64,
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
    render_fleets(page, limits);
}

fn render_fleets(page: &mut Page, limits: &[LimitFacts]) {
    let fleets = || limits.iter().filter_map(|limit| Some((&limit.name, limit.fleet.as_ref()?)));
    if fleets().next().is_none() {
        return;
    }
    const QUESTIONS: &str = "ringway_ratelimit_questions_total";
    page.family(QUESTIONS, "counter", "Questions to the Redis that keeps a fleet's limit, by what came of them.");
    for (name, fleet) in fleets() {
        for (answer, count) in [("lent", fleet.lent), ("refused", fleet.refused), ("failed", fleet.failed)] {
            page.sample(QUESTIONS, &[("rule", name), ("answer", &answer)], count);
        }
    }
    const GATEWAYS: &str = "ringway_fleet_gateways";
    page.family(GATEWAYS, "gauge", "Gateways that share a Redis, by their heartbeats; 0: not known yet.");
    let by_redis: BTreeMap<&str, u64> = fleets().map(|(_, fleet)| (fleet.redis.as_str(), fleet.gateways)).collect();
    by_redis.iter().for_each(|(redis, gateways)| page.sample(GATEWAYS, &[("redis", redis)], *gateways));
}
