//! What `{param}` and `{*rest}` took of a path, as byte ranges. Does not hold the path, nor decode it.

use super::path::Segments;
use super::pattern::{Pattern, Step};
use smallvec::SmallVec;
use std::ops::Range;

/// Params that cost no allocation.
const PARAMS_INLINE: usize = 8;

/// Reused from one request to the next. The names come from the route
/// ([`RouteTable::param_names`](super::RouteTable::param_names)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captures {
    spans: SmallVec<[(u32, u32); PARAMS_INLINE]>,
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

    /// `segments` are those of a path that `pattern` matched, so each one that is asked for was already found.
    pub(super) fn fill(&mut self, pattern: &Pattern, segments: &mut Segments<'_>) {
        self.spans.clear();
        if pattern.params.is_empty() {
            return;
        }
        for (index, step) in pattern.steps.iter().enumerate() {
            if *step == Step::Param
                && let Some(span) = segments.get(index)
            {
                self.spans.push((span.start, span.end));
            }
        }
        if pattern.captures_rest {
            let end = segments.path.len();
            let start = segments.start(pattern.steps.len()).min(end);
            self.spans.push((start as u32, end as u32));
        }
    }
}
