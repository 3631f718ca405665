//! Where a reply ends, found without decoding it and without looking at any byte twice. Builds no value (`reply`).

use std::fmt;

use memchr::memmem;

/// A whole reply. Values in a cache are the largest; a server that sends more is not one we want to hear out.
pub const REPLY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Aggregates within aggregates: `CLUSTER SHARDS`, the deepest reply in use, has four levels. The decoder recurses, and one
/// nested 200 000 deep would end the process.
pub const NESTING_MAX: usize = 16;
/// Values of one reply: `CLUSTER SLOTS` of a cluster cut into single slots has some hundred thousand.
pub const ELEMENTS_MAX: u64 = 1 << 19;
/// A status, an error, a number or a length.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Why these bytes are no reply that we take. The connection has lost its place and is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RespError {
    ReplyTooLong,
    NestedTooDeep,
    TooManyElements,
    LineTooLong,
    /// No kind of value begins with this byte, or none that Redis sends unasked (streamed values, attributes).
    UnknownKind(u8),
    BadLength,
    BadEnd,
    /// The right form with a wrong content: a number that is none.
    BadValue,
}

impl fmt::Display for RespError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RespError::ReplyTooLong => write!(f, "the reply is longer than {REPLY_BYTES_MAX} bytes"),
            RespError::NestedTooDeep => write!(f, "the reply is nested more than {NESTING_MAX} deep"),
            RespError::TooManyElements => write!(f, "the reply has more than {ELEMENTS_MAX} elements"),
            RespError::LineTooLong => write!(f, "a line of the reply is longer than {LINE_BYTES_MAX} bytes"),
            RespError::UnknownKind(byte) => write!(f, "no reply begins with the byte {byte:#04x}"),
            RespError::BadLength => f.write_str("a length that is none"),
            RespError::BadEnd => f.write_str("a string does not end where it says"),
            RespError::BadValue => f.write_str("a value that is none"),
        }
    }
}

impl std::error::Error for RespError {}

/// Looks for the end of one reply in a buffer that grows. [`FrameScan::find_end`] goes on where it stopped.
#[derive(Debug, Default, Clone)]
pub struct FrameScan {
    /// Up to here every value is whole.
    at: usize,
    /// From here on the end of a line has not been looked for.
    line_from: usize,
    /// So long must the buffer be before there is anything to find.
    need: usize,
    elements: u64,
    /// By level: values that are still to come.
    open: [u64; NESTING_MAX],
    depth: usize,
}

impl FrameScan {
    /// The length of the reply that `buffer` begins with, once it is whole; the scan is ready for the next one then.
    /// Until then `buffer` may only grow.
    ///
    /// # Errors
    /// [`RespError`]; the rest of the connection cannot be read.
    pub fn find_end(&mut self, buffer: &[u8]) -> Result<Option<usize>, RespError> {
        if buffer.len() < self.need {
            return Ok(None);
        }
        loop {
            let Some(opened) = self.value(buffer)? else { return Ok(None) };
            match opened {
                0 => self.close(),
                values => self.descend(values)?,
            }
            if self.depth == 0 {
                let end = self.at;
                *self = FrameScan::default();
                return Ok(Some(end));
            }
        }
    }

    /// Bytes that the buffer will have at least when the reply is whole.
    pub fn need(&self) -> usize {
        self.need
    }

    /// Passes one value; of an aggregate its head, with the number of values in it. `None`: it is not whole yet.
    fn value(&mut self, buffer: &[u8]) -> Result<Option<u64>, RespError> {
        let Some(&kind) = buffer.get(self.at) else { return self.more(self.at + 1) };
        let per_element = match kind {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' | b'$' | b'!' | b'=' => 0,
            b'*' | b'~' | b'>' => 1,
            b'%' => 2,
            _ => return Err(RespError::UnknownKind(kind)),
        };
        let Some(line_end) = self.line_end(buffer)? else { return Ok(None) };
        let line = &buffer[self.at + 1..line_end - 2];
        match kind {
            b'$' | b'!' | b'=' => match length(line)? {
                None if kind == b'$' => self.pass(line_end).map(|()| Some(0)),
                None => Err(RespError::BadLength),
                // It begins with its own kind: "txt:".
                Some(bytes) if kind == b'=' && bytes < 4 => Err(RespError::BadLength),
                Some(bytes) => self.string(buffer, line_end, bytes),
            },
            _ if per_element > 0 => {
                let count = match length(line)? {
                    None if kind == b'*' => 0,
                    None => return Err(RespError::BadLength),
                    Some(count) => count as u64 * per_element,
                };
                self.elements = self.elements.saturating_add(count);
                if self.elements > ELEMENTS_MAX {
                    return Err(RespError::TooManyElements);
                }
                self.pass(line_end).map(|()| Some(count))
            }
            _ => self.pass(line_end).map(|()| Some(0)),
        }
    }

    /// Behind the line's `\r\n`, if that is there.
    fn line_end(&mut self, buffer: &[u8]) -> Result<Option<usize>, RespError> {
        let from = self.line_from.max(self.at + 1);
        match memmem::find(&buffer[from.min(buffer.len())..], b"\r\n") {
            Some(found) if from + found - self.at <= LINE_BYTES_MAX => Ok(Some(from + found + 2)),
            None if buffer.len() - self.at <= LINE_BYTES_MAX => {
                // The last byte may be the \r of an end that is half there.
                self.line_from = buffer.len().saturating_sub(1);
                self.more(buffer.len() + 1)
            }
            _ => Err(RespError::LineTooLong),
        }
    }

    fn string(&mut self, buffer: &[u8], from: usize, bytes: usize) -> Result<Option<u64>, RespError> {
        if bytes > REPLY_BYTES_MAX {
            return Err(RespError::ReplyTooLong);
        }
        let end = from + bytes + 2;
        match buffer.get(end - 2..end) {
            Some(b"\r\n") => self.pass(end).map(|()| Some(0)),
            Some(_) => Err(RespError::BadEnd),
            None if end > REPLY_BYTES_MAX => Err(RespError::ReplyTooLong),
            None => {
                // The line before it is looked at again, from its end.
                self.line_from = from - 2;
                self.more(end)
            }
        }
    }

    fn more<T>(&mut self, need: usize) -> Result<Option<T>, RespError> {
        if need > REPLY_BYTES_MAX {
            return Err(RespError::ReplyTooLong);
        }
        self.need = need;
        Ok(None)
    }

    fn pass(&mut self, end: usize) -> Result<(), RespError> {
        if end > REPLY_BYTES_MAX {
            return Err(RespError::ReplyTooLong);
        }
        (self.at, self.need) = (end, end);
        Ok(())
    }

    fn descend(&mut self, values: u64) -> Result<(), RespError> {
        let level = self.open.get_mut(self.depth).ok_or(RespError::NestedTooDeep)?;
        *level = values;
        self.depth += 1;
        Ok(())
    }

    /// A value is whole, and with it each aggregate whose last one it was.
    fn close(&mut self) {
        while self.depth > 0 {
            let level = &mut self.open[self.depth - 1];
            *level -= 1;
            if *level > 0 {
                return;
            }
            self.depth -= 1;
        }
    }
}

/// `None`: -1, the nothing of RESP2.
fn length(line: &[u8]) -> Result<Option<usize>, RespError> {
    if line == b"-1" {
        return Ok(None);
    }
    if line.is_empty() || line.len() > 10 || !line.iter().all(u8::is_ascii_digit) {
        return Err(RespError::BadLength);
    }
    Ok(Some(line.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_as_deep_as_a_stack_is_refused_at_its_seventeenth_level() {
        let deep = b"*1\r\n".repeat(200_000);
        assert_eq!(FrameScan::default().find_end(&deep), Err(RespError::NestedTooDeep));
    }

    #[test]
    fn no_byte_is_looked_at_again() {
        // A quadratic scan of these 8 MiB in steps of 64 bytes would look at 5 * 10^11 bytes, and take minutes.
        let mut many = b"*400000\r\n".to_vec();
        many.extend(b"$12\r\nabcdefghijkl\r\n".repeat(400_000));
        let mut scan = FrameScan::default();
        let end = (0..=many.len()).step_by(64).find_map(|shown| scan.find_end(&many[..shown]).unwrap());
        assert_eq!(end.or_else(|| scan.find_end(&many).unwrap()), Some(many.len()));
    }

    #[test]
    fn the_room_that_a_long_string_needs_is_known_from_its_head() {
        let mut scan = FrameScan::default();
        assert_eq!(scan.find_end(b"$1000000\r\nabc"), Ok(None));
        assert_eq!(scan.need(), 10 + 1_000_000 + 2);
    }

    #[test]
    fn a_line_without_an_end_is_not_collected_for_ever() {
        let line = [&b"+"[..], &vec![b'a'; LINE_BYTES_MAX]].concat();
        assert_eq!(FrameScan::default().find_end(&line), Err(RespError::LineTooLong));
        assert_eq!(FrameScan::default().find_end(&line[..LINE_BYTES_MAX]), Ok(None));
    }
}
