//! What a route asks beyond host and path: method, listener, headers. Each test stands alone; `walk` runs them in order.

use super::{FieldSource, build::METHODS_MAX};
use ringway_config::snapshot::{HeaderCondition, HeaderTest};
use smallvec::SmallVec;
use std::fmt;
use std::ops::BitOrAssign;

/// Numbered first and in this order, so that `Allow` reads the same from table to table.
const COMMON: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Bytes of an `Allow` that cost no allocation: all of [`COMMON`] and some.
const ALLOW_INLINE: usize = 64;

/// The method names of a table, numbered.
pub(super) struct Methods {
    names: Vec<Box<str>>,
}

/// Bit N: method number N. The last bit: every method that no route of the table names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct MethodSet(u64);

impl MethodSet {
    pub(super) const NONE: MethodSet = MethodSet(0);
    pub(super) const ALL: MethodSet = MethodSet(u64::MAX);
    const UNNAMED: MethodSet = MethodSet(1 << METHODS_MAX);

    pub(super) fn meets(self, other: MethodSet) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOrAssign for MethodSet {
    fn bitor_assign(&mut self, other: MethodSet) {
        self.0 |= other.0;
    }
}

impl Methods {
    pub(super) fn new() -> Methods {
        Methods { names: COMMON.iter().map(|name| (*name).into()).collect() }
    }

    /// The set of one route; names it did not know get a number. `None`: more than [`METHODS_MAX`] of them.
    pub(super) fn set(&mut self, names: &[String]) -> Option<MethodSet> {
        if names.is_empty() {
            return Some(MethodSet::ALL);
        }
        let mut set = MethodSet::NONE;
        for name in names {
            let number = self.number(name.as_bytes()).unwrap_or(self.names.len());
            if number == METHODS_MAX {
                return None;
            }
            if number == self.names.len() {
                self.names.push(name.as_str().into());
            }
            set |= MethodSet(1 << number);
            if name == "GET" {
                set |= self.one(b"HEAD");
            }
        }
        Some(set)
    }

    /// The set of a request's method alone. Methods are case-sensitive (RFC 9110 section 9.1).
    pub(super) fn one(&self, name: &[u8]) -> MethodSet {
        self.number(name).map_or(MethodSet::UNNAMED, |number| MethodSet(1 << number))
    }

    fn number(&self, name: &[u8]) -> Option<usize> {
        self.names.iter().position(|known| known.as_bytes() == name)
    }

    pub(super) fn allow(&self, set: MethodSet) -> Allow {
        let mut text = SmallVec::new();
        let named = self.names.iter().enumerate().filter(|(number, _)| set.meets(MethodSet(1 << number)));
        for (_, name) in named {
            if !text.is_empty() {
                text.extend_from_slice(b", ");
            }
            text.extend_from_slice(name.as_bytes());
        }
        Allow { text }
    }
}

/// The value of an `Allow` header, ready to be written: `GET, HEAD`.
#[derive(Clone, PartialEq, Eq)]
pub struct Allow {
    text: SmallVec<[u8; ALLOW_INLINE]>,
}

impl Allow {
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text))
    }
}

impl fmt::Debug for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Allow({self})")
    }
}

/// All that one route asks beyond host and path.
pub(super) struct Conditions {
    /// Indices; `None`: every listener.
    listeners: Option<Box<[u32]>>,
    pub(super) methods: MethodSet,
    pub(super) headers: Box<[HeaderCondition]>,
}

impl Conditions {
    /// A listener that does not exist admits nobody; it does not turn into "every listener".
    pub(super) fn new(
        listeners: &[String],
        known_listeners: &[&str],
        methods: MethodSet,
        headers: &[HeaderCondition],
    ) -> Conditions {
        let index = |name: &String| known_listeners.iter().position(|known| known == name).map(|index| index as u32);
        let listeners = (!listeners.is_empty()).then(|| listeners.iter().filter_map(index).collect());
        Conditions { listeners, methods, headers: headers.into() }
    }

    /// True if there is more to test than the method.
    pub(super) fn beyond_method(&self) -> bool {
        self.listeners.is_some() || !self.headers.is_empty()
    }

    pub(super) fn listens(&self, listener: u32) -> bool {
        self.listeners.as_ref().is_none_or(|listeners| listeners.contains(&listener))
    }

    /// The first header condition that fails.
    pub(super) fn failing_header(&self, fields: &dyn FieldSource) -> Option<&HeaderCondition> {
        self.headers.iter().find(|condition| !holds(condition, fields))
    }
}

fn holds(condition: &HeaderCondition, fields: &dyn FieldSource) -> bool {
    let name = &condition.name;
    match &condition.is {
        HeaderTest::Present => fields.any(name, &mut |_| true),
        HeaderTest::Absent => !fields.any(name, &mut |_| true),
        HeaderTest::Equals(text) => fields.any(name, &mut |value| value == text.as_bytes()),
        HeaderTest::EqualsOrAbsent(text) => {
            let mut is_there = false;
            let equals = fields.any(name, &mut |value| {
                is_there = true;
                value == text.as_bytes()
            });
            equals || !is_there
        }
        HeaderTest::Prefix(text) => fields.any(name, &mut |value| value.starts_with(text.as_bytes())),
        HeaderTest::Suffix(text) => fields.any(name, &mut |value| value.ends_with(text.as_bytes())),
        HeaderTest::Contains(text) => {
            fields.any(name, &mut |value| memchr::memmem::find(value, text.as_bytes()).is_some())
        }
    }
}
