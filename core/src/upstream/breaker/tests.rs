//! Hystrix's documented behaviour as tables: moments, what happened, what must follow. The clock is the table's.

use super::*;
use std::sync::Arc;
use std::time::Duration;

fn rules() -> Rules {
    Rules {
        error_percent: 50,
        requests_min: 20,
        window: Duration::from_secs(10),
        sleep: Duration::from_secs(5),
        snapshot: Duration::from_millis(500),
        concurrent_max: 100,
        timeout: Duration::from_secs(1),
        statuses: vec![500, 502, 503, 504],
        force: Force::No,
    }
}

/// One line of a scenario, at a moment in milliseconds.
enum Step {
    /// So many requests that end like this.
    Ends(u32, Outcome),
    Is(Circuit),
    Passes,
    Refused {
        after_ms: u64,
    },
    /// Let through as the trial, which ends like this.
    Trial(Outcome),
    /// Let through as the trial, which goes on.
    TrialBegins,
    TrialEnds(Outcome),
}

use Outcome::{Failure, Refused, Success, Timeout, Void};
use Step::*;

const CORES: usize = 3;

fn play(rules: &Rules, scenario: &[(u64, Step)]) {
    let breaker = Breaker::new(CORES);
    for (line, (now_ms, step)) in scenario.iter().enumerate() {
        let (now_ms, core) = (*now_ms, line % CORES);
        match step {
            // Spread over the cores, in the order of their numbers.
            Ends(count, outcome) => (0..*count).for_each(|n| {
                breaker.report(rules, n as usize % CORES, now_ms, false, *outcome);
            }),
            Is(circuit) => assert_eq!(breaker.circuit(rules), *circuit, "line {line}"),
            Passes => assert_eq!(breaker.admit(rules, now_ms), Admission::Pass, "line {line}"),
            Step::Refused { after_ms } => {
                let refused = Admission::Refused { after_ms: *after_ms };
                assert_eq!(breaker.admit(rules, now_ms), refused, "line {line}");
            }
            Trial(outcome) => {
                assert_eq!(breaker.admit(rules, now_ms), Admission::Trial, "line {line}");
                breaker.report(rules, core, now_ms, true, *outcome);
            }
            TrialBegins => assert_eq!(breaker.admit(rules, now_ms), Admission::Trial, "line {line}"),
            TrialEnds(outcome) => breaker.report(rules, core, now_ms, true, *outcome),
        }
    }
}

#[test]
fn below_the_volume_it_stays_closed_even_if_everything_fails() {
    play(&rules(), &[(0, Ends(19, Failure)), (500, Passes), (500, Is(Circuit::Closed))]);
}

#[test]
fn at_the_volume_and_the_percentage_it_opens() {
    play(&rules(), &[(0, Ends(10, Failure)), (0, Ends(10, Success)), (500, Step::Refused { after_ms: 5000 })]);
    play(&rules(), &[(0, Ends(20, Failure)), (500, Step::Refused { after_ms: 5000 }), (500, Is(Circuit::Open))]);
}

#[test]
fn below_the_percentage_it_stays_closed() {
    play(&rules(), &[(0, Ends(49, Failure)), (0, Ends(51, Success)), (500, Passes)]);
}

#[test]
fn a_success_can_complete_the_volume() {
    play(&rules(), &[(0, Ends(19, Failure)), (0, Ends(1, Success)), (500, Step::Refused { after_ms: 5000 })]);
}

#[test]
fn timeouts_and_want_of_a_place_are_errors_and_what_is_void_is_nothing() {
    let opens =
        [(0, Ends(5, Timeout)), (0, Ends(5, Refused)), (0, Ends(10, Success)), (500, Step::Refused { after_ms: 5000 })];
    play(&rules(), &opens);
    play(&rules(), &[(0, Ends(100, Void)), (0, Ends(19, Failure)), (500, Passes)]);
}

#[test]
fn it_is_judged_once_in_a_snapshot() {
    let scenario = [(500, Passes), (600, Ends(20, Failure)), (999, Passes), (1000, Step::Refused { after_ms: 5000 })];
    play(&rules(), &scenario);
}

#[test]
fn without_a_snapshot_it_is_judged_at_each_request() {
    let rules = Rules { snapshot: Duration::ZERO, ..rules() };
    play(&rules, &[(1, Passes), (1, Ends(20, Failure)), (1, Step::Refused { after_ms: 5000 })]);
}

#[test]
fn what_left_the_window_counts_no_more() {
    play(&rules(), &[(0, Ends(20, Failure)), (10_000, Passes), (10_000, Ends(1, Failure)), (10_500, Passes)]);
}

#[test]
fn open_it_refuses_until_the_sleep_is_over_and_says_for_how_long() {
    play(
        &rules(),
        &[
            (0, Ends(20, Failure)),
            (500, Step::Refused { after_ms: 5000 }),
            (1500, Step::Refused { after_ms: 4000 }),
            (5500, Step::Refused { after_ms: 0 }),
            (5501, Trial(Success)),
        ],
    );
}

#[test]
fn of_all_requests_after_the_sleep_one_is_the_trial() {
    play(
        &rules(),
        &[
            (0, Ends(20, Failure)),
            (500, Step::Refused { after_ms: 5000 }),
            (6000, TrialBegins),
            (6000, Is(Circuit::HalfOpen)),
            (6001, Step::Refused { after_ms: 5000 }),
            (12_000, Step::Refused { after_ms: 5000 }),
            (12_000, TrialEnds(Success)),
            (12_000, Is(Circuit::Closed)),
            (12_001, Passes),
        ],
    );
}

#[test]
fn a_trial_that_should_long_have_ended_is_given_up_for_another() {
    play(
        &rules(),
        &[
            (0, Ends(20, Failure)),
            (500, Step::Refused { after_ms: 5000 }),
            (6000, TrialBegins),
            (12_000, Step::Refused { after_ms: 5000 }),
            (12_001, TrialBegins),
            (12_002, Step::Refused { after_ms: 5000 }),
            (12_003, TrialEnds(Success)),
            (12_003, Is(Circuit::Closed)),
            (12_004, TrialEnds(Failure)),
            (12_004, Is(Circuit::Closed)),
        ],
    );
}

#[test]
fn a_good_trial_closes_and_empties_the_window() {
    play(
        &rules(),
        &[
            (0, Ends(20, Failure)),
            (500, Step::Refused { after_ms: 5000 }),
            (5600, Trial(Success)),
            (6200, Passes),
            (6200, Ends(19, Failure)),
            (6800, Passes),
            (6800, Ends(1, Failure)),
            (7300, Step::Refused { after_ms: 5000 }),
        ],
    );
}

#[test]
fn a_trial_that_is_not_good_opens_for_another_sleep() {
    for outcome in [Failure, Timeout, Refused, Void] {
        play(
            &rules(),
            &[
                (0, Ends(20, Failure)),
                (500, Step::Refused { after_ms: 5000 }),
                (6000, Trial(outcome)),
                (6000, Is(Circuit::Open)),
                (7000, Step::Refused { after_ms: 4000 }),
                (11_001, Trial(Success)),
            ],
        );
    }
}

#[test]
fn a_straggler_decides_nothing() {
    let scenario = [
        (0, Ends(20, Failure)),
        (500, Step::Refused { after_ms: 5000 }),
        (600, Ends(50, Success)),
        (600, Is(Circuit::Open)),
        (6000, TrialBegins),
        (6001, Ends(50, Success)),
        (6001, Is(Circuit::HalfOpen)),
        (6002, TrialEnds(Failure)),
        (6002, Is(Circuit::Open)),
    ];
    play(&rules(), &scenario);
}

#[test]
fn what_was_counted_while_open_is_forgotten_by_the_good_trial() {
    let scenario = [
        (0, Ends(20, Failure)),
        (500, Step::Refused { after_ms: 5000 }),
        (5000, Ends(50, Failure)),
        (6000, Trial(Success)),
        (6500, Passes),
    ];
    play(&rules(), &scenario);
}

#[test]
fn by_force_it_is_open_or_closed() {
    let open = Rules { force: Force::Open, ..rules() };
    play(&open, &[(0, Step::Refused { after_ms: 5000 }), (99_000, Step::Refused { after_ms: 5000 })]);
    let closed = Rules { force: Force::Closed, ..rules() };
    play(&closed, &[(0, Ends(100, Failure)), (500, Passes), (500, Is(Circuit::Closed))]);
}

#[test]
fn a_process_that_was_frozen_finds_an_empty_window_and_one_trial() {
    play(&rules(), &[(0, Ends(19, Failure)), (30_000, Ends(1, Timeout)), (30_500, Passes)]);
    play(
        &rules(),
        &[
            (0, Ends(20, Failure)),
            (500, Step::Refused { after_ms: 5000 }),
            (30_500, TrialBegins),
            (30_500, Step::Refused { after_ms: 5000 }),
        ],
    );
}

#[test]
fn of_many_cores_at_once_one_gets_the_trial() {
    for _ in 0..50 {
        let breaker = Arc::new(Breaker::new(4));
        (0..20).for_each(|n| breaker.report(&rules(), n % 4, 0, false, Failure));
        assert_eq!(breaker.admit(&rules(), 500), Admission::Refused { after_ms: 5000 });
        let cores: Vec<_> = (0..4)
            .map(|_| {
                let breaker = breaker.clone();
                std::thread::spawn(move || {
                    (0..100).filter(|_| breaker.admit(&rules(), 6000) == Admission::Trial).count()
                })
            })
            .collect();
        let trials: usize = cores.into_iter().map(|core| core.join().unwrap()).sum();
        assert_eq!((trials, breaker.circuit(&rules())), (1, Circuit::HalfOpen));
        assert_eq!(breaker.opened(), 1);
    }
}
