//! A bounded table from a digest of a key to what is kept of it. Full, it forgets only what its owner says is idle.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Entries looked at to find an idle one, from where the last look ended: a full table costs a new key this much.
const LOOKS_MAX: usize = 16;

#[derive(Debug)]
pub struct Slots<T> {
    places: HashMap<u128, u32, BuildHasherDefault<Digested>>,
    /// `None`: a free place.
    entries: Vec<Option<(u128, T)>>,
    free: Vec<u32>,
    max: usize,
    hand: usize,
}

impl<T> Slots<T> {
    pub fn new(max: usize) -> Slots<T> {
        Slots { places: HashMap::default(), entries: Vec::new(), free: Vec::new(), max, hand: 0 }
    }

    #[inline]
    pub fn find(&self, digest: u128) -> Option<usize> {
        self.places.get(&digest).map(|place| *place as usize)
    }

    /// What is kept at a place that [`Slots::find`] or [`Slots::add`] has named, and that was not forgotten since.
    ///
    /// # Panics
    /// The place is free.
    #[inline]
    pub fn at(&self, place: usize) -> &T {
        match &self.entries[place] {
            Some((_, entry)) => entry,
            None => panic!("place {place} is free"),
        }
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().flatten().map(|(_, entry)| entry)
    }

    /// Makes room for a new digest; `None` if all the entries that were looked at are in use.
    pub fn add(&mut self, digest: u128, entry: T, is_idle: impl Fn(&T) -> bool) -> Option<usize> {
        if self.places.len() >= self.max {
            self.forget(LOOKS_MAX, 1, is_idle);
        }
        let place = match self.free.pop() {
            Some(place) => place as usize,
            None if self.entries.len() < self.max => {
                self.entries.push(None);
                self.entries.len() - 1
            }
            None => return None,
        };
        self.entries[place] = Some((digest, entry));
        self.places.insert(digest, place as u32);
        Some(place)
    }

    /// Forgets at most `count` entries that are idle, and looks at `looks` of them, from where the last look ended.
    pub fn forget(&mut self, looks: usize, count: usize, is_idle: impl Fn(&T) -> bool) {
        let mut left = count;
        for _ in 0..looks.min(self.entries.len()) {
            if left == 0 {
                return;
            }
            let place = self.hand % self.entries.len();
            self.hand = place + 1;
            if let Some((gone, _)) = self.entries[place].take_if(|(_, entry)| is_idle(entry)) {
                self.places.remove(&gone);
                self.free.push(place as u32);
                left -= 1;
            }
        }
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
    fn what_was_forgotten_leaves_its_place_to_others() {
        let mut slots = Slots::new(4);
        let places: Vec<_> = (0..4).map(|digest| slots.add(digest, digest % 2 == 0, |idle| *idle)).collect();
        slots.forget(100, 100, |idle| *idle);
        assert_eq!((slots.len(), slots.find(0), slots.find(1)), (2, None, places[1]));
        slots.forget(100, 100, |idle| *idle);
        assert!(slots.iter().all(|idle| !idle) && !slots.at(1));
        let again: Vec<_> = (10..13).map(|digest| slots.add(digest, false, |idle| *idle).is_some()).collect();
        assert_eq!((again, slots.len()), (vec![true, true, false], 4));
        assert_eq!((slots.find(11).is_some(), slots.find(12)), (true, None));
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
