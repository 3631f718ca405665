//! What happens to a message whose inbox is full: a named policy per kind, and a count. Does not send (`port`).

use std::cell::RefCell;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Kept by the sender; a newer one of the same kind takes its place. For news of which only the last matters.
    Coalesce,
    /// Kept by the sender, in order, up to `BACKLOG_MESSAGES_MAX`. For what must arrive.
    RetryLater,
    /// Handed back to the caller at once. For what the caller can do itself or do without.
    DropAndCount,
}

/// What the mesh carries.
pub trait Message: Send + 'static {
    fn policy(&self) -> Policy;
    /// A fixed word per variant: the label of its counters and the key of `Coalesce`.
    fn kind(&self) -> &'static str;
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a refused message is the caller's again"]
pub enum Sent<M> {
    /// In the inbox of its receiver.
    Delivered,
    /// In the sender's backlog; `flush` tries again.
    Kept,
    /// Nowhere: here it is back.
    Refused(M),
}

impl<M> Sent<M> {
    pub fn refused(self) -> Option<M> {
        match self {
            Sent::Refused(message) => Some(message),
            Sent::Delivered | Sent::Kept => None,
        }
    }
}

/// What one sender did with one kind of message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KindCounts {
    pub kind: &'static str,
    /// Reached the inbox, at once or later.
    pub delivered: u64,
    /// Did not fit at first.
    pub kept: u64,
    /// Overtaken by a newer one while it waited.
    pub replaced: u64,
    /// Handed back to the caller.
    pub refused: u64,
}

/// Counters of one sender, one row per kind that it has met. Plain cells: only the owning thread reads and writes.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    rows: RefCell<Vec<KindCounts>>,
}

impl Tally {
    /// Kinds are few (one per variant) and known at compile time, hence the plain search and no limit.
    pub(crate) fn add(&self, kind: &'static str, change: impl FnOnce(&mut KindCounts)) {
        let mut rows = self.rows.borrow_mut();
        let at = rows.iter().position(|row| row.kind == kind).unwrap_or_else(|| {
            rows.push(KindCounts { kind, ..KindCounts::default() });
            rows.len() - 1
        });
        change(&mut rows[at]);
    }

    pub(crate) fn rows(&self) -> Vec<KindCounts> {
        self.rows.borrow().clone()
    }
}
