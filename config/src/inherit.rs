//! Which policies a request passes, and in which order: the one place that states the rule. Does not build filters.

use std::collections::HashSet;

use crate::snapshot::{Route, Settings, Snapshot};

/// Where a policy was named, outermost first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Listener,
    Host,
    Group,
    Route,
}

impl Snapshot {
    /// The policies of a route's group and its own, outermost first: what applies whatever the listener and the host.
    pub fn inner_policies(&self, route: &Route) -> Vec<(Level, usize)> {
        let of_group = route.group.map_or(&[][..], |group| &self.groups[group].policies);
        let dropped = |policy: &usize| route.public && self.policies[*policy].required;
        let stays =
            |policy: &usize| !route.without.contains(policy) && !route.policies.contains(policy) && !dropped(policy);
        let of_group = of_group.iter().copied().filter(stays).map(|policy| (Level::Group, policy));
        of_group.chain(route.policies.iter().map(|policy| (Level::Route, *policy))).collect()
    }

    /// The policies of listeners and hosts that do not apply to a route: those that it or its group leaves out, and those
    /// that stand further inside.
    pub fn left_out(&self, route: &Route) -> HashSet<usize> {
        let by_group = route.group.map_or(&[][..], |group| &self.groups[group].without);
        let inner = self.inner_policies(route).into_iter().map(|(_, policy)| policy);
        let outer = self.listeners.iter().map(|listener| &listener.policies);
        let outer = outer.chain(self.hosts.iter().map(|entry| &entry.policies)).flatten().copied();
        let required = outer.filter(|policy| route.public && self.policies[*policy].required);
        inner.chain(by_group.iter().chain(&route.without).copied()).chain(required).collect()
    }
}

/// The policies of a listener and of a host entry that are not left out, outermost first.
pub fn outer_policies(listener: &[usize], host: &[usize], left_out: &HashSet<usize>) -> Vec<(Level, usize)> {
    let stays = |policy: &usize| !left_out.contains(policy);
    let of_listener = listener.iter().filter(|policy| stays(policy) && !host.contains(policy));
    let of_host = host.iter().filter(|policy| stays(policy)).map(|policy| (Level::Host, *policy));
    of_listener.map(|policy| (Level::Listener, *policy)).chain(of_host).collect()
}

impl Settings {
    /// What `self` does not say, `outer` says.
    #[must_use]
    pub fn or(self, outer: &Settings) -> Settings {
        let Settings { body_bytes_max, total_timeout, retry, hedge } = self;
        Settings {
            body_bytes_max: body_bytes_max.or(outer.body_bytes_max),
            total_timeout: total_timeout.or(outer.total_timeout),
            retry: retry.or_else(|| outer.retry.clone()),
            hedge: hedge.or(outer.hedge),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Source, load};

    const TEXT: &str = "[listeners.a]\nbind = \":1\"\npolicies = [\"edge\", \"log\"]\n\
        [hosts.\"*.example.com\"]\npolicies = [\"log\", \"host\"]\n\
        [groups.users]\npolicies = [\"team\", \"auth\"]\nwithout = [\"log\"]\n\
        [policies.edge]\n[policies.log]\n[policies.host]\n[policies.team]\n[policies.auth]\n[policies.own]\n";

    /// Names and levels for a route with these lines.
    fn chain(lines: &str) -> Vec<(Level, String)> {
        let text = format!(
            "{TEXT}[[routes]]\nname = \"r\"\nrespond = {{}}\n{lines}\n[[routes]]\nname = \"all\"\npath = \"/all\"\n\
             group = \"users\"\npolicies = [\"own\"]\nrespond = {{}}\n"
        );
        let loaded = load(&Source { name: "t".to_owned(), text }).unwrap_or_else(|errors| panic!("{errors}"));
        let snapshot = loaded.snapshot;
        let route = &snapshot.routes[0];
        let (listener, host) = (&snapshot.listeners[0].policies, &snapshot.hosts[0].policies);
        let mut all = outer_policies(listener, host, &snapshot.left_out(route));
        all.extend(snapshot.inner_policies(route));
        all.into_iter().map(|(level, policy)| (level, snapshot.policies[policy].name.clone())).collect()
    }

    fn names(lines: &str) -> Vec<String> {
        chain(lines).into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn outermost_first() {
        let all = chain("group = \"users\"\npolicies = [\"own\"]");
        let levels = [Level::Listener, Level::Host, Level::Group, Level::Group, Level::Route];
        assert_eq!(all.iter().map(|(level, _)| *level).collect::<Vec<_>>(), levels);
        assert_eq!(names("group = \"users\"\npolicies = [\"own\"]"), ["edge", "host", "team", "auth", "own"]);
    }

    #[test]
    fn the_innermost_mention_counts() {
        assert_eq!(names(""), ["edge", "log", "host"], "the host's log, not the listener's");
        assert_eq!(names("policies = [\"edge\"]"), ["log", "host", "edge"]);
        assert_eq!(names("group = \"users\"\npolicies = [\"team\"]"), ["edge", "host", "auth", "team"]);
    }

    #[test]
    fn a_route_leaves_out_any_outer_one() {
        assert_eq!(names("without = [\"log\", \"edge\"]"), ["host"]);
        assert_eq!(names("group = \"users\"\nwithout = [\"team\", \"host\"]"), ["edge", "auth"]);
    }

    #[test]
    fn a_public_route_drops_what_is_required_and_keeps_what_it_names_itself() {
        let text = TEXT.replace("[policies.auth]", "[policies.auth]\nrequired = true");
        let text = text.replace("[policies.edge]", "[policies.edge]\nrequired = true");
        let names = |lines: &str| {
            let text = format!("{text}[[routes]]\nname = \"r\"\nrespond = {{}}\ngroup = \"users\"\n{lines}\n");
            let snapshot =
                load(&Source { name: "t".to_owned(), text }).unwrap_or_else(|errors| panic!("{errors}")).snapshot;
            let route = &snapshot.routes[0];
            let mut all = outer_policies(&snapshot.listeners[0].policies, &[], &snapshot.left_out(route));
            all.extend(snapshot.inner_policies(route));
            all.into_iter().map(|(_, policy)| snapshot.policies[policy].name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(""), ["edge", "team", "auth"]);
        assert_eq!(names("public = true"), ["team"]);
        assert_eq!(names("public = true\npolicies = [\"auth\"]"), ["team", "auth"]);
    }

    #[test]
    fn the_inner_setting_wins() {
        let settings = |body_bytes_max, seconds: Option<u64>| Settings {
            retry: None,
            hedge: None,
            body_bytes_max,
            total_timeout: seconds.map(std::time::Duration::from_secs),
        };
        assert_eq!(settings(Some(1), None).or(&settings(Some(2), Some(3))), settings(Some(1), Some(3)));
    }
}
