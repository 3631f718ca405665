//! Single values that all cores read and change: a state, a moment, a count. No message, so that a core which does not
//! turn its loop neither holds a value up nor misses it. What the values mean is their owner's business (`upstream`).
//!
//! They are read on every decision and written when something changes, which is rare: the line that holds one stays
//! shared in the caches. A value says nothing about other memory, hence the relaxed order throughout.

use std::sync::atomic::{AtomicU64, Ordering};

/// A value that is compared and exchanged.
#[derive(Debug, Default)]
pub struct Word(AtomicU64);

impl Word {
    pub const fn new(value: u64) -> Word {
        Word(AtomicU64::new(value))
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// True for the one caller who found `from` and put `to` there.
    pub fn change(&self, from: u64, to: u64) -> bool {
        self.0.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The new value.
    pub fn add(&self, more: u64) -> u64 {
        self.0.fetch_add(more, Ordering::Relaxed).wrapping_add(more)
    }

    /// Sets the bits of `mask`; true if one was not set.
    pub fn raise(&self, mask: u64) -> bool {
        self.0.fetch_or(mask, Ordering::Relaxed) & mask != mask
    }

    /// Clears the bits of `mask`; true if one was set.
    pub fn lower(&self, mask: u64) -> bool {
        self.0.fetch_and(!mask, Ordering::Relaxed) & mask != 0
    }

    /// Back to zero, without a write if it is there already.
    pub fn zero(&self) {
        if self.get() != 0 {
            self.set(0);
        }
    }
}

#[cfg(all(test, not(ringway_loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn of_many_who_change_it_one_does() {
        let word = Arc::new(Word::new(1));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let word = word.clone();
                std::thread::spawn(move || word.change(1, 2))
            })
            .collect();
        let winners = threads.into_iter().map(|thread| thread.join().unwrap()).filter(|won| *won);
        assert_eq!((winners.count(), word.get()), (1, 2));
    }

    #[test]
    fn bits_say_whether_they_moved() {
        let word = Word::default();
        assert!(word.raise(0b101) && !word.raise(0b100) && word.raise(0b110));
        assert!(word.lower(0b010) && !word.lower(0b010));
        assert_eq!((word.get(), word.add(3)), (0b101, 8));
        word.zero();
        assert_eq!(word.get(), 0);
    }
}
