//! Who sends a request, as a filter has found out. How it was found out is the filter's.

use std::rc::Rc;

use serde_json::{Map, Value};

/// Somebody whose credentials were good. Shared by the requests that bring the same ones.
#[derive(Debug, Default, Clone)]
pub struct Identity {
    /// The kind of credentials: `jwt`, `api_key`, ...
    pub by: &'static str,
    /// For the log: the token's `sub`, the user's name, the consumer.
    pub subject: Rc<str>,
    /// The configured consumer.
    pub consumer: Option<Rc<str>>,
    pub roles: Vec<Box<str>>,
    /// What a token says besides.
    pub claims: Map<String, Value>,
    /// After that the credentials are void, and so is what they have opened.
    pub expires_unix_s: Option<u64>,
    /// Values of the header fields that its issuer's configuration names, in that order.
    pub fields: Vec<Option<Rc<str>>>,
}

impl Identity {
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|have| **have == *role)
    }

    /// A claim; dots lead into objects: `realm_access.roles`. A name that is written with its dots is found first.
    pub fn claim(&self, path: &str) -> Option<&Value> {
        claim(&self.claims, path)
    }
}

/// [`Identity::claim`] of claims that belong to nobody yet.
pub fn claim<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    if let Some(found) = claims.get(path) {
        return Some(found);
    }
    let (first, rest) = path.split_once('.')?;
    claim(claims.get(first)?.as_object()?, rest)
}

/// Each text that a claim holds: itself, or the members of a list. Numbers and booleans as JSON writes them.
pub fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list.iter().flat_map(texts).collect(),
        Value::Number(number) => vec![number.to_string()],
        Value::Bool(flag) => vec![flag.to_string()],
        Value::Null | Value::Object(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_found_by_path() {
        let claims = serde_json::json!({"a": {"b": ["x", 1, true, {"c": 1}]}, "https://x.test/roles": "r", "n": null});
        let claims = claims.as_object().unwrap().clone();
        assert_eq!(claim(&claims, "a.b").map(texts), Some(vec!["x".into(), "1".into(), "true".into()]));
        assert_eq!(claim(&claims, "https://x.test/roles").map(texts), Some(vec!["r".into()]));
        assert_eq!(claim(&claims, "n").map(texts), Some(vec![]));
        assert_eq!(claim(&claims, "a.b.c"), None);
        assert_eq!(claim(&claims, "b"), None);
    }
}
