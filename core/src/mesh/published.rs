//! Values that one thread makes and all cores use: they look whether there is a newer one by reading one word. And a bell
//! that cores ring for the control thread.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// Versions are the process's: that of one value is no other's, of whatever row, also when a row was dropped and made anew.
static VERSIONS: AtomicU64 = AtomicU64::new(0);

/// The newest of a row of values.
#[derive(Debug)]
pub struct Published<T> {
    /// 0: none yet.
    version: AtomicU64,
    value: Mutex<Option<Arc<T>>>,
}

impl<T> Default for Published<T> {
    fn default() -> Self {
        Published { version: AtomicU64::new(0), value: Mutex::new(None) }
    }
}

impl<T> Published<T> {
    pub fn publish(&self, value: T) {
        let mut newest = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = Some(Arc::new(value));
        self.version.store(VERSIONS.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// Tells each value from all others of the process; 0: there is none yet. What was derived from a value of another
    /// version is void.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The newest. Takes a lock for a moment: not for each request.
    pub fn get(&self) -> Option<Arc<T>> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at the newest.
    pub fn with<R>(&self, look: impl FnOnce(Option<&T>) -> R) -> R {
        look(self.get().as_deref())
    }
}

/// Rung by any core, heard by one task of the control thread; rung twice before it is heard counts once.
#[derive(Debug, Default)]
pub struct Bell(Notify);

impl Bell {
    pub fn ring(&self) {
        self.0.notify_one();
    }

    pub async fn rung(&self) {
        self.0.notified().await;
    }

    /// Forgets that it was rung.
    pub fn silence(&self) {
        pin!(self.0.notified()).enable();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_a_version_of_its_own() {
        let [published, other] = [Published::default(), Published::default()];
        assert_eq!((published.version(), published.get()), (0, None));
        let mut versions = Vec::new();
        for value in 1..=3 {
            published.publish(value);
            versions.push(published.version());
            assert_eq!(published.get().as_deref(), Some(&value));
            other.publish(value);
            versions.push(other.version());
        }
        versions.sort_unstable();
        versions.dedup();
        assert!(versions.len() == 6 && versions[0] > 0, "{versions:?}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_bell_that_was_rung_before_is_heard() {
        let bell = Bell::default();
        bell.ring();
        bell.ring();
        bell.rung().await;
        let second = tokio::time::timeout(std::time::Duration::from_millis(10), bell.rung()).await;
        assert!(second.is_err());
        bell.ring();
        bell.silence();
        let silenced = tokio::time::timeout(std::time::Duration::from_millis(10), bell.rung()).await;
        assert!(silenced.is_err());
    }
}
