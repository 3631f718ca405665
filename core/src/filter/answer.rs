//! What a filter sees and changes of an answer whose head is known: an origin's or one that Ringway makes.

use ringway_proto::{RequestHead, ResponseHead};

use super::FilterState;
use crate::exchange::{BodyLength, Chained, HeaderEdit, HeaderEdits, Transform};

/// An answer that filters are to see.
pub struct Answer<'r> {
    pub request: &'r RequestHead,
    /// What `request` points into.
    pub request_bytes: &'r [u8],
    pub request_id: &'r str,
    pub status: u16,
    /// The code of an error that Ringway answers with; `None`: the answer is the origin's, or a configured one.
    pub code: Option<&'static str>,
    pub state: &'r FilterState,
    pub received: Received<'r>,
    /// Of its body, if that is known.
    pub body_bytes: Option<u64>,
}

/// The answer's fields before any edit.
pub enum Received<'r> {
    Origin(&'r ResponseHead, &'r [u8]),
    /// A status line and lines of fields, each with CRLF.
    Own(&'r [u8]),
}

/// What filters make of an answer's body.
pub struct ChangedBody {
    pub transform: Box<dyn Transform>,
    pub length: BodyLength,
}

/// Who wants to see an answer.
#[derive(Clone, Copy)]
pub struct Hook<'p> {
    pub filter: &'p dyn super::Filter,
    /// Edits of the answer that filters further outside had made when this one saw the request.
    pub edits_outside: usize,
}

/// An answer on its way out, as the filters further inside have left it.
pub struct AnswerEdit<'p, 'r> {
    pub of: Answer<'r>,
    edits: &'r mut HeaderEdits<'p>,
    /// Edits of filters further outside begin here.
    outside: usize,
    changed: Option<ChangedBody>,
}

impl<'r> Answer<'r> {
    /// Shows it to `hooks`, the innermost (last) first: what they make of its body.
    pub fn pass<'p>(self, hooks: &[Hook<'p>], edits: &'r mut HeaderEdits<'p>) -> Option<ChangedBody> {
        let mut edit = AnswerEdit { of: self, edits, outside: 0, changed: None };
        for hook in hooks.iter().rev() {
            edit.outside = edit.edits.len() - hook.edits_outside;
            hook.filter.on_answer(&mut edit);
        }
        edit.changed
    }
}

impl<'p> AnswerEdit<'p, '_> {
    /// Adds an edit behind those of filters further inside.
    pub fn push(&mut self, edit: HeaderEdit<'p>) {
        self.edits.insert(self.outside, edit);
        self.outside += 1;
    }

    /// True as soon as `test` holds for one value of the field `name` (lower case).
    pub fn any(&self, name: &str, mut test: impl FnMut(&[u8]) -> bool) -> bool {
        let written = self.edits.written_within(self.outside);
        if written.into_iter().any(|(written, value)| written == name && test(value.as_bytes())) {
            return true;
        }
        !self.edits.drops_within(self.outside, name.as_bytes()) && self.of.received.any(name, &mut test)
    }

    /// The first value of the field `name` (lower case).
    pub fn field(&self, name: &str) -> Option<Box<[u8]>> {
        let mut found = None;
        self.any(name, |value| {
            found = Some(value.into());
            true
        });
        found
    }

    pub fn has(&self, name: &str) -> bool {
        self.any(name, |_| true)
    }

    /// True if a request like this one, but for `GET`, has an answer with a body: an answer to `HEAD` says what that
    /// one would.
    pub fn has_body(&self) -> bool {
        !matches!(self.of.status, 100..=199 | 204 | 304)
    }

    /// True if Ringway made it.
    pub fn is_own(&self) -> bool {
        matches!(self.of.received, Received::Own(_))
    }

    /// Changes the body; `bytes`: how many come out, if that is known.
    pub fn change_body(&mut self, transform: Box<dyn Transform>, bytes: Option<u64>) {
        let transform = match self.changed.take() {
            Some(first) => Box::new(Chained::new(first.transform, transform)),
            None => transform,
        };
        let length = bytes.map_or(BodyLength::Unknown, BodyLength::Ours);
        self.changed = Some(ChangedBody { transform, length });
        self.of.body_bytes = bytes;
    }
}

impl Received<'_> {
    fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        match self {
            Received::Origin(head, bytes) => ringway_proto::named(&head.fields, bytes, name)
                .any(|field| !field.nominated && !field.twin && test(field.value.of(bytes))),
            Received::Own(lines) => own_fields(lines)
                .any(|(found, value)| found.eq_ignore_ascii_case(name.as_bytes()) && test(value.trim_ascii())),
        }
    }
}

/// The fields of a head that Ringway wrote.
fn own_fields(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines.split(|byte| *byte == b'\n').skip(1).filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        Some((&line[..colon], &line[colon + 1..]))
    })
}

/// Takes the fields that `drops` names out of a head that Ringway wrote.
pub fn drop_own_fields(head: &mut Vec<u8>, drops: impl Fn(&[u8]) -> bool) {
    let mut at = memchr::memchr(b'\n', head).map_or(head.len(), |end| end + 1);
    let mut kept = at;
    while at < head.len() {
        let end = memchr::memchr(b'\n', &head[at..]).map_or(head.len(), |end| at + end + 1);
        let name = memchr::memchr(b':', &head[at..end]).map_or(at..at, |colon| at..at + colon);
        if name.is_empty() || !drops(&head[name]) {
            head.copy_within(at..end, kept);
            kept += end - at;
        }
        at = end;
    }
    head.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_out_of_a_head_of_ours() {
        let mut head = b"HTTP/1.1 200 OK\r\nA: 1\r\nb: 2\r\na: 3\r\nC: 4\r\n".to_vec();
        drop_own_fields(&mut head, |name| name.eq_ignore_ascii_case(b"a"));
        assert_eq!(head.escape_ascii().to_string(), r"HTTP/1.1 200 OK\r\nb: 2\r\nC: 4\r\n");
        let fields: Vec<_> = own_fields(&head).collect();
        assert_eq!(fields, [(&b"b"[..], &b" 2\r"[..]), (b"C", b" 4\r")]);
        let mut bare = b"HTTP/1.1 204 No Content\r\n".to_vec();
        drop_own_fields(&mut bare, |_| true);
        assert_eq!(bare, b"HTTP/1.1 204 No Content\r\n");
    }
}
