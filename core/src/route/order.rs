//! Which of two matching routes goes first: the one place that states it. Does not know requests.

use super::Because;
use super::conditions::{Conditions, MethodSet};
use super::pattern::{End, Pattern, Step};
use ringway_config::snapshot::HostPattern;
use std::cmp::Reverse;

/// How closely a host pattern names a host; the later the closer. Of two wildcards that match the same host one is a
/// suffix of the other, so their length tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Closeness {
    Any,
    Wildcard(usize),
    Exact,
}

impl Closeness {
    pub(super) fn of(host: &HostPattern) -> Closeness {
        match host {
            HostPattern::Wildcard(suffix) => Closeness::Wildcard(suffix.len()),
            HostPattern::Exact(_) => Closeness::Exact,
        }
    }
}

/// One step of a path pattern; the later the closer. Two patterns that match the same path differ first where one has
/// a later step than the other, never in the text of a literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    Open,
    Expression,
    Exact,
    Param,
    Literal,
}

/// Everything that decides between routes, the weightiest first. Smaller goes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    priority: Reverse<i32>,
    host: Reverse<Closeness>,
    path: Reverse<Vec<Grade>>,
    /// Bytes with which each path that an expression matches begins: of two that match the same path, those of one
    /// begin with those of the other.
    literal_bytes: Reverse<usize>,
    names_methods: Reverse<bool>,
    /// How many conditions there are, of whatever kind.
    conditions: Reverse<usize>,
    place: usize,
}

impl Key {
    pub(super) fn new(place: usize, priority: i32, host: Closeness, pattern: &Pattern, conditions: &Conditions) -> Key {
        let steps = pattern.steps.iter().map(|step| match step {
            Step::Literal(_) => Grade::Literal,
            Step::Param => Grade::Param,
        });
        let end = match (pattern.end, &pattern.expression) {
            (_, Some(_)) => Grade::Expression,
            (End::Exact, None) => Grade::Exact,
            (End::Open, None) => Grade::Open,
        };
        Key {
            priority: Reverse(priority),
            host: Reverse(host),
            path: Reverse(steps.chain([end]).collect()),
            names_methods: Reverse(conditions.methods != MethodSet::ALL),
            literal_bytes: Reverse(pattern.expression.as_ref().map_or(0, |path| path.prefix_bytes)),
            conditions: Reverse(conditions.weight),
            place,
        }
    }

    /// Position in the file.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// The first rule by which `self` goes before `other`.
    pub(super) fn because(&self, other: &Key) -> Because {
        if self.priority != other.priority {
            Because::Priority
        } else if self.host != other.host {
            Because::Host
        } else if (&self.path, self.literal_bytes) != (&other.path, other.literal_bytes) {
            Because::Path
        } else if (self.names_methods, self.conditions) != (other.names_methods, other.conditions) {
            Because::Conditions
        } else {
            Because::Place
        }
    }
}
