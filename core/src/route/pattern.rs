//! A route's path pattern in the one form that the trie, the order and the explanations read. Matches nothing itself.

use super::path::HEX_UPPER;
use ringway_config::snapshot::{PathExpression, PathPattern, Segment};

pub(super) struct Pattern {
    pub(super) steps: Vec<Step>,
    pub(super) end: End,
    /// Names of the params in their order, a catch-all last.
    pub(super) params: Box<[Box<str>]>,
    /// The last param is a catch-all.
    pub(super) captures_rest: bool,
    /// What the whole path must match besides; `steps` are its literal beginning then, and `end` is open.
    pub(super) expression: Option<PathExpression>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Decoded.
    Literal(Box<[u8]>),
    Param,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The path ends here too.
    Exact,
    /// A prefix, a catch-all or an expression: the path ends here or goes on.
    Open,
}

impl Pattern {
    pub(super) fn new(path: &PathPattern) -> Pattern {
        match path {
            PathPattern::Segments(segments) => Pattern::from_segments(segments),
            PathPattern::Prefix(literals) => Pattern::from_prefix(literals),
            PathPattern::Expression(path) => Pattern {
                params: path.params.iter().map(|name| name.as_str().into()).collect(),
                expression: Some(path.clone()),
                ..Pattern::from_prefix(&path.prefix)
            },
        }
    }

    fn from_segments(segments: &[Segment]) -> Pattern {
        let (mut steps, mut params, mut end) = (Vec::new(), Vec::new(), End::Exact);
        for segment in segments {
            match segment {
                Segment::Literal(text) => steps.push(Step::Literal(text.as_bytes().into())),
                Segment::Param(name) => {
                    steps.push(Step::Param);
                    params.push(name.as_str().into());
                }
                Segment::CatchAll(name) => {
                    params.push(name.as_str().into());
                    end = End::Open;
                    break;
                }
            }
        }
        if steps.is_empty() && end == End::Exact {
            steps.push(Step::Literal([].into())); // `/` is one empty segment
        }
        Pattern { steps, end, params: params.into(), captures_rest: end == End::Open, expression: None }
    }

    fn from_prefix(literals: &[String]) -> Pattern {
        // `/api/` means what `/api` means: a border is required anyway.
        let used = literals.iter().rposition(|literal| !literal.is_empty()).map_or(0, |last| last + 1);
        let steps = literals[..used].iter().map(|literal| Step::Literal(literal.as_bytes().into())).collect();
        Pattern { steps, end: End::Open, params: [].into(), captures_rest: false, expression: None }
    }

    /// `/users/{id}`, `/files/{*rest}`, `/api/*`. Bytes that would read as syntax or break a line are percent-encoded.
    /// An expression stands as it was written, after a `~`.
    pub(super) fn label(&self) -> String {
        if let Some(path) = &self.expression {
            let text = path.expression.as_str().chars();
            return text.fold("~".to_owned(), |mut label, character| {
                if character.is_control() {
                    label.extend(character.escape_default())
                } else {
                    label.push(character)
                }
                label
            });
        }
        let mut label = String::new();
        let mut params = self.params.iter();
        for step in &self.steps {
            label.push('/');
            match step {
                Step::Literal(bytes) => push_literal(&mut label, bytes),
                Step::Param => label.extend(["{", params.next().map_or("", |name| name), "}"]),
            }
        }
        match (self.end, params.next()) {
            (End::Open, Some(rest)) => label.extend(["/{*", rest, "}"]),
            (End::Open, None) => label.push_str("/*"),
            (End::Exact, _) => {}
        }
        label
    }
}

fn push_literal(label: &mut String, bytes: &[u8]) {
    for character in String::from_utf8_lossy(bytes).chars() {
        if character.is_control() || character.is_whitespace() || "/%?#{}\"\\".contains(character) {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                label.push('%');
                label.push(HEX_UPPER[usize::from(byte >> 4)] as char);
                label.push(HEX_UPPER[usize::from(byte & 15)] as char);
            }
        } else {
            label.push(character);
        }
    }
}
