//! `host[:port]`: what a `Host` field or an absolute target may say, and how two of them compare. Resolves nothing.

use std::net::Ipv6Addr;

/// Without the port; an IPv6 literal keeps its brackets. Case is as it came.
#[inline]
pub fn host_of(authority: &[u8]) -> &[u8] {
    &authority[..host_len(authority)]
}

/// `None`: no port, an empty one, or none that fits 16 bits.
pub fn port_of(authority: &[u8]) -> Option<u16> {
    port(authority[host_len(authority)..].strip_prefix(b":")?)
}

fn port(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > PORT_DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let port = digits.iter().fold(0u32, |port, digit| port * 10 + u32::from(digit - b'0'));
    u16::try_from(port).ok()
}

const PORT_DIGITS_MAX: usize = 5;

/// Where the port's colon stands, or the end.
#[inline]
fn host_len(authority: &[u8]) -> usize {
    let from = match authority.first() {
        Some(b'[') => authority.iter().position(|byte| *byte == b']').unwrap_or(0),
        _ => 0,
    };
    authority[from..].iter().position(|byte| *byte == b':').map_or(authority.len(), |at| from + at)
}

/// A host and perhaps a port, narrower than RFC 3986: names are letters, digits and `-._~` without empty labels. Userinfo,
/// percent-encoding and sub-delims (`,`, `;`, `'`, ...) are valid there in theory, but no DNS name needs them and
/// every reader of a `Host` treats them in its own way.
pub(crate) fn is_valid(authority: &[u8]) -> bool {
    if authority.first() == Some(&b'[') {
        return is_valid_literal(authority);
    }
    let mut rest = authority;
    loop {
        let label = rest.iter().position(|byte| !IN_LABEL[usize::from(*byte)]).unwrap_or(rest.len());
        match rest.get(label) {
            None => return !authority.is_empty(),
            Some(b'.') if label > 0 => rest = &rest[label + 1..],
            Some(b':') if label > 0 || rest.len() < authority.len() => {
                let digits = &rest[label + 1..];
                return digits.is_empty() || port(digits).is_some();
            }
            Some(_) => return false,
        }
    }
}

#[cold]
fn is_valid_literal(authority: &[u8]) -> bool {
    let host = host_of(authority);
    let address = host[1..].strip_suffix(b"]").and_then(|inside| str::from_utf8(inside).ok());
    let valid = address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    valid && (authority.len() <= host.len() + 1 || port_of(authority).is_some())
}

/// What a label may hold.
static IN_LABEL: [bool; 256] = {
    let mut out = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        out[byte as usize] = matches!(byte, b'-' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z');
        byte += 1;
    }
    out
};

/// Same host (any case) and same port, where a missing port is the scheme's default.
pub(crate) fn same(a: &[u8], b: &[u8], default_port: u16) -> bool {
    host_of(a).eq_ignore_ascii_case(host_of(b))
        && port_of(a).unwrap_or(default_port) == port_of(b).unwrap_or(default_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_split() {
        let cases: &[(&str, &str, Option<u16>)] = &[
            ("a.b", "a.b", None),
            ("a.b:80", "a.b", Some(80)),
            ("a.b:", "a.b", None),
            ("[::1]", "[::1]", None),
            ("[::1]:8443", "[::1]", Some(8443)),
            ("", "", None),
            ("a:65536", "a", None),
            ("[::1", "[", None),
        ];
        for (authority, host, port) in cases {
            assert_eq!(host_of(authority.as_bytes()), host.as_bytes(), "{authority}");
            assert_eq!(port_of(authority.as_bytes()), *port, "{authority}");
        }
    }

    #[test]
    fn only_plain_hosts_are_valid() {
        for good in ["a", "A-b_c.d~e.", "127.0.0.1:65535", "a:", "a:00080", "[::1]", "[::ffff:1.2.3.4]:0"] {
            assert!(is_valid(good.as_bytes()), "{good}");
        }
        let bad = [
            "",
            ":80",
            ".",
            ".a",
            "a..b",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "u@a",
            "a,b",
            "a;b",
            "a%41",
            "a\\b",
            "a:80x",
            "a:-1",
            "a:65536",
            "a:000080",
            "a:80:80",
            "[::1",
            "::1",
            "[::1]x",
            "[::1%25lo]",
            "[v1.a]",
            "[]",
            "[1.2.3.4]",
            "a[::1]",
            "gw\u{ff}",
            "a\0",
            "a]",
        ];
        for bad in bad {
            assert!(!is_valid(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn default_ports_and_case_do_not_matter() {
        assert!(same(b"A.b", b"a.B:80", 80));
        assert!(same(b"a:", b"a", 443));
        assert!(!same(b"a:80", b"a", 443));
        assert!(!same(b"a", b"a.", 80));
    }
}
