//! The bars: what `bars.toml` demands, held against the trials of a run.

use std::fmt;

use serde::Deserialize;

use crate::frozen::Frozen;
use crate::instructions::Instructions;
use crate::report::{OURS, estimate_text, of, paired};
use crate::routing::{KINDS, Lookups};
use crate::stats::{Estimate, median};
use crate::trial::Trial;

const FLOOR: &str = "l4-floor";
const DIRECT: &str = "direct";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bars {
    pairs_min: usize,
    bar: Vec<Bar>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "kind")]
enum Bar {
    Cpu {
        name: String,
        case: String,
        #[serde(default = "ours")]
        arm: String,
        against: Vec<String>,
        max: f64,
        floor: Option<f64>,
    },
    AddedP99 {
        name: String,
        case: String,
        #[serde(default = "ours")]
        arm: String,
        max_us: f64,
    },
    Latency {
        name: String,
        case: String,
        #[serde(default = "ours")]
        arm: String,
        against: String,
    },
    Cost {
        name: String,
        case: String,
        arm: String,
        against: String,
        max: f64,
        high_max: f64,
        pairs_min: usize,
    },
    Instructions {
        name: String,
        arm: String,
        against: String,
        more_max: f64,
    },
    Routing {
        name: String,
        p50_max_ns: u64,
        p99_max_ns: u64,
    },
    Frozen {
        name: String,
        arm: String,
        ratio_max: f64,
        back_s_max: f64,
        over_percent_max: f64,
        runs_min: usize,
    },
}

/// Everything that was measured.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    pub trials: Vec<Trial>,
    pub frozen: Vec<Frozen>,
    pub instructions: Vec<Instructions>,
    pub routing: Vec<Lookups>,
}

/// Which bars are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    All,
    Instructions,
    Frozen,
}

fn ours() -> String {
    OURS.to_owned()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Kept,
    Missed,
    /// Too few runs that count.
    Unproven,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "kept",
            Self::Missed => "MISSED",
            Self::Unproven => "UNPROVEN",
        })
    }
}

/// One bar held against a run.
#[derive(Debug)]
pub struct Judged {
    pub name: String,
    pub demand: String,
    pub value: String,
    pub verdict: Verdict,
}

impl Bars {
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    pub fn judge(&self, of: Of, runs: &Runs) -> Vec<Judged> {
        let asked_for = |bar: &&Bar| match of {
            Of::All => true,
            Of::Instructions => matches!(bar, Bar::Instructions { .. }),
            Of::Frozen => matches!(bar, Bar::Frozen { .. }),
        };
        self.bar.iter().filter(asked_for).map(|bar| self.judge_one(bar, runs)).collect()
    }

    fn judge_one(&self, bar: &Bar, runs: &Runs) -> Judged {
        let trials = &runs.trials[..];
        match bar {
            Bar::Cpu { name, case, arm, against, max, floor } => {
                let Some(best) = best(trials, case, against) else {
                    let demand = format!("at most {max} of {}", against.join(", "));
                    let (name, value, verdict) = (name.clone(), "no runs".to_owned(), Verdict::Unproven);
                    return Judged { name, demand, value, verdict };
                };
                let mut judged = self.cpu(trials, case, (arm, best), *max);
                if let (Some(floor), true) = (floor, judged.verdict != Verdict::Kept) {
                    let by_floor = self.cpu(trials, case, (arm, FLOOR), *floor);
                    judged.demand = format!("{} or {}", judged.demand, by_floor.demand);
                    judged.value = format!("{}; of the floor {}", judged.value, by_floor.value);
                    judged.verdict = match (judged.verdict, by_floor.verdict) {
                        (_, Verdict::Kept) => Verdict::Kept,
                        (Verdict::Missed, Verdict::Missed) => Verdict::Missed,
                        _ => Verdict::Unproven,
                    };
                }
                Judged { name: name.clone(), ..judged }
            }
            Bar::AddedP99 { name, case, arm, max_us } => {
                let added = |arm: &Trial, direct: &Trial| arm.load.p99_us - direct.load.p99_us;
                let added = paired(trials, case, (arm, DIRECT), Trial::counts_for_latency, added);
                let estimate = Estimate::of(&added);
                Judged {
                    name: name.clone(),
                    demand: format!("{arm} adds less than {max_us} µs"),
                    value: estimate.map_or("no runs".to_owned(), |added| {
                        format!("{:.0} [{:.0}..{:.0}] µs, {} pairs", added.median, added.low, added.high, added.samples)
                    }),
                    verdict: self.verdict(estimate, |added| added.median < *max_us),
                }
            }
            Bar::Latency { name, case, arm, against } => self.tail(trials, name, case, (arm, against)),
            Bar::Cost { name, case, arm, against, max, high_max, pairs_min } => {
                let ratio = |arm: &Trial, other: &Trial| arm.us_per_request / other.us_per_request;
                let estimate = Estimate::of(&paired(trials, case, (arm, against), Trial::counts, ratio));
                let kept = |ratio: &Estimate| ratio.median <= *max && ratio.high <= *high_max;
                Judged {
                    name: name.clone(),
                    demand: format!("{arm} at most {max} of {against}, at the interval's upper end {high_max}"),
                    value: estimate.as_ref().map_or("no runs that count".to_owned(), estimate_text),
                    verdict: verdict_from(*pairs_min, estimate, kept),
                }
            }
            Bar::Instructions { name, arm, against, more_max } => {
                instructions(&runs.instructions, name, (arm, against), *more_max)
            }
            Bar::Routing { name, p50_max_ns, p99_max_ns } => routing(&runs.routing, name, *p50_max_ns, *p99_max_ns),
            Bar::Frozen { name, arm, ratio_max, back_s_max, over_percent_max, runs_min } => {
                let fit = |run: &&Frozen| run.frozen_arm == *arm && !run.disturbed();
                let of_arm: Vec<&Frozen> = runs.frozen.iter().filter(fit).collect();
                let limits = (*ratio_max, *back_s_max, *over_percent_max);
                frozen(&of_arm, name, limits, *runs_min)
            }
        }
    }

    fn cpu(&self, trials: &[Trial], case: &str, arms: (&str, &str), max: f64) -> Judged {
        let ratios = paired(trials, case, arms, Trial::counts, |arm, rival| arm.us_per_request / rival.us_per_request);
        let estimate = Estimate::of(&ratios);
        Judged {
            name: String::new(),
            demand: format!("{} at most {max} of {}", arms.0, arms.1),
            value: estimate.as_ref().map_or("no runs that count".to_owned(), estimate_text),
            verdict: self.verdict(estimate, |ratio| ratio.median <= max),
        }
    }

    fn tail(&self, trials: &[Trial], name: &str, case: &str, arms: (&str, &str)) -> Judged {
        let ratio = |value: fn(&Trial) -> f64| {
            Estimate::of(&paired(trials, case, arms, Trial::counts_for_latency, |arm, rival| value(arm) / value(rival)))
        };
        let quantiles = [("p99", ratio(|trial| trial.load.p99_us)), ("p99.9", ratio(|trial| trial.load.p999_us))];
        let verdicts = quantiles.map(|(_, estimate)| self.verdict(estimate, |ratio| ratio.low <= 1.0));
        let values = quantiles.map(|(quantile, estimate)| {
            format!("{quantile} {}", estimate.as_ref().map_or("no runs".to_owned(), estimate_text))
        });
        Judged {
            name: name.to_owned(),
            demand: format!("p99, p99.9 of {} not above those of {} beyond the spread", arms.0, arms.1),
            value: values.join("; "),
            verdict: worst(verdicts),
        }
    }

    fn verdict(&self, estimate: Option<Estimate>, kept: impl Fn(&Estimate) -> bool) -> Verdict {
        verdict_from(self.pairs_min, estimate, kept)
    }
}

fn verdict_from(pairs_min: usize, estimate: Option<Estimate>, kept: impl Fn(&Estimate) -> bool) -> Verdict {
    match estimate {
        Some(estimate) if !kept(&estimate) => Verdict::Missed,
        Some(estimate) if estimate.samples >= pairs_min => Verdict::Kept,
        _ => Verdict::Unproven,
    }
}

fn instructions(counted: &[Instructions], name: &str, arms: (&str, &str), more_max: f64) -> Judged {
    let of = |arm: &str| counted.iter().find(|one| one.counted_arm == arm).map(|one| one.per_request);
    let both = of(arms.0).zip(of(arms.1));
    Judged {
        name: name.to_owned(),
        demand: format!("{} at most {more_max} more than {}", arms.0, arms.1),
        value: both.map_or("SKIPPED".to_owned(), |(arm, other)| format!("{arm:.0} - {other:.0} = {:.0}", arm - other)),
        verdict: match both {
            Some((arm, other)) if arm - other <= more_max => Verdict::Kept,
            Some(_) => Verdict::Missed,
            None => Verdict::Unproven,
        },
    }
}

fn routing(measured: &[Lookups], name: &str, p50_max_ns: u64, p99_max_ns: u64) -> Judged {
    let all = KINDS.iter().all(|kind| measured.iter().any(|one| one.route_kind == *kind));
    let value: Vec<String> =
        measured.iter().map(|one| format!("{} {}, {}", one.route_kind, one.p50_ns, one.p99_ns)).collect();
    Judged {
        name: name.to_owned(),
        demand: format!("p50 at most {p50_max_ns} ns, p99 {p99_max_ns}, for each kind of pattern"),
        value: if value.is_empty() { "no runs".to_owned() } else { value.join("; ") },
        verdict: match measured.iter().all(|one| one.p50_ns <= p50_max_ns && one.p99_ns <= p99_max_ns) {
            false => Verdict::Missed,
            true if all => Verdict::Kept,
            true => Verdict::Unproven,
        },
    }
}

/// `limits`: of p99 to the normal one, seconds until then, percent of the later slices that may be above it once more
/// than before the freeze (a busy machine has such slices by itself). Medians over the runs.
fn frozen(runs: &[&Frozen], name: &str, limits: (f64, f64, f64), runs_min: usize) -> Judged {
    let (ratio, back_s_max, over_max) = limits;
    let back: Vec<f64> = runs.iter().map(|run| run.back_s(ratio).unwrap_or(f64::INFINITY)).collect();
    let more_over = |run: &&Frozen| run.over_percent(ratio, back_s_max) - run.over_before_percent(ratio);
    let over: Vec<f64> = runs.iter().map(more_over).collect();
    let errors: u64 = runs.iter().map(|run| run.errors).sum();
    let (back_s, over_percent) = (median(&back), median(&over));
    Judged {
        name: name.to_owned(),
        demand: format!("p99 at most {ratio} times the normal one after {back_s_max} s, and no errors"),
        value: match runs {
            [] => "no runs that count".to_owned(),
            _ => format!(
                "{back_s} s, then {over_percent:.0} % more slices above it, {errors} errors, {} runs",
                runs.len()
            ),
        },
        verdict: match runs.len() {
            0 => Verdict::Unproven,
            _ if back_s > back_s_max || over_percent > over_max || errors > 0 => Verdict::Missed,
            few if few < runs_min => Verdict::Unproven,
            _ => Verdict::Kept,
        },
    }
}

fn worst(verdicts: [Verdict; 2]) -> Verdict {
    let has = |verdict| verdicts.contains(&verdict);
    match () {
        () if has(Verdict::Missed) => Verdict::Missed,
        () if has(Verdict::Unproven) => Verdict::Unproven,
        () => Verdict::Kept,
    }
}

/// The arm of those named that costs the least CPU per request.
fn best<'a>(trials: &[Trial], case: &str, against: &'a [String]) -> Option<&'a str> {
    let cost = |arm: &str| {
        let runs = of(trials, case, arm);
        median(&runs.iter().filter(|trial| trial.worked()).map(|trial| trial.us_per_request).collect::<Vec<_>>())
    };
    // The median of no runs is NaN, which total_cmp puts last.
    let best = against.iter().min_by(|left, right| cost(left).total_cmp(&cost(right)))?;
    (!cost(best).is_nan()).then_some(best)
}

pub fn markdown(judged: &[Judged]) -> String {
    let mut text = "\n| bar | demand | measured [95 %] | verdict |\n|---|---|---|---|\n".to_owned();
    for Judged { name, demand, value, verdict } in judged {
        text.push_str(&format!("| {name} | {demand} | {value} | {verdict} |\n"));
    }
    text
}

#[cfg(test)]
mod tests;
