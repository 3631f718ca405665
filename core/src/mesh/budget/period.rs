//! So many in each period: a fixed window, a sliding one, a day or a month of the calendar.
//!
//! Each word is the count of one period with the period's number, the present one's and the one's before, by turns. A
//! sliding window weighs the count before by the part of it that a window ending now still covers: what nginx's and
//! Cloudflare's do. Windows are of the node's own time and begin with it; days and months are UTC's.

use super::lease::LEASE_NS;
use super::{Bounds, Loan, Moment, Refused, Standing, Store};
use crate::mesh::sync::{AtomicU64, Ordering};

/// Bits of a count. The rest is the period's number; the numbers come back after 2^24 periods, which is half a year of
/// the shortest windows.
const COUNT_BITS: u32 = 40;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const NUMBER_MASK: u64 = u64::MAX >> COUNT_BITS;

/// How long a period is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    Fixed { ns: u64 },
    Sliding { ns: u64 },
    Calendar(Calendar),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calendar {
    Day,
    Month,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    limit: u64,
    span: Span,
}

/// Where a moment lies.
struct At {
    number: u64,
    /// Of the period, from its beginning and to its end.
    gone_ns: u64,
    left_ns: u64,
}

impl Period {
    /// The most that can be counted.
    pub const LIMIT_MAX: u64 = COUNT_MASK;
    /// Windows that are shorter would wrap their numbers too soon.
    pub const WINDOW_NS_MIN: u64 = 1_000_000_000;

    pub fn new(limit: u64, span: Span) -> Period {
        Period { limit: limit.min(Self::LIMIT_MAX), span }
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn span(&self) -> Span {
        self.span
    }

    /// What a server above lends for so long, to all together, at most.
    pub(super) fn lent_max(&self, lease_ns: u64) -> u64 {
        match self.span {
            Span::Fixed { ns } | Span::Sliding { ns } => {
                let in_a_lease = u128::from(self.limit) * u128::from(lease_ns) / u128::from(ns);
                (self.limit / 2).min(in_a_lease as u64)
            }
            Span::Calendar(_) => 0,
        }
    }

    /// One of so many equal parts, in which `least` can still be had.
    pub(super) fn share(&self, parts: u64, least: u64) -> Period {
        Period { limit: (self.limit / parts).max(least), ..*self }
    }

    /// So much is left of the present period.
    pub(super) fn holding(&self, left: u64, now: &Moment) -> Store {
        let number = self.at(now).number;
        let store = Store::default();
        word(&store, number).store(pack(number, self.limit.saturating_sub(left)), Ordering::Relaxed);
        store
    }

    /// True if it follows the wall clock.
    pub fn is_calendar(&self) -> bool {
        matches!(self.span, Span::Calendar(_))
    }

    fn at(&self, now: &Moment) -> At {
        match self.span {
            Span::Fixed { ns } | Span::Sliding { ns } => {
                let gone_ns = now.ns % ns;
                At { number: now.ns / ns, gone_ns, left_ns: ns - gone_ns }
            }
            Span::Calendar(calendar) => calendar.at(now.unix_s),
        }
    }

    pub(super) fn lend(
        &self,
        store: &Store,
        now: &Moment,
        cost: u64,
        extra: u64,
        sharers: u64,
    ) -> Result<Loan, Refused> {
        let at = self.at(now);
        let before = self.before(store, &at);
        let word = word(store, at.number);
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let room = self.limit.saturating_sub(before + count(seen, at.number));
            if room < cost || self.is_ahead(seen, at.number) {
                return Err(Refused::empty(self.wait_ns(store, now, cost)));
            }
            let extra = extra.min((room - cost) / (2 * sharers));
            let next = pack(at.number, count(seen, at.number) + cost + extra);
            match word.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    let until_ns = now.ns.saturating_add(at.left_ns);
                    return Ok(Loan { extra, until_ns, period: at.number, delay_ms: 0, ask: false });
                }
                Err(now) => seen = now,
            }
        }
    }

    /// True if another core, a moment ahead, has begun a later period in the same place. A wall clock that was set back
    /// is no core ahead.
    fn is_ahead(&self, word: u64, number: u64) -> bool {
        !self.is_calendar() && word != 0 && word >> COUNT_BITS == (number + 2) & NUMBER_MASK
    }

    /// What was taken in a period comes back, if that has not been forgotten.
    pub(super) fn give(&self, store: &Store, number: u64, unused: u64) {
        let word = word(store, number);
        let mut seen = word.load(Ordering::Relaxed);
        while unused > 0 && is_of(seen, number) {
            let next = pack(number, count(seen, number).saturating_sub(unused));
            match word.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// What the period before still counts.
    fn before(&self, store: &Store, at: &At) -> u64 {
        let (Span::Sliding { ns }, Some(number)) = (self.span, at.number.checked_sub(1)) else { return 0 };
        let count = count(word(store, number).load(Ordering::Relaxed), number);
        (u128::from(count) * u128::from(at.left_ns)).div_ceil(u128::from(ns)) as u64
    }

    fn now_count(&self, store: &Store, at: &At) -> u64 {
        count(word(store, at.number).load(Ordering::Relaxed), at.number)
    }

    pub(super) fn wait_ns(&self, store: &Store, now: &Moment, cost: u64) -> u64 {
        let at = self.at(now);
        let counted = self.now_count(store, &at);
        if self.before(store, &at) + counted + cost <= self.limit {
            return 0;
        }
        let Span::Sliding { ns } = self.span else { return at.left_ns };
        // Until so little of a period with this count is left that there is room.
        let fades = |count: u64, room: u64| {
            let covered = u128::from(ns) * u128::from(room) / u128::from(count.max(1));
            ns.saturating_sub(covered as u64)
        };
        match self.limit.checked_sub(counted + cost) {
            Some(room) => {
                let number = at.number.saturating_sub(1);
                let before = count(word(store, number).load(Ordering::Relaxed), number);
                fades(before, room).saturating_sub(at.gone_ns).max(1)
            }
            None => at.left_ns + fades(counted, self.limit.saturating_sub(cost)),
        }
    }

    pub(super) fn standing(&self, store: &Store, now: &Moment) -> Standing {
        let at = self.at(now);
        let counted = self.before(store, &at) + self.now_count(store, &at);
        Standing { most: self.limit, left: self.limit.saturating_sub(counted), reset_ns: at.left_ns }
    }

    pub(super) fn is_idle(&self, store: &Store, now: &Moment) -> bool {
        let at = self.at(now);
        self.before(store, &at) + self.now_count(store, &at) == 0
    }

    pub(super) fn carry(&self, old: &Store, from: &Period) -> Store {
        // Numbers of windows with another length mean something else.
        if self.span != from.span {
            return Store::default();
        }
        Store::new(old.first.load(Ordering::Relaxed), old.second.load(Ordering::Relaxed))
    }

    /// Calendars are counted one by one: people are billed by them.
    pub(super) fn extra_max(&self, sharers: u64) -> u64 {
        match self.span {
            Span::Fixed { ns } | Span::Sliding { ns } => {
                let in_a_lease = u128::from(self.limit) * u128::from(LEASE_NS) / u128::from(ns) / u128::from(sharers);
                (self.limit / (2 * sharers)).min(in_a_lease as u64)
            }
            Span::Calendar(_) => 0,
        }
    }

    /// Around the end of a window twice the limit can pass, at the end of the one and the beginning of the next; a sliding
    /// one takes what came at the end of the window before for spread over it, which is as wrong at worst. A period
    /// by itself never passes its limit.
    pub(super) fn bounds(&self, sharers: u64) -> Bounds {
        let under = ((sharers - 1) * self.extra_max(sharers)) as f64 / self.limit as f64;
        Bounds { over: 1.0, under }
    }

    pub(super) fn refill_ns(&self) -> u64 {
        match self.span {
            Span::Fixed { ns } | Span::Sliding { ns } => 2 * ns,
            Span::Calendar(_) => u64::MAX,
        }
    }
}

fn word(store: &Store, number: u64) -> &AtomicU64 {
    if number.is_multiple_of(2) { &store.first } else { &store.second }
}

fn pack(number: u64, count: u64) -> u64 {
    (number & NUMBER_MASK) << COUNT_BITS | count.min(COUNT_MASK)
}

fn is_of(word: u64, number: u64) -> bool {
    word >> COUNT_BITS == number & NUMBER_MASK
}

fn count(word: u64, number: u64) -> u64 {
    if is_of(word, number) { word & COUNT_MASK } else { 0 }
}

const DAY_S: u64 = 24 * 3600;

impl Calendar {
    fn at(self, unix_s: u64) -> At {
        let day = unix_s / DAY_S;
        let (number, first, next) = match self {
            Calendar::Day => (day, day, day + 1),
            Calendar::Month => month(day),
        };
        let ns = |days: u64| days.saturating_mul(DAY_S);
        At {
            number,
            gone_ns: (unix_s - ns(first)).saturating_mul(1_000_000_000),
            left_ns: (ns(next) - unix_s).saturating_mul(1_000_000_000),
        }
    }
}

/// The number of the month that a day since 1970 is in, its first day, and that of the next (Hinnant 2013,
/// `civil_from_days`).
fn month(day: u64) -> (u64, u64, u64) {
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * from_march + 2) / 5;
    let year = year_of_era + era * 400 + u64::from(from_march >= 10);
    let month = if from_march < 10 { from_march + 2 } else { from_march - 10 };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 => 28 + u64::from(leap),
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    };
    let first = day - day_of_month;
    (year * 12 + month, first, first + days)
}
