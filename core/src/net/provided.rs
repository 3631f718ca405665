//! The ring of receive buffers that the kernel takes from. Which socket they end up in is `uring`'s business.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::buffers::Buffers;

/// Provided buffers in the ring at first. Few, so that they stay in the core's own cache; doubled when they run out.
const PROVIDED_AT_FIRST: u32 = 256;
/// Entries of the provided-buffer ring (a power of two).
pub(super) const PROVIDED_MAX: u32 = 4096;
/// The ring of buffers that the kernel fills.
pub(super) struct Provided {
    entries: *mut BufRingEntry,
    tail: Cell<u16>,
    count: Cell<u32>,
    target: Cell<u32>,
}

impl Provided {
    pub(super) fn new() -> io::Result<Provided> {
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
        })
    }

    pub(super) fn grow(&self) {
        self.target.set((self.target.get() * 2).min(PROVIDED_MAX));
    }

    /// Gives the kernel free buffers up to the target.
    pub(super) fn refill(&self, buffers: &Buffers) {
        let before = self.count.get();
        while self.count.get() < self.target.get() {
            let Some(id) = buffers.take() else { break };
            let tail = self.tail.get();
            // SAFETY: the index is below PROVIDED_MAX; the kernel does not read past the tail that is published
            // below, and at most PROVIDED_MAX buffers are in the ring.
            let entry = unsafe { &mut *self.entries.add(tail as usize & (PROVIDED_MAX as usize - 1)) };
            entry.set_addr(buffers.address(id) as u64);
            entry.set_len(buffers.buffer_bytes() as u32);
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

    pub(super) fn is_empty(&self) -> bool {
        self.count.get() == 0
    }

    /// The kernel has taken one.
    pub(super) fn taken(&self) {
        self.count.set(self.count.get() - 1);
    }
}
