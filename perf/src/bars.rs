//! The bars: what `bars.toml` demands, held against the trials of a run.

use std::fmt;

use serde::Deserialize;

use crate::report::{OURS, estimate_text, of, paired};
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

    pub fn judge(&self, trials: &[Trial]) -> Vec<Judged> {
        self.bar.iter().map(|bar| self.judge_one(bar, trials)).collect()
    }

    fn judge_one(&self, bar: &Bar, trials: &[Trial]) -> Judged {
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
        match estimate {
            Some(estimate) if !kept(&estimate) => Verdict::Missed,
            Some(estimate) if estimate.samples >= self.pairs_min => Verdict::Kept,
            _ => Verdict::Unproven,
        }
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
