//! APIs and their versions: what routes may name, and what a version adds to its routes.

use std::collections::HashSet;

use crate::api::{self, ApiVersion};
use crate::decode::Table;
use crate::path::VERSION;
use crate::place::Place;
use crate::problem::{Fault, Problems, quoted};
use crate::snapshot::{
    AfterSunset, Api, ApiUse, Condition, PathPattern, Route, Segment, Subject, Test, Version, VersionBy,
};

pub(super) fn check(apis: Vec<(String, Table<api::Api>)>, problems: &mut Problems) -> Vec<Api> {
    let root = Place::ROOT.key("apis");
    apis.into_iter().map(|(name, Table(keys))| check_api(name, keys, &root, problems)).collect()
}

fn check_api(name: String, keys: api::Api, root: &Place<'_>, problems: &mut Problems) -> Api {
    let place = root.key(&name);
    let below = place.key("versions");
    if keys.versions.0.is_empty() {
        problems.error(&below, Fault::new("is empty").cure("add a table for each version: [apis.NAME.versions.v1]"));
    }
    let versions = keys.versions.0.into_iter();
    let versions: Vec<Version> =
        versions.map(|(name, Table(keys))| check_version(&keys, &below.key(&name), name.clone(), problems)).collect();
    for version in versions.iter().filter(|version| matches!(version.name.as_str(), "." | "..")) {
        problems
            .error(&below.key(&version.name), Fault::new("cannot be a segment of a path").cure("name it otherwise"));
    }
    let names: Vec<&str> = versions.iter().map(|version| version.name.as_str()).collect();
    let default = keys.default.and_then(|default| {
        let here = place.key("default");
        if keys.by == VersionBy::Path {
            problems.error(&here, Fault::new("a path always says its version").cure("leave it out"));
            return None;
        }
        let found = names.iter().position(|known| *known == default);
        if found.is_none() {
            let fault = Fault::new(format!("no version named {}", quoted(&default)));
            problems.error(&here, fault.suggest(&default, "version", &names));
        }
        found
    });
    Api { by: keys.by, default, versions, name }
}

fn check_version(keys: &ApiVersion, place: &Place<'_>, name: String, problems: &mut Problems) -> Version {
    let (deprecated, sunset) = (keys.deprecated.map(|date| date.0), keys.sunset.map(|date| date.0));
    if let (Some(from), Some(end)) = (deprecated, sunset)
        && end < from
    {
        let fault = Fault::new("before `deprecated`");
        problems.error(&place.key("sunset"), fault.cure("a version is deprecated first, and ends then (RFC 9745)"));
    }
    if keys.after_sunset == AfterSunset::Gone && sunset.is_none() {
        problems.error(&place.key("after_sunset"), Fault::new("there is no sunset").cure("add sunset = 2026-06-30"));
    }
    if keys.link.is_some() && deprecated.is_none() && sunset.is_none() {
        problems.warn(&place.key("link"), Fault::new("is never sent: the version has neither deprecated nor sunset"));
    }
    Version {
        name,
        deprecated_unix_s: deprecated,
        sunset_unix_s: sunset,
        link: keys.link.as_ref().map(|link| link.0.clone()),
        after_sunset: keys.after_sunset,
    }
}

/// What a route says of an API.
pub(super) struct Named {
    pub(super) api: Option<String>,
    pub(super) version: Option<String>,
}

impl Named {
    /// The version that the route serves; `None` if it names none, or something that does not exist.
    pub(super) fn resolve(self, apis: &[Api], place: &Place<'_>, problems: &mut Problems) -> Option<ApiUse> {
        let (api, version) = match (self.api, self.version) {
            (Some(api), Some(version)) => (api, version),
            (None, None) => return None,
            (Some(_), None) => {
                problems.error(&place.key("api"), Fault::new("without a version").cure("add version = \"...\""));
                return None;
            }
            (None, Some(_)) => {
                problems.error(&place.key("version"), Fault::new("without an API").cure("add api = \"...\""));
                return None;
            }
        };
        let Ok(found) = apis.binary_search_by(|known| known.name.cmp(&api)) else {
            let names: Vec<&str> = apis.iter().map(|api| api.name.as_str()).collect();
            let fault = Fault::new(format!("no API named {}", quoted(&api)));
            let fault = match names.is_empty() {
                true => fault.cure("add a table [apis.NAME] with by and versions"),
                false => fault.suggest(&api, "API", &names),
            };
            problems.error(&place.key("api"), fault);
            return None;
        };
        let names: Vec<&str> = apis[found].versions.iter().map(|version| version.name.as_str()).collect();
        let Some(at) = names.iter().position(|known| *known == version) else {
            let fault = Fault::new(format!("API {api:?} has no version {}", quoted(&version)));
            problems.error(&place.key("version"), fault.suggest(&version, "version", &names));
            return None;
        };
        Some(ApiUse { api: found, version: at })
    }
}

/// Makes the route one of its version: by its path, or by a condition that is added.
pub(super) fn apply(
    used: Option<ApiUse>,
    apis: &[Api],
    path: &mut PathPattern,
    conditions: Option<&mut Vec<Condition>>,
    place: &Place<'_>,
    problems: &mut Problems,
) {
    let by_path = used.map(|used| (&apis[used.api], used.version)).filter(|(api, _)| api.by == VersionBy::Path);
    let is_prefix = matches!(path, PathPattern::Prefix(_));
    match (by_path, is_prefix) {
        (Some((api, version)), _) => {
            if !name_version(path, &api.versions[version].name) {
                let fault =
                    Fault::new(format!("API {:?} has its version in the path, and the path does not", api.name));
                problems
                    .error(place, fault.cure("write {version} where it stands: path_prefix = \"/{version}/users\""));
            }
        }
        // Only an API by path gives `{version}` in a prefix a meaning; in a path it is a parameter like any other.
        (None, true) => {
            if let PathPattern::Prefix(literals) = path
                && literals.iter().any(|literal| literal == VERSION)
            {
                let fault = Fault::new("a prefix has no parameters, and {version} is one without an API by path");
                problems.error(&place.key("path_prefix"), fault.cure("write path = \"/{version}/{*rest}\""));
            }
        }
        (None, false) => {}
    }
    let Some(used) = used else { return };
    let (api, name) = (&apis[used.api], &apis[used.api].versions[used.version].name);
    let subject = match &api.by {
        VersionBy::Path => return,
        VersionBy::Header(header) => Subject::Header(header.clone()),
        VersionBy::Query(name) => Subject::Query(name.clone()),
    };
    let says = Condition::Is(subject.clone(), Test::Equals(name.clone()));
    let says_nothing = || Condition::Not(Box::new(Condition::Is(subject, Test::Present)));
    let condition = match api.default == Some(used.version) {
        true => Condition::Any(vec![says, says_nothing()]),
        false => says,
    };
    if let Some(conditions) = conditions {
        conditions.push(condition);
    }
}

/// Puts the version where `{version}` stands; false if it stands nowhere.
fn name_version(path: &mut PathPattern, name: &str) -> bool {
    let mut found = false;
    match path {
        PathPattern::Expression(_) => {}
        PathPattern::Prefix(literals) => {
            for literal in literals.iter_mut().filter(|literal| *literal == VERSION) {
                name.clone_into(literal);
                found = true;
            }
        }
        PathPattern::Segments(segments) => {
            for segment in segments {
                if matches!(segment, Segment::Param(param) if param == "version") {
                    *segment = Segment::Literal(name.to_owned());
                    found = true;
                }
            }
        }
    }
    found
}

pub(super) fn warn_unused(apis: &[Api], routes: &[Route], problems: &mut Problems) {
    let used: HashSet<(usize, usize)> =
        routes.iter().filter_map(|route| route.api).map(|used| (used.api, used.version)).collect();
    let named: HashSet<usize> = used.iter().map(|(api, _)| *api).collect();
    let root = Place::ROOT.key("apis");
    for (index, api) in apis.iter().enumerate() {
        let place = root.key(&api.name);
        if !named.contains(&index) {
            problems.warn(&place, Fault::new("no route names this API"));
            continue;
        }
        let below = place.key("versions");
        for (at, version) in api.versions.iter().enumerate().filter(|(at, _)| !used.contains(&(index, *at))) {
            let what = if api.default == Some(at) { ", and it is the default" } else { "" };
            problems.warn(&below.key(&version.name), Fault::new(format!("no route serves this version{what}")));
        }
    }
}
