//! What of a request is read only if a condition asks: the decoded path, parameters of the query, cookies, the host in
//! lower case. Reads; judges nothing (`program`).

use super::Query;
use super::build::HOST_BYTES_MAX;
use super::path::decoded;
use ringway_proto::cookies;
use smallvec::SmallVec;

/// Bytes of a decoded value that cost no allocation.
const VALUE_INLINE: usize = 256;

/// One request, and the place where its path is decoded.
pub(super) struct Asked<'a, 'd> {
    pub(super) query: &'a Query<'a>,
    decoded: &'d mut Vec<u8>,
    is_decoded: bool,
}

impl<'a, 'd> Asked<'a, 'd> {
    /// `decoded` is overwritten; its memory is reused.
    pub(super) fn new(query: &'a Query<'a>, decoded: &'d mut Vec<u8>) -> Self {
        Asked { query, decoded, is_decoded: false }
    }

    /// Percent-decoded, `%2F` too.
    pub(super) fn path(&mut self) -> &[u8] {
        let raw = self.query.path;
        if !self.is_decoded {
            if memchr::memchr(b'%', raw).is_none() {
                return raw;
            }
            self.decoded.clear();
            self.decoded.extend(decoded(raw));
            self.is_decoded = true;
        }
        self.decoded
    }

    /// In lower case, without a trailing dot; empty if it is too long to be a name.
    pub(super) fn host<T>(&self, test: impl FnOnce(&[u8]) -> T) -> T {
        let host = self.query.host;
        let host = host.strip_suffix(b".").unwrap_or(host);
        let mut buffer = [0; HOST_BYTES_MAX];
        let Some(lower) = buffer.get_mut(..host.len()) else { return test(b"") };
        lower.copy_from_slice(host);
        lower.make_ascii_lowercase();
        test(lower)
    }

    /// True as soon as `test` holds for one value of the parameter.
    pub(super) fn any_param(&self, name: &str, mut test: impl FnMut(&[u8]) -> bool) -> bool {
        let query = self.query.query_string;
        if query.is_empty() {
            return false;
        }
        query.split(|byte| *byte == b'&').any(|piece| {
            let (found, value) = at_equals(piece).unwrap_or((piece, b""));
            if !same_decoded(found, name.as_bytes()) {
                return false;
            }
            if !is_encoded(value) {
                return test(value);
            }
            let value: SmallVec<[u8; VALUE_INLINE]> = form_decoded(value).collect();
            test(&value)
        })
    }

    /// True as soon as `test` holds for one cookie of this name, in any `Cookie` line.
    pub(super) fn any_cookie(&self, name: &str, mut test: impl FnMut(&[u8]) -> bool) -> bool {
        self.query
            .fields
            .any("cookie", &mut |line| cookies(line).any(|(found, value)| found == name.as_bytes() && test(value)))
    }
}

fn at_equals(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b'=', pair)?;
    Some((&pair[..at], &pair[at + 1..]))
}

fn is_encoded(text: &[u8]) -> bool {
    memchr::memchr2(b'%', b'+', text).is_some()
}

fn same_decoded(raw: &[u8], name: &[u8]) -> bool {
    raw == name && !is_encoded(raw) || is_encoded(raw) && form_decoded(raw).eq(name.iter().copied())
}

/// As forms are encoded: `+` is a space, `%2B` a plus.
fn form_decoded(raw: &[u8]) -> impl Iterator<Item = u8> + '_ {
    raw.split_inclusive(|byte| *byte == b'+').flat_map(|piece| {
        let (text, space) = match piece.strip_suffix(b"+") {
            Some(text) => (text, Some(b' ')),
            None => (piece, None),
        };
        decoded(text).chain(space)
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::Request;
    use super::*;

    fn values(request: &Request, any: impl Fn(&Asked<'_, '_>, &mut dyn FnMut(&[u8]) -> bool) -> bool) -> Vec<String> {
        let (query, mut decoded, mut found) = (request.query(), Vec::new(), Vec::new());
        any(&Asked::new(&query, &mut decoded), &mut |value| {
            found.push(String::from_utf8_lossy(value).into_owned());
            false
        });
        found
    }

    #[test]
    fn parameters_are_decoded() {
        for (query, name, wanted) in [
            ("a=1&b=2&a=3", "a", vec!["1", "3"]),
            ("a", "a", vec![""]),
            ("a=&a==", "a", vec!["", "="]),
            ("%61=%31+%2B&a=1", "a", vec!["1 +", "1"]),
            ("a+b=%", "a b", vec!["%"]),
            ("a%2Bb=1&a+b=2", "a+b", vec!["1"]),
            ("aa=1&A=2&&=3", "a", vec![]),
            ("", "", vec![]),
        ] {
            let request = Request::get("/").with_query(query);
            assert_eq!(values(&request, |asked, test| asked.any_param(name, test)), wanted, "{query}");
        }
        let long = format!("a=%41{}", "b".repeat(5000));
        assert_eq!(
            values(&Request::get("/").with_query(&long), |asked, test| asked.any_param("a", test))[0].len(),
            5001
        );
    }

    #[test]
    fn cookies_are_split_in_every_line() {
        let request = Request::get("/").field("cookie", "a=1; b=\"2\";c ; a = 3=4").field("cookie", "a=5;; =x");
        for (name, wanted) in [("a", vec!["1", "3=4", "5"]), ("b", vec!["2"]), ("c", vec![]), ("A", vec![])] {
            assert_eq!(values(&request, |asked, test| asked.any_cookie(name, test)), wanted, "{name}");
        }
    }
}
