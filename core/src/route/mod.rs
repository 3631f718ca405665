//! Host, path and conditions of a request → the index of its route, or why there is none. Does not normalise paths
//! (`ringway-proto`), run filters or choose a cluster. `README.md` states the rules as operators read them.

mod asked;
mod automata;
mod build;
mod captures;
mod conditions;
mod edges;
mod explain;
mod host_map;
mod hosts;
mod order;
mod path;
mod pattern;
mod pins;
pub mod split;
mod program;
mod trees;
mod walk;

#[cfg(test)]
mod tests;

pub use automata::{AUTOMATA_BYTES_MAX, AUTOMATON_BYTES_MAX, TooLarge};
pub use build::{
    BuildError, CANDIDATES_MAX, HOST_BYTES_MAX, LITERAL_BYTES_MAX, METHODS_MAX, NODES_MAX, SEGMENTS_MAX, TRIES_MAX,
    VISITS_MAX,
};
pub use captures::Captures;
pub use conditions::Allow;
pub use explain::{Because, Mismatch, Verdict, Why};
pub use host_map::HostMap;
pub use pins::Pins;

use captures::Shape;
use conditions::{Conditions, Methods};
use edges::Edges;
use hosts::Hosts;
use pattern::Pattern;
use ringway_config::snapshot::{Condition, HostPattern, Route, Snapshot};
use std::net::IpAddr;
use walk::{Candidate, Node};

/// Index into [`Snapshot::routes`].
pub type RouteId = u32;

/// What a route is chosen by.
pub struct Query<'a> {
    /// Index into [`Snapshot::listeners`].
    pub listener: u32,
    /// Any case, without port; may be empty.
    pub host: &'a [u8],
    /// Normalised; starts with `/`; reserved characters may still be percent-encoded.
    pub path: &'a [u8],
    /// What follows the `?`, as it came; may be empty.
    pub query_string: &'a [u8],
    pub method: &'a [u8],
    pub fields: &'a dyn FieldSource,
}

impl Query<'_> {
    /// True as soon as `test` holds for one decoded value of the query parameter `name`. Not for the hot path.
    pub fn any_param(&self, name: &str, test: impl FnMut(&[u8]) -> bool) -> bool {
        asked::Asked::new(self, &mut Vec::new()).any_param(name, test)
    }
}

/// What is only read if a condition asks for it: the request's header lines, wherever they are kept, and its client.
pub trait FieldSource {
    /// True as soon as `test` holds for one value of the header `name` (lower case), asked in the order of the lines; of
    /// the query parameter `name` for `?name`, its values decoded.
    fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool;

    /// The client's address, through trusted proxies.
    fn client_ip(&self) -> IpAddr;

    /// True if the client speaks TLS, to us or to a trusted proxy that says so.
    fn is_https(&self) -> bool {
        false
    }
}

/// Why a request has no route. The client's fault, each; none is worth a retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missed {
    /// 404: no route of this listener has this host and path.
    Path,
    /// 405: some have, and none of them takes the method.
    Method(Allow),
    /// 404: one takes the method too, but its conditions fail.
    Conditions,
    /// 400: another reading of the path reaches another route, or none.
    Ambiguous,
}

/// Every route of a snapshot, compiled. Immutable and flat: built on the control thread, read by every core.
///
/// One trie of path segments for each set of routes that some host sees; a host leads to its own trie and then to those
/// of the less specific host patterns. A request walks them most specific branch first and skips what cannot beat the
/// candidate it already has. No node is visited twice, and [`VISITS_MAX`] bounds the visits of any request: a longer
/// path cannot buy more of them.
pub struct RouteTable {
    /// Keyed afresh for each table, since clients choose what is hashed.
    hasher: ahash::RandomState,
    hosts: Hosts,
    nodes: Box<[Node]>,
    edges: Edges,
    /// Those of one node side by side, best first.
    candidates: Box<[Candidate]>,
    methods: Methods,
    /// Each different one once.
    shapes: Box<[Shape]>,
    /// By [`RouteId`].
    conditions: Box<[Conditions]>,
    /// By [`RouteId`].
    rules: Box<[Rule]>,
}

/// What a route says, for labels, captures and explanations: nothing that a lookup reads before it has a winner.
struct Rule {
    name: Box<str>,
    label: Box<str>,
    pattern: Pattern,
    hosts: Box<[HostPattern]>,
    conditions: Box<[Condition]>,
    priority: i32,
}

impl RouteTable {
    pub fn build(snapshot: &Snapshot) -> Result<RouteTable, BuildError> {
        let listeners: Vec<&str> = snapshot.listeners.iter().map(|listener| listener.name.as_str()).collect();
        build::compile(&snapshot.routes, &listeners)
    }

    /// The same without a whole snapshot around it; `listeners` in the order of their indices.
    pub fn compile(routes: &[Route], listeners: &[&str]) -> Result<RouteTable, BuildError> {
        build::compile(routes, listeners)
    }

    /// The route that takes the request. `captures` is empty if there is none.
    pub fn find(&self, query: &Query<'_>, captures: &mut Captures) -> Result<RouteId, Missed> {
        captures.clear();
        // Lent to the walk by itself, so that the walk need not be moved to let go of it.
        let mut decoded = std::mem::take(&mut captures.decoded);
        let mut walk = walk::Walk::new(self, query, &mut decoded);
        let found = walk.run();
        let (shape, found) = (found.shape, found.outcome(&self.methods));
        if let Ok(route) = found {
            let shape = &self.shapes[shape as usize];
            if !shape.groups {
                captures.fill(shape, &mut walk.segments);
            } else if let Some(automaton) = &self.conditions[route as usize].expression {
                let path = if walk.segments.escaped { decoded.as_slice() } else { query.path };
                captures.fill_groups(automaton, query.path, path);
            }
        }
        captures.decoded = decoded;
        found
    }

    /// Like [`find`](Self::find), for a path that an origin might read in other ways than we do: a request whose
    /// readings do not all reach the same route is [`Missed::Ambiguous`], so that an origin never sees a path which
    /// another route, with other filters, would have taken. If no reading reaches a route, the answer is that of `find`.
    pub fn find_all_readings(
        &self,
        query: &Query<'_>,
        readings: impl Iterator<Item = impl AsRef<[u8]>>,
        captures: &mut Captures,
    ) -> Result<RouteId, Missed> {
        let normal = self.find(query, captures);
        for reading in readings {
            let query = Query { path: reading.as_ref(), ..*query };
            let other = walk::Walk::new(self, &query, &mut captures.decoded).run().route();
            if other != normal.as_ref().ok().copied() {
                return Err(Missed::Ambiguous);
            }
        }
        normal
    }

    /// The route's pattern for metrics: `/users/{id}`, `/api/*` for a prefix. Never holds bytes of a request.
    pub fn label(&self, route: RouteId) -> &str {
        &self.rules[route as usize].label
    }

    pub fn name(&self, route: RouteId) -> &str {
        &self.rules[route as usize].name
    }

    /// The names of what [`Captures`] holds after this route was found, in the same order.
    pub fn param_names(&self, route: RouteId) -> &[Box<str>] {
        &self.rules[route as usize].pattern.params
    }

    /// Segments of the route's `path_prefix`; `None` if it has none of its own, but a whole path.
    pub fn prefix_segments(&self, route: RouteId) -> Option<usize> {
        let pattern = &self.rules[route as usize].pattern;
        (pattern.end == pattern::End::Open && !pattern.captures_rest).then_some(pattern.steps.len())
    }

    /// Tree nodes that this request touches: what the bound on visits is tested by.
    pub fn visits(&self, query: &Query<'_>) -> u32 {
        walk::Walk::new(self, query, &mut Vec::new()).run().visits
    }

    /// Expressions that this request is tried by: what the bound on tries is tested by.
    pub fn tries(&self, query: &Query<'_>) -> u32 {
        walk::Walk::new(self, query, &mut Vec::new()).run().tries
    }

    pub fn len(&self) -> usize {
        self.rules.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

const _: () = {
    const fn shared_by_cores<T: Send + Sync>() {}
    shared_by_cores::<RouteTable>();
};
