//! What a scrape shows of limits: gathered from the plan that serves. Limits nothing itself (`filter`).

use crate::filter::{LimitSpec, PlacesSpec};
use crate::mesh::budget::Counts;
use crate::observe::{FleetFacts, LimitFacts};
use crate::plan::Plan;

pub fn facts(plan: &Plan) -> Vec<LimitFacts> {
    let rate = |spec: &LimitSpec| {
        let counts = &spec.rule.counts;
        let fleet = spec.fleet.as_ref().map(|fleet| FleetFacts {
            redis: fleet.redis.clone(),
            gateways: fleet.node.gateways.get(),
            lent: counts.lent.get(),
            refused: counts.refused.get(),
            failed: counts.failed.get(),
        });
        LimitFacts { fleet, ..of(&spec.name, counts, spec.keys()) }
    };
    let places = |spec: &PlacesSpec| spec.node.as_ref().map(|node| of(&spec.name, &node.counts, spec.keys()));
    let rates = plan.gathered.numbers.limits.iter().map(|spec| rate(spec));
    rates.chain(plan.gathered.numbers.places.iter().filter_map(|spec| places(spec))).collect()
}

fn of(name: &str, counts: &Counts, keys: usize) -> LimitFacts {
    LimitFacts {
        name: name.to_owned(),
        allowed: counts.allowed.get(),
        denied: counts.denied.get(),
        delayed: counts.delayed.get(),
        overflowed: counts.overflowed.get(),
        keys: keys as u64,
        fleet: None,
    }
}
