//! A bounded table from a digest of a key to what is kept of it. Full, it forgets only what its owner says is idle.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Entries looked at to find an idle one, from where the last look ended: a full table costs a new key this much.
const LOOKS_MAX: usize = 16;

#[derive(Debug)]
pub struct Slots<T> {
    places: HashMap<u128, u32, BuildHasherDefault<Digested>>,
    entries: Vec<(u128, T)>,
    max: usize,
    hand: usize,
}

impl<T> Slots<T> {
    pub fn new(max: usize) -> Slots<T> {
        Slots { places: HashMap::default(), entries: Vec::new(), max, hand: 0 }
    }

    #[inline]
    pub fn find(&self, digest: u128) -> Option<usize> {
        self.places.get(&digest).map(|place| *place as usize)
    }

    #[inline]
    pub fn at(&self, place: usize) -> &T {
        &self.entries[place].1
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, entry)| entry)
    }

    /// Makes room for a new digest; `None` if all the entries that were looked at are in use.
    pub fn add(&mut self, digest: u128, entry: T, is_idle: impl Fn(&T) -> bool) -> Option<usize> {
        let place = match self.entries.len() {
            len if len < self.max => {
                self.entries.push((digest, entry));
                len
            }
            _ => {
                let place = self.idle(is_idle)?;
                let (gone, _) = std::mem::replace(&mut self.entries[place], (digest, entry));
                self.places.remove(&gone);
                place
            }
        };
        self.places.insert(digest, place as u32);
        Some(place)
    }

    fn idle(&mut self, is_idle: impl Fn(&T) -> bool) -> Option<usize> {
        let looks = LOOKS_MAX.min(self.entries.len());
        for _ in 0..looks {
            let place = self.hand % self.entries.len();
            self.hand = place + 1;
            if is_idle(&self.entries[place].1) {
                return Some(place);
            }
        }
        None
    }
}

/// A digest is as good as its hash.
#[derive(Debug, Default)]
struct Digested(u64);

impl Hasher for Digested {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, digest: u128) {
        self.0 = digest as u64;
    }
}

#[cfg(all(test, not(ringway_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_is_never_forgotten() {
        let mut slots = Slots::new(3);
        for digest in 0..3 {
            assert!(slots.add(digest, digest == 1, |idle| *idle).is_some());
        }
        assert_eq!(slots.add(7, false, |idle| *idle), Some(1), "the idle one's place");
        assert_eq!((slots.find(1), slots.find(7), slots.len()), (None, Some(1), 3));
        assert_eq!(slots.add(8, true, |idle| *idle), None);
        assert_eq!(slots.iter().filter(|idle| **idle).count(), 0);
    }

    #[test]
    fn a_full_table_costs_a_bounded_look() {
        let mut slots = Slots::new(1000);
        for digest in 0..1000 {
            slots.add(digest, digest == 999, |idle| *idle);
        }
        let tries = (0..1000).position(|_| slots.add(5000, false, |idle| *idle).is_some());
        assert_eq!(tries, Some(999 / LOOKS_MAX), "looks go on where the last one ended");
    }
}
