//! What the node does with what a fleet's server lends: without a server, at moments of the tests' own.

use std::num::NonZeroU64;
use std::time::Duration;

use super::*;

const MS: u64 = 1_000_000;
const LEASE: u64 = 20 * MS;
const PATIENCE: u64 = 70 * MS;

fn fleet(when_away: WhenAway) -> Fleet {
    let base = Base::Pace(Pace::new(1000, Duration::from_secs(1), 100).unwrap());
    Fleet { base, lease_ns: LEASE, when_away, cost: NonZeroU64::MIN, gateways_min: 1 }
}

fn at(ms: u64) -> Moment {
    Moment { ns: ms * MS, unix_s: 0 }
}

fn grant(amount: u64, epoch: u64) -> Grant {
    Grant { amount, epoch, valid_ns: LEASE, left: 50, reset_ns: 50 * MS }
}

fn ask(account: &Account, terms: &Fleet, ms: u64) -> Question {
    match account.begin(terms, &at(ms), 2, PATIENCE) {
        Begin::Ask(question) => question,
        other => panic!("{other:?}"),
    }
}

fn take(terms: &Fleet, store: &Store, ms: u64) -> Result<Loan, Refused> {
    terms.lend(store, &at(ms), NonZeroU64::MIN, 0, 1)
}

#[test]
fn what_is_lent_is_used_and_what_is_left_is_reported() {
    let terms = fleet(WhenAway::Closed);
    let store = Terms::Fleet(terms).store();
    let account = store.account();
    assert_eq!(take(&terms, &store, 1).unwrap_err().why, Why::Unasked);
    let question = ask(account, &terms, 1);
    assert_eq!((question.least, question.ahead, question.over.len()), (1, 0, 0));
    assert_eq!(account.begin(&terms, &at(1), 2, PATIENCE), Begin::Underway);
    account.granted(&question, &at(2), &grant(4, 7));
    assert!(!take(&terms, &store, 2).unwrap().ask);
    assert!(take(&terms, &store, 2).unwrap().ask, "half is gone");
    // The loan counts from when it was asked for.
    assert!(take(&terms, &store, 20).is_ok());
    assert_eq!(take(&terms, &store, 21).unwrap_err().why, Why::Unasked);
    assert_eq!(ask(account, &terms, 21).over[..], [Over { epoch: 7, amount: 4, unused: 1 }]);
}

#[test]
fn the_next_loan_follows_the_first() {
    let terms = fleet(WhenAway::Closed);
    let store = Terms::Fleet(terms).store();
    let account = store.account();
    let first = ask(account, &terms, 1);
    account.granted(&first, &at(1), &grant(2, 1));
    assert!(take(&terms, &store, 2).unwrap().ask);
    let next = ask(account, &terms, 2);
    account.granted(&next, &at(3), &grant(3, 2));
    assert_eq!(account.begin(&terms, &at(3), 2, PATIENCE), Begin::No);
    let periods: Vec<u64> = (0..4).map(|_| take(&terms, &store, 3).unwrap().period).collect();
    assert_eq!(periods, [1, 2, 2, 2]);
    // Asked for again within a lease: twice as much.
    let third = ask(account, &terms, 4);
    let used_up = |epoch, amount| Over { epoch, amount, unused: 0 };
    assert_eq!(third.over[..], [used_up(1, 2), used_up(2, 3)]);
    assert!(third.ahead >= 1);
}

#[test]
fn what_a_core_gives_back_is_of_its_loan_or_nobodys() {
    let terms = fleet(WhenAway::Closed);
    let store = Terms::Fleet(terms).store();
    let account = store.account();
    let question = ask(account, &terms, 1);
    account.granted(&question, &at(1), &grant(10, 5));
    let loan = terms.lend(&store, &at(2), NonZeroU64::MIN, 4, 1).unwrap();
    assert_eq!((loan.extra, loan.period), (4, 5));
    account.give(5, 3);
    account.give(9, 100);
    assert_eq!(terms.standing(&store, &at(2)).left, 50 + 8);
    // The loan is over, and the core gives back late.
    assert!(take(&terms, &store, 30).is_err());
    account.give(5, 1);
    assert_eq!(ask(account, &terms, 30).over[..], [Over { epoch: 5, amount: 10, unused: 9 }]);
}

#[test]
fn a_refusal_is_remembered_for_a_while() {
    let terms = fleet(WhenAway::Closed);
    let store = Terms::Fleet(terms).store();
    let account = store.account();
    ask(account, &terms, 1);
    account.refused(&terms, &at(2), 0, &grant(0, 1));
    let refused = take(&terms, &store, 2).unwrap_err();
    assert_eq!((refused.why, refused.wait_ns), (Why::Empty, 5 * MS));
    assert_eq!(account.begin(&terms, &at(2), 2, PATIENCE), Begin::No);
    assert_eq!(take(&terms, &store, 7).unwrap_err().why, Why::Unasked);
}

#[test]
fn a_share_begins_where_the_budget_stood_and_is_paid_for() {
    let terms = fleet(WhenAway::LocalShare);
    let store = Terms::Fleet(terms).store();
    let account = store.account();
    let question = ask(account, &terms, 1);
    account.granted(&question, &at(1), &grant(1, 1));
    assert!(take(&terms, &store, 1).is_ok());
    let question = ask(account, &terms, 2);
    assert_eq!(question.over.len(), 1);
    account.failed(&terms, &at(2), 2, Some(&question), false);
    // Fifty were left for two, as of the first millisecond; both refill half a token in each.
    let passed = (0..100).take_while(|_| take(&terms, &store, 3).is_ok()).count();
    assert_eq!(passed, 26);
    assert_eq!(take(&terms, &store, 3).unwrap_err().why, Why::Empty);
    assert!(!take(&terms, &store, 101).unwrap().ask, "it is early");
    assert!(take(&terms, &store, 102).unwrap().ask);
    let question = ask(account, &terms, 102);
    assert_eq!((question.debt, question.over.len()), (28, 1));
    account.failed(&terms, &at(103), 2, Some(&question), true);
    let question = ask(account, &terms, 203);
    assert_eq!(
        (question.debt, question.over.len()),
        (28, 0),
        "what may have been heard is not told twice, but for debts"
    );
    account.granted(&question, &at(204), &grant(1, 9));
    assert!(take(&terms, &store, 204).is_ok());
    assert_eq!(ask(account, &terms, 205).debt, 0);
}

#[test]
fn without_the_server_everybody_passes_or_nobody() {
    for (when_away, passes) in [(WhenAway::Open, true), (WhenAway::Closed, false)] {
        let terms = fleet(when_away);
        let store = Terms::Fleet(terms).store();
        store.account().failed(&terms, &at(1), 2, None, false);
        let taken = take(&terms, &store, 1);
        assert_eq!(taken.is_ok(), passes);
        assert!(passes || taken.unwrap_err().why == Why::Away);
    }
}

#[test]
fn what_nobody_asks_for_is_reported_once_and_forgotten() {
    let terms = fleet(WhenAway::Closed);
    let store = Terms::Fleet(terms).store();
    let account = store.account();
    let question = ask(account, &terms, 1);
    account.granted(&question, &at(1), &grant(10, 5));
    assert_eq!(account.begin_report(&at(2), PATIENCE, false), Err(true));
    assert!(!account.is_idle(&at(2)) && !account.is_idle(&at(30)));
    let report = account.begin_report(&at(30), PATIENCE, false).unwrap();
    assert_eq!((report.least, report.over[0].unused), (0, 10));
    account.granted(&report, &at(31), &Grant { amount: 0, ..grant(0, 6) });
    assert_eq!(account.begin_report(&at(32), PATIENCE, false), Err(false));
    assert!(account.is_idle(&at(32)));
}

#[test]
fn a_debt_is_told_of_a_key_that_does_not_come_back() {
    let terms = fleet(WhenAway::Open);
    let store = Terms::Fleet(terms).store();
    let account = store.account();
    let nothing = Grant { amount: 0, ..grant(0, 1) };
    // It was known already that the server is away: this key was never asked for.
    account.failed(&terms, &at(1), 2, None, false);
    assert_eq!((0..3).filter(|_| take(&terms, &store, 2).is_ok()).count(), 3);
    assert_eq!(account.begin_report(&at(100), PATIENCE, false), Err(true), "it is early");
    // Whether the server is back is asked without a word of the debt, which it may hear without an answer.
    let probe = account.begin_report(&at(101), PATIENCE, true).unwrap();
    assert_eq!((probe.least, probe.ahead, probe.debt, probe.over.len()), (0, 0, 0, 0));
    assert_eq!(account.begin_report(&at(101), PATIENCE, false), Err(true), "one is under way");
    account.failed(&terms, &at(102), 2, Some(&probe), true);
    assert_eq!(account.begin_report(&at(201), PATIENCE, true), Err(true), "it is early again");
    let probe = account.begin_report(&at(202), PATIENCE, true).unwrap();
    account.granted(&probe, &at(203), &nothing);
    assert!(!account.is_idle(&at(203)), "it owes");
    let report = account.begin_report(&at(203), PATIENCE, false).unwrap();
    assert_eq!((report.least, report.debt), (0, 3));
    // As with a question: twice is better than not at all.
    account.failed(&terms, &at(204), 2, Some(&report), true);
    let report = account.begin_report(&at(304), PATIENCE, false).unwrap();
    assert_eq!(report.debt, 3);
    account.granted(&report, &at(305), &nothing);
    assert_eq!(account.begin_report(&at(306), PATIENCE, false), Err(false));
    assert!(account.is_idle(&at(306)));
    assert_eq!(ask(account, &terms, 307).debt, 0, "paid once");
}

#[test]
fn a_debt_that_the_server_answers_with_a_refusal_is_paid() {
    let terms = fleet(WhenAway::LocalShare);
    let store = Terms::Fleet(terms).store();
    let account = store.account();
    account.failed(&terms, &at(1), 2, None, false);
    assert!(take(&terms, &store, 2).is_ok());
    let report = account.begin_report(&at(101), PATIENCE, false).unwrap();
    account.refused(&terms, &at(102), 0, &grant(0, 1));
    assert_eq!(report.debt, 1);
    assert_eq!(account.begin_report(&at(103), PATIENCE, false), Err(false));
    assert!(account.is_idle(&at(107)));
}

#[test]
fn who_owes_nothing_does_not_stay_away() {
    let terms = fleet(WhenAway::Closed);
    let store = Terms::Fleet(terms).store();
    let account = store.account();
    account.failed(&terms, &at(1), 2, None, false);
    assert_eq!(take(&terms, &store, 2).unwrap_err().why, Why::Away);
    // Who comes again soon is refused at once, and does not wait for an answer that will not come.
    assert_eq!(account.begin_report(&at(1100), PATIENCE, false), Err(true));
    assert_eq!(account.begin_report(&at(1101), PATIENCE, false), Err(false));
    assert_eq!(take(&terms, &store, 1102).unwrap_err().why, Why::Unasked);
    assert!(account.is_idle(&at(1102)));
}

#[test]
fn bounds_follow_the_lease() {
    let bounds = fleet(WhenAway::Closed).bounds();
    assert!(bounds.over == 0.0 && (bounds.under - 0.02).abs() < 1e-6, "{bounds:?}");
    assert_eq!(fleet(WhenAway::Closed).failover_over(), Some(100));
    assert_eq!(fleet(WhenAway::LocalShare).failover_over(), Some(200));
    assert_eq!(fleet(WhenAway::Open).failover_over(), None);
}
