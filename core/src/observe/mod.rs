//! What is seen of the gateway: per-core meters, their Prometheus text, flags, the access log. Nothing here decides how
//! a request is served.
//!
//! A plain request writes to plain cells of its own core. What leaves the core: a snapshot when a scrape asks for it,
//! and access-log lines (only when the log is on) through a ring of its own.

pub mod access_log;
pub mod core_meters;
pub mod flags;
pub mod histogram;
pub mod issuers;
pub mod limits;
pub mod log_ring;
pub mod log_text;
pub mod log_writer;
pub mod meters;
pub mod prometheus;
pub mod redis;
pub mod snapshot;
pub mod tries;
pub mod upstreams;

pub use access_log::{CoreLog, Line, LogFormat, LogSettings, LoggedHeader};
pub use core_meters::CoreMeters;
pub use flags::{Flag, Source};
pub use issuers::IssuerFacts;
pub use limits::{FleetFacts, LimitFacts};
pub use log_ring::log_ring;
pub use log_writer::{LogTarget, LogWriter};
pub use meters::{Meters, NO_ROUTE, Observation, RouteLabel, RouteMeter, SnapshotSlices};
pub use prometheus::{ProcessFacts, Scrape};
pub use redis::{RedisMeters, RedisSnapshot};
pub use snapshot::MetersSnapshot;
pub use tries::{CameTo, Try};
pub use upstreams::{ClusterFacts, EndpointFacts};

/// To the operator, on stderr, since stdout may be the access log. Unlike `eprintln!` it outlives a closed pipe.
pub fn say(text: &str) {
    use std::io::Write;
    let lines: String = text.lines().map(|line| format!("ringway: {line}\n")).collect();
    // Nobody is left to tell if this fails.
    let _ = std::io::stderr().write_all(lines.as_bytes());
}
