//! For the filters' own tables, which this crate does not know: strict reading with the same place and the same
//! "did you mean" as everywhere else.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde::de::IntoDeserializer;
use serde_path_to_error::Segment;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use crate::decode::{Decode, wrong_type};
use crate::near::nearest;
use crate::place::{Place, key_text};
use crate::problem::{Fault, Problems, quoted};
use crate::snapshot::FilterConfig;

/// A filter's table as its own struct. Keys that the struct does not have are errors, with or without
/// `deny_unknown_fields`; only with it they come with a suggestion.
pub fn table<T: DeserializeOwned>(config: &FilterConfig) -> Result<T, Fault> {
    let mut unknown = None;
    let mut note = |path: serde_ignored::Path<'_>| {
        unknown.get_or_insert_with(|| below(&config.place, &path));
    };
    let strict = serde_ignored::Deserializer::new(config.table.clone().into_deserializer(), &mut note);
    let read = serde_path_to_error::deserialize(strict).map_err(|error| {
        let path = error.path().clone();
        fault(&config.place, &path, error.into_inner().message())
    })?;
    match unknown {
        None => Ok(read),
        Some(place) => Err(Fault::new("no such key here").at(place)),
    }
}

impl Decode for FilterConfig {
    fn shape() -> String {
        "{ FILTER = ... }".to_owned()
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let wanted = "a table with one key, such as { strip_prefix = \"/api\" }";
        let DeValue::Table(table) = value else {
            problems.error(place, wrong_type(wanted, value));
            return None;
        };
        let mut entries = table.iter();
        let (Some((key, value)), None) = (entries.next(), entries.next()) else {
            let keys: Vec<&str> = table.keys().map(|key| key.get_ref().as_ref()).collect();
            let found = if keys.is_empty() { "no key".to_owned() } else { quoted(&keys.join(", ")) };
            let fault = Fault::new(format!("expected {wanted}, found {found}"));
            problems.error(place, fault.cure("give each filter its own braces: they run in the order of the list"));
            return None;
        };
        let here = place.key(key.get_ref());
        match self::value(value.clone()) {
            Ok(table) => Some(Self { name: key.get_ref().to_string(), table, place: here.to_string() }),
            Err(fault) => {
                problems.error(&here, fault);
                None
            }
        }
    }
}

/// A path of `serde_ignored`, which has a notation of its own for lists, in ours.
fn below(place: &str, path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => place.to_owned(),
        Path::Seq { parent, index } => format!("{}[{index}]", below(place, parent)),
        Path::Map { parent, key } => format!("{}.{}", below(place, parent), key_text(key)),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            below(place, parent)
        }
    }
}

fn fault(place: &str, path: &serde_path_to_error::Path, message: &str) -> Fault {
    let mut at = place.to_owned();
    for segment in path {
        match segment {
            Segment::Map { key } => at = format!("{at}.{}", key_text(key)),
            Segment::Seq { index } => at = format!("{at}[{index}]"),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    match UnknownKey::parse(message) {
        Some(unknown) => unknown.fault(at),
        None => Fault::new(message.lines().collect::<Vec<_>>().join("; ")).at(at),
    }
}

/// What serde says of a key or variant it does not know: ``unknown field `a`, expected one of `b`, `c` ``.
struct UnknownKey<'a> {
    kind: &'static str,
    found: &'a str,
    known: Vec<&'a str>,
}

impl<'a> UnknownKey<'a> {
    fn parse(message: &'a str) -> Option<Self> {
        let (kind, rest) = match message.strip_prefix("unknown field `") {
            Some(rest) => ("key", rest),
            None => ("choice", message.strip_prefix("unknown variant `")?),
        };
        let (found, rest) = rest.split_once("`, ")?;
        let known = rest.split('`').skip(1).step_by(2).collect();
        Some(Self { kind, found, known })
    }

    fn fault(self, at: String) -> Fault {
        let Self { kind, found, known } = self;
        // The path already ends in the unknown key itself, for serde has read it.
        let fault = Fault::new(format!("no {kind} {} here", quoted(found))).at(at);
        match nearest(found, known.iter().copied()) {
            Some(near) => fault.cure(format!("did you mean {near:?}?")),
            None if known.is_empty() => fault,
            None => fault.cure(format!("the {kind}s here are {}", known.join(", "))),
        }
    }
}

/// A tree without its positions. An integer that does not fit is the only thing that can be wrong with it.
pub(crate) fn value(tree: Spanned<DeValue<'_>>) -> Result<toml::Value, Fault> {
    toml::Value::deserialize(ValueDeserializer::from(tree))
        .map_err(|_| Fault::new("a number in it does not fit 64 bits"))
}
