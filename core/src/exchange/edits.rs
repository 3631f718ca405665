//! What filters change about a head. The names and most values are the plan's, so that an edit copies nothing; what is
//! known of one request alone is counted by reference.

use std::ops::Deref;
use std::rc::Rc;

use smallvec::SmallVec;

/// Edits that an exchange holds without an allocation.
const EDITS_INLINE: usize = 4;

/// Edits of one head, in the order they apply.
#[derive(Default)]
pub struct HeaderEdits<'p> {
    edits: SmallVec<[HeaderEdit<'p>; EDITS_INLINE]>,
}

/// One edit; names are lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderEdit<'p> {
    Remove(&'p str),
    Set(&'p str, EditValue<'p>),
    Add(&'p str, EditValue<'p>),
}

/// A field's value: nothing in it ends the line (RFC 9110 5.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditValue<'p> {
    Plan(&'p str),
    Own(Rc<str>),
}

impl Deref for EditValue<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            EditValue::Plan(text) => text,
            EditValue::Own(text) => text,
        }
    }
}

impl<'p> From<&'p String> for EditValue<'p> {
    fn from(text: &'p String) -> EditValue<'p> {
        EditValue::Plan(text)
    }
}

impl<'p> From<&'p str> for EditValue<'p> {
    fn from(text: &'p str) -> EditValue<'p> {
        EditValue::Plan(text)
    }
}

impl From<Rc<str>> for EditValue<'_> {
    fn from(text: Rc<str>) -> Self {
        EditValue::Own(text)
    }
}

impl From<String> for EditValue<'_> {
    fn from(text: String) -> Self {
        EditValue::Own(text.into())
    }
}

impl<'p> HeaderEdits<'p> {
    pub fn push(&mut self, edit: HeaderEdit<'p>) {
        self.edits.push(edit);
    }

    /// Sets `name` in the place where an edit sets it already, or last.
    pub fn replace(&mut self, name: &'p str, value: EditValue<'p>) {
        let known = self.edits.iter_mut().find_map(|edit| match edit {
            HeaderEdit::Set(named, value) if *named == name => Some(value),
            _ => None,
        });
        match known {
            Some(known) => *known = value,
            None => self.push(HeaderEdit::Set(name, value)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    pub fn len(&self) -> usize {
        self.edits.len()
    }

    /// The edits from number `at` on apply before all others.
    pub fn bring_to_front(&mut self, at: usize) {
        let later = self.edits.len() - at;
        self.edits.rotate_right(later);
    }

    /// True if a field that was received must not be copied.
    pub fn drops(&self, name: &[u8]) -> bool {
        self.edits.iter().any(|edit| match edit {
            HeaderEdit::Remove(named) | HeaderEdit::Set(named, _) => named.as_bytes().eq_ignore_ascii_case(name),
            HeaderEdit::Add(..) => false,
        })
    }

    /// The value that the last edit sets for `name` (lower case).
    pub fn replacement(&self, name: &str) -> Option<&str> {
        self.edits.iter().rev().find_map(|edit| match edit {
            HeaderEdit::Set(named, value) if *named == name => Some(&**value),
            _ => None,
        })
    }

    /// The fields to write behind those that were copied, in order. Of several `set` of one name the last stays.
    pub fn written(&self) -> impl Iterator<Item = (&str, &str)> {
        self.edits.iter().enumerate().filter_map(|(at, edit)| match edit {
            HeaderEdit::Remove(_) => None,
            HeaderEdit::Set(name, value) => (!self.undone(at, name)).then_some((*name, &**value)),
            HeaderEdit::Add(name, value) => (!self.undone(at, name)).then_some((*name, &**value)),
        })
    }

    fn undone(&self, at: usize, name: &str) -> bool {
        self.edits[at + 1..].iter().any(|later| match later {
            HeaderEdit::Remove(named) | HeaderEdit::Set(named, _) => *named == name,
            HeaderEdit::Add(..) => false,
        })
    }
}
