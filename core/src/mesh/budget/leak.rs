//! The leaky bucket of nginx's `limit_req`, in its own arithmetic: requests leave at the rate, those that come earlier
//! wait, and those for whom there is no room in the queue are refused.
//!
//! The first word is the excess in thousandths of a request, and the moment in milliseconds as of which it is so; an
//! excess is exact to a thousandth as nginx's is (ngx_http_limit_req_module.c). Two cores that change it at once are one
//! after the other.

use super::{Loan, Refused, Standing, Store};
use crate::mesh::sync::Ordering;

/// A request, in the unit of the excess.
const REQUEST: u64 = 1000;
const EXCESS_BITS: u32 = 28;
const EXCESS_MASK: u64 = (1 << EXCESS_BITS) - 1;
/// Of a moment in milliseconds; it comes back after two years, which is more than anybody's excess lasts.
const MS_MASK: u64 = u64::MAX >> EXCESS_BITS;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leak {
    /// Thousandths of a request a second.
    rate: u64,
    /// Requests that may wait.
    burst: u64,
    /// They do not wait, but count as if they did.
    nodelay: bool,
}

/// What there is, and when it will have gone down by how much.
struct State {
    excess: u64,
    at_ms: u64,
}

impl Leak {
    /// Requests that can wait at most.
    pub const BURST_MAX: u64 = EXCESS_MASK / REQUEST - 2;

    /// `None` for less than a thousandth of a request a second.
    pub fn new(per_second: f64, burst: u64, nodelay: bool) -> Option<Leak> {
        let rate = (per_second * REQUEST as f64) as u64;
        (rate > 0).then(|| Leak { rate, burst: burst.min(Self::BURST_MAX), nodelay })
    }

    pub(super) fn take(&self, store: &Store, now_ns: u64) -> Result<Loan, Refused> {
        let mut seen = store.first.load(Ordering::Relaxed);
        loop {
            let next = self.next(seen, now_ns);
            if next.excess > self.burst * REQUEST {
                return Err(Refused::empty(self.wait_ns(store, now_ns)));
            }
            match store.first.compare_exchange(seen, pack(&next), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    let delay_ms = if self.nodelay { 0 } else { next.excess * 1000 / self.rate };
                    return Ok(Loan { extra: 0, until_ns: u64::MAX, period: 0, delay_ms, ask: false });
                }
                Err(now) => seen = now,
            }
        }
    }

    /// After one more request. The first of a key makes no excess.
    fn next(&self, seen: u64, now_ns: u64) -> State {
        let now_ms = now_ns / 1_000_000;
        if seen == 0 {
            return State { excess: 0, at_ms: now_ms };
        }
        let State { excess, at_ms } = unpack(seen);
        let since_ms = now_ms.wrapping_sub(at_ms) & MS_MASK;
        if since_ms > MS_MASK / 2 {
            return State { excess: excess + REQUEST, at_ms }; // another core is a moment ahead
        }
        let gone = self.rate.saturating_mul(since_ms) / 1000;
        State { excess: (excess + REQUEST).saturating_sub(gone), at_ms: now_ms }
    }

    pub(super) fn give(&self, store: &Store) {
        let mut seen = store.first.load(Ordering::Relaxed);
        loop {
            let State { excess, at_ms } = unpack(seen);
            let next = pack(&State { excess: excess.saturating_sub(REQUEST), at_ms });
            match store.first.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    pub(super) fn wait_ns(&self, store: &Store, now_ns: u64) -> u64 {
        let next = self.next(store.first.load(Ordering::Relaxed), now_ns);
        let beyond = next.excess.saturating_sub(self.burst * REQUEST);
        (beyond * 1000).div_ceil(self.rate) * 1_000_000
    }

    pub(super) fn standing(&self, store: &Store, now_ns: u64) -> Standing {
        let next = self.next(store.first.load(Ordering::Relaxed), now_ns);
        let left = (self.burst * REQUEST).checked_sub(next.excess).map_or(0, |room| room / REQUEST + 1);
        let held = next.excess.saturating_sub(REQUEST);
        Standing { most: self.burst + 1, left, reset_ns: held * 1000 / self.rate * 1_000_000 }
    }

    pub(super) fn is_idle(&self, store: &Store, now_ns: u64) -> bool {
        self.next(store.first.load(Ordering::Relaxed), now_ns).excess == 0
    }

    pub(super) fn carry(&self, old: &Store, _from: &Leak) -> Store {
        let old = old.first.load(Ordering::Relaxed);
        if old == 0 {
            return Store::default();
        }
        let state = unpack(old);
        Store::new(pack(&State { excess: state.excess.min(self.burst * REQUEST), ..state }), 0)
    }

    pub(super) fn refill_ns(&self) -> u64 {
        ((self.burst + 1) * REQUEST * 1000 / self.rate).saturating_mul(1_000_000)
    }
}

/// The moment is one more than it is, so that no state is zero.
fn pack(state: &State) -> u64 {
    state.at_ms.wrapping_add(1) << EXCESS_BITS | state.excess.min(EXCESS_MASK)
}

fn unpack(word: u64) -> State {
    State { excess: word & EXCESS_MASK, at_ms: (word >> EXCESS_BITS).wrapping_sub(1) }
}
