//! Clusters and endpoints as an operator sees and touches them: the facts for the metrics, the list and the drain of the
//! control socket, and a line for each change that the cores made by themselves.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use super::http::Answer;
use super::{Control, say};
use crate::mesh::{Notice, Quota};
use crate::observe::{ClusterFacts, EndpointFacts};
use crate::plan::Plan;
use crate::upstream::node::{DRAINED, EJECTED, UNWELL};
use crate::upstream::outlier::Why;
use crate::upstream::{Circuit, ClusterPlan, EndpointNode, budget};

/// What was last said of each cluster and endpoint.
#[derive(Default)]
pub struct Said {
    circuits: RefCell<HashMap<(String, String), Circuit>>,
    ejected: RefCell<HashMap<(String, String), bool>>,
    /// Subjects that are not well.
    notices: RefCell<HashSet<String>>,
}

pub fn facts(plan: &Plan) -> Vec<ClusterFacts> {
    let now_ms = plan.node.epoch.elapsed().as_millis() as u64;
    plan.clusters.iter().map(|cluster| of_cluster(cluster, now_ms)).collect()
}

fn of_cluster(plan: &ClusterPlan, now_ms: u64) -> ClusterFacts {
    let (node, config) = (&plan.node, &plan.config);
    let under = config.breaker.as_ref().zip(node.breaker.as_deref());
    let counts = &node.counts;
    let limited = |quota: &Quota, max: u32| (max > 0).then(|| quota.lent());
    let breaker_max = config.breaker.as_ref().map_or(0, |breaker| breaker.concurrent_max);
    ClusterFacts {
        name: config.name.clone(),
        circuit: under.map(|(rules, breaker)| breaker.circuit(rules) as u64),
        circuit_opened: under.map_or(0, |(_, breaker)| breaker.opened()),
        circuit_refused: under.map_or(0, |(_, breaker)| breaker.refused()),
        requests: counts.requests.get(),
        retries: counts.retries.get(),
        retries_refused: counts.retries_refused.get(),
        budget: budget(node, now_ms),
        hedges: counts.hedges.get(),
        hedges_won: counts.hedges_won.get(),
        overflows: counts.overflows.get(),
        waits: counts.waits.get(),
        panics: counts.panics.get(),
        requests_lent: limited(&node.requests, config.limits.requests_max).or(limited(&node.attempts, breaker_max)),
        queued: node.queued.lent(),
        endpoints: node.endpoints.iter().map(|endpoint| of_endpoint(plan, endpoint)).collect(),
    }
}

fn of_endpoint(plan: &ClusterPlan, node: &EndpointNode) -> EndpointFacts {
    let circuit = plan.config.endpoint_breaker.as_ref().zip(node.breaker.as_ref());
    let ejections =
        plan.config.outlier.as_ref().map(|_| Why::ALL.map(|why| (why.label(), node.record.ejections(why))).to_vec());
    EndpointFacts {
        label: node.name(),
        up: node.is_usable(),
        barred: [UNWELL, EJECTED, DRAINED].map(|why| node.barred() & why != 0),
        ejections: ejections.unwrap_or_default(),
        circuit: circuit.map(|(rules, breaker)| breaker.circuit(rules) as u64),
        checks: plan.config.checks.as_ref().map(|_| node.checked.each_ref().map(|count| count.get())),
        connections: node.connections.lent(),
        connecting: node.connects.lent(),
    }
}

impl Control {
    /// Says what the cores have decided since the last time.
    pub fn watch_upstreams(&self) {
        let plan = self.serving.borrow().plan.clone();
        let now_ms = plan.node.epoch.elapsed().as_millis() as u64;
        for cluster in &plan.clusters {
            if let Some((rules, breaker)) = cluster.config.breaker.as_ref().zip(cluster.node.breaker.as_deref()) {
                self.said.circuit(&cluster.config.name, "", breaker.circuit(rules));
            }
            for node in &cluster.node.endpoints {
                if let Some((rules, breaker)) = cluster.config.endpoint_breaker.as_ref().zip(node.breaker.as_ref()) {
                    self.said.circuit(&cluster.config.name, &node.name(), breaker.circuit(rules));
                }
                if cluster.config.outlier.is_some() {
                    self.said.ejected(&cluster.config.name, node, now_ms);
                }
            }
        }
    }

    /// `cluster=NAME&endpoint=ADDRESS`: takes no more requests, or takes them again. Those under way end as they would.
    pub fn drain_endpoint(&self, query: &str, drain: bool) -> Answer {
        let key = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let value = pairs.into_iter().find(|(key, _)| *key == name)?.1;
            let mut text = Vec::new();
            ringway_proto::decode_segment(value.as_bytes(), &mut text);
            String::from_utf8(text).ok()
        };
        let (Some(cluster), Some(endpoint)) = (key("cluster"), key("endpoint")) else {
            return Answer::text(400, "Name both: cluster=NAME&endpoint=ADDRESS.\n");
        };
        let plan = self.serving.borrow().plan.clone();
        let Some(found) = plan.clusters.iter().find(|one| one.config.name == cluster) else {
            let names: Vec<&str> = plan.clusters.iter().map(|one| one.config.name.as_str()).collect();
            return Answer::text(404, format!("no cluster {cluster:?}; there are {}\n", names.join(", ")));
        };
        let now_ms = plan.node.epoch.elapsed().as_millis() as u64;
        let named = |node: &&std::sync::Arc<EndpointNode>| node.label == endpoint || node.name() == endpoint;
        let nodes: Vec<_> = found.node.endpoints.iter().filter(named).collect();
        if nodes.is_empty() {
            let names: Vec<String> = found.node.endpoints.iter().map(|node| node.name()).collect();
            return Answer::text(
                404,
                format!("no endpoint {endpoint:?} in {cluster}; there are {}\n", names.join(", ")),
            );
        }
        let changed = |node: &EndpointNode| if drain { node.bar(DRAINED) } else { node.admit(DRAINED, now_ms) };
        let changed = nodes.iter().filter(|node| changed(node)).count();
        let said = match (drain, changed > 0) {
            (true, true) => format!("{cluster}: {endpoint} takes no more requests"),
            (true, false) => format!("{cluster}: {endpoint} is drained already"),
            (false, true) => format!("{cluster}: {endpoint} takes requests again"),
            (false, false) => format!("{cluster}: {endpoint} was not drained"),
        };
        say(&said);
        Answer::text(200, said + "\n")
    }

    /// One line for each endpoint.
    pub fn list_endpoints(&self) -> Answer {
        let plan = self.serving.borrow().plan.clone();
        let mut text = format!("{:<24} {:<28} {:<12} {}\n", "CLUSTER", "ENDPOINT", "STATE", "CONNECTIONS");
        for cluster in facts(&plan) {
            for endpoint in cluster.endpoints {
                let reasons = std::iter::zip(crate::observe::upstreams::BARRED, endpoint.barred);
                let out: Vec<&str> = reasons.filter(|(_, barred)| *barred).map(|(reason, _)| reason).collect();
                let state = if out.is_empty() { "up".to_owned() } else { format!("out: {}", out.join("+")) };
                text +=
                    &format!("{:<24} {:<28} {:<12} {}\n", cluster.name, endpoint.label, state, endpoint.connections);
            }
        }
        Answer::text(200, text)
    }
}

impl Said {
    /// Cores see the same change one after the other; the first one's words are said.
    pub fn notice(&self, notice: Notice) {
        let Notice { subject, well, text } = notice;
        let mut notices = self.notices.borrow_mut();
        let is_news = if well { notices.remove(&subject) } else { notices.insert(subject) };
        if is_news {
            say(&text);
        }
    }

    fn circuit(&self, cluster: &str, endpoint: &str, now: Circuit) {
        let key = (cluster.to_owned(), endpoint.to_owned());
        let before = self.circuits.borrow_mut().insert(key, now).unwrap_or(Circuit::Closed);
        if before == now {
            return;
        }
        let of = if endpoint.is_empty() { String::new() } else { format!(" of {endpoint}") };
        say(&format!(
            "cluster {cluster}: the circuit{of} is {}",
            match now {
                Circuit::Closed => "closed again",
                Circuit::HalfOpen => "half-open: one request tries",
                Circuit::Open => "open: too many requests failed",
            }
        ));
    }

    fn ejected(&self, cluster: &str, node: &EndpointNode, now_ms: u64) {
        let (endpoint, now) = (node.name(), node.is_ejected());
        let before = self.ejected.borrow_mut().insert((cluster.to_owned(), endpoint.clone()), now).unwrap_or(false);
        match (before, now) {
            (false, true) => {
                let left_s = node.record.until_ms().saturating_sub(now_ms).div_ceil(1000);
                say(&format!("cluster {cluster}: {endpoint} is ejected for {left_s} s more"));
            }
            (true, false) => say(&format!("cluster {cluster}: {endpoint} is no longer ejected")),
            _ => {}
        }
    }
}
