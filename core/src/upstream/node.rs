//! What all cores have in common about a cluster: which endpoints may be used, and what is counted for the whole node.
//! Made by the control thread, carried from plan to plan by name, read and changed by every core through the mesh's
//! words. Chooses nothing (`choose`) and judges nothing (`breaker`, `outlier`, the checks of `control`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ringway_config::snapshot::Cluster;

use super::breaker::Breaker;
use super::cluster::EndpointPlan;
use super::outlier::Record;
use crate::mesh::{Quota, Window, Word};
use crate::net::Address;

/// Its active checks have failed.
pub const UNWELL: u64 = 1;
/// It was ejected for what its requests came to.
pub const EJECTED: u64 = 1 << 1;
/// An operator drains it.
pub const DRAINED: u64 = 1 << 2;

/// No moment: nothing is due.
pub const NEVER: u64 = u64::MAX;

/// One endpoint of the node.
#[derive(Debug)]
pub struct EndpointNode {
    pub address: Address,
    pub label: String,
    /// Why it may not be used; 0: it may.
    barred: Arc<Word>,
    /// Since when it may be used, for the slow start; 0: from the beginning.
    since_ms: Arc<Word>,
    /// Its cluster's.
    version: Arc<Word>,
    pub record: Arc<Record>,
    pub breaker: Option<Breaker>,
    /// Open connections.
    pub connections: Arc<Quota>,
    /// Connections that are being opened.
    pub connects: Arc<Quota>,
    /// Active checks so far: good ones, failed ones.
    pub checked: [Arc<Word>; 2],
}

/// One cluster of the node.
#[derive(Debug)]
pub struct ClusterNode {
    pub name: String,
    /// In the order of the plan that made it.
    pub endpoints: Vec<Arc<EndpointNode>>,
    /// Counts every change of what may be used.
    version: Arc<Word>,
    /// When somebody has to look again: an ejection ends, an interval is over.
    pub due_ms: Arc<Word>,
    /// When the present interval of the outlier's rules ends.
    pub interval_ms: Arc<Word>,
    pub breaker: Option<Arc<Breaker>>,
    /// Requests and retries, for the budget.
    pub tried: Arc<Window<2>>,
    /// Requests under way, by `limits`.
    pub requests: Arc<Quota>,
    /// Requests under way, by the breaker.
    pub attempts: Arc<Quota>,
    /// Requests that wait for a place.
    pub queued: Arc<Quota>,
    pub counts: Arc<Counts>,
}

/// What happened, ever.
#[derive(Debug, Default)]
pub struct Counts {
    /// As of the cores' last ticks.
    pub requests: Word,
    pub retries: Word,
    /// Retries that the budget did not allow.
    pub retries_refused: Word,
    pub hedges: Word,
    /// Hedges whose answer came first.
    pub hedges_won: Word,
    /// Requests refused because a limit was reached.
    pub overflows: Word,
    /// Requests that waited for a place.
    pub waits: Word,
    /// Requests sent although their endpoint may not be used, since too few may.
    pub panics: Word,
}

impl EndpointNode {
    /// `known` is the same endpoint under other rules: what it has open stays counted.
    fn new(
        plan: &EndpointPlan,
        config: &Cluster,
        cores: usize,
        since_ms: u64,
        version: &Arc<Word>,
        known: Option<&Arc<EndpointNode>>,
    ) -> EndpointNode {
        let quota = |of: fn(&EndpointNode) -> &Arc<Quota>, max| {
            known.map_or_else(|| Quota::new(or_any(max)), |node| of(node).clone())
        };
        let limits = &config.limits;
        EndpointNode {
            address: plan.address.clone(),
            label: plan.label.clone(),
            barred: known.map_or_else(Arc::default, |node| node.barred.clone()),
            since_ms: known.map_or_else(|| Arc::new(Word::new(since_ms)), |node| node.since_ms.clone()),
            version: version.clone(),
            record: known.map_or_else(|| Arc::new(Record::new(cores)), |node| node.record.clone()),
            breaker: config.endpoint_breaker.is_some().then(|| Breaker::new(cores)),
            connections: quota(|node| &node.connections, limits.connections_per_endpoint_max),
            connects: quota(|node| &node.connects, limits.connects_per_endpoint_max),
            checked: known.map_or_else(Default::default, |node| node.checked.clone()),
        }
    }

    /// For people: as the operator wrote it, and which address of a name it is.
    pub fn name(&self) -> String {
        match &self.address {
            Address::Ip(address) if address.to_string() != self.label => format!("{}@{}", self.label, address.ip()),
            _ => self.label.clone(),
        }
    }

    /// Why it may not be used: [`UNWELL`], [`EJECTED`], [`DRAINED`].
    pub fn barred(&self) -> u64 {
        self.barred.get()
    }

    pub fn is_usable(&self) -> bool {
        self.barred.get() == 0
    }

    pub fn is_ejected(&self) -> bool {
        self.barred.get() & EJECTED != 0
    }

    /// Since when it may be used.
    pub fn since_ms(&self) -> u64 {
        self.since_ms.get()
    }

    /// Bars it; true if it was not for this reason.
    pub fn bar(&self, why: u64) -> bool {
        let changed = self.barred.raise(why);
        if changed {
            self.version.add(1);
        }
        changed
    }

    /// Takes the reason away; true if it was there. Without any other it starts slowly from now on.
    pub fn admit(&self, why: u64, now_ms: u64) -> bool {
        let changed = self.barred.lower(why);
        if changed {
            self.since_ms.set(now_ms);
            self.version.add(1);
        }
        changed
    }

    /// As if it had never been barred for this reason.
    pub fn unbar(&self, why: u64) {
        if self.barred.lower(why) {
            self.version.add(1);
        }
    }
}

/// Places that no node runs out of.
pub const NO_LIMIT: u32 = u32::MAX >> 1;

/// A limit of 0 is none; the quota then counts without refusing.
fn or_any(max: u32) -> u32 {
    if max == 0 { NO_LIMIT } else { max }
}

impl ClusterNode {
    /// For a cluster of a new plan; what `before` knew of it and of the same endpoints lives on. Changes nothing for who
    /// serves by the old plan: the new one may yet be refused. `now_ms` is the node's.
    pub fn next(
        config: &Cluster,
        endpoints: &[EndpointPlan],
        before: Option<&ClusterNode>,
        cores: usize,
        now_ms: u64,
    ) -> ClusterNode {
        let word = |known: fn(&ClusterNode) -> &Arc<Word>| before.map_or_else(Arc::default, |node| known(node).clone());
        let version = word(|node| &node.version);
        // A cluster that is new as a whole has nobody to spare its endpoints: no slow start.
        let since_ms = if before.is_some() { now_ms } else { 0 };
        let known: HashMap<(&Address, &str), &Arc<EndpointNode>> = before
            .iter()
            .flat_map(|node| &node.endpoints)
            .map(|node| ((&node.address, node.label.as_str()), node))
            .collect();
        let endpoint = |plan: &EndpointPlan| match known.get(&(&plan.address, plan.label.as_str())).copied() {
            Some(known) if known.breaker.is_some() == config.endpoint_breaker.is_some() => known.clone(),
            known => Arc::new(EndpointNode::new(plan, config, cores, since_ms, &version, known)),
        };
        let breaker = config.breaker.as_ref().map(|_| {
            let known = before.and_then(|node| node.breaker.clone());
            known.unwrap_or_else(|| Arc::new(Breaker::new(cores)))
        });
        let quota =
            |known: fn(&ClusterNode) -> &Arc<Quota>| before.map_or_else(|| Quota::new(0), |node| known(node).clone());
        let node = ClusterNode {
            name: config.name.clone(),
            endpoints: endpoints.iter().map(endpoint).collect(),
            version,
            due_ms: word(|node| &node.due_ms),
            interval_ms: word(|node| &node.interval_ms),
            breaker,
            tried: before.map_or_else(|| Arc::new(Window::new(cores)), |node| node.tried.clone()),
            requests: quota(|node| &node.requests),
            attempts: quota(|node| &node.attempts),
            queued: quota(|node| &node.queued),
            counts: before.map_or_else(Arc::default, |node| node.counts.clone()),
        };
        if before.is_none() {
            node.enforce(config);
        }
        node
    }

    /// Makes the configuration's limits those of the node; every core calls it as it begins to serve by the plan.
    pub fn enforce(&self, config: &Cluster) {
        let limits = &config.limits;
        self.requests.set_max(or_any(limits.requests_max));
        self.attempts.set_max(or_any(config.breaker.as_ref().map_or(0, |breaker| breaker.concurrent_max)));
        self.queued.set_max(limits.queue_max);
        for endpoint in &self.endpoints {
            endpoint.connections.set_max(or_any(limits.connections_per_endpoint_max));
            endpoint.connects.set_max(or_any(limits.connects_per_endpoint_max));
            if config.checks.is_none() {
                endpoint.unbar(UNWELL);
            }
            if config.outlier.is_none() {
                endpoint.unbar(EJECTED);
            }
        }
        // Other rules are looked at at once.
        self.due_ms.zero();
        self.version.add(1);
    }

    /// Changes whenever another set of endpoints may be used.
    pub fn version(&self) -> u64 {
        self.version.get()
    }

    /// Sees to it that somebody looks at `at_ms` at the latest.
    pub fn look_by(&self, at_ms: u64) {
        let mut due = self.due_ms.get();
        while at_ms < due && !self.due_ms.change(due, at_ms) {
            due = self.due_ms.get();
        }
    }
}

/// Milliseconds as the node's words have them.
pub fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}
