//! The router by the size of its table, and the filters of a route.

use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

use ringway::exchange::{HeaderEdits, HeldList, Rewritten};
use ringway::filter::{self, Building, Filter, FilterState, Matched, RequestEdit, Verdict};
use ringway::mesh::{Calls, Workers};
use ringway::net::{EngineKind, Net, NetLimits};
use ringway::route::{Captures, Query, RouteTable};
use ringway_config::Snapshot;
use ringway_perf::micro::Micro;
use ringway_perf::routing::{NoFields, ROUNDS, ROUTES, get, markdown, measure, snapshot};
use ringway_proto::{NormalPath, RequestHead};

const SIZES: [usize; 3] = [10, 1_000, 10_000];

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
    if micro.asks_for("router/at random") {
        let (rounds, routes) = if micro.once() { (1, 1_000) } else { (ROUNDS, ROUTES) };
        print!("{}", markdown(&measure(routes, rounds)));
    }
    let filtered = snapshot(FILTERED);
    let (filters, state) = filters(&filtered);
    let table = RouteTable::build(&filtered).expect("one route");
    let (mut rewritten, captures) = (Rewritten::default(), Captures::default());
    let limits = NetLimits { ring_entries: 8, buffer_bytes: 4096, buffers_max: 1 };
    let calls = Calls::new(Workers::start(1, 1).expect("a thread").0, Arc::new(|_| {}));
    let (net, head) = (Net::new(EngineKind::Epoll, &limits).expect("an epoll"), RequestHead::new());
    let mut normal = NormalPath::new();
    normal.set(b"/api/v1/users/123456").expect("a path");
    micro.time("filters/strip_prefix+2_headers", || {
        let mut request = RequestEdit {
            headers: &mut HeaderEdits::default(),
            answer: &mut HeaderEdits::default(),
            request: &head,
            bytes: b"",
            body: None,
            new_body: None,
            path: b"/api/v1/users/123456",
            normal: &normal,
            stripped: 0,
            query: None,
            fields: &NoFields,
            rewritten: &mut rewritten,
            matched: Matched { table: &table, route: 0, captures: &captures },
            identity: &mut None,
            ends_unix_s: &mut None,
            nonce: &mut None,
            held: &mut HeldList::new(),
            state: &state,
            net: &net,
            calls: &calls,
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

const FILTERED: &str = "[[routes]]\nname = \"api\"\npath_prefix = \"/api\"\ncluster = \"origin\"\n\
        filters = [{ strip_prefix = \"/api\" }, { request_headers = { set = { x-tier = \"gold\" }, remove = [\"x-debug\"] } }]";

fn filters(snapshot: &Snapshot) -> (Vec<Box<dyn Filter>>, FilterState) {
    let mut building = Building::new(snapshot, Default::default(), 1);
    let configs = snapshot.routes[0].filters.iter();
    let built = configs.map(|config| filter::build(config, &mut building).unwrap_or_else(|why| panic!("{why:?}")));
    let filters = built.collect();
    (filters, FilterState::new(&building.finish().numbers, 0, 0, &std::rc::Rc::from([]), None))
}
