//! What a limit costs a request that passes. Instructions are callgrind's to count: `perf/README.md`.

use std::hint::black_box;
use std::sync::Arc;

use ringway::exchange::{HeaderEdits, HeldList, Rewritten};
use ringway::filter::{self, Building, FilterState, Matched, RequestEdit, Verdict};
use ringway::mesh::{Calls, Workers};
use ringway::net::{EngineKind, Net, NetLimits};
use ringway::route::{Captures, RouteTable};
use ringway_perf::micro::Micro;
use ringway_perf::routing::{NoFields, snapshot};
use ringway_proto::{NormalPath, RequestHead};

/// Shared by two cores. Time stands still, so the bucket is so deep that nobody is refused; how much is borrowed ahead
/// follows the rate.
const LIMITS: [(&str, &str); 6] = [
    ("node, no headers", "rate_limit = { rate = \"10000/s\", burst = 1000000000, headers = \"off\" }"),
    ("node, draft6, numbers of ten digits", "rate_limit = { rate = \"10000/s\", burst = 1000000000 }"),
    ("node, slow: nothing borrowed", "rate_limit = { rate = \"100/s\", burst = 1000000000, headers = \"off\" }"),
    (
        "core, no headers",
        "rate_limit = { rate = \"10000/s\", burst = 1000000000, scope = \"core\", headers = \"off\" }",
    ),
    (
        "sliding window, no headers",
        "rate_limit = { limit = 1000000000, window = \"1h\", algorithm = \"sliding_window\", headers = \"off\" }",
    ),
    ("concurrency", "concurrency_limit = { max = 1000 }"),
];

fn main() {
    let micro = Micro::from_args();
    let limits = NetLimits { ring_entries: 8, buffer_bytes: 4096, buffers_max: 1 };
    let (net, head) = (Net::new(EngineKind::Epoll, &limits).expect("an epoll"), RequestHead::new());
    let calls = Calls::new(Workers::start(1, 1).expect("a thread").0, Arc::new(|_| {}));
    let normal = NormalPath::new();
    for (name, filter) in LIMITS {
        let text =
            format!("[[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"origin\"\nfilters = [{{ {filter} }}]");
        let snapshot = snapshot(&text);
        let mut building = Building::new(&snapshot, Default::default(), 2);
        let built = filter::build(&snapshot.routes[0].filters[0], &mut building);
        let filter = built.unwrap_or_else(|why| panic!("{why:?}"));
        let state = FilterState::new(&building.finish().numbers, 0, 0, &std::rc::Rc::from([]), None);
        let table = RouteTable::build(&snapshot).expect("one route");
        let (mut rewritten, captures, mut held) = (Rewritten::default(), Captures::default(), HeldList::new());
        micro.time(&format!("limits/{name}"), || {
            let mut request = RequestEdit {
                headers: &mut HeaderEdits::default(),
                answer: &mut HeaderEdits::default(),
                request: &head,
                bytes: b"",
                body: None,
                new_body: None,
                path: b"/",
                normal: &normal,
                stripped: 0,
                query: None,
                fields: &NoFields,
                rewritten: &mut rewritten,
                matched: Matched { table: &table, route: 0, captures: &captures },
                identity: &mut None,
                ends_unix_s: &mut None,
                nonce: &mut None,
                held: &mut held,
                state: &state,
                net: &net,
                calls: &calls,
                unix_s: &|| 0,
            };
            let passed = matches!(filter.on_request(black_box(&mut request)), Verdict::Pass);
            assert!(passed, "{name}");
            request.held.clear();
        });
    }
}
