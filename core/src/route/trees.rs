//! The tries while they grow, and their freezing into flat arrays. Knows neither hosts nor the order of routes.

use super::build::{BuildError, NODES_MAX};
use super::edges::Edge;
use super::pattern::{End, Pattern, Step};
use super::walk::{Candidate, NONE, Node};
use std::collections::HashMap;

#[derive(Default)]
pub(super) struct Trees<'a> {
    /// A child always comes after its parent.
    nodes: Vec<Draft>,
    literals: HashMap<(u32, &'a [u8]), u32, ahash::RandomState>,
}

struct Draft {
    /// [`NONE`] for a root.
    parent: u32,
    param: u32,
    has_literals: bool,
    exact: Vec<Candidate>,
    open: Vec<Candidate>,
    /// How many of `open` have an expression.
    expressions: u32,
}

/// What a lookup reads.
pub(super) struct Frozen {
    pub(super) nodes: Box<[Node]>,
    pub(super) candidates: Box<[Candidate]>,
    /// By node.
    pub(super) costs: Vec<Cost>,
}

/// The most that one path can cost from a node down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// Nodes that are touched.
    pub(super) visits: u32,
    /// Expressions that are tried.
    pub(super) tries: u32,
    /// Routes whose conditions are looked at.
    pub(super) candidates: u32,
}

impl Cost {
    pub(super) fn and(self, other: Cost) -> Cost {
        let Cost { visits, tries, candidates } = other;
        Cost {
            visits: self.visits.saturating_add(visits),
            tries: self.tries.saturating_add(tries),
            candidates: self.candidates.saturating_add(candidates),
        }
    }

    fn or(self, other: Cost) -> Cost {
        Cost {
            visits: self.visits.max(other.visits),
            tries: self.tries.max(other.tries),
            candidates: self.candidates.max(other.candidates),
        }
    }
}

impl<'a> Trees<'a> {
    pub(super) fn root(&mut self) -> u32 {
        self.add(NONE)
    }

    fn add(&mut self, parent: u32) -> u32 {
        let (exact, open) = (Vec::new(), Vec::new());
        self.nodes.push(Draft { parent, param: NONE, has_literals: false, exact, open, expressions: 0 });
        self.nodes.len() as u32 - 1
    }

    pub(super) fn insert(&mut self, root: u32, pattern: &'a Pattern, candidate: Candidate) -> Result<(), BuildError> {
        let mut here = root;
        for step in &pattern.steps {
            let known = match step {
                Step::Literal(text) => self.literals.get(&(here, &**text)).copied(),
                Step::Param => Some(self.nodes[here as usize].param).filter(|child| *child != NONE),
            };
            here = known.unwrap_or_else(|| {
                let child = self.add(here);
                match step {
                    Step::Literal(text) => {
                        self.literals.insert((here, text), child);
                        self.nodes[here as usize].has_literals = true;
                    }
                    Step::Param => self.nodes[here as usize].param = child,
                }
                child
            });
        }
        let node = &mut self.nodes[here as usize];
        node.expressions += u32::from(pattern.expression.is_some());
        match pattern.end {
            End::Exact => node.exact.push(candidate),
            End::Open => node.open.push(candidate),
        }
        if self.nodes.len() > NODES_MAX { Err(BuildError::Nodes) } else { Ok(()) }
    }

    pub(super) fn edges(&self) -> impl ExactSizeIterator<Item = Edge<'a>> + '_ {
        self.literals.iter().map(|((parent, name), child)| Edge { parent: *parent, name, child: *child })
    }

    pub(super) fn freeze(mut self) -> Frozen {
        let mut candidates = Vec::new();
        let mut nodes = Vec::with_capacity(self.nodes.len());
        for draft in &mut self.nodes {
            draft.exact.sort_unstable_by_key(|candidate| candidate.rank);
            draft.open.sort_unstable_by_key(|candidate| candidate.rank);
            let best = |list: &[Candidate]| list.first().map_or(NONE, |candidate| candidate.rank);
            let (best_exact, best_open) = (best(&draft.exact), best(&draft.open));
            let first = candidates.len() as u32;
            candidates.append(&mut draft.exact);
            let open = candidates.len() as u32;
            candidates.append(&mut draft.open);
            nodes.push(Node {
                param: draft.param,
                has_literals: draft.has_literals,
                first,
                open,
                last: candidates.len() as u32,
                best: best_exact.min(best_open),
                best_param: NONE,
                best_open,
            });
        }
        let costs = self.sum_up(&mut nodes);
        Frozen { nodes: nodes.into(), candidates: candidates.into(), costs }
    }

    /// Carries ranks and costs from the leaves to the roots. A path can follow one literal and the param of a node.
    fn sum_up(&self, nodes: &mut [Node]) -> Vec<Cost> {
        let mut by_literal = vec![Cost::default(); nodes.len()];
        let mut by_param = by_literal.clone();
        let mut costs = by_literal.clone();
        for id in (0..nodes.len()).rev() {
            let candidates = nodes[id].last - nodes[id].first;
            let own = Cost { visits: 1, tries: self.nodes[id].expressions, candidates };
            costs[id] = by_literal[id].and(by_param[id]).and(own);
            let parent = self.nodes[id].parent;
            if parent == NONE {
                continue;
            }
            let (best, parent) = (nodes[id].best, parent as usize);
            nodes[parent].best = nodes[parent].best.min(best);
            if nodes[parent].param == id as u32 {
                nodes[parent].best_param = best;
                by_param[parent] = costs[id];
            } else {
                by_literal[parent] = by_literal[parent].or(costs[id]);
            }
        }
        costs
    }
}
