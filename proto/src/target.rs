//! The four forms of a request target (RFC 9112 3.2) and their parts. Does not normalise the path (`path`).

use crate::authority;
use crate::method::Method;
use crate::scan;
use crate::span::Span;

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub enum TargetForm {
    /// `/path?query`
    #[default]
    Origin,
    /// `http://host/path?query`
    Absolute,
    /// `host:port`, with CONNECT only.
    Authority,
    /// `*`, with OPTIONS only.
    Asterisk,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Target {
    pub form: TargetForm,
    pub whole: Span,
    /// Without the query. Empty in authority and asterisk form, and in absolute form where it means `/`.
    pub path: Span,
    /// Without the `?`.
    pub query: Option<Span>,
}

/// A target, and the authority with its scheme's default port where the target holds one.
pub(crate) type Parsed = (Target, Option<(Span, u16)>);

impl Target {
    /// `whole` holds bytes that a target may hold and is not empty. `None`: no form that this method may have.
    pub(crate) fn parse(buf: &[u8], whole: Span, method: Method) -> Option<Parsed> {
        let bytes = whole.of(buf);
        if method == Method::Connect {
            let port = authority::port_of(bytes).filter(|_| authority::is_valid(bytes))?;
            // Its own port stands in for a missing one in `Host`: clients differ on whether to write it.
            return Some((Self { form: TargetForm::Authority, whole, ..Self::default() }, Some((whole, port))));
        }
        if bytes[0] == b'/' {
            return Some((Self::with_path(buf, TargetForm::Origin, whole, usize::from(whole.start)), None));
        }
        if bytes == b"*" {
            let asterisk = Self { form: TargetForm::Asterisk, whole, ..Self::default() };
            return (method == Method::Options).then_some((asterisk, None));
        }
        Self::absolute(buf, whole)
    }

    fn absolute(buf: &[u8], whole: Span) -> Option<Parsed> {
        let bytes = whole.of(buf);
        let (scheme, port) = if starts_with(bytes, b"http://") {
            (b"http://".len(), 80)
        } else if starts_with(bytes, b"https://") {
            (b"https://".len(), 443)
        } else {
            return None;
        };
        let rest = &bytes[scheme..];
        let len = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        if !authority::is_valid(&rest[..len]) {
            return None;
        }
        let from = usize::from(whole.start) + scheme;
        let authority = Span::new(from, from + len);
        Some((Self::with_path(buf, TargetForm::Absolute, whole, from + len), Some((authority, port))))
    }

    fn with_path(buf: &[u8], form: TargetForm, whole: Span, path: usize) -> Self {
        let end = usize::from(whole.end);
        let mark = scan::byte_end(&buf[..end], path, b'?');
        let query = (mark < end).then(|| Span::new(mark + 1, end));
        Self { form, whole, path: Span::new(path, mark), query }
    }
}

fn starts_with(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Form, path, query, authority and port.
    type Parts<'a> = (TargetForm, &'a str, Option<&'a str>, Option<(&'a str, u16)>);

    fn parts(method: Method, target: &str) -> Option<Parts<'_>> {
        let buf = target.as_bytes();
        let (parsed, authority) = Target::parse(buf, Span::new(0, buf.len()), method)?;
        let text = |span: Span| &target[usize::from(span.start)..usize::from(span.end)];
        Some((parsed.form, text(parsed.path), parsed.query.map(text), authority.map(|(span, port)| (text(span), port))))
    }

    #[test]
    fn forms_and_parts() {
        use TargetForm::{Absolute, Asterisk, Authority, Origin};
        assert_eq!(parts(Method::Get, "/a?b?c"), Some((Origin, "/a", Some("b?c"), None)));
        assert_eq!(parts(Method::Get, "/a?"), Some((Origin, "/a", Some(""), None)));
        assert_eq!(parts(Method::Get, "//a/b"), Some((Origin, "//a/b", None, None)));
        assert_eq!(parts(Method::Get, "http://h"), Some((Absolute, "", None, Some(("h", 80)))));
        assert_eq!(parts(Method::Get, "HTTPS://h:1/p?q"), Some((Absolute, "/p", Some("q"), Some(("h:1", 443)))));
        assert_eq!(parts(Method::Get, "http://h?q/r"), Some((Absolute, "", Some("q/r"), Some(("h", 80)))));
        assert_eq!(parts(Method::Options, "*"), Some((Asterisk, "", None, None)));
        assert_eq!(parts(Method::Connect, "h:443"), Some((Authority, "", None, Some(("h:443", 443)))));
    }

    #[test]
    fn forms_that_a_method_may_not_have() {
        let bad = [
            (Method::Get, "*"),
            (Method::Get, "h:443"),
            (Method::Get, "a/b"),
            (Method::Get, "ftp://h/"),
            (Method::Get, "http:/h"),
            (Method::Get, "http:///p"),
            (Method::Get, "http://u@h/p"),
            (Method::Get, "http://u:p@h/p"),
            (Method::Get, "http://h:80x/p"),
            (Method::Get, "?q"),
            (Method::Options, "**"),
            (Method::Connect, "/"),
            (Method::Connect, "h"),
            (Method::Connect, "h:"),
            (Method::Connect, "http://h:80/"),
        ];
        for (method, target) in bad {
            assert_eq!(parts(method, target), None, "{method:?} {target}");
        }
    }
}
