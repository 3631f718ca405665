//! The answer to a request that only its version keeps from every route of an API: it names the versions there are.

use crate::exchange::Refusal;
use crate::observe::Flag;
use crate::plan::Plan;
use crate::route::{Captures, FieldSource, Query};

/// The request's fields as they would be with whatever version is asked for.
struct AnyVersion<'a> {
    fields: &'a dyn FieldSource,
    /// Where APIs look for versions.
    chosen_by: &'a [String],
}

impl FieldSource for AnyVersion<'_> {
    fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.chosen_by.iter().any(|field| field == name) || self.fields.any(name, test)
    }
}

/// For a request whose conditions fail; `None` if it is not the version's doing.
pub(super) fn refuse_unknown(plan: &Plan, query: &Query<'_>) -> Option<Refusal> {
    if plan.apis.chosen_by.is_empty() {
        return None;
    }
    let fields = AnyVersion { fields: query.fields, chosen_by: &plan.apis.chosen_by };
    let route = plan.table.find(&Query { fields: &fields, ..*query }, &mut Captures::default()).ok()?;
    let api = &plan.apis.list[plan.routes[route as usize].api?.api];
    let chosen_by = api.chosen_by.as_ref()?;
    // A version that there is, but not of this path: like any other path without a route.
    let mut is_said = false;
    let is_known = query.fields.any(chosen_by, &mut |value| {
        is_said = true;
        api.versions.iter().any(|version| version.name.as_bytes() == value)
    });
    if is_known || (!is_said && api.has_default) {
        return None;
    }
    let refusal = Refusal::new(Flag::NoRoute, "no version of the API is the one asked for");
    Some(Refusal { code: "unknown_version", versions: Some(api.versions_json.clone()), ..refusal })
}
