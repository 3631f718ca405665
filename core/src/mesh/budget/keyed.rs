//! What all cores share of one rule, by key: asked once for each key that a core meets first, by a lock that is held for
//! a look into a table.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Slots;
use crate::mesh::sync::{AtomicU64, Ordering};

/// Locks, so that cores seldom meet at one.
const PARTS: usize = 16;
/// Smaller tables have one lock, since parts do not fill evenly.
const WHOLE_MAX: usize = 1024;

#[derive(Debug)]
pub struct Keyed<T> {
    parts: Box<[Mutex<Slots<Arc<T>>>]>,
    /// For all keys that find the table full.
    overflow: Arc<T>,
    /// How often one did.
    missed: AtomicU64,
}

/// What belongs to a key.
#[derive(Debug)]
pub enum Found<T> {
    Own(Arc<T>),
    /// What new keys share, as the table is full.
    Shared(Arc<T>),
}

impl<T> Keyed<T> {
    pub fn new(keys_max: usize, overflow: T) -> Keyed<T> {
        let parts = if keys_max <= WHOLE_MAX { 1 } else { PARTS };
        let part = |_| Mutex::new(Slots::new(keys_max.div_ceil(parts)));
        let parts = (0..parts).map(part).collect();
        Keyed { parts, overflow: Arc::new(overflow), missed: AtomicU64::new(0) }
    }

    pub fn overflow(&self) -> &Arc<T> {
        &self.overflow
    }

    /// What belongs to the key; made if nobody has asked for it. What is idle and held by no core may be forgotten.
    pub fn find(&self, digest: u128, make: impl FnOnce() -> T, is_idle: impl Fn(&T) -> bool) -> Found<T> {
        if let Some(found) = self.known(digest) {
            return Found::Own(found);
        }
        let made = Arc::new(make());
        let mut part = self.part(digest);
        if let Some(place) = part.find(digest) {
            return Found::Own(part.at(place).clone()); // another core was faster
        }
        let may_go = |one: &Arc<T>| Arc::strong_count(one) == 1 && is_idle(one);
        match part.add(digest, made.clone(), may_go) {
            Some(_) => Found::Own(made),
            None => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                Found::Shared(self.overflow.clone())
            }
        }
    }

    /// Counts up with each key that finds the table full. What cores hold without need stands in its way then: what they
    /// have met, and might meet again.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    pub fn known(&self, digest: u128) -> Option<Arc<T>> {
        let part = self.part(digest);
        part.find(digest).map(|place| part.at(place).clone())
    }

    /// Keys that have something of their own.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| lock(part).len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn for_each(&self, what: impl Fn(&T)) {
        what(&self.overflow);
        self.parts.iter().for_each(|part| lock(part).iter().for_each(|one| what(one)));
    }

    fn part(&self, digest: u128) -> MutexGuard<'_, Slots<Arc<T>>> {
        lock(&self.parts[(digest >> 64) as usize % self.parts.len()])
    }
}

fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}
