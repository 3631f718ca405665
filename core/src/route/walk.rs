//! One lookup: down the tries of the matching hosts, the likeliest winner first. Decides by the ranks that `build`
//! gave out; does not compare routes itself.

use super::asked::Asked;
use super::build::SEGMENTS_MAX;
use super::conditions::{MethodSet, Methods};
use super::path::Segments;
use super::{Missed, Query, RouteId, RouteTable};
use smallvec::SmallVec;
use std::ops::Range;

/// No child, or no candidate.
pub(super) const NONE: u32 = u32::MAX;
/// A node leaves at most its open end and its param for later before the walk goes one segment deeper.
const OPEN_MAX: usize = 96;
const _: () = assert!(2 * (SEGMENTS_MAX + 1) < OPEN_MAX);

/// A place in a trie: so many segments read. Half a cache line.
#[repr(align(32))]
#[derive(Clone, Copy)]
pub(super) struct Node {
    /// Child for a segment of any text, or [`NONE`].
    pub(super) param: u32,
    /// The table's edges hold literal children of it.
    pub(super) has_literals: bool,
    /// Candidates: `first..open` want the path to end here, `open..last` do not care.
    pub(super) first: u32,
    pub(super) open: u32,
    pub(super) last: u32,
    /// The best rank here and below, below `param`, and among the open ends: a walk with something better skips them.
    pub(super) best: u32,
    pub(super) best_param: u32,
    pub(super) best_open: u32,
}

/// A route at the end of its pattern.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    /// Place in the order of all routes, each taken with one kind of host pattern; the smallest that holds wins.
    pub(super) rank: u32,
    pub(super) route: RouteId,
    pub(super) methods: MethodSet,
    /// Index into the table's shapes: what it captures.
    pub(super) shape: u32,
    /// More is asked for than the method.
    pub(super) conditional: bool,
}

#[derive(Clone, Copy)]
struct Todo {
    /// No rank below it is smaller.
    best: u32,
    node: u32,
    /// Segments read before it.
    level: u16,
    /// Only the node's open end is left to do.
    open: bool,
}

/// What a lookup knows so far.
pub(super) struct Found {
    rank: u32,
    winner: RouteId,
    /// The winner's.
    pub(super) shape: u32,
    /// Listener, host and path of some route match.
    path: bool,
    /// And its method.
    method: bool,
    /// Methods of the routes whose listener, host and path match.
    allow: MethodSet,
    pub(super) visits: u32,
    /// Expressions run on the path.
    pub(super) tries: u32,
}

impl Found {
    pub(super) fn route(&self) -> Option<RouteId> {
        (self.rank != NONE).then_some(self.winner)
    }

    pub(super) fn outcome(&self, methods: &Methods) -> Result<RouteId, Missed> {
        match self.route() {
            Some(route) => Ok(route),
            None if self.method => Err(Missed::Conditions),
            None if self.path => Err(Missed::Method(methods.allow(self.allow))),
            None => Err(Missed::Path),
        }
    }
}

pub(super) struct Walk<'a, 'd> {
    table: &'a RouteTable,
    query: &'a Query<'a>,
    asked: Asked<'a, 'd>,
    method: MethodSet,
    pub(super) segments: Segments<'a>,
    found: Found,
}

impl<'a, 'd> Walk<'a, 'd> {
    /// The path is decoded into `decoded`, if anything asks for it.
    #[inline] // or half a kilobyte of segments is copied on its way out
    pub(super) fn new(table: &'a RouteTable, query: &'a Query<'a>, decoded: &'d mut Vec<u8>) -> Self {
        Walk {
            table,
            query,
            asked: Asked::new(query, decoded),
            method: table.methods.one(query.method),
            segments: Segments::new(query.path, &table.hasher),
            found: Found {
                rank: NONE,
                winner: 0,
                shape: 0,
                path: false,
                method: false,
                allow: MethodSet::NONE,
                visits: 0,
                tries: 0,
            },
        }
    }

    pub(super) fn run(&mut self) -> &Found {
        // Offsets are kept in 32 bits. `OPTIONS *` is no path.
        if self.query.path.first() == Some(&b'/') && u32::try_from(self.query.path.len()).is_ok() {
            let hosts = &self.table.hosts;
            let mut next = Some(hosts.find(self.query.host, &self.table.hasher));
            while let Some(index) = next {
                let host = hosts.entry(index);
                self.descend(host.root);
                next = host.next;
            }
        }
        &self.found
    }

    /// Depth first: literal, then param, then open end, which is the order of closeness; so the first hit is mostly
    /// the winner, and the ranks cut what is left.
    fn descend(&mut self, root: u32) {
        let table = self.table;
        let mut todo: SmallVec<[Todo; OPEN_MAX]> = SmallVec::new();
        todo.push(Todo { best: 0, node: root, level: 0, open: false });
        while let Some(Todo { best, node: id, level, open }) = todo.pop() {
            if best >= self.found.rank {
                continue;
            }
            let node = &table.nodes[id as usize];
            if open {
                self.judge(node.open..node.last);
                continue;
            }
            self.found.visits += 1;
            if node.best >= self.found.rank {
                continue;
            }
            if node.best_open < self.found.rank {
                todo.push(Todo { best: node.best_open, node: id, level, open: true });
            }
            if self.segments.ended(usize::from(level)) {
                self.judge(node.first..node.open);
                continue;
            }
            if node.param == NONE && !node.has_literals {
                continue;
            }
            let Some(segment) = self.segments.get(usize::from(level)) else { continue };
            if node.best_param < self.found.rank && !segment.is_empty() {
                todo.push(Todo { best: node.best_param, node: node.param, level: level + 1, open: false });
            }
            if node.has_literals
                && let Some(child) = table.edges.get(id, segment.hash, |name| self.segments.is(segment, name))
            {
                todo.push(Todo { best: 0, node: child, level: level + 1, open: false });
            }
        }
    }

    /// Candidates of one place, best first: the first that holds is the best of them.
    fn judge(&mut self, candidates: Range<u32>) {
        let table = self.table;
        for candidate in &table.candidates[candidates.start as usize..candidates.end as usize] {
            if candidate.rank >= self.found.rank {
                return;
            }
            let conditions = candidate.conditional.then(|| &table.conditions[candidate.route as usize]);
            if conditions.is_some_and(|conditions| !conditions.listens(self.query.listener)) {
                continue;
            }
            if let Some(expression) = conditions.and_then(|conditions| conditions.expression.as_ref()) {
                self.found.tries += 1;
                if !expression.matches(self.asked.path()) {
                    continue;
                }
            }
            self.found.path = true;
            self.found.allow |= candidate.methods;
            if !candidate.methods.meets(self.method) {
                continue;
            }
            self.found.method = true;
            if conditions.is_some_and(|conditions| !conditions.program.holds(&mut self.asked)) {
                continue;
            }
            self.found.rank = candidate.rank;
            self.found.winner = candidate.route;
            self.found.shape = candidate.shape;
            return;
        }
    }
}
