//! What filters change about a head. The names and values are the plan's, so that an edit copies nothing.

use smallvec::SmallVec;

/// Edits that an exchange holds without an allocation.
const EDITS_INLINE: usize = 4;

/// Edits of one head, in the order they apply.
#[derive(Default)]
pub struct HeaderEdits<'p> {
    edits: SmallVec<[HeaderEdit<'p>; EDITS_INLINE]>,
}

/// One edit; names are lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderEdit<'p> {
    Remove(&'p str),
    Set(&'p str, &'p str),
    Add(&'p str, &'p str),
}

impl<'p> HeaderEdits<'p> {
    pub fn push(&mut self, edit: HeaderEdit<'p>) {
        self.edits.push(edit);
    }

    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// True if a field that was received must not be copied.
    pub fn drops(&self, name: &[u8]) -> bool {
        self.edits.iter().any(|edit| match edit {
            HeaderEdit::Remove(named) | HeaderEdit::Set(named, _) => named.as_bytes().eq_ignore_ascii_case(name),
            HeaderEdit::Add(..) => false,
        })
    }

    /// The value that the last edit sets for `name` (lower case).
    pub fn replacement(&self, name: &str) -> Option<&'p str> {
        self.edits.iter().rev().find_map(|edit| match edit {
            HeaderEdit::Set(named, value) if *named == name => Some(*value),
            _ => None,
        })
    }

    /// The fields to write behind those that were copied, in order. Of several `set` of one name the last stays.
    pub fn written(&self) -> impl Iterator<Item = (&'p str, &'p str)> + '_ {
        self.edits.iter().enumerate().filter_map(|(at, edit)| match edit {
            HeaderEdit::Remove(_) => None,
            HeaderEdit::Set(name, value) => (!self.undone(at, name)).then_some((*name, *value)),
            HeaderEdit::Add(name, value) => (!self.undone(at, name)).then_some((*name, *value)),
        })
    }

    fn undone(&self, at: usize, name: &str) -> bool {
        self.edits[at + 1..].iter().any(|later| match later {
            HeaderEdit::Remove(named) | HeaderEdit::Set(named, _) => *named == name,
            HeaderEdit::Add(..) => false,
        })
    }
}
