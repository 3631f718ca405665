//! What idle connections cost: the resident memory of a gateway before and after each of many clients has asked once and
//! stayed. Not for load: one client asks after the other.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::gateway::Gateway;
use crate::origin::ADDRESSES;
use crate::other::{Asking, OriginProcess};
use crate::peer::Peer;
use crate::trial::{Bench, LOAD_CORE};
use crate::usage::{of_processes, tree};

/// As many, if the limit of open files allows.
pub const CONNECTIONS_MAX: u64 = 10_000;
/// The arms that are compared.
pub const ARMS: [&str; 2] = ["ringway", "nginx"];
/// A gateway may count two for each client (its origin's is the other), and has some of its own.
const FILES_PER_CONNECTION: u64 = 2;
const FILES_SPARE: u64 = 2000;
const FILES: u64 = CONNECTIONS_MAX * FILES_PER_CONNECTION + FILES_SPARE;
/// After so long an idle connection has given back what it needed for serving.
const REST: Duration = Duration::from_secs(3);
const PATH: &str = "/b100";

/// Resident memory in bytes, with one connection and with all.
#[derive(Debug)]
pub struct Idle {
    pub arm: &'static str,
    pub connections: u64,
    pub with_one: u64,
    pub with_all: u64,
}

impl Idle {
    fn per_connection(&self) -> f64 {
        self.with_all.saturating_sub(self.with_one) as f64 / (self.connections - 1) as f64
    }
}

/// # Errors
/// What kept the gateway from starting or from answering.
pub fn measure(bench: &mut Bench, peer: &'static Peer) -> io::Result<Idle> {
    let connections = allow_files()?;
    let ports = bench.ports(false);
    let _origin = OriginProcess::start(&bench.programs, LOAD_CORE, ADDRESSES[0], ports.origin)?;
    let gateway = Gateway::start(peer, &bench.programs, ports, &bench.scratch)?;
    let resident = || of_processes(&tree(gateway.pid())).resident_bytes;
    let mut clients = vec![Asking::served(ports.gateway, PATH, "")?];
    std::thread::sleep(REST);
    let with_one = resident();
    for _ in 1..connections {
        clients.push(Asking::served(ports.gateway, PATH, "")?);
    }
    std::thread::sleep(REST);
    Ok(Idle { arm: peer.name, connections, with_one, with_all: resident() })
}

/// Raises the limit of open files, for this process and those it starts, and says how many connections fit.
fn allow_files() -> io::Result<u64> {
    let limit = |files| Rlimit { current: Some(files), maximum: Some(files) };
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(FILES);
    // Only who may raise the hard limit gets more than that.
    let files = match setrlimit(Resource::Nofile, limit(FILES.max(hard))) {
        Ok(()) => FILES.max(hard),
        Err(_) => setrlimit(Resource::Nofile, limit(hard)).map(|()| hard)?,
    };
    Ok((files.saturating_sub(FILES_SPARE) / FILES_PER_CONNECTION).clamp(2, CONNECTIONS_MAX))
}

pub fn markdown(rows: &[Idle]) -> String {
    let mut text = "### Idle keep-alive connections that have served (`idle`)\n\n".to_owned();
    text += "| arm | connections | MB with one | MB with all | bytes each |\n|---|---|---|---|---|\n";
    for row in rows {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {} | {} | {:.1} | {:.1} | {:.0} |",
            row.arm,
            row.connections,
            mb(row.with_one),
            mb(row.with_all),
            row.per_connection()
        );
    }
    text
}
