//! The order of a side-by-side run: in each round every arm has its turn in every case, so that what is compared was
//! measured within seconds of each other. Runs that the machine disturbed are repeated, at once and, where too few pairs
//! count in the end, in further rounds.

use std::time::Duration;

use crate::case::{CASES, Case, LATENCY_ARMS, LATENCY_CONNECTIONS, LATENCY_LOADS_PERCENT, LATENCY_PATH, ROUNDS};
use crate::peer::Peer;
use crate::report::{of, paired};
use crate::stats::median;
use crate::trial::{Asked, Bench, Times, Trial};

/// How often a disturbed run is repeated before it is kept as it is.
const REPEATS_MAX: usize = 3;
const REPEAT_PAUSE: Duration = Duration::from_secs(1);
/// The case that tells what the gateways can take before their latency is measured below that.
const CAPACITY_CASE: &str = "plain-100b-64";
const CAPACITY_ARMS: [&str; 3] = ["ringway", "haproxy", "nginx"];

pub struct Rounds {
    pub cases: Vec<&'static Case>,
    pub peers: Vec<&'static Peer>,
    /// Unset is each case's own number.
    pub rounds: Option<usize>,
    /// Further rounds for those arms that have fewer pairs that count than there were rounds; unset is as many.
    pub extra_rounds_max: Option<usize>,
    pub times: Times,
    pub latency: bool,
}

impl Rounds {
    pub fn run(&self, bench: &mut Bench, mut done: impl FnMut(&Trial)) -> Vec<Trial> {
        let mut trials = Vec::new();
        let most = self.cases.iter().map(|case| self.rounds_of(case).1).max().unwrap_or(0);
        for round in 0..most {
            for case in &self.cases {
                let (asked, (regular, with_extra)) = (case.asked(), self.rounds_of(case));
                let peers: Vec<&Peer> = match round {
                    round if round < regular => self.in_turn(case, round),
                    round if round < with_extra => self.lacking(case, self.in_turn(case, round), &trials),
                    _ => continue,
                };
                for peer in peers {
                    let trial = self.steady(bench, Some(peer), &asked);
                    let trial = Trial { case: case.name.to_owned(), arm: peer.name.to_owned(), round, ..trial };
                    done(&trial);
                    trials.push(trial);
                }
            }
        }
        if self.latency {
            self.latencies(bench, &mut trials, &mut done);
        }
        trials
    }

    /// A case's rounds, without and with the extra ones.
    fn rounds_of(&self, case: &Case) -> (usize, usize) {
        let regular = self.rounds.unwrap_or(case.rounds);
        (regular, regular + self.extra_rounds_max.unwrap_or(regular))
    }

    /// Each round begins with another arm, so that none always follows the same one.
    fn in_turn(&self, case: &Case, round: usize) -> Vec<&'static Peer> {
        let mut peers: Vec<_> = self.peers.iter().copied().filter(|peer| peer.takes_part_in(case)).collect();
        let start = round.checked_rem(peers.len()).unwrap_or(0);
        peers.rotate_left(start);
        peers
    }

    /// Those that still need pairs, and ours to pair them with.
    fn lacking(&self, case: &Case, peers: Vec<&'static Peer>, trials: &[Trial]) -> Vec<&'static Peer> {
        let (base, wanted) = (case.base(), self.rounds_of(case).0);
        let lacks = |peer: &Peer| {
            peer.name != base
                && paired(trials, case.name, (base, peer.name), Trial::counts, |_, _| ()).len() < wanted
                // One that cannot work is not asked again and again.
                && of(trials, case.name, peer.name).iter().any(|trial| trial.worked())
        };
        if !peers.iter().any(|peer| peer.name == base) || !peers.iter().any(|peer| lacks(peer)) {
            return Vec::new();
        }
        peers.into_iter().filter(|peer| peer.name == base || lacks(peer)).collect()
    }

    fn steady(&self, bench: &mut Bench, peer: Option<&Peer>, asked: &Asked) -> Trial {
        let mut trial = bench.trial(peer, asked, self.times);
        for _ in 0..REPEATS_MAX {
            if !trial.disturbed() {
                break;
            }
            std::thread::sleep(REPEAT_PAUSE);
            let again = bench.trial(peer, asked, self.times);
            // A repetition that was disturbed more is no gain.
            if again.failed.is_none() && again.foreign + again.steal < trial.foreign + trial.steal {
                trial = again;
            }
        }
        trial
    }

    fn latencies(&self, bench: &mut Bench, trials: &mut Vec<Trial>, done: &mut impl FnMut(&Trial)) {
        let Some(capacity) = self.capacity(bench, trials) else { return };
        for round in 0..self.rounds.unwrap_or(ROUNDS) {
            for percent in LATENCY_LOADS_PERCENT {
                let rate = (capacity * f64::from(percent) / 100.0).floor();
                let asked = Asked::Open { path: LATENCY_PATH, connections: LATENCY_CONNECTIONS, rate };
                for arm in LATENCY_ARMS {
                    let peer = self.peers.iter().find(|peer| peer.name == arm);
                    if peer.is_none() && arm != "direct" {
                        continue;
                    }
                    let trial = self.steady(bench, peer.copied(), &asked);
                    let trial = Trial { case: latency_case(percent), arm: arm.to_owned(), round, ..trial };
                    done(&trial);
                    trials.push(trial);
                }
            }
        }
    }

    /// Requests per second of the slowest of the arms whose latency is compared, from what was measured already or from
    /// one run each.
    fn capacity(&self, bench: &mut Bench, trials: &[Trial]) -> Option<f64> {
        let case = CASES.iter().find(|case| case.name == CAPACITY_CASE)?;
        let asked = case.asked();
        let of_arm = |peer: &Peer, bench: &mut Bench| {
            let runs = of(trials, CAPACITY_CASE, peer.name);
            let qps = |fit: fn(&Trial) -> bool| {
                let fit = runs.iter().filter(|trial| fit(trial)).map(|trial| trial.load.qps).collect::<Vec<_>>();
                (!fit.is_empty()).then(|| median(&fit))
            };
            // A disturbed run shows less than the gateway can, but more than nothing.
            qps(Trial::counts)
                .or_else(|| qps(Trial::worked))
                .unwrap_or_else(|| self.steady(bench, Some(peer), &asked).load.qps)
        };
        let arms = self.peers.iter().filter(|peer| CAPACITY_ARMS.contains(&peer.name));
        let capacities: Vec<f64> = arms.map(|peer| of_arm(peer, bench)).filter(|qps| *qps > 0.0).collect();
        capacities.into_iter().min_by(f64::total_cmp)
    }
}

/// The name under which latency at a share of the capacity is kept.
pub fn latency_case(percent: u32) -> String {
    format!("latency-{percent}")
}
