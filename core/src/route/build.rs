//! Routes → [`RouteTable`], on the control thread. Refuses what would make a lookup's cost unbounded; everything else
//! about a route was checked before (`ringway-config`).

use super::captures::Shape;
use super::conditions::{Conditions, Methods};
use super::edges::Edges;
use super::hosts::{ANY, Hosts, Named};
use super::order::{Closeness, Key};
use super::pattern::{Pattern, Step};
use super::trees::{Frozen, Trees};
use super::walk::Candidate;
use super::{RouteId, RouteTable, Rule};
use ringway_config::snapshot::{HostPattern, Route};
use std::collections::HashMap;
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
    let mut methods = Methods::new();
    let mut conditions = Vec::with_capacity(routes.len());
    for route in routes {
        let set = methods.set(&route.methods).ok_or_else(|| BuildError::Methods { route: route.name.clone() })?;
        conditions.push(Conditions::new(&route.listeners, listeners, set, &route.headers));
    }
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
    let Frozen { nodes, candidates, visits } = trees.freeze();
    bound_visits(&named, &hosts, &visits)?;
    let rules = std::iter::zip(routes, patterns).map(|(route, pattern)| Rule {
        name: route.name.as_str().into(),
        label: pattern.label().into(),
        pattern,
        hosts: route.hosts.clone().into(),
        priority: route.priority,
    });
    let rules = rules.collect();
    let conditions = conditions.into();
    Ok(RouteTable { hasher, hosts, nodes, edges, candidates, methods, shapes, conditions, rules })
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
fn bound_visits(named: &[Named<'_>], hosts: &Hosts, visits: &[u32]) -> Result<(), BuildError> {
    let chain = |first: u32| {
        let entries = std::iter::successors(Some(hosts.entry(first)), |entry| entry.next.map(|next| hosts.entry(next)));
        entries.fold(0u32, |sum, entry| sum.saturating_add(visits[entry.root as usize]))
    };
    let each = named.iter().enumerate().map(|(index, named)| (chain(Hosts::index(index)), named.host));
    match each.chain([(chain(ANY), "*")]).max() {
        Some((visits, host)) if visits > VISITS_MAX => Err(BuildError::Visits { host: host.to_owned(), visits }),
        _ => Ok(()),
    }
}
