//! A cluster as it was checked: its endpoints, how one is chosen, how it is known to be well, what protects it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    pub name: String,
    pub endpoints: Vec<Endpoint>,
    pub balance: Balance,
    /// What a hash is taken of; always there with [`Balance::RingHash`] and [`Balance::Maglev`].
    pub hash_on: Option<HashOn>,
    /// Of the mean load an endpoint takes at most so many percent before a hashed request goes on to the next one.
    pub hash_load_max_percent: Option<u32>,
    pub sticky: Option<Sticky>,
    pub slow_start: Option<SlowStart>,
    /// Below this share of usable endpoints, health is ignored.
    pub panic_percent: u32,
    /// A tier takes its usable share times this.
    pub spill_percent: u32,
    pub connect_timeout: Duration,
    /// Request sent to the first byte of the answer.
    pub first_byte_timeout: Duration,
    /// Between two reads of the answer's body, or two writes of the request's.
    pub between_bytes_timeout: Duration,
    /// The whole exchange with the origin; `None`: no limit.
    pub total_timeout: Option<Duration>,
    pub response_head_bytes_max: usize,
    pub host: HostHeader,
    /// How long a resolved name is used before it is asked again.
    pub dns_refresh: Duration,
    /// One safe retry when a reused connection turns out to be dead.
    pub retry_stale: bool,
    pub retry: Retry,
    pub retry_budget: RetryBudget,
    pub checks: Option<Checks>,
    pub outlier: Option<Outlier>,
    pub breaker: Option<Breaker>,
    /// One for each endpoint.
    pub endpoint_breaker: Option<Breaker>,
    pub limits: Limits,
    pub adaptive: Option<Adaptive>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub address: EndpointAddress,
    /// 1..=1000.
    pub weight: u32,
    /// Gets requests only as far as the others cannot take them.
    pub backup: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    Ip(SocketAddr),
    Unix(PathBuf),
    /// Resolved off the shards; every address of the answer is an endpoint.
    Dns {
        host: String,
        port: u16,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
    LeastRequest,
    RandomTwo,
    /// Peak-sensitive moving latency times requests under way.
    Ewma,
    RingHash,
    Maglev,
}

impl Balance {
    /// True if the endpoint follows from a key of the request.
    pub fn is_hashed(self) -> bool {
        matches!(self, Balance::RingHash | Balance::Maglev)
    }
}

/// What of a request an endpoint or an arm is chosen by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// Lower case.
    Header(String),
    Cookie(String),
    /// Through trusted proxies.
    ClientIp,
    Path,
    /// A parameter of the route's path.
    Param(String),
}

/// As it is written.
impl fmt::Display for HashOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HashOn::Header(name) => write!(f, "header:{name}"),
            HashOn::Cookie(name) => write!(f, "cookie:{name}"),
            HashOn::ClientIp => f.write_str("client_ip"),
            HashOn::Path => f.write_str("path"),
            HashOn::Param(name) => write!(f, "param:{name}"),
        }
    }
}

/// A cookie that keeps a client with one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    pub cookie: String,
    /// `Max-Age`; `None`: until the browser ends.
    pub ttl: Option<Duration>,
    pub path: String,
    pub secure: bool,
    pub http_only: bool,
    pub same_site: SameSite,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    Unset,
    Lax,
    Strict,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowStart {
    pub window: Duration,
    /// Share of the weight at the beginning.
    pub min_percent: u32,
}

/// The `Host` that an origin sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostHeader {
    /// The client's.
    Preserve,
    /// The endpoint's address as configured.
    Endpoint,
    Literal(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// The first one included.
    pub attempts_max: u32,
    pub connect_failure: bool,
    pub reset: bool,
    pub timeout: bool,
    /// Of answers that are thrown away for another try.
    pub statuses: Vec<u16>,
    /// `grpc-status` of answers without a message (gRPC over HTTP/2, Trailers-Only).
    pub grpc_codes: Vec<u8>,
    /// Methods that are not idempotent, too, though an origin may have acted on them.
    pub unsafe_methods: bool,
    pub per_try_timeout: Option<Duration>,
    pub backoff: Duration,
    pub backoff_max: Duration,
    /// A longer `Retry-After` ends the trying.
    pub retry_after_max: Duration,
    /// Of a body that is kept to be sent again.
    pub body_bytes_max: usize,
}

/// Retries of a cluster, over the whole node and the last ten seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    /// Of its requests.
    pub percent: u32,
    pub per_second_min: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hedge {
    pub after: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checks {
    pub kind: CheckKind,
    /// Instead of the endpoint's own.
    pub port: Option<u16>,
    pub interval: Duration,
    pub timeout: Duration,
    /// Good checks in a row until an endpoint that failed is used again.
    pub rise: u32,
    /// Failed ones in a row until it is not.
    pub fall: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    Tcp,
    Http {
        method: String,
        path: String,
        /// `None`: the endpoint as configured.
        host: Option<String>,
        /// Empty: any of 200 to 399.
        statuses: Vec<u16>,
    },
}

/// When an endpoint is ejected for what its requests came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlier {
    /// 0: not by this.
    pub consecutive_errors: u32,
    /// Statuses that count as errors, beside failed connects, resets and timeouts.
    pub statuses: Vec<u16>,
    pub interval: Duration,
    /// Of its requests in an interval; 0: not by this.
    pub error_percent: u32,
    /// Mean latency over an interval, relative to the median of all; 0: not by this.
    pub latency_percent: u32,
    /// Requests in an interval below which nothing is concluded.
    pub requests_min: u32,
    pub ejection: Duration,
    pub ejection_max: Duration,
    pub ejected_percent_max: u32,
}

/// Hystrix's circuit breaker, with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    pub error_percent: u32,
    pub requests_min: u32,
    pub window: Duration,
    pub sleep: Duration,
    /// How often the window is judged; zero: at each request.
    pub snapshot: Duration,
    /// Requests under way; 0: no limit.
    pub concurrent_max: u32,
    /// To the head of the answer, each try.
    pub timeout: Duration,
    pub statuses: Vec<u16>,
    pub force: Force,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    No,
    Open,
    Closed,
}

/// Of the whole node; each core has its share and lends what it does not need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Requests under way; 0: no limit.
    pub requests_max: u32,
    /// Requests that wait for one of those places.
    pub queue_max: u32,
    pub queue_timeout: Duration,
    /// Connections to one endpoint; 0: no limit.
    pub connections_per_endpoint_max: u32,
    /// Connections to one endpoint that are being opened.
    pub connects_per_endpoint_max: u32,
}

/// A limit of requests under way that follows the latency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adaptive {
    pub by: AdaptiveBy,
    /// Of one core.
    pub requests_min: u32,
    pub requests_max: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdaptiveBy {
    /// Long-term latency over short-term latency.
    Gradient,
    /// Up by one while the latency is below the target, down by a tenth when it is above.
    Aimd { target: Duration },
}
