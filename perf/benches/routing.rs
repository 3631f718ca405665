//! The router by the size of its table, and the filters of a route.

use std::fmt::Write;
use std::hint::black_box;

use ringway::exchange::{HeaderEdits, Rewritten};
use ringway::filter::{self, Filter, FilterState, Matched, Numbers, RequestEdit, Verdict};
use ringway::route::{Captures, FieldSource, Query, RouteTable};
use ringway_config::{Snapshot, Source};
use ringway_perf::micro::Micro;

const SIZES: [usize; 3] = [10, 1_000, 10_000];

struct NoFields;

impl FieldSource for NoFields {
    fn any(&self, _name: &str, _test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        false
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
            let query =
                Query { listener: 0, host: b"example.com", path: path.as_bytes(), method: b"GET", fields: &NoFields };
            let mut captures = Captures::default();
            micro.time(&format!("router/{size}/{name}"), || table.find(black_box(&query), &mut captures).is_ok());
        }
    }
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
