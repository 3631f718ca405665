//! One lookup after the other in a table of many routes, each timed alone: what a mean hides.

use std::collections::HashSet;
use std::fmt::Write;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use ringway::route::{Captures, FieldSource, Query, RouteTable};
use ringway_config::{Snapshot, Source};
use serde::{Deserialize, Serialize};

use crate::stats::Xorshift;

pub const ROUTES: usize = 100_000;
/// Each path is asked for so many times, with all others in between.
pub const ROUNDS: usize = 5;
/// Of patterns.
pub const KINDS: [&str; 3] = ["exact", "prefix", "param"];

/// Percentiles of one kind's lookups, in nanoseconds. The clock's own cost is in them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lookups {
    pub route_kind: String,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
}

/// A request without header lines.
pub struct NoFields;

impl FieldSource for NoFields {
    fn any(&self, _name: &str, _test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        false
    }

    fn client_ip(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }
}

/// Exact, prefix and param patterns at random, each asked for in another order than that of the document.
pub fn measure(routes: usize, rounds: usize) -> Vec<Lookups> {
    let (text, mut requests) = random_routes(routes);
    let table = RouteTable::build(&snapshot(&text)).expect("random paths hardly overlap");
    let of_kind = |kind: &&str| {
        let paths: Vec<String> = requests.extract_if(.., |(known, _)| known == kind).map(|(_, path)| path).collect();
        lookups(kind, &table, &paths, rounds)
    };
    KINDS.iter().map(of_kind).collect()
}

/// A path's bytes are read before the clock starts, as a request's are; all else that a lookup reads is as cold as it
/// may be.
fn lookups(kind: &str, table: &RouteTable, paths: &[String], rounds: usize) -> Lookups {
    let mut captures = Captures::default();
    let mut times: Vec<u64> = Vec::with_capacity(paths.len() * rounds);
    for round in 0..=rounds {
        for path in paths {
            black_box(path.bytes().fold(0u8, |sum, byte| sum.wrapping_add(byte)));
            let start = Instant::now();
            let found = table.find(black_box(&get(path)), &mut captures);
            let took = start.elapsed();
            black_box(found).expect("each path has its route");
            // The first round warms up.
            if round > 0 {
                times.push(took.as_nanos() as u64);
            }
        }
    }
    times.sort_unstable();
    let at = |per_mille: usize| times[(times.len() - 1) * per_mille / 1000];
    Lookups { route_kind: kind.to_owned(), p50_ns: at(500), p99_ns: at(990), p999_ns: at(999) }
}

pub fn markdown(rows: &[Lookups]) -> String {
    let mut text = format!("### Lookups among {ROUTES} routes at random, one by one (`routing`)\n\n");
    text += "| pattern | p50 ns | p99 ns | p99.9 ns |\n|---|---|---|---|\n";
    for Lookups { route_kind, p50_ns, p99_ns, p999_ns } in rows {
        text += &format!("| {route_kind} | {p50_ns} | {p99_ns} | {p999_ns} |\n");
    }
    text
}

/// Routes, and by the kind of each a path that reaches it.
fn random_routes(count: usize) -> (String, Vec<(&'static str, String)>) {
    let mut random = Xorshift(0x9E37_79B9_7F4A_7C15);
    let words: Vec<String> = (0..5_000).map(|_| word(&mut random)).collect();
    let (mut text, mut requests, mut seen) = (String::new(), Vec::new(), HashSet::new());
    while requests.len() < count {
        let mut segments: Vec<&str> = (0..2 + random.below(4)).map(|_| &*words[random.below(words.len())]).collect();
        let kind = KINDS[random.below(KINDS.len())];
        let param = 1 + random.below(segments.len() - 1);
        let asked = format!("/{}{}", segments.join("/"), if kind == "prefix" { "/more/below" } else { "" });
        if kind == "param" {
            segments[param] = "{id}";
        }
        let path = format!("/{}", segments.join("/"));
        if !seen.insert((kind, path.clone())) {
            continue;
        }
        let key = if kind == "prefix" { "path_prefix" } else { "path" };
        // Writing to a string does not fail.
        let _ = writeln!(text, "[[routes]]\nname = \"r{}\"\n{key} = \"{path}\"\ncluster = \"origin\"", requests.len());
        let place = random.below(requests.len() + 1);
        requests.push((kind, asked));
        let last = requests.len() - 1;
        requests.swap(place, last);
    }
    (text, requests)
}

fn word(random: &mut Xorshift) -> String {
    (0..4 + random.below(7)).map(|_| char::from(b'a' + random.below(26) as u8)).collect()
}

pub fn get(path: &str) -> Query<'_> {
    let (host, path) = (&b"example.com"[..], path.as_bytes());
    Query { listener: 0, host, path, query_string: b"", method: b"GET", fields: &NoFields }
}

/// The snapshot of a document with these routes.
pub fn snapshot(routes: &str) -> Snapshot {
    let text = format!(
        "[listeners.all]\nbind = \"127.0.0.1:24000\"\n[clusters.origin]\nendpoints = [\"127.0.0.1:24001\"]\n{routes}"
    );
    let loaded = ringway_config::load(&Source { name: "routing".to_owned(), text });
    loaded.unwrap_or_else(|why| panic!("{why}")).snapshot
}
