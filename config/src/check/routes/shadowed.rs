//! Routes that can never win: one other takes all their requests and goes before them. Warns only where that is
//! certain; a route whose requests several others share among them is not found, nor is one that contradicts itself.
//! The rules of order and matching are those of `core/src/route/README.md`.

mod paths;

use std::collections::HashMap;

use paths::Paths;

use crate::place::Place;
use crate::problem::{Fault, Problems};
use crate::snapshot::{Condition, HostPattern, Listener, Route, Subject, Test};

/// Others that a route is compared with at one place of the tree of paths: more of them ask for the same header, by
/// something else than its value, than any file has need of.
const COMPARED_MAX: usize = 64;

pub(super) fn warn(routes: &[Route], listeners: &[Listener], problems: &mut Problems) {
    if !problems.is_empty() {
        return;
    }
    let listeners: Vec<&str> = listeners.iter().map(|listener| listener.name.as_str()).collect();
    let root = Place::ROOT.key("routes");
    for (index, taker) in shadowed(routes, &listeners) {
        let (route, other) = (&routes[index], &routes[taker]);
        let by_priority = other.priority > route.priority;
        let cure = match by_priority || rank(other) > rank(route) {
            true => format!("give it a priority above {}, or remove it", other.priority),
            false => format!("put it before {:?}, or remove it", other.name),
        };
        let fault = Fault::new(format!(
            "route {:?} is never chosen: routes[{taker}], {:?}, takes all its requests and {}",
            route.name,
            other.name,
            if by_priority { "has the higher priority" } else { "goes before it" }
        ));
        problems.warn(&root.index(index), fault.cure(cure));
    }
}

/// Each route that can never win, with one that takes all its requests and goes before it; both by their place among
/// `routes`. `listeners` are all there are.
pub fn shadowed<'a>(routes: &'a [Route], listeners: &'a [&'a str]) -> impl Iterator<Item = (usize, usize)> + 'a {
    let shadows = Shadows::new(routes, listeners);
    (0..routes.len()).filter_map(move |index| Some((index, shadows.taker(index)?)))
}

struct Shadows<'a> {
    routes: &'a [Route],
    listeners: &'a [&'a str],
    paths: Paths<'a>,
    /// By route, the number of its path.
    ids: Vec<u32>,
    priority_max: i32,
    /// Routes by the number of their path, each of their hosts, and one thing that they ask; in the order of the file.
    takers: HashMap<(u32, Host<'a>, Topic<'a>), Vec<u32>>,
}

/// What a condition is about: those of one topic may follow from each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Topic<'a> {
    /// Of a route without conditions.
    Nothing,
    Value(&'a Subject, &'a str),
    Subject(&'a Subject),
    Not(&'a Subject),
    /// Anything that is joined.
    Joined,
}

impl<'a> Shadows<'a> {
    fn new(routes: &'a [Route], listeners: &'a [&'a str]) -> Self {
        let mut paths = Paths::default();
        let ids: Vec<u32> = routes.iter().map(|route| paths.id(&route.path, route.priority)).collect();
        let priorities = routes.iter().map(|route| route.priority);
        let (least, most) = (priorities.clone().min().unwrap_or(0), priorities.max().unwrap_or(0));
        let mut takers: HashMap<_, Vec<u32>> = HashMap::new();
        for (index, route) in routes.iter().enumerate() {
            let id = ids[index];
            if route.priority > least {
                paths.plant(&route.path, id);
            } else if paths.taken(id).routes == 1 {
                // Alone at its path, and before nobody by priority: it takes nothing from others.
                continue;
            }
            let topics = route.conditions.iter().map(topic);
            // The most telling one keeps the lists short.
            let topic = topics.min_by_key(|topic| !matches!(topic, Topic::Value(..))).unwrap_or(Topic::Nothing);
            for host in or_any(&route.hosts) {
                takers.entry((id, host_key(host), topic)).or_default().push(index as u32);
            }
        }
        Shadows { routes, listeners, paths, ids, priority_max: most, takers }
    }

    /// The first route found that takes everything of this one.
    fn taker(&self, index: usize) -> Option<usize> {
        let route = &self.routes[index];
        let own = self.ids[index];
        let is_below = route.priority < self.priority_max;
        if !is_below && self.paths.taken(own).routes == 1 {
            return None;
        }
        let mut topics = vec![Topic::Nothing];
        topics.extend(route.conditions.iter().flat_map(topics_it_may_imply));
        let mut found = self.taker_at(own, index, &topics);
        if found.is_none() && is_below {
            self.paths.above(&route.path, |id| {
                if id != own && self.paths.taken(id).priority_max > route.priority {
                    found = self.taker_at(id, index, &topics);
                }
                found.is_some()
            });
        }
        found
    }

    fn taker_at(&self, id: u32, index: usize, topics: &[Topic<'_>]) -> Option<usize> {
        hosts_around(self.routes[index].hosts.first()).find_map(|host| {
            topics.iter().find_map(|topic| {
                let known = self.takers.get(&(id, host, *topic))?;
                let mut known = known.iter().take(COMPARED_MAX).map(|other| *other as usize);
                known.find(|other| self.shadows(*other, index))
            })
        })
    }

    /// Whether `other`, whose path takes all that the path of `index` takes, takes every request of it and goes first.
    fn shadows(&self, other: usize, index: usize) -> bool {
        let (taker, route) = (&self.routes[other], &self.routes[index]);
        let (first, second) = (rank(taker), rank(route));
        // At equal priority a route that takes more by host or path goes later.
        let goes_first = taker.priority > route.priority
            || taker.priority == route.priority
                && self.ids[other] == self.ids[index]
                && or_any(&route.hosts).all(|host| or_any(&taker.hosts).any(|other| other == host))
                && (first > second || first == second && other < index);
        goes_first
            && other != index
            && self.listens(taker, route)
            && or_any(&route.hosts).all(|host| or_any(&taker.hosts).any(|other| host_covers(other, host)))
            && methods_cover(&taker.methods, &route.methods)
            && taker.conditions.iter().all(|asked| route.conditions.iter().any(|known| asked.follows_from(known)))
    }

    fn listens(&self, taker: &Route, route: &Route) -> bool {
        let has = |name: &str| taker.listeners.iter().any(|known| known == name);
        taker.listeners.is_empty()
            || !route.listeners.is_empty() && route.listeners.iter().all(|name| has(name))
            || self.listeners.iter().all(|name| has(name))
    }
}

/// What decides after priority, host and path; the greater goes first.
fn rank(route: &Route) -> (bool, usize) {
    (!route.methods.is_empty(), weight(route))
}

fn weight(route: &Route) -> usize {
    route.conditions.iter().map(Condition::weight).sum()
}

fn topic(condition: &Condition) -> Topic<'_> {
    match condition {
        Condition::Is(subject, Test::Equals(value)) => Topic::Value(subject, value),
        Condition::Is(subject, _) => Topic::Subject(subject),
        Condition::Not(inner) => match &**inner {
            Condition::Is(subject, _) => Topic::Not(subject),
            _ => Topic::Joined,
        },
        Condition::All(_) | Condition::Any(_) => Topic::Joined,
    }
}

/// Of a condition that follows from this one the topic is, as far as is looked, one of these.
fn topics_it_may_imply(condition: &Condition) -> impl Iterator<Item = Topic<'_>> {
    let own = topic(condition);
    let wider = match own {
        Topic::Value(subject, _) => Some(Topic::Subject(subject)),
        _ => None,
    };
    let joined = (own != Topic::Joined).then_some(Topic::Joined);
    [Some(own), wider, joined].into_iter().flatten()
}

fn or_any(hosts: &[HostPattern]) -> impl Iterator<Item = Option<&HostPattern>> {
    hosts.iter().map(Some).chain(hosts.is_empty().then_some(None))
}

/// A host pattern as a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Host<'a> {
    Any,
    Exact(&'a str),
    Wildcard(&'a str),
}

fn host_key(host: Option<&HostPattern>) -> Host<'_> {
    match host {
        None => Host::Any,
        Some(HostPattern::Exact(name)) => Host::Exact(name),
        Some(HostPattern::Wildcard(suffix)) => Host::Wildcard(suffix),
    }
}

/// The patterns that take all that this one takes: itself, any host, and the wildcards above it.
fn hosts_around(host: Option<&HostPattern>) -> impl Iterator<Item = Host<'_>> {
    let (own, name) = match host_key(host) {
        Host::Any => (None, ""),
        own @ (Host::Exact(name) | Host::Wildcard(name)) => (Some(own), name),
    };
    let above = name.match_indices('.').map(|(dot, _)| Host::Wildcard(&name[dot + 1..]));
    own.into_iter().chain([Host::Any]).chain(above)
}

fn host_covers(taker: Option<&HostPattern>, host: Option<&HostPattern>) -> bool {
    match (taker, host) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(HostPattern::Exact(taker)), Some(HostPattern::Exact(host))) => taker == host,
        (Some(HostPattern::Exact(_)), Some(HostPattern::Wildcard(_))) => false,
        (Some(HostPattern::Wildcard(taker)), Some(HostPattern::Exact(host))) => below(host, taker),
        (Some(HostPattern::Wildcard(taker)), Some(HostPattern::Wildcard(host))) => host == taker || below(host, taker),
    }
}

fn below(host: &str, suffix: &str) -> bool {
    host.strip_suffix(suffix).is_some_and(|before| before.len() > 1 && before.ends_with('.'))
}

/// GET takes HEAD too.
fn methods_cover(taker: &[String], route: &[String]) -> bool {
    let has = |name: &str| taker.iter().any(|known| known == name);
    taker.is_empty() || !route.is_empty() && route.iter().all(|name| has(name) || name == "HEAD" && has("GET"))
}
