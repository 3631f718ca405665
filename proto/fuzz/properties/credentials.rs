//! What holds of any bytes as credentials: no panic, one way of writing for what is taken, and a parameter that is taken out
//! of a query is not in it any more. Run by the fuzzer and, on texts that are nearly credentials, by the tests of proto.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringway_proto::cookies;
use ringway_proto::credentials::digest::ContentDigest;
use ringway_proto::credentials::signature::{COMPONENTS_MAX, Signature};
use ringway_proto::credentials::{
    BASIC_BYTES_MAX, BasicPair, after_scheme, decoded, is_param, param_value, without_param,
};

pub fn check(bytes: &[u8]) {
    schemes(bytes);
    basic(bytes);
    cookie(bytes);
    query(bytes);
    digests(bytes);
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    signature(&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
}

fn schemes(value: &[u8]) {
    let found = ["Bearer", "Basic", "Digest"].map(|scheme| (scheme, after_scheme(value, scheme)));
    assert!(found.iter().filter(|(_, rest)| rest.is_some()).count() <= 1, "a value has one scheme");
    for (scheme, rest) in found {
        let Some(rest) = rest else { continue };
        assert!(value[..scheme.len()].eq_ignore_ascii_case(scheme.as_bytes()) && value[scheme.len()] == b' ');
        assert!(value.trim_ascii_end().ends_with(rest) && rest.trim_ascii() == rest);
        basic(rest);
    }
}

fn basic(text: &[u8]) {
    let Some(pair) = BasicPair::parse(text) else { return };
    assert!(pair.bytes.len() <= BASIC_BYTES_MAX && STANDARD.encode(&pair.bytes).as_bytes() == text);
    assert!(!pair.name().contains(&b':'));
    assert_eq!([pair.name(), b":", pair.password()].concat(), pair.bytes);
}

fn cookie(line: &[u8]) {
    let mut bytes = 0;
    for (name, value) in cookies(line) {
        assert!(!name.contains(&b';') && !name.contains(&b'=') && !value.contains(&b';'));
        assert!(name.trim_ascii() == name);
        bytes += name.len() + 1 + value.len();
    }
    assert!(bytes <= line.len());
}

fn query(query: &[u8]) {
    const NAME: &str = "access_token";
    let mut kept = Vec::new();
    without_param(&mut kept, query, |piece| is_param(piece, NAME));
    assert!(kept.len() <= query.len());
    let pieces = |query: &[u8]| -> Vec<Vec<u8>> {
        query.split(|byte| *byte == b'&').filter(|piece| !piece.is_empty()).map(<[u8]>::to_vec).collect()
    };
    let wanted = pieces(query).into_iter().filter(|piece| !is_param(piece, NAME));
    assert!(wanted.eq(pieces(&kept)), "all others stay, in their order");
    for piece in pieces(query) {
        let key = &piece[..piece.len() - param_value(&piece).len()];
        let key = key.strip_suffix(b"=").unwrap_or(key);
        assert_eq!(is_param(&piece, NAME), *decoded(key) == *NAME.as_bytes());
        let plain = decoded(&piece);
        assert!(plain.len() <= piece.len() && (piece.contains(&b'%') || *plain == *piece));
    }
}

fn digests(value: &[u8]) {
    let Some(read) = ContentDigest::parse(value) else { return };
    let member = |name: &str, digest: Option<&[u8]>| digest.map(|bytes| format!("{name}=:{}:", STANDARD.encode(bytes)));
    let members = [
        member("sha-256", read.sha256.as_ref().map(|digest| &digest[..])),
        member("sha-512", read.sha512.as_ref().map(|digest| &digest[..])),
    ];
    let members: Vec<String> = members.into_iter().flatten().collect();
    assert!(!members.is_empty());
    let text = str::from_utf8(value).expect("it was read as a text");
    let count = |member: &String| text.split(',').filter(|one| one.trim_matches([' ', '\t']) == *member).count();
    assert!(members.iter().all(|member| count(member) == 1), "as they stand there, and once");
    assert_eq!(ContentDigest::parse(members.join(", ").as_bytes()), Some(read));
}

/// What was read is written as the standard serialises it: there is no other text for it.
fn signature(input: &[u8], tag: &[u8]) {
    let Ok(read) = Signature::parse(input, tag) else { return };
    let (label, params) = str::from_utf8(input).expect("a text").split_once('=').expect("a label");
    assert_eq!((params, format!("{label}=:{}:", STANDARD.encode(read.tag)).as_bytes()), (read.params, tag));
    assert!(read.components.len() <= COMPONENTS_MAX && !read.nonce.is_empty());
    for (at, name) in read.components.iter().enumerate() {
        assert!(read.covers(name) && !read.components[at + 1..].contains(name));
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase() && byte != b'"'));
    }
    let names: Vec<String> = read.components.iter().map(|name| format!("\"{name}\"")).collect();
    let rest = params.strip_prefix(&format!("({})", names.join(" "))).expect("the components stand first");
    let expires = read.expires_unix_s.map(|expires| format!(";expires={expires}")).unwrap_or_default();
    for part in [
        format!(";created={}", read.created_unix_s),
        format!(";keyid=\"{}\"", read.key_id),
        format!(";nonce=\"{}\"", read.nonce),
        expires,
    ] {
        assert!(rest.contains(&part), "{part} is not in {rest}");
    }
}
