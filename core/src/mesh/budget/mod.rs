//! Budgets of requests: what may pass in a time, for one key, for whoever shares it. Kept in two words that all cores of
//! the node read and change without a lock; a core that needs much borrows ahead (`lease`). Knows no request and reads no
//! clock; what a key is, is its owner's business (`filter/rate_limit`).
//!
//! The words are filled by time, in one of the ways of [`Terms`]. A budget that a server keeps for a whole fleet is one more
//! way: a lease asks its terms for nothing but to lend, to take back, and how long to wait.
//!
//!     a core's lease ─► the node's budget (two words) or account ─► a server, asked by who uses this room

mod account;
mod budgets;
mod fleet;
mod keyed;
mod leak;
mod lease;
mod pace;
mod period;
mod slots;

#[cfg(all(test, ringway_loom))]
mod model_tests;
#[cfg(all(test, not(ringway_loom)))]
mod fleet_tests;
#[cfg(all(test, not(ringway_loom)))]
mod tests;

use std::num::NonZeroU64;

use super::sync::AtomicU64;

pub use account::{Account, Begin, Grant, KeyName, Over, Question};
pub use budgets::{Budgets, Counts, Rule};
pub use fleet::{Base, Fleet, WhenAway};
pub use keyed::{Found, Keyed};
pub use leak::Leak;
pub use lease::{LEASE_NS, Lease, Taken};
pub use pace::{Pace, PaceError};
pub use period::{Calendar, Period, Span};
pub use slots::Slots;

/// What the node keeps of one key; what the words hold is the terms' business. Zero is a full budget.
#[derive(Debug)]
pub struct Store {
    first: AtomicU64,
    second: AtomicU64,
    /// In place of the words, of a budget that is kept above the node.
    account: Option<Box<Account>>,
}

impl Default for Store {
    fn default() -> Store {
        Store::new(0, 0)
    }
}

impl Store {
    fn new(first: u64, second: u64) -> Store {
        Store { first: AtomicU64::new(first), second: AtomicU64::new(second), account: None }
    }

    fn of(account: Account) -> Store {
        Store { account: Some(Box::new(account)), ..Store::default() }
    }

    /// Of a store that was made by terms of a fleet.
    pub fn account(&self) -> &Account {
        self.account.as_deref().expect("terms of a fleet make stores with accounts")
    }
}

/// When something happens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moment {
    /// Of the node's time, which all cores share and which never steps.
    pub ns: u64,
    /// The wall clock; only calendars look at it.
    pub unix_s: u64,
}

/// How a budget is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terms {
    /// All the time, up to a burst.
    Pace(Pace),
    /// At once, when a window or a day begins.
    Period(Period),
    /// All the time, and what comes too early waits.
    Leak(Leak),
    /// By what a server lends.
    Fleet(Fleet),
}

/// What was lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loan {
    /// Beyond what was asked for.
    pub extra: u64,
    /// They are void from then on, in the node's time.
    pub until_ns: u64,
    /// Of the period they belong to.
    pub period: u64,
    /// The one who asked waits so long.
    pub delay_ms: u64,
    /// The server above should be asked now, before nothing is left or whether it is back.
    pub ask: bool,
}

/// How a budget stands, for those who are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The most that there can be.
    pub most: u64,
    pub left: u64,
    /// Until there is the most again.
    pub reset_ns: u64,
}

/// The worst that enforcement across cores can do, as a share of what is configured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    pub over: f64,
    pub under: f64,
}

impl Terms {
    /// Takes `cost`, and up to `extra` more if there is plenty; `sharers` take part in the same budget.
    fn lend(&self, store: &Store, now: &Moment, cost: NonZeroU64, extra: u64, sharers: u64) -> Result<Loan, Refused> {
        match self {
            Terms::Pace(pace) => pace.lend(store, now.ns, cost.get(), extra, sharers),
            Terms::Period(period) => period.lend(store, now, cost.get(), extra, sharers),
            Terms::Leak(leak) => leak.take(store, now.ns),
            Terms::Fleet(fleet) => fleet.lend(store, now, cost, extra, sharers),
        }
    }

    /// The end of a loan's extra part.
    fn settle(&self, store: &Store, now: &Moment, loan: &Loan, unused: u64) {
        match self {
            Terms::Pace(pace) => pace.settle(store, now.ns, loan.extra, unused),
            Terms::Period(period) => period.give(store, loan.period, unused),
            Terms::Leak(_) => {}
            Terms::Fleet(_) => store.account().give(loan.period, unused),
        }
    }

    /// What was lent at this very moment and not used after all.
    fn give(&self, store: &Store, loan: &Loan, cost: u64) {
        match self {
            Terms::Pace(pace) => pace.give(store, cost),
            Terms::Period(period) => period.give(store, loan.period, cost),
            Terms::Leak(leak) => leak.give(store),
            Terms::Fleet(_) => store.account().give(loan.period, cost),
        }
    }

    /// How long until `cost` can be had; 0: now, as far as the node knows.
    fn wait_ns(&self, store: &Store, now: &Moment, cost: u64) -> u64 {
        match self {
            Terms::Pace(pace) => pace.wait_ns(store, now.ns, cost),
            Terms::Period(period) => period.wait_ns(store, now, cost),
            Terms::Leak(leak) => leak.wait_ns(store, now.ns),
            Terms::Fleet(fleet) => store.account().shortage(fleet, now, cost).map_or(0, |refused| refused.wait_ns),
        }
    }

    /// Why `cost` cannot be had now, if a core's own credits are worth so much more.
    fn shortage(&self, store: &Store, now: &Moment, cost: u64, worth_ns: u64) -> Option<Refused> {
        if let Terms::Fleet(fleet) = self {
            return store.account().shortage(fleet, now, cost);
        }
        let wait_ns = self.wait_ns(store, now, cost).saturating_sub(worth_ns);
        (wait_ns > 0).then_some(Refused::empty(wait_ns))
    }

    /// A full one.
    pub fn store(&self) -> Store {
        match self {
            Terms::Fleet(_) => Store::of(Account::default()),
            Terms::Pace(_) | Terms::Period(_) | Terms::Leak(_) => Store::default(),
        }
    }

    /// One with so much left.
    fn holding(&self, left: u64, now: &Moment) -> Store {
        match self {
            Terms::Pace(pace) => pace.holding(left, now.ns),
            Terms::Period(period) => period.holding(left, now),
            Terms::Leak(_) | Terms::Fleet(_) => self.store(),
        }
    }

    pub fn standing(&self, store: &Store, now: &Moment) -> Standing {
        match self {
            Terms::Pace(pace) => pace.standing(store, now.ns),
            Terms::Period(period) => period.standing(store, now),
            Terms::Leak(leak) => leak.standing(store, now.ns),
            Terms::Fleet(fleet) => fleet.standing(store, now),
        }
    }

    /// True if a new store would stand the same.
    pub fn is_idle(&self, store: &Store, now: &Moment) -> bool {
        match self {
            Terms::Pace(pace) => pace.is_idle(store, now.ns),
            Terms::Period(period) => period.is_idle(store, now),
            Terms::Leak(leak) => leak.is_idle(store, now.ns),
            Terms::Fleet(_) => store.account().is_idle(now),
        }
    }

    /// A store of these terms that stands where `old` stood by its own: nobody gains by a change of terms.
    fn carry(&self, old: &Store, terms: &Terms, now: &Moment) -> Store {
        match (self, terms) {
            (Terms::Pace(to), Terms::Pace(from)) => to.holding(from.standing(old, now.ns).left, now.ns),
            (Terms::Period(to), Terms::Period(from)) => to.carry(old, from),
            (Terms::Leak(to), Terms::Leak(from)) => to.carry(old, from),
            (Terms::Fleet(_), Terms::Fleet(_)) => Store::of(old.account().carry(now)),
            _ => self.store(),
        }
    }

    /// What one core borrows ahead at most.
    fn extra_max(&self, sharers: u64) -> u64 {
        match self {
            Terms::Pace(pace) => pace.extra_max(sharers),
            Terms::Period(period) => period.extra_max(sharers),
            Terms::Leak(_) => 0,
            Terms::Fleet(fleet) => fleet.terms().extra_max(sharers),
        }
    }

    /// A refusal is remembered for at least this long.
    fn ask_again_ns(&self) -> u64 {
        match self {
            Terms::Pace(pace) => pace.ask_again_ns(),
            Terms::Period(_) | Terms::Leak(_) | Terms::Fleet(_) => 0,
        }
    }

    /// In any second, or any stretch as long as the period.
    pub fn bounds(&self, sharers: u64) -> Bounds {
        match self {
            Terms::Pace(pace) => pace.bounds(sharers),
            Terms::Period(period) => period.bounds(sharers),
            Terms::Leak(_) => Bounds { over: 0.0, under: 0.0 },
            Terms::Fleet(fleet) => fleet.bounds(),
        }
    }

    /// After so long without a request a store is full.
    pub fn refill_ns(&self) -> u64 {
        match self {
            Terms::Pace(pace) => pace.refill_ns(),
            Terms::Period(period) => period.refill_ns(),
            Terms::Leak(leak) => leak.refill_ns(),
            Terms::Fleet(fleet) => fleet.terms().refill_ns(),
        }
    }
}

/// There is too little; `wait_ns` later there may be enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub wait_ns: u64,
    pub why: Why,
    /// The server above should be asked now whether it is back.
    pub ask: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Empty,
    /// The node does not know: the server above has not been asked.
    Unasked,
    /// The server is away, and the rule says that then nobody passes.
    Away,
}

impl Refused {
    fn empty(wait_ns: u64) -> Refused {
        Refused { wait_ns, why: Why::Empty, ask: false }
    }
}
