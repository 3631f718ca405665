//! What `{param}` and `{*rest}` took of a path, as byte ranges. Does not hold the path, nor decode it.

use super::automata::{Automaton, Scratch};
use super::path::Segments;
use super::pattern::{Pattern, Step};
use smallvec::SmallVec;
use std::ops::Range;

/// Params that cost no allocation.
const PARAMS_INLINE: usize = 8;

/// Reused from one request to the next. The names come from the route
/// ([`RouteTable::param_names`](super::RouteTable::param_names)).
#[derive(Debug, Clone, Default)]
pub struct Captures {
    spans: SmallVec<[(u32, u32); PARAMS_INLINE]>,
    /// Where a path is decoded, if anything asks for it.
    pub(super) decoded: Vec<u8>,
    scratch: Scratch,
}

impl Captures {
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The range of the param number `index` in the path that was searched; still percent-encoded.
    pub fn range(&self, index: usize) -> Option<Range<usize>> {
        self.spans.get(index).map(|(start, end)| *start as usize..*end as usize)
    }

    /// The bytes of the param number `index`; `path` is the one that was searched.
    pub fn get<'p>(&self, path: &'p [u8], index: usize) -> Option<&'p [u8]> {
        path.get(self.range(index)?)
    }

    pub(super) fn clear(&mut self) {
        self.spans.clear();
    }

    /// `segments` are those of a path that a pattern of this shape matched, so each one asked for was already found.
    pub(super) fn fill(&mut self, shape: &Shape, segments: &mut Segments<'_>) {
        for index in &shape.params {
            if let Some(span) = segments.get(usize::from(*index)) {
                self.spans.push((span.start, span.end));
            }
        }
        if let Some(index) = shape.rest {
            let end = segments.path.len();
            let start = segments.start(usize::from(index)).min(end);
            self.spans.push((start as u32, end as u32));
        }
    }

    /// `path` is one that the automaton matches when it is `decoded`.
    pub(super) fn fill_groups(&mut self, automaton: &Automaton, path: &[u8], decoded: &[u8]) {
        let Captures { spans, scratch, .. } = self;
        automaton.groups(path, decoded, scratch, |start, end| spans.push((start as u32, end as u32)));
    }
}

/// Which segments a pattern captures, if no expression does. A table has few different ones, however many routes: they
/// stay in the processor's cache, unlike the patterns.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    params: SmallVec<[u16; PARAMS_INLINE]>,
    /// The first segment of a catch-all.
    rest: Option<u16>,
    /// The groups of the route's expression are captured instead.
    pub(super) groups: bool,
}

impl Shape {
    pub(super) fn of(pattern: &Pattern) -> Shape {
        let steps = pattern.steps.iter().zip(0..);
        let groups = pattern.expression.is_some() && !pattern.params.is_empty();
        Shape {
            params: steps.filter(|(step, _)| **step == Step::Param).map(|(_, index)| index).collect(),
            rest: pattern.captures_rest.then_some(pattern.steps.len() as u16),
            groups,
        }
    }
}
