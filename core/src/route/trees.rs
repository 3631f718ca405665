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
}

/// What a lookup reads.
pub(super) struct Frozen {
    pub(super) nodes: Box<[Node]>,
    pub(super) candidates: Box<[Candidate]>,
    /// By node: the most nodes that one path can touch from there down.
    pub(super) visits: Vec<u32>,
}

impl<'a> Trees<'a> {
    pub(super) fn root(&mut self) -> u32 {
        self.add(NONE)
    }

    fn add(&mut self, parent: u32) -> u32 {
        self.nodes.push(Draft { parent, param: NONE, has_literals: false, exact: Vec::new(), open: Vec::new() });
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
        let visits = self.sum_up(&mut nodes);
        Frozen { nodes: nodes.into(), candidates: candidates.into(), visits }
    }

    /// Carries ranks and visits from the leaves to the roots. A path can follow one literal and the param of a node.
    fn sum_up(&self, nodes: &mut [Node]) -> Vec<u32> {
        let (mut by_literal, mut by_param) = (vec![0u32; nodes.len()], vec![0u32; nodes.len()]);
        let mut visits = vec![0; nodes.len()];
        for id in (0..nodes.len()).rev() {
            visits[id] = by_literal[id].saturating_add(by_param[id]).saturating_add(1);
            let parent = self.nodes[id].parent;
            if parent == NONE {
                continue;
            }
            let (best, parent) = (nodes[id].best, parent as usize);
            nodes[parent].best = nodes[parent].best.min(best);
            if nodes[parent].param == id as u32 {
                nodes[parent].best_param = best;
                by_param[parent] = visits[id];
            } else {
                by_literal[parent] = by_literal[parent].max(visits[id]);
            }
        }
        visits
    }
}
