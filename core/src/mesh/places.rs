//! Places that the node has for something, such as open questions to one server: taken by any core, given back by whatever
//! thread lets go of them. For what is rare beside a request; for each request there is `quota`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many are taken.
#[derive(Debug, Default)]
pub struct Places(AtomicU32);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Place(Arc<Places>);

impl Places {
    /// `None`: `max` are taken.
    pub fn take(self: &Arc<Self>, max: u32) -> Option<Place> {
        let more = |taken: u32| (taken < max).then_some(taken + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Place(self.clone()))
    }

    pub fn taken(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_taken_than_there_are() {
        let places = Arc::new(Places::default());
        let taken: Vec<Place> = (0..5).filter_map(|_| places.take(3)).collect();
        assert_eq!((taken.len(), places.taken()), (3, 3));
        assert!(places.take(4).is_some(), "and given back at once");
        drop(taken);
        assert_eq!(places.taken(), 0);
    }
}
