//! Ringway as it ships: forwarded headers, request id, limits, timeouts and meters stay on.

use std::path::Path;

use toml::{Table, Value};

use super::{Ports, local_body};
use crate::access;
use crate::origin::ADDRESSES;

/// What operators are told to copy is what is measured.
const RESILIENT: &str = include_str!("../../../config/examples/resilient.toml");
/// The origin has no path for checks alone.
const CHECK_PATH: &str = "/b100";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setup {
    pub access_log: bool,
    pub shards: usize,
    pub cluster: Cluster,
    pub access: Access,
    pub io: &'static str,
}

/// Who may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody.
    None,
    /// JWT, roles, a limit of the node and CORS, as it ships.
    Remembered,
    /// The same, and each signature is verified.
    Verified,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cluster {
    /// One endpoint, nothing else said.
    One,
    /// Three endpoints in turns, nothing else said.
    Three,
    /// Three endpoints under every rule of the example for resilience.
    Resilient,
    /// The same without active checks.
    Unchecked,
}

impl Setup {
    pub(super) const SHIPPED: Self =
        Self { access_log: false, shards: 1, cluster: Cluster::One, access: Access::None, io: "auto" };
}

impl Cluster {
    /// `[clusters.origin]`.
    fn toml(self, origin: u16) -> String {
        let mut cluster = match self {
            Self::One | Self::Three => Table::new(),
            Self::Resilient | Self::Unchecked => resilient(),
        };
        match cluster.get_mut("checks").and_then(Value::as_table_mut) {
            Some(_) if self == Self::Unchecked => drop(cluster.remove("checks")),
            Some(checks) => drop(checks.insert("path".to_owned(), CHECK_PATH.into())),
            None => {}
        }
        let endpoints = if self == Self::One { &ADDRESSES[..1] } else { &ADDRESSES };
        let endpoints = endpoints.iter().map(|address| format!("{address}:{origin}")).collect::<Vec<_>>();
        cluster.insert("endpoints".to_owned(), endpoints.into());
        let named = |name: &str, table| Table::from_iter([(name.to_owned(), Value::Table(table))]);
        named("clusters", named("origin", cluster)).to_string()
    }
}

/// The example's only cluster; without it the gateway gets an empty one, and says so.
fn resilient() -> Table {
    let example: Table = RESILIENT.parse().unwrap_or_default();
    let clusters = example.get("clusters").and_then(Value::as_table);
    let cluster = clusters.and_then(|clusters| clusters.values().next()).and_then(Value::as_table);
    cluster.cloned().unwrap_or_default()
}

pub(super) fn config(ports: Ports, dir: &Path, setup: Setup) -> String {
    let Ports { gateway, origin, telemetry } = ports;
    let Setup { access_log, shards, cluster, access, io } = setup;
    let (dir, local, cluster) = (dir.display(), local_body(), cluster.toml(origin));
    // No CPU can be named twice; more shards than the one CPU that the process may use run on it all the same.
    let cores = if shards == 1 { "[0]".to_owned() } else { shards.to_string() };
    let (rules, policies) = match access {
        Access::None => (String::new(), ""),
        Access::Remembered => (access::ringway(true), "policies = [\"access\"]\n"),
        Access::Verified => (access::ringway(false), "policies = [\"access\"]\n"),
    };
    let access = if access_log { format!("{dir}/access.log") } else { "off".to_owned() };
    format!(
        r#"io = "{io}"
[cores]
count = {cores}
[telemetry]
bind = "127.0.0.1:{telemetry}"
[control]
socket = "{dir}/control.sock"
[drain]
wait = "0s"
[log]
access = "{access}"
[listeners.bench]
bind = "127.0.0.1:{gateway}"
{cluster}
{rules}
[[routes]]
name = "fixed"
path = "/local"
respond = {{ status = 200, body = "{local}" }}
[[routes]]
name = "all"
path_prefix = "/"
cluster = "origin"
{policies}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_accepts_its_configurations() {
        let ports = Ports { gateway: 24_100, origin: 24_101, telemetry: 24_102 };
        for cluster in [Cluster::One, Cluster::Three, Cluster::Resilient, Cluster::Unchecked] {
            for (access_log, shards, io) in [(false, 1, "auto"), (true, 1, "epoll"), (false, 2, "auto")] {
                let setup = Setup { access_log, shards, cluster, io, ..Setup::SHIPPED };
                let text = config(ports, Path::new("/tmp/ringway-bench"), setup);
                let loaded = ringway_config::load(&ringway_config::Source { name: "bench".to_owned(), text });
                let loaded = loaded.unwrap_or_else(|why| panic!("{why}"));
                assert_eq!(loaded.snapshot.routes.len(), 2);
                let cluster_of = &loaded.snapshot.clusters[0];
                assert_eq!(cluster_of.endpoints.len(), if cluster == Cluster::One { 1 } else { 3 });
                let watched = matches!(cluster, Cluster::Resilient | Cluster::Unchecked);
                assert_eq!(cluster_of.breaker.is_some() && cluster_of.outlier.is_some(), watched);
                assert_eq!(cluster_of.checks.is_some(), cluster == Cluster::Resilient);
            }
        }
    }
}
