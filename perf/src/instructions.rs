//! User-space instructions of a gateway per request, counted by callgrind on a simulated CPU: what a busy machine
//! cannot disturb. Says nothing about the kernel's share, nor about caches.
//!
//! Each gateway runs twice, with different numbers of requests: the difference has no start and no end in it. One
//! client asks after the other's answer, so that each turn of the loop has one event in both runs. Of the gateway's
//! threads the busiest counts, which is the shard; checks and meters are the work of others and follow the clock, not
//! the requests.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::access;
use crate::gateway::Gateway;
use crate::origin::ADDRESSES;
use crate::other::{Asking, OriginProcess};
use crate::peer::Peer;
use crate::trial::{Bench, LOAD_CORE};

/// The plain path, and those that are compared.
pub const ARMS: [&str; 5] =
    ["ringway", "ringway-3-endpoints", "ringway-resilient", "ringway-with-token", "ringway-access"];
/// Of those, who is asked by requests that bring a token.
const ARMS_WITH_TOKEN: [&str; 2] = ["ringway-with-token", "ringway-access"];
const PATH: &str = "/b100";
/// Requests of the two runs.
const FEW: u64 = 3_000;
const MANY: u64 = 13_000;
const OUTPUT: &str = "callgrind.out";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instructions {
    pub counted_arm: String,
    pub per_request: f64,
}

/// False where there is no valgrind.
pub fn available() -> bool {
    let valgrind = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    valgrind.is_ok_and(|status| status.success())
}

/// # Errors
/// What kept the gateway from starting, from answering or from being counted.
pub fn measure(bench: &mut Bench, arm: &str) -> io::Result<Instructions> {
    let peer = Peer::named(arm).and_then(Peer::on_epoll);
    let peer = peer.ok_or_else(|| io::Error::other(format!("{arm} has no engine that can be simulated")))?;
    let (few, many) = (run(bench, &peer, FEW)?, run(bench, &peer, MANY)?);
    let per_request = many.saturating_sub(few) as f64 / (MANY - FEW) as f64;
    Ok(Instructions { counted_arm: arm.to_owned(), per_request })
}

/// Instructions of the shard's thread, from start to end.
fn run(bench: &mut Bench, peer: &Peer, requests: u64) -> io::Result<u64> {
    let ports = bench.ports(false);
    let _origins = ADDRESSES
        .iter()
        .map(|&address| OriginProcess::start(&bench.programs, LOAD_CORE, address, ports.origin))
        .collect::<io::Result<Vec<_>>>()?;
    let dir = bench.scratch.join(format!("callgrind-{}-{requests}", peer.name));
    fs::create_dir_all(&dir)?;
    let mut output = OsString::from("--callgrind-out-file=");
    output.push(dir.join(OUTPUT));
    let mut wrapper = ["valgrind", "--tool=callgrind", "--separate-threads=yes"].map(OsString::from).to_vec();
    wrapper.push(output);
    let gateway = Gateway::start_under(&wrapper, peer, &bench.programs, ports, &bench.scratch)?;
    let fields = if ARMS_WITH_TOKEN.contains(&peer.name) { access::fields() } else { String::new() };
    let mut client = Asking::served(ports.gateway, PATH, &fields)?;
    (1..requests).try_for_each(|_| client.ask())?;
    drop(client);
    gateway.end()?;
    busiest(&dir)
}

/// Callgrind writes a file for each thread.
fn busiest(dir: &Path) -> io::Result<u64> {
    let mut most = None;
    for file in fs::read_dir(dir)? {
        most = most.max(total(&fs::read_to_string(file?.path())?));
    }
    most.ok_or_else(|| io::Error::other(format!("callgrind has counted nothing into {}", dir.display())))
}

fn total(text: &str) -> Option<u64> {
    text.lines().rev().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok())
}

pub fn markdown(rows: &[Instructions]) -> String {
    let mut text = "### User-space instructions per request, one client on epoll (`instructions`)\n\n".to_owned();
    text += "| arm | instructions |\n|---|---|\n";
    rows.iter().for_each(|row| text += &format!("| {} | {:.0} |\n", row.counted_arm, row.per_request));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_last_lines() {
        assert_eq!(total("events: Ir\nfn=(1)\n0 17\n\ntotals: 12345\n"), Some(12345));
        assert_eq!(total("events: Ir\n"), None);
    }
}
