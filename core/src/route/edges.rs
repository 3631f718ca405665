//! From a node and the name of a branch to the next node: one flat hash table for a whole tree. Never grows: it is
//! filled once, by `build`.

use super::build::{HOST_BYTES_MAX, LITERAL_BYTES_MAX, NODES_MAX};
use std::collections::HashMap;

const NONE: u32 = u32::MAX;

/// Open addressing at no more than half load, so a probe ends after a few neighbouring slots.
pub(super) struct Edges {
    slots: Box<[Slot]>,
    /// `64 - log2(slots)`.
    shift: u32,
    /// Each different name once, after its length: the common ones stay in the processor's cache.
    names: Box<[u8]>,
}

/// Four to a cache line.
#[derive(Clone, Copy)]
struct Slot {
    /// The lower half of the key.
    tag: u32,
    parent: u32,
    /// [`NONE`]: an empty slot.
    child: u32,
    /// Where the name's length stands among the names; its bytes follow.
    name: u32,
}

/// One branch before it is filed.
pub(super) struct Edge<'a> {
    pub(super) parent: u32,
    /// At most 255 bytes.
    pub(super) name: &'a [u8],
    pub(super) child: u32,
}

impl Edges {
    pub(super) fn new<'a>(edges: impl ExactSizeIterator<Item = Edge<'a>>, hasher: &ahash::RandomState) -> Edges {
        let len = (edges.len() * 2).next_power_of_two().max(2);
        let empty = Slot { tag: 0, parent: 0, child: NONE, name: 0 };
        let (mut slots, mut names) = (vec![empty; len], Names::default());
        let shift = 64 - len.trailing_zeros();
        for Edge { parent, name, child } in edges {
            let key = key(parent, hasher.hash_one(name));
            let mut at = (key >> shift) as usize;
            while slots[at].child != NONE {
                at = (at + 1) & (len - 1);
            }
            slots[at] = Slot { tag: key as u32, parent, child, name: names.place(name) };
        }
        Edges { slots: slots.into(), shift, names: names.bytes.into() }
    }

    /// `hash` is that of the name, by the hasher of [`new`](Self::new); `same` tells whether a name is the one meant.
    pub(super) fn get(&self, parent: u32, hash: u64, same: impl Fn(&[u8]) -> bool) -> Option<u32> {
        let key = key(parent, hash);
        let mut at = (key >> self.shift) as usize;
        loop {
            let slot = &self.slots[at];
            if slot.child == NONE {
                return None;
            }
            if slot.tag == key as u32 && slot.parent == parent && same(self.name(slot)) {
                return Some(slot.child);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    fn name(&self, slot: &Slot) -> &[u8] {
        let start = slot.name as usize + 1;
        &self.names[start..start + usize::from(self.names[start - 1])]
    }
}

/// The names while they are collected.
#[derive(Default)]
struct Names<'a> {
    bytes: Vec<u8>,
    places: HashMap<&'a [u8], u32, ahash::RandomState>,
}

impl<'a> Names<'a> {
    fn place(&mut self, name: &'a [u8]) -> u32 {
        *self.places.entry(name).or_insert_with(|| {
            let place = self.bytes.len() as u32;
            self.bytes.push(name.len() as u8);
            self.bytes.extend_from_slice(name);
            place
        })
    }
}

const _: () = assert!(LITERAL_BYTES_MAX <= 255 && HOST_BYTES_MAX <= 255 && NODES_MAX * 256 <= 1 << 32);

const ODD: u64 = 0x9E37_79B9_7F4A_7C15; // 2^64 / golden ratio

/// The upper bits choose the slot: multiplying carries every bit of hash and parent there.
fn key(parent: u32, hash: u64) -> u64 {
    (hash ^ u64::from(parent).wrapping_mul(ODD)).wrapping_mul(ODD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_key_of_another_parent_is_no_match() {
        let hasher = ahash::RandomState::new();
        let edges = Edges::new([Edge { parent: 1, name: b"a", child: 7 }].into_iter(), &hasher);
        let hash = hasher.hash_one(&b"a"[..]);
        assert_eq!(edges.get(1, hash, |name| name == b"a"), Some(7));
        assert_eq!(edges.get(1, hash, |name| name == b"b"), None);
        let forged = hash ^ ODD ^ ODD.wrapping_mul(2);
        assert_eq!(key(1, hash), key(2, forged));
        assert_eq!(edges.get(2, forged, |name| name == b"a"), None);
    }
}
