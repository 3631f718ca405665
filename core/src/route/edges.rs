//! From a node and the name of a branch to the next node: one flat hash table for a whole tree. Never grows: it is
//! filled once, by `build`.

const NONE: u32 = u32::MAX;

/// Open addressing at no more than half load, so a probe ends after a few neighbouring slots.
pub(super) struct Edges {
    slots: Box<[Slot]>,
    /// `64 - log2(slots)`.
    shift: u32,
    /// The names, one after the other.
    names: Box<[u8]>,
}

#[derive(Clone, Copy)]
struct Slot {
    key: u64,
    parent: u32,
    /// [`NONE`]: an empty slot.
    child: u32,
    name_start: u32,
    name_end: u32,
}

/// One branch before it is filed.
pub(super) struct Edge<'a> {
    pub(super) parent: u32,
    pub(super) name: &'a [u8],
    pub(super) child: u32,
}

impl Edges {
    pub(super) fn new<'a>(edges: impl ExactSizeIterator<Item = Edge<'a>>, hasher: &ahash::RandomState) -> Edges {
        let len = (edges.len() * 2).next_power_of_two().max(2);
        let empty = Slot { key: 0, parent: 0, child: NONE, name_start: 0, name_end: 0 };
        let (mut slots, mut names) = (vec![empty; len], Vec::new());
        let shift = 64 - len.trailing_zeros();
        for Edge { parent, name, child } in edges {
            let key = key(parent, hasher.hash_one(name));
            let mut at = (key >> shift) as usize;
            while slots[at].child != NONE {
                at = (at + 1) & (len - 1);
            }
            let name_start = names.len() as u32;
            names.extend_from_slice(name);
            slots[at] = Slot { key, parent, child, name_start, name_end: names.len() as u32 };
        }
        Edges { slots: slots.into(), shift, names: names.into() }
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
            if slot.key == key
                && slot.parent == parent
                && same(&self.names[slot.name_start as usize..slot.name_end as usize])
            {
                return Some(slot.child);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }
}

/// The upper bits choose the slot: multiplying carries every bit of hash and parent there.
fn key(parent: u32, hash: u64) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15; // 2^64 / golden ratio
    (hash ^ u64::from(parent).wrapping_mul(ODD)).wrapping_mul(ODD)
}
