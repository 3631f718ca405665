//! What filters change about a head. The names and most values are the plan's, so that an edit copies nothing; what is
//! known of one request alone is counted by reference.

use std::ops::Deref;
use std::rc::Rc;

use smallvec::SmallVec;

/// Edits that an exchange holds without an allocation.
const EDITS_INLINE: usize = 6;

/// Edits of one head, in the order they apply.
#[derive(Default)]
pub struct HeaderEdits<'p> {
    edits: SmallVec<[HeaderEdit<'p>; EDITS_INLINE]>,
    /// False: none takes away what an earlier one has added, and nobody has to look for it.
    may_undo: bool,
}

/// One edit; names are lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderEdit<'p> {
    Remove(&'p str),
    /// All fields whose names begin so.
    RemoveAll(&'p str),
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
    #[inline]
    pub fn push(&mut self, edit: HeaderEdit<'p>) {
        self.may_undo |= edit.takes_away() && !self.edits.is_empty();
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

    /// The edit applies before those from number `at` on.
    pub fn insert(&mut self, at: usize, edit: HeaderEdit<'p>) {
        self.edits.insert(at, edit);
        self.may_undo = true;
    }

    /// Forgets what changes a field of one of these names (lower case).
    pub fn leave_out(&mut self, names: &[&str]) {
        self.edits.retain(|edit| match edit {
            HeaderEdit::Remove(named) | HeaderEdit::Set(named, _) | HeaderEdit::Add(named, _) => !names.contains(named),
            HeaderEdit::RemoveAll(_) => true,
        });
    }

    /// The edits from number `at` on apply before all others.
    pub fn bring_to_front(&mut self, at: usize) {
        let later = self.edits.len() - at;
        self.edits.rotate_right(later);
        self.may_undo |= self.edits.iter().any(HeaderEdit::takes_away);
    }

    /// True if a field that was received must not be copied.
    pub fn drops(&self, name: &[u8]) -> bool {
        self.edits.iter().any(|edit| edit.drops(name))
    }

    /// The same of the first `len` edits alone.
    pub fn drops_within(&self, len: usize, name: &[u8]) -> bool {
        self.edits[..len].iter().any(|edit| edit.drops(name))
    }

    /// The value that an edit sets for `name` (lower case), and none that follows takes away.
    pub fn replacement(&self, name: &str) -> Option<&str> {
        match self.edits.iter().rev().find(|edit| edit.drops(name.as_bytes()))? {
            HeaderEdit::Set(_, value) => Some(value),
            _ => None,
        }
    }

    /// The fields to write behind those that were copied, in order. Of several `set` of one name the last stays.
    pub fn written(&self) -> impl Iterator<Item = (&str, &str)> {
        self.written_within(self.edits.len())
    }

    /// The same of the first `len` edits alone.
    pub fn written_within(&self, len: usize) -> impl Iterator<Item = (&str, &str)> {
        (0..len).filter_map(move |at| self.written_at(at, len))
    }

    /// The same as [`HeaderEdits::written`], where it has to be fast.
    #[inline]
    pub fn each_written(&self, mut see: impl FnMut(&str, &str)) {
        for at in 0..self.edits.len() {
            if let Some((name, value)) = self.written_at(at, self.edits.len()) {
                see(name, value);
            }
        }
    }

    /// What edit `at` writes, unless one that follows within the first `len` takes it away.
    #[inline]
    fn written_at(&self, at: usize, len: usize) -> Option<(&str, &str)> {
        match &self.edits[at] {
            HeaderEdit::Remove(_) | HeaderEdit::RemoveAll(_) => None,
            HeaderEdit::Set(name, value) | HeaderEdit::Add(name, value) => {
                let is_undone = || self.edits[at + 1..len].iter().any(|later| later.drops(name.as_bytes()));
                (!self.may_undo || !is_undone()).then_some((*name, &**value))
            }
        }
    }
}

/// Most names differ in their first letter or in their length. `known` is in lower case.
#[inline]
fn is_same(known: &[u8], name: &[u8]) -> bool {
    known.len() == name.len()
        && known.first().map(|byte| byte | 0x20) == name.first().map(|byte| byte | 0x20)
        && known.eq_ignore_ascii_case(name)
}

impl HeaderEdit<'_> {
    #[inline]
    fn takes_away(&self) -> bool {
        !matches!(self, HeaderEdit::Add(..))
    }

    /// True if it takes away a field of this name that was there before it.
    #[inline]
    fn drops(&self, name: &[u8]) -> bool {
        match self {
            HeaderEdit::Remove(named) | HeaderEdit::Set(named, _) => is_same(named.as_bytes(), name),
            HeaderEdit::RemoveAll(start) => name.get(..start.len()).is_some_and(|name| is_same(start.as_bytes(), name)),
            HeaderEdit::Add(..) => false,
        }
    }
}
