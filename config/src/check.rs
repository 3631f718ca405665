//! From a document to a snapshot: what must fit together, and every name turned into what it names.
//! Each value alone was already checked when it was read.

mod apis;
mod clusters;
mod identity;
mod policies;
mod redis;
pub(crate) mod routes;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use crate::cores::Cores;
use crate::decode::Table;
use crate::document::{self, CoreOverride, Document};
use crate::http::HeaderName;
use crate::place::Place;
use crate::policy::Shared;
use crate::problem::{Fault, Problems};
use crate::snapshot::{
    self, Cluster, Control, CoreCount, CoreLimits, Drain, Listener, Log, Pool, Process, Snapshot, Telemetry,
};
use crate::units::{duration_text, size_text};

use policies::Known;

/// Never in clear in any log, whatever the operator says.
const ALWAYS_REDACTED: [&str; 5] = ["authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key"];

/// `None` if some value could not be built; other mistakes leave a snapshot behind that must not be used.
pub(crate) fn snapshot(document: Document, problems: &mut Problems) -> Option<Snapshot> {
    let Document {
        io,
        cores,
        telemetry,
        control,
        log,
        drain,
        pool,
        workers,
        redis,
        listeners,
        clusters,
        policies,
        issuers,
        consumers,
        hosts,
        groups,
        apis,
        routes,
    } = document;
    let telemetry = Telemetry { bind: telemetry.0.bind.0 };
    let process = Process {
        io,
        cores: check_cores(cores, problems),
        control: Control { socket: control.0.socket.0 },
        log: check_log(log.0),
        drain: check_drain(&drain.0, problems),
        pool: check_pool(&pool.0),
        workers: snapshot::Workers { threads: workers.0.threads.usize(), queue_max: workers.0.queue_max.usize() },
        redis: redis.0.into_iter().map(|(name, Table(keys))| redis::check(name, keys, problems)).collect(),
        telemetry,
    };
    let issuers = identity::issuers(issuers.0, problems);
    let consumers = identity::consumers(consumers.0, problems);
    let shared = Shared { policies: policies.0, hosts: hosts.0, groups: groups.0 };
    let shared = policies::check(shared, problems);
    let listeners = listeners.0.into_iter();
    let listeners: Vec<Listener> =
        listeners.map(|(name, Table(keys))| check_listener(name, keys, &shared.known, problems)).collect();
    let clusters: Vec<Cluster> =
        clusters.0.into_iter().map(|(name, Table(keys))| clusters::check(name, keys, problems)).collect();
    check_binds(&process.telemetry, &listeners, problems);
    check_present(&listeners, routes.0.is_empty(), problems);
    let apis = apis::check(apis.0, problems);
    let routes = routes::check(routes.0, &listeners, &clusters, &shared, &apis, problems)?;
    apis::warn_unused(&apis, &routes, problems);
    shared.warn_unused(&routes, &listeners, problems);
    let policies::Checked { policies, hosts, groups, known: _ } = shared;
    Some(Snapshot { process, listeners, clusters, policies, apis, issuers, consumers, hosts, groups, routes })
}

fn check_cores(cores: Cores, problems: &mut Problems) -> snapshot::Cores {
    let Cores { keys, overrides } = cores;
    let place = Place::ROOT.key("cores");
    let known = match &keys.count {
        CoreCount::Auto => None,
        CoreCount::Exactly(count) => Some(*count),
        CoreCount::List(cpus) => Some(cpus.len()),
    };
    if let Some(known) = known {
        for (number, _) in overrides.iter().filter(|(number, _)| *number >= known) {
            let name = number.to_string();
            let fault = Fault::new(format!("there is no core {number}: count makes {known}"));
            problems.error(&place.key(&name), fault.cure(format!("cores are numbered 0 to {}", known - 1)));
        }
    }
    let each = CoreLimits {
        ring_entries: keys.ring_entries.u32(),
        connections_max: keys.connections_max.usize(),
        buffer_bytes: keys.buffer_bytes.usize(),
        buffers_max: keys.buffers_max.usize(),
        keepalive_timeout: keys.keepalive_timeout.map(|time| time.duration()),
    };
    let overrides = overrides.into_iter().map(|(number, keys)| (number, merged(&each, &keys))).collect();
    snapshot::Cores { count: keys.count, each, overrides }
}

fn merged(each: &CoreLimits, keys: &CoreOverride) -> CoreLimits {
    CoreLimits {
        ring_entries: keys.ring_entries.map_or(each.ring_entries, |entries| entries.u32()),
        connections_max: keys.connections_max.map_or(each.connections_max, |most| most.usize()),
        buffer_bytes: keys.buffer_bytes.map_or(each.buffer_bytes, |bytes| bytes.usize()),
        buffers_max: keys.buffers_max.map_or(each.buffers_max, |most| most.usize()),
        keepalive_timeout: keys.keepalive_timeout.map_or(each.keepalive_timeout, |time| Some(time.duration())),
    }
}

fn check_log(keys: document::Log) -> Log {
    let mut redact: Vec<String> = ALWAYS_REDACTED.map(str::to_owned).to_vec();
    redact.extend(keys.redact.0.into_iter().map(HeaderName::into_string));
    redact.sort();
    redact.dedup();
    let mut named = HashSet::new();
    let headers = keys.headers.0.into_iter().map(HeaderName::into_string);
    Log {
        access: keys.access,
        access_format: keys.access_format,
        queue_lines_max: keys.queue_lines_max.usize(),
        headers: headers.filter(|name| named.insert(name.clone())).collect(),
        redact,
    }
}

fn check_drain(keys: &document::Drain, problems: &mut Problems) -> Drain {
    let drain = Drain { wait: keys.wait.duration(), deadline: keys.deadline.duration() };
    if drain.deadline <= drain.wait {
        let (wait, deadline) = (duration_text(drain.wait), duration_text(drain.deadline));
        let fault = Fault::new(format!("ends after {deadline}, within the wait of {wait}"));
        let place = Place::ROOT.key("drain");
        problems.error(&place.key("deadline"), fault.cure("it counts from the signal: make it longer than the wait"));
    }
    drain
}

fn check_pool(keys: &document::Pool) -> Pool {
    Pool {
        idle_max: keys.idle_max.usize(),
        idle_per_endpoint_max: keys.idle_per_endpoint_max.usize(),
        idle_timeout: keys.idle_timeout.duration(),
        lifetime_max: keys.lifetime_max.duration(),
    }
}

fn check_listener(name: String, keys: document::Listener, known: &Known, problems: &mut Problems) -> Listener {
    let listeners = Place::ROOT.key("listeners");
    let place = listeners.key(&name);
    let (head, target) = (keys.head_bytes_max.u64(), keys.target_bytes_max.u64());
    if target > head {
        let (head, target) = (size_text(head), size_text(target));
        let fault = Fault::new(format!("{target} would not fit a head of at most {head}"));
        let cure = format!("set target_bytes_max to at most {head}, or raise head_bytes_max");
        problems.error(&place.key("target_bytes_max"), fault.cure(cure));
    }
    if keys.protocols.0.is_empty() {
        problems.error(&place.key("protocols"), Fault::new("is empty").cure("leave it out, or name \"http/1.1\""));
    }
    Listener {
        bind: keys.bind.0.into_iter().map(|bind| bind.0).collect(),
        steering: keys.steering,
        backlog: keys.backlog.u32(),
        header_timeout: keys.header_timeout.duration(),
        body_timeout: keys.body_timeout.duration(),
        keepalive_timeout: keys.keepalive_timeout.duration(),
        unused_timeout: keys.unused_timeout.duration(),
        send_timeout: keys.send_timeout.duration(),
        tunnel_timeout: keys.tunnel_timeout.duration(),
        head_bytes_max: keys.head_bytes_max.usize(),
        target_bytes_max: keys.target_bytes_max.usize(),
        headers_max: keys.headers_max.usize(),
        body_bytes_max: keys.body_bytes_max.u64(),
        keepalive_requests_max: keys.keepalive_requests_max.u64(),
        connections_per_ip_max: keys.connections_per_ip_max.usize(),
        forwarded: keys.forwarded,
        via: keys.via.0,
        trusted_proxies: keys.trusted_proxies.0,
        policies: known.resolve(&keys.policies, &place.key("policies"), problems),
        name,
    }
}

/// With SO_REUSEPORT two listeners on one address would not fail but share its connections at random.
fn check_binds(telemetry: &Telemetry, listeners: &[Listener], problems: &mut Problems) {
    let mut taken: HashMap<SocketAddr, String> = HashMap::new();
    taken.extend(telemetry.bind.filter(|address| address.port() != 0).map(|address| (address, "telemetry".to_owned())));
    let root = Place::ROOT.key("listeners");
    for listener in listeners {
        let place = root.key(&listener.name);
        for address in listener.bind.iter().filter(|address| address.port() != 0) {
            let owner = match taken.entry(*address) {
                Entry::Occupied(owner) => owner,
                Entry::Vacant(free) => {
                    free.insert(place.to_string());
                    continue;
                }
            };
            let fault = match *owner.get() == place.to_string() {
                true => Fault::new(format!("{address} is named twice")),
                false => Fault::new(format!("{address} is already bound by {}", owner.get())),
            };
            problems.error(&place.key("bind"), fault.cure("give each its own port"));
        }
    }
}

fn check_present(listeners: &[Listener], no_routes: bool, problems: &mut Problems) {
    if listeners.is_empty() {
        let cure = "add [listeners.public] with bind = \"0.0.0.0:8080\"; `ringway init` prints a whole file";
        problems.error(&Place::ROOT, Fault::new("no listener: nothing could reach the gateway").cure(cure));
    }
    if no_routes {
        let cure = "add [[routes]] with a name and a cluster; `ringway init` prints a whole file";
        problems.error(&Place::ROOT, Fault::new("no route: every request would be a 404").cure(cure));
    }
}
