//! Why each route does or does not take a request, in the order in which they are preferred. For people
//! (`ringway explain`): asks every route in turn, unlike a lookup, and allocates.

use super::conditions::Conditions;
use super::order::{Closeness, Key};
use super::path::decoded;
use super::pattern::{End, Pattern, Step};
use super::{Query, RouteId, RouteTable, Rule};
use ringway_config::snapshot::{HeaderCondition, HeaderTest, HostPattern};
use std::fmt;

/// What became of one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub route: RouteId,
    pub name: String,
    /// Its pattern, as in metrics.
    pub label: String,
    pub why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    Chosen,
    /// It matches; the one named goes first.
    Behind {
        winner: String,
        because: Because,
    },
    Listener,
    Host,
    Path(Mismatch),
    Method {
        /// Those it takes: `GET, HEAD`.
        allow: String,
    },
    /// The first condition that fails: `x-canary is "on"`.
    Header(String),
}

/// By which rule another matching route went first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    Priority,
    Host,
    Path,
    Conditions,
    /// All else equal: it stands earlier in the file.
    Place,
}

/// Where a path leaves a pattern. Segments count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    Literal {
        segment: usize,
        wanted: String,
        found: String,
    },
    EmptyParam {
        segment: usize,
    },
    /// The path ends before this segment of the pattern.
    Ends {
        segment: usize,
        wanted: String,
    },
    /// The pattern ends before this segment of the path.
    GoesOn {
        segment: usize,
        found: String,
    },
    /// It does not start with `/`.
    NoPath,
}

impl RouteTable {
    /// One verdict for each route, in matching order.
    pub fn explain(&self, query: &Query<'_>) -> Vec<Verdict> {
        let mut asked: Vec<(Key, Option<Why>)> = (0..self.rules.len()).map(|id| self.ask(id, query)).collect();
        asked.sort_by(|(one, _), (other, _)| one.cmp(other));
        let winner = asked.iter().find(|(_, lost)| lost.is_none()).map(|(key, _)| key.clone());
        let verdicts = asked.into_iter().map(|(key, lost)| {
            let rule = &self.rules[key.place()];
            let why = match (lost, &winner) {
                (Some(why), _) => why,
                (None, Some(winner)) if *winner != key => {
                    Why::Behind { winner: self.rules[winner.place()].name.to_string(), because: winner.because(&key) }
                }
                (None, _) => Why::Chosen,
            };
            Verdict { route: key.place() as RouteId, name: rule.name.to_string(), label: rule.label.to_string(), why }
        });
        verdicts.collect()
    }

    /// The route's place in the order, and why it cannot take the request, if it cannot. A route whose hosts do not
    /// match stands where its closest host would put it.
    fn ask(&self, id: usize, query: &Query<'_>) -> (Key, Option<Why>) {
        let (rule, conditions) = (&self.rules[id], &self.conditions[id]);
        let matching = closest(rule.hosts.iter().filter(|pattern| host_fits(pattern, query.host)));
        let host = match matching {
            _ if rule.hosts.is_empty() => Some(Closeness::Any),
            matching => matching,
        };
        let shown = host.or_else(|| closest(rule.hosts.iter())).unwrap_or(Closeness::Any);
        let key = Key::new(id, rule.priority, shown, &rule.pattern, conditions);
        (key, self.lost(rule, conditions, host.is_some(), query))
    }

    fn lost(&self, rule: &Rule, conditions: &Conditions, host_fits: bool, query: &Query<'_>) -> Option<Why> {
        if !conditions.listens(query.listener) {
            return Some(Why::Listener);
        }
        if !host_fits {
            return Some(Why::Host);
        }
        if let Some(mismatch) = mismatch(&rule.pattern, query.path) {
            return Some(Why::Path(mismatch));
        }
        if !conditions.methods.meets(self.methods.one(query.method)) {
            return Some(Why::Method { allow: self.methods.allow(conditions.methods).to_string() });
        }
        conditions.failing_header(query.fields).map(|condition| Why::Header(say(condition)))
    }
}

fn closest<'a>(hosts: impl Iterator<Item = &'a HostPattern>) -> Option<Closeness> {
    hosts.map(Closeness::of).max()
}

fn host_fits(pattern: &HostPattern, host: &[u8]) -> bool {
    let host = host.strip_suffix(b".").unwrap_or(host);
    if host.len() > super::HOST_BYTES_MAX {
        return false;
    }
    match pattern {
        HostPattern::Exact(exact) => host.eq_ignore_ascii_case(exact.as_bytes()),
        HostPattern::Wildcard(suffix) => {
            let before = host.len().saturating_sub(suffix.len() + 1);
            before > 0 && host[before] == b'.' && host[before + 1..].eq_ignore_ascii_case(suffix.as_bytes())
        }
    }
}

fn mismatch(pattern: &Pattern, path: &[u8]) -> Option<Mismatch> {
    let Some(path) = path.strip_prefix(b"/") else { return Some(Mismatch::NoPath) };
    let mut segments = path.split(|byte| *byte == b'/');
    for (index, step) in pattern.steps.iter().enumerate() {
        let segment = index + 1;
        match (step, segments.next()) {
            (_, None) => return Some(Mismatch::Ends { segment, wanted: say_step(step) }),
            (Step::Param, Some(b"")) => return Some(Mismatch::EmptyParam { segment }),
            (Step::Literal(literal), Some(found)) if !decoded(found).eq(literal.iter().copied()) => {
                return Some(Mismatch::Literal { segment, wanted: say_step(step), found: text(found) });
            }
            _ => {}
        }
    }
    match (pattern.end, segments.next()) {
        (End::Exact, Some(found)) => Some(Mismatch::GoesOn { segment: pattern.steps.len() + 1, found: text(found) }),
        _ => None,
    }
}

fn say_step(step: &Step) -> String {
    match step {
        Step::Literal(literal) => text(literal),
        Step::Param => "{param}".to_owned(),
    }
}

/// Bytes for a terminal: nothing in them can move the cursor.
fn text(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

fn say(condition: &HeaderCondition) -> String {
    let name = &condition.name;
    match &condition.is {
        HeaderTest::Present => format!("{name} is present"),
        HeaderTest::Absent => format!("{name} is absent"),
        HeaderTest::Equals(value) => format!("{name} is {}", text(value.as_bytes())),
        HeaderTest::EqualsOrAbsent(value) => format!("{name} is {}, or absent", text(value.as_bytes())),
        HeaderTest::Prefix(value) => format!("{name} starts with {}", text(value.as_bytes())),
        HeaderTest::Suffix(value) => format!("{name} ends with {}", text(value.as_bytes())),
        HeaderTest::Contains(value) => format!("{name} contains {}", text(value.as_bytes())),
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name, self.label, self.why)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Chosen => f.write_str("chosen"),
            Why::Behind { winner, because } => write!(f, "matches, but \"{winner}\" goes first: {because}"),
            Why::Listener => f.write_str("is not on this listener"),
            Why::Host => f.write_str("has no such host"),
            Why::Path(mismatch) => write!(f, "path: {mismatch}"),
            Why::Method { allow } => write!(f, "takes only {allow}"),
            Why::Header(condition) => write!(f, "wants that header {condition}"),
        }
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Because::Priority => "higher priority",
            Because::Host => "closer host",
            Because::Path => "closer path",
            Because::Conditions => "more conditions",
            Because::Place => "earlier in the file",
        })
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Literal { segment, wanted, found } => write!(f, "segment {segment} is {found}, not {wanted}"),
            Mismatch::EmptyParam { segment } => write!(f, "segment {segment} is empty, not {{param}}"),
            Mismatch::Ends { segment, wanted } => write!(f, "ends before segment {segment}, {wanted}"),
            Mismatch::GoesOn { segment, found } => write!(f, "goes on with segment {segment}, {found}"),
            Mismatch::NoPath => f.write_str("does not start with \"/\""),
        }
    }
}
