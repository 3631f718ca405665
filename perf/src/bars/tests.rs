//! The bars as shipped, and each verdict a bar can come to.

use super::*;
use crate::latency::LoadReport;

const SHIPPED: &str = include_str!("../../bars.toml");

fn trials(case: &str, arm: &str, us_per_request: f64, busy: f64, rounds: usize) -> Vec<Trial> {
    let load = LoadReport { requests: 1000, p99_us: us_per_request, p999_us: us_per_request, ..LoadReport::default() };
    let trial = |round| Trial {
        case: case.to_owned(),
        arm: arm.to_owned(),
        round,
        us_per_request,
        gateway_core_busy: busy,
        load: load.clone(),
        ..Trial::default()
    };
    (0..rounds).map(trial).collect()
}

fn cpu_bar(against: &str, floor: &str) -> Bars {
    let bar = format!(
        "pairs_min = 3\n[[bar]]\nname = 'b'\nkind = 'cpu'\ncase = 'c'\nagainst = {against}\nmax = 0.8\n{floor}"
    );
    Bars::parse(&bar).expect("a bar")
}

fn verdict(bars: &Bars, runs: &[Vec<Trial>]) -> Verdict {
    judged(bars, Runs { trials: runs.concat(), ..Runs::default() })
}

fn judged(bars: &Bars, runs: Runs) -> Verdict {
    bars.judge(Of::All, &runs)[0].verdict
}

#[test]
fn the_shipped_bars_name_cases_and_arms_that_exist() {
    let bars = Bars::parse(SHIPPED).expect("bars.toml");
    assert!(bars.pairs_min >= 9);
    for bar in &bars.bar {
        let (case, arms) = match bar {
            Bar::Cpu { case, arm, against, .. } => {
                let case = crate::case::Case::named(case).expect("a case");
                let arms: Vec<&str> = against.iter().chain([arm]).map(String::as_str).collect();
                for arm in &arms {
                    let peer = crate::peer::Peer::named(arm).expect("an arm");
                    assert!(peer.takes_part_in(case), "{arm} in {}", case.name);
                }
                continue;
            }
            Bar::Cost { case, arm, against, .. } => {
                let case = crate::case::Case::named(case).expect("a case");
                for arm in [arm, against] {
                    let peer = crate::peer::Peer::named(arm).expect("an arm");
                    assert!(peer.takes_part_in(case), "{arm} in {}", case.name);
                }
                continue;
            }
            Bar::Instructions { arm, against, .. } => {
                assert!([arm, against].iter().all(|arm| crate::instructions::ARMS.contains(&arm.as_str())));
                continue;
            }
            Bar::Routing { p50_max_ns, p99_max_ns, .. } => {
                assert!(p50_max_ns <= p99_max_ns);
                continue;
            }
            Bar::Frozen { arm, .. } => {
                assert!(crate::frozen::ARMS.contains(&arm.as_str()));
                continue;
            }
            Bar::AddedP99 { case, arm, .. } => (case, vec![arm]),
            Bar::Latency { case, arm, against, .. } => (case, vec![arm, against]),
        };
        let cases = crate::case::LATENCY_LOADS_PERCENT.map(crate::rounds::latency_case);
        assert!(cases.contains(case), "{case}");
        assert!(arms.iter().all(|arm| crate::case::LATENCY_ARMS.contains(&arm.as_str())), "{arms:?}");
    }
}

#[test]
fn a_ratio_is_kept_missed_or_unproven() {
    let bars = cpu_bar("['nginx']", "");
    let rival = trials("c", "nginx", 10.0, 1.0, 3);
    assert_eq!(verdict(&bars, &[trials("c", OURS, 8.0, 1.0, 3), rival.clone()]), Verdict::Kept);
    assert_eq!(verdict(&bars, &[trials("c", OURS, 8.1, 1.0, 3), rival.clone()]), Verdict::Missed);
    assert_eq!(verdict(&bars, &[trials("c", OURS, 8.0, 1.0, 2), rival.clone()]), Verdict::Unproven);
    assert_eq!(verdict(&bars, &[rival]), Verdict::Unproven);
}

#[test]
fn runs_bound_by_the_load_do_not_count() {
    let bars = cpu_bar("['nginx']", "");
    let ours = trials("c", OURS, 5.0, 1.0, 3);
    assert_eq!(verdict(&bars, &[ours, trials("c", "nginx", 10.0, 0.94, 3)]), Verdict::Unproven);
}

#[test]
fn runs_with_errors_do_not_count() {
    let bars = cpu_bar("['nginx']", "");
    let mut ours = trials("c", OURS, 5.0, 1.0, 3);
    ours[1].load.errors = 1;
    assert_eq!(verdict(&bars, &[ours, trials("c", "nginx", 10.0, 1.0, 3)]), Verdict::Unproven);
}

#[test]
fn disturbed_runs_do_not_count() {
    let bars = cpu_bar("['nginx']", "");
    let mut ours = trials("c", OURS, 5.0, 1.0, 3);
    ours[2].foreign = 0.2;
    assert_eq!(verdict(&bars, &[ours, trials("c", "nginx", 10.0, 1.0, 3)]), Verdict::Unproven);
}

#[test]
fn the_better_rival_is_the_measure() {
    let bars = cpu_bar("['nginx', 'haproxy']", "");
    let ours = trials("c", OURS, 8.0, 1.0, 3);
    let rivals = [trials("c", "nginx", 20.0, 1.0, 3), trials("c", "haproxy", 9.0, 1.0, 3)].concat();
    assert_eq!(verdict(&bars, &[ours, rivals]), Verdict::Missed);
}

#[test]
fn near_the_floor_is_good_enough_where_the_bar_says_so() {
    let bars = cpu_bar("['nginx']", "floor = 1.12");
    let runs = |floor_us| {
        [trials("c", OURS, 9.0, 1.0, 3), trials("c", "nginx", 10.0, 1.0, 3), trials("c", FLOOR, floor_us, 1.0, 3)]
    };
    assert_eq!(verdict(&bars, &runs(8.5)), Verdict::Kept);
    assert_eq!(verdict(&bars, &runs(8.0)), Verdict::Missed);
}

#[test]
fn a_tail_may_be_above_the_rivals_only_within_the_spread() {
    let text = "pairs_min = 3\n[[bar]]\nname = 'b'\nkind = 'latency'\ncase = 'c'\nagainst = 'haproxy'";
    let bars = Bars::parse(text).expect("a bar");
    let rival = trials("c", "haproxy", 100.0, 0.5, 3);
    assert_eq!(verdict(&bars, &[trials("c", OURS, 101.0, 0.5, 3), rival.clone()]), Verdict::Missed);
    let mut ours = trials("c", OURS, 101.0, 0.5, 3);
    ours[0].load.p99_us = 99.0;
    ours[0].load.p999_us = 99.0;
    assert_eq!(verdict(&bars, &[ours, rival]), Verdict::Kept);
}

#[test]
fn added_latency_is_counted_above_the_direct_path() {
    let text = "pairs_min = 1\n[[bar]]\nname = 'b'\nkind = 'added_p99'\ncase = 'c'\nmax_us = 1000.0";
    let bars = Bars::parse(text).expect("a bar");
    let direct = trials("c", DIRECT, 500.0, 0.5, 1);
    assert_eq!(verdict(&bars, &[trials("c", OURS, 1400.0, 0.5, 1), direct.clone()]), Verdict::Kept);
    assert_eq!(verdict(&bars, &[trials("c", OURS, 1600.0, 0.5, 1), direct]), Verdict::Missed);
}

#[test]
fn a_cost_is_held_by_its_median_and_by_the_end_of_its_interval() {
    let text = "pairs_min = 9\n[[bar]]\nname = 'b'\nkind = 'cost'\ncase = 'c'\narm = 'a'\nagainst = 'o'\nmax = 1.03\n\
                high_max = 1.06\npairs_min = 20";
    let bars = Bars::parse(text).expect("a bar");
    let other = trials("c", "o", 10.0, 1.0, 20);
    assert_eq!(verdict(&bars, &[trials("c", "a", 10.2, 1.0, 20), other.clone()]), Verdict::Kept);
    assert_eq!(verdict(&bars, &[trials("c", "a", 10.4, 1.0, 20), other.clone()]), Verdict::Missed);
    assert_eq!(verdict(&bars, &[trials("c", "a", 10.2, 1.0, 19), other.clone()]), Verdict::Unproven);
    let mut spread = trials("c", "a", 10.2, 1.0, 20);
    spread.iter_mut().take(9).for_each(|trial| trial.us_per_request = 11.0);
    assert_eq!(verdict(&bars, &[spread, other]), Verdict::Missed, "it could as well be 10 %");
}

#[test]
fn more_instructions_than_the_bar_allows_are_too_many() {
    let text = "pairs_min = 1\n[[bar]]\nname = 'b'\nkind = 'instructions'\narm = 'a'\nagainst = 'o'\nmore_max = 800";
    let bars = Bars::parse(text).expect("a bar");
    let counted = |a: f64| {
        let one = |arm: &str, per_request| Instructions { counted_arm: arm.to_owned(), per_request };
        Runs { instructions: vec![one("a", a), one("o", 5000.0)], ..Runs::default() }
    };
    assert_eq!(judged(&bars, counted(5800.0)), Verdict::Kept);
    assert_eq!(judged(&bars, counted(5801.0)), Verdict::Missed);
    assert_eq!(judged(&bars, Runs::default()), Verdict::Unproven);
}

#[test]
fn lookups_of_each_kind_are_fast_enough() {
    let bars =
        Bars::parse("pairs_min = 1\n[[bar]]\nname = 'b'\nkind = 'routing'\np50_max_ns = 1000\np99_max_ns = 3000");
    let bars = bars.expect("a bar");
    let lookups = |kind: &str, p50_ns, p99_ns| Lookups { route_kind: kind.to_owned(), p50_ns, p99_ns, p999_ns: 9999 };
    let of = |routing| judged(&bars, Runs { routing, ..Runs::default() });
    let good = vec![lookups("exact", 1000, 3000), lookups("prefix", 1, 1), lookups("param", 1, 1)];
    assert_eq!(of(good.clone()), Verdict::Kept);
    assert_eq!(of(good[..2].to_vec()), Verdict::Unproven);
    assert_eq!(of([&good[..], &[lookups("param", 1001, 1001)]].concat()), Verdict::Missed);
    assert_eq!(of([&good[..], &[lookups("param", 1, 3001)]].concat()), Verdict::Missed);
}

#[test]
fn a_frozen_origin_is_felt_for_so_long_and_by_nobody_as_an_error() {
    let text = "pairs_min = 1\n[[bar]]\nname = 'b'\nkind = 'frozen'\narm = 'a'\nratio_max = 1.5\nback_s_max = 1.0\n\
                over_percent_max = 10\nruns_min = 1";
    let bars = Bars::parse(text).expect("a bar");
    let frozen = |bad: usize, errors| {
        let after_us = [vec![5e5; bad], vec![1e2; 10]].concat();
        let (frozen_arm, before_us) = ("a".to_owned(), vec![1e2; 4]);
        let run = Frozen { frozen_arm, before_us, after_us, foreign: 0.0, steal: 0.0, errors, first_error: None };
        Runs { frozen: vec![run], ..Runs::default() }
    };
    assert_eq!(judged(&bars, frozen(2, 0)), Verdict::Kept);
    assert_eq!(judged(&bars, frozen(3, 0)), Verdict::Missed);
    assert_eq!(judged(&bars, frozen(2, 1)), Verdict::Missed);
    let mut disturbed = frozen(3, 1);
    disturbed.frozen[0].foreign = 0.2;
    assert_eq!(judged(&bars, disturbed), Verdict::Unproven);
}

#[test]
fn an_unknown_key_is_an_error() {
    assert!(Bars::parse("pairs_min = 1\nbars = []").is_err());
}
