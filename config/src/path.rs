//! The pattern language of `path` and `path_prefix`, and the template of a redirect. Matches nothing (`route`).

use std::collections::HashSet;

use crate::decode::Word;
use crate::problem::{Fault, quoted};
use crate::snapshot::{PathPattern, Segment};

/// Longer than any listener's default for a whole target would let through.
const PATTERN_BYTES_MAX: usize = 4096;
pub(crate) const SEGMENTS_MAX: usize = 32;
pub(crate) const LITERAL_BYTES_MAX: usize = 255;
const PARAM_BYTES_MAX: usize = 64;

/// What stands in a prefix for the version of an API; `check` puts the version there.
pub(crate) const VERSION: &str = "{version}";

/// What a redirect's `to` may name besides the route's own params.
pub(crate) const REDIRECT_WORDS: [&str; 4] = ["scheme", "host", "path", "query"];

/// The whole path, with params.
#[derive(Debug)]
pub(crate) struct ExactPath(pub(crate) PathPattern);

impl Word for ExactPath {
    const SHAPE: &'static str = "path pattern";

    fn parse(text: &str) -> Result<Self, Fault> {
        let raw = split(text)?;
        let last = raw.len() - 1;
        let mut segments = Vec::with_capacity(raw.len());
        let mut names = HashSet::new();
        for (index, segment) in raw.into_iter().enumerate() {
            let segment = exact_segment(text, segment, index == last)?;
            if let Segment::Param(name) | Segment::CatchAll(name) = &segment
                && !names.insert(name.clone())
            {
                return Err(wrong(text, format!("two parameters are named {name:?}")).cure("give each its own name"));
            }
            segments.push(segment);
        }
        Ok(Self(PathPattern::Segments(segments)))
    }
}

/// A path and everything below it.
#[derive(Debug)]
pub(crate) struct PathPrefix(pub(crate) PathPattern);

impl Word for PathPrefix {
    const SHAPE: &'static str = "path";

    fn parse(text: &str) -> Result<Self, Fault> {
        let raw = split(text)?;
        let braced = |segment: &str| segment.contains(['{', '}']) && segment != VERSION;
        if raw.iter().any(|segment| braced(segment)) {
            let pattern = format!("{}/{{*rest}}", text.trim_end_matches('/'));
            let fault = wrong(text, "a prefix has no parameters");
            return Err(fault.cure(format!("write path = {}", quoted(&pattern))));
        }
        let mut literals = Vec::with_capacity(raw.len());
        for segment in raw.into_iter().filter(|segment| !segment.is_empty()) {
            literals.push(literal(text, segment)?);
        }
        Ok(Self(PathPattern::Prefix(literals)))
    }
}

fn wrong(text: &str, why: impl AsRef<str>) -> Fault {
    Fault::new(format!("{} is not a path: {}", quoted(text), why.as_ref()))
}

/// What stands between the slashes; only the last one may be empty.
fn split(text: &str) -> Result<Vec<&str>, Fault> {
    if text.len() > PATTERN_BYTES_MAX {
        return Err(wrong(text, format!("longer than {PATTERN_BYTES_MAX} bytes")));
    }
    if text.contains("://") {
        return Err(wrong(text, "a whole URL").cure("write the path alone, and the host as host = \"...\""));
    }
    let Some(rest) = text.strip_prefix('/') else {
        return Err(wrong(text, "it does not begin with \"/\"").cure(format!("write {}", quoted(&format!("/{text}")))));
    };
    let segments: Vec<&str> = rest.split('/').collect();
    if segments.len() > SEGMENTS_MAX {
        return Err(wrong(text, format!("more than {SEGMENTS_MAX} segments")));
    }
    if segments[..segments.len() - 1].iter().any(|segment| segment.is_empty()) {
        return Err(wrong(text, "\"//\" never comes out of normalisation").cure("write a single \"/\""));
    }
    Ok(segments)
}

fn exact_segment(text: &str, segment: &str, last: bool) -> Result<Segment, Fault> {
    let Some(inside) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        if segment.contains(['{', '}']) {
            return Err(wrong(text, "a parameter is a whole segment").cure("write \"/{name}/\""));
        }
        return literal(text, segment).map(Segment::Literal);
    };
    match inside.strip_prefix('*') {
        Some(_) if !last => {
            Err(wrong(text, "only the last segment can take the rest").cure("move \"{*...}\" to the end"))
        }
        Some(name) => param(text, name).map(Segment::CatchAll),
        None => param(text, inside).map(Segment::Param),
    }
}

pub(crate) fn param(text: &str, name: &str) -> Result<String, Fault> {
    let head = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if head && plain && name.len() <= PARAM_BYTES_MAX {
        return Ok(name.to_owned());
    }
    let fault = wrong(text, format!("{} cannot name a parameter", quoted(name)));
    Err(fault.cure(format!("use a letter, then letters, digits or \"_\", at most {PARAM_BYTES_MAX}")))
}

/// A segment as it looks after decoding and normalisation; anything else could never match.
fn literal(text: &str, segment: &str) -> Result<String, Fault> {
    if segment == "." || segment == ".." {
        return Err(wrong(text, format!("{segment:?} never comes out of normalisation")).cure("write where it leads"));
    }
    if segment.len() > LITERAL_BYTES_MAX {
        return Err(wrong(text, format!("a segment longer than {LITERAL_BYTES_MAX} bytes")));
    }
    if segment.contains('%') {
        return Err(wrong(text, "a percent sign").cure("write paths decoded: \"/a b\", not \"/a%20b\""));
    }
    if segment.contains('*') {
        let fault = wrong(text, "\"*\" is no wildcard here");
        return Err(fault.cure("write path_prefix for all below a path, or \"{*rest}\" as the last segment"));
    }
    if segment.contains(['?', '#']) {
        return Err(wrong(text, "a query or fragment is no part of a path").cure("end it before the \"?\" or \"#\""));
    }
    if segment.contains('\\') || segment.chars().any(char::is_control) {
        return Err(wrong(text, "a backslash or control character"));
    }
    Ok(segment.to_owned())
}

/// Checks a redirect's template: braces are balanced, and each pair names something this route has.
pub(crate) fn check_redirect(to: &str, params: &[&str]) -> Result<(), Fault> {
    let wrong = |why: String| Fault::new(format!("{} cannot be a target: {why}", quoted(to)));
    let rooted = to.starts_with('/') && !to.starts_with("//");
    if !rooted && !["http://", "https://", "{scheme}://"].iter().any(|scheme| to.starts_with(scheme)) {
        return Err(
            wrong("neither a path nor a URL".to_owned()).cure("begin it with \"/\", \"https://\" or \"{scheme}://\"")
        );
    }
    if !to.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(wrong("it has spaces or is not ASCII".to_owned()).cure("percent-encode them"));
    }
    let mut rest = to;
    while let Some(at) = rest.find(['{', '}']) {
        let Some((name, after)) = rest[at..].strip_prefix('{').and_then(|inside| inside.split_once('}')) else {
            return Err(wrong("unbalanced braces".to_owned()).cure("percent-encode literal braces: %7B, %7D"));
        };
        let known: Vec<&str> = REDIRECT_WORDS.iter().chain(params).copied().collect();
        if !known.contains(&name) {
            return Err(wrong(format!("nothing is named {{{name}}} here")).suggest(name, "name", &known));
        }
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(text: &str) -> Vec<Segment> {
        match ExactPath::parse(text) {
            Ok(ExactPath(PathPattern::Segments(segments))) => segments,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn exact_paths() {
        let literal = |text: &str| Segment::Literal(text.to_owned());
        assert_eq!(segments("/"), [literal("")]);
        assert_eq!(segments("/a b/é"), [literal("a b"), literal("é")]);
        assert_eq!(segments("/a/"), [literal("a"), literal("")]);
        let (id, rest) = (Segment::Param("id".to_owned()), Segment::CatchAll("rest".to_owned()));
        assert_eq!(segments("/users/{id}/{*rest}"), [literal("users"), id, rest]);
    }

    #[test]
    fn prefixes() {
        let prefix = |text: &str| match PathPrefix::parse(text) {
            Ok(PathPrefix(PathPattern::Prefix(prefix))) => prefix,
            other => panic!("{text}: {other:?}"),
        };
        assert!(prefix("/").is_empty());
        assert_eq!(prefix("/api"), ["api"]);
        assert_eq!(prefix("/api/v1/"), ["api", "v1"]);
    }

    #[test]
    fn what_could_never_match_is_refused() {
        for text in ["", "a", "//", "/a//b", "/a/../b", "/.", "/a%20b", "/a?b", "/a*", "/a\\b", "/a\nb"] {
            assert!(ExactPath::parse(text).is_err(), "{text:?}");
            assert!(PathPrefix::parse(text).is_err(), "{text:?}");
        }
        for text in ["/{}", "/{*}", "/{1a}", "/{a-b}", "/{a}/{a}", "/{*rest}/a", "/x{id}", "/{id", "/{{id}}"] {
            assert!(ExactPath::parse(text).is_err(), "{text:?}");
        }
        assert!(PathPrefix::parse("/{id}").is_err());
        assert!(PathPrefix::parse(&format!("/{}", "a".repeat(LITERAL_BYTES_MAX))).is_ok());
        assert!(PathPrefix::parse(&format!("/{}", "a".repeat(LITERAL_BYTES_MAX + 1))).is_err());
        assert!(ExactPath::parse(&"/a".repeat(SEGMENTS_MAX)).is_ok());
        assert!(ExactPath::parse(&"/a".repeat(SEGMENTS_MAX + 1)).is_err());
    }

    #[test]
    fn redirect_templates() {
        for to in ["/", "/users/{id}", "https://{host}{path}?{query}", "{scheme}://example.com/"] {
            assert_eq!(check_redirect(to, &["id"]), Ok(()), "{to}");
        }
        for to in ["", "users", "//evil", "/{nope}", "/{id", "/id}", "/a b", "javascript:x", "/{{id}}"] {
            assert!(check_redirect(to, &["id"]).is_err(), "{to:?}");
        }
    }
}
