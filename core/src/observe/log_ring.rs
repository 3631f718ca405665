//! A bounded ring of lines from one shard to the log's writer. Never blocks; does not render (`access_log`) nor write
//! (`log_writer`).
//!
//! Single producer, single consumer, without `unsafe`: the storage is a table of atomic words, written and read relaxed.
//! Publishing is one release store of the tail per line; on x86 all of it compiles to plain moves. A line is one word of
//! length and its bytes, padded to words. Loom checks the way of a line (weakening either side of the tail fails at
//! once). The way back of free space is release and acquire on the head; loom cannot check that one, since its loads
//! never see a store of the future.

use crate::mesh::sync::{Arc, AtomicU64, AtomicUsize, Ordering};
use crossbeam_utils::CachePadded;

/// Bytes of one ring: some thousand lines, that is 50 ms of a core at its fastest.
pub const RING_BYTES: usize = 2 * 1024 * 1024;
const WORD_BYTES: usize = 8;

struct Shared {
    /// A power of two of them.
    words: Box<[AtomicU64]>,
    /// Positions in words, ever growing: read up to `head`, written up to `tail`.
    head: CachePadded<AtomicUsize>,
    tail: CachePadded<AtomicUsize>,
}

/// The shard's end.
pub struct LineSender {
    shared: Arc<Shared>,
    tail: usize,
    /// The last head that was looked up; the true one may be further.
    head_seen: usize,
}

/// The writer's end.
pub struct LineReceiver {
    shared: Arc<Shared>,
    head: usize,
}

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    Stored,
    /// Stored, and the ring has just passed half: the writer should be woken.
    PassedHalf,
    /// Did not fit.
    Dropped,
}

/// `bytes` is rounded up to a power of two.
pub fn log_ring(bytes: usize) -> (LineSender, LineReceiver) {
    let words = bytes.div_ceil(WORD_BYTES).next_power_of_two();
    let shared = Arc::new(Shared {
        words: (0..words).map(|_| AtomicU64::new(0)).collect(),
        head: CachePadded::new(AtomicUsize::new(0)),
        tail: CachePadded::new(AtomicUsize::new(0)),
    });
    (LineSender { shared: shared.clone(), tail: 0, head_seen: 0 }, LineReceiver { shared, head: 0 })
}

impl LineSender {
    pub fn push(&mut self, line: &[u8]) -> Pushed {
        let capacity = self.shared.words.len();
        let needed = 1 + line.len().div_ceil(WORD_BYTES);
        let half = capacity / 2;
        let used = self.tail.wrapping_sub(self.head_seen);
        let mut used_before = used;
        if used + needed > half {
            // Acquire: what the writer has read it has done with; these words are ours again.
            self.head_seen = self.shared.head.load(Ordering::Acquire);
            used_before = self.tail.wrapping_sub(self.head_seen);
            if used_before + needed > capacity {
                return Pushed::Dropped;
            }
        }
        let mask = capacity - 1;
        self.shared.words[self.tail & mask].store(line.len() as u64, Ordering::Relaxed);
        let (full, rest) = line.as_chunks::<WORD_BYTES>();
        let mut at = self.tail.wrapping_add(1);
        for word in full {
            self.shared.words[at & mask].store(u64::from_ne_bytes(*word), Ordering::Relaxed);
            at = at.wrapping_add(1);
        }
        if !rest.is_empty() {
            let mut word = [0; WORD_BYTES];
            word[..rest.len()].copy_from_slice(rest);
            self.shared.words[at & mask].store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
        self.tail = self.tail.wrapping_add(needed);
        self.shared.tail.store(self.tail, Ordering::Release);
        if used_before <= half && used_before + needed > half { Pushed::PassedHalf } else { Pushed::Stored }
    }
}

impl LineReceiver {
    /// Appends whole lines to `batch` while it has room below `batch_bytes_max`; says how many.
    pub fn take(&mut self, batch: &mut Vec<u8>, batch_bytes_max: usize) -> u64 {
        let tail = self.shared.tail.load(Ordering::Acquire);
        let mask = self.shared.words.len() - 1;
        let mut lines = 0;
        while self.head != tail {
            let length = self.shared.words[self.head & mask].load(Ordering::Relaxed) as usize;
            if batch.len() + length > batch_bytes_max {
                break;
            }
            let words = length.div_ceil(WORD_BYTES);
            let end = batch.len() + length;
            for at in 1..=words {
                let word = self.shared.words[self.head.wrapping_add(at) & mask].load(Ordering::Relaxed);
                batch.extend_from_slice(&word.to_ne_bytes());
            }
            batch.truncate(end);
            self.head = self.head.wrapping_add(1 + words);
            lines += 1;
        }
        self.shared.head.store(self.head, Ordering::Release);
        lines
    }
}

#[cfg(all(test, ringway_loom))]
mod model_tests {
    use super::*;
    use loom::thread;

    /// Lines over the seam of a ring of 8 words, while the reader reads: none torn, none twice, none out of order.
    #[test]
    fn lines_arrive_whole_and_in_order() {
        loom::model(|| {
            let (mut sender, mut receiver) = log_ring(8 * WORD_BYTES);
            let shard = thread::spawn(move || {
                let lines: [&[u8]; 3] = [b"aaaaaaaaaaaa", b"bbbbbbbbbbbb", b"cccccccccccc"];
                lines
                    .into_iter()
                    .filter(|line| sender.push(line) != Pushed::Dropped)
                    .map(|line| line[0])
                    .collect::<Vec<_>>()
            });
            let mut batch = Vec::new();
            receiver.take(&mut batch, usize::MAX);
            receiver.take(&mut batch, usize::MAX);
            let stored = shard.join().unwrap();
            receiver.take(&mut batch, usize::MAX);
            let expected: Vec<u8> = stored.iter().flat_map(|letter| [*letter; 12]).collect();
            assert_eq!(batch, expected);
            assert!(stored.len() >= 2, "two lines fit beside each other");
        });
    }
}

#[cfg(all(test, not(ringway_loom)))]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn what_goes_in_comes_out_for_every_length() {
        let (mut sender, mut receiver) = log_ring(512);
        let mut batch = Vec::new();
        for length in (0..200).chain(0..200) {
            let line: Vec<u8> = (0..length).map(|n| n as u8).collect();
            assert_ne!(sender.push(&line), Pushed::Dropped);
            batch.clear();
            assert_eq!(receiver.take(&mut batch, usize::MAX), 1);
            assert_eq!(batch, line);
        }
    }

    #[test]
    fn half_is_told_once_and_full_drops_without_harm() {
        let (mut sender, mut receiver) = log_ring(128);
        let told: Vec<_> = (0..6).map(|_| sender.push(b"0123456789abcdef")).collect();
        use Pushed::{Dropped, PassedHalf, Stored};
        assert_eq!(told, [Stored, Stored, PassedHalf, Stored, Stored, Dropped], "3 of 16 words each");
        let mut batch = Vec::new();
        assert_eq!(receiver.take(&mut batch, usize::MAX), 5);
        assert_eq!(batch, b"0123456789abcdef".repeat(5));
        assert_eq!(sender.push(b"again"), Stored);
    }

    #[test]
    fn a_line_longer_than_the_ring_is_dropped() {
        let (mut sender, _receiver) = log_ring(64);
        assert_eq!(sender.push(&[b'x'; 57]), Pushed::Dropped);
        assert_ne!(sender.push(&[b'x'; 56]), Pushed::Dropped);
    }

    #[test]
    fn a_batch_ends_at_a_whole_line() {
        let (mut sender, mut receiver) = log_ring(512);
        (0..3).for_each(|_| assert_eq!(sender.push(b"0123456789"), Pushed::Stored));
        let mut batch = Vec::new();
        assert_eq!(receiver.take(&mut batch, 25), 2);
        assert_eq!(batch.len(), 20);
        batch.clear();
        assert_eq!(receiver.take(&mut batch, 25), 1);
    }

    #[test]
    fn two_threads_lose_nothing_but_what_was_dropped() {
        let (mut sender, mut receiver) = log_ring(4096);
        let shard = thread::spawn(move || {
            let mut stored = String::new();
            for n in 0..100_000 {
                let line = format!("{n}\n");
                if sender.push(line.as_bytes()) != Pushed::Dropped {
                    stored.push_str(&line);
                }
            }
            stored
        });
        let mut batch = Vec::new();
        while !shard.is_finished() {
            receiver.take(&mut batch, usize::MAX);
        }
        receiver.take(&mut batch, usize::MAX);
        assert_eq!(String::from_utf8(batch).unwrap(), shard.join().unwrap());
    }
}
