//! The segments of a request's path, found and hashed at most once each. Does not normalise: dot segments, `//` and
//! the case of escapes are settled before (`ringway-proto`).

use super::build::{LITERAL_BYTES_MAX, SEGMENTS_MAX};
use smallvec::SmallVec;

pub(super) const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";

/// One segment: a byte range of the path, and the hash of its decoded bytes.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) hash: u64,
}

impl Span {
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// `/a/b` has the segments `a` and `b`, `/a/` has `a` and an empty one, `/` has an empty one.
pub(super) struct Segments<'a> {
    pub(super) path: &'a [u8],
    hasher: &'a ahash::RandomState,
    /// The path holds a `%` somewhere.
    pub(super) escaped: bool,
    /// Those found so far; no pattern asks for more than [`SEGMENTS_MAX`].
    found: SmallVec<[Span; SEGMENTS_MAX]>,
}

impl<'a> Segments<'a> {
    #[inline] // see `walk::Walk::new`
    pub(super) fn new(path: &'a [u8], hasher: &'a ahash::RandomState) -> Self {
        Segments { path, hasher, escaped: memchr::memchr(b'%', path).is_some(), found: SmallVec::new() }
    }

    /// The path has exactly `count` segments. Those before `count` were asked for already.
    pub(super) fn ended(&self, count: usize) -> bool {
        count > 0 && self.found[count - 1].end as usize == self.path.len()
    }

    /// The segment number `index`, from 0, if the path has that many. Each one before it was asked for already.
    pub(super) fn get(&mut self, index: usize) -> Option<Span> {
        if let Some(span) = self.found.get(index) {
            return Some(*span);
        }
        let start = self.start(index);
        let rest = self.path.get(start..)?;
        let end = start + memchr::memchr(b'/', rest).unwrap_or(rest.len());
        let span = Span { start: start as u32, end: end as u32, hash: self.hash(&self.path[start..end]) };
        self.found.push(span);
        Some(span)
    }

    /// Where segment number `index` starts: one past the end of a path that has only `index` segments.
    pub(super) fn start(&self, index: usize) -> usize {
        if index == 0 { 1 } else { self.found[index - 1].end as usize + 1 }
    }

    /// Whether the segment, decoded, is `literal`.
    pub(super) fn is(&self, span: Span, literal: &[u8]) -> bool {
        let raw = &self.path[span.start as usize..span.end as usize];
        if self.escaped { decoded(raw).eq(literal.iter().copied()) } else { raw == literal }
    }

    fn hash(&self, raw: &[u8]) -> u64 {
        if !self.escaped || memchr::memchr(b'%', raw).is_none() {
            return self.hasher.hash_one(raw);
        }
        // No literal is longer than the buffer, and equality is checked on all bytes (`is`), so cutting is harmless.
        let mut buffer = [0; LITERAL_BYTES_MAX];
        let mut len = 0;
        for (place, byte) in buffer.iter_mut().zip(decoded(raw)) {
            *place = byte;
            len += 1;
        }
        self.hasher.hash_one(&buffer[..len])
    }
}

/// Percent-decoded bytes; a `%` that starts no escape stands for itself.
pub(super) fn decoded(raw: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = raw;
    std::iter::from_fn(move || {
        let (byte, after) = split_first(rest)?;
        rest = after;
        Some(byte)
    })
}

/// How many bytes of `raw` the first `count` decoded ones take.
pub(super) fn raw_offset(raw: &[u8], count: usize) -> usize {
    let mut rest = raw;
    for _ in 0..count {
        let Some((_, after)) = split_first(rest) else { break };
        rest = after;
    }
    raw.len() - rest.len()
}

/// The first decoded byte, and what follows it.
fn split_first(raw: &[u8]) -> Option<(u8, &[u8])> {
    let (&first, tail) = raw.split_first()?;
    if first == b'%'
        && let [high, low, after @ ..] = tail
        && let (Some(high), Some(low)) = (hex(*high), hex(*low))
    {
        return Some((high << 4 | low, after));
    }
    Some((first, tail))
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}
