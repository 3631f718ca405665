//! What one core holds of a budget: credits borrowed ahead, so that most requests touch this core's memory alone. How
//! many follows its demand: a core that uses up its credits before their time asks for more, one that does not for
//! fewer, and who asks seldom borrows nothing but takes what it needs.
//!
//! What is not used in [`LEASE_NS`] goes back with the next request or at the core's tick.

use std::cell::Cell;
use std::num::NonZeroU64;

use super::{Loan, Moment, Refused, Store, Terms, Why};

/// Credits are borrowed for about this long: short, since another core may want them; long enough that a busy core comes
/// to the node some hundred times a second and not with each request.
pub const LEASE_NS: u64 = 4_000_000;

const NOTHING: Loan = Loan { extra: 0, until_ns: 0, period: 0, delay_ms: 0, ask: false };

#[derive(Debug)]
pub struct Lease {
    credits: Cell<u64>,
    /// Credits are good until then.
    until_ns: Cell<u64>,
    /// What the node knows of.
    loan: Cell<Loan>,
    /// When the node was asked last.
    asked_ns: Cell<u64>,
    /// Borrowed ahead then, if there was enough.
    wanted: Cell<u64>,
    /// Until then there is nothing to be had.
    refused_until_ns: Cell<u64>,
}

/// How a cost was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// By credits of the lease.
    Credits,
    /// By the budget itself.
    Lent(Loan),
}

impl Taken {
    /// The server above the node should be asked for more.
    #[inline]
    pub fn must_ask(&self) -> bool {
        match self {
            Taken::Credits => false,
            Taken::Lent(loan) => loan.ask,
        }
    }

    /// Who took it waits so long.
    #[inline]
    pub fn delay_ms(&self) -> u64 {
        match self {
            Taken::Credits => 0,
            Taken::Lent(loan) => loan.delay_ms,
        }
    }
}

impl Default for Lease {
    fn default() -> Lease {
        Lease {
            credits: Cell::new(0),
            until_ns: Cell::new(0),
            loan: Cell::new(NOTHING),
            asked_ns: Cell::new(0),
            wanted: Cell::new(0),
            refused_until_ns: Cell::new(0),
        }
    }
}

impl Lease {
    /// Takes `cost` at once or not at all.
    ///
    /// # Errors
    /// There is not enough now.
    #[inline]
    pub fn take(
        &self,
        terms: &Terms,
        store: &Store,
        now: &Moment,
        cost: NonZeroU64,
        sharers: u64,
    ) -> Result<Taken, Refused> {
        if now.ns < self.until_ns.get()
            && let Some(left) = self.credits.get().checked_sub(cost.get())
        {
            self.credits.set(left);
            return Ok(Taken::Credits);
        }
        self.ask(terms, store, now, cost, sharers)
    }

    #[inline(never)]
    fn ask(
        &self,
        terms: &Terms,
        store: &Store,
        now: &Moment,
        cost: NonZeroU64,
        sharers: u64,
    ) -> Result<Taken, Refused> {
        if now.ns < self.refused_until_ns.get() {
            return Err(Refused::empty(terms.wait_ns(store, now, cost.get())));
        }
        let used_up = self.credits.get() < cost.get();
        let used = self.loan.get().extra - self.credits.get();
        let since_ns = now.ns.saturating_sub(self.asked_ns.get());
        self.settle(terms, store, now);
        let wanted = match since_ns {
            0..LEASE_NS if used_up => 2 * self.wanted.get() + 1,
            0..LEASE_NS => used,
            _ => used.saturating_mul(LEASE_NS) / since_ns,
        };
        let wanted = wanted.min(terms.extra_max(sharers));
        self.asked_ns.set(now.ns);
        self.wanted.set(wanted);
        match terms.lend(store, now, cost, wanted, sharers) {
            Ok(loan) => {
                self.credits.set(loan.extra);
                self.loan.set(loan);
                self.until_ns.set(loan.until_ns.min(now.ns + LEASE_NS));
                Ok(Taken::Lent(loan))
            }
            Err(refused) if refused.why != Why::Empty => Err(refused),
            Err(refused) => {
                let wait_ns = refused.wait_ns.max(terms.ask_again_ns()).min(LEASE_NS);
                self.refused_until_ns.set(now.ns + wait_ns);
                Err(refused)
            }
        }
    }

    /// True if `take` would not be refused, as far as this core can know.
    pub fn may_take(&self, terms: &Terms, store: &Store, now: &Moment, cost: NonZeroU64) -> Result<(), Refused> {
        if now.ns < self.until_ns.get() && self.credits.get() >= cost.get() {
            return Ok(());
        }
        terms.shortage(store, now, cost.get(), self.held_ns(terms)).map_or(Ok(()), Err)
    }

    /// What this core's own credits are worth once they are given back.
    fn held_ns(&self, terms: &Terms) -> u64 {
        match terms {
            Terms::Pace(pace) => pace.worth_ns(self.credits.get()),
            Terms::Period(_) | Terms::Leak(_) | Terms::Fleet(_) => 0,
        }
    }

    /// Undoes a `take` of this very moment.
    pub fn undo(&self, terms: &Terms, store: &Store, cost: NonZeroU64, taken: Taken) {
        match taken {
            Taken::Credits => self.credits.set(self.credits.get() + cost.get()),
            Taken::Lent(loan) => terms.give(store, &loan, cost.get()),
        }
    }

    /// Credits that are good now.
    pub fn credits(&self, now: &Moment) -> u64 {
        if now.ns < self.until_ns.get() { self.credits.get() } else { 0 }
    }

    #[inline]
    pub fn is_open(&self) -> bool {
        self.loan.get().extra > 0
    }

    /// True if the time of its credits is over.
    pub fn is_over(&self, now: &Moment) -> bool {
        now.ns >= self.until_ns.get()
    }

    /// Ends the lease: the node is told what was used, and has the rest back.
    pub fn settle(&self, terms: &Terms, store: &Store, now: &Moment) {
        let loan = self.loan.replace(NOTHING);
        let unused = self.credits.take();
        self.until_ns.set(0);
        if loan.extra > 0 {
            terms.settle(store, now, &loan, unused);
        }
    }
}
