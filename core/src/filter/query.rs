//! `query`: the origin sees other parameters.
//!
//! ```toml
//! filters = [{ query = { set = { tenant = "{tenant}" }, add = { via = "gateway" }, remove = ["debug"] } }]
//! ```
//! `remove` runs first, then `set` (which replaces all parameters of that name), then `add`; what they write stands at the
//! end. Values may name `{path}` and the params of the route's path; names and values are written decoded and are encoded
//! for the query. Parameters are what `&` separates; a name is compared after decoding, so that `%64ebug` is `debug`. The
//! others keep their bytes and their order.

use std::collections::BTreeMap;

use ringway_config::Fault;
use ringway_config::snapshot::FilterConfig;
use serde::Deserialize;

use super::template::{Piece, Template};
use super::{Filter, Needs, RequestEdit, Verdict, refuse_rewrite};

/// Names in one table.
const NAMES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    set: BTreeMap<String, String>,
    #[serde(default)]
    add: BTreeMap<String, String>,
    #[serde(default)]
    remove: Vec<String>,
}

pub(super) struct QueryEdits {
    /// Decoded: those that are removed or set.
    dropped: Vec<Vec<u8>>,
    written: Vec<Written>,
    needs: Needs,
}

struct Written {
    /// `name=`, encoded.
    name: Vec<u8>,
    /// Its text is encoded already.
    value: Template,
}

impl QueryEdits {
    pub(super) fn build(config: &FilterConfig) -> Result<Box<dyn Filter>, Fault> {
        let Table { set, add, remove } = ringway_config::filter::table(config)?;
        let wrong = |key: &str, text: &str, why: &str| {
            Fault::new(format!("{text:?} cannot be used: {why}")).at(format!("{}.{key}", config.place))
        };
        if set.len() + add.len() + remove.len() > NAMES_MAX {
            return Err(Fault::new(format!("more than {NAMES_MAX} names")).at(config.place.clone()));
        }
        let mut dropped: Vec<Vec<u8>> = Vec::new();
        for (key, name) in remove.iter().map(|name| ("remove", name)).chain(set.keys().map(|name| ("set", name))) {
            if name.is_empty() || name.len() > NAME_BYTES_MAX {
                return Err(wrong(key, name, &format!("a name has 1 to {NAME_BYTES_MAX} bytes")));
            }
            dropped.push(name.as_bytes().to_vec());
        }
        let mut written = Vec::new();
        for (key, (name, value)) in set.iter().map(|pair| ("set", pair)).chain(add.iter().map(|pair| ("add", pair))) {
            let value = Template::parse(value, &[]).map_err(|why| wrong(key, value, &why))?;
            let mut encoded = Vec::new();
            encode(&mut encoded, name.as_bytes());
            encoded.push(b'=');
            written.push(Written { name: encoded, value: encoded_texts(value) });
        }
        let params = written.iter().flat_map(|one| one.value.params().cloned()).collect();
        let needs = Needs { place: config.place.clone(), params, prefix: false };
        Ok(Box::new(QueryEdits { dropped, written, needs }))
    }
}

impl Filter for QueryEdits {
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        let mut draft = request.rewritten.draft();
        for pair in request.current_query().unwrap_or_default().split(|byte| *byte == b'&') {
            let name = pair.split(|byte| *byte == b'=').next().unwrap_or(pair);
            if !pair.is_empty() && !self.dropped.iter().any(|dropped| same_name(name, dropped)) {
                separate(&mut draft);
                draft.extend_from_slice(pair);
            }
        }
        for one in &self.written {
            separate(&mut draft);
            draft.extend_from_slice(&one.name);
            one.value.fill(&mut draft, request, |_| &[], encode_encoded);
        }
        refuse_rewrite(request.rewritten.set_query(draft))
    }

    fn needs(&self) -> Option<&Needs> {
        Some(&self.needs)
    }
}

fn separate(out: &mut Vec<u8>) {
    if !out.is_empty() {
        out.push(b'&');
    }
}

/// `raw` as a form's name reads (`+` is a space), against a decoded one.
fn same_name(raw: &[u8], name: &[u8]) -> bool {
    let mut rest = raw;
    for wanted in name {
        let (byte, after) = match rest {
            [b'%', high, low, after @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', &rest[1..]),
            },
            [b'+', after @ ..] => (b' ', after),
            [byte, after @ ..] => (*byte, after),
            [] => return false,
        };
        if byte != *wanted {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

fn encoded_texts(template: Template) -> Template {
    let encoded = |text: String| {
        let mut out = Vec::new();
        encode(&mut out, text.as_bytes());
        String::from_utf8(out).unwrap_or_default() // ASCII
    };
    let pieces = template.pieces.into_iter().map(|piece| match piece {
        Piece::Text(text) => Piece::Text(encoded(text)),
        other => other,
    });
    Template { pieces: pieces.collect() }
}

/// What stands in a query for nothing but itself (RFC 3986 section 3.4), whoever reads it.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~/:@".contains(&byte)
}

/// Decoded bytes as a name or value of a query.
fn encode(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        push(out, *byte);
    }
}

/// Bytes of a normal path as a value of a query: its escapes stay, and what could end the value is escaped too.
fn encode_encoded(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        if *byte == b'%' { out.push(b'%') } else { push(out, *byte) }
    }
}

fn push(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if is_plain(byte) {
        out.push(byte);
    } else {
        out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_decoded() {
        for (raw, name, same) in [
            ("debug", "debug", true),
            ("%64ebug", "debug", true),
            ("a+b", "a b", true),
            ("a%2Bb", "a+b", true),
            ("debugs", "debug", false),
            ("debu", "debug", false),
            ("%6", "%6", true),
            ("", "a", false),
        ] {
            assert_eq!(same_name(raw.as_bytes(), name.as_bytes()), same, "{raw}");
        }
    }

    #[test]
    fn nothing_ends_a_value_early() {
        let mut out = Vec::new();
        encode(&mut out, "a b&c=d#e\r\nü%+;/".as_bytes());
        assert_eq!(out, b"a%20b%26c%3Dd%23e%0D%0A%C3%BC%25%2B%3B/");
        out.clear();
        encode_encoded(&mut out, b"a%26b&c=d;e+f");
        assert_eq!(out, b"a%26b%26c%3Dd%3Be%2Bf");
    }
}
