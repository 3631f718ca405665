//! A snapshot compiled for serving: flat, immutable, built on the control thread, read by every core. Holds no state
//! of any core (`shard`) and no text of the document.

mod apis;
mod policies;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_config::Fault;
use ringway_config::snapshot::{
    Action, ApiUse, Cidr, Cluster, EndpointAddress, HashOn, Listener, Redirect, Respond, Route, Settings, Snapshot,
};
use ringway_proto::{HeadLimits, reason, write_decimal, write_field, write_status_line};

use xxhash_rust::xxh3::xxh3_64;

use crate::filter::{self, Building, Chance, Filter, Gathered};
use crate::mesh::Registry;
use crate::net::Address;
use crate::observe::RouteLabel;
use crate::redis::RedisPlan;
use crate::route::Pins;
use crate::route::split::Split;
use crate::route::{BuildError, RouteTable};
use crate::sockets::NewSockets;
use crate::upstream::{ClusterPlan, EndpointPlan};
use policies::Outers;

pub use apis::{ApiPlan, Apis, VersionPlan};
pub use policies::{Chain, OuterPolicies};

/// Everything a core needs to serve.
pub struct Plan {
    /// Counts up by one for each plan that the node adopts.
    pub generation: u64,
    pub node: Node,
    pub listeners: Vec<ListenerPlan>,
    pub clusters: Vec<ClusterPlan>,
    pub redis: Vec<RedisPlan>,
    pub table: RouteTable,
    /// By route id.
    pub routes: Vec<RoutePlan>,
    /// `None` if no listener and no host has a policy.
    pub outer: Option<OuterPolicies>,
    pub apis: Apis,
    /// What its filters have in common.
    pub gathered: Gathered,
    /// What filters keep for the whole node.
    pub shared: Arc<Registry>,
    /// Names of the routes that split, in the order of their numbers.
    pub splits: Vec<String>,
    /// By route id, for the meters.
    pub labels: Arc<[RouteLabel]>,
    /// Listening sockets that the cores do not have yet.
    pub sockets: NewSockets,
}

pub struct ListenerPlan {
    pub config: Listener,
    /// Where it really listens: as `config.bind`, with the kernel's choice for a port 0.
    pub addresses: Vec<SocketAddr>,
    pub head_limits: HeadLimits,
}

pub struct RoutePlan {
    pub id: u32,
    pub name: String,
    /// The version of an API that it serves.
    pub api: Option<ApiUse>,
    /// What its version says, the policies of its group, its own, and its own filters.
    pub inner: Chain,
    /// Its row in [`Plan::outer`].
    row: u32,
    pub action: ActionPlan,
    /// With [`ActionPlan::Forward`].
    pub mirror: Option<MirrorPlan>,
}

/// One of several clusters for each request.
pub struct SplitPlan {
    /// By arm: index into [`Plan::clusters`].
    pub clusters: Vec<usize>,
    pub weights: Split,
    pub pins: Option<Pins>,
    pub on: Option<HashOn>,
    /// Of the route's name, which stays over reloads and is the same on every gateway.
    pub salt: u64,
    /// Its place in [`Plan::splits`].
    pub number: usize,
}

/// Where copies of a route's requests go.
pub struct MirrorPlan {
    /// Index into [`Plan::clusters`].
    pub cluster: usize,
    pub chance: Chance,
    /// For the whole exchange with the mirror.
    pub timeout: Duration,
}

/// What a request passes: the filters from the outermost to the innermost, and what is set.
#[derive(Clone, Copy)]
pub struct InForce<'p> {
    outer: Option<&'p Chain>,
    inner: &'p Chain,
}

pub enum ActionPlan {
    /// Index into [`Plan::clusters`].
    Forward(usize),
    Split(SplitPlan),
    Redirect(Redirect),
    Respond(FixedAnswer),
}

/// An answer made ahead: all of its head but what depends on the moment.
pub struct FixedAnswer {
    pub status: u16,
    /// Status line and fields, each with CRLF; without `Date`, `Connection` and the empty line.
    pub head: Vec<u8>,
    pub body: Vec<u8>,
}

/// What never changes while the process runs.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// The beginning of its time, which all cores share.
    pub epoch: Instant,
    pub cores: usize,
}

impl Node {
    pub fn new(cores: usize) -> Node {
        Node { epoch: Instant::now(), cores }
    }
}

/// What a name stands for now.
pub trait Names {
    /// The addresses of `host`, the last good ones if it cannot be asked.
    fn addresses(&self, host: &str) -> Vec<IpAddr>;
}

impl Plan {
    /// Compiles a checked snapshot. `before` is the plan that serves now: what the node knows of its clusters lives on.
    ///
    /// # Errors
    /// What only the rooms that own a table can see: the filters', and a route table beyond its limits.
    pub fn build(
        snapshot: &Snapshot,
        generation: u64,
        names: &dyn Names,
        node: Node,
        before: Option<&Plan>,
    ) -> Result<Plan, Vec<Fault>> {
        let (redis, mut faults) = redis(snapshot, names, node);
        let table = RouteTable::build(snapshot).map_err(|error| faults.push(route_fault(&error)));
        let mut routes = Vec::with_capacity(snapshot.routes.len());
        let mut labels = Vec::with_capacity(snapshot.routes.len());
        let apis = Apis::new(snapshot);
        let shared = before.map(|before| before.shared.clone()).unwrap_or_default();
        let mut building = Building::new(snapshot, shared.clone(), node.cores);
        let built = policies::build(snapshot, &mut building, &mut faults);
        let mut outers = Outers::new(snapshot, &built);
        let mut splits = Vec::new();
        for (id, route) in snapshot.routes.iter().enumerate() {
            let own = route.filters.iter().map(|config| filter::build(config, &mut building));
            let own = own.filter_map(|filter| policies::keep(filter, &mut faults)).map(Arc::from).collect();
            let named: Vec<usize> = snapshot.inner_policies(route).into_iter().map(|(_, policy)| policy).collect();
            let row = outers.as_mut().map(|outers| outers.row(snapshot, id));
            let inner = Chain::new(apis.notice(route.api), &built, named.into_iter(), own, route.settings.clone());
            if let Ok(table) = &table {
                policies::unmet(&inner, table, id as u32, &mut faults);
            }
            routes.push(RoutePlan {
                id: id as u32,
                name: route.name.clone(),
                api: route.api,
                inner,
                row: row.and_then(|row| policies::keep(row, &mut faults)).unwrap_or(0),
                action: action(id, route, &mut splits).unwrap_or_else(|error| {
                    faults.push(route_fault(&error));
                    ActionPlan::Forward(0) // the plan is refused
                }),
                mirror: mirror(route),
            });
            if let Ok(table) = &table {
                labels.push(RouteLabel {
                    name: route.name.as_str().into(),
                    pattern: table.label(id as u32).into(),
                    api: route.api.map(|of| apis.names(of)).map(|(api, version)| (api.clone(), version.clone())),
                });
            }
        }
        let outer = outers.map(Outers::finish);
        outer.iter().for_each(|outer| outer.unmet(&mut faults));
        let gathered = building.finish();
        match table {
            Ok(table) if faults.is_empty() => Ok(Plan {
                generation,
                node,
                listeners: snapshot.listeners.iter().map(listener).collect(),
                clusters: clusters(snapshot, names, node, before),
                redis,
                table,
                routes,
                outer,
                gathered,
                shared,
                apis,
                splits,
                labels: labels.into(),
                sockets: NewSockets::default(),
            }),
            _ => Err(faults),
        }
    }
}

impl Plan {
    /// What a request to `host` on `listener` passes that `route` takes.
    #[inline]
    pub fn in_force<'p, 'h>(
        &'p self,
        route: &'p RoutePlan,
        listener: u32,
        host: impl FnOnce() -> &'h [u8],
    ) -> InForce<'p> {
        let outer = self.outer.as_ref().map(|outer| outer.chain(route.row, listener, host()));
        InForce { outer, inner: &route.inner }
    }
}

impl Plan {
    /// True if somebody can reach the route who has not said who he is.
    pub fn is_open(&self, snapshot: &Snapshot, id: usize) -> bool {
        let (route, config) = (&self.routes[id], &snapshot.routes[id]);
        if route.inner.authenticates() {
            return false;
        }
        let Some(outer) = &self.outer else { return true };
        let serves = |name: &String| config.listeners.is_empty() || config.listeners.contains(name);
        let mut listeners = snapshot.listeners.iter().enumerate().filter(|(_, listener)| serves(&listener.name));
        listeners.any(|(listener, _)| !outer.authenticates(route.row, listener, &config.hosts))
    }
}

impl<'p> InForce<'p> {
    /// The filter at this place of the order in which they run on a request; on an answer they run in reverse.
    #[inline]
    pub fn filter(self, at: usize) -> Option<&'p dyn Filter> {
        let outer = self.outer.map_or(&[][..], |outer| &outer.filters);
        let filter = match at.checked_sub(outer.len()) {
            None => &outer[at],
            Some(at) => self.inner.filters.get(at)?,
        };
        Some(&**filter)
    }

    /// True if one of its filters wants to see answers.
    #[inline]
    pub fn sees_answers(self) -> bool {
        self.inner.sees_answers || self.outer.is_some_and(|outer| outer.sees_answers)
    }

    pub fn filters(self) -> impl Iterator<Item = &'p dyn Filter> {
        (0..).map_while(move |at| self.filter(at))
    }

    /// The innermost that says something.
    pub fn setting<T>(self, of: impl Fn(&'p Settings) -> Option<T>) -> Option<T> {
        of(&self.inner.settings).or_else(|| of(&self.outer?.settings))
    }
}

fn route_fault(error: &BuildError) -> Fault {
    Fault::new(error.to_string()).at(error.place())
}

fn listener(config: &Listener) -> ListenerPlan {
    let head_limits = HeadLimits {
        head_bytes_max: config.head_bytes_max,
        target_bytes_max: config.target_bytes_max,
        fields_max: config.headers_max,
    };
    ListenerPlan { addresses: config.bind.clone(), config: config.clone(), head_limits }
}

fn clusters(snapshot: &Snapshot, names: &dyn Names, node: Node, before: Option<&Plan>) -> Vec<ClusterPlan> {
    let now_ms = Instant::now().saturating_duration_since(node.epoch).as_millis() as u64;
    let known: HashMap<&str, &ClusterPlan> = before
        .iter()
        .flat_map(|plan| plan.clusters.iter().map(|cluster| (cluster.config.name.as_str(), cluster)))
        .collect();
    let plan = |config: &Cluster| {
        let before = known.get(config.name.as_str()).copied();
        ClusterPlan::new(config.clone(), endpoints(config, names), before, node.cores, now_ms)
    };
    snapshot.clusters.iter().map(plan).collect()
}

fn redis(snapshot: &Snapshot, names: &dyn Names, node: Node) -> (Vec<RedisPlan>, Vec<Fault>) {
    let mut faults = Vec::new();
    let plan = |config| RedisPlan::new(config, |host| names.addresses(host), node.cores);
    let plans = snapshot.process.redis.iter().filter_map(|config| policies::keep(plan(config), &mut faults));
    (plans.collect(), faults)
}

fn endpoints(config: &Cluster, names: &dyn Names) -> Vec<EndpointPlan> {
    let mut endpoints = Vec::new();
    for endpoint in &config.endpoints {
        let mut add = |address: Address, label: String| {
            endpoints.push(EndpointPlan { address, label, weight: endpoint.weight, backup: endpoint.backup });
        };
        match &endpoint.address {
            EndpointAddress::Ip(address) => add(Address::Ip(*address), address.to_string()),
            EndpointAddress::Unix(path) => add(Address::Unix(path.clone()), format!("unix:{}", path.display())),
            EndpointAddress::Dns { host, port } => {
                for ip in names.addresses(host) {
                    add(Address::Ip((ip, *port).into()), format!("{host}:{port}"));
                }
            }
        }
    }
    endpoints
}

fn mirror(route: &Route) -> Option<MirrorPlan> {
    let mirror = route.mirror.as_ref()?;
    Some(MirrorPlan { cluster: mirror.cluster, chance: Chance::of(mirror.percent), timeout: mirror.timeout })
}

/// # Errors
/// An expression of an arm is too large when compiled.
fn action(id: usize, route: &Route, splits: &mut Vec<String>) -> Result<ActionPlan, BuildError> {
    Ok(match &route.action {
        Action::Cluster(index) => ActionPlan::Forward(*index),
        Action::Split(split) => {
            splits.push(route.name.clone());
            let weights: Vec<u32> = split.arms.iter().map(|arm| arm.weight).collect();
            let conditions = split.arms.iter().map(|arm| &arm.when[..]);
            ActionPlan::Split(SplitPlan {
                clusters: split.arms.iter().map(|arm| arm.cluster).collect(),
                weights: Split::new(&weights),
                pins: Pins::new(conditions, &route.name, format!("routes[{id}].split"))?,
                on: split.on.clone(),
                salt: xxh3_64(route.name.as_bytes()),
                number: splits.len() - 1,
            })
        }
        Action::Redirect(redirect) => ActionPlan::Redirect(redirect.clone()),
        Action::Respond(respond) => ActionPlan::Respond(FixedAnswer::new(respond)),
    })
}

impl FixedAnswer {
    fn new(respond: &Respond) -> FixedAnswer {
        let mut head = Vec::new();
        write_status_line(&mut head, respond.status, reason(respond.status).as_bytes());
        let body = respond.body.as_bytes().to_vec();
        for (name, value) in &respond.headers {
            write_field(&mut head, name.as_bytes(), value.as_bytes());
        }
        // RFC 9110 8.6: no Content-Length in a 204; a 304's would speak of another answer.
        if !matches!(respond.status, 204 | 304) {
            if !body.is_empty() && !respond.content_type.is_empty() {
                write_field(&mut head, b"Content-Type", respond.content_type.as_bytes());
            }
            head.extend_from_slice(b"Content-Length: ");
            write_decimal(&mut head, body.len() as u64);
            head.extend_from_slice(b"\r\n");
        }
        FixedAnswer { status: respond.status, head, body }
    }
}

impl ListenerPlan {
    /// True if the peer may say who the client is.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        contains(&self.config.trusted_proxies, peer)
    }
}

fn contains(list: &[Cidr], address: IpAddr) -> bool {
    list.iter().any(|cidr| cidr.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_compared_by_bits() {
        let list = [
            Cidr { address: "10.0.0.0".parse().unwrap(), prefix: 8 },
            Cidr { address: "2001:db8::".parse().unwrap(), prefix: 33 },
        ];
        let inside = |ip: &str| contains(&list, ip.parse().unwrap());
        assert!(inside("10.255.0.1") && inside("::ffff:10.1.2.3") && inside("2001:db8:7fff::1"));
        assert!(!inside("11.0.0.1") && !inside("2001:db8:8000::1") && !inside("::1"));
        assert!(contains(&[Cidr { address: "::".parse().unwrap(), prefix: 0 }], "::1".parse().unwrap()));
    }

    #[test]
    fn what_a_route_does_not_have_is_told() {
        struct NoNames;
        impl Names for NoNames {
            fn addresses(&self, _host: &str) -> Vec<IpAddr> {
                Vec::new()
            }
        }
        let faults = |text: &str| -> Vec<String> {
            let text = format!("[[routes]]\nname = \"r\"\nrespond = {{}}\n{text}");
            let loaded = ringway_config::load(&ringway_config::Source { name: "t".into(), text })
                .unwrap_or_else(|errors| panic!("{errors}"));
            let plan = Plan::build(&loaded.snapshot, 0, &NoNames, Node::new(1), None);
            plan.err().unwrap_or_default().iter().map(ToString::to_string).collect()
        };
        let rewrite = |to: &str| format!("filters = [{{ rewrite = {{ {to} }} }}]");
        let listener = "[listeners.a]\nbind = \":1\"\n";
        assert_eq!(faults(&format!("path = \"/u/{{id}}\"\n{}\n{listener}", rewrite("to = '/{id}'"))), [""; 0]);
        assert_eq!(
            faults(&format!("path = \"/u/{{id}}\"\n{}\n{listener}", rewrite("to = '/{ids}'"))),
            ["routes[0].filters[0].rewrite: the path of route \"r\" has no {ids}; it has id"]
        );
        assert_eq!(
            faults(&format!("path = \"/u\"\n{}\n{listener}", rewrite("prefix = '/a'"))),
            ["routes[0].filters[0].rewrite: route \"r\" has no path_prefix to replace; \
              write rewrite = { to = ... } for a whole path"]
        );
        let policy = format!("[policies.p]\n{}\n", rewrite("to = '/{id}'"));
        assert_eq!(
            faults(&format!("{policy}{listener}policies = [\"p\"]\n")),
            ["policies.p.filters[0].rewrite: a policy of a listener or a host cannot use {id}; \
              routes differ in it: name the policy on a group or on the routes"]
        );
    }
}
