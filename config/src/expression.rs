//! Regular expressions: what may be written, and what can be known of one without running it. Compiles none (`route`).

use std::fmt;
use std::str::FromStr;

use regex_syntax::ast::{self, Ast};
use regex_syntax::hir::translate::TranslatorBuilder;
use regex_syntax::hir::{Hir, HirKind, Look};

use crate::decode::Word;
use crate::path::{LITERAL_BYTES_MAX, SEGMENTS_MAX, param};
use crate::problem::{Fault, quoted};

/// What it compiles to is bounded in the dry run.
const EXPRESSION_BYTES_MAX: usize = 1024;
const GROUPS_NESTED_MAX: u32 = 32;
const GROUPS_NAMED_MAX: usize = 16;

/// A regular expression that parses. It must match the whole of what it is tried on, as if between `^` and `$`: `.*` at
/// an end leaves that end open. Over bytes: `\w`, `\d`, `\s` and `(?i)` are those of ASCII. `.` is any byte, line feed
/// too: `%0A` in a path is no way around a `.*`. Neither look-around nor back-references, so that time stays linear.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expression(String);

impl Expression {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// To be run from the first byte on: it matches up to the last one, or not at all. Parsed again, since a tree is
    /// larger than its text and needed once.
    pub fn hir(&self) -> Hir {
        let hir = parse(&self.0).unwrap_or_else(|_| Hir::fail());
        Hir::concat(vec![hir, Hir::look(Look::End)])
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Word for Expression {
    const SHAPE: &'static str = "regular expression";

    fn parse(text: &str) -> Result<Self, Fault> {
        parse(text).map(|_| Self(text.to_owned()))
    }
}

impl FromStr for Expression {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        Word::parse(text)
    }
}

/// An expression over a path, and what every path that it matches begins with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathExpression {
    pub expression: Expression,
    /// The whole segments of the literal prefix.
    pub prefix: Vec<String>,
    /// Length of the literal prefix in bytes.
    pub prefix_bytes: usize,
    /// Names of the groups, in their order.
    pub params: Vec<String>,
}

impl FromStr for PathExpression {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        Word::parse(text)
    }
}

impl Word for PathExpression {
    const SHAPE: &'static str = "regular expression";
    const EXAMPLE: &'static str = "'/v[0-9]+/.*'";

    fn parse(text: &str) -> Result<Self, Fault> {
        let hir = parse(text)?;
        let mut literal = Vec::new();
        let is_literal = literal_prefix(&hir, &mut literal);
        if literal.first().is_some_and(|first| *first != b'/') {
            let fault = wrong(text, "it could never match, for every path begins with \"/\"");
            return Err(fault.cure(format!("write {}", quoted(&format!("/{text}")))));
        }
        let mut params = Vec::new();
        group_names(&hir, &mut params);
        if params.len() > GROUPS_NAMED_MAX {
            return Err(wrong(text, format!("more than {GROUPS_NAMED_MAX} named groups")));
        }
        for name in &params {
            param(text, name)?;
        }
        Ok(Self {
            expression: Expression(text.to_owned()),
            prefix: whole_segments(&literal, is_literal),
            prefix_bytes: literal.len(),
            params,
        })
    }
}

fn wrong(text: &str, why: impl AsRef<str>) -> Fault {
    Fault::new(format!("{} is not a regular expression to match by: {}", quoted(text), why.as_ref()))
}

fn parse(text: &str) -> Result<Hir, Fault> {
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(wrong(text, format!("longer than {EXPRESSION_BYTES_MAX} bytes")));
    }
    if text.is_empty() {
        return Err(wrong(text, "it is empty").cure("leave the key out to ask for nothing"));
    }
    let ast = ast::parse::ParserBuilder::new().nest_limit(GROUPS_NESTED_MAX).build().parse(text).map_err(|error| {
        let fault = wrong(text, format!("{}, at character {}", error.kind(), error.span().start.column));
        match error.kind() {
            ast::ErrorKind::UnsupportedLookAround | ast::ErrorKind::UnsupportedBackreference => {
                fault.cure("say it by two conditions, one of them with `not`")
            }
            _ => fault,
        }
    })?;
    ast::visit(&ast, BytesOnly).map_err(|span| {
        let fault = wrong(text, format!("it asks for Unicode, at character {}", span.start.column));
        fault.cure("expressions are over bytes: \\w, \\d, \\s and (?i) are those of ASCII")
    })?;
    let mut translator = TranslatorBuilder::new().unicode(false).utf8(false).dot_matches_new_line(true).build();
    translator.translate(text, &ast).map_err(|error| {
        wrong(text, format!("{}, at character {}", error.kind(), error.span().start.column))
            .cure("expressions are over bytes: a class holds ASCII, or \\x80 to \\xFF")
    })
}

/// Finds what would turn Unicode on, whose word borders no linear automaton knows.
struct BytesOnly;

impl ast::Visitor for BytesOnly {
    type Output = ();
    type Err = ast::Span;

    fn finish(self) -> Result<(), ast::Span> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), ast::Span> {
        let flags = match ast {
            Ast::Flags(set) => &set.flags,
            Ast::Group(group) => match &group.kind {
                ast::GroupKind::NonCapturing(flags) => flags,
                _ => return Ok(()),
            },
            Ast::ClassUnicode(class) => return Err(class.span),
            _ => return Ok(()),
        };
        if flags.flag_state(ast::Flag::Unicode) == Some(true) { Err(flags.span) } else { Ok(()) }
    }
}

/// Appends what every match begins with; true if that is all of what it matches.
fn literal_prefix(hir: &Hir, out: &mut Vec<u8>) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => {
            out.extend_from_slice(&literal.0);
            true
        }
        HirKind::Class(_) => false,
        HirKind::Capture(capture) => literal_prefix(&capture.sub, out),
        HirKind::Concat(parts) => parts.iter().all(|part| literal_prefix(part, out)),
        HirKind::Repetition(repetition) => {
            if repetition.min > 0 {
                literal_prefix(&repetition.sub, out);
            }
            false
        }
        HirKind::Alternation(branches) => {
            let mut shared: Option<Vec<u8>> = None;
            for branch in branches {
                let mut one = Vec::new();
                literal_prefix(branch, &mut one);
                shared = Some(match shared {
                    None => one,
                    Some(mut shared) => {
                        let same = std::iter::zip(&shared, &one).take_while(|(a, b)| a == b).count();
                        shared.truncate(same);
                        shared
                    }
                });
            }
            out.extend(shared.unwrap_or_default());
            false
        }
    }
}

/// The segments of a literal that end within it; all of them if nothing follows.
fn whole_segments(literal: &[u8], is_all: bool) -> Vec<String> {
    let mut pieces: Vec<&[u8]> = literal.split(|byte| *byte == b'/').skip(1).collect();
    if !is_all {
        pieces.pop();
    }
    let fits = |piece: &&&[u8]| (1..=LITERAL_BYTES_MAX).contains(&piece.len());
    let text = pieces.iter().take(SEGMENTS_MAX).take_while(fits).map(|piece| String::from_utf8(piece.to_vec()).ok());
    text.map_while(|segment| segment).collect()
}

fn group_names(hir: &Hir, out: &mut Vec<String>) {
    match hir.kind() {
        HirKind::Capture(capture) => {
            out.extend(capture.name.as_ref().map(|name| name.to_string()));
            group_names(&capture.sub, out);
        }
        HirKind::Repetition(repetition) => group_names(&repetition.sub, out),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().for_each(|part| group_names(part, out)),
        HirKind::Empty | HirKind::Look(_) | HirKind::Literal(_) | HirKind::Class(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> PathExpression {
        PathExpression::parse(text).unwrap_or_else(|fault| panic!("{fault}"))
    }

    #[test]
    fn the_literal_prefix_is_found() {
        for (text, segments, bytes) in [
            ("/api/v[0-9]+/.*", vec!["api"], 6),
            ("^/api/users/(?<id>[0-9]+)$", vec!["api", "users"], 11),
            ("/api(/.*)?", vec![], 4),
            ("/health", vec!["health"], 7),
            ("(?<all>/a/b)/[cd]", vec!["a", "b"], 5),
            ("/(api/v1|api/v2)/x", vec!["api"], 6),
            ("/a/(?:b/)+c", vec!["a", "b"], 5),
            ("/a/(?:b/)*c", vec!["a"], 3),
            ("(?i)/api/x", vec![], 1),
            (".*\\.php", vec![], 0),
            ("/é/[a]x/", vec!["é", "ax", ""], 7),
            ("/a//b.*", vec!["a"], 5),
        ] {
            let (found, segments) = (read(text), segments.iter().filter(|segment| !segment.is_empty()));
            assert_eq!(found.prefix, segments.map(|segment| (*segment).to_owned()).collect::<Vec<_>>(), "{text}");
            assert_eq!(found.prefix_bytes, bytes, "{text}");
        }
    }

    #[test]
    fn named_groups_are_params() {
        assert_eq!(read("/(?<a>[^/]+)/(x)/(?P<b>(?<c>.)*)").params, ["a", "b", "c"]);
    }

    #[test]
    fn what_cannot_run_in_linear_time_or_never_matches_is_refused() {
        for text in [
            "",
            "/(",
            "/(?=a)",
            "/(a)\\1",
            "api/.*",
            "/(?<a.b>x)",
            "/(?u)\\w",
            "/(?u:.)",
            "/\\pL",
            "/[\\pL]",
            "/a{3000}{3000}{3000}",
        ] {
            let refused = PathExpression::parse(text);
            assert!(refused.is_err() || text.contains("3000"), "{text:?}: {refused:?}");
        }
        assert!(PathExpression::parse(&format!("/{}", "a".repeat(EXPRESSION_BYTES_MAX))).is_err());
        assert!(PathExpression::parse(&format!("/{}a{}", "(".repeat(40), ")".repeat(40))).is_err());
    }
}
