//! The APIs of a plan: names for logs and metrics, and what a request with an unknown version is told.

use std::sync::Arc;

use ringway_config::snapshot::{ApiUse, Snapshot, VersionBy};

use crate::filter::{Filter, VersionNotice};

#[derive(Default)]
pub struct Apis {
    /// In the snapshot's order.
    pub list: Vec<ApiPlan>,
    /// The header fields by which some API chooses its version.
    pub headers: Vec<String>,
    /// A query string that says every version of every API which chooses by query.
    pub every_query: String,
}

pub struct ApiPlan {
    pub name: Arc<str>,
    /// In the snapshot's order.
    pub versions: Vec<VersionPlan>,
    pub by: VersionBy,
    /// A request that says none has a version all the same.
    pub has_default: bool,
    /// `["v1","v2"]`; a name has no character to escape.
    pub versions_json: String,
}

pub struct VersionPlan {
    pub name: Arc<str>,
    /// For its routes.
    notice: Option<Arc<dyn Filter>>,
}

impl Apis {
    pub(super) fn new(snapshot: &Snapshot) -> Apis {
        let list = snapshot.apis.iter().map(|api| {
            let versions = api.versions.iter().map(|version| VersionPlan {
                name: version.name.as_str().into(),
                notice: VersionNotice::new(version).map(|notice| Arc::new(notice) as Arc<dyn Filter>),
            });
            let names: Vec<String> = api.versions.iter().map(|version| format!("\"{}\"", version.name)).collect();
            ApiPlan {
                name: api.name.as_str().into(),
                versions: versions.collect(),
                by: api.by.clone(),
                has_default: api.default.is_some(),
                versions_json: format!("[{}]", names.join(",")),
            }
        });
        let headers = snapshot.apis.iter().filter_map(|api| match &api.by {
            VersionBy::Header(name) => Some(name.clone()),
            VersionBy::Path | VersionBy::Query(_) => None,
        });
        let every_query = snapshot.apis.iter().filter_map(|api| match &api.by {
            VersionBy::Query(name) => Some((encoded(name), &api.versions)),
            VersionBy::Path | VersionBy::Header(_) => None,
        });
        let every_query: Vec<String> = every_query
            .flat_map(|(name, versions)| versions.iter().map(move |version| format!("{name}={}", version.name)))
            .collect();
        Apis { list: list.collect(), headers: headers.collect(), every_query: every_query.join("&") }
    }

    /// The names of an API and its version.
    pub fn names(&self, of: ApiUse) -> (&Arc<str>, &Arc<str>) {
        let api = &self.list[of.api];
        (&api.name, &api.versions[of.version].name)
    }

    pub fn has_notice(&self, of: Option<ApiUse>) -> bool {
        self.notice(of).is_some()
    }

    /// What the routes of a version run before their policies.
    pub(super) fn notice(&self, of: Option<ApiUse>) -> Option<Arc<dyn Filter>> {
        self.list[of?.api].versions[of?.version].notice.clone()
    }
}

/// For a query string; versions have no character to encode.
fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
