//! Budgets against models that are too simple to be wrong, and cores that meet at one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn cost(cost: u64) -> NonZeroU64 {
    NonZeroU64::new(cost).unwrap()
}

fn at(ns: u64) -> Moment {
    Moment { ns, unix_s: 0 }
}

fn pace(count: u64, burst: u64) -> Terms {
    Terms::Pace(Pace::new(count, Duration::from_secs(1), burst).unwrap())
}

/// `golang.org/x/time/rate`, as anybody would write it.
struct Model {
    rate: f64,
    burst: f64,
    tokens: f64,
    last_ns: u64,
}

impl Model {
    fn new(rate: f64, burst: u64) -> Model {
        Model { rate, burst: burst as f64, tokens: burst as f64, last_ns: 0 }
    }

    fn fill(&mut self, now_ns: u64) {
        let since = (now_ns - self.last_ns) as f64 / 1e9;
        (self.tokens, self.last_ns) = ((self.tokens + since * self.rate).min(self.burst), now_ns);
    }

    fn allow(&mut self, now_ns: u64, cost: u64) -> bool {
        self.fill(now_ns);
        let allowed = self.tokens >= cost as f64;
        self.tokens -= if allowed { cost as f64 } else { 0.0 };
        allowed
    }
}

proptest! {
    /// Alone and without borrowing ahead, a bucket is the model's to the token.
    #[test]
    fn a_bucket_is_the_naive_one(
        rate in 1_u64..20_000,
        burst in 1_u64..500,
        steps in proptest::collection::vec((0_u64..50_000_000, 1_u64..4), 1..200),
    ) {
        let terms = pace(rate, burst);
        let Terms::Pace(exact) = terms else { unreachable!() };
        let mut model = Model::new(1e9 / (SECOND.div_ceil(rate)) as f64, burst);
        let store = Store::default();
        let mut now = 0;
        for (step, asked) in steps {
            now += step;
            model.fill(now);
            let close = (model.tokens - asked as f64).abs() < 1e-3;
            let got = terms.lend(&store, &at(now), cost(asked), 0, 1).is_ok();
            if close {
                model.tokens -= if got { asked as f64 } else { 0.0 };
            } else {
                prop_assert_eq!(got, model.allow(now, asked), "at {}", now);
            }
            let left = exact.standing(&store, now).left;
            prop_assert!((left as f64 - model.tokens.floor()).abs() <= 1.0, "{} and {}", left, model.tokens);
        }
    }

    /// Whatever cores borrow, use and give back: what passes would have passed one bucket that all had asked, so in no
    /// stretch of time is it more than the burst and what is refilled in it.
    #[test]
    fn what_cores_borrow_never_passes_the_bound(
        rate in 100_u64..1_000_000,
        burst in 1_u64..3_000,
        cores in 1_usize..5,
        steps in proptest::collection::vec((0_u64..3_000_000, 0_usize..5, 1_u64..60, 0_u8..8), 1..300),
    ) {
        let terms = pace(rate, burst);
        let (store, one) = (Store::default(), Store::default());
        let leases: Vec<Lease> = (0..cores).map(|_| Lease::default()).collect();
        let mut now = 0;
        for (step, core, requests, what) in steps {
            now += step;
            let lease = &leases[core % cores];
            if what == 0 {
                lease.settle(&terms, &store, &at(now));
                continue;
            }
            for _ in 0..requests {
                if lease.take(&terms, &store, &at(now), cost(1), cores as u64).is_ok() {
                    let strict = terms.lend(&one, &at(now), cost(1), 0, 1);
                    prop_assert!(strict.is_ok(), "over the bound at {}", now);
                }
            }
        }
    }

    /// What one core borrows is never lost to another for long, nor for good.
    #[test]
    fn what_is_given_back_is_there_again(rate in 1_000_u64..100_000, burst in 10_u64..1_000, used in 0_u64..2_000) {
        let terms = pace(rate, burst);
        let store = Store::default();
        let lease = Lease::default();
        let taken = (0..used).filter(|_| lease.take(&terms, &store, &at(1), cost(1), 2).is_ok()).count() as u64;
        lease.settle(&terms, &store, &at(1));
        prop_assert_eq!(terms.standing(&store, &at(1)).left, burst - taken);
        prop_assert_eq!(taken, used.min(burst));
    }

    #[test]
    fn a_change_of_terms_gives_nobody_more(level in 0_u64..300, first in 1_u64..300, second in 1_u64..300) {
        let (from, to) = (pace(10, first), pace(1000, second));
        let now = at(50 * SECOND);
        let store = Store::default();
        let used = first.saturating_sub(level.min(first));
        (0..used).for_each(|_| assert!(from.lend(&store, &now, cost(1), 0, 1).is_ok()));
        let carried = to.carry(&store, &from, &now);
        prop_assert_eq!(to.standing(&carried, &now).left, (first - used).min(second));
    }
}

/// A second is 50 steps of demand; the cores take turns by a pattern.
fn admitted(cores: usize, rate: u64, burst: u64, seconds: u64, asks: impl Fn(u64, usize) -> u64) -> u64 {
    const STEPS: u64 = 10_000;
    let terms = pace(rate, burst);
    let store = Store::default();
    let leases: Vec<Lease> = (0..cores).map(|_| Lease::default()).collect();
    let mut passed = 0;
    for step in 0..seconds * STEPS {
        let now = at(step * (SECOND / STEPS));
        for (core, lease) in leases.iter().enumerate() {
            let take = |_: &u64| lease.take(&terms, &store, &now, cost(1), cores as u64).is_ok();
            passed += (0..asks(step, core)).filter(take).count() as u64;
            if step % 500 == 499 && lease.is_over(&now) {
                lease.settle(&terms, &store, &now);
            }
        }
    }
    passed
}

#[test]
fn skewed_demand_gets_what_there_is() {
    let (rate, burst, seconds) = (10_000, 200, 10);
    let most = rate * seconds + burst;
    for (name, asks) in [
        ("one", (|_, core| if core == 0 { 3 } else { 0 }) as fn(u64, usize) -> u64),
        ("alternating", |step, core| if step as usize / 1000 % 2 == core { 3 } else { 0 }),
        ("one to nine", |step, core| if core == 0 { 3 } else { u64::from(step % 3 == 0) }),
    ] {
        let passed = admitted(2, rate, burst, seconds, asks);
        assert!(passed <= most && passed as f64 >= most as f64 * 0.99, "{name}: {passed} of {most}");
    }
}

#[test]
fn a_busy_core_seldom_asks_the_node_and_a_calm_one_borrows_nothing() {
    let asks = |every_ns: u64| {
        let (terms, store, lease) = (pace(10_000, 2_000), Store::default(), Lease::default());
        let taken = |step: u64| lease.take(&terms, &store, &at(step * every_ns), cost(1), 2).expect("below the rate");
        let lent = (0..9_000).filter(|step| matches!(taken(*step), Taken::Lent(_))).count();
        (lent, lease.is_open())
    };
    let (lent, _) = asks(SECOND / 9_000);
    assert!(lent <= 900, "{lent} of 9000");
    assert_eq!(asks(2 * LEASE_NS), (9_000, false));
}

#[test]
fn the_stated_bound_is_the_worst_that_happens() {
    for (cores, rate, burst) in [(2, 10_000, 200), (4, 50_000, 5_000), (16, 100_000, 100)] {
        let terms = pace(rate, burst);
        let stated = terms.bounds(cores as u64);
        let store = Store::default();
        let leases: Vec<Lease> = (0..cores).map(|_| Lease::default()).collect();
        // All but one have borrowed as much as they can, and use none of it.
        for step in 0..20 {
            let now = at(10 * SECOND + step * LEASE_NS / 4);
            for lease in &leases[1..] {
                for _ in 0..=lease.credits(&now) {
                    let _ = lease.take(&terms, &store, &now, cost(1), cores as u64);
                }
            }
        }
        let held: u64 = leases.iter().map(|lease| lease.credits(&at(10 * SECOND + 19 * LEASE_NS / 4))).sum();
        assert!(held as f64 <= stated.under * rate as f64 + 1e-6, "{held} held, {} stated", stated.under);
        assert_eq!(stated.over, 0.0);
    }
}

#[test]
fn threads_that_meet_at_one_bucket_stay_within_it() {
    const BURST: u64 = 500;
    const RATE: u64 = 1_000_000;
    const ENDS: u64 = SECOND / 20;
    let terms = pace(RATE, BURST);
    let (store, clock) = (Arc::new(Store::default()), Arc::new(AtomicU64::new(0)));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (store, clock) = (store.clone(), clock.clone());
            std::thread::spawn(move || {
                let (lease, mut passed) = (Lease::default(), 0);
                loop {
                    let now = clock.fetch_add(300, Ordering::SeqCst);
                    if now >= ENDS {
                        lease.settle(&terms, &store, &at(ENDS));
                        return passed;
                    }
                    passed += u64::from(lease.take(&terms, &store, &at(now), cost(1), 4).is_ok());
                }
            })
        })
        .collect();
    let passed: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    let most = BURST + RATE / 20;
    assert!(passed <= most && passed * 10 >= most * 9, "{passed} of {most}");
}

#[test]
fn a_fixed_window_counts_to_its_limit_and_begins_anew() {
    let terms = Terms::Period(Period::new(5, Span::Fixed { ns: SECOND }));
    let store = Store::default();
    let taken = |ns: u64| (0..9).filter(|_| terms.lend(&store, &at(ns), cost(1), 0, 2).is_ok()).count();
    assert_eq!((taken(0), taken(SECOND - 1), taken(SECOND), taken(2 * SECOND)), (5, 0, 5, 5));
    let refused = terms.lend(&store, &at(2 * SECOND + 1), cost(1), 0, 2);
    assert_eq!(refused, Err(Refused::empty(SECOND - 1)));
    assert!(terms.lend(&store, &at(SECOND), cost(1), 0, 2).is_err(), "a core that is late begins nothing");
}

#[test]
fn a_sliding_window_remembers_the_one_before() {
    let terms = Terms::Period(Period::new(10, Span::Sliding { ns: SECOND }));
    let store = Store::default();
    let taken = |ns: u64| (0..20).filter(|_| terms.lend(&store, &at(ns), cost(1), 0, 1).is_ok()).count();
    assert_eq!(taken(SECOND / 2), 10);
    assert_eq!(taken(SECOND), 0, "all ten still weigh");
    let Err(Refused { wait_ns, .. }) = terms.lend(&store, &at(SECOND), cost(1), 0, 1) else { panic!() };
    assert!(terms.lend(&store, &at(SECOND + wait_ns), cost(1), 0, 1).is_ok(), "after the time it was told");
    assert_eq!(taken(SECOND + SECOND / 2), 4, "half of ten and one weigh six");
    assert_eq!(taken(4 * SECOND), 10);
}

#[test]
fn credits_of_a_window_end_with_it() {
    let terms = Terms::Period(Period::new(100_000, Span::Fixed { ns: SECOND }));
    let (store, lease) = (Store::default(), Lease::default());
    let mut passed = 0;
    for step in 0..400 {
        let now = at(SECOND - 200 + step);
        let before = passed;
        passed += (0..2_000).filter(|_| lease.take(&terms, &store, &now, cost(1), 2).is_ok()).count();
        if step == 200 {
            assert!(before <= 100_000);
            passed -= before;
        }
    }
    assert!(passed <= 100_000, "{passed}");
}

#[test]
fn months_are_the_calendars() {
    let month = Terms::Period(Period::new(1, Span::Calendar(Calendar::Month)));
    let store = Store::default();
    let take = |unix_s: u64| month.lend(&store, &Moment { ns: 5, unix_s }, cost(1), 0, 1).is_ok();
    // The last second of February in a leap year, and the first of March; of December and of January.
    for (last, next) in [(1_709_251_199, 1_709_251_200), (1_735_689_599, 1_735_689_600)] {
        assert!(take(last) && !take(last) && take(next) && !take(next + 27 * 86_400), "{last}");
    }
    let left = |unix_s: u64| month.wait_ns(&store, &Moment { ns: 0, unix_s }, 2) / SECOND;
    assert_eq!((left(1_709_251_199), left(1_709_164_800), left(1_738_368_000)), (1, 86_400, 28 * 86_400));
}

/// Lines of ngx_http_limit_req_module.c, with its types.
struct Nginx {
    excess: i64,
    last: Option<i64>,
}

impl Nginx {
    fn ask(&mut self, rate: i64, burst: i64, now: i64) -> Option<i64> {
        let Some(last) = self.last else {
            (self.last, self.excess) = (Some(now), 0);
            return Some(0);
        };
        let excess = (self.excess - rate * (now - last) / 1000 + 1000).max(0);
        if excess > burst * 1000 {
            return None;
        }
        (self.excess, self.last) = (excess, Some(now));
        Some(excess * 1000 / rate)
    }
}

proptest! {
    #[test]
    fn a_leaky_bucket_is_nginxs(
        per_second in 1_u32..5_000,
        burst in 0_u64..100,
        steps in proptest::collection::vec(0_u64..300, 1..200),
    ) {
        let terms = Terms::Leak(Leak::new(f64::from(per_second), burst, false).unwrap());
        let (store, mut nginx) = (Store::default(), Nginx { excess: 0, last: None });
        let mut now = 0;
        for step in steps {
            now += step;
            let ours = terms.lend(&store, &at(now * 1_000_000), cost(1), 0, 1).ok().map(|loan| loan.delay_ms as i64);
            let theirs = nginx.ask(i64::from(per_second) * 1000, burst as i64, now as i64);
            prop_assert_eq!(ours, theirs, "at {}", now);
        }
    }
}

#[test]
fn a_leaky_bucket_tells_when_there_is_room() {
    let terms = Terms::Leak(Leak::new(10.0, 2, false).unwrap());
    let store = Store::default();
    assert_eq!((0..5).filter(|_| terms.lend(&store, &at(0), cost(1), 0, 1).is_ok()).count(), 3);
    let Err(Refused { wait_ns, .. }) = terms.lend(&store, &at(0), cost(1), 0, 1) else { panic!() };
    assert_eq!(wait_ns, SECOND / 10);
    assert!(terms.lend(&store, &at(wait_ns), cost(1), 0, 1).is_ok());
}

#[test]
fn a_full_table_gives_new_keys_one_budget() {
    let terms = pace(1, 2);
    let budgets = Budgets::new(terms, 10, None);
    let take = |digest: u128, ns: u64| match budgets.find(digest, &at(ns)) {
        Found::Own(store) => (true, terms.lend(&store, &at(ns), cost(1), 0, 1).is_ok()),
        Found::Shared(store) => (false, terms.lend(&store, &at(ns), cost(1), 0, 1).is_ok()),
    };
    assert!((0..10).all(|digest| take(digest, 0) == (true, true)));
    assert_eq!([take(10, 0), take(11, 0), take(12, 0)], [(false, true), (false, true), (false, false)]);
    assert_eq!(take(3, 0), (true, true), "who was there before keeps its own");
    assert_eq!(take(99, 10 * SECOND), (true, true), "a budget that is full again is as good as none");
}

#[test]
fn a_rule_that_changes_keeps_where_its_keys_stood() {
    let rule = Rule::default();
    let (old, new) = (pace(1, 10), pace(2, 5));
    let before = rule.budgets(old, 100, "client_ip");
    rule.adopt(100, "client_ip", &before);
    assert!(Arc::ptr_eq(&before, &rule.budgets(old, 100, "client_ip")), "the same rule is the same");
    let Found::Own(store) = before.find(7, &at(SECOND)) else { panic!() };
    (0..9).for_each(|_| assert!(old.lend(&store, &at(SECOND), cost(1), 0, 1).is_ok()));
    drop(rule.budgets(pace(7, 7), 100, "client_ip")); // of a plan that never served
    let after = rule.budgets(new, 100, "client_ip");
    rule.adopt(100, "client_ip", &after);
    let left = |budgets: &Budgets, digest| match budgets.find(digest, &at(SECOND)) {
        Found::Own(store) | Found::Shared(store) => budgets.terms().standing(&store, &at(SECOND)).left,
    };
    // Through one that served and was not asked for this key, too.
    let again = rule.budgets(pace(3, 5), 100, "client_ip");
    assert_eq!((left(&again, 7), left(&after, 7), left(&after, 8)), (1, 1, 5));
    let other = rule.budgets(new, 100, "consumer");
    assert_eq!(left(&other, 7), 5, "another key is another thing");
}
