//! The forwarding fields that an origin gets: who the client is and how it came (RFC 7239, and the X-Forwarded family).
//! From a peer that is no trusted proxy nothing is believed; a trusted one's chain is continued.

use std::net::IpAddr;

use ringway_config::snapshot::Forwarded;
use ringway_proto::{Known, RequestHead, client_ip, write_decimal, write_field, write_forwarded, write_ip};

/// What is known of the way that a request took to us.
pub struct Hop<'a> {
    pub mode: Forwarded,
    pub peer: IpAddr,
    pub peer_text: &'a PeerText,
    pub local_port: u16,
    pub scheme: &'a str,
    /// `host[:port]` that the client asked for.
    pub host: &'a [u8],
    /// The peer is a trusted proxy.
    pub trusted: bool,
}

const FOR: &[u8] = b"X-Forwarded-For: ";

/// What all requests of one connection say of their peer. Made once: formatting the address for each request would cost
/// a tenth of our own work.
pub struct PeerText {
    /// The fields for a peer that is no trusted proxy, each with CRLF; the one that begins with its address first.
    fields: Box<[u8]>,
    address_len: u8,
}

impl PeerText {
    pub fn new(peer: IpAddr, local_port: u16, scheme: &str) -> PeerText {
        let mut address = Vec::new();
        write_ip(&mut address, peer);
        let mut fields = FOR.to_vec();
        fields.extend_from_slice(&address);
        fields.extend_from_slice(b"\r\n");
        write_field(&mut fields, b"X-Forwarded-Proto", scheme.as_bytes());
        fields.extend_from_slice(b"X-Forwarded-Port: ");
        write_decimal(&mut fields, local_port.into());
        fields.extend_from_slice(b"\r\n");
        write_field(&mut fields, b"X-Real-IP", &address);
        PeerText { fields: fields.into(), address_len: address.len() as u8 }
    }

    fn address(&self) -> &[u8] {
        &self.fields[FOR.len()..FOR.len() + usize::from(self.address_len)]
    }
}

/// Who the client is, as far as trusted proxies say.
pub fn client_address(head: &RequestHead, bytes: &[u8], peer: IpAddr, trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    if !trusted(peer) {
        return peer;
    }
    client_ip(values(head, bytes, Known::XForwardedFor), peer, trusted)
}

/// Writes the fields, each with CRLF.
pub fn write_hop(out: &mut Vec<u8>, head: &RequestHead, bytes: &[u8], hop: &Hop<'_>, client: IpAddr) {
    if matches!(hop.mode, Forwarded::X | Forwarded::Both) {
        write_x_forwarded(out, head, bytes, hop, client);
    }
    if matches!(hop.mode, Forwarded::Rfc7239 | Forwarded::Both) {
        out.extend_from_slice(b"Forwarded: ");
        continue_list(out, head, bytes, hop, Known::Forwarded);
        write_forwarded(out, hop.peer, hop.scheme.as_bytes(), hop.host);
        out.extend_from_slice(b"\r\n");
    } else if hop.trusted {
        for value in values(head, bytes, Known::Forwarded) {
            write_field(out, b"Forwarded", value);
        }
    }
}

fn write_x_forwarded(out: &mut Vec<u8>, head: &RequestHead, bytes: &[u8], hop: &Hop<'_>, client: IpAddr) {
    if !hop.trusted {
        out.extend_from_slice(&hop.peer_text.fields);
        return write_forwarded_host(out, hop);
    }
    out.extend_from_slice(FOR);
    continue_list(out, head, bytes, hop, Known::XForwardedFor);
    out.extend_from_slice(hop.peer_text.address());
    out.extend_from_slice(b"\r\n");
    // A trusted proxy's own words about the first hop stay (they are copied with the other fields).
    let said = |known| head.find(known).is_some();
    if !said(Known::XForwardedProto) {
        write_field(out, b"X-Forwarded-Proto", hop.scheme.as_bytes());
    }
    if !said(Known::XForwardedPort) {
        out.extend_from_slice(b"X-Forwarded-Port: ");
        write_decimal(out, hop.local_port.into());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"X-Real-IP: ");
    if client == hop.peer {
        out.extend_from_slice(hop.peer_text.address());
    } else {
        write_ip(out, client);
    }
    out.extend_from_slice(b"\r\n");
    if !said(Known::XForwardedHost) {
        write_forwarded_host(out, hop);
    }
}

fn write_forwarded_host(out: &mut Vec<u8>, hop: &Hop<'_>) {
    if !hop.host.is_empty() {
        out.extend_from_slice(b"X-Forwarded-Host: ");
        out.extend_from_slice(hop.host);
        out.extend_from_slice(b"\r\n");
    }
}

fn continue_list(out: &mut Vec<u8>, head: &RequestHead, bytes: &[u8], hop: &Hop<'_>, known: Known) {
    if hop.trusted {
        for value in values(head, bytes, known).filter(|value| !value.is_empty()) {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
    }
}

fn values<'a>(head: &'a RequestHead, bytes: &'a [u8], known: Known) -> impl DoubleEndedIterator<Item = &'a [u8]> {
    head.fields.iter().filter(move |field| field.known == known).map(|field| field.value.of(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_proto::{HeadLimits, Progress};

    fn written(request: &str, mode: Forwarded, trusted: bool) -> String {
        let limits = HeadLimits { head_bytes_max: 4096, target_bytes_max: 4096, fields_max: 50 };
        let mut head = RequestHead::new();
        assert_eq!(head.parse(request.as_bytes(), &limits), Ok(Progress::Complete));
        let peer: IpAddr = "10.0.0.9".parse().unwrap();
        let peer_text = &PeerText::new(peer, 8080, "http");
        let hop = Hop { mode, peer, peer_text, local_port: 8080, scheme: "http", host: b"a.test:81", trusted };
        let client = client_address(&head, request.as_bytes(), peer, |ip| trusted && ip == peer);
        let mut out = Vec::new();
        write_hop(&mut out, &head, request.as_bytes(), &hop, client);
        String::from_utf8(out).unwrap()
    }

    const SPOOFED: &str = "GET / HTTP/1.1\r\nHost: a.test:81\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2\r\n\
        X-Forwarded-Proto: https\r\nForwarded: for=3.3.3.3\r\n\r\n";

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(
            written(SPOOFED, Forwarded::Both, false),
            "X-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: 8080\r\nX-Real-IP: 10.0.0.9\r\n\
             X-Forwarded-Host: a.test:81\r\nForwarded: for=10.0.0.9;proto=http;host=\"a.test:81\"\r\n"
        );
        assert_eq!(written(SPOOFED, Forwarded::Off, false), "");
    }

    #[test]
    fn a_trusted_proxys_chain_goes_on() {
        let out = written(SPOOFED, Forwarded::Both, true);
        assert!(out.starts_with("X-Forwarded-For: 1.1.1.1, 2.2.2.2, 10.0.0.9\r\nX-Forwarded-Port"), "{out}");
        assert!(out.contains("X-Real-IP: 2.2.2.2\r\n"), "{out}");
        assert!(out.contains("Forwarded: for=3.3.3.3, for=10.0.0.9;proto=http"), "{out}");
    }
}
