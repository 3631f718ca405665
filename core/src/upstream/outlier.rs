//! Which endpoints are left out for what their requests came to: errors in a row, errors of an interval, latency of an
//! interval. Reports of all cores are one count; whichever core sees that something is due does it. Reads no clock.
//!
//! The time of an ejection grows with each one that follows another: `ejection` times their number, up to
//! `ejection_max`. Each interval without one takes one off. Never is more than `ejected_percent_max` of the endpoints
//! ejected, except that one of several always may be; the last one that can be used never is.

use ringway_config::snapshot::Outlier as Rules;
use smallvec::SmallVec;

use super::node::{ClusterNode, EJECTED, EndpointNode, NEVER, millis};
use crate::mesh::{Window, Word};

/// Endpoints that are compared without an allocation.
const ENDPOINTS_INLINE: usize = 32;

const REQUESTS: usize = 0;
const ERRORS: usize = 1;
/// Microseconds to the head of the answer, of those that were answered.
const LATENCY: usize = 2;

/// What is known of one endpoint.
#[derive(Debug)]
pub struct Record {
    in_a_row: Word,
    /// Of the present interval.
    interval: Window<3, 1>,
    /// 0: not ejected.
    until_ms: Word,
    /// Ejections that followed one another.
    times: Word,
    /// Ever, by [`Why`].
    ejections: [Word; 3],
}

/// What an ejection was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    InARow,
    ErrorPercent,
    Latency,
}

impl Why {
    pub const ALL: [Why; 3] = [Why::InARow, Why::ErrorPercent, Why::Latency];

    pub fn label(self) -> &'static str {
        match self {
            Why::InARow => "consecutive_errors",
            Why::ErrorPercent => "error_percent",
            Why::Latency => "latency_percent",
        }
    }
}

impl Record {
    pub fn new(cores: usize) -> Record {
        Record {
            in_a_row: Word::default(),
            interval: Window::new(cores),
            until_ms: Word::default(),
            times: Word::default(),
            ejections: Default::default(),
        }
    }

    /// Ever.
    pub fn ejections(&self, why: Why) -> u64 {
        self.ejections[why as usize].get()
    }

    /// Until when by the node's clock; 0: not ejected.
    pub fn until_ms(&self) -> u64 {
        self.until_ms.get()
    }
}

/// An interval ends when it is judged, not with a step of the window.
const STEP_MS: u64 = u64::MAX;

/// One request to `endpoint` has come to its answer's head, or failed. `core` is the caller's. True if this ejected it.
pub fn report(
    cluster: &ClusterNode,
    endpoint: &EndpointNode,
    rules: &Rules,
    core: usize,
    now_ms: u64,
    latency_us: Option<u64>,
) -> bool {
    let record = &endpoint.record;
    let timed = rules.error_percent > 0 || rules.latency_percent > 0;
    if timed {
        record.interval.add(core, 0, STEP_MS, REQUESTS, 1);
    }
    match latency_us {
        Some(latency_us) => {
            if rules.latency_percent > 0 {
                record.interval.add(core, 0, STEP_MS, LATENCY, latency_us);
            }
            // Not yet the end of the row: the answer's body may break off. See `well`.
            false
        }
        None => {
            if timed {
                record.interval.add(core, 0, STEP_MS, ERRORS, 1);
            }
            failed(cluster, endpoint, rules, now_ms)
        }
    }
}

/// A request that went wrong, or an answer that broke off.
pub fn failed(cluster: &ClusterNode, endpoint: &EndpointNode, rules: &Rules, now_ms: u64) -> bool {
    let row = endpoint.record.in_a_row.add(1);
    rules.consecutive_errors > 0
        && row >= u64::from(rules.consecutive_errors)
        && eject(cluster, endpoint, rules, now_ms, Why::InARow)
}

/// A whole good answer ends a row of errors.
pub fn well(endpoint: &EndpointNode) {
    endpoint.record.in_a_row.zero();
}

/// To be called once [`ClusterNode::due_ms`] has come; one of the callers does what is due.
pub fn look(cluster: &ClusterNode, rules: Option<&Rules>, now_ms: u64) {
    let due = cluster.due_ms.get();
    if now_ms < due || !cluster.due_ms.change(due, NEVER) {
        return;
    }
    // Judged before anyone comes back: the interval in which an ejection ends forgives none.
    if let Some(rules) = rules {
        let end_ms = cluster.interval_ms.get();
        if now_ms >= end_ms {
            cluster.interval_ms.set(now_ms + millis(rules.interval));
            judge_interval(cluster, rules, now_ms);
        }
        cluster.look_by(cluster.interval_ms.get());
    }
    for endpoint in &cluster.endpoints {
        let until_ms = endpoint.record.until_ms.get();
        if until_ms > now_ms {
            cluster.look_by(until_ms);
        } else if until_ms > 0 && endpoint.record.until_ms.change(until_ms, 0) {
            endpoint.record.in_a_row.zero();
            endpoint.admit(EJECTED, now_ms);
        }
    }
}

/// What an interval says of each endpoint, which then begins anew.
fn judge_interval(cluster: &ClusterNode, rules: &Rules, now_ms: u64) {
    let seen: SmallVec<[[u64; 3]; ENDPOINTS_INLINE]> =
        cluster.endpoints.iter().map(|endpoint| endpoint.record.interval.sum(0, STEP_MS)).collect();
    let median = (rules.latency_percent > 0).then(|| median_latency(&seen, rules)).flatten();
    for (endpoint, [requests, errors, latency_us]) in std::iter::zip(&cluster.endpoints, &seen) {
        endpoint.record.interval.reset();
        if endpoint.is_ejected() {
            continue;
        }
        let times = endpoint.record.times.get();
        if times > 0 {
            endpoint.record.times.change(times, times - 1);
        }
        if *requests < u64::from(rules.requests_min) {
            continue;
        }
        let bad = rules.error_percent > 0 && errors * 100 >= u64::from(rules.error_percent) * requests;
        let slow = |median: u64| mean(*latency_us, requests - errors) * 100 > median * u64::from(rules.latency_percent);
        if bad {
            eject(cluster, endpoint, rules, now_ms, Why::ErrorPercent);
        } else if median.is_some_and(slow) {
            eject(cluster, endpoint, rules, now_ms, Why::Latency);
        }
    }
}

fn mean(sum: u64, count: u64) -> u64 {
    sum / count.max(1)
}

/// Of the endpoints' means, over those with enough answers; at least two, for one alone is not slow.
fn median_latency(seen: &[[u64; 3]], rules: &Rules) -> Option<u64> {
    let enough = |[requests, errors, _]: &&[u64; 3]| *requests >= u64::from(rules.requests_min) && requests > errors;
    let mut means: SmallVec<[u64; ENDPOINTS_INLINE]> =
        seen.iter().filter(enough).map(|[requests, errors, latency_us]| mean(*latency_us, requests - errors)).collect();
    if means.len() < 2 {
        return None;
    }
    means.sort_unstable();
    Some(means[(means.len() - 1) / 2])
}

/// True if it could be.
fn eject(cluster: &ClusterNode, endpoint: &EndpointNode, rules: &Rules, now_ms: u64, why: Why) -> bool {
    let most = (cluster.endpoints.len() * rules.ejected_percent_max as usize / 100).max(1);
    let count = |is: fn(&EndpointNode) -> bool| cluster.endpoints.iter().filter(|one| is(one)).count();
    let too_many = |ejected: usize| ejected > most || count(EndpointNode::is_usable) == 0;
    if count(EndpointNode::is_ejected) >= most || !endpoint.bar(EJECTED) {
        return false;
    }
    // Others may have ejected one at the same moment: who sees too many takes the own one back.
    if too_many(count(EndpointNode::is_ejected)) {
        endpoint.unbar(EJECTED);
        return false;
    }
    let times = endpoint.record.times.add(1);
    let time_ms = millis(rules.ejection).saturating_mul(times).min(millis(rules.ejection_max));
    endpoint.record.until_ms.set(now_ms + time_ms);
    endpoint.record.ejections[why as usize].add(1);
    cluster.look_by(now_ms + time_ms);
    true
}

#[cfg(test)]
mod tests;
