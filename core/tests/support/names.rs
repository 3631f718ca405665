//! The names the tests look for in metrics, logs and problem bodies, in one place. Not a list of all that exists.

pub const REQUESTS: &str = "http_requests_total";
pub const RESPONSE_TIME: &str = "http_response_time_seconds";
/// Has `source` (`gateway` or `origin`) and `flag`.
pub const BLAME: &str = "ringway_requests_total";
pub const OVERHEAD: &str = "ringway_overhead_seconds";
pub const BUILD_INFO: &str = "ringway_build_info";
/// One for each core, label `core`; the imbalance is the node's own.
pub const CORE_CONNECTIONS: &str = "ringway_core_connections_open";
pub const CORE_REQUESTS: &str = "ringway_core_requests_total";
pub const CORE_LOOP_LAG: &str = "ringway_core_loop_lag_seconds";
pub const CORE_IMBALANCE: &str = "ringway_core_imbalance_index";
pub const CORE_GENERATION: &str = "ringway_config_generation";
pub const LOG_DROPPED: &str = "ringway_core_access_log_dropped_total";
/// With `reason`.
pub const ACCEPT_ERRORS: &str = "ringway_core_accept_errors_total";
pub const CONNECTIONS_REJECTED: &str = "ringway_core_connections_rejected_total";
pub const CORE_ACCEPTED: &str = "ringway_core_connections_total";
pub const ORIGIN_OPENED: &str = "ringway_core_origin_connections_opened_total";
pub const ORIGIN_IDLE: &str = "ringway_core_origin_connections_idle";

/// Access log, ECS names; a reader accepts them dotted or nested.
pub const LOG_METHOD: &str = "http.request.method";
pub const LOG_STATUS: &str = "http.response.status_code";
pub const LOG_PATH: &str = "url.path";
pub const LOG_QUERY: &str = "url.query";
pub const LOG_CLIENT: &str = "source.ip";
pub const LOG_TIME: &str = "@timestamp";
pub const LOG_REQUEST_ID: &str = "http.request.id";
pub const LOG_DURATION: &str = "event.duration";
pub const LOG_ROUTE: &str = "ringway.route";
pub const LOG_FLAGS: &str = "ringway.flags";

/// Members of `application/problem+json`.
pub const PROBLEM_CODE: &str = "code";
pub const PROBLEM_REQUEST_ID: &str = "request_id";
