//! A budget that gateways share, kept by a server above the node: the terms. The node borrows ahead, for a short time and by
//! its demand, and its cores borrow from the node; what it has and owes is its `account`. Knows no server.

use std::num::NonZeroU64;

use super::{Bounds, Loan, Moment, Pace, Period, Refused, Standing, Store, Terms};

/// A refusal is remembered for this long at least, so that an empty budget is not asked for each request...
const ASK_AGAIN_NS: u64 = 5_000_000;
/// ...and at most, since others may give back what they have borrowed.
const REFUSED_NS_MAX: u64 = 1_000_000_000;
/// Calendars are lent in small parts, since what a gateway that died had borrowed is lost until the next day.
const CALENDAR_PARTS: u64 = 256;

/// What is done while the server is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenAway {
    /// Everybody passes.
    Open,
    /// Nobody passes.
    Closed,
    /// Each gateway keeps to its share, by how many there were last.
    LocalShare,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fleet {
    pub base: Base,
    /// How long what is lent may be used.
    pub lease_ns: u64,
    pub when_away: WhenAway,
    /// What a request takes.
    pub cost: NonZeroU64,
    /// There are at least as many, whatever is known.
    pub gateways_min: u64,
}

/// How the budget is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    Pace(Pace),
    Period(Period),
}

impl Fleet {
    pub(super) fn terms(&self) -> Terms {
        match self.base {
            Base::Pace(pace) => Terms::Pace(pace),
            Base::Period(period) => Terms::Period(period),
        }
    }

    /// Of all gateways together, in what is lent and not used yet. The server keeps to it for buckets.
    pub fn lent_max(&self) -> u64 {
        match self.base {
            Base::Pace(pace) => pace.lent_max(self.lease_ns),
            Base::Period(period) if period.is_calendar() => period.limit() / CALENDAR_PARTS,
            Base::Period(period) => period.lent_max(self.lease_ns),
        }
    }

    /// What this gateway asks for ahead at most, as one of so many.
    pub(super) fn ahead_max(&self, gateways: u64) -> u64 {
        match self.base {
            Base::Pace(_) => self.lent_max(),
            // One part that is used and the next one.
            Base::Period(_) => self.lent_max() / (2 * self.gateways(gateways)),
        }
    }

    pub fn gateways(&self, counted: u64) -> u64 {
        counted.max(self.gateways_min).max(1)
    }

    /// How long no gateway asks again for what was refused.
    pub(super) fn ask_again_ns(&self, wait_ns: u64) -> u64 {
        let least = match self.base {
            Base::Pace(pace) => ASK_AGAIN_NS.min(pace.refill_ns() / 8),
            Base::Period(_) => ASK_AGAIN_NS,
        };
        wait_ns.clamp(least, REFUSED_NS_MAX)
    }

    /// One gateway's part of the budget while the server is away.
    pub(super) fn share(&self, gateways: u64) -> Terms {
        let (gateways, least) = (self.gateways(gateways), self.cost.get());
        match self.base {
            Base::Pace(pace) => Terms::Pace(pace.share(gateways, least)),
            Base::Period(period) => Terms::Period(period.share(gateways, least)),
        }
    }

    /// Never over: what is lent counts until it is back or its time is over. A gateway may lack what the others have.
    pub(super) fn bounds(&self) -> Bounds {
        let lent = self.lent_max();
        match self.base {
            Base::Pace(pace) => pace.lacking(lent),
            Base::Period(period) => Bounds { over: 1.0, under: lent as f64 / period.limit() as f64 },
        }
    }

    /// Requests that may pass beyond the terms, once, around a failover; `None`: any number. A server that comes back may
    /// have forgotten what was written last, at worst everything: one full budget. And gateways that must do without it
    /// know nothing of keys that they have not met: another one, in shares.
    pub fn failover_over(&self) -> Option<u64> {
        let most = match self.base {
            Base::Pace(pace) => pace.burst(),
            Base::Period(period) => period.limit(),
        };
        match self.when_away {
            WhenAway::Open => None,
            WhenAway::Closed => Some(most),
            WhenAway::LocalShare => Some(2 * most),
        }
    }

    pub(super) fn lend(
        &self,
        store: &Store,
        now: &Moment,
        cost: NonZeroU64,
        extra: u64,
        sharers: u64,
    ) -> Result<Loan, Refused> {
        store.account().lend(self, now, cost.get(), extra, sharers)
    }

    pub(super) fn standing(&self, store: &Store, now: &Moment) -> Standing {
        store.account().standing(self, now)
    }
}
