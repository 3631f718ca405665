//! One access-log line as a test reads it. Accepts dotted and nested ECS names alike.

use serde_json::Value;

use super::names;

#[derive(Debug, Clone)]
pub struct Line(pub Value);

impl Line {
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let value = serde_json::from_str(text).unwrap_or_else(|e| panic!("not JSON ({e}): {text}"));
        assert!(matches!(value, Value::Object(_)), "not an object: {text}");
        Self(value)
    }

    pub fn field(&self, name: &str) -> &Value {
        dig(&self.0, name)
    }

    pub fn text(&self, name: &str) -> String {
        self.field(name).as_str().unwrap_or_default().to_owned()
    }

    pub fn status(&self) -> u64 {
        self.field(names::LOG_STATUS).as_u64().unwrap_or_default()
    }

    pub fn path(&self) -> String {
        self.text(names::LOG_PATH)
    }

    /// `UT`, `DC` ...; written as one string or as a list.
    pub fn flags(&self) -> Vec<String> {
        match self.field(names::LOG_FLAGS) {
            Value::String(s) => s.split([',', ' ']).filter(|f| !f.is_empty() && *f != "-").map(str::to_owned).collect(),
            Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }

    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags().iter().any(|f| f == flag)
    }
}

fn dig<'a>(value: &'a Value, name: &str) -> &'a Value {
    if let Some(found) = value.get(name) {
        return found;
    }
    for (at, _) in name.match_indices('.') {
        if let Some(inner) = value.get(&name[..at]) {
            let found = dig(inner, &name[at + 1..]);
            if !found.is_null() {
                return found;
            }
        }
    }
    &Value::Null
}
