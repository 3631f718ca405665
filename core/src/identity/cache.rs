//! What one core remembers of texts that clients send, by the text itself: bounded in entries and in bytes. The text is
//! compared as a whole, so that no collision of hashes lets anybody pass as somebody else. Eviction is by the clock
//! algorithm (second chance): as good as least recently used here, and a hit writes one flag.

use std::cell::Cell;

use ahash::RandomState;
use hashbrown::HashTable;

/// 192 bits of base64: as hard to meet by chance as a signature is to forge.
const SIGNATURE_BYTES_HASHED: usize = 32;

/// A bounded map from texts.
pub struct TextCache<V> {
    index: HashTable<u32>,
    /// By number; `None` is free.
    entries: Vec<Option<Entry<V>>>,
    free: Vec<u32>,
    /// Seeded at random in each process: which texts collide cannot be known outside.
    hasher: RandomState,
    /// Bytes at a text's end that are hashed.
    hashed_max: usize,
    hand: usize,
    entries_max: usize,
    bytes: usize,
    bytes_max: usize,
}

struct Entry<V> {
    text: Box<[u8]>,
    hash: u64,
    /// Hit since the hand came by.
    used: Cell<bool>,
    bytes: usize,
    value: V,
}

impl<V> TextCache<V> {
    pub fn new(entries_max: usize, bytes_max: usize) -> TextCache<V> {
        TextCache {
            index: HashTable::new(),
            entries: Vec::new(),
            free: Vec::new(),
            hasher: RandomState::new(),
            hashed_max: usize::MAX,
            hand: 0,
            entries_max,
            bytes: 0,
            bytes_max,
        }
    }

    /// For texts that are kept only if they end in a good signature: nobody can make many with the same end, so that it
    /// is enough to hash that.
    pub fn of_signed(entries_max: usize, bytes_max: usize) -> TextCache<V> {
        TextCache { hashed_max: SIGNATURE_BYTES_HASHED, ..TextCache::new(entries_max, bytes_max) }
    }

    #[inline]
    fn hash(&self, text: &[u8]) -> u64 {
        self.hasher.hash_one(&text[text.len().saturating_sub(self.hashed_max)..])
    }

    #[inline]
    pub fn get(&self, text: &[u8]) -> Option<&V> {
        let hash = self.hash(text);
        let number = self.index.find(hash, |number| self.entry(*number).is_some_and(|entry| *entry.text == *text))?;
        let entry = self.entry(*number)?;
        entry.used.set(true);
        Some(&entry.value)
    }

    /// Remembers `value`, in the place of what was known of this text. `extra_bytes`: memory that it holds.
    pub fn insert(&mut self, text: &[u8], value: V, extra_bytes: usize) {
        self.remove(text);
        let bytes = text.len() + extra_bytes + size_of::<Entry<V>>();
        if bytes > self.bytes_max {
            return;
        }
        while self.index.len() >= self.entries_max || self.bytes + bytes > self.bytes_max {
            self.evict_one();
        }
        let hash = self.hash(text);
        let entry = Entry { text: text.into(), hash, used: Cell::new(false), bytes, value };
        let number = match self.free.pop() {
            Some(number) => {
                self.entries[number as usize] = Some(entry);
                number
            }
            None => {
                self.entries.push(Some(entry));
                self.entries.len() as u32 - 1
            }
        };
        self.bytes += bytes;
        let entries = &self.entries;
        self.index
            .insert_unique(hash, number, |number| entries[*number as usize].as_ref().map_or(0, |entry| entry.hash));
    }

    pub fn remove(&mut self, text: &[u8]) {
        let hash = self.hash(text);
        let entries = &self.entries;
        let same = |number: &u32| entries[*number as usize].as_ref().is_some_and(|entry| *entry.text == *text);
        if let Ok(found) = self.index.find_entry(hash, same) {
            let (number, _) = found.remove();
            self.clear(number);
        }
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    fn entry(&self, number: u32) -> Option<&Entry<V>> {
        self.entries[number as usize].as_ref()
    }

    fn clear(&mut self, number: u32) {
        if let Some(entry) = self.entries[number as usize].take() {
            self.bytes -= entry.bytes;
            self.free.push(number);
        }
    }

    /// There is at least one entry: each call ends within two rounds of the hand.
    fn evict_one(&mut self) {
        loop {
            self.hand = (self.hand + 1) % self.entries.len();
            let number = self.hand as u32;
            match self.entry(number) {
                Some(entry) if !entry.used.replace(false) => {
                    if let Ok(found) = self.index.find_entry(entry.hash, |known| *known == number) {
                        found.remove();
                    }
                    return self.clear(number);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_hold_and_what_is_used_stays() {
        let mut cache = TextCache::new(100, 1 << 20);
        for number in 0..1000_u32 {
            cache.insert(format!("text {number}").as_bytes(), number, 0);
            assert!(cache.len() <= 100);
            assert_eq!(cache.get(b"text 0"), Some(&0), "used after each insertion");
        }
        assert_eq!(cache.get(b"text 999"), Some(&999));
        assert_eq!(cache.get(b"text 1"), None);
        let mut small = TextCache::new(1000, 10_000);
        for number in 0..1000_u32 {
            small.insert(format!("text {number}").as_bytes(), number, 1000);
            assert!(small.len() <= 10 && small.bytes <= 10_000);
        }
        small.insert(b"too large for all of it", 0, 20_000);
        assert_eq!(small.get(b"too large for all of it"), None);
    }

    #[test]
    fn texts_of_one_end_are_told_apart() {
        let mut cache = TextCache::of_signed(100, 1 << 20);
        let text = |number: u32| format!("{number}.{}", "s".repeat(SIGNATURE_BYTES_HASHED)).into_bytes();
        (0..50).for_each(|number| cache.insert(&text(number), number, 0));
        (0..50).for_each(|number| assert_eq!(cache.get(&text(number)), Some(&number)));
        assert_eq!(cache.get(&text(50)), None);
        assert_eq!(cache.get(&text(1)[1..]), None);
        assert_eq!(cache.get(b"short"), None);
    }

    #[test]
    fn it_agrees_with_a_map_while_nothing_is_evicted() {
        let (mut cache, mut map) = (TextCache::new(1000, 1 << 20), std::collections::HashMap::new());
        let mut seed = 1_u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let text = format!("{}", (seed >> 33) % 500);
            match (seed >> 60) % 3 {
                0 => {
                    cache.remove(text.as_bytes());
                    map.remove(&text);
                }
                1 => {
                    cache.insert(text.as_bytes(), seed, 0);
                    map.insert(text.clone(), seed);
                }
                _ => {}
            }
            assert_eq!(cache.get(text.as_bytes()), map.get(&text));
            assert_eq!(cache.len(), map.len());
        }
    }
}
