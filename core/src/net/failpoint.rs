//! A panic at a chosen wait of a connection, or a core that does not turn its loop, for tests only. Every wait of a
//! connection ends in one of two polls of its streams, so counting those reaches every `.await` there is.

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

static LEFT: AtomicI64 = AtomicI64::new(-1);
static PASSED: AtomicU64 = AtomicU64::new(0);
/// The core that shall stall, from 1, above milliseconds in 32 bits; 0: none.
static STALL: AtomicU64 = AtomicU64::new(0);

/// Milliseconds for which the next filter holds its core; 0: none.
static HOLD: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// This thread's core, from 1.
    static CORE: Cell<u64> = const { Cell::new(0) };
}

/// Says whose thread this is.
pub fn this_is(core: usize) {
    CORE.set(core as u64 + 1);
}

/// At its next wait the thread of `core` sleeps for so long, as if some work blocked it.
pub fn stall(core: usize, time: Duration) {
    STALL.store((core as u64 + 1) << 32 | time.as_millis() as u64, Ordering::SeqCst);
}

/// The next filter that runs holds its core for so long.
pub fn hold_in_filter(time: Duration) {
    HOLD.store(time.as_millis() as u64, Ordering::SeqCst);
}

/// A filter runs.
pub fn pass_filter() {
    let time = HOLD.swap(0, Ordering::SeqCst);
    if time > 0 {
        std::thread::sleep(Duration::from_millis(time));
    }
}

/// True until the stall has begun.
pub fn stalls_yet() -> bool {
    STALL.load(Ordering::SeqCst) != 0
}

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
    let stall = STALL.load(Ordering::SeqCst);
    if stall != 0 && stall >> 32 == CORE.get() && STALL.swap(0, Ordering::SeqCst) == stall {
        std::thread::sleep(Duration::from_millis(stall & u64::from(u32::MAX)));
    }
    PASSED.fetch_add(1, Ordering::SeqCst);
    if LEFT.fetch_sub(1, Ordering::SeqCst) == 0 {
        panic!("planted by a test");
    }
}
