//! A byte range inside a head: what the parsers hand out instead of copies. Not a slice: it outlives moves of the buffer.

/// Longest head that spans can describe; every parser clamps its limit to it.
pub const SPAN_END_MAX: usize = u16::MAX as usize;

/// Half-open range of bytes, counted from the first byte of the buffer that the head was parsed from.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Span {
    pub start: u16,
    pub end: u16,
}

impl Span {
    /// The bytes meant. `buf` must be the buffer the head was parsed from (it may have moved, or grown at its end).
    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        &buf[usize::from(self.start)..usize::from(self.end)]
    }

    #[inline]
    pub fn len(self) -> usize {
        usize::from(self.end.saturating_sub(self.start))
    }

    #[inline]
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Both ends lie inside a head, hence fit: the parsers look at no byte past [`SPAN_END_MAX`].
    #[inline]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= SPAN_END_MAX);
        Self { start: start as u16, end: end as u16 }
    }

    /// The same bytes where `by` bytes stand before the buffer.
    pub(crate) fn moved(self, by: usize) -> Self {
        Self::new(usize::from(self.start) + by, usize::from(self.end) + by)
    }
}
