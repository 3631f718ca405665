//! The bytes of one head while it comes in: in the receive buffer it arrived in, or gathered if it came in pieces.

use crate::net::{Chunk, Stream};

/// What a head gathered from pieces may keep allocated for the next one.
const GATHERED_BYTES_KEPT_MAX: usize = 8 * 1024;

#[derive(Default)]
pub struct HeadBuffer {
    /// The last piece received.
    last: Option<Chunk>,
    /// All pieces, once there is more than one.
    gathered: Vec<u8>,
    /// Bytes of `gathered` before the last piece.
    before_last: usize,
}

impl HeadBuffer {
    /// Adds what was received.
    pub fn push(&mut self, chunk: Chunk) {
        if let Some(first) = &self.last {
            if self.gathered.is_empty() {
                self.gathered.extend_from_slice(first);
            }
            self.before_last = self.gathered.len();
            self.gathered.extend_from_slice(&chunk);
        }
        self.last = Some(chunk);
    }

    pub fn bytes(&self) -> &[u8] {
        match &self.last {
            Some(only) if self.gathered.is_empty() => only,
            _ => &self.gathered,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// The head ends after `length` bytes; what follows goes back into the stream.
    pub fn cut(&mut self, length: usize, stream: &Stream) {
        let Some(last) = &mut self.last else { return };
        if self.before_last + last.len() == length {
            return; // nothing follows, as with most requests
        }
        let mut rest = last.clone();
        if self.gathered.is_empty() {
            last.truncate(length);
            rest.advance(length);
        } else {
            rest.advance(length - self.before_last);
            self.gathered.truncate(length);
        }
        stream.unread(rest);
    }

    pub fn clear(&mut self) {
        self.last = None;
        self.before_last = 0;
        if self.gathered.capacity() > GATHERED_BYTES_KEPT_MAX {
            self.gathered = Vec::new();
        } else {
            self.gathered.clear();
        }
    }
}
