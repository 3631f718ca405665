//! What the operator writes of a cluster and of how requests to it are tried again. What must fit together is `check`'s.

use crate::bounded::{Int, KIB, MIB, Size, Time};
use crate::decode::{List, Table, Word, choice, document};
use crate::document::{DAY_MS, Timeout};
use crate::http::{HeaderName, Method, cookie_name};
use crate::problem::{Fault, quoted};
use crate::snapshot::{Balance, Endpoint, Force, HashOn, HostHeader, SameSite};

const ENDPOINTS_MAX: usize = 10_000;
const STATUSES_MAX: usize = 64;
const CODES_MAX: usize = 16;
const CONDITIONS_MAX: usize = 3;
const REQUESTS_MAX: i64 = 1 << 30;

type Status = Int<100, 599>;
type Percent = Int<0, 100>;

document! {
    /// A named set of endpoints that serve the same.
    struct Cluster {
        /// "10.0.0.1:8080", "[::1]:8080", "users.internal:8080", "unix:/run/app.sock", or with a weight
        /// { address = "10.0.0.1:8080", weight = 2 }. At least one.
        endpoints: List<Endpoint, ENDPOINTS_MAX>;
        /// `round_robin` is smooth, weighted and phase-shifted per core; `least_request` takes the endpoint with the
        /// fewest requests of this core under way; `random_two` the less busy of two at random; `ewma` the one of two
        /// that promises the shorter wait; `ring_hash` (ketama) and `maglev` keep a key with its endpoint.
        balance: Balance = "round_robin";
        /// The key of `ring_hash` and `maglev`. A request without it is spread at random.
        hash_on: Option<HashOn>;
        /// With a hash: an endpoint that has more than this share of the mean load passes requests on to the next one
        /// (consistent hashing with bounded loads); unset is no bound.
        hash_load_max_percent: Option<Int<101, 10000>>;
        /// A cookie that keeps a client with its endpoint for as long as that may be used.
        sticky: Option<Table<Sticky>>;
        /// An endpoint that is new or back gets its share little by little.
        slow_start: Option<Table<SlowStart>>;
        /// When less than this share of the endpoints may be used, all are: better some answers than none. 0 is never.
        panic_percent: Percent = 10;
        /// A tier takes its usable share times this, at most all; what is left goes to the backups.
        spill_percent: Int<100, 10000> = 140;
        /// To an open connection. Short, for an endpoint that is up answers within a round trip.
        connect_timeout: Timeout = "1s";
        /// From the request's last byte to the answer's first; then 504.
        first_byte_timeout: Timeout = "30s";
        /// Between two reads of an answer's body, or two writes of a request's.
        between_bytes_timeout: Timeout = "30s";
        /// The whole exchange with the origin, retries included; unset is no limit, so that downloads may take their
        /// time.
        total_timeout: Option<Timeout>;
        /// Status line and headers of an answer; above it 502.
        response_head_bytes_max: Size<KIB, { 60 * KIB }> = "32KiB";
        /// The Host an origin sees: the client's, the endpoint's as written here, or this one.
        host: HostHeader = "preserve";
        /// How long a resolved name is used. If a name no longer resolves, its last addresses stay in use.
        dns_refresh: Time<1000, DAY_MS> = "10s";
        /// One more try when a reused connection turns out to be dead before any byte of an answer, and only if the
        /// request can be sent again safely. Outside `retry` and its budget.
        retry_stale: bool = true;
        /// What is tried again, where, and when. A route may have its own.
        retry: Table<Retry> = {};
        /// Keeps retries from multiplying the load on a cluster that fails.
        retry_budget: Table<RetryBudget> = {};
        /// Asks each endpoint whether it is well.
        checks: Option<Table<Checks>>;
        /// Leaves an endpoint out for what its requests came to.
        outlier: Option<Table<Outlier>>;
        /// Spares the cluster requests while most of them fail, by Hystrix's rules.
        breaker: Option<Table<Breaker>>;
        /// The same for each endpoint by itself.
        endpoint_breaker: Option<Table<Breaker>>;
        /// What the node may have under way.
        limits: Table<Limits> = {};
        /// A limit of requests under way that follows the latency: sheds load before the queues grow.
        adaptive: Option<Table<Adaptive>>;
    }

    /// Set on the first answer; the value names the endpoint without telling its address.
    struct Sticky {
        /// The cookie's name.
        cookie: CookieName;
        /// How long the client keeps it; unset is until the browser ends.
        ttl: Option<Time<1000, { 400 * DAY_MS }>>;
        /// Below which path the client sends it.
        path: CookiePath = "/";
        /// Over TLS alone.
        secure: bool = false;
        /// Out of reach of scripts.
        http_only: bool = true;
        /// With requests from other sites: `unset` leaves it to the browser.
        same_site: SameSite = "lax";
    }

    /// Not for hashes, which would send every key elsewhere.
    struct SlowStart {
        /// Until it has its whole weight.
        window: Time<100, DAY_MS>;
        /// Of its weight, at the beginning.
        min_percent: Int<1, 100> = 10;
    }

    /// A request of which any byte has reached an origin is sent again only if its method is idempotent.
    struct Retry {
        /// Tries in all; 1 is no retry.
        attempts_max: Int<1, 10> = 2;
        /// `connect_failure`: refused, unreachable or not taken in time. `reset`: ended before the first byte of an
        /// answer. `timeout`: no head of an answer in time.
        on: List<RetryOn, CONDITIONS_MAX> = ["connect_failure", "reset"];
        /// Answers with these are dropped for another try, the last one excepted.
        statuses: List<Status, STATUSES_MAX> = [];
        /// The same by `grpc-status`, for answers without a message.
        grpc_codes: List<GrpcCode, CODES_MAX> = [];
        /// POST and PATCH, too: only where the origin takes the same request twice for once.
        unsafe_methods: bool = false;
        /// To the head of an answer, each try; unset leaves it to the cluster's timeouts.
        per_try_timeout: Option<Timeout>;
        /// The second retry waits up to twice as long, and so on; always a random part of it. Each try goes to another
        /// endpoint; without a wait, none gets the same request twice.
        backoff: Time<0, DAY_MS> = "0ms";
        /// The longest wait.
        backoff_max: Timeout = "1s";
        /// An answer's Retry-After is waited for, up to this; a longer one ends the trying.
        retry_after_max: Timeout = "1s";
        /// Of a request's body that is kept to be sent again; with a larger one there is no retry.
        body_bytes_max: Size<0, { 16 * MIB }> = "64KiB";
    }

    /// Counted over all cores and ten seconds. A try after a failed connect, of which no origin has seen anything, is free.
    struct RetryBudget {
        /// Of the cluster's requests.
        percent: Percent = 20;
        /// So many are always allowed.
        per_second_min: Int<0, 100000> = 10;
    }

    /// For idempotent methods, with a body of at most `retry.body_bytes_max`; counted as a retry by the budget.
    struct Hedge {
        /// What the first request has until then. About its 95th percentile is usual.
        after: Time<1, DAY_MS>;
    }

    /// Each endpoint is asked by one thread of the process, at its own random moment. It counts as well until it fails.
    struct Checks {
        /// `http` asks for a path; `tcp` only connects.
        kind: CheckWord = "http";
        /// What is asked for.
        path: CheckPath = "/";
        /// GET or HEAD.
        method: Method = "GET";
        /// Host of the question; unset is the endpoint's address.
        host: Option<CheckHost>;
        /// Good answers; empty is 200 to 399.
        statuses: List<Status, STATUSES_MAX> = [];
        /// Unset is the endpoint's own.
        port: Option<Int<1, 65535>>;
        /// From one check to the next, a tenth more or less.
        interval: Time<100, DAY_MS> = "5s";
        /// For the connection and the answer's head; unset is 2 s, or the interval where that is shorter.
        timeout: Option<Time<10, DAY_MS>>;
        /// Good ones in a row until an endpoint is used again.
        rise: Int<1, 100> = 2;
        /// Failed ones in a row until it is not.
        fall: Int<1, 100> = 3;
    }

    /// Reports of all cores are one count. An endpoint comes back by itself, and then by `slow_start`.
    struct Outlier {
        /// Errors in a row; 0 is not by this.
        consecutive_errors: Int<0, 10000> = 5;
        /// Answers that are errors; failed connects, resets and timeouts always are.
        statuses: List<Status, STATUSES_MAX> = [500, 502, 503, 504];
        /// For what is judged over time.
        interval: Time<100, DAY_MS> = "10s";
        /// Errors of all its requests in an interval; 0 is not by this.
        error_percent: Percent = 0;
        /// Its mean time to the head of an answer, of the median of all endpoints; 300 is three times as slow. 0 is not
        /// by this.
        latency_percent: Int<0, 100000> = 0;
        /// Requests of one endpoint in an interval below which the two above conclude nothing.
        requests_min: Int<1, 1000000> = 20;
        /// The first time; each further time in a row this much longer.
        ejection: Time<100, DAY_MS> = "30s";
        /// The longest.
        ejection_max: Time<100, DAY_MS> = "5m";
        /// Of all endpoints, ejected at the same time; one of several may always be.
        ejected_percent_max: Percent = 50;
    }

    /// Hystrix's parameters with its defaults. Counted over all cores; one trial for the whole node.
    struct Breaker {
        /// Errors of all requests in the window from which it opens (circuitBreaker.errorThresholdPercentage).
        error_percent: Int<1, 100> = 50;
        /// Requests in the window below which it stays closed (circuitBreaker.requestVolumeThreshold).
        requests_min: Int<1, 1000000> = 20;
        /// Rolls on in ten steps (metrics.rollingStats.timeInMilliseconds).
        window: Time<100, DAY_MS> = "10s";
        /// Open for so long before one request is let through as a trial (circuitBreaker.sleepWindowInMilliseconds).
        sleep: Time<10, DAY_MS> = "5s";
        /// How often the window is judged (metrics.healthSnapshot.intervalInMilliseconds); "0ms" is at each request.
        snapshot: Time<0, DAY_MS> = "500ms";
        /// Requests under way on the node; further ones are refused at once and count as errors
        /// (execution.isolation.semaphore.maxConcurrentRequests). 0 is no limit.
        concurrent_max: Int<0, REQUESTS_MAX> = 100;
        /// To the head of the answer, each try (execution.isolation.thread.timeoutInMilliseconds).
        timeout: Timeout = "1s";
        /// Answers that are failures; failed connects, resets and timeouts always are. An answer below 500 never is.
        statuses: List<Int<500, 599>, STATUSES_MAX> = [500, 502, 503, 504];
        /// `open` refuses everything, `closed` nothing (circuitBreaker.forceOpen, forceClosed).
        force: Force = "no";
    }

    /// Of the whole node: cores lend each other what they do not need.
    struct Limits {
        /// Requests under way; 0 is no limit.
        requests_max: Int<0, REQUESTS_MAX> = 0;
        /// Requests that wait for a place; further ones are refused with 503.
        queue_max: Int<0, 1000000> = 0;
        /// The longest wait for a place.
        queue_timeout: Timeout = "100ms";
        /// Connections to one endpoint; 0 is no limit. At the limit a request waits for one to be free.
        connections_per_endpoint_max: Int<0, REQUESTS_MAX> = 0;
        /// Connections to one endpoint that are being opened, so that one that comes back is not stormed; 0 is no limit.
        connects_per_endpoint_max: Int<0, REQUESTS_MAX> = 256;
    }

    /// Each core follows the latency that it sees.
    struct Adaptive {
        /// `gradient`: the limit follows the ratio of usual to present latency. `aimd`: up by one while the latency is
        /// below `target`, down by a tenth when it is above.
        by: AdaptiveWord = "gradient";
        /// For `aimd`: a latency that is still good.
        target: Option<Timeout>;
        /// Requests under way on one core that are always allowed.
        requests_min: Int<1, 1000000> = 8;
        /// The highest the limit of a core may rise.
        requests_max: Int<1, 1000000> = 1000;
    }
}

choice!(Balance {
    "round_robin" => Self::RoundRobin,
    "least_request" => Self::LeastRequest,
    "random_two" => Self::RandomTwo,
    "ewma" => Self::Ewma,
    "ring_hash" => Self::RingHash,
    "maglev" => Self::Maglev,
});
choice!(SameSite { "unset" => Self::Unset, "lax" => Self::Lax, "strict" => Self::Strict, "none" => Self::None });
choice!(Force { "no" => Self::No, "open" => Self::Open, "closed" => Self::Closed });

/// Why a request is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryOn {
    ConnectFailure,
    Reset,
    Timeout,
}

choice!(RetryOn { "connect_failure" => Self::ConnectFailure, "reset" => Self::Reset, "timeout" => Self::Timeout });

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckWord {
    Http,
    Tcp,
}

choice!(CheckWord { "http" => Self::Http, "tcp" => Self::Tcp });

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdaptiveWord {
    Gradient,
    Aimd,
}

choice!(AdaptiveWord { "gradient" => Self::Gradient, "aimd" => Self::Aimd });

/// The canonical codes of gRPC by the names of its documentation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GrpcCode(pub(crate) u8);

choice!(GrpcCode {
    "cancelled" => Self(1),
    "unknown" => Self(2),
    "deadline_exceeded" => Self(4),
    "resource_exhausted" => Self(8),
    "aborted" => Self(10),
    "internal" => Self(13),
    "unavailable" => Self(14),
    "data_loss" => Self(15),
});

impl Word for HashOn {
    const SHAPE: &'static str = "\"client_ip\" | \"path\" | \"header:NAME\" | \"cookie:NAME\" | \"param:NAME\"";
    const EXAMPLE: &'static str = "\"client_ip\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        match text.split_once(':') {
            None if text == "client_ip" => Ok(Self::ClientIp),
            None if text == "path" => Ok(Self::Path),
            Some(("header", name)) => HeaderName::parse(name).map(|name| Self::Header(name.into_string())),
            Some(("cookie", name)) => cookie_name(name).map(Self::Cookie),
            Some(("param", name)) if !name.is_empty() => Ok(Self::Param(name.to_owned())),
            _ => Err(Fault::new(format!("{} is nothing to hash on", quoted(text)))
                .cure("write \"client_ip\", \"path\", \"header:x-user\", \"cookie:session\" or \"param:id\"")),
        }
    }
}

/// The name of a cookie (RFC 6265 section 4.1.1).
#[derive(Debug)]
pub(crate) struct CookieName(pub(crate) String);

impl Word for CookieName {
    const SHAPE: &'static str = "cookie name";
    const EXAMPLE: &'static str = "\"route\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        cookie_name(text).map(Self)
    }
}

/// What may stand in `Path` of a cookie.
#[derive(Debug)]
pub(crate) struct CookiePath(pub(crate) String);

impl Word for CookiePath {
    const SHAPE: &'static str = "path";

    fn parse(text: &str) -> Result<Self, Fault> {
        let plain = text.bytes().all(|b| matches!(b, b'!'..=b'~') && b != b';');
        if text.starts_with('/') && plain && text.len() <= 1024 {
            return Ok(Self(text.to_owned()));
        }
        Err(Fault::new(format!("{} is no cookie path", quoted(text))).cure("begin it with \"/\""))
    }
}

/// A request target in origin form (RFC 9112 section 3.2.1).
#[derive(Debug)]
pub(crate) struct CheckPath(pub(crate) String);

impl Word for CheckPath {
    const SHAPE: &'static str = "path";

    fn parse(text: &str) -> Result<Self, Fault> {
        if text.starts_with('/') && text.len() <= 1024 && text.bytes().all(|b| matches!(b, b'!'..=b'~') && b != b'#') {
            return Ok(Self(text.to_owned()));
        }
        Err(Fault::new(format!("{} is no path to ask for", quoted(text))).cure("begin it with \"/\", encoded"))
    }
}

/// What stands in `Host`: a name or address, and perhaps a port.
#[derive(Debug)]
pub(crate) struct CheckHost(pub(crate) String);

impl Word for CheckHost {
    const SHAPE: &'static str = "host[:port]";

    fn parse(text: &str) -> Result<Self, Fault> {
        match HostHeader::parse(text)? {
            HostHeader::Literal(host) => Ok(Self(host)),
            _ => Err(Fault::new(format!("{} is no host", quoted(text))).cure("leave it out for the endpoint's own")),
        }
    }
}
