//! The paths of all routes as one tree, and from a path to those that take all that it takes.

use std::collections::HashMap;

use crate::snapshot::{PathPattern, Segment};

/// Places of the tree looked at for one route; each `{param}` beside a literal doubles them.
const WALKED_MAX: usize = 256;

/// Each different path once, and those that may go before a closer one in a tree. Params count by their place, not by
/// their names.
#[derive(Default)]
pub(super) struct Paths<'a> {
    ids: HashMap<(Vec<Step<'a>>, End), u32>,
    /// By id.
    taken: Vec<Taken>,
    children: HashMap<(u32, Step<'a>), u32>,
    /// By node of the tree, what ends there.
    ends: Vec<Vec<(End, u32)>>,
}

/// The routes that have a path.
#[derive(Clone, Copy)]
pub(super) struct Taken {
    pub(super) routes: u32,
    pub(super) priority_max: i32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Step<'a> {
    Literal(&'a str),
    Param,
    /// A whole expression, after its literal segments.
    Expression(&'a str),
}

/// How a path ends after its steps.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum End {
    Exact,
    /// A prefix or a catch-all.
    Open,
}

impl<'a> Paths<'a> {
    pub(super) fn id(&mut self, path: &'a PathPattern, priority: i32) -> u32 {
        let fresh = self.taken.len() as u32;
        let id = *self.ids.entry(parts(path)).or_insert(fresh);
        if id == fresh {
            self.taken.push(Taken { routes: 0, priority_max: i32::MIN });
        }
        let taken = &mut self.taken[id as usize];
        taken.routes += 1;
        taken.priority_max = taken.priority_max.max(priority);
        id
    }

    pub(super) fn taken(&self, id: u32) -> Taken {
        self.taken[id as usize]
    }

    /// Puts a path into the tree, where [`above`](Self::above) finds it.
    pub(super) fn plant(&mut self, path: &'a PathPattern, id: u32) {
        let (steps, end) = parts(path);
        if self.ends.is_empty() {
            self.ends.push(Vec::new());
        }
        let mut node = 0;
        for step in steps {
            node = *self.children.entry((node, step)).or_insert_with(|| {
                self.ends.push(Vec::new());
                self.ends.len() as u32 - 1
            });
        }
        let known = &mut self.ends[node as usize];
        if !known.contains(&(end, id)) {
            known.push((end, id));
        }
    }

    /// Each planted path that takes all that `path` takes, until `is_enough`. An empty segment is no `{param}`. Of
    /// expressions only the same is known to take as much.
    pub(super) fn above(&self, path: &'a PathPattern, mut is_enough: impl FnMut(u32) -> bool) {
        let (steps, end) = parts(path);
        let mut report = |node: u32, exact: bool| {
            let fit = |known: End| known == End::Open || exact && known == end;
            self.ends[node as usize].iter().any(|(known, id)| fit(*known) && is_enough(*id))
        };
        let (mut here, mut walked) = (vec![0], 0);
        for step in steps {
            let mut below = Vec::new();
            for node in here {
                walked += 1;
                if walked > WALKED_MAX || report(node, false) {
                    return;
                }
                let child = |step| self.children.get(&(node, step)).copied();
                below.extend(child(step));
                if matches!(step, Step::Literal(text) if !text.is_empty()) {
                    below.extend(child(Step::Param));
                }
            }
            here = below;
        }
        let _ = here.into_iter().any(|node| report(node, true));
    }
}

fn parts(path: &PathPattern) -> (Vec<Step<'_>>, End) {
    match path {
        PathPattern::Prefix(literals) => (literals.iter().map(|text| Step::Literal(text)).collect(), End::Open),
        PathPattern::Expression(path) => {
            let steps = path.prefix.iter().map(|text| Step::Literal(text));
            (steps.chain([Step::Expression(path.expression.as_str())]).collect(), End::Exact)
        }
        PathPattern::Segments(segments) => {
            let mut end = End::Exact;
            let steps = segments.iter().filter_map(|segment| match segment {
                Segment::Literal(text) => Some(Step::Literal(text)),
                Segment::Param(_) => Some(Step::Param),
                Segment::CatchAll(_) => {
                    end = End::Open;
                    None
                }
            });
            (steps.collect(), end)
        }
    }
}
