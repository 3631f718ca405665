//! Which arm of a split takes a request: the one whose conditions hold, or by its key, or by turn.

use xxhash_rust::xxh3::xxh3_64;

use super::{Fields, Serving, keys, query};
use crate::exchange::Exchange;
use crate::plan::{RoutePlan, SplitPlan};

/// The cluster's index in the plan.
pub fn choose(serving: &Serving<'_>, x: &Exchange, rule: &RoutePlan, split: &SplitPlan) -> usize {
    let bytes = x.request_bytes.bytes();
    let pinned = split.pins.as_ref().and_then(|pins| {
        let fields = Fields { serving, request: &x.request, bytes };
        pins.pick(&query(serving, &x.request, &x.path.bytes, bytes, &fields))
    });
    let key = || keys::hash(serving, x, rule, split.on.as_ref()?);
    let by_weight = || match key() {
        // Salted, so that the same clients are not the first to move in every split.
        Some(key) => split.weights.by_key(xxh3_64(&(key ^ split.salt).to_le_bytes())),
        None => split.weights.by_turn(&serving.adopted.turns[split.number]),
    };
    split.clusters[pinned.unwrap_or_else(by_weight)]
}
