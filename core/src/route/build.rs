//! Routes → [`RouteTable`], on the control thread. Refuses what would make a lookup's cost unbounded; everything else
//! about a route was checked before (`ringway-config`).

use super::automata::{AUTOMATA_BYTES_MAX, AUTOMATON_BYTES_MAX, Automata, TooLarge};
use super::captures::Shape;
use super::conditions::{Conditions, Methods};
use super::edges::Edges;
use super::hosts::{ANY, Hosts, Named};
use super::order::{Closeness, Key};
use super::pattern::{Pattern, Step};
use super::trees::{Cost, Frozen, Trees};
use super::walk::Candidate;
use super::{RouteId, RouteTable, Rule};
use ringway_config::snapshot::{HostPattern, PathPattern, Route};
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Of one pattern. A lookup keeps its place for each on the stack.
pub const SEGMENTS_MAX: usize = 32;
/// Of one literal segment, decoded. Longer ones are decoded on the stack only so far.
pub const LITERAL_BYTES_MAX: usize = 255;
/// Of a host without its trailing dot (RFC 1035 section 2.3.4). Lower-cased on the stack.
pub const HOST_BYTES_MAX: usize = 255;
/// Different method names in a table; the 64th bit stands for all others.
pub const METHODS_MAX: usize = 63;
/// Nodes of all tries together: half a gigabyte of them.
pub const NODES_MAX: usize = 1 << 24;
/// Nodes that one request may touch in the worst case, some 100 µs. Ten overlapping `{param}`/literal choices in a row
/// stay below it.
pub const VISITS_MAX: u32 = 4096;
/// Expressions that one request may try in the worst case: each reads its path once, some 50 ns for 50 bytes.
pub const TRIES_MAX: u32 = 128;
/// Routes whose methods and conditions one request may be held against in the worst case, some 100 µs with one header each.
pub const CANDIDATES_MAX: u32 = 4096;

/// Ours to refuse before it serves; the operator's to cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildError {
    /// The route's pattern has more than [`SEGMENTS_MAX`].
    Segments { route: String, segments: usize },
    /// A literal segment has more than [`LITERAL_BYTES_MAX`].
    Literal { route: String, bytes: usize },
    /// A host pattern of the route has more than [`HOST_BYTES_MAX`].
    Host { route: String, bytes: usize },
    /// With this route there are more than [`METHODS_MAX`] method names.
    Methods { route: String },
    /// More than [`NODES_MAX`].
    Nodes,
    /// One request to this host could touch so many nodes, more than [`VISITS_MAX`].
    Visits { host: String, visits: u32 },
    /// One request to this host could be tried by so many expressions, more than [`TRIES_MAX`]; most of them stand
    /// below this prefix.
    Tries { host: String, tries: u32, prefix: String },
    /// One request to this host could be held against so many routes, more than [`CANDIDATES_MAX`]; most of them have
    /// this path.
    Candidates { host: String, candidates: u32, path: String },
    /// An expression of the route is too large when compiled. `place` is where it stands in the document.
    Expression { route: String, place: String, size: TooLarge },
}

impl BuildError {
    /// Where in the document.
    pub fn place(&self) -> &str {
        match self {
            BuildError::Expression { place, .. } => place,
            _ => "routes",
        }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Segments { route, segments } => {
                write!(f, "route \"{route}\": its path has {segments} segments, at most {SEGMENTS_MAX} are possible")
            }
            BuildError::Literal { route, bytes } => {
                write!(
                    f,
                    "route \"{route}\": a path segment of {bytes} bytes, at most {LITERAL_BYTES_MAX} are possible"
                )
            }
            BuildError::Host { route, bytes } => {
                write!(f, "route \"{route}\": a host of {bytes} bytes, at most {HOST_BYTES_MAX} are possible")
            }
            BuildError::Methods { route } => {
                write!(f, "route \"{route}\": with it there are over {METHODS_MAX} different method names")
            }
            BuildError::Nodes => write!(f, "the routes need over {NODES_MAX} tree nodes: name fewer hosts per route"),
            BuildError::Visits { host, visits } => write!(
                f,
                "routes of host \"{host}\" overlap so much that one request may touch {visits} tree nodes, at most \
                 {VISITS_MAX} are allowed: have fewer literals beside a {{param}} in the same place"
            ),
            BuildError::Tries { host, tries, prefix } => write!(
                f,
                "routes of host \"{host}\" have {tries} expressions that one path may be tried by, at most {TRIES_MAX} \
                 are allowed, and most of them begin with \"{prefix}\": let their literal beginnings differ by whole \
                 segments, or write path patterns"
            ),
            BuildError::Candidates { host, candidates, path } => write!(
                f,
                "routes of host \"{host}\" are so many on one path that a request may be held against {candidates} of \
                 them, at most {CANDIDATES_MAX} are allowed, and most of them have the path \"{path}\": let their paths \
                 or hosts differ, not their conditions alone"
            ),
            BuildError::Expression { route, size: TooLarge::One(expression), .. } => write!(
                f,
                "route \"{route}\": {expression:?} needs over {} KiB when compiled: shorten its counted repetitions, \
                 or let them begin with what cannot repeat",
                AUTOMATON_BYTES_MAX / 1024
            ),
            BuildError::Expression { route, size: TooLarge::All, .. } => write!(
                f,
                "route \"{route}\": with it all expressions together need over {} MiB when compiled",
                AUTOMATA_BYTES_MAX / 1024 / 1024
            ),
        }
    }
}

impl std::error::Error for BuildError {}

/// Hosts with the same view share one trie: those that see the same routes in the same ranks.
#[derive(PartialEq, Eq, Hash)]
struct View {
    closeness: Closeness,
    /// In the order of the file.
    routes: Vec<RouteId>,
}

/// By host pattern; `None`: any host, always there.
type Views<'a> = HashMap<Option<&'a HostPattern>, View>;

pub(super) fn compile(routes: &[Route], listeners: &[&str]) -> Result<RouteTable, BuildError> {
    let patterns = routes.iter().map(checked_pattern).collect::<Result<Vec<_>, _>>()?;
    let (methods, conditions) = conditions(routes, listeners)?;
    let (shapes, shape_of) = shapes(&patterns);
    let views = views(routes)?;
    let ranks = ranks(routes, &patterns, &conditions);
    let mut trees = Trees::default();
    let mut roots: HashMap<&View, u32> = HashMap::new();
    for view in views.values() {
        if !roots.contains_key(view) {
            let root = trees.root();
            for &route in &view.routes {
                let wanted = &conditions[route as usize];
                let rank = ranks[&(route, view.closeness)];
                let candidate = Candidate {
                    rank,
                    route,
                    methods: wanted.methods,
                    shape: shape_of[route as usize],
                    conditional: wanted.beyond_method(),
                };
                trees.insert(root, &patterns[route as usize], candidate)?;
            }
            roots.insert(view, root);
        }
    }
    let hasher = ahash::RandomState::new();
    let named: Vec<Named<'_>> =
        views.iter().filter_map(|(host, view)| Some(Named::new((*host)?, roots[view]))).collect();
    let hosts = Hosts::new(roots[&views[&None]], &named, &hasher);
    let edges = Edges::new(trees.edges(), &hasher);
    let Frozen { nodes, candidates, costs } = trees.freeze();
    bound(routes, &patterns, &named, &hosts, &costs)?;
    let rules = std::iter::zip(routes, patterns).map(|(route, pattern)| Rule {
        name: route.name.as_str().into(),
        label: pattern.label().into(),
        pattern,
        hosts: route.hosts.clone().into(),
        conditions: route.conditions.clone().into(),
        priority: route.priority,
    });
    let rules = rules.collect();
    let conditions = conditions.into();
    Ok(RouteTable { hasher, hosts, nodes, edges, candidates, methods, shapes, conditions, rules })
}

fn conditions(routes: &[Route], listeners: &[&str]) -> Result<(Methods, Vec<Conditions>), BuildError> {
    let (mut methods, mut automata) = (Methods::new(), Automata::default());
    let mut conditions = Vec::with_capacity(routes.len());
    for (id, route) in routes.iter().enumerate() {
        let set = methods.set(&route.methods).ok_or_else(|| BuildError::Methods { route: route.name.clone() })?;
        let one = Conditions::new(route, listeners, set, &mut automata);
        conditions.push(one.map_err(|size| {
            let key = match (&size, &route.path) {
                (TooLarge::One(text), PathPattern::Expression(path)) if path.expression.as_str() == text => {
                    ".path_regex"
                }
                _ => "",
            };
            BuildError::Expression { route: route.name.clone(), place: format!("routes[{id}]{key}"), size }
        })?);
    }
    Ok((methods, conditions))
}

fn checked_pattern(route: &Route) -> Result<Pattern, BuildError> {
    let pattern = Pattern::new(&route.path);
    if pattern.steps.len() > SEGMENTS_MAX {
        return Err(BuildError::Segments { route: route.name.clone(), segments: pattern.steps.len() });
    }
    for step in &pattern.steps {
        if let Step::Literal(literal) = step
            && literal.len() > LITERAL_BYTES_MAX
        {
            return Err(BuildError::Literal { route: route.name.clone(), bytes: literal.len() });
        }
    }
    Ok(pattern)
}

/// The different shapes, and by route the number of its own.
fn shapes(patterns: &[Pattern]) -> (Box<[Shape]>, Vec<u32>) {
    let (mut shapes, mut numbers) = (Vec::new(), HashMap::new());
    let number = |pattern| {
        *numbers.entry(Shape::of(pattern)).or_insert_with_key(|shape| {
            shapes.push(shape.clone());
            shapes.len() as u32 - 1
        })
    };
    let shape_of = patterns.iter().map(number).collect();
    (shapes.into(), shape_of)
}

fn views(routes: &[Route]) -> Result<Views<'_>, BuildError> {
    let mut views = Views::from([(None, View { closeness: Closeness::Any, routes: Vec::new() })]);
    for (id, route) in routes.iter().enumerate() {
        let hosts = route.hosts.iter().map(Some).chain(route.hosts.is_empty().then_some(None));
        for host in hosts {
            if let Some(HostPattern::Exact(name) | HostPattern::Wildcard(name)) = host
                && name.len() > HOST_BYTES_MAX
            {
                return Err(BuildError::Host { route: route.name.clone(), bytes: name.len() });
            }
            let closeness = host.map_or(Closeness::Any, Closeness::of);
            let view = views.entry(host).or_insert_with(|| View { closeness, routes: Vec::new() });
            if view.routes.last() != Some(&(id as RouteId)) {
                view.routes.push(id as RouteId);
            }
        }
    }
    Ok(views)
}

/// A number for each route under each kind of host it names; the smallest goes first.
fn ranks(routes: &[Route], patterns: &[Pattern], conditions: &[Conditions]) -> HashMap<(RouteId, Closeness), u32> {
    let mut keys = Vec::with_capacity(routes.len());
    for (id, route) in routes.iter().enumerate() {
        let mut kinds: Vec<Closeness> = route.hosts.iter().map(Closeness::of).collect();
        if kinds.is_empty() {
            kinds.push(Closeness::Any);
        }
        kinds.sort_unstable();
        kinds.dedup();
        keys.extend(kinds.into_iter().map(|kind| {
            let key = Key::new(id, route.priority, kind, &patterns[id], &conditions[id]);
            (key, (id as RouteId, kind))
        }));
    }
    keys.sort_unstable();
    keys.into_iter().enumerate().map(|(rank, (_, route))| (route, rank as u32)).collect()
}

/// A request walks its host's trie and those of the less specific patterns.
fn bound(
    routes: &[Route],
    patterns: &[Pattern],
    named: &[Named<'_>],
    hosts: &Hosts,
    costs: &[Cost],
) -> Result<(), BuildError> {
    let chain = |first: u32| {
        let entries = std::iter::successors(Some(hosts.entry(first)), |entry| entry.next.map(|next| hosts.entry(next)));
        entries.fold(Cost::default(), |sum, entry| sum.and(costs[entry.root as usize]))
    };
    let each = named.iter().enumerate().map(|(index, named)| (chain(Hosts::index(index)), named.host));
    let each: Vec<(Cost, &str)> = each.chain([(chain(ANY), "*")]).collect();
    match each.iter().map(|(cost, host)| (cost.visits, *host)).max() {
        Some((visits, host)) if visits > VISITS_MAX => {
            return Err(BuildError::Visits { host: host.to_owned(), visits });
        }
        _ => {}
    }
    match each.iter().map(|(cost, host)| (cost.tries, *host)).max() {
        Some((tries, host)) if tries > TRIES_MAX => {
            return Err(BuildError::Tries { host: host.to_owned(), tries, prefix: crowded_prefix(routes, host) });
        }
        _ => {}
    }
    match each.iter().map(|(cost, host)| (cost.candidates, *host)).max() {
        Some((candidates, host)) if candidates > CANDIDATES_MAX => {
            let on_host = std::iter::zip(routes, patterns).filter(|(route, _)| may_have(route, host));
            let path = most_frequent(on_host.map(|(_, pattern)| pattern.label()));
            Err(BuildError::Candidates { host: host.to_owned(), candidates, path })
        }
        _ => Ok(()),
    }
}

/// True if requests to the host may reach the route.
fn may_have(route: &Route, host: &str) -> bool {
    let names = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(name) => name == host,
        HostPattern::Wildcard(suffix) => suffix == host || host.ends_with(&format!(".{suffix}")),
    };
    route.hosts.is_empty() || route.hosts.iter().any(names)
}

fn most_frequent(texts: impl Iterator<Item = String>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    texts.for_each(|text| *counts.entry(text).or_default() += 1);
    counts.into_iter().max_by_key(|(_, count)| *count).map_or(String::new(), |(text, _)| text)
}

/// Where most expressions of a host begin.
fn crowded_prefix(routes: &[Route], host: &str) -> String {
    most_frequent(routes.iter().filter(|route| may_have(route, host)).filter_map(|route| match &route.path {
        PathPattern::Expression(path) => Some(format!("/{}", path.prefix.join("/"))),
        _ => None,
    }))
}
