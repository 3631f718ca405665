//! `request_headers` and `response_headers`: set, add and remove fields of a head.
//!
//! ```toml
//! filters = [{ request_headers = { set = { x-tenant = "a" }, add = { x-seen = "gateway" }, remove = ["x-debug"] } }]
//! ```
//! `remove` runs first, then `set` (which replaces all fields of that name), then `add`. Fields that frame a message or
//! belong to one hop (`content-length`, `transfer-encoding`, `connection`, ...) cannot be named: they are Ringway's own.
//! `set = { host = ".." }` changes the `Host` that the origin sees.

use std::collections::BTreeMap;

use ringway_config::Fault;
use ringway_config::http::{HeaderName, HeaderValue};
use ringway_config::snapshot::FilterConfig;
use serde::Deserialize;

use super::{Filter, RequestEdit, Verdict};
use crate::exchange::{HeaderEdit, HeaderEdits};

/// The table of both filters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    set: BTreeMap<HeaderName, HeaderValue>,
    #[serde(default)]
    add: BTreeMap<HeaderName, HeaderValue>,
    #[serde(default)]
    remove: Vec<HeaderName>,
}

/// The edits of a table, checked.
struct Ops(Vec<Op>);

enum Op {
    Remove(String),
    Set(String, String),
    Add(String, String),
}

pub(super) struct RequestHeaders(Ops);
pub(super) struct ResponseHeaders(Ops);

impl RequestHeaders {
    pub(super) fn build(config: &FilterConfig) -> Result<Box<dyn Filter>, Fault> {
        Ok(Box::new(RequestHeaders(Ops::build(config, true)?)))
    }
}

impl ResponseHeaders {
    pub(super) fn build(config: &FilterConfig) -> Result<Box<dyn Filter>, Fault> {
        Ok(Box::new(ResponseHeaders(Ops::build(config, false)?)))
    }
}

impl Filter for RequestHeaders {
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        self.0.push_to(request.headers);
        Verdict::Pass
    }
}

impl Filter for ResponseHeaders {
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        self.0.push_to(request.answer);
        Verdict::Pass
    }
}

impl Ops {
    fn build(config: &FilterConfig, request: bool) -> Result<Ops, Fault> {
        let table: Table = ringway_config::filter::table(config)?;
        let mut ops = Vec::new();
        for name in table.remove {
            ops.push(Op::Remove(allowed(config, "remove", name, false)?));
        }
        for (name, value) in table.set {
            ops.push(Op::Set(allowed(config, "set", name, request)?, value.into_string()));
        }
        for (name, value) in table.add {
            ops.push(Op::Add(allowed(config, "add", name, false)?, value.into_string()));
        }
        Ok(Ops(ops))
    }

    fn push_to<'p>(&'p self, edits: &mut HeaderEdits<'p>) {
        for op in &self.0 {
            edits.push(match op {
                Op::Remove(name) => HeaderEdit::Remove(name),
                Op::Set(name, value) => HeaderEdit::Set(name, value.into()),
                Op::Add(name, value) => HeaderEdit::Add(name, value.into()),
            });
        }
    }
}

fn allowed(config: &FilterConfig, key: &str, name: HeaderName, host_allowed: bool) -> Result<String, Fault> {
    if name.is_ours() || (name.as_str() == "host" && !host_allowed) {
        return Err(Fault::new(format!("{:?} frames the message or belongs to one hop", name.as_str()))
            .at(format!("{}.{key}", config.place))
            .cure("Ringway writes it itself; leave it out"));
    }
    Ok(name.into_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> FilterConfig {
        let table = toml::Value::Table(toml::from_str(text).unwrap());
        FilterConfig { name: "request_headers".into(), table, place: "routes[0].filters[0].request_headers".into() }
    }

    #[test]
    fn edits_apply_in_their_order() {
        let config = config("set = { X-A = '1', host = 'h' }\nadd = { x-b = '2' }\nremove = ['x-c']");
        let ops = Ops::build(&config, true).map_err(|fault| format!("{fault:?}")).unwrap();
        let mut edits = HeaderEdits::default();
        ops.push_to(&mut edits);
        assert!(edits.drops(b"x-a") && edits.drops(b"X-C") && !edits.drops(b"x-b"));
        assert_eq!(edits.replacement("host"), Some("h"));
        edits.push(HeaderEdit::Set("x-a", "later".into()));
        let written: Vec<_> = edits.written().collect();
        assert_eq!(written, [("host", "h"), ("x-b", "2"), ("x-a", "later")]);
    }

    #[test]
    fn what_is_ringways_own_cannot_be_named() {
        for text in [
            "set = { content-length = '1' }",
            "add = { connection = 'x' }",
            "remove = ['host']",
            "remove = ['transfer-encoding']",
            "set = { 'bad name' = '1' }",
            "set = { x-a = \"a\\nb\" }",
            "sett = { x-a = '1' }",
        ] {
            assert!(Ops::build(&config(text), true).is_err(), "{text}");
        }
    }
}
