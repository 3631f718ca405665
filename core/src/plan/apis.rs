//! The APIs of a plan: names for logs and metrics, and what a request with an unknown version is told.

use std::sync::Arc;

use ringway_config::snapshot::{ApiUse, Snapshot, VersionBy};

use crate::filter::{Filter, VersionNotice};

#[derive(Default)]
pub struct Apis {
    /// In the snapshot's order.
    pub list: Vec<ApiPlan>,
    /// The fields by which some API chooses its version, as conditions name them; each once.
    pub chosen_by: Vec<String>,
}

pub struct ApiPlan {
    pub name: Arc<str>,
    /// In the snapshot's order.
    pub versions: Vec<VersionPlan>,
    /// The field that chooses, as conditions name it; `None`: the path does.
    pub chosen_by: Option<String>,
    /// A request without that field has a version all the same.
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
                chosen_by: field(&api.by),
                has_default: api.default.is_some(),
                versions_json: format!("[{}]", names.join(",")),
            }
        });
        let mut chosen_by: Vec<String> = snapshot.apis.iter().filter_map(|api| field(&api.by)).collect();
        chosen_by.sort_unstable();
        chosen_by.dedup();
        Apis { list: list.collect(), chosen_by }
    }

    /// The names of an API and its version.
    pub fn names(&self, of: ApiUse) -> (&Arc<str>, &Arc<str>) {
        let api = &self.list[of.api];
        (&api.name, &api.versions[of.version].name)
    }

    /// What the routes of a version run before their policies.
    pub(super) fn notice(&self, of: Option<ApiUse>) -> Option<Arc<dyn Filter>> {
        self.list[of?.api].versions[of?.version].notice.clone()
    }
}

fn field(by: &VersionBy) -> Option<String> {
    match by {
        VersionBy::Path => None,
        VersionBy::Header(name) => Some(name.clone()),
        VersionBy::Query(name) => Some(format!("?{name}")),
    }
}
