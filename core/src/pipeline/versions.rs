//! The answer to a request that only its version keeps from every route of an API: it names the versions there are.

use std::net::IpAddr;

use ringway_config::snapshot::VersionBy;

use crate::exchange::Refusal;
use crate::observe::Flag;
use crate::plan::{Apis, Plan};
use crate::route::{Captures, FieldSource, Query};

/// The request's fields as they would be with whatever version is asked for.
struct AnyVersion<'a> {
    fields: &'a dyn FieldSource,
    /// Where APIs look for versions.
    headers: &'a [String],
}

impl FieldSource for AnyVersion<'_> {
    fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.headers.iter().any(|field| field == name) || self.fields.any(name, test)
    }

    fn client_ip(&self) -> IpAddr {
        self.fields.client_ip()
    }
}

/// For a request whose conditions fail; `None` if it is not the version's doing.
pub(super) fn refuse_unknown(plan: &Plan, query: &Query<'_>) -> Option<Refusal> {
    let Apis { list, headers, every_query } = &plan.apis;
    if headers.is_empty() && every_query.is_empty() {
        return None;
    }
    let fields = AnyVersion { fields: query.fields, headers };
    let query_string = [query.query_string, every_query.as_bytes()].join(&b'&');
    let asked = Query { fields: &fields, query_string: &query_string, ..*query };
    let route = plan.table.find(&asked, &mut Captures::default()).ok()?;
    let api = &list[plan.routes[route as usize].api?.api];
    // A version that there is, but not of this path: like any other path without a route.
    let mut is_said = false;
    let mut is_version = |value: &[u8]| {
        is_said = true;
        api.versions.iter().any(|version| version.name.as_bytes() == value)
    };
    let is_known = match &api.by {
        VersionBy::Path => return None,
        VersionBy::Header(name) => query.fields.any(name, &mut is_version),
        VersionBy::Query(name) => query.any_param(name, is_version),
    };
    if is_known || (!is_said && api.has_default) {
        return None;
    }
    let refusal = Refusal::new(Flag::NoRoute, "no version of the API is the one asked for");
    Some(Refusal {
        code: "unknown_version",
        member: Some(Box::new(("versions", api.versions_json.clone()))),
        ..refusal
    })
}
