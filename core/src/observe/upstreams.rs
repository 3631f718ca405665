//! What the node as a whole knows of its clusters and endpoints, as Prometheus shows it. Gathers nothing itself.

use super::prometheus::Page;

/// One cluster.
#[derive(Debug, Clone, Default)]
pub struct ClusterFacts {
    pub name: String,
    /// 0 closed, 1 half-open, 2 open; `None`: it has no breaker.
    pub circuit: Option<u64>,
    pub circuit_opened: u64,
    pub circuit_refused: u64,
    pub requests: u64,
    pub retries: u64,
    pub retries_refused: u64,
    /// Of requests and of retries in the last ten seconds.
    pub budget: [u64; 2],
    pub hedges: u64,
    pub hedges_won: u64,
    pub overflows: u64,
    pub waits: u64,
    pub panics: u64,
    /// Places of the node's limit that cores hold; `None`: no limit.
    pub requests_lent: Option<u64>,
    pub queued: u64,
    pub endpoints: Vec<EndpointFacts>,
}

/// One endpoint.
#[derive(Debug, Clone, Default)]
pub struct EndpointFacts {
    pub label: String,
    pub up: bool,
    /// By reason: checks failed, ejected, drained.
    pub barred: [bool; 3],
    /// By rule.
    pub ejections: Vec<(&'static str, u64)>,
    pub circuit: Option<u64>,
    /// Good ones, failed ones; `None`: it is not checked.
    pub checks: Option<[u64; 2]>,
    pub connections: u64,
    pub connecting: u64,
}

/// Why an endpoint is out.
pub const BARRED: [&str; 3] = ["check", "outlier", "drained"];

type Value = fn(&ClusterFacts) -> Option<u64>;

/// Name, kind, help, and what it is of a cluster.
const OF_CLUSTERS: [(&str, &str, &str, Value); 14] = [
    ("ringway_upstream_requests_total", "counter", "Requests sent to the cluster, tries again not counted.", |c| {
        Some(c.requests)
    }),
    ("ringway_circuit_opened_total", "counter", "Times that the breaker opened.", |c| {
        c.circuit.map(|_| c.circuit_opened)
    }),
    ("ringway_circuit_refused_total", "counter", "Requests that the open breaker spared the cluster.", |c| {
        c.circuit.map(|_| c.circuit_refused)
    }),
    ("ringway_upstream_retries_total", "counter", "Requests tried again by the retry rules.", |c| Some(c.retries)),
    ("ringway_upstream_retries_refused_total", "counter", "Retries and hedges that the budget did not allow.", |c| {
        Some(c.retries_refused)
    }),
    (
        "ringway_upstream_budget_requests",
        "gauge",
        "Requests of the last ten seconds that the retry budget counts.",
        |c| Some(c.budget[0]),
    ),
    (
        "ringway_upstream_budget_retries",
        "gauge",
        "Retries of the last ten seconds that the retry budget counts.",
        |c| Some(c.budget[1]),
    ),
    ("ringway_upstream_hedges_total", "counter", "Second requests beside a slow first one.", |c| Some(c.hedges)),
    ("ringway_upstream_hedges_won_total", "counter", "Second requests that were answered first.", |c| {
        Some(c.hedges_won)
    }),
    (
        "ringway_upstream_overflows_total",
        "counter",
        "Requests refused because a limit of the cluster was reached.",
        |c| Some(c.overflows),
    ),
    ("ringway_upstream_queue_waits_total", "counter", "Requests that waited for a place.", |c| Some(c.waits)),
    ("ringway_upstream_queue_length", "gauge", "Requests that wait for a place now.", |c| Some(c.queued)),
    ("ringway_upstream_requests_lent", "gauge", "Places of the limit of requests that cores hold.", |c| {
        c.requests_lent
    }),
    (
        "ringway_upstream_panic_requests_total",
        "counter",
        "Requests to endpoints that are out, since too few are well.",
        |c| Some(c.panics),
    ),
];

pub(super) fn render(page: &mut Page, clusters: &[ClusterFacts]) {
    circuits(page, clusters);
    for (name, kind, help, value) in OF_CLUSTERS {
        page.family(name, kind, help);
        for cluster in clusters {
            if let Some(value) = value(cluster) {
                page.sample(name, &[("cluster", &cluster.name)], value);
            }
        }
    }
    endpoints(page, clusters);
}

fn circuits(page: &mut Page, clusters: &[ClusterFacts]) {
    const STATE: &str = "ringway_circuit_state";
    page.family(STATE, "gauge", "0 closed, 1 half-open, 2 open; endpoint \"\" is the cluster's own.");
    for cluster in clusters {
        let of_endpoints = cluster.endpoints.iter().map(|endpoint| (endpoint.label.as_str(), endpoint.circuit));
        for (endpoint, circuit) in std::iter::once(("", cluster.circuit)).chain(of_endpoints) {
            if let Some(circuit) = circuit {
                page.sample(STATE, &[("cluster", &cluster.name), ("endpoint", &endpoint)], circuit);
            }
        }
    }
}

fn endpoints(page: &mut Page, clusters: &[ClusterFacts]) {
    let all =
        || clusters.iter().flat_map(|cluster| cluster.endpoints.iter().map(move |endpoint| (&cluster.name, endpoint)));
    const UP: &str = "ringway_upstream_up";
    page.family(UP, "gauge", "1 if the endpoint may be used.");
    for (cluster, endpoint) in all() {
        page.sample(UP, &[("cluster", cluster), ("endpoint", &endpoint.label)], u64::from(endpoint.up));
    }
    const OUT: &str = "ringway_upstream_out";
    page.family(OUT, "gauge", "1 for each reason why the endpoint may not be used.");
    for (cluster, endpoint) in all() {
        for (reason, barred) in std::iter::zip(BARRED, endpoint.barred) {
            let labels: [(&str, &dyn std::fmt::Display); 3] =
                [("cluster", cluster), ("endpoint", &endpoint.label), ("reason", &reason)];
            page.sample(OUT, &labels, u64::from(barred));
        }
    }
    const EJECTIONS: &str = "ringway_upstream_ejections_total";
    page.family(EJECTIONS, "counter", "Times that the endpoint was ejected, by the rule that did it.");
    for (cluster, endpoint) in all() {
        for (rule, count) in &endpoint.ejections {
            let labels: [(&str, &dyn std::fmt::Display); 3] =
                [("cluster", cluster), ("endpoint", &endpoint.label), ("rule", rule)];
            page.sample(EJECTIONS, &labels, *count);
        }
    }
    const CHECKS: &str = "ringway_upstream_checks_total";
    page.family(CHECKS, "counter", "Active checks of the endpoint.");
    for (cluster, endpoint) in all() {
        for (result, count) in std::iter::zip(["ok", "failed"], endpoint.checks.iter().flatten()) {
            let labels: [(&str, &dyn std::fmt::Display); 3] =
                [("cluster", cluster), ("endpoint", &endpoint.label), ("result", &result)];
            page.sample(CHECKS, &labels, *count);
        }
    }
    const CONNECTIONS: &str = "ringway_upstream_connections";
    page.family(CONNECTIONS, "gauge", "Connections to the endpoint over all cores, as of their last tick.");
    for (cluster, endpoint) in all() {
        for (state, count) in [("open", endpoint.connections), ("connecting", endpoint.connecting)] {
            let labels: [(&str, &dyn std::fmt::Display); 3] =
                [("cluster", cluster), ("endpoint", &endpoint.label), ("state", &state)];
            page.sample(CONNECTIONS, &labels, count);
        }
    }
}
