//! The ring of receive buffers that the kernel takes from. Which socket they end up in is `uring`'s business.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::buffers::Buffers;

/// Provided buffers in the ring at first. Few, so that they stay in the core's own cache; doubled when many small messages
/// use them up.
const PROVIDED_AT_FIRST: u32 = 256;
/// Entries of the provided-buffer ring (a power of two).
pub(super) const PROVIDED_MAX: u32 = 4096;
/// What the ring holds while large bodies use it up: what one turn receives it also sends, and what does not fit into the
/// second-level cache in between is fetched from memory twice.
const BULK_BYTES: usize = 1024 * 1024;
/// However large a buffer is.
const PROVIDED_MIN: u32 = 16;
/// Buffers for each socket that receives a large body in a turn.
const BULK_BUFFERS_PER_SOCKET: u32 = 4;

/// The ring of buffers that the kernel fills.
pub(super) struct Provided {
    entries: *mut BufRingEntry,
    tail: Cell<u16>,
    count: Cell<u32>,
    target: Cell<u32>,
    buffer_bytes: usize,
    /// Since the last refill: buffers that the kernel has taken, and those of them that it filled to the end.
    taken: Cell<u32>,
    filled: Cell<u32>,
    ran_out: Cell<bool>,
    bulk: Cell<bool>,
}

impl Provided {
    pub(super) fn new(buffer_bytes: usize) -> io::Result<Provided> {
        // SAFETY: a fresh anonymous mapping; the result is checked before use.
        let entries = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PROVIDED_MAX as usize * size_of::<BufRingEntry>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if entries == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Provided {
            entries: entries.cast(),
            tail: Cell::new(0),
            count: Cell::new(0),
            target: Cell::new(PROVIDED_AT_FIRST),
            buffer_bytes,
            taken: Cell::new(0),
            filled: Cell::new(0),
            ran_out: Cell::new(false),
            bulk: Cell::new(false),
        })
    }

    /// A socket found the ring empty.
    pub(super) fn note_empty(&self) {
        self.ran_out.set(true);
    }

    /// More buffers if many messages have used them up; fewer if a few large bodies have, whose next bytes can wait in
    /// the kernel.
    fn adjust(&self) {
        let (taken, filled) = (self.taken.replace(0), self.filled.replace(0));
        if !self.ran_out.replace(false) {
            return;
        }
        self.bulk.set(filled * 2 > taken);
        let bulk_target = ((BULK_BYTES / self.buffer_bytes) as u32).clamp(PROVIDED_MIN, PROVIDED_AT_FIRST);
        self.target.set(match self.bulk.get() {
            true => bulk_target,
            false => (self.target.get() * 2).min(PROVIDED_MAX),
        });
    }

    /// How many sockets may be told to receive again.
    pub(super) fn sockets(&self) -> usize {
        let each = if self.bulk.get() { BULK_BUFFERS_PER_SOCKET } else { 1 };
        (self.count.get().div_ceil(each)) as usize
    }

    /// Gives the kernel free buffers up to the target.
    pub(super) fn refill(&self, buffers: &Buffers) {
        self.adjust();
        let before = self.count.get();
        while self.count.get() < self.target.get() {
            let Some(id) = buffers.take() else { break };
            let tail = self.tail.get();
            // SAFETY: the index is below PROVIDED_MAX; the kernel does not read past the tail that is published
            // below, and at most PROVIDED_MAX buffers are in the ring.
            let entry = unsafe { &mut *self.entries.add(tail as usize & (PROVIDED_MAX as usize - 1)) };
            entry.set_addr(buffers.address(id) as u64);
            entry.set_len(self.buffer_bytes as u32);
            entry.set_bid(id as u16);
            self.tail.set(tail.wrapping_add(1));
            self.count.set(self.count.get() + 1);
        }
        if self.count.get() != before {
            // SAFETY: the tail lives in the first entry, as the kernel's ABI says; it is aligned and only written here.
            let published = unsafe { &*BufRingEntry::tail(self.entries).cast::<AtomicU16>() };
            published.store(self.tail.get(), Ordering::Release);
        }
    }

    /// Where the kernel finds the ring.
    pub(super) fn address(&self) -> u64 {
        self.entries as u64
    }

    /// The kernel has taken one and put so many bytes into it.
    pub(super) fn note_taken(&self, bytes: usize) {
        self.count.set(self.count.get() - 1);
        self.taken.set(self.taken.get() + 1);
        if bytes == self.buffer_bytes {
            self.filled.set(self.filled.get() + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUFFER_BYTES: usize = 16 * 1024;

    /// A full ring, of which the kernel takes everything, and then some socket finds it empty.
    fn used_up(provided: &Provided, buffers: &Buffers, bytes: usize) -> u32 {
        provided.refill(buffers);
        let count = provided.count.get();
        (0..count).for_each(|_| provided.note_taken(bytes));
        provided.note_empty();
        provided.refill(buffers);
        provided.count.get()
    }

    #[test]
    fn many_messages_get_more_buffers_and_large_bodies_fewer() {
        let buffers = Buffers::new(PROVIDED_MAX as usize * 8, BUFFER_BYTES).unwrap();
        let provided = Provided::new(BUFFER_BYTES).unwrap();
        assert_eq!(used_up(&provided, &buffers, 100), 512);
        assert_eq!(provided.sockets(), 512);
        assert_eq!(used_up(&provided, &buffers, 100), 1024);
        assert_eq!(used_up(&provided, &buffers, BUFFER_BYTES), 64, "one MiB");
        assert_eq!(provided.sockets(), 16);
        assert_eq!(used_up(&provided, &buffers, BUFFER_BYTES - 1), 128);
        for _ in 0..6 {
            used_up(&provided, &buffers, 100);
        }
        assert_eq!(provided.count.get(), PROVIDED_MAX);
    }

    #[test]
    fn a_ring_that_does_not_run_out_stays_as_it_is() {
        let buffers = Buffers::new(1024, BUFFER_BYTES).unwrap();
        let provided = Provided::new(BUFFER_BYTES).unwrap();
        provided.refill(&buffers);
        (0..PROVIDED_AT_FIRST).for_each(|_| provided.note_taken(BUFFER_BYTES));
        provided.refill(&buffers);
        assert_eq!(provided.count.get(), PROVIDED_AT_FIRST);
    }
}
