//! The checked document: every name resolved, every unit parsed, every limit in range.
//! Immutable; what the control thread compiles into a plan. Not the TOML shape (`document`).

mod cluster;
mod identity;
mod redis;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use crate::condition::{Condition, Subject, Test};
pub use crate::expression::{Expression, PathExpression};
use crate::units::Percent;
pub use cluster::*;
pub use identity::*;
pub use redis::*;

/// A whole configuration that passed every check.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Read once, at start; a reload that changes it is refused by name.
    pub process: Process,
    /// Sorted by name.
    pub listeners: Vec<Listener>,
    /// Sorted by name; routes refer to them by index.
    pub clusters: Vec<Cluster>,
    /// Sorted by name; whoever names them does so by index.
    pub policies: Vec<Policy>,
    /// Sorted by name; routes refer to them by index.
    pub apis: Vec<Api>,
    /// Sorted by name.
    pub issuers: Vec<Issuer>,
    /// Sorted by name.
    pub consumers: Vec<Consumer>,
    /// In the order the operator wrote them.
    pub hosts: Vec<HostEntry>,
    /// Sorted by name.
    pub groups: Vec<Group>,
    /// In the order the operator wrote them.
    pub routes: Vec<Route>,
}

/// The half that is read at start.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    pub io: IoChoice,
    pub cores: Cores,
    pub telemetry: Telemetry,
    pub control: Control,
    pub log: Log,
    pub drain: Drain,
    pub pool: Pool,
    pub workers: Workers,
    /// Sorted by name.
    pub redis: Vec<Redis>,
}

/// Threads beside the cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers {
    pub threads: usize,
    pub queue_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IoChoice {
    #[default]
    Auto,
    IoUring,
    Epoll,
}

/// Which cores serve, and what each may hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Cores {
    pub count: CoreCount,
    /// What every core gets unless `overrides` says otherwise.
    pub each: CoreLimits,
    /// `[cores.N]`: the complete limits of core number N (shard index, from 0), already merged over `each`.
    pub overrides: Vec<(usize, CoreLimits)>,
}

impl Cores {
    /// The limits of one shard.
    pub fn limits(&self, shard: usize) -> &CoreLimits {
        self.overrides.iter().find(|(n, _)| *n == shard).map_or(&self.each, |(_, limits)| limits)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoreCount {
    /// As many as the affinity mask and the cgroup quota allow.
    Auto,
    /// This many shards, pinned if the machine has that many cores.
    Exactly(usize),
    /// One shard for each CPU number, pinned to it.
    List(Vec<usize>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct CoreLimits {
    /// io_uring submission entries.
    pub ring_entries: u32,
    /// Open client connections of this core.
    pub connections_max: usize,
    /// Size of one receive buffer.
    pub buffer_bytes: usize,
    /// Receive buffers this core may ever hold.
    pub buffers_max: usize,
    /// Replaces the listener's keep-alive timeout on this core.
    pub keepalive_timeout: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// `None`: no telemetry listener.
    pub bind: Option<SocketAddr>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Control {
    /// Unix socket for `ringway reload` and `ringway drain`; mode 0600.
    pub socket: PathBuf,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    pub access: AccessTarget,
    pub access_format: AccessFormat,
    /// Lines waiting per core before new ones are dropped and counted.
    pub queue_lines_max: usize,
    /// Request headers whose values are written to the access log (lower case); the redacted ones as `"[redacted]"`.
    pub headers: Vec<String>,
    /// Lower-case header names never written in clear, `authorization`, `cookie` and the like always among them.
    pub redact: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessTarget {
    Off,
    Stdout,
    File(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessFormat {
    /// JSON, Elastic Common Schema names.
    Ecs,
    /// nginx `combined`.
    Combined,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Drain {
    /// Still accepting while `/readyz` already fails.
    pub wait: Duration,
    /// From the signal to the end of the last connection.
    pub deadline: Duration,
}

/// Idle origin connections of the whole node; each core gets its share.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    pub idle_max: usize,
    pub idle_per_endpoint_max: usize,
    pub idle_timeout: Duration,
    /// A connection older than this is not reused.
    pub lifetime_max: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    pub name: String,
    pub bind: Vec<SocketAddr>,
    pub steering: Steering,
    pub backlog: u32,
    /// First byte of a head to its last.
    pub header_timeout: Duration,
    /// Between two reads of a request body.
    pub body_timeout: Duration,
    /// Between two requests of one connection.
    pub keepalive_timeout: Duration,
    /// A connection that never sent a byte.
    pub unused_timeout: Duration,
    /// A client that takes no byte of the answer.
    pub send_timeout: Duration,
    /// A tunnel (Upgrade) without a byte in either direction.
    pub tunnel_timeout: Duration,
    pub head_bytes_max: usize,
    pub target_bytes_max: usize,
    pub headers_max: usize,
    pub body_bytes_max: u64,
    /// Requests of one connection before it is closed; 0: no limit.
    pub keepalive_requests_max: u64,
    /// Open connections from one address on one core; 0: no limit.
    pub connections_per_ip_max: usize,
    pub forwarded: Forwarded,
    /// Pseudonym in `Via`; empty: no `Via`.
    pub via: String,
    pub trusted_proxies: Vec<Cidr>,
    /// Indices into [`Snapshot::policies`].
    pub policies: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steering {
    /// The kernel's hash over the cores' sockets.
    Kernel,
    /// The core whose CPU took the packet.
    Cpu,
    /// Any core accepts, the one with the fewest connections serves.
    LeastLoaded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// `X-Forwarded-For`, `-Proto`, `-Host`, `-Port` and `X-Real-IP`.
    X,
    /// RFC 7239 `Forwarded`.
    Rfc7239,
    Both,
    /// Client-sent ones are still removed.
    Off,
}

/// `10.0.0.0/8`; a bare address is a full-length prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    pub address: IpAddr,
    pub prefix: u8,
}

impl Cidr {
    /// An IPv4 address that came as an IPv6 one (RFC 4291 section 2.5.5.2) is IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => self.same_bits(net.to_bits().into(), ip.to_bits().into(), 32),
            (IpAddr::V6(net), IpAddr::V6(ip)) => self.same_bits(net.to_bits(), ip.to_bits(), 128),
            _ => false,
        }
    }

    /// Whether every address of `other` is in this one.
    pub fn covers(&self, other: &Cidr) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4() && self.prefix <= other.prefix && self.contains(other.address)
    }

    fn same_bits(&self, net: u128, ip: u128, bits: u8) -> bool {
        let shift = u32::from(bits - self.prefix.min(bits));
        net.checked_shr(shift).unwrap_or(0) == ip.checked_shr(shift).unwrap_or(0)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    pub name: String,
    /// Names of the listeners it serves; empty: all.
    pub listeners: Vec<String>,
    /// Empty: any host.
    pub hosts: Vec<HostPattern>,
    pub path: PathPattern,
    /// Upper-case method names; empty: any.
    pub methods: Vec<String>,
    /// All must hold: those of `headers`, `queries`, `cookies`, then the parts of `when`.
    pub conditions: Vec<Condition>,
    /// Higher first, before any other rule of order.
    pub priority: i32,
    /// In the order they run; the table under each name is the filter's own, built in the dry run.
    pub filters: Vec<FilterConfig>,
    pub action: Action,
    /// Only with [`Action::Cluster`] and [`Action::Split`].
    pub mirror: Option<Mirror>,
    /// Its path and its headers say so already.
    pub api: Option<ApiUse>,
    /// Index into [`Snapshot::groups`].
    pub group: Option<usize>,
    /// Indices into [`Snapshot::policies`].
    pub policies: Vec<usize>,
    /// Those of listener, host and group that do not apply, as indices.
    pub without: Vec<usize>,
    /// Required policies of listener, host and group do not apply.
    pub public: bool,
    /// The route's own, before any policy's.
    pub settings: Settings,
}

/// What a route can say about how its requests are served, and a policy for many; unset is what the listener or the
/// cluster says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    pub body_bytes_max: Option<u64>,
    pub total_timeout: Option<Duration>,
    /// Replaces the cluster's.
    pub retry: Option<Retry>,
    pub hedge: Option<Hedge>,
}

/// An API in several versions.
#[derive(Debug, Clone, PartialEq)]
pub struct Api {
    pub name: String,
    pub by: VersionBy,
    /// Index into `versions`.
    pub default: Option<usize>,
    /// Sorted by name.
    pub versions: Vec<Version>,
}

/// How a request says which version it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionBy {
    Path,
    /// Lower case.
    Header(String),
    Query(String),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    pub name: String,
    /// RFC 9745.
    pub deprecated_unix_s: Option<u64>,
    /// RFC 8594.
    pub sunset_unix_s: Option<u64>,
    pub link: Option<String>,
    pub after_sunset: AfterSunset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterSunset {
    Serve,
    /// 410.
    Gone,
}

/// The version of an API that a route serves, as indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiUse {
    pub api: usize,
    pub version: usize,
}

/// Filters and settings with a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub name: String,
    /// No route drops it unless it is public.
    pub required: bool,
    pub filters: Vec<FilterConfig>,
    pub settings: Settings,
}

/// Policies of all requests to a host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostEntry {
    pub host: HostPattern,
    pub policies: Vec<usize>,
}

/// Policies of all routes of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub name: String,
    pub policies: Vec<usize>,
    /// Those of listener and host that do not apply.
    pub without: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Lower case, without port.
    Exact(String),
    /// `*.example.com`: stored as `example.com`; one or more labels stand before it.
    Wildcard(String),
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(below) => write!(f, "*.{below}"),
        }
    }
}

/// A path over decoded, normalised segments: what stands between the slashes after the first one. So `/` is
/// `[Literal("")]`, `/a` is `[Literal("a")]` and `/a/`, another path, is `[Literal("a"), Literal("")]`.
/// An empty literal can only be the last one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// `/a/{id}/b`; a last `{*rest}` takes whatever follows (zero or more segments).
    Segments(Vec<Segment>),
    /// `path_prefix = "/api"`: `/api`, `/api/` and everything below, at segment borders. `/` is everything: no segments.
    Prefix(Vec<String>),
    /// `path_regex = "/v[0-9]+/.*"`, over the whole decoded path.
    Expression(PathExpression),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    Literal(String),
    Param(String),
    CatchAll(String),
}

#[derive(Debug, Clone, PartialEq)]
pub struct FilterConfig {
    /// `request_headers`, `strip_prefix`, ...
    pub name: String,
    /// What stood under the name, unread.
    pub table: toml::Value,
    /// Where it stood (`routes[3].filters[0].strip_prefix`), for errors of the dry run.
    pub place: String,
}

/// Copies of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Index into [`Snapshot::clusters`].
    pub cluster: usize,
    pub percent: Percent,
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Index into [`Snapshot::clusters`].
    Cluster(usize),
    Split(Split),
    Redirect(Redirect),
    Respond(Respond),
}

/// One of several clusters for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    pub arms: Vec<Arm>,
    pub on: Option<HashOn>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arm {
    /// Index into [`Snapshot::clusters`].
    pub cluster: usize,
    pub weight: u32,
    /// Requests for which all of these hold go here; empty: none by this.
    pub when: Vec<Condition>,
}

impl PathPattern {
    /// The names of what it captures, in the order of the path.
    pub fn params(&self) -> Vec<&str> {
        match self {
            PathPattern::Prefix(_) => Vec::new(),
            PathPattern::Expression(expression) => expression.params.iter().map(String::as_str).collect(),
            PathPattern::Segments(segments) => segments
                .iter()
                .filter_map(|segment| match segment {
                    Segment::Literal(_) => None,
                    Segment::Param(name) | Segment::CatchAll(name) => Some(name.as_str()),
                })
                .collect(),
        }
    }
}

impl Action {
    /// Every cluster that it may forward to.
    pub fn clusters(&self) -> Vec<usize> {
        match self {
            Action::Cluster(index) => vec![*index],
            Action::Split(split) => split.arms.iter().map(|arm| arm.cluster).collect(),
            Action::Redirect(_) | Action::Respond(_) => Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// May name `{scheme}`, `{host}`, `{path}`, `{query}` and the route's own params.
    pub to: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Respond {
    pub status: u16,
    pub content_type: String,
    pub body: String,
    pub headers: Vec<(String, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_addresses_and_smaller_networks() {
        let net = |address: &str, prefix| Cidr { address: address.parse().unwrap(), prefix };
        for (outer, inner, covers) in [
            (net("10.0.0.0", 8), net("10.1.0.0", 16), true),
            (net("10.1.0.0", 16), net("10.0.0.0", 8), false),
            (net("0.0.0.0", 0), net("255.255.255.255", 32), true),
            (net("::", 0), net("10.0.0.0", 8), false),
            (net("::", 0), net("2001:db8::", 32), true),
        ] {
            assert_eq!(outer.covers(&inner), covers, "{outer:?} {inner:?}");
        }
        assert!(net("10.0.0.0", 8).contains("::ffff:10.1.2.3".parse().unwrap()));
    }
}
