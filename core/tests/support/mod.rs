//! What every end-to-end test stands on: the gateway's process, an origin that misbehaves on purpose, a raw client.
//! Not a test itself; blocking sockets and threads only, so that a fault is never the harness's scheduler.
// Each test file is a crate of its own and uses its own part of this.
#![allow(dead_code, unused_imports, unreachable_pub)]

pub mod bare_core;
pub mod chi_square;
pub mod cli;
pub mod client;
pub mod config;
pub mod gateway;
pub mod head;
pub mod key_server;
pub mod load;
pub mod log;
pub mod metrics;
pub mod names;
pub mod odd;
pub mod oidc;
pub mod oidc_real;
pub mod origin;
pub mod ports;
pub mod process;
pub mod redis;
pub mod smuggle;
pub mod tokens;
pub mod wire;

use std::time::{Duration, Instant};

pub use cli::{Ran, ringway};
pub use client::{Client, Closed, Response};
pub use gateway::Gateway;
pub use head::{Headers, Seen};
pub use metrics::Metrics;
pub use origin::{Exchange, Origin};
pub use wire::Ending;

/// How long a test waits for something that must happen soon; a loaded two-core machine needs some room.
pub const SOON: Duration = Duration::from_secs(8);

/// How long a test watches that something does not happen.
pub const A_WHILE: Duration = Duration::from_millis(300);

pub const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Polls until `probe` gives a value, at most `limit`; panics with `what` otherwise.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(ms(5));
    }
}

/// As `wait_for`, for a condition.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut probe: impl FnMut() -> bool) {
    wait_for(what, limit, || probe().then_some(()));
}

/// The usual shape: one route that sends everything to this origin, and whatever else the test wants to say.
pub fn proxy_to(origin: &Origin) -> String {
    cluster_all(&format!("endpoints = [\"{}\"]", origin.endpoint()))
}

/// The line `endpoints` for these origins.
pub fn endpoints<'a>(origins: impl IntoIterator<Item = &'a Origin>) -> String {
    let list: Vec<String> = origins.into_iter().map(|origin| format!("\"{}\"", origin.endpoint())).collect();
    format!("endpoints = [{}]", list.join(", "))
}

/// One cluster `app` with these lines in its table, one route `all` to it.
pub fn cluster_all(lines: &str) -> String {
    format!("[clusters.app]\n{lines}\n\n[[routes]]\nname = \"all\"\npath_prefix = \"/\"\ncluster = \"app\"\n")
}
