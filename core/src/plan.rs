//! A snapshot compiled for serving: flat, immutable, built on the control thread, read by every core. Holds no state
//! of any core (`shard`) and no text of the document.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use quanta::Instant;
use ringway_config::Fault;
use ringway_config::snapshot::{
    Action, Cidr, Cluster, EndpointAddress, Hedge, Listener, Redirect, Respond, Retry, Snapshot,
};
use ringway_proto::{HeadLimits, reason, write_decimal, write_field, write_status_line};

use crate::filter::{self, Filter};
use crate::net::Address;
use crate::observe::RouteLabel;
use crate::route::{BuildError, RouteTable};
use crate::sockets::NewSockets;
use crate::upstream::{ClusterPlan, EndpointPlan};

/// Everything a core needs to serve.
pub struct Plan {
    /// Counts up by one for each plan that the node adopts.
    pub generation: u64,
    pub node: Node,
    pub listeners: Vec<ListenerPlan>,
    pub clusters: Vec<ClusterPlan>,
    pub table: RouteTable,
    /// By route id.
    pub routes: Vec<RoutePlan>,
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
    pub filters: Vec<Box<dyn Filter>>,
    pub action: ActionPlan,
    pub body_bytes_max: Option<u64>,
    pub total_timeout: Option<std::time::Duration>,
    /// Replaces the cluster's.
    pub retry: Option<Retry>,
    pub hedge: Option<Hedge>,
}

pub enum ActionPlan {
    /// Index into [`Plan::clusters`].
    Forward(usize),
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
        let mut faults = Vec::new();
        let table = RouteTable::build(snapshot).map_err(|error| faults.push(route_fault(&error)));
        let mut routes = Vec::with_capacity(snapshot.routes.len());
        let mut labels = Vec::with_capacity(snapshot.routes.len());
        for (id, route) in snapshot.routes.iter().enumerate() {
            let filters = route
                .filters
                .iter()
                .filter_map(|config| filter::build(config).map_err(|fault| faults.push(fault)).ok());
            routes.push(RoutePlan {
                id: id as u32,
                name: route.name.clone(),
                filters: filters.collect(),
                action: action(&route.action),
                body_bytes_max: route.body_bytes_max,
                total_timeout: route.total_timeout,
                retry: route.retry.clone(),
                hedge: route.hedge,
            });
            if let Ok(table) = &table {
                labels.push(RouteLabel { name: route.name.as_str().into(), pattern: table.label(id as u32).into() });
            }
        }
        match table {
            Ok(table) if faults.is_empty() => Ok(Plan {
                generation,
                node,
                listeners: snapshot.listeners.iter().map(listener).collect(),
                clusters: clusters(snapshot, names, node, before),
                table,
                routes,
                labels: labels.into(),
                sockets: NewSockets::default(),
            }),
            _ => Err(faults),
        }
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

fn action(action: &Action) -> ActionPlan {
    match action {
        Action::Cluster(index) => ActionPlan::Forward(*index),
        Action::Redirect(redirect) => ActionPlan::Redirect(redirect.clone()),
        Action::Respond(respond) => ActionPlan::Respond(FixedAnswer::new(respond)),
    }
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
}
