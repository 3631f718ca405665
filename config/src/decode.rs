//! From a TOML tree to typed tables, every mistake reported and none twice. One macro declares a table's keys, their
//! types, defaults and reasons; reading and the reference page both come from that declaration, so no key is missing
//! in either. Does not compare one key with another (`check`).

use std::collections::HashSet;

use toml::de::{DeTable, DeValue};

use crate::near::nearest;
use crate::place::Place;
use crate::problem::{Fault, Problems, quoted};
use crate::snapshot::HostPattern;

/// A type that a key may have.
pub(crate) trait Decode: Sized {
    /// The type as the reference page names it.
    fn shape() -> String;

    /// What is allowed within the type; empty where the type says it all.
    fn range() -> String {
        String::new()
    }

    /// A value as one would write it, for the cure of a missing key.
    fn example() -> String {
        Self::shape()
    }

    /// What a key without a default is when it is not written: `None` means that it must be.
    fn absent() -> Option<Self> {
        None
    }

    /// `None` if something was wrong; `problems` says what.
    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self>;

    /// The tables that hang below a key of this type, for the reference page.
    fn sections(_place: &str, _sections: &mut Vec<Section>) {}
}

/// A type written as one string, parsed once.
pub(crate) trait Word: Sized {
    const SHAPE: &'static str;
    const EXAMPLE: &'static str = "\"...\"";

    fn parse(text: &str) -> Result<Self, Fault>;
}

impl<T: Word> Decode for T {
    fn shape() -> String {
        T::SHAPE.to_owned()
    }

    fn example() -> String {
        T::EXAMPLE.to_owned()
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let DeValue::String(text) = value else {
            problems.error(place, wrong_type(&Self::shape(), value));
            return None;
        };
        T::parse(text).map_err(|fault| problems.error(place, fault)).ok()
    }
}

/// One table of the reference page.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) place: String,
    pub(crate) doc: String,
    pub(crate) rows: Vec<Row>,
}

/// One key of the reference page.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) key: &'static str,
    pub(crate) shape: String,
    pub(crate) default: String,
    pub(crate) range: String,
    pub(crate) reason: String,
}

/// A table whose keys are known: what [`document!`] declares.
pub(crate) trait Keys: Sized {
    const KEYS: &'static [&'static str];

    fn section(place: &str) -> Section;

    fn sections_below(place: &str, sections: &mut Vec<Section>);

    fn from_table(table: &DeTable<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self>;
}

impl<T: Keys> Decode for Table<T> {
    fn shape() -> String {
        "table".to_owned()
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let DeValue::Table(table) = value else {
            let keys = T::KEYS.iter().take(3).map(|key| format!("{key} = ...")).collect::<Vec<_>>().join(", ");
            problems.error(place, wrong_type(&format!("a table {{ {keys} }}"), value));
            return None;
        };
        T::from_table(table, place, problems).map(Table)
    }

    fn sections(place: &str, sections: &mut Vec<Section>) {
        sections.push(T::section(place));
        T::sections_below(place, sections);
    }
}

/// A declared table as the value of a key.
#[derive(Debug)]
pub(crate) struct Table<T>(pub(crate) T);

/// Declares tables: `key: Type = default;`, the default written as in TOML and read through the same door as the
/// operator's own. Without a default, `Option` means optional and anything else required.
macro_rules! document {
    ($(
        $(#[doc = $doc:literal])*
        struct $name:ident { $( $(#[doc = $reason:literal])* $key:ident : $type:ty $(= $default:expr)? ; )* }
    )*) => {$(
        $(#[doc = $doc])*
        #[derive(Debug)]
        pub(crate) struct $name { $( $(#[doc = $reason])* pub(crate) $key: $type, )* }

        impl $crate::decode::Keys for $name {
            const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];

            fn section(place: &str) -> $crate::decode::Section {
                let rows = vec![$( $crate::decode::Row {
                    key: stringify!($key),
                    shape: <$type as $crate::decode::Decode>::shape(),
                    default: $crate::decode::default_text::<$type>($crate::decode::document!(@default $($default)?)),
                    range: <$type as $crate::decode::Decode>::range(),
                    reason: concat!($($reason),*).trim().to_owned(),
                } ),*];
                $crate::decode::Section { place: place.to_owned(), doc: concat!($($doc),*).trim().to_owned(), rows }
            }

            fn sections_below(place: &str, sections: &mut Vec<$crate::decode::Section>) {
                $( <$type as $crate::decode::Decode>::sections(
                    &$crate::decode::below(place, stringify!($key)), sections); )*
            }

            fn from_table(
                table: &toml::de::DeTable<'_>,
                place: &$crate::place::Place<'_>,
                problems: &mut $crate::problem::Problems,
            ) -> Option<Self> {
                $crate::decode::refuse_unknown(table, Self::KEYS, place, problems);
                $( let $key: Option<$type> = $crate::decode::read_key(
                    table, stringify!($key), $crate::decode::document!(@default $($default)?), place, problems); )*
                Some(Self { $( $key: $key? ),* })
            }
        }
    )*};
    (@default) => { None };
    (@default $default:expr) => { Some(stringify!($default)) };
}
pub(crate) use document;

/// Declares a word out of a fixed list, decoded straight into the checked type.
macro_rules! choice {
    ($type:ty { $($word:literal => $value:expr),+ $(,)? }) => {
        impl $crate::decode::Word for $type {
            const SHAPE: &'static str = $crate::decode::choice!(@shape $($word),+);

            fn parse(text: &str) -> Result<Self, $crate::problem::Fault> {
                match text {
                    $($word => Ok($value),)+
                    _ => Err($crate::decode::not_a_choice(text, &[$($word),+])),
                }
            }
        }
    };
    (@shape $first:literal $(, $word:literal)*) => { concat!("\"", $first, "\"" $(, " | \"", $word, "\"")*) };
}
pub(crate) use choice;

pub(crate) fn not_a_choice(text: &str, words: &[&str]) -> Fault {
    Fault::new(format!("cannot be {}", quoted(text))).suggest(text, "choice", words)
}

/// The dotted place of a table's key on the reference page.
pub(crate) fn below(place: &str, key: &str) -> String {
    if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") }
}

pub(crate) fn default_text<T: Decode>(default: Option<&'static str>) -> String {
    match default {
        Some(text) => text.to_owned(),
        None if T::absent().is_some() => "unset".to_owned(),
        None => "required".to_owned(),
    }
}

pub(crate) fn refuse_unknown(table: &DeTable<'_>, keys: &[&str], place: &Place<'_>, problems: &mut Problems) {
    for key in table.keys().map(|key| key.get_ref()).filter(|key| !keys.contains(&key.as_ref())) {
        let fault = Fault::new(format!("no key {} here", quoted(key)));
        let fault = match nearest(key, keys.iter().copied()) {
            Some(near) => fault.cure(format!("did you mean {near:?}?")),
            None => fault.cure(format!("the keys here are {}", keys.join(", "))),
        };
        problems.error(&place.key(key), fault);
    }
}

pub(crate) fn read_key<T: Decode>(
    table: &DeTable<'_>,
    key: &'static str,
    default: Option<&'static str>,
    place: &Place<'_>,
    problems: &mut Problems,
) -> Option<T> {
    if let Some(value) = table.get(key) {
        return T::decode(value.get_ref(), &place.key(key), problems);
    }
    if let Some(value) = default.and_then(|text| DeValue::parse(text).ok()) {
        return T::decode(value.get_ref(), &place.key(key), problems);
    }
    let absent = T::absent();
    if absent.is_none() {
        problems.error(place, Fault::new(format!("{key:?} is missing")).cure(format!("add {key} = {}", T::example())));
    }
    absent
}

/// `wanted` names a type or a form.
pub(crate) fn wrong_type(wanted: &str, found: &DeValue<'_>) -> Fault {
    let article = match found {
        DeValue::Integer(_) | DeValue::Array(_) => "an",
        _ => "a",
    };
    Fault::new(format!("expected {wanted}, found {article} {}", found.type_str()))
}

impl<T: Decode> Decode for Option<T> {
    fn shape() -> String {
        T::shape()
    }

    fn range() -> String {
        T::range()
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        T::decode(value, place, problems).map(Some)
    }

    fn sections(place: &str, sections: &mut Vec<Section>) {
        T::sections(place, sections);
    }
}

impl Decode for bool {
    fn shape() -> String {
        "true | false".to_owned()
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let read = value.as_bool();
        if read.is_none() {
            problems.error(place, wrong_type("true or false", value));
        }
        read
    }
}

/// An array of at most `MAX`.
#[derive(Debug)]
pub(crate) struct List<T, const MAX: usize>(pub(crate) Vec<T>);

impl<T: Decode, const MAX: usize> Decode for List<T, MAX> {
    fn shape() -> String {
        format!("list of {}", T::shape())
    }

    fn example() -> String {
        format!("[{}]", T::example())
    }

    fn range() -> String {
        let each = T::range();
        if each.is_empty() { format!("at most {MAX}") } else { format!("at most {MAX}, each {each}") }
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let DeValue::Array(array) = value else {
            let fault = wrong_type(&format!("a list [{}]", T::shape()), value);
            let fault = match value {
                DeValue::String(_) => fault.cure("put it into brackets: [\"...\"]"),
                DeValue::Table(_) => fault.cure(format!("write each as [[{place}]], or as [{{ ... }}]")),
                _ => fault,
            };
            problems.error(place, fault);
            return None;
        };
        if array.len() > MAX {
            problems.error(place, Fault::new(format!("{} elements; the most is {MAX}", array.len())));
            return None;
        }
        let elements = array.iter().enumerate();
        let read: Vec<Option<T>> =
            elements.map(|(index, element)| T::decode(element.get_ref(), &place.index(index), problems)).collect();
        read.into_iter().collect::<Option<Vec<T>>>().map(List)
    }

    fn sections(place: &str, sections: &mut Vec<Section>) {
        T::sections(&format!("{place}[]"), sections);
    }
}

/// One, or a list of at least one and at most `MAX`.
#[derive(Debug)]
pub(crate) struct OneOrMore<T, const MAX: usize>(pub(crate) Vec<T>);

impl<T: Decode, const MAX: usize> Decode for OneOrMore<T, MAX> {
    fn shape() -> String {
        format!("{} or a list of them", T::shape())
    }

    fn example() -> String {
        T::example()
    }

    fn range() -> String {
        format!("1 to {MAX}")
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        if !value.is_array() {
            return T::decode(value, place, problems).map(|only| Self(vec![only]));
        }
        let List(list) = List::<T, MAX>::decode(value, place, problems)?;
        if list.is_empty() {
            problems.error(place, Fault::new("is empty").cure("name at least one"));
            return None;
        }
        Some(Self(list))
    }
}

/// Tables by name, sorted by it.
#[derive(Debug)]
pub(crate) struct Named<T, const MAX: usize>(pub(crate) Vec<(String, T)>);

impl<T: Decode, const MAX: usize> Decode for Named<T, MAX> {
    fn shape() -> String {
        "tables by name".to_owned()
    }

    fn range() -> String {
        format!("at most {MAX}")
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let read = read_tables::<Name, T>(value, "NAME", MAX, place, problems)?;
        let mut named: Vec<(String, T)> = read.into_iter().map(|(Name(name), below)| (name, below)).collect();
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        Some(Self(named))
    }

    fn sections(place: &str, sections: &mut Vec<Section>) {
        T::sections(&format!("{place}.NAME"), sections);
    }
}

/// Tables by host pattern, in the order written.
#[derive(Debug)]
pub(crate) struct ByHost<T, const MAX: usize>(pub(crate) Vec<(HostPattern, T)>);

impl<T: Decode, const MAX: usize> Decode for ByHost<T, MAX> {
    fn shape() -> String {
        "tables by host".to_owned()
    }

    fn range() -> String {
        format!("at most {MAX}")
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let read = read_tables::<HostPattern, T>(value, "HOST", MAX, place, problems)?;
        let mut known = HashSet::new();
        for (host, _) in &read {
            if !known.insert(host) {
                problems.error(place, Fault::new(format!("{host} is named twice, in other letters")));
            }
        }
        Some(Self(read))
    }

    fn sections(place: &str, sections: &mut Vec<Section>) {
        T::sections(&format!("{place}.HOST"), sections);
    }
}

/// `of` is what a key stands for.
fn read_tables<K: Word, T: Decode>(
    value: &DeValue<'_>,
    of: &str,
    max: usize,
    place: &Place<'_>,
    problems: &mut Problems,
) -> Option<Vec<(K, T)>> {
    let DeValue::Table(table) = value else {
        problems.error(place, wrong_type(&format!("tables [{place}.{of}]"), value));
        return None;
    };
    if table.len() > max {
        problems.error(place, Fault::new(format!("{} tables; the most is {max}", table.len())));
        return None;
    }
    let mut read = Vec::with_capacity(table.len());
    for (key, value) in table {
        let here = place.key(key.get_ref());
        let key = K::parse(key.get_ref()).map_err(|fault| problems.error(&here, fault)).ok();
        let below = T::decode(value.get_ref(), &here, problems);
        read.push(key.zip(below));
    }
    read.into_iter().collect()
}

/// The name of a listener, cluster or route: a metric label and a log field, so nothing that needs escaping there.
#[derive(Debug)]
pub(crate) struct Name(pub(crate) String);

impl Word for Name {
    const SHAPE: &'static str = "name";
    const EXAMPLE: &'static str = "\"users\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        const NAME_BYTES_MAX: usize = 64;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain) {
            return Ok(Self(text.to_owned()));
        }
        Err(Fault::new(format!("{} cannot be a name", quoted(text)))
            .cure(format!("use 1 to {NAME_BYTES_MAX} letters, digits, dots, dashes or underscores")))
    }
}

/// Any text at all.
impl Word for String {
    const SHAPE: &'static str = "text";

    fn parse(text: &str) -> Result<Self, Fault> {
        Ok(text.to_owned())
    }
}
