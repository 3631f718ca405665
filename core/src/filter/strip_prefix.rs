//! `strip_prefix`: the origin sees the path without its first segments, and them in `X-Forwarded-Prefix`.
//!
//! ```toml
//! filters = [{ strip_prefix = "/api" }]
//! ```
//! `/api/users` becomes `/users`, `/api` becomes `/`; a path that does not start with those segments stays as it is. What
//! it takes of a path that `rewrite` made was not the client's: `X-Forwarded-Prefix` does not name it.

use ringway_config::Fault;
use ringway_config::snapshot::FilterConfig;
use ringway_proto::decode_segment;

use super::{Filter, RequestEdit, Verdict, refuse_rewrite};

pub(super) struct StripPrefix {
    /// Decoded; never empty.
    segments: Vec<Vec<u8>>,
}

impl StripPrefix {
    pub(super) fn build(config: &FilterConfig) -> Result<Box<dyn Filter>, Fault> {
        let prefix: String = ringway_config::filter::table(config)?;
        let bad = |why: &str| Fault::new(format!("{prefix:?} {why}")).at(config.place.clone());
        let Some(inner) = prefix.strip_prefix('/') else {
            return Err(bad("does not start with a slash"));
        };
        let segments: Vec<&str> = inner.trim_end_matches('/').split('/').collect();
        if segments.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
            return Err(bad("has no segment to strip, or an empty or a dot segment").cure("write it like \"/api/v1\""));
        }
        if prefix.contains(['%', '?', '#']) {
            return Err(bad("must be written decoded, without query"));
        }
        let segments = segments.into_iter().map(|segment| segment.as_bytes().to_vec()).collect();
        Ok(Box::new(StripPrefix { segments }))
    }
}

impl Filter for StripPrefix {
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        let Some(length) = self.length_in(request.current_path()) else { return Verdict::Pass };
        if request.rewritten.path().is_none() {
            request.stripped += length;
            return Verdict::Pass;
        }
        let mut draft = request.rewritten.draft();
        draft.extend_from_slice(&request.current_path()[length..]);
        if draft.is_empty() {
            draft.push(b'/');
        }
        refuse_rewrite(request.rewritten.set_path(draft))
    }
}

impl StripPrefix {
    /// Bytes of `path` that the prefix takes, if it starts with it.
    fn length_in(&self, path: &[u8]) -> Option<usize> {
        let mut at = 0;
        for wanted in &self.segments {
            let rest = path.get(at..)?.strip_prefix(b"/")?;
            let length = memchr::memchr(b'/', rest).unwrap_or(rest.len());
            if !equals_decoded(&rest[..length], wanted) {
                return None;
            }
            at += 1 + length;
        }
        Some(at)
    }
}

fn equals_decoded(segment: &[u8], wanted: &[u8]) -> bool {
    if memchr::memchr(b'%', segment).is_none() {
        return segment == wanted;
    }
    let mut decoded = Vec::with_capacity(segment.len());
    decode_segment(segment, &mut decoded);
    decoded == wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests::Passed;

    fn strip(prefix: &str) -> Result<Box<dyn Filter>, Fault> {
        let table = toml::Value::String(prefix.into());
        StripPrefix::build(&FilterConfig { name: "strip_prefix".into(), table, place: "here".into() })
    }

    #[test]
    fn whole_segments_are_stripped() {
        let after = |prefix: &str, path: &str| {
            Passed::of(&format!("{{ strip_prefix = \"{prefix}\" }}"), "path_prefix = \"/\"", path).path
        };
        assert_eq!(after("/api", "/api/users"), "/users");
        assert_eq!(after("/api/", "/api"), "/");
        assert_eq!(after("/api/v1", "/api/v1/"), "/");
        assert_eq!(after("/api", "/apix/users"), "/apix/users");
        assert_eq!(after("/a b", "/a%20b/c"), "/c");
    }

    #[test]
    fn a_prefix_that_is_none_is_refused() {
        for prefix in ["api", "/", "", "//", "/a//b", "/a/../b", "/a%20b", "/a?x"] {
            assert!(strip(prefix).is_err(), "{prefix}");
        }
    }
}
