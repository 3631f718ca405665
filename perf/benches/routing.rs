//! The router by the size of its table, and the filters of a route.

use std::collections::HashSet;
use std::fmt::Write;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use ringway::exchange::{HeaderEdits, Rewritten};
use ringway::filter::{self, Filter, FilterState, Matched, Numbers, RequestEdit, Verdict};
use ringway::route::{Captures, FieldSource, Query, RouteTable};
use ringway_config::{Snapshot, Source};
use ringway_perf::micro::Micro;

const SIZES: [usize; 3] = [10, 1_000, 10_000];
/// Of the table whose lookups are timed one by one: p50 at most 1 µs, p99 at most 3 µs, less the clock.
const RANDOM_ROUTES: usize = 100_000;

struct NoFields;

impl FieldSource for NoFields {
    fn any(&self, _name: &str, _test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        false
    }

    fn client_ip(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }
}

fn main() {
    let micro = Micro::from_args();
    for size in SIZES {
        let table = RouteTable::build(&snapshot(&routes(size))).expect("the routes below do not overlap too much");
        let last = size - 1;
        let paths = [
            ("exact", format!("/service{last}/health")),
            ("parameter", format!("/service{last}/users/123456")),
            ("none", "/nobody/knows/this".to_owned()),
        ];
        for (name, path) in &paths {
            let query = get(path);
            let mut captures = Captures::default();
            micro.time(&format!("router/{size}/{name}"), || table.find(black_box(&query), &mut captures).is_ok());
        }
    }
    conditional(&micro);
    random_table(&micro);
    let filtered = snapshot(FILTERED);
    let (filters, state) = filters(&filtered);
    let table = RouteTable::build(&filtered).expect("one route");
    let (mut rewritten, captures) = (Rewritten::default(), Captures::default());
    micro.time("filters/strip_prefix+2_headers", || {
        let mut request = RequestEdit {
            headers: HeaderEdits::default(),
            path: b"/api/v1/users/123456",
            stripped: 0,
            query: None,
            fields: &NoFields,
            rewritten: &mut rewritten,
            matched: Matched { table: &table, route: 0, captures: &captures },
            state: &state,
            unix_s: &|| 0,
        };
        let passed = filters.iter().all(|filter| matches!(filter.on_request(black_box(&mut request)), Verdict::Pass));
        (passed, request.stripped)
    });
}

/// An expression with and without groups to fill, and a `when` of three tests.
fn conditional(micro: &Micro) {
    let lines = [
        "path_regex = '/users/[0-9]+/posts'",
        "path_regex = '/v(?<major>[0-9]+)/users/(?<id>[0-9]+)'",
        "path = \"/asked/{id}\"\nwhen = 'query.debug == \"1\" and (header.x-env or path ends_with \"6\")'",
    ];
    let routes = lines.iter().enumerate();
    let routes = routes.map(|(at, line)| format!("[[routes]]\nname = \"r{at}\"\n{line}\ncluster = \"origin\"\n"));
    let table = RouteTable::build(&snapshot(&routes.collect::<String>())).expect("three routes");
    for (name, path) in
        [("expression", "/users/123456/posts"), ("groups", "/v2/users/123456"), ("when", "/asked/123456")]
    {
        let query = Query { query_string: b"page=2&debug=1", ..get(path) };
        let mut captures = Captures::default();
        micro.time(&format!("router/{name}"), || table.find(black_box(&query), &mut captures).is_ok());
    }
}

/// Exact, prefix and param patterns at random, each asked for once and in another order than that of the file.
fn random_table(micro: &Micro) {
    let (text, mut requests) = random_routes(RANDOM_ROUTES);
    let table = RouteTable::build(&snapshot(&text)).expect("random paths hardly overlap");
    let all: Vec<&str> = requests.iter().map(|(_, path)| path.as_str()).collect();
    micro.spread(&format!("router/{RANDOM_ROUTES} at random/the clock alone"), &all, |_| ());
    for kind in ["exact", "prefix", "param"] {
        let of_kind: Vec<String> = requests.extract_if(.., |(known, _)| *known == kind).map(|(_, path)| path).collect();
        let mut captures = Captures::default();
        micro.spread(&format!("router/{RANDOM_ROUTES} at random/{kind}"), &of_kind, |path| {
            let query = get(path);
            table.find(&query, &mut captures).expect("each path has its route")
        });
    }
}

/// Routes, and by the kind of each a path that reaches it.
fn random_routes(count: usize) -> (String, Vec<(&'static str, String)>) {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let words: Vec<String> = (0..5_000).map(|_| random.word()).collect();
    let (mut text, mut requests, mut seen) = (String::new(), Vec::new(), HashSet::new());
    while requests.len() < count {
        let mut segments: Vec<&str> = (0..2 + random.below(4)).map(|_| &*words[random.below(words.len())]).collect();
        let kind = ["exact", "prefix", "param"][random.below(3)];
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

/// Xorshift: the same table in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }

    fn word(&mut self) -> String {
        (0..4 + self.below(7)).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }
}

fn get(path: &str) -> Query<'_> {
    let (host, path) = (&b"example.com"[..], path.as_bytes());
    Query { listener: 0, host, path, query_string: b"", method: b"GET", fields: &NoFields }
}

fn routes(services: usize) -> String {
    let mut text = String::new();
    for service in 0..services {
        for (name, rest) in [("health", "health"), ("user", "users/{id}")] {
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "[[routes]]\nname = \"service{service}-{name}\"\npath = \"/service{service}/{rest}\"\ncluster = \"origin\""
            );
        }
    }
    text
}

fn snapshot(routes: &str) -> Snapshot {
    let text = format!(
        "[listeners.all]\nbind = \"127.0.0.1:24000\"\n[clusters.origin]\nendpoints = [\"127.0.0.1:24001\"]\n{routes}"
    );
    let loaded = ringway_config::load(&Source { name: "routing".to_owned(), text });
    loaded.unwrap_or_else(|why| panic!("{why}")).snapshot
}

const FILTERED: &str = "[[routes]]\nname = \"api\"\npath_prefix = \"/api\"\ncluster = \"origin\"\n\
        filters = [{ strip_prefix = \"/api\" }, { request_headers = { set = { x-tier = \"gold\" }, remove = [\"x-debug\"] } }]";

fn filters(snapshot: &Snapshot) -> (Vec<Box<dyn Filter>>, FilterState) {
    let mut numbers = Numbers::default();
    let configs = snapshot.routes[0].filters.iter();
    let built = configs.map(|config| filter::build(config, &mut numbers).unwrap_or_else(|why| panic!("{why:?}")));
    (built.collect(), FilterState::new(&numbers, 0))
}
