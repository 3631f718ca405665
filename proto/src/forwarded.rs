//! Who the client is: read from `X-Forwarded-For`, written to `Forwarded` (RFC 7239). Which proxies to trust is decided
//! by the caller.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use crate::scan;

/// Addresses of `X-Forwarded-For` looked at. A chain of trusted proxies this long does not exist.
const HOPS_MAX: usize = 64;

/// The first address from the right that is not a trusted proxy, starting with the peer itself; where all are trusted,
/// the leftmost. What stands left of it was written by the client and proves nothing. A member that is no address
/// (`unknown`, `_hidden`) ends the walk, and so does one too many: the last proxy that was understood is the answer.
pub fn client_ip<'a>(
    xff_values: impl DoubleEndedIterator<Item = &'a [u8]>,
    peer: IpAddr,
    trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut client = peer.to_canonical();
    let members = xff_values.rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
    for member in members.take(HOPS_MAX) {
        if !trusted(client) {
            return client;
        }
        match address(scan::trim(member)) {
            Some(ip) => client = ip,
            None => return client,
        }
    }
    client
}

/// `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]` and `[::1]:5`: all are seen in the wild.
fn address(member: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(member).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let ip = match bare.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) => text.parse::<SocketAddr>().ok()?.ip(),
    };
    Some(ip.to_canonical())
}

/// The address as it stands in `X-Forwarded-For`: no brackets, an IPv4-mapped one as IPv4.
pub fn write_ip(out: &mut Vec<u8>, ip: IpAddr) {
    // Writing to a vector does not fail.
    let _ = write!(out, "{}", ip.to_canonical());
}

/// One element of `Forwarded`: `for=192.0.2.1;proto=http;host=example.com`. An empty `host` is left out; one that is no
/// token (it has a port, or is an IPv6 literal) is quoted.
pub fn write_forwarded(out: &mut Vec<u8>, client: IpAddr, proto: &[u8], host: &[u8]) {
    out.extend_from_slice(b"for=");
    match client.to_canonical() {
        IpAddr::V4(_) => write_ip(out, client),
        // RFC 7239 6: brackets, and quotes because of the colons.
        IpAddr::V6(_) => {
            out.extend_from_slice(b"\"[");
            write_ip(out, client);
            out.extend_from_slice(b"]\"");
        }
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(proto);
    if host.is_empty() {
        return;
    }
    out.extend_from_slice(b";host=");
    if scan::is_token(host) {
        out.extend_from_slice(host);
        return;
    }
    out.push(b'"');
    for byte in host {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("a test's own address")
    }

    fn client(values: &[&str], peer: &str) -> IpAddr {
        let trusted = |ip: IpAddr| ip.to_string().starts_with("10.") || ip.to_string() == "fd00::1";
        client_ip(values.iter().map(|value| value.as_bytes()), ip(peer), trusted)
    }

    #[test]
    fn the_walk_ends_at_the_first_stranger() {
        assert_eq!(client(&["1.1.1.1"], "9.9.9.9"), ip("9.9.9.9"), "an untrusted peer is not asked");
        assert_eq!(client(&["6.6.6.6, 1.1.1.1, 10.0.0.2"], "10.0.0.1"), ip("1.1.1.1"));
        assert_eq!(client(&["6.6.6.6", "1.1.1.1", "10.0.0.2 ,10.0.0.3"], "10.0.0.1"), ip("1.1.1.1"), "several fields");
        assert_eq!(client(&["10.0.0.3,10.0.0.2"], "10.0.0.1"), ip("10.0.0.3"), "all trusted: the leftmost");
        assert_eq!(client(&[], "10.0.0.1"), ip("10.0.0.1"));
        assert_eq!(client(&["1.1.1.1, unknown, 10.0.0.2"], "10.0.0.1"), ip("10.0.0.2"));
        assert_eq!(client(&["1.1.1.1,"], "10.0.0.1"), ip("10.0.0.1"), "an empty member is no address");
        assert_eq!(client(&["::ffff:1.1.1.1"], "::ffff:10.0.0.1"), ip("1.1.1.1"), "mapped ones are IPv4");
        assert_eq!(client(&["[2001:db8::1]:4711, fd00::1"], "10.0.0.1"), ip("2001:db8::1"));
        assert_eq!(client(&["1.1.1.1:80"], "10.0.0.1"), ip("1.1.1.1"));
        assert_eq!(client(&["[2001:db8::1]"], "10.0.0.1"), ip("2001:db8::1"));
    }

    #[test]
    fn the_walk_is_bounded() {
        let long = ["10.0.0.9,"; HOPS_MAX].concat() + "10.0.0.8";
        assert_eq!(client(&["1.1.1.1", &long], "10.0.0.1"), ip("10.0.0.9"));
    }

    #[test]
    fn elements_are_quoted_where_they_must() {
        let write = |client: &str, host: &str| {
            let mut out = Vec::new();
            write_forwarded(&mut out, ip(client), b"http", host.as_bytes());
            String::from_utf8(out).expect("ASCII")
        };
        assert_eq!(write("192.0.2.1", "a.b"), "for=192.0.2.1;proto=http;host=a.b");
        assert_eq!(write("192.0.2.1", "a.b:80"), "for=192.0.2.1;proto=http;host=\"a.b:80\"");
        assert_eq!(write("2001:db8::1", ""), "for=\"[2001:db8::1]\";proto=http");
        assert_eq!(write("::ffff:192.0.2.1", "[::1]"), "for=192.0.2.1;proto=http;host=\"[::1]\"");
    }
}
