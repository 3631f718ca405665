//! Tables of a side-by-side run, in markdown.

use std::fmt::Write;

use crate::case::{CASES, Case, LATENCY_ARMS, LATENCY_LOADS_PERCENT};
use crate::rounds::latency_case;
use crate::stats::{Estimate, median};
use crate::trial::Trial;

/// The arm that the others are set against.
pub const OURS: &str = "ringway";
/// Said of runs that do not count.
const BOUND_BY_LOAD: &str = "bound by load";

/// Trials of one arm in one case.
pub fn of<'a>(trials: &'a [Trial], case: &str, arm: &str) -> Vec<&'a Trial> {
    trials.iter().filter(|trial| trial.case == case && trial.arm == arm).collect()
}

/// Per round, what `value` says of ours and of the rival; only rounds in which both count.
pub fn paired<T>(
    trials: &[Trial],
    case: &str,
    arms: (&str, &str),
    counts: impl Fn(&Trial) -> bool,
    value: impl Fn(&Trial, &Trial) -> T,
) -> Vec<T> {
    let rivals = of(trials, case, arms.1);
    let pairs = of(trials, case, arms.0).into_iter().filter_map(|ours| {
        let rival = rivals.iter().find(|rival| rival.round == ours.round)?;
        (counts(ours) && counts(rival)).then(|| value(ours, rival))
    });
    pairs.collect()
}

pub fn markdown(trials: &[Trial]) -> String {
    let mut text = String::new();
    for case in CASES {
        if trials.iter().any(|trial| trial.case == case.name) {
            cpu_table(&mut text, case, trials);
        }
    }
    for percent in LATENCY_LOADS_PERCENT {
        let case = latency_case(percent);
        if trials.iter().any(|trial| trial.case == case) {
            latency_table(&mut text, percent, &case, trials);
        }
    }
    text
}

fn arms<'a>(trials: &'a [Trial], case: &str) -> Vec<&'a str> {
    let mut arms: Vec<&str> = Vec::new();
    for trial in trials.iter().filter(|trial| trial.case == case) {
        if !arms.contains(&trial.arm.as_str()) {
            arms.push(&trial.arm);
        }
    }
    arms
}

fn cpu_table(text: &mut String, case: &Case, trials: &[Trial]) {
    let base = case.base();
    line(text, format_args!("\n### {} (`{}`)\n", case.title, case.name));
    line(
        text,
        format_args!(
            "| arm | CPU µs/request | requests per core-second | {base} / it [95 %] | user/system µs | gateway busy | \
             core 0 | core 1 | p50 µs | p99 µs | calib ns | MB | runs | remarks |"
        ),
    );
    line(text, format_args!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"));
    let mut rows: Vec<(f64, String)> = arms(trials, case.name)
        .into_iter()
        .map(|arm| {
            let runs = of(trials, case.name, arm);
            let worked: Vec<&Trial> = runs.iter().copied().filter(|trial| trial.worked()).collect();
            (middle(&worked, |trial| trial.us_per_request), cpu_row(trials, case, arm, &runs, &worked))
        })
        .collect();
    rows.sort_by(|left, right| left.0.total_cmp(&right.0));
    rows.iter().for_each(|(_, row)| line(text, format_args!("{row}")));
}

fn cpu_row(trials: &[Trial], case: &Case, arm: &str, runs: &[&Trial], worked: &[&Trial]) -> String {
    if worked.is_empty() {
        return format!("| {arm} | - | - | - | - | - | - | - | - | - | - | - | 0/{} | {} |", runs.len(), remarks(runs));
    }
    let of = |value: fn(&Trial) -> f64| middle(worked, value);
    let us = of(|trial| trial.us_per_request);
    let (least, most) = range(worked, |trial| trial.us_per_request);
    let ratio = if arm == case.base() {
        "1".to_owned()
    } else {
        let ratio = |ours: &Trial, rival: &Trial| ours.us_per_request / rival.us_per_request;
        let ratios = paired(trials, case.name, (case.base(), arm), Trial::counts, ratio);
        Estimate::of(&ratios).map_or("-".to_owned(), |estimate| estimate_text(&estimate))
    };
    format!(
        "| {arm} | {us:.2} ({least:.2}..{most:.2}) | {:.0} | {ratio} | {:.1}/{:.1} | {:.0} % | {:.0} % | {:.0} % | {:.0} | \
         {:.0} | {:.0} | {:.0} | {}/{} | {} |",
        1e6 / us,
        of(|trial| trial.user_us),
        of(|trial| trial.system_us),
        of(|trial| trial.gateway_busy) * 100.0,
        of(|trial| trial.gateway_core_busy) * 100.0,
        of(|trial| trial.load_core_busy) * 100.0,
        of(|trial| trial.load.p50_us),
        of(|trial| trial.load.p99_us),
        of(|trial| trial.calib_ns),
        of(|trial| trial.resident_mb),
        worked.len(),
        runs.len(),
        remarks(runs),
    )
}

fn latency_table(text: &mut String, percent: u32, case: &str, trials: &[Trial]) {
    let rate = trials.iter().filter(|trial| trial.case == case).find_map(|trial| trial.rate).unwrap_or(0.0);
    line(
        text,
        format_args!(
            "\n### Latency at a constant {rate:.0} requests/s, {percent} % of the slowest's capacity (`{case}`)\n"
        ),
    );
    line(
        text,
        format_args!("| arm | p50 µs | p99 µs | p99 added µs [95 %] | p99.9 µs | max µs | core 0 | runs | remarks |"),
    );
    line(text, format_args!("|---|---|---|---|---|---|---|---|---|"));
    for arm in LATENCY_ARMS {
        let runs = of(trials, case, arm);
        let worked: Vec<&Trial> = runs.iter().copied().filter(|trial| trial.worked()).collect();
        if runs.is_empty() {
            continue;
        }
        let of = |value: fn(&Trial) -> f64| middle(&worked, value);
        let added = |arm: &Trial, direct: &Trial| arm.load.p99_us - direct.load.p99_us;
        let added = paired(trials, case, (arm, "direct"), Trial::counts_for_latency, added);
        let added = Estimate::of(&added).filter(|_| arm != "direct");
        line(
            text,
            format_args!(
                "| {arm} | {:.0} | {:.0} | {} | {:.0} | {:.0} | {:.0} % | {}/{} | {} |",
                of(|trial| trial.load.p50_us),
                of(|trial| trial.load.p99_us),
                added.map_or("-".to_owned(), |added| format!(
                    "{:.0} [{:.0}..{:.0}]",
                    added.median, added.low, added.high
                )),
                of(|trial| trial.load.p999_us),
                of(|trial| trial.load.max_us),
                of(|trial| trial.gateway_core_busy) * 100.0,
                worked.len(),
                runs.len(),
                remarks(&runs),
            ),
        );
    }
}

pub fn estimate_text(estimate: &Estimate) -> String {
    format!("{:.3} [{:.3}..{:.3}], {} pairs", estimate.median, estimate.low, estimate.high, estimate.samples)
}

/// What a reader must know before believing a row.
fn remarks(runs: &[&Trial]) -> String {
    let mut remarks = Vec::new();
    let closed = || runs.iter().filter(|trial| trial.worked() && trial.rate.is_none());
    let waiting = closed().filter(|trial| !trial.saturated()).count();
    if waiting > 0 {
        remarks.push(format!("{waiting} of {} {BOUND_BY_LOAD}", closed().count()));
    }
    let disturbed = runs.iter().filter(|trial| trial.disturbed()).count();
    if disturbed > 0 {
        remarks.push(format!("{disturbed} disturbed"));
    }
    if let Some(complaint) = runs.iter().find_map(|trial| trial.complaint()) {
        remarks.push(complaint.replace('|', "/"));
    }
    remarks.join("; ")
}

fn middle(runs: &[&Trial], value: impl Fn(&Trial) -> f64) -> f64 {
    median(&runs.iter().map(|trial| value(trial)).collect::<Vec<_>>())
}

fn range(runs: &[&Trial], value: impl Fn(&Trial) -> f64) -> (f64, f64) {
    let fold = |start: f64, pick: fn(f64, f64) -> f64| runs.iter().map(|trial| value(trial)).fold(start, pick);
    (fold(f64::INFINITY, f64::min), fold(f64::NEG_INFINITY, f64::max))
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{line}");
}
