//! What all cores share, by kind and name, for as long as somebody uses it: so it outlives a plan. Asked while plans are
//! built; what it hands out is what cores then hold.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

type Shared = dyn Any + Send + Sync;

/// Kinds are their owners' words.
#[derive(Debug, Default)]
pub struct Registry {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    shared: HashMap<(&'static str, String), Weak<Shared>>,
    /// With so many, those that nobody uses are thrown out.
    sweep_at: usize,
}

impl Registry {
    /// That of this kind and name; made if nobody has it.
    pub fn get<T: Send + Sync + 'static>(&self, kind: &'static str, name: &str, make: impl FnOnce() -> T) -> Arc<T> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.shared.len() >= known.sweep_at {
            known.shared.retain(|_, what| what.strong_count() > 0);
            known.sweep_at = 2 * known.shared.len() + 1;
        }
        let key = (kind, name.to_owned());
        if let Some(found) = known.shared.get(&key).and_then(Weak::upgrade).and_then(|what| what.downcast::<T>().ok()) {
            return found;
        }
        let made = Arc::new(make());
        let shared: Arc<Shared> = made.clone();
        known.shared.insert(key, Arc::downgrade(&shared));
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_uses_is_found_again_and_what_nobody_uses_is_gone() {
        let registry = Registry::default();
        let first = registry.get("kind", "a", || 1_u32);
        assert!(Arc::ptr_eq(&first, &registry.get("kind", "a", || 2_u32)));
        assert_eq!(*registry.get("other", "a", || 3_u32), 3);
        drop(first);
        assert_eq!(*registry.get("kind", "a", || 4_u32), 4);
    }
}
