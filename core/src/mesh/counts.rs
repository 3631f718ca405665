//! Counts that only go up, kept by each core for itself and added up by whoever asks.

use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering};

/// `KINDS` different counts. A core writes its own by plain stores.
#[derive(Debug)]
pub struct CoreCounts<const KINDS: usize> {
    /// By core.
    slots: Box<[CachePadded<[AtomicU64; KINDS]>]>,
}

impl<const KINDS: usize> CoreCounts<KINDS> {
    pub fn new(cores: usize) -> Self {
        let slot = |_| CachePadded::new([const { AtomicU64::new(0) }; KINDS]);
        CoreCounts { slots: (0..cores.max(1)).map(slot).collect() }
    }

    /// Counts one more; the thread of `core` calls.
    #[inline]
    pub fn add(&self, core: usize, kind: usize) {
        let count = &self.slots[core][kind];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub fn sum(&self) -> [u64; KINDS] {
        let mut sum = [0; KINDS];
        for slot in &self.slots {
            std::iter::zip(&mut sum, slot.iter()).for_each(|(sum, count)| *sum += count.load(Ordering::Relaxed));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_add_up() {
        let counts = CoreCounts::<2>::new(3);
        counts.add(0, 1);
        counts.add(2, 1);
        counts.add(1, 0);
        assert_eq!(counts.sum(), [1, 2]);
    }
}
