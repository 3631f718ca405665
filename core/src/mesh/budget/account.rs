//! What the node has borrowed of one key's budget from the server that a fleet shares, what it owes, and what it does while
//! that server is away.
//!
//! The node holds two loans at most: one that is used and the next one, which is asked for when half of the first is gone,
//! so that requests seldom wait. A loan that is over is reported with the next question: what was not used comes back. Who
//! asks ([`Account::begin`]) must say what came of it; until then, or until its patience is over, nobody else asks.
//!
//! Under a lock, which is held for some ten nanoseconds: a core comes here when what it has borrowed itself is used up.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use smallvec::SmallVec;

use super::{Fleet, Loan, Moment, Refused, Standing, Store, Terms, WhenAway, Why};

/// Loans that are over and not reported. Further ones are not reported: the server takes them for used when their time is
/// over, as it does with those of a gateway that died.
const OVER_MAX: usize = 4;
/// While the server is away somebody tries so often whether it is back.
const PROBE_NS: u64 = 100_000_000;
/// Who owes nothing and was not asked for so long after that is forgotten to be away: it may be back.
const AWAY_KEPT_NS: u64 = 1_000_000_000;
/// The period of what was had while the server was away.
const AWAY: u64 = u64::MAX;
/// Who is refused because the server is away is told to come again after this.
const CLOSED_WAIT_NS: u64 = 1_000_000_000;

/// Names a key to the server, the same on all gateways.
pub type KeyName = [u8; 16];

#[derive(Debug, Default)]
pub struct Account {
    name: OnceLock<KeyName>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In use, and the next one.
    loans: [Held; 2],
    over: SmallVec<[Over; OVER_MAX]>,
    /// What passed while the server was away.
    debt: u64,
    /// Somebody asks until then; 0: nobody.
    asking_until_ns: u64,
    asked_ns: u64,
    /// Asked for ahead then.
    ahead: u64,
    /// Used since.
    used: u64,
    /// Nobody asks again before.
    refused_until_ns: u64,
    /// By then there may be enough, as the server said when it refused.
    enough_at_ns: u64,
    away: Option<Away>,
    told: Option<Told>,
}

#[derive(Debug, Default)]
struct Held {
    epoch: u64,
    amount: u64,
    left: u64,
    until_ns: u64,
}

#[derive(Debug)]
struct Away {
    share: Store,
    terms: Terms,
    probe_at_ns: u64,
}

/// What the server has said of the budget, without what is lent to us.
#[derive(Debug, Clone, Copy)]
struct Told {
    left: u64,
    full_at_ns: u64,
    at: Moment,
}

/// A loan that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    pub epoch: u64,
    pub amount: u64,
    pub unused: u64,
}

/// What the server is to be asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Question {
    /// Nothing less; 0: it is only told what follows.
    pub least: u64,
    /// Beyond that.
    pub ahead: u64,
    /// Passed without being asked for.
    pub debt: u64,
    pub over: SmallVec<[Over; OVER_MAX]>,
    sent_ns: u64,
}

/// What the server has lent, and how the budget stands without it.
#[derive(Debug, Clone, Copy)]
pub struct Grant {
    pub amount: u64,
    pub epoch: u64,
    /// It may be used for so long after it was asked for.
    pub valid_ns: u64,
    pub left: u64,
    pub reset_ns: u64,
}

/// Who wants to ask finds:
#[derive(Debug, PartialEq, Eq)]
pub enum Begin {
    Ask(Question),
    /// Somebody else asks.
    Underway,
    /// There is no need, or it is too early.
    No,
}

impl Account {
    /// By which the server knows the key; told by the first who asks.
    pub fn name(&self, make: impl FnOnce() -> KeyName) -> &KeyName {
        self.name.get_or_init(make)
    }

    pub fn known_name(&self) -> Option<&KeyName> {
        self.name.get()
    }

    pub(super) fn lend(
        &self,
        fleet: &Fleet,
        now: &Moment,
        cost: u64,
        extra: u64,
        sharers: u64,
    ) -> Result<Loan, Refused> {
        let mut state = self.state();
        state.advance(now.ns);
        if state.loans[0].left < cost && state.loans[1].amount > 0 {
            state.end_first();
        }
        let first = &mut state.loans[0];
        let Some(left) = first.left.checked_sub(cost) else { return state.lend_without(fleet, now, cost) };
        let extra = extra.min(left / (2 * sharers));
        first.left = left - extra;
        let (until_ns, period) = (first.until_ns, first.epoch);
        state.used += cost + extra;
        Ok(Loan { extra, until_ns, period, delay_ms: 0, ask: state.is_low(now.ns) })
    }

    /// What was lent in that period and not used comes back.
    pub(super) fn give(&self, period: u64, unused: u64) {
        if unused == 0 {
            return;
        }
        let mut state = self.state();
        state.used = state.used.saturating_sub(unused);
        if period == AWAY {
            return state.take_back(unused);
        }
        let of = |loan: &&mut Held| loan.amount > 0 && loan.epoch == period;
        if let Some(loan) = state.loans.iter_mut().find(of) {
            loan.left += unused;
        } else if let Some(over) = state.over.iter_mut().find(|over| over.epoch == period) {
            over.unused += unused;
        }
    }

    /// Why there is not enough for `cost` now.
    pub(super) fn shortage(&self, fleet: &Fleet, now: &Moment, cost: u64) -> Option<Refused> {
        let mut state = self.state();
        state.advance(now.ns);
        match state.loans.iter().any(|loan| loan.left >= cost) {
            true => None,
            false => state.shortage(fleet, now, cost),
        }
    }

    pub(super) fn standing(&self, fleet: &Fleet, now: &Moment) -> Standing {
        let mut state = self.state();
        state.advance(now.ns);
        let most = fleet.terms().standing(&Store::default(), now).most;
        if let (Some(away), WhenAway::LocalShare) = (&state.away, fleet.when_away) {
            return Standing { most, ..away.terms.standing(&away.share, now) };
        }
        let held: u64 = state.loans.iter().map(|loan| loan.left).sum();
        match &state.told {
            Some(told) => {
                Standing { most, left: (told.left + held).min(most), reset_ns: told.full_at_ns.saturating_sub(now.ns) }
            }
            None => Standing { most, left: most, reset_ns: 0 },
        }
    }

    pub(super) fn is_idle(&self, now: &Moment) -> bool {
        let mut state = self.state();
        state.advance(now.ns);
        let holds = state.loans.iter().any(|loan| loan.amount > 0) || state.over.iter().any(|over| over.unused > 0);
        let is_full = |away: &Away| away.terms.is_idle(&away.share, now);
        !holds
            && state.debt == 0
            && state.asking_until_ns <= now.ns
            && state.refused_until_ns <= now.ns
            && state.away.as_ref().is_none_or(is_full)
    }

    /// One that owes what `old` did.
    pub(super) fn carry(&self, now: &Moment) -> Account {
        let mut old = self.state();
        old.advance(now.ns);
        old.end_first();
        old.end_first();
        let State { debt, over, .. } = &mut *old;
        let state = State { debt: std::mem::take(debt), over: std::mem::take(over), ..State::default() };
        let carried = Account { state: Mutex::new(state), ..Account::default() };
        if let Some(name) = self.name.get() {
            carried.name.get_or_init(|| *name);
        }
        carried
    }

    /// What to ask the server, for who has come in vain or has been told that it is low.
    pub fn begin(&self, fleet: &Fleet, now: &Moment, gateways: u64, patience_ns: u64) -> Begin {
        let mut state = self.state();
        state.advance(now.ns);
        if state.asking_until_ns > now.ns {
            return Begin::Underway;
        }
        let serves = state.loans.iter().any(|loan| loan.left >= fleet.cost.get()) && !state.is_low(now.ns);
        let probe_at_ns = state.away.as_ref().map_or(0, |away| away.probe_at_ns);
        if serves || now.ns < state.refused_until_ns.max(probe_at_ns) {
            return Begin::No;
        }
        if state.loans[0].left < fleet.cost.get() {
            state.end_first();
        }
        state.ahead = state.demand(fleet, now.ns).min(fleet.ahead_max(gateways));
        (state.asked_ns, state.used) = (now.ns, 0);
        state.asking_until_ns = now.ns + patience_ns;
        Begin::Ask(state.question(fleet.cost.get(), now.ns))
    }

    /// What the server should be told of a key that nobody asks for any more; `Err(true)`: nothing now, and perhaps later.
    /// `in_doubt`: the server may be away still, so it is only asked whether it is back. It may hear what it does not
    /// answer, and a debt that is told again is paid twice.
    pub fn begin_report(&self, now: &Moment, patience_ns: u64, in_doubt: bool) -> Result<Question, bool> {
        let mut state = self.state();
        state.advance(now.ns);
        let owes = state.debt > 0 || state.over.iter().any(|over| over.unused > 0);
        let away_ns = if owes { 0 } else { AWAY_KEPT_NS };
        let is_away = state.away.as_ref().is_some_and(|away| now.ns < away.probe_at_ns + away_ns);
        if is_away || state.loans.iter().any(|loan| loan.amount > 0) || state.asking_until_ns > now.ns {
            return Err(true);
        }
        if !owes {
            state.away = None;
            return Err(false);
        }
        state.asking_until_ns = now.ns + patience_ns;
        match in_doubt {
            true => Ok(Question { least: 0, ahead: 0, debt: 0, over: SmallVec::new(), sent_ns: now.ns }),
            false => Ok(state.question(0, now.ns)),
        }
    }

    pub fn granted(&self, question: &Question, now: &Moment, grant: &Grant) {
        let mut state = self.state();
        state.hear(now, grant);
        if grant.amount == 0 {
            return;
        }
        let until_ns = question.sent_ns.saturating_add(grant.valid_ns);
        let loan = Held { epoch: grant.epoch, amount: grant.amount, left: grant.amount, until_ns };
        match state.loans.iter_mut().find(|held| held.amount == 0) {
            Some(free) => *free = loan,
            None => state.report(&loan),
        }
    }

    pub fn refused(&self, fleet: &Fleet, now: &Moment, wait_ns: u64, grant: &Grant) {
        let mut state = self.state();
        state.hear(now, grant);
        state.refused_until_ns = now.ns + fleet.ask_again_ns(wait_ns);
        state.enough_at_ns = now.ns.saturating_add(wait_ns).max(state.refused_until_ns);
    }

    /// There was no answer. `may_have_run`: what was told may have been heard, so it is not told again.
    pub fn failed(&self, fleet: &Fleet, now: &Moment, gateways: u64, question: Option<&Question>, may_have_run: bool) {
        let mut state = self.state();
        state.asking_until_ns = 0;
        if let Some(question) = question {
            state.debt += question.debt; // twice is better than not at all: nobody passes by it
            if !may_have_run {
                question.over.iter().for_each(|over| state.push_over(*over));
            }
        }
        let probe_at_ns = now.ns + PROBE_NS;
        match &mut state.away {
            Some(away) => away.probe_at_ns = probe_at_ns,
            None => {
                let terms = fleet.share(gateways);
                let share = state
                    .told
                    .map_or_else(Store::default, |told| terms.holding(told.left / fleet.gateways(gateways), &told.at));
                state.away = Some(Away { share, terms, probe_at_ns });
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Loans whose time is over end.
    fn advance(&mut self, now_ns: u64) {
        if self.loans[1].amount > 0 && self.loans[1].until_ns <= now_ns {
            self.loans.swap(0, 1);
            self.end_first();
            self.loans.swap(0, 1);
        }
        if self.loans[0].amount > 0 && self.loans[0].until_ns <= now_ns {
            self.end_first();
        }
    }

    /// The first loan is over; the next one becomes the first.
    fn end_first(&mut self) {
        let first = std::mem::take(&mut self.loans[0]);
        self.loans.swap(0, 1);
        if first.amount > 0 {
            self.report(&first);
        }
    }

    fn report(&mut self, loan: &Held) {
        self.push_over(Over { epoch: loan.epoch, amount: loan.amount, unused: loan.left });
    }

    fn push_over(&mut self, over: Over) {
        if self.over.len() == OVER_MAX {
            self.over.remove(0);
        }
        self.over.push(over);
    }

    /// Half of what was borrowed ahead is gone, and nothing follows it.
    fn is_low(&self, now_ns: u64) -> bool {
        let [first, next] = &self.loans;
        let is_free = self.asking_until_ns <= now_ns && self.refused_until_ns <= now_ns;
        next.amount == 0 && first.amount > 1 && first.left <= first.amount / 2 && is_free
    }

    fn lend_without(&mut self, fleet: &Fleet, now: &Moment, cost: u64) -> Result<Loan, Refused> {
        if let Some(refused) = self.shortage(fleet, now, cost) {
            return Err(refused);
        }
        if let (WhenAway::LocalShare, Some(Away { share, terms, .. })) = (fleet.when_away, &self.away)
            && let Some(cost) = std::num::NonZeroU64::new(cost)
        {
            terms.lend(share, now, cost, 0, 1)?;
        }
        self.debt += cost;
        Ok(Loan { extra: 0, until_ns: u64::MAX, period: AWAY, delay_ms: 0, ask: self.wants_probe(now) })
    }

    /// The server is away, and it is time to see whether it is back.
    fn wants_probe(&self, now: &Moment) -> bool {
        self.asking_until_ns <= now.ns && self.away.as_ref().is_some_and(|away| away.probe_at_ns <= now.ns)
    }

    /// Without a loan.
    fn shortage(&self, fleet: &Fleet, now: &Moment, cost: u64) -> Option<Refused> {
        let Some(away) = &self.away else {
            let why = if self.refused_until_ns <= now.ns { Why::Unasked } else { Why::Empty };
            return Some(Refused { wait_ns: self.enough_at_ns.saturating_sub(now.ns), why, ask: false });
        };
        let ask = self.wants_probe(now);
        match fleet.when_away {
            WhenAway::Open => None,
            WhenAway::Closed => Some(Refused { wait_ns: CLOSED_WAIT_NS, why: Why::Away, ask }),
            WhenAway::LocalShare => match away.terms.wait_ns(&away.share, now, cost) {
                0 => None,
                wait_ns => Some(Refused { wait_ns, why: Why::Empty, ask }),
            },
        }
    }

    /// What passed while the server was away and was undone. A share keeps it: that two rules of a list disagree is rare.
    fn take_back(&mut self, unused: u64) {
        self.debt = self.debt.saturating_sub(unused);
    }

    /// What will be used in the time of a loan, if it goes on like this. Grows by doubling.
    fn demand(&self, fleet: &Fleet, now_ns: u64) -> u64 {
        let since_ns = now_ns.saturating_sub(self.asked_ns).max(1);
        let projected = u128::from(self.used) * u128::from(fleet.lease_ns) / u128::from(since_ns);
        let projected = u64::try_from(projected).unwrap_or(u64::MAX);
        match self.asked_ns {
            0 => 0,
            _ if since_ns < fleet.lease_ns => projected.min(2 * self.ahead + 1),
            _ => projected,
        }
    }

    fn question(&mut self, least: u64, now_ns: u64) -> Question {
        let (debt, over) = (std::mem::take(&mut self.debt), std::mem::take(&mut self.over));
        let ahead = if least == 0 { 0 } else { self.ahead };
        Question { least, ahead, debt, over, sent_ns: now_ns }
    }

    fn hear(&mut self, now: &Moment, grant: &Grant) {
        self.asking_until_ns = 0;
        self.away = None;
        let full_at_ns = now.ns.saturating_add(grant.reset_ns);
        self.told = Some(Told { left: grant.left, full_at_ns, at: *now });
    }
}
