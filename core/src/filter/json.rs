//! JSON of strangers: parsed within limits, and without what two parsers could understand in two ways.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// serde_json goes no deeper than 127.
pub(super) const DEPTH_MAX_MAX: usize = 127;

/// Why a body is not taken for JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotTaken {
    Malformed,
    TooDeep,
    /// An object has two members of one name: which of them counts differs from parser to parser (RFC 8259 4).
    Duplicate,
}

/// Parses all of `bytes`. An array or object in `depth_max` others is the deepest that is taken.
pub(super) fn parse(bytes: &[u8], depth_max: usize) -> Result<Value, NotTaken> {
    // Counted before anything is built of it.
    if depth(bytes) > depth_max {
        return Err(NotTaken::TooDeep);
    }
    let mut duplicate = false;
    let mut from = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { duplicate: &mut duplicate }.deserialize(&mut from);
    match value.and_then(|value| from.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(_) if duplicate => Err(NotTaken::Duplicate),
        Err(_) => Err(NotTaken::Malformed),
    }
}

/// How deep arrays and objects stand in one another, if it is JSON.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Makes a value in which no object names a member twice.
struct Strict<'d> {
    duplicate: &'d mut bool,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number beyond all bounds"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Strict { duplicate: self.duplicate })? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            let value = object.next_value_seed(Strict { duplicate: self.duplicate })?;
            if members.insert(name, value).is_some() {
                *self.duplicate = true;
                return Err(A::Error::custom("a name is there twice"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_has_two_readings_is_not_taken() {
        let taken = |text: &str| parse(text.as_bytes(), 3);
        assert_eq!(taken(r#" {"a": [{"b": "[[[{{\"[["}], "c": -1.5e3} "#).unwrap()["c"], -1500.0);
        assert_eq!(taken(r#"{"a": 1, "b": {"a": 1}}"#).unwrap()["b"]["a"], 1);
        for (text, why) in [
            (r#"{"a": 1, "a": 1}"#, NotTaken::Duplicate),
            (r#"[{"a": 1, "\u0061": 2}]"#, NotTaken::Duplicate),
            ("[[[[]]]]", NotTaken::TooDeep),
            ("[[[[", NotTaken::TooDeep),
            (r#"{"a":{"a":{"a":{}}}}"#, NotTaken::TooDeep),
            ("{} {}", NotTaken::Malformed),
            ("", NotTaken::Malformed),
            ("NaN", NotTaken::Malformed),
            ("1e999", NotTaken::Malformed),
            ("\u{feff}{}", NotTaken::Malformed),
        ] {
            assert_eq!(taken(text), Err(why), "{text}");
        }
        assert_eq!(parse(b"\"\xff\"", 3), Err(NotTaken::Malformed));
        let deep = format!("{}{}", "[".repeat(DEPTH_MAX_MAX), "]".repeat(DEPTH_MAX_MAX));
        assert!(parse(deep.as_bytes(), DEPTH_MAX_MAX).is_ok(), "the limit is what the parser can do");
    }

    proptest! {
        #[test]
        fn what_is_taken_is_what_serde_json_makes_of_it(text in r#"[\[\]{}",:\\a0-9 .etrufalsn-]{0,24}"#) {
            match (parse(text.as_bytes(), DEPTH_MAX_MAX), serde_json::from_str::<Value>(&text)) {
                (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs),
                (Err(NotTaken::Duplicate | NotTaken::TooDeep), _) | (Err(NotTaken::Malformed), Err(_)) => {}
                (ours, theirs) => prop_assert!(false, "{:?} {:?}", ours, theirs),
            }
        }
    }
}
