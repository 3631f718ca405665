//! What the operator writes: every table, key, default, range and reason, declared once. Within a table each value
//! stands alone; what must fit together is `check`'s.

use toml::de::DeValue;

use crate::api::Api;
use crate::bounded::{Int, KIB, PowerOfTwo, Size, TIB, Time};
use crate::cluster::{Cluster, Hedge, Retry};
use crate::cores::Cores;
use crate::decode::{ByHost, Decode, List, Name, Named, OneOrMore, Table, Word, choice, document};
use crate::expression::{Expression, PathExpression};
use crate::http::{
    CookieName, CookieText, Fields, HEADERS_MAX, HeaderName, HeaderValue, Method, ParamName, ParamText, Via,
};
use crate::identity::{Consumer, Issuer};
use crate::net::{Bind, BindOrOff, SocketPath};
use crate::path::{ExactPath, PathPrefix};
use crate::place::Place;
use crate::policy::{Group, HostEntry, Policy, PolicyNames};
use crate::problem::{Fault, Problems, quoted};
use crate::redis::Redis;
use crate::snapshot::{
    AccessFormat, AccessTarget, Cidr, CoreCount, FilterConfig, Forwarded, HashOn, HostPattern, IoChoice, Steering,
};
use crate::units::Percent;
use crate::when::When;

const REDIS_MAX: usize = 16;
const LISTENERS_MAX: usize = 1000;
const BINDS_MAX: usize = 64;
const CLUSTERS_MAX: usize = 100_000;
const ROUTES_MAX: usize = 100_000;
const POLICIES_MAX: usize = 10_000;
const GROUPS_MAX: usize = 10_000;
const APIS_MAX: usize = 10_000;
const ISSUERS_MAX: usize = 1000;
const CONSUMERS_MAX: usize = 100_000;
const HOSTS_MAX: usize = 1000;
const METHODS_MAX: usize = 32;
const CONDITIONS_MAX: usize = 32;
const ARMS_MAX: usize = 16;
pub(crate) const FILTERS_MAX: usize = 64;
const CIDRS_MAX: usize = 10_000;

/// A whole day is more than any exchange, and less than what a timer wheel holds.
pub(crate) const DAY_MS: u64 = 24 * 3600 * 1000;

pub(crate) type Timeout = Time<1, DAY_MS>;
pub(crate) type BodyBytes = Size<0, TIB>;

document! {
    /// The top of the file. `io`, `cores`, `telemetry`, `control`, `log`, `drain`, `pool`, `workers` and `redis` are read
    /// once, at start; the rest is replaced by a reload.
    struct Document {
        /// I/O engine. `auto` probes for io_uring and falls back to epoll with one line in the log: containers often
        /// forbid io_uring.
        io: IoChoice = "auto";
        /// Which cores serve, and what each may hold.
        cores: Cores = {};
        /// Metrics and health.
        telemetry: Table<Telemetry> = {};
        /// Where `ringway reload` and `ringway drain` find the process.
        control: Table<Control> = {};
        /// The access log.
        log: Table<Log> = {};
        /// How a stop ends.
        drain: Table<Drain> = {};
        /// Idle origin connections of the whole node; each core gets its share.
        pool: Table<Pool> = {};
        /// Threads beside the cores.
        workers: Table<Workers> = {};
        /// What gateways share: limits of the whole fleet, cached answers.
        redis: Named<Table<Redis>, REDIS_MAX> = {};
        /// Where clients connect.
        listeners: Named<Table<Listener>, LISTENERS_MAX> = {};
        /// Where requests go.
        clusters: Named<Table<Cluster>, CLUSTERS_MAX> = {};
        /// Filters and settings that listeners, hosts, groups and routes name.
        policies: Named<Table<Policy>, POLICIES_MAX> = {};
        /// Who signs tokens.
        issuers: Named<Table<Issuer>, ISSUERS_MAX> = {};
        /// Whom the operator knows by name.
        consumers: Named<Table<Consumer>, CONSUMERS_MAX> = {};
        /// What all requests to a host have in common: [hosts."*.example.com"].
        hosts: ByHost<Table<HostEntry>, HOSTS_MAX> = {};
        /// What the routes of a group have in common.
        groups: Named<Table<Group>, GROUPS_MAX> = {};
        /// APIs in several versions, which routes name.
        apis: Named<Table<Api>, APIS_MAX> = {};
        /// Which request goes where.
        routes: List<Table<Route>, ROUTES_MAX> = [];
    }

    /// One pinned thread and one ring per core. Everything but `count` can be set for one core alone in `[cores.N]`.
    struct CoreKeys {
        /// How many, or which. `auto` is what the affinity mask and the cgroup quota allow; 4 is four cores; "0-7",
        /// "0,2,4-6" and [0, 2] name CPUs. More than the machine has run unpinned.
        count: CoreCount = "auto";
        /// Submission entries of the ring; the completion ring has four times as many. Too few cost a system call each.
        ring_entries: PowerOfTwo<64, 32768> = 4096;
        /// Open client connections per core. Above it, new ones are closed at once rather than served slowly.
        connections_max: Int<1, 1048576> = 65536;
        /// One receive buffer. Larger ones save system calls on bodies and cost memory on each busy connection.
        buffer_bytes: Size<{ 4 * KIB }, { 64 * KIB }, { 4 * KIB }> = "16KiB";
        /// Receive buffers a core may ever hold; with `buffer_bytes`, its bound on memory for reading.
        buffers_max: Int<64, 32768> = 16384;
        /// Replaces every listener's `keepalive_timeout` on this core.
        keepalive_timeout: Option<Timeout>;
    }

    /// This core alone; N counts from 0 over the cores that serve, whatever CPU each runs on. What is unset is as in
    /// `[cores]`.
    struct CoreOverride {
        /// As in `[cores]`.
        ring_entries: Option<PowerOfTwo<64, 32768>>;
        /// As in `[cores]`.
        connections_max: Option<Int<1, 1048576>>;
        /// As in `[cores]`.
        buffer_bytes: Option<Size<{ 4 * KIB }, { 64 * KIB }, { 4 * KIB }>>;
        /// As in `[cores]`.
        buffers_max: Option<Int<64, 32768>>;
        /// As in `[cores]`.
        keepalive_timeout: Option<Timeout>;
    }

    /// A listener that serves `/metrics`, `/livez` and `/readyz` and nothing else.
    struct Telemetry {
        /// Loopback unless you say otherwise: metrics name your routes and origins.
        bind: BindOrOff = "127.0.0.1:9901";
    }

    /// The process's own door.
    struct Control {
        /// Unix socket, mode 0600. If its directory cannot be made and the key is not set, one below the runtime
        /// directory of the user is used.
        socket: SocketPath = "/run/ringway/control.sock";
    }

    /// One line per request, written by a thread of its own: a slow disk drops lines, never delays requests.
    struct Log {
        /// Where the lines go.
        access: AccessTarget = "off";
        /// JSON with Elastic Common Schema names, or what nginx calls `combined`.
        access_format: AccessFormat = "ecs";
        /// Lines waiting per core; further ones are dropped and counted.
        queue_lines_max: Int<1, 1048576> = 8192;
        /// Request headers whose values are logged.
        headers: List<HeaderName, HEADERS_MAX> = ["user-agent", "referer"];
        /// Headers never logged in clear, besides authorization, proxy-authorization, cookie, set-cookie and
        /// x-api-key, which never are.
        redact: List<HeaderName, HEADERS_MAX> = [];
    }

    /// Threads for work that would hold a core up: hashes of passwords, signatures that take long to verify.
    struct Workers {
        /// For the whole node.
        threads: Int<1, 256> = 2;
        /// What may wait for a thread; beyond, requests get 503.
        queue_max: Int<1, 65536> = 1024;
    }

    /// SIGTERM and `ringway drain`.
    struct Drain {
        /// How long `/readyz` fails while connections are still accepted, so that load balancers look elsewhere first.
        wait: Time<0, DAY_MS> = "5s";
        /// From the signal to the end of the last connection; what is left then is cut and counted. Longer than `wait`.
        deadline: Timeout = "30s";
    }

    /// Idle connections to origins.
    struct Pool {
        /// Of the whole node; 0 keeps none.
        idle_max: Int<0, 1048576> = 1000;
        /// Of the whole node to one endpoint; 0 keeps none.
        idle_per_endpoint_max: Int<0, 1048576> = 100;
        /// Closed after so long without use. Keep it below the origin's own, or requests meet closed connections.
        idle_timeout: Timeout = "90s";
        /// Not reused when older, so that a moved or resized origin gets its share.
        lifetime_max: Timeout = "1h";
    }

    /// A set of sockets with the same limits and trust.
    struct Listener {
        /// "0.0.0.0:8080", "[::]:8080"; ":8080" is every address of both families. Port 0 takes a free one.
        bind: OneOrMore<Bind, BINDS_MAX>;
        /// Which core serves a connection: `kernel` by hash; `cpu` the one whose CPU took the packet (for many queues,
        /// pinned interrupts); `least_loaded` the one with the fewest connections, for few and long-lived ones.
        steering: Steering = "kernel";
        /// What is spoken.
        protocols: List<Protocol, 1> = ["http/1.1"];
        /// Connections the kernel holds until they are accepted, per core; net.core.somaxconn caps it.
        backlog: Int<1, 65535> = 4096;
        /// From the first byte of a head to its last; then 408. Against slow senders (slowloris).
        header_timeout: Timeout = "10s";
        /// Between two reads of a request body; then 408.
        body_timeout: Timeout = "30s";
        /// Between two requests; then closed silently. Above that of any load balancer before it, or the load balancer
        /// meets closed connections.
        keepalive_timeout: Timeout = "75s";
        /// Connections that never send a byte; closed silently.
        unused_timeout: Timeout = "15s";
        /// Clients that take no byte of an answer; cut.
        send_timeout: Timeout = "30s";
        /// Upgraded connections (WebSocket) without a byte either way; cut.
        tunnel_timeout: Timeout = "5m";
        /// Request line and headers; above it 431.
        head_bytes_max: Size<KIB, { 60 * KIB }> = "32KiB";
        /// Request target; above it 414. At most `head_bytes_max`.
        target_bytes_max: Size<64, { 60 * KIB }> = "8KiB";
        /// Header fields of a request; above it 431.
        headers_max: Int<1, 1000> = 100;
        /// Request body; above it 413. A route may set its own.
        body_bytes_max: BodyBytes = "10MiB";
        /// Requests of one connection before it is closed; 0 is no limit. A limit spreads long-lived clients anew.
        keepalive_requests_max: Int<0, 1000000000000> = 0;
        /// Open connections of one address on one core; 0 is no limit.
        connections_per_ip_max: Int<0, 1048576> = 0;
        /// What origins are told of the client: `x` is X-Forwarded-For, -Proto, -Host, -Port and X-Real-IP, `rfc7239`
        /// is Forwarded. What untrusted clients send of these is removed, with `off` too.
        forwarded: Forwarded = "x";
        /// The gateway's name in Via (RFC 9110 section 7.6.3); "" sends none.
        via: Via = "ringway";
        /// Whose X-Forwarded-* and Forwarded are believed. Empty: nobody's, since anyone can write them.
        trusted_proxies: List<Cidr, CIDRS_MAX> = [];
        /// For every request that comes in here; the outermost.
        policies: PolicyNames = [];
    }

    /// Conditions, filters, action. The best match wins: by `priority`, then host, then path from the left, then methods
    /// and further conditions, each time the more exact; only then by the order in the file.
    struct Route {
        /// Unique; names the route in metrics, logs and `ringway explain`.
        name: Name;
        /// Listeners it serves; empty is all.
        listeners: List<String, LISTENERS_MAX> = [];
        /// "example.com", or "*.example.com" for one or more labels before it; no port. Unset is any.
        host: Option<HostPattern>;
        /// Several of them; not with `host`.
        hosts: Option<List<HostPattern, HOSTS_MAX>>;
        /// The whole path, decoded: "/users/{id}"; a last "{*rest}" takes whatever follows.
        path: Option<ExactPath>;
        /// A path and all below it, at segment borders; not with `path`. Without any of the three, "/": everything.
        /// `{version}` may stand for the version of an API by path.
        path_prefix: Option<PathPrefix>;
        /// A regular expression over the whole decoded path, instead of the two: '/v[0-9]+/(?<rest>.*)'. Linear time,
        /// and tried only below its literal beginning. Named groups are params. In single quotes a backslash is itself.
        path_regex: Option<PathExpression>;
        /// Upper case; empty is any. GET takes HEAD too.
        methods: List<Method, METHODS_MAX> = [];
        /// All must hold.
        headers: List<Table<HeaderCondition>, CONDITIONS_MAX> = [];
        /// All must hold.
        queries: List<Table<QueryCondition>, CONDITIONS_MAX> = [];
        /// All must hold.
        cookies: List<Table<CookieCondition>, CONDITIONS_MAX> = [];
        /// What the lists cannot say, and must hold besides them: `and`, `or`, `not` and parentheses over header.NAME,
        /// query.NAME, cookie.NAME, method, host, path and client_ip, with ==, !=, starts_with, ends_with, contains,
        /// matches or in, or alone: 'header.x-canary == "on" or (cookie.beta and not client_ip in "10.0.0.0/8")'.
        when: Option<When>;
        /// Higher first, before any other rule of order.
        priority: Int<-1000000, 1000000> = 0;
        /// The API it is a part of; with `version`.
        api: Option<String>;
        /// The version of `api` that it serves.
        version: Option<String>;
        /// The group it belongs to, whose policies it has.
        group: Option<String>;
        /// Run after those of listener, host and group, before `filters`.
        policies: PolicyNames = [];
        /// Policies of listener, host and group that do not apply to it.
        without: PolicyNames = [];
        /// Anybody may ask: required policies of listener, host and group do not apply.
        public: bool = false;
        /// In the order they run: [{ strip_prefix = "/api" }, { request_headers = { set = { x-env = "blue" } } }].
        filters: List<FilterConfig, FILTERS_MAX> = [];
        /// Action: forward to this cluster.
        cluster: Option<String>;
        /// Beside `cluster`: copies of requests for another one, whose answers nobody sees.
        mirror: Option<Table<Mirror>>;
        /// Action: forward to one of several clusters:
        /// [{ cluster = "v1", weight = 95 }, { cluster = "v2", weight = 5, when = 'header.x-canary' }].
        split: Option<List<Table<Arm>, ARMS_MAX>>;
        /// Requests with the same key go to the same arm of `split`, over reloads and on every gateway; when a weight
        /// changes, only as many keys move as must. Without it, or without a key, requests are spread one by one.
        split_on: Option<HashOn>;
        /// Action: send the client elsewhere.
        redirect: Option<Table<Redirect>>;
        /// Action: answer here.
        respond: Option<Table<Respond>>;
        /// Replaces the listener's.
        body_bytes_max: Option<BodyBytes>;
        /// Replaces the cluster's.
        total_timeout: Option<Timeout>;
        /// Replaces the cluster's as a whole.
        retry: Option<Table<Retry>>;
        /// A second request to another endpoint when the first takes long; the first answer wins.
        hedge: Option<Table<Hedge>>;
    }

    /// Copies of a route's requests, with all their headers. They never delay or fail the real ones: at most 128 are under
    /// way per core, bodies over 64 KiB are not held, upgrades are not copied; what is left out is counted.
    struct Mirror {
        /// Where they go.
        cluster: String;
        /// Which share of the requests.
        percent: Percent = 100;
        /// For the whole exchange with the mirror.
        timeout: Timeout = "5s";
    }

    /// One test of one request header. Exactly one besides `name`.
    struct HeaderCondition {
        /// In any case.
        name: HeaderName;
        /// There, whatever its value: true is the only choice.
        present: Option<bool>;
        /// Not there: true is the only choice.
        absent: Option<bool>;
        /// The whole value.
        equals: Option<HeaderValue>;
        /// How the value begins.
        prefix: Option<HeaderValue>;
        /// How the value ends.
        suffix: Option<HeaderValue>;
        /// What stands somewhere in the value.
        contains: Option<HeaderValue>;
        /// A regular expression over the whole value; `.*` at an end leaves that end open.
        matches: Option<Expression>;
    }

    /// One test of one query parameter. Exactly one besides `name`. If the name occurs several times, any of them will
    /// do.
    struct QueryCondition {
        /// As it is after decoding; its case counts.
        name: ParamName;
        /// There, whatever its value: true is the only choice.
        present: Option<bool>;
        /// Not there: true is the only choice.
        absent: Option<bool>;
        /// The whole value, decoded: `%20` and `+` are a space.
        equals: Option<ParamText>;
        /// How the value begins.
        prefix: Option<ParamText>;
        /// How the value ends.
        suffix: Option<ParamText>;
        /// What stands somewhere in the value.
        contains: Option<ParamText>;
        /// A regular expression over the whole value; `.*` at an end leaves that end open.
        matches: Option<Expression>;
    }

    /// One test of one cookie. Exactly one besides `name`. If the name occurs several times, any of them will do.
    struct CookieCondition {
        /// Its case counts.
        name: CookieName;
        /// There, whatever its value: true is the only choice.
        present: Option<bool>;
        /// Not there: true is the only choice.
        absent: Option<bool>;
        /// The whole value, as it is sent.
        equals: Option<CookieText>;
        /// How the value begins.
        prefix: Option<CookieText>;
        /// How the value ends.
        suffix: Option<CookieText>;
        /// What stands somewhere in the value.
        contains: Option<CookieText>;
        /// A regular expression over the whole value; `.*` at an end leaves that end open.
        matches: Option<Expression>;
    }

    /// Where a part of a route's requests goes.
    struct Arm {
        /// As in a route.
        cluster: String;
        /// Relative to the other arms; 0 leaves it what `when` takes.
        weight: Int<0, 1000000> = 0;
        /// These requests go here whatever the weights say, the first arm first.
        when: Option<When>;
    }

    /// An answer with a Location.
    struct Redirect {
        /// 301 and 308 are remembered by clients; 307 and 308 keep the method.
        status: RedirectStatus = 308;
        /// A path or a URL; may name {scheme}, {host}, {path}, {query} and the route's own params.
        to: String;
    }

    /// A fixed answer.
    struct Respond {
        /// What is not final (1xx) cannot be an answer.
        status: Int<200, 599> = 200;
        /// Sent as it stands; none with 204, 205 and 304. At most 1 MiB.
        body: String = "";
        /// Sent unless the body is empty.
        content_type: HeaderValue = "text/plain; charset=utf-8";
        /// Further fields: { x-env = "blue" }.
        headers: Fields = {};
    }
}

impl Document {
    /// `None` if anything was wrong; `problems` has it all.
    pub(crate) fn read(tree: &DeValue<'_>, problems: &mut Problems) -> Option<Self> {
        Table::<Self>::decode(tree, &Place::ROOT, problems).map(|Table(document)| document)
    }
}

choice!(IoChoice { "auto" => Self::Auto, "io_uring" => Self::IoUring, "epoll" => Self::Epoll });
choice!(AccessFormat { "ecs" => Self::Ecs, "combined" => Self::Combined });
choice!(Steering { "kernel" => Self::Kernel, "cpu" => Self::Cpu, "least_loaded" => Self::LeastLoaded });
choice!(Forwarded { "x" => Self::X, "rfc7239" => Self::Rfc7239, "both" => Self::Both, "off" => Self::Off });

/// HTTP/1.1, the only one so far.
#[derive(Debug)]
pub(crate) struct Protocol;

impl Word for Protocol {
    const SHAPE: &'static str = "\"http/1.1\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        match text {
            "http/1.1" => Ok(Self),
            _ => Err(Fault::new(format!("{} is not supported", quoted(text))).cure("\"http/1.1\" is")),
        }
    }
}

/// 301, 302, 303, 307 or 308.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RedirectStatus(pub(crate) u16);

impl Decode for RedirectStatus {
    fn shape() -> String {
        "integer".to_owned()
    }

    fn range() -> String {
        "301, 302, 303, 307 or 308".to_owned()
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let status = Int::<0, 65535>::decode(value, place, problems)?.u16();
        if matches!(status, 301 | 302 | 303 | 307 | 308) {
            return Some(Self(status));
        }
        problems.error(place, Fault::new(format!("{status} is no redirect")).cure(format!("use {}", Self::range())));
        None
    }
}
