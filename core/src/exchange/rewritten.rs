//! Path and query that an origin sees instead of the client's. What filters make of them must be a normal path again,
//! in every way that an origin may read it.

use std::fmt;

use ringway_proto::{NormalPath, hides_segments};

/// Of a path or a query that filters made: what the largest listener's head could hold (`head_bytes_max`).
pub const REWRITTEN_BYTES_MAX: usize = 60 * 1024;
/// What each buffer may keep allocated for the next request.
const BYTES_KEPT_MAX: usize = 8 * 1024;

/// Buffers are used again for the next request.
#[derive(Default)]
pub struct Rewritten {
    path: NormalPath,
    has_path: bool,
    query: Vec<u8>,
    has_query: bool,
    /// What is being made.
    draft: Vec<u8>,
    scratch: [Vec<u8>; 2],
}

/// Why what a filter made cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewriteError {
    /// Longer than [`REWRITTEN_BYTES_MAX`].
    TooLong,
    /// Not in normal form: what was filled in made dot or empty segments, or is no path.
    NotNormal,
    /// Some origin could find a dot or an empty segment in it that its plain reading does not have.
    Hides,
}

impl fmt::Display for RewriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RewriteError::TooLong => "the rewritten target is too long",
            RewriteError::NotNormal => "the rewritten path is not in normal form",
            RewriteError::Hides => "the rewritten path hides a dot or an empty segment",
        })
    }
}

impl Rewritten {
    /// The path, if a filter made one.
    pub fn path(&self) -> Option<&[u8]> {
        self.has_path.then_some(&self.path.bytes)
    }

    /// The query, if a filter made one; `Some(None)`: there is none any more.
    pub fn query(&self) -> Option<Option<&[u8]>> {
        self.has_query.then(|| Some(&self.query[..]).filter(|query| !query.is_empty()))
    }

    /// An empty buffer to make a path or a query in; to be handed back.
    pub fn draft(&mut self) -> Vec<u8> {
        let mut draft = std::mem::take(&mut self.draft);
        draft.clear();
        draft
    }

    /// Takes a draft back that came to nothing.
    pub fn keep(&mut self, draft: Vec<u8>) {
        self.draft = draft;
    }

    /// Takes what was made as the path.
    ///
    /// # Errors
    /// It must not be sent; whatever was the path before is none any more.
    pub fn set_path(&mut self, draft: Vec<u8>) -> Result<(), RewriteError> {
        let checked = self.check_path(&draft);
        self.has_path = checked.is_ok();
        self.draft = draft;
        checked
    }

    fn check_path(&mut self, draft: &[u8]) -> Result<(), RewriteError> {
        if draft.len() > REWRITTEN_BYTES_MAX {
            return Err(RewriteError::TooLong);
        }
        if self.path.set(draft).is_err() || self.path.bytes != draft {
            return Err(RewriteError::NotNormal);
        }
        let [one, other] = &mut self.scratch;
        match self.path.ambiguous && hides_segments(draft, one, other) {
            true => Err(RewriteError::Hides),
            false => Ok(()),
        }
    }

    /// Takes what was made as the query; empty: there is none.
    ///
    /// # Errors
    /// It is too long.
    pub fn set_query(&mut self, mut draft: Vec<u8>) -> Result<(), RewriteError> {
        self.has_query = draft.len() <= REWRITTEN_BYTES_MAX;
        std::mem::swap(&mut self.query, &mut draft);
        self.draft = draft;
        if self.has_query { Ok(()) } else { Err(RewriteError::TooLong) }
    }

    pub fn clear(&mut self) {
        if !self.has_path && !self.has_query && self.draft.capacity() == 0 {
            return; // as with most requests
        }
        (self.has_path, self.has_query) = (false, false);
        let [one, other] = &mut self.scratch;
        for buffer in [&mut self.path.bytes, &mut self.query, &mut self.draft, one, other] {
            if buffer.capacity() > BYTES_KEPT_MAX {
                *buffer = Vec::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(path: &str) -> Result<(), RewriteError> {
        Rewritten::default().set_path(path.as_bytes().to_vec())
    }

    #[test]
    fn what_is_made_is_a_normal_path() {
        for path in ["/", "/a", "/a/", "/a%20b/c", "/a%2Fb", "/a;v=1/b", "/a%3Fb", "/..a", "/a%252Fb"] {
            assert_eq!(set(path), Ok(()), "{path}");
        }
        for path in [
            "",
            "a",
            "//a",
            "/a//b",
            "/a/../b",
            "/..",
            "/.",
            "/a/.",
            "/a/%2e%2e",
            "/a?b",
            "/a#b",
            "/a b",
            "/a\r\nb",
            "/%zz",
            "/%00",
            "/%c0%af",
            "/a%2fb",
            "/%61",
            "/a[b]",
        ] {
            assert_eq!(set(path), Err(RewriteError::NotNormal), "{path}");
        }
        assert_eq!(set(&format!("/{}", "a".repeat(REWRITTEN_BYTES_MAX))), Err(RewriteError::TooLong));
    }

    #[test]
    fn no_reading_of_it_leads_elsewhere() {
        for path in [
            "/users/..%2Fadmin",
            "/users/x%2F..%2F..%2Fadmin/profile",
            "/users/.%2Fadmin",
            "/users/a%2F%2Fb",
            "/users/..%5Cadmin",
            "/users/..%252Fadmin",
            "/users/%252e%252e%252Fadmin",
            "/users/..;x/admin",
            "/users/..%3Bx/admin",
            "/users/;x/admin",
        ] {
            assert!(set(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_query_that_is_empty_is_none() {
        let mut rewritten = Rewritten::default();
        assert_eq!(rewritten.query(), None);
        rewritten.set_query(Vec::new()).unwrap();
        assert_eq!(rewritten.query(), Some(None));
        rewritten.set_query(b"a=1".to_vec()).unwrap();
        assert_eq!(rewritten.query(), Some(Some(&b"a=1"[..])));
        rewritten.clear();
        assert_eq!((rewritten.query(), rewritten.path()), (None, None));
    }
}
