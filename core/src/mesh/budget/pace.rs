//! A token bucket (golang.org/x/time/rate): starts full, is refilled all the time up to its burst, and whoever asks for
//! more than there is gets nothing and owes nothing.
//!
//! The first word is the moment at which the bucket will be full again (GCRA's theoretical arrival time): the tokens are
//! the time until then. The second counts tokens that cores have borrowed ahead and of which the node does not know
//! whether they are used. The bucket fills only up to its burst less these, so that tokens in the bucket and tokens with
//! cores are never more than the burst, whatever cores do with theirs: over any time at most the burst and what is
//! refilled in it can pass.

use std::time::Duration;

use super::lease::LEASE_NS;
use super::{Bounds, Loan, Refused, Standing, Store};
use crate::mesh::sync::Ordering;

/// A token lasts at least this long, so that its whole nanoseconds are off by at most a hundredth.
const TOKEN_NS_MIN: u64 = 100;
/// An empty bucket is full again after this at most; moments are far from overflow then.
const REFILL_NS_MAX: u128 = 10 * 365 * 24 * 3600 * 1_000_000_000;
/// A core that was refused asks the node again after at least this: at a million requests a second and more, tokens are
/// fetched by the dozen.
const ASK_AGAIN_NS: u64 = 50_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    token_ns: u64,
    burst: u64,
    burst_ns: u64,
    /// How much too long a token lasts, since it does so for whole nanoseconds: in parts of 10^12.
    rounding: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PaceError {
    #[error("faster than {} a second", 1_000_000_000 / TOKEN_NS_MIN)]
    TooFast,
    #[error("an empty bucket of this burst would need more than ten years to fill")]
    TooSlow,
}

impl Pace {
    /// # Errors
    /// A rate that nanoseconds cannot tell.
    pub fn new(count: u64, per: Duration, burst: u64) -> Result<Pace, PaceError> {
        let per_ns = per.as_nanos();
        let token_ns = per_ns.div_ceil(u128::from(count.max(1)));
        let burst_ns = token_ns.saturating_mul(u128::from(burst));
        if token_ns < u128::from(TOKEN_NS_MIN) {
            return Err(PaceError::TooFast);
        }
        if burst_ns > REFILL_NS_MAX {
            return Err(PaceError::TooSlow);
        }
        let beyond = (token_ns * u128::from(count)).saturating_sub(per_ns);
        let rounding = (beyond as f64 / per_ns as f64 * 1e12) as u64;
        Ok(Pace { token_ns: token_ns as u64, burst, burst_ns: burst_ns as u64, rounding })
    }

    /// When the bucket would be full if all that is borrowed were used now.
    fn full_at(&self, store: &Store, now_ns: u64) -> u64 {
        let borrowed = store.second.load(Ordering::Acquire);
        store.first.load(Ordering::Relaxed).max(now_ns + borrowed * self.token_ns)
    }

    pub(super) fn lend(
        &self,
        store: &Store,
        now_ns: u64,
        cost: u64,
        extra: u64,
        sharers: u64,
    ) -> Result<Loan, Refused> {
        let (top, cost_ns) = (now_ns + self.burst_ns, cost * self.token_ns);
        if self.full_at(store, now_ns) + cost_ns > top {
            return Err(Refused::empty(self.wait_ns(store, now_ns, cost)));
        }
        // What is borrowed is noted before it is had.
        let borrowed = match extra {
            0 => store.second.load(Ordering::Acquire),
            _ => store.second.fetch_add(extra, Ordering::AcqRel),
        };
        let mut full_at = store.first.load(Ordering::Relaxed);
        let lent = loop {
            let base = full_at.max(now_ns + borrowed * self.token_ns);
            let Some(room_ns) = top.checked_sub(base + cost_ns) else { break None };
            let more = match extra {
                0 => 0,
                _ => extra.min(room_ns / self.token_ns / (2 * sharers)),
            };
            let next = base + cost_ns + more * self.token_ns;
            match store.first.compare_exchange(full_at, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break Some(more),
                Err(now) => full_at = now,
            }
        };
        let unlent = extra - lent.unwrap_or(0);
        if unlent > 0 {
            store.second.fetch_sub(unlent, Ordering::Release);
        }
        match lent {
            Some(extra) => Ok(Loan { extra, until_ns: u64::MAX, period: 0, delay_ms: 0, ask: false }),
            None => Err(Refused::empty(self.wait_ns(store, now_ns, cost))),
        }
    }

    /// Of what a core had borrowed, `unused` come back. What was used counts from now on, since nobody knows when it
    /// was: until then it has kept the bucket from filling, and must not fill it at one stroke.
    pub(super) fn settle(&self, store: &Store, now_ns: u64, borrowed: u64, unused: u64) {
        let noted = store.second.load(Ordering::Acquire);
        let back_ns = unused * self.token_ns;
        self.move_full_at(store, |full_at| full_at.max(now_ns + noted * self.token_ns).saturating_sub(back_ns));
        store.second.fetch_sub(borrowed, Ordering::Release);
    }

    pub(super) fn give(&self, store: &Store, cost: u64) {
        self.move_full_at(store, |full_at| full_at.saturating_sub(cost * self.token_ns));
    }

    fn move_full_at(&self, store: &Store, next: impl Fn(u64) -> u64) {
        let mut full_at = store.first.load(Ordering::Relaxed);
        while let Err(now) = store.first.compare_exchange(full_at, next(full_at), Ordering::AcqRel, Ordering::Relaxed) {
            full_at = now;
        }
    }

    pub(super) fn wait_ns(&self, store: &Store, now_ns: u64, cost: u64) -> u64 {
        (self.full_at(store, now_ns) + cost * self.token_ns).saturating_sub(now_ns + self.burst_ns)
    }

    pub(super) fn standing(&self, store: &Store, now_ns: u64) -> Standing {
        let full_at = self.full_at(store, now_ns);
        let left = (now_ns + self.burst_ns).saturating_sub(full_at) / self.token_ns;
        Standing { most: self.burst, left, reset_ns: full_at - now_ns }
    }

    pub(super) fn is_idle(&self, store: &Store, now_ns: u64) -> bool {
        self.full_at(store, now_ns) <= now_ns
    }

    /// How much sooner the bucket is full by so many tokens.
    pub(super) fn worth_ns(&self, tokens: u64) -> u64 {
        tokens * self.token_ns
    }

    /// A bucket with so many tokens.
    pub(super) fn holding(&self, tokens: u64, now_ns: u64) -> Store {
        Store::new(now_ns + self.burst.saturating_sub(tokens) * self.token_ns, 0)
    }

    /// All cores together borrow ahead what is refilled in the time of a lease, and at most half of the burst.
    pub(super) fn extra_max(&self, sharers: u64) -> u64 {
        (self.burst / (2 * sharers)).min(LEASE_NS / self.token_ns / sharers)
    }

    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// How long a token lasts.
    pub fn token_ns(&self) -> u64 {
        self.token_ns
    }

    /// What a server above lends for so long, to all together, at most.
    pub(super) fn lent_max(&self, lease_ns: u64) -> u64 {
        (self.burst / 2).min(lease_ns / self.token_ns)
    }

    /// One of so many equal parts, in which `least` can still be had.
    pub(super) fn share(&self, parts: u64, least: u64) -> Pace {
        let burst = (self.burst / parts).max(least);
        let token_ns = self.token_ns.saturating_mul(parts);
        let burst_ns = (u128::from(token_ns) * u128::from(burst)).min(REFILL_NS_MAX) as u64;
        Pace { token_ns, burst, burst_ns, ..*self }
    }

    pub(super) fn ask_again_ns(&self) -> u64 {
        ASK_AGAIN_NS.min(self.burst_ns / 8)
    }

    /// Never over. A core that needs all of it lacks at most what the others have borrowed.
    pub(super) fn bounds(&self, sharers: u64) -> Bounds {
        self.lacking((sharers - 1) * self.extra_max(sharers))
    }

    pub(super) fn lacking(&self, with_others: u64) -> Bounds {
        let in_a_second = 1e9 / self.token_ns as f64;
        Bounds { over: 0.0, under: with_others as f64 / in_a_second + self.rounding as f64 / 1e12 }
    }

    pub(super) fn refill_ns(&self) -> u64 {
        self.burst_ns
    }
}
