//! Routes: one path, one action, names that exist.

mod conditions;
pub(crate) mod shadowed;

mod twins;

use std::collections::HashMap;

use super::policies::{Checked, refuse_required};
use super::{apis, clusters};
use crate::bounded::MIB;
use crate::decode::Table;
use crate::document;
use crate::http::{HeaderName, HeaderValue};
use crate::path::{ExactPath, PathPrefix, REDIRECT_WORDS, check_redirect};
use crate::place::Place;
use crate::problem::{Fault, Problems, quoted};
use crate::snapshot::{
    Action, Api, Arm, Cluster, HashOn, HostPattern, Listener, Mirror, PathExpression, PathPattern, Redirect, Respond,
    Route, Segment, Settings, Split,
};
use crate::units::size_text;

/// A fixed answer is copied into every core's plan.
const RESPOND_BODY_BYTES_MAX: usize = MIB as usize;

/// Every name that a route may refer to.
struct Names<'a> {
    listeners: Vec<&'a str>,
    clusters: HashMap<&'a str, usize>,
    /// Same order as the snapshot's.
    cluster_list: Vec<&'a str>,
    shared: &'a Checked,
    apis: &'a [Api],
}

impl Names<'_> {
    fn cluster(&self, name: &str, place: &Place<'_>, problems: &mut Problems) -> Option<usize> {
        let known = self.clusters.get(name).copied();
        if known.is_none() {
            let fault = Fault::new(format!("no cluster named {}", quoted(name)));
            let fault = match self.cluster_list.is_empty() {
                true => fault.cure("add a table [clusters.NAME] with endpoints"),
                false => fault.suggest(name, "cluster", &self.cluster_list),
            };
            problems.error(place, fault);
        }
        known
    }
}

/// `None` if a route could not be built.
pub(super) fn check(
    routes: Vec<Table<document::Route>>,
    listeners: &[Listener],
    clusters: &[Cluster],
    shared: &Checked,
    apis: &[Api],
    problems: &mut Problems,
) -> Option<Vec<Route>> {
    let cluster_list: Vec<&str> = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    let names = Names {
        listeners: listeners.iter().map(|listener| listener.name.as_str()).collect(),
        clusters: cluster_list.iter().enumerate().map(|(index, name)| (*name, index)).collect(),
        cluster_list,
        shared,
        apis,
    };
    let root = Place::ROOT.key("routes");
    let checked = routes.into_iter().enumerate();
    let checked: Vec<Option<Route>> =
        checked.map(|(index, Table(keys))| check_route(keys, &names, &root.index(index), problems)).collect();
    let routes = checked.into_iter().collect::<Option<Vec<Route>>>()?;
    check_names(&routes, problems);
    twins::check(&routes, problems);
    shadowed::warn(&routes, listeners, problems);

    warn_unused(&routes, listeners, clusters, problems);
    warn_unhashed(&routes, clusters, problems);
    Some(routes)
}

fn check_route(keys: document::Route, names: &Names<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Route> {
    let Names { shared, apis, .. } = *names;
    let hosts = check_hosts(keys.host, keys.hosts.map(|list| list.0), place, problems);
    let mut path = check_path(keys.path, keys.path_prefix, keys.path_regex, place, problems);
    warn_colons(&path, place, problems);
    let listeners = keys.listeners.0;
    for (index, name) in listeners.iter().enumerate().filter(|(_, name)| !names.listeners.contains(&name.as_str())) {
        let fault = Fault::new(format!("no listener named {}", quoted(name)));
        let fault = fault.suggest(name, "listener", &names.listeners);
        problems.error(&place.key("listeners").index(index), fault);
    }
    refuse_repeats(&listeners, &place.key("listeners"), problems);
    let methods: Vec<String> = keys.methods.0.into_iter().map(|method| method.0).collect();
    refuse_repeats(&methods, &place.key("methods"), problems);
    let lists = conditions::Lists { headers: keys.headers.0, queries: keys.queries.0, cookies: keys.cookies.0 };
    let mut conditions = lists.check(keys.when, place, problems);
    let api = apis::Named { api: keys.api, version: keys.version }.resolve(apis, place, problems);
    apis::apply(api, apis, &mut path, conditions.as_mut(), place, problems);
    let mirror = check_mirror(
        keys.mirror,
        keys.cluster.is_some() || keys.split.is_some(),
        names,
        &place.key("mirror"),
        problems,
    );
    let actions = Actions {
        cluster: keys.cluster,
        split: keys.split.map(|list| list.0),
        split_on: keys.split_on,
        redirect: keys.redirect,
        respond: keys.respond,
    };
    let action = actions.check(&path, names, place, problems);
    let without = shared.known.resolve(&keys.without, &place.key("without"), problems);
    if !keys.public {
        refuse_required(&shared.policies, &without, place, problems);
    }
    Some(Route {
        name: keys.name.0,
        listeners,
        hosts,
        path,
        methods,
        conditions: conditions?,
        priority: keys.priority.i32(),
        filters: keys.filters.0,
        action: action?,
        mirror,
        api,
        group: keys.group.and_then(|name| shared.group(&name, &place.key("group"), problems)),
        policies: shared.known.resolve(&keys.policies, &place.key("policies"), problems),
        without,
        public: keys.public,
        settings: Settings {
            body_bytes_max: keys.body_bytes_max.map(|size| size.u64()),
            total_timeout: keys.total_timeout.map(|time| time.duration()),
            retry: keys.retry.map(|Table(keys)| clusters::retry(keys, &place.key("retry"), problems)),
            hedge: keys.hedge.map(|Table(keys)| clusters::hedge(&keys)),
        },
    })
}

/// Of the three ways to name a path at most one is used.
fn check_path(
    exact: Option<ExactPath>,
    prefix: Option<PathPrefix>,
    expression: Option<PathExpression>,
    place: &Place<'_>,
    problems: &mut Problems,
) -> PathPattern {
    let named = [("path", exact.is_some()), ("path_prefix", prefix.is_some()), ("path_regex", expression.is_some())];
    let mut named = named.into_iter().filter(|(_, is_named)| *is_named).map(|(key, _)| key);
    if let (Some(first), Some(second)) = (named.next(), named.next()) {
        let fault = Fault::new(format!("both {first} and {second}"));
        problems.error(&place.key(second), fault.cure("keep one, or make two routes"));
    }
    match (exact, prefix, expression) {
        (Some(ExactPath(path)), _, _) | (_, Some(PathPrefix(path)), _) => path,
        (_, _, Some(expression)) => PathPattern::Expression(expression),
        (None, None, None) => PathPattern::Prefix(Vec::new()),
    }
}

fn check_hosts(
    host: Option<HostPattern>,
    hosts: Option<Vec<HostPattern>>,
    place: &Place<'_>,
    problems: &mut Problems,
) -> Vec<HostPattern> {
    if host.is_some() && hosts.is_some() {
        problems.error(&place.key("host"), Fault::new("both host and hosts").cure("put it into hosts too"));
    }
    if hosts.as_ref().is_some_and(Vec::is_empty) {
        problems.error(&place.key("hosts"), Fault::new("is empty").cure("leave it out to serve any host"));
    }
    let hosts = hosts.unwrap_or_default();
    for (index, host) in hosts.iter().enumerate().filter(|(index, host)| hosts[..*index].contains(host)) {
        let fault = Fault::new(format!("{} is named twice", quoted(&host.to_string())));
        problems.error(&place.key("hosts").index(index), fault);
    }
    host.into_iter().chain(hosts).collect()
}

fn refuse_repeats(names: &[String], place: &Place<'_>, problems: &mut Problems) {
    for (index, name) in names.iter().enumerate().filter(|(index, name)| names[..*index].contains(name)) {
        problems.error(&place.index(index), Fault::new(format!("{} is named twice", quoted(name))));
    }
}

/// Other gateways write `/:id`; here that is a literal, which is almost never meant.
fn warn_colons(path: &PathPattern, place: &Place<'_>, problems: &mut Problems) {
    let PathPattern::Segments(segments) = path else { return };
    for segment in segments {
        if let Segment::Literal(text) = segment
            && let Some(name) = text.strip_prefix(':').filter(|name| !name.is_empty())
        {
            let fault = Fault::new(format!("{} is taken literally", quoted(text)));
            problems.warn(&place.key("path"), fault.cure(format!("write {{{name}}} for a parameter")));
        }
    }
}

/// What a route can end in; exactly one is.
struct Actions {
    cluster: Option<String>,
    split: Option<Vec<Table<document::Arm>>>,
    split_on: Option<HashOn>,
    redirect: Option<Table<document::Redirect>>,
    respond: Option<Table<document::Respond>>,
}

impl Actions {
    fn check(
        self,
        path: &PathPattern,
        names: &Names<'_>,
        place: &Place<'_>,
        problems: &mut Problems,
    ) -> Option<Action> {
        if self.split_on.is_some() && self.split.is_none() {
            let fault = Fault::new("there is no split");
            problems.error(&place.key("split_on"), fault.cure("add split = [{ cluster = \"...\", weight = 95 }, ...]"));
        }
        match (self.cluster, self.split, self.redirect, self.respond) {
            (Some(name), None, None, None) => {
                names.cluster(&name, &place.key("cluster"), problems).map(Action::Cluster)
            }
            (None, Some(arms), None, None) => {
                let arms = check_arms(arms, names, &place.key("split"), problems)?;
                check_split_on(self.split_on.as_ref(), path, &place.key("split_on"), problems);
                Some(Action::Split(Split { arms, on: self.split_on }))
            }
            (None, None, Some(Table(keys)), None) => {
                Some(Action::Redirect(check_redirect_keys(keys, path, &place.key("redirect"), problems)))
            }
            (None, None, None, Some(Table(keys))) => {
                Some(Action::Respond(check_respond(keys, &place.key("respond"), problems)))
            }
            (None, None, None, None) => {
                let fault = Fault::new("the route does nothing");
                problems.error(place, fault.cure("add one of cluster, split, redirect, respond"));
                None
            }
            _ => {
                let fault = Fault::new("more than one of cluster, split, redirect, respond");
                problems.error(place, fault.cure("keep one"));
                None
            }
        }
    }
}

/// What is hashed must be there: every request without it would be given an arm by turn.
fn check_split_on(on: Option<&HashOn>, path: &PathPattern, place: &Place<'_>, problems: &mut Problems) {
    if let Some(HashOn::Param(name)) = on
        && !path.params().contains(&name.as_str())
    {
        let fault = Fault::new(format!("the route's path has no parameter {name}"));
        problems.error(place, fault.cure(format!("write {{{name}}} in the path, or hash something else")));
    }
}

fn check_arms(
    arms: Vec<Table<document::Arm>>,
    names: &Names<'_>,
    place: &Place<'_>,
    problems: &mut Problems,
) -> Option<Vec<Arm>> {
    if arms.iter().all(|Table(arm)| arm.weight.u32() == 0) {
        let fault = Fault::new("no arm has a weight: requests that no `when` takes would go nowhere");
        problems.error(place, fault.cure("give one of them weight = 100"));
    }
    let mut checked: Vec<Option<Arm>> = Vec::with_capacity(arms.len());
    for (index, Table(keys)) in arms.into_iter().enumerate() {
        let here = place.index(index);
        let cluster = names.cluster(&keys.cluster, &here.key("cluster"), problems);
        if cluster.is_some() && checked.iter().flatten().any(|arm| Some(arm.cluster) == cluster) {
            let fault = Fault::new(format!("a second arm to {}", quoted(&keys.cluster)));
            problems.error(&here.key("cluster"), fault.cure("make one of both, their conditions joined by or"));
        }
        let when = keys.when.map(|when| when.0).unwrap_or_default();
        checked.push(cluster.map(|cluster| Arm { cluster, weight: keys.weight.u32(), when }));
    }
    checked.into_iter().collect()
}

fn check_mirror(
    keys: Option<Table<document::Mirror>>,
    is_forwarded: bool,
    names: &Names<'_>,
    place: &Place<'_>,
    problems: &mut Problems,
) -> Option<Mirror> {
    let Table(keys) = keys?;
    if !is_forwarded {
        let fault = Fault::new("there is nothing to copy: the route forwards no request");
        problems.error(place, fault.cure("add cluster = \"...\" or a split"));
    }
    let cluster = names.cluster(&keys.cluster, &place.key("cluster"), problems)?;
    Some(Mirror { cluster, percent: keys.percent, timeout: keys.timeout.duration() })
}

fn check_redirect_keys(
    keys: document::Redirect,
    path: &PathPattern,
    place: &Place<'_>,
    problems: &mut Problems,
) -> Redirect {
    let params = path.params();
    for param in params.iter().filter(|param| REDIRECT_WORDS.contains(param)) {
        let fault = Fault::new(format!("{{{param}}} is both a part of the request and a parameter of the path"));
        problems.error(&place.key("to"), fault.cure("rename the parameter"));
    }
    if let Err(fault) = check_redirect(&keys.to, &params) {
        problems.error(&place.key("to"), fault);
    }
    Redirect { status: keys.status.0, to: keys.to }
}

fn check_respond(keys: document::Respond, place: &Place<'_>, problems: &mut Problems) -> Respond {
    let status = keys.status.u16();
    if keys.body.len() > RESPOND_BODY_BYTES_MAX {
        let fault = Fault::new(format!("longer than {}", size_text(RESPOND_BODY_BYTES_MAX as u64)));
        problems.error(&place.key("body"), fault.cure("serve it from an origin"));
    }
    if matches!(status, 204 | 205 | 304) && !keys.body.is_empty() {
        let fault = Fault::new(format!("an answer of {status} has no body (RFC 9110 section 15)"));
        problems.error(&place.key("body"), fault.cure("leave it out, or change the status"));
    }
    let headers = place.key("headers");
    let mut sent: Vec<(String, String)> = Vec::with_capacity(keys.headers.0.len());
    for (name, value) in keys.headers.0 {
        check_field(&name, &headers, problems);
        if sent.iter().any(|(other, _)| other == name.as_str()) {
            problems.error(&headers, Fault::new(format!("{} is named twice", quoted(name.as_str()))));
        }
        sent.push((name.into_string(), HeaderValue::into_string(value)));
    }
    Respond { status, content_type: keys.content_type.into_string(), body: keys.body, headers: sent }
}

fn check_field(name: &HeaderName, place: &Place<'_>, problems: &mut Problems) {
    if name.as_str() == "content-type" {
        let fault = Fault::new("has a key of its own").cure("write content_type = \"...\" beside headers");
        problems.error(&place.key(name.as_str()), fault);
    } else if name.is_ours() {
        problems.error(&place.key(name.as_str()), Fault::new("is written by the gateway").cure("leave it out"));
    }
}

fn check_names(routes: &[Route], problems: &mut Problems) {
    let root = Place::ROOT.key("routes");
    let mut known = HashMap::new();
    for (index, route) in routes.iter().enumerate() {
        let first = *known.entry(route.name.as_str()).or_insert(index);
        if first != index {
            let fault = Fault::new(format!("routes[{first}] is named {:?} too", route.name));
            problems.error(&root.index(index).key("name"), fault.cure("metrics and logs tell routes by name"));
        }
    }
}

/// A cluster may have routes with its parameter and without; the latter are worth a word.
fn warn_unhashed(routes: &[Route], clusters: &[Cluster], problems: &mut Problems) {
    let root = Place::ROOT.key("clusters");
    for (index, cluster) in clusters.iter().enumerate() {
        let Some(HashOn::Param(name)) = &cluster.hash_on else { continue };
        let without =
            |route: &&Route| route.action.clusters().contains(&index) && !route.path.params().contains(&name.as_str());
        if let Some(route) = routes.iter().find(without) {
            let fault = Fault::new(format!("route {} has no parameter {name}", quoted(&route.name)));
            let fault = fault.cure("its requests go to a random endpoint; hash something else if that is wrong");
            problems.warn(&root.key(&cluster.name).key("hash_on"), fault);
        }
    }
}

fn warn_unused(routes: &[Route], listeners: &[Listener], clusters: &[Cluster], problems: &mut Problems) {
    let mut used = vec![false; clusters.len()];
    for route in routes {
        route.action.clusters().into_iter().for_each(|index| used[index] = true);
        if let Some(mirror) = &route.mirror {
            used[mirror.cluster] = true;
        }
    }
    let root = Place::ROOT.key("clusters");
    for (cluster, _) in clusters.iter().zip(used).filter(|(_, used)| !used) {
        problems.warn(&root.key(&cluster.name), Fault::new("no route uses this cluster"));
    }
    let root = Place::ROOT.key("listeners");
    let served =
        |name: &String| routes.iter().any(|route| route.listeners.is_empty() || route.listeners.contains(name));
    for listener in listeners.iter().filter(|listener| !served(&listener.name)) {
        let fault = Fault::new("no route serves this listener: every request to it would be a 404");
        problems.warn(&root.key(&listener.name), fault);
    }
}
