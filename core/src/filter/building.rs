//! What filters are built with, on the control thread: the rest of the document, what the node keeps over reloads, and
//! lists that are gathered while they are built.

use std::collections::BTreeSet;
use std::sync::Arc;

use ringway_config::snapshot::Snapshot;

use super::state::Numbers;
use crate::mesh::Registry;

/// What a plan's filters are built with.
pub struct Building<'a> {
    pub snapshot: &'a Snapshot,
    pub node: Arc<Registry>,
    pub cores: usize,
    pub(super) numbers: Numbers,
    /// Names of header fields, in lower case, that only Ringway may say on any route.
    pub(super) withheld: BTreeSet<String>,
}

impl<'a> Building<'a> {
    pub fn new(snapshot: &'a Snapshot, node: Arc<Registry>, cores: usize) -> Building<'a> {
        Building { snapshot, node, cores, numbers: Numbers::default(), withheld: BTreeSet::new() }
    }

    pub fn finish(self) -> (Numbers, Withheld) {
        (self.numbers, Withheld::new(self.withheld))
    }
}

/// Header fields that no client may say, since filters set or read them as somebody's identity. A name with `_` in the
/// place of `-` counts as the same: some origins take one for the other.
#[derive(Debug, Default)]
pub struct Withheld {
    /// In lower case, with `-`.
    names: Box<[Box<str>]>,
}

impl Withheld {
    fn new(names: BTreeSet<String>) -> Withheld {
        let plain: BTreeSet<String> = names.into_iter().map(|name| name.replace('_', "-")).collect();
        Withheld { names: plain.into_iter().map(String::into_boxed_str).collect() }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    #[inline]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.names.iter().any(|known| known.len() == name.len() && same(known.as_bytes(), name))
    }
}

fn same(plain: &[u8], name: &[u8]) -> bool {
    std::iter::zip(plain, name).all(|(known, byte)| {
        let byte = if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        *known == byte
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_of_a_withheld_name_are_withheld() {
        let withheld = Withheld::new(["x-user".to_owned(), "x_role".to_owned()].into());
        for name in ["x-user", "X-User", "x_user", "X_USER", "x-role", "X_Role"] {
            assert!(withheld.contains(name.as_bytes()), "{name}");
        }
        for name in ["x-users", "xuser", "x user", ""] {
            assert!(!withheld.contains(name.as_bytes()), "{name}");
        }
    }
}
