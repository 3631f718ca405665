//! The gateways that are compared: how each is told to be a plain reverse proxy on one core. One file per product that
//! has a configuration language; the rest are small programs of this repository that take two ports.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::access;
use crate::case::Case;
use crate::clients::Mode;
use ringway::{Access, Cluster, Setup};

mod envoy;
mod haproxy;
mod nginx;
mod ringway;

/// Where a peer listens and whom it asks, all on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub gateway: u16,
    pub origin: u16,
    pub telemetry: u16,
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    pub gateway: PathBuf,
    /// `load`, `open_loop` and `l4_floor`.
    pub perf: PathBuf,
    pub rivals: PathBuf,
    pub envoy: PathBuf,
    pub nginx: PathBuf,
    pub haproxy: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ringway(Setup),
    Nginx,
    Haproxy,
    /// With the access rules.
    HaproxyAccess,
    Envoy,
    /// A program of `perf` that forwards bytes.
    Floor,
    /// A program of the rivals' workspace.
    Rival(&'static str),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Peer {
    pub name: &'static str,
    kind: Kind,
}

pub const PEERS: &[Peer] = &[
    Peer { name: "ringway", kind: Kind::Ringway(Setup::SHIPPED) },
    Peer { name: "ringway+log", kind: Kind::Ringway(Setup { access_log: true, ..Setup::SHIPPED }) },
    Peer { name: "ringway-2-shards", kind: Kind::Ringway(Setup { shards: 2, ..Setup::SHIPPED }) },
    of_cluster("ringway-3-endpoints", Cluster::Three),
    of_cluster("ringway-resilient", Cluster::Resilient),
    of_cluster("ringway-unchecked", Cluster::Unchecked),
    Peer { name: "ringway-with-token", kind: Kind::Ringway(Setup::SHIPPED) },
    with_access("ringway-access", Access::Remembered),
    with_access("ringway-access-unremembered", Access::Verified),
    Peer { name: "haproxy-access", kind: Kind::HaproxyAccess },
    Peer { name: "nginx", kind: Kind::Nginx },
    Peer { name: "haproxy", kind: Kind::Haproxy },
    Peer { name: "envoy", kind: Kind::Envoy },
    Peer { name: "monoio-http", kind: Kind::Rival("monoio_http") },
    Peer { name: "monoio-bare", kind: Kind::Rival("monoio_bare") },
    Peer { name: "l4-floor", kind: Kind::Floor },
];

const fn of_cluster(name: &'static str, cluster: Cluster) -> Peer {
    Peer { name, kind: Kind::Ringway(Setup { cluster, ..Setup::SHIPPED }) }
}

const fn with_access(name: &'static str, access: Access) -> Peer {
    Peer { name, kind: Kind::Ringway(Setup { access, ..Setup::SHIPPED }) }
}

impl Peer {
    pub fn named(name: &str) -> Option<&'static Self> {
        PEERS.iter().find(|peer| peer.name == name)
    }

    pub fn takes_part_in(&self, case: &Case) -> bool {
        match (case.only, self.kind) {
            (Some(only), _) => only.contains(&self.name),
            // The same as the plain one, and asked by others.
            (None, Kind::Ringway(_)) if self.name == "ringway-with-token" => false,
            (None, Kind::Ringway(setup)) => {
                setup.shards == 1 && setup.cluster == Cluster::One && setup.access == Access::None
            }
            (None, Kind::HaproxyAccess) => false,
            (None, Kind::Floor) => !case.is_local(),
            // Only as much of a proxy as the comparison of runtimes needs.
            (None, Kind::Rival(_)) => !case.is_local() && case.mode == Mode::KeepAlive,
            (None, _) => true,
        }
    }

    /// Itself on epoll, which a simulated CPU can follow. Not for others than ringway.
    pub fn on_epoll(&self) -> Option<Self> {
        match self.kind {
            Kind::Ringway(setup) => Some(Self { name: self.name, kind: Kind::Ringway(Setup { io: "epoll", ..setup }) }),
            _ => None,
        }
    }

    pub fn program(&self, programs: &Programs) -> PathBuf {
        match self.kind {
            Kind::Ringway(_) => programs.gateway.clone(),
            Kind::Nginx => programs.nginx.clone(),
            Kind::Haproxy | Kind::HaproxyAccess => programs.haproxy.clone(),
            Kind::Envoy => programs.envoy.clone(),
            Kind::Floor => programs.perf.join("l4_floor"),
            Kind::Rival(name) => programs.rivals.join(name),
        }
    }

    /// Writes the configuration into `dir` and says what to run.
    pub fn command(&self, programs: &Programs, ports: Ports, dir: &Path) -> io::Result<Vec<OsString>> {
        let mut command = vec![self.program(programs).into_os_string()];
        match self.kind {
            Kind::Ringway(setup) => {
                let file = write(dir, "ringway.toml", &ringway::config(ports, dir, setup))?;
                command.extend(["run".into(), "-c".into(), file]);
            }
            Kind::Nginx => {
                let file = write(dir, "nginx.conf", &nginx::config(ports, dir))?;
                let log = dir.join("error.log").into_os_string();
                command.extend(["-p".into(), dir.into(), "-e".into(), log, "-c".into(), file]);
            }
            Kind::Haproxy | Kind::HaproxyAccess => {
                let rules = if self.kind == Kind::HaproxyAccess { access::haproxy() } else { String::new() };
                let file = write(dir, "haproxy.cfg", &haproxy::config(ports, &rules))?;
                command.extend(["-f".into(), file, "-db".into(), "-q".into()]);
            }
            Kind::Envoy => {
                let file = write(dir, "envoy.json", &envoy::config(ports))?;
                command.extend(["-c".into(), file]);
                command.extend(["--concurrency", "1", "-l", "error", "--disable-hot-restart"].map(Into::into));
            }
            Kind::Floor | Kind::Rival(_) => {
                let (port, origin) = (ports.gateway.to_string(), ports.origin.to_string());
                command.extend(["--port".into(), port.into(), "--origin".into(), origin.into()]);
            }
        }
        Ok(command)
    }
}

fn write(dir: &Path, name: &str, text: &str) -> io::Result<OsString> {
    let file = dir.join(name);
    fs::write(&file, text)?;
    Ok(file.into_os_string())
}

/// The body of the fixed answer that every product gives at `/local`.
fn local_body() -> String {
    "x".repeat(crate::clients::LOCAL_BYTES)
}
