//! The receive buffers and the send buffers of one core. Who fills them is `reactor`'s business.
//!
//! Receive buffers are equal slices of one mapping, lent as [`Chunk`]s: cheap to clone and to split, returned when
//! the last part is dropped. A page of the mapping costs memory only once it is touched, and the free list is
//! last-in first-out, so a quiet core touches few.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;

/// A send buffer that grew beyond this is freed instead of kept.
const SEND_BYTES_KEPT_MAX: usize = 64 * 1024;
/// Send buffers kept for the next answer.
const SEND_BUFFERS_KEPT_MAX: usize = 1024;
/// Enough for a common head and a small body.
const SEND_BYTES_AT_FIRST: usize = 4 * 1024;

/// All buffers of one core.
pub struct Buffers {
    base: NonNull<u8>,
    buffer_bytes: usize,
    count: usize,
    references: Box<[Cell<u32>]>,
    free: RefCell<Vec<u32>>,
    /// Those that hold received bytes.
    held: Cell<usize>,
    send: RefCell<Vec<Vec<u8>>>,
}

/// How much room received bytes have left: readers that do not keep up may not take what others need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    Plenty,
    /// Half of all buffers hold bytes.
    Half,
    /// Three quarters do.
    Scarce,
}

impl Buffers {
    /// Maps `count` buffers of `buffer_bytes` (a multiple of the page size).
    ///
    /// # Errors
    /// The kernel's, when the mapping does not fit.
    pub fn new(count: usize, buffer_bytes: usize) -> io::Result<Rc<Buffers>> {
        // SAFETY: a fresh anonymous mapping; the result is checked before use.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                count * buffer_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Rc::new(Buffers {
            base,
            buffer_bytes,
            count,
            references: vec![Cell::new(0); count].into_boxed_slice(),
            free: RefCell::new((0..count as u32).rev().collect()),
            held: Cell::new(0),
            send: RefCell::new(Vec::new()),
        }))
    }

    /// An empty send buffer; hand it to a stream, which brings it back.
    pub fn send_buffer(&self) -> Vec<u8> {
        self.send.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(SEND_BYTES_AT_FIRST))
    }

    /// Takes a send buffer back.
    pub fn give_back(&self, mut buffer: Vec<u8>) {
        let mut kept = self.send.borrow_mut();
        if kept.len() < SEND_BUFFERS_KEPT_MAX && buffer.capacity() <= SEND_BYTES_KEPT_MAX {
            buffer.clear();
            kept.push(buffer);
        }
    }

    /// Receive buffers lent out now (to chunks or to the ring).
    pub fn lent(&self) -> usize {
        self.count - self.free.borrow().len()
    }

    /// Counts what waits to be read or sent on, not what the ring offers to the kernel.
    pub fn room(&self) -> Room {
        match self.held.get() {
            held if held > self.count / 4 * 3 => Room::Scarce,
            held if held > self.count / 2 => Room::Half,
            _ => Room::Plenty,
        }
    }

    pub fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// Takes a buffer for the kernel to fill; it comes back as a chunk or by [`Buffers::release`].
    pub(super) fn take(&self) -> Option<u32> {
        self.free.borrow_mut().pop()
    }

    pub(super) fn release(&self, id: u32) {
        debug_assert_eq!(self.references[id as usize].get(), 0);
        self.free.borrow_mut().push(id);
    }

    pub(super) fn address(&self, id: u32) -> *mut u8 {
        debug_assert!((id as usize) < self.count);
        // SAFETY: `id` is below `count`, so the result is inside the mapping.
        unsafe { self.base.as_ptr().add(id as usize * self.buffer_bytes) }
    }

    /// The first `len` bytes of a buffer that the kernel has filled.
    pub(super) fn filled(self: &Rc<Self>, id: u32, len: usize) -> Chunk {
        debug_assert!(len <= self.buffer_bytes);
        debug_assert_eq!(self.references[id as usize].get(), 0);
        self.references[id as usize].set(1);
        self.held.set(self.held.get() + 1);
        Chunk { buffers: self.clone(), id, start: 0, end: len as u32 }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, unmapped once; chunks hold an `Rc` of it, so none is left.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.count * self.buffer_bytes) };
    }
}

/// Received bytes, lent from the core's buffers.
pub struct Chunk {
    buffers: Rc<Buffers>,
    id: u32,
    start: u32,
    end: u32,
}

impl Chunk {
    /// Cuts off and returns the first `len` bytes; both parts share the buffer.
    pub fn split_to(&mut self, len: usize) -> Chunk {
        assert!(len <= self.len(), "split beyond the end of a chunk");
        let mut front = self.clone();
        front.end = self.start + len as u32;
        self.start += len as u32;
        front
    }

    /// Drops the first `len` bytes.
    pub fn advance(&mut self, len: usize) {
        assert!(len <= self.len(), "advance beyond the end of a chunk");
        self.start += len as u32;
    }

    /// Drops all but the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len as u32);
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start..end` lies inside buffer `id` (checked where they are set), the kernel has filled it, and
        // nobody writes to a buffer while a chunk counts as a reference to it.
        unsafe {
            let first = self.buffers.address(self.id).add(self.start as usize);
            std::slice::from_raw_parts(first, (self.end - self.start) as usize)
        }
    }
}

impl Clone for Chunk {
    fn clone(&self) -> Chunk {
        let references = &self.buffers.references[self.id as usize];
        references.set(references.get() + 1);
        Chunk { buffers: self.buffers.clone(), id: self.id, start: self.start, end: self.end }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let references = &self.buffers.references[self.id as usize];
        references.set(references.get() - 1);
        if references.get() == 0 {
            self.buffers.held.set(self.buffers.held.get() - 1);
            self.buffers.release(self.id);
        }
    }
}

impl std::fmt::Debug for Chunk {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Chunk({:?})", String::from_utf8_lossy(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk_of(buffers: &Rc<Buffers>, bytes: &[u8]) -> Chunk {
        let id = buffers.take().unwrap();
        // SAFETY: the buffer was just taken and holds more than these few bytes.
        unsafe { buffers.address(id).copy_from(bytes.as_ptr(), bytes.len()) };
        buffers.filled(id, bytes.len())
    }

    #[test]
    fn a_buffer_returns_with_its_last_part() {
        let buffers = Buffers::new(2, 4096).unwrap();
        let mut whole = chunk_of(&buffers, b"head and body");
        let head = whole.split_to(5);
        assert_eq!((&head[..], &whole[..]), (&b"head "[..], &b"and body"[..]));
        whole.advance(4);
        whole.truncate(2);
        assert_eq!(&whole[..], b"bo");
        drop(head);
        assert_eq!(buffers.lent(), 1);
        drop(whole);
        assert_eq!(buffers.lent(), 0);
    }

    #[test]
    fn room_shrinks_with_what_is_held() {
        let buffers = Buffers::new(8, 4096).unwrap();
        let mut held = Vec::new();
        let mut hold = |count: usize| {
            held.resize_with(count, || chunk_of(&buffers, b"x"));
            buffers.room()
        };
        assert_eq!([4, 5, 6, 7, 6, 4].map(&mut hold), {
            use Room::{Half, Plenty, Scarce};
            [Plenty, Half, Half, Scarce, Half, Plenty]
        });
    }

    #[test]
    fn no_more_are_lent_than_there_are() {
        let buffers = Buffers::new(1, 4096).unwrap();
        let only = chunk_of(&buffers, b"x");
        assert!(buffers.take().is_none());
        drop(only);
        assert!(buffers.take().is_some());
    }

    #[test]
    #[should_panic(expected = "beyond the end")]
    fn a_split_stays_inside() {
        let buffers = Buffers::new(1, 4096).unwrap();
        chunk_of(&buffers, b"abc").split_to(4);
    }

    #[test]
    fn a_grown_send_buffer_is_not_kept() {
        let buffers = Buffers::new(1, 4096).unwrap();
        buffers.give_back(Vec::with_capacity(SEND_BYTES_KEPT_MAX + 1));
        assert_eq!(buffers.send.borrow().len(), 0);
        buffers.give_back(vec![1, 2, 3]);
        assert!(buffers.send_buffer().is_empty());
    }
}
