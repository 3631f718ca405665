//! Policies and who names them: every name exists, nothing stands there for nothing.

use std::collections::{HashMap, HashSet};

use super::clusters;
use crate::decode::Table;
use crate::place::Place;
use crate::policy::{PolicyNames, Shared};
use crate::problem::{Fault, Problems, quoted};
use crate::snapshot::{Group, HostEntry, HostPattern, Listener, Policy, Route, Settings};

/// The names that a list of policies may hold, in the snapshot's order.
pub(super) struct Known {
    names: Vec<String>,
    indices: HashMap<String, usize>,
}

/// What routes share, checked.
pub(super) struct Checked {
    pub(super) policies: Vec<Policy>,
    pub(super) hosts: Vec<HostEntry>,
    pub(super) groups: Vec<Group>,
    pub(super) known: Known,
}

pub(super) fn check(shared: Shared, problems: &mut Problems) -> Checked {
    let known = Known::new(shared.policies.iter().map(|(name, _)| name));
    let root = Place::ROOT.key("policies");
    let mut policies = Vec::with_capacity(shared.policies.len());
    for (name, Table(keys)) in shared.policies {
        let place = root.key(&name);
        let settings = Settings {
            body_bytes_max: keys.body_bytes_max.map(|size| size.u64()),
            total_timeout: keys.total_timeout.map(|time| time.duration()),
            retry: keys.retry.map(|Table(keys)| clusters::retry(keys, &place.key("retry"), problems)),
            hedge: keys.hedge.map(|Table(keys)| clusters::hedge(&keys)),
        };
        policies.push(Policy { filters: keys.filters.0, settings, required: keys.required, name });
    }
    let root = Place::ROOT.key("hosts");
    let hosts = shared.hosts.into_iter().map(|(host, Table(keys))| {
        let text = host.to_string();
        let place = root.key(&text);
        if keys.policies.0.is_empty() {
            problems.warn(&place, Fault::new("says nothing").cure("name policies, or remove it"));
        }
        HostEntry { policies: known.resolve(&keys.policies, &place.key("policies"), problems), host }
    });
    let hosts = hosts.collect();
    let root = Place::ROOT.key("groups");
    let checked = &policies;
    let groups = shared.groups.into_iter().map(|(name, Table(keys))| {
        let place = root.key(&name);
        let policies = known.resolve(&keys.policies, &place.key("policies"), problems);
        let without = known.resolve(&keys.without, &place.key("without"), problems);
        refuse_required(checked, &without, &place, problems);
        Group { name, policies, without }
    });
    let groups = groups.collect();
    Checked { policies, hosts, groups, known }
}

/// What may not be left out. `place`: of the group or route.
pub(super) fn refuse_required(policies: &[Policy], without: &[usize], place: &Place<'_>, problems: &mut Problems) {
    for policy in without.iter().map(|policy| &policies[*policy]).filter(|policy| policy.required) {
        let fault = Fault::new(format!("{:?} is required", policy.name));
        problems.error(&place.key("without"), fault.cure("say public = true on routes that anybody may ask"));
    }
}

impl Known {
    fn new<'a>(names: impl Iterator<Item = &'a String>) -> Known {
        let names: Vec<String> = names.cloned().collect();
        let indices = names.iter().enumerate().map(|(index, name)| (name.clone(), index)).collect();
        Known { names, indices }
    }

    /// Their indices; what is unknown or named twice is reported.
    pub(super) fn resolve(&self, names: &PolicyNames, place: &Place<'_>, problems: &mut Problems) -> Vec<usize> {
        let mut found = Vec::with_capacity(names.0.len());
        for (index, name) in names.0.iter().enumerate() {
            let fault = match self.indices.get(name).copied() {
                Some(policy) if found.contains(&policy) => Fault::new(format!("{} is named twice", quoted(name))),
                Some(policy) => {
                    found.push(policy);
                    continue;
                }
                None => self.unknown(name),
            };
            problems.error(&place.index(index), fault);
        }
        found
    }

    fn unknown(&self, name: &str) -> Fault {
        let fault = Fault::new(format!("no policy named {}", quoted(name)));
        if self.names.is_empty() {
            return fault.cure("add a table [policies.NAME] with filters");
        }
        fault.suggest(name, "policy", &self.names.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

impl Checked {
    /// The group of a route.
    pub(super) fn group(&self, name: &str, place: &Place<'_>, problems: &mut Problems) -> Option<usize> {
        let found = self.groups.binary_search_by(|group| group.name.as_str().cmp(name)).ok();
        if found.is_none() {
            let fault = Fault::new(format!("no group named {}", quoted(name)));
            let names: Vec<&str> = self.groups.iter().map(|group| group.name.as_str()).collect();
            let fault = match names.is_empty() {
                true => fault.cure("add a table [groups.NAME] with policies"),
                false => fault.suggest(name, "group", &names),
            };
            problems.error(place, fault);
        }
        found
    }

    /// Policies and groups that nobody names, hosts that no route serves, and policies left out where they are not.
    pub(super) fn warn_unused(&self, routes: &[Route], listeners: &[Listener], problems: &mut Problems) {
        let of_listeners = listeners.iter().map(|listener| &listener.policies);
        let outer: Vec<usize> =
            of_listeners.chain(self.hosts.iter().map(|entry| &entry.policies)).flatten().copied().collect();
        let of_groups = self.groups.iter().map(|group| &group.policies);
        let inner = of_groups.chain(routes.iter().map(|route| &route.policies)).flatten();
        let mut used = vec![false; self.policies.len()];
        outer.iter().chain(inner).for_each(|policy| used[*policy] = true);
        let root = Place::ROOT.key("policies");
        for (policy, _) in self.policies.iter().zip(used).filter(|(_, used)| !used) {
            problems.warn(&root.key(&policy.name), Fault::new("nothing names this policy"));
        }
        let peopled: HashSet<usize> = routes.iter().filter_map(|route| route.group).collect();
        let root = Place::ROOT.key("groups");
        for (index, group) in self.groups.iter().enumerate() {
            if !peopled.contains(&index) {
                problems.warn(&root.key(&group.name), Fault::new("no route is of this group"));
            }
            self.warn_idle(&group.without, &outer, &root.key(&group.name), problems);
        }
        let root = Place::ROOT.key("hosts");
        for entry in &self.hosts {
            if !routes.iter().any(|route| serves(route, &entry.host)) {
                problems.warn(&root.key(&entry.host.to_string()), Fault::new("no route serves such a host"));
            }
        }
        let root = Place::ROOT.key("routes");
        for (index, route) in routes.iter().enumerate().filter(|(_, route)| !route.without.is_empty()) {
            let mut outside = outer.clone();
            outside.extend(route.group.iter().flat_map(|group| &self.groups[*group].policies));
            self.warn_idle(&route.without, &outside, &root.index(index), problems);
        }
    }

    fn warn_idle(&self, without: &[usize], outside: &[usize], place: &Place<'_>, problems: &mut Problems) {
        for policy in without.iter().filter(|policy| !outside.contains(policy)) {
            let fault = Fault::new(format!("{:?} applies nowhere outside of it", self.policies[*policy].name));
            problems.warn(&place.key("without"), fault.cure("remove it from the list"));
        }
    }
}

/// Some host that the entry stands for can reach the route.
fn serves(route: &Route, entry: &HostPattern) -> bool {
    let below = |name: &str, suffix: &str| name.strip_suffix(suffix).is_some_and(|before| before.ends_with('.'));
    let meets = |host: &HostPattern| match (host, entry) {
        (HostPattern::Exact(host), HostPattern::Exact(entry)) => host == entry,
        (HostPattern::Exact(host), HostPattern::Wildcard(suffix)) => below(host, suffix),
        (HostPattern::Wildcard(suffix), HostPattern::Exact(entry)) => below(entry, suffix),
        (HostPattern::Wildcard(one), HostPattern::Wildcard(other)) => {
            one == other || below(one, other) || below(other, one)
        }
    };
    route.hosts.is_empty() || route.hosts.iter().any(meets)
}
