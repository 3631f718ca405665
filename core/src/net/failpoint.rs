//! A panic at a chosen wait of a connection, for tests only. Every wait of a connection ends in one of two polls of its
//! streams, so counting those reaches every `.await` there is.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

static LEFT: AtomicI64 = AtomicI64::new(-1);
static PASSED: AtomicU64 = AtomicU64::new(0);

/// The `count`-th wait from now panics (0: the next one), once. Waits are counted from zero again.
pub fn arm(count: u64) {
    PASSED.store(0, Ordering::SeqCst);
    LEFT.store(count as i64, Ordering::SeqCst);
}

pub fn disarm() {
    LEFT.store(-1, Ordering::SeqCst);
}

/// Waits since the last [`arm`].
pub fn passed() -> u64 {
    PASSED.load(Ordering::SeqCst)
}

pub(super) fn pass() {
    PASSED.fetch_add(1, Ordering::SeqCst);
    if LEFT.fetch_sub(1, Ordering::SeqCst) == 0 {
        panic!("planted by a test");
    }
}
