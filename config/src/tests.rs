//! What every key becomes, and what the messages promise. Files with their messages are in `tests/files.rs`.

mod any;
mod clusters;

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::filter;
use crate::http::{HeaderName, HeaderValue};
use crate::snapshot::*;
use crate::units::{DurationText, SizeText};
use crate::{Errors, Fault, Source, load};

const SMALLEST: &str = "[listeners.a]\nbind = \":8080\"\n[clusters.b]\nendpoints = [\"10.0.0.1:80\"]\n\
    [[routes]]\nname = \"c\"\ncluster = \"b\"\n";

fn source(text: &str) -> Source {
    Source { name: "ringway.toml".to_owned(), text: text.to_owned() }
}

fn snapshot(text: &str) -> Snapshot {
    load(&source(text)).unwrap_or_else(|errors| panic!("{errors}")).snapshot
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn process_defaults() {
    let Process { io, cores, telemetry, control, log, drain, pool, workers, redis } = snapshot(SMALLEST).process;
    assert_eq!((io, redis), (IoChoice::Auto, Vec::new()));
    let each = CoreLimits {
        ring_entries: 4096,
        connections_max: 65536,
        buffer_bytes: 16384,
        buffers_max: 16384,
        keepalive_timeout: None,
    };
    assert_eq!(cores, Cores { count: CoreCount::Auto, each, overrides: Vec::new() });
    assert_eq!(telemetry.bind, "127.0.0.1:9901".parse().ok());
    assert_eq!(control.socket, PathBuf::from("/run/ringway/control.sock"));
    assert_eq!((log.access, log.access_format, log.queue_lines_max), (AccessTarget::Off, AccessFormat::Ecs, 8192));
    assert_eq!(log.headers, ["user-agent", "referer"]);
    assert_eq!(log.redact, ["authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key"]);
    assert_eq!(drain, Drain { wait: seconds(5), deadline: seconds(30) });
    let (idle_timeout, lifetime_max) = (seconds(90), seconds(3600));
    assert_eq!(workers, Workers { threads: 2, queue_max: 1024 });
    assert_eq!(pool, Pool { idle_max: 1000, idle_per_endpoint_max: 100, idle_timeout, lifetime_max });
}

#[test]
fn redis_defaults() {
    let text = format!("{SMALLEST}\n[redis.limits]\nnodes = [\"10.0.0.1:6379\"]\n");
    let expected = Redis {
        name: "limits".to_owned(),
        nodes: vec![EndpointAddress::Ip("10.0.0.1:6379".parse().expect("an address"))],
        username: None,
        password: None,
        timeout: Duration::from_millis(50),
        connect_timeout: Duration::from_millis(500),
        active_max: 500,
        wait: true,
        queue_max: 5000,
        idle_max: 100,
        idle_timeout: seconds(240),
        read_from: ReadFrom::Master,
        refresh: seconds(30),
        evicts: false,
    };
    assert_eq!(snapshot(&text).process.redis, [expected]);
}

#[test]
fn listener_defaults() {
    let expected = Listener {
        name: "a".to_owned(),
        bind: vec!["[::]:8080".parse().expect("an address")],
        steering: Steering::Kernel,
        backlog: 4096,
        header_timeout: seconds(10),
        body_timeout: seconds(30),
        keepalive_timeout: seconds(75),
        unused_timeout: seconds(15),
        send_timeout: seconds(30),
        tunnel_timeout: seconds(300),
        head_bytes_max: 32 * 1024,
        target_bytes_max: 8 * 1024,
        headers_max: 100,
        body_bytes_max: 10 * 1024 * 1024,
        keepalive_requests_max: 0,
        connections_per_ip_max: 0,
        forwarded: Forwarded::X,
        via: "ringway".to_owned(),
        trusted_proxies: Vec::new(),
        policies: Vec::new(),
    };
    assert_eq!(snapshot(SMALLEST).listeners, [expected]);
}

#[test]
fn cluster_and_route_defaults() {
    let read = snapshot(SMALLEST);
    let expected = Cluster {
        name: "b".to_owned(),
        endpoints: vec![Endpoint {
            address: EndpointAddress::Ip("10.0.0.1:80".parse().expect("an address")),
            weight: 1,
            backup: false,
        }],
        balance: Balance::RoundRobin,
        hash_on: None,
        hash_load_max_percent: None,
        sticky: None,
        slow_start: None,
        panic_percent: 10,
        spill_percent: 140,
        connect_timeout: seconds(1),
        first_byte_timeout: seconds(30),
        between_bytes_timeout: seconds(30),
        total_timeout: None,
        response_head_bytes_max: 32 * 1024,
        host: HostHeader::Preserve,
        dns_refresh: seconds(10),
        retry_stale: true,
        retry: clusters::default_retry(),
        retry_budget: RetryBudget { percent: 20, per_second_min: 10 },
        checks: None,
        outlier: None,
        breaker: None,
        endpoint_breaker: None,
        limits: Limits {
            requests_max: 0,
            queue_max: 0,
            queue_timeout: Duration::from_millis(100),
            connections_per_endpoint_max: 0,
            connects_per_endpoint_max: 256,
        },
        adaptive: None,
    };
    assert_eq!(read.clusters, [expected]);
    let expected = Route {
        public: false,
        name: "c".to_owned(),
        listeners: Vec::new(),
        hosts: Vec::new(),
        path: PathPattern::Prefix(Vec::new()),
        methods: Vec::new(),
        conditions: Vec::new(),
        priority: 0,
        filters: Vec::new(),
        action: Action::Cluster(0),
        mirror: None,
        api: None,
        group: None,
        policies: Vec::new(),
        without: Vec::new(),
        settings: Settings::default(),
    };
    assert_eq!(read.routes, [expected]);
}

/// Every key set, to something that is not its default.
#[test]
fn process_keys() {
    let read = snapshot(&format!(
        "io = \"epoll\"\n\
        cores = {{ count = 2, ring_entries = 64, connections_max = 7, buffer_bytes = \"64KiB\", buffers_max = 64 }}\n\
        telemetry.bind = \"off\"\ncontrol.socket = \"/tmp/c.sock\"\n\
        log = {{ access = \"/var/log/x\", access_format = \"combined\", queue_lines_max = 9, headers = [\"X-Tenant\"],\n\
        redact = [\"X-Session\", \"Cookie\"] }}\n\
        drain = {{ wait = \"0s\", deadline = \"1s\" }}\n\
        pool = {{ idle_max = 0, idle_per_endpoint_max = 1, idle_timeout = \"1s\", lifetime_max = \"2s\" }}\n{SMALLEST}"
    ))
    .process;
    let each = CoreLimits {
        ring_entries: 64,
        connections_max: 7,
        buffer_bytes: 65536,
        buffers_max: 64,
        keepalive_timeout: None,
    };
    assert_eq!(read.cores, Cores { count: CoreCount::Exactly(2), each, overrides: Vec::new() });
    assert_eq!((read.io, read.telemetry.bind), (IoChoice::Epoll, None));
    assert_eq!(read.control.socket, PathBuf::from("/tmp/c.sock"));
    assert_eq!(read.log.access, AccessTarget::File(PathBuf::from("/var/log/x")));
    assert_eq!((read.log.access_format, read.log.queue_lines_max), (AccessFormat::Combined, 9));
    assert_eq!(read.log.headers, ["x-tenant"]);
    assert_eq!(read.log.redact.len(), 6);
    assert!(read.log.redact.contains(&"x-session".to_owned()));
    assert_eq!(read.drain, Drain { wait: Duration::ZERO, deadline: seconds(1) });
    let (idle_timeout, lifetime_max) = (seconds(1), seconds(2));
    assert_eq!(read.pool, Pool { idle_max: 0, idle_per_endpoint_max: 1, idle_timeout, lifetime_max });
}

#[test]
fn one_core_differs() {
    let cores = snapshot(&format!(
        "[cores]\ncount = [2, 4, 6]\nconnections_max = 100\nkeepalive_timeout = \"5s\"\n\
        [cores.2]\nring_entries = 8192\n[cores.0]\nkeepalive_timeout = \"9s\"\n{SMALLEST}"
    ))
    .process
    .cores;
    assert_eq!(cores.count, CoreCount::List(vec![2, 4, 6]));
    let limits = |shard| {
        let limits = cores.limits(shard);
        (limits.ring_entries, limits.connections_max, limits.keepalive_timeout)
    };
    assert_eq!(limits(0), (4096, 100, Some(seconds(9))));
    assert_eq!(limits(1), (4096, 100, Some(seconds(5))));
    assert_eq!(limits(2), (8192, 100, Some(seconds(5))));
}

#[test]
fn core_counts() {
    let count = |text: &str| snapshot(&format!("cores.count = {text}\n{SMALLEST}")).process.cores.count;
    assert_eq!(count("\"auto\""), CoreCount::Auto);
    assert_eq!(count("4"), CoreCount::Exactly(4));
    assert_eq!(count("\"0-3\""), CoreCount::List(vec![0, 1, 2, 3]));
    assert_eq!(count("\"0,2,4-6\""), CoreCount::List(vec![0, 2, 4, 5, 6]));
    assert_eq!(count("[0, 0]"), CoreCount::List(vec![0, 0])); // two cores on one CPU: the start warns
    for text in ["\"\"", "\"0-\"", "\"0-9999999\"", "\"a\"", "[]", "[1024]", "-1", "1025", "1.5"] {
        assert!(load(&source(&format!("cores.count = {text}\n{SMALLEST}"))).is_err(), "{text}");
    }
}

#[test]
fn listener_keys() {
    let text = SMALLEST.replace(
        "bind = \":8080\"",
        "bind = [\"127.0.0.1:0\", \"127.0.0.1:0\", \"[::1]:80\"]\nsteering = \"cpu\"\nbacklog = 1\n\
        header_timeout = \"1ms\"\nbody_timeout = \"2s\"\nkeepalive_timeout = \"3s\"\nunused_timeout = \"4s\"\n\
        send_timeout = \"5s\"\ntunnel_timeout = \"6s\"\nhead_bytes_max = 2048\ntarget_bytes_max = \"2KiB\"\n\
        headers_max = 3\nbody_bytes_max = 0\nkeepalive_requests_max = 5\nconnections_per_ip_max = 6\n\
        forwarded = \"rfc7239\"\nvia = \"\"\nprotocols = [\"http/1.1\"]\n\
        trusted_proxies = [\"10.0.0.0/8\", \"::/0\", \"192.0.2.1\", \"0.0.0.0/0\"]",
    );
    let read = snapshot(&text).listeners.remove(0);
    assert_eq!(read.bind.len(), 3);
    assert_eq!((read.steering, read.backlog), (Steering::Cpu, 1));
    assert_eq!(read.header_timeout, Duration::from_millis(1));
    let rest = [read.body_timeout, read.keepalive_timeout, read.unused_timeout, read.send_timeout, read.tunnel_timeout];
    assert_eq!(rest, [2, 3, 4, 5, 6].map(seconds));
    assert_eq!((read.head_bytes_max, read.target_bytes_max, read.headers_max), (2048, 2048, 3));
    assert_eq!((read.body_bytes_max, read.keepalive_requests_max, read.connections_per_ip_max), (0, 5, 6));
    assert_eq!((read.forwarded, read.via.as_str()), (Forwarded::Rfc7239, ""));
    let cidr = |address: &str, prefix| Cidr { address: address.parse().expect("an address"), prefix };
    let expected = [cidr("10.0.0.0", 8), cidr("::", 0), cidr("192.0.2.1", 32), cidr("0.0.0.0", 0)];
    assert_eq!(read.trusted_proxies, expected);
}

#[test]
fn cluster_keys() {
    let text = SMALLEST.replace(
        "endpoints = [\"10.0.0.1:80\"]",
        "endpoints = [\"[::1]:1\", \"Users.internal:2\", \"unix:/run/a.sock\", { address = \"b:3\", weight = 1000 }]\n\
        balance = \"least_request\"\nconnect_timeout = \"2s\"\nfirst_byte_timeout = \"3s\"\n\
        between_bytes_timeout = \"4s\"\ntotal_timeout = \"5s\"\nresponse_head_bytes_max = \"60KiB\"\n\
        host = \"Origin.example:8080\"\ndns_refresh = \"1s\"\nretry_stale = false",
    );
    let read = snapshot(&text).clusters.remove(0);
    let dns = |host: &str, port| EndpointAddress::Dns { host: host.to_owned(), port };
    let expected = [
        (EndpointAddress::Ip("[::1]:1".parse().expect("an address")), 1),
        (dns("users.internal", 2), 1),
        (EndpointAddress::Unix(PathBuf::from("/run/a.sock")), 1),
        (dns("b", 3), 1000),
    ];
    assert_eq!(read.endpoints, expected.map(|(address, weight)| Endpoint { address, weight, backup: false }));
    assert_eq!(read.balance, Balance::LeastRequest);
    let times = [read.connect_timeout, read.first_byte_timeout, read.between_bytes_timeout, read.dns_refresh];
    assert_eq!(times, [2, 3, 4, 1].map(seconds));
    assert_eq!((read.total_timeout, read.response_head_bytes_max), (Some(seconds(5)), 61440));
    assert_eq!((read.host, read.retry_stale), (HostHeader::Literal("origin.example:8080".to_owned()), false));
}

#[test]
fn route_keys() {
    let text = SMALLEST.replace(
        "cluster = \"b\"",
        "listeners = [\"a\"]\nhosts = [\"Example.com\", \"*.example.com\", \"[::0:1]\"]\npath_prefix = \"/api/\"\n\
        methods = [\"GET\", \"PURGE\"]\npriority = -3\nbody_bytes_max = \"1GiB\"\ntotal_timeout = \"9s\"\n\
        headers = [{ name = \"X-A\", present = true }, { name = \"x-b\", absent = true }, \
        { name = \"x-c\", equals = \"\" }, { name = \"x-d\", prefix = \"p\" }, { name = \"x-e\", suffix = \"s\" }, \
        { name = \"x-f\", contains = \"c\" }, { name = \"x-g\", matches = \"a|b\" }]\n\
        queries = [{ name = \"Q r\", equals = \"é\" }]\ncookies = [{ name = \"C\", equals = \"d\" }]\n\
        when = 'header.x-h or path == \"/\"'\n\
        filters = [{ strip_prefix = \"/api\" }, { request_headers.set = { b = \"1\", a = \"2\" } }]\ncluster = \"b\"",
    );
    let read = snapshot(&text).routes.remove(0);
    let exact = |host: &str| HostPattern::Exact(host.to_owned());
    let hosts = [exact("example.com"), HostPattern::Wildcard("example.com".to_owned()), exact("[::1]")];
    assert_eq!((read.hosts, read.listeners), (hosts.to_vec(), vec!["a".to_owned()]));
    assert_eq!(read.path, PathPattern::Prefix(vec!["api".to_owned()]));
    assert_eq!((read.methods, read.priority), (vec!["GET".to_owned(), "PURGE".to_owned()], -3));
    let (body_bytes_max, total_timeout) = (Some(1 << 30), Some(seconds(9)));
    assert_eq!(read.settings, Settings { body_bytes_max, total_timeout, ..Settings::default() });
    let shown: Vec<String> = read.conditions.iter().map(Condition::to_string).collect();
    let wanted = [
        "header.x-a",
        "not header.x-b",
        "header.x-c == \"\"",
        "header.x-d starts_with \"p\"",
        "header.x-e ends_with \"s\"",
        "header.x-f contains \"c\"",
        "header.x-g matches \"a|b\"",
        "query[\"Q r\"] == \"é\"",
        "cookie.C == \"d\"",
        "header.x-h or path == \"/\"",
    ];
    assert_eq!(shown, wanted);
    assert_eq!(
        (read.filters[0].name.as_str(), read.filters[0].place.as_str()),
        ("strip_prefix", "routes[0].filters[0].strip_prefix")
    );
    assert_eq!(read.filters[0].table.as_str(), Some("/api"));
    let set = read.filters[1].table["set"].as_table().expect("a table");
    assert_eq!(set.keys().collect::<Vec<_>>(), ["b", "a"], "in the order written");
}

#[test]
fn actions() {
    let action = |text: &str| snapshot(&SMALLEST.replace("cluster = \"b\"", text)).routes.remove(0).action;
    let redirect = Redirect { status: 308, to: "https://{host}/b/{id}".to_owned() };
    assert_eq!(action("path = \"/a/{id}\"\nredirect.to = \"https://{host}/b/{id}\""), Action::Redirect(redirect));
    let content_type = "text/plain; charset=utf-8".to_owned();
    let respond = Respond { status: 200, content_type, body: String::new(), headers: Vec::new() };
    assert_eq!(action("respond = {}"), Action::Respond(respond));
    let headers = vec![("x-b".to_owned(), "1".to_owned()), ("x-a".to_owned(), "2".to_owned())];
    let respond = Respond { status: 503, content_type: "a/b".to_owned(), body: "c".to_owned(), headers };
    let text =
        "respond = { status = 503, content_type = \"a/b\", body = \"c\", headers = { X-B = \"1\", x-a = \"2\" } }";
    assert_eq!(action(text), Action::Respond(respond));
}

#[test]
fn clusters_are_sorted_and_found() {
    let text = SMALLEST.to_owned()
        + "[[routes]]\nname = \"d\"\npath = \"/d\"\ncluster = \"a\"\n[clusters.a]\nendpoints = [\"c:1\"]\n";
    let read = snapshot(&text);
    assert_eq!(read.clusters.iter().map(|cluster| cluster.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((&read.routes[0].action, &read.routes[1].action), (&Action::Cluster(1), &Action::Cluster(0)));
}

/// Alike but for one condition: no twins.
#[test]
fn near_twins_are_two_routes() {
    let second = |text: &str| load(&source(&format!("{SMALLEST}[[routes]]\nname = \"d\"\ncluster = \"b\"\n{text}\n")));
    for text in [
        "host = \"example.com\"",
        "path = \"/{*rest}\"",
        "methods = [\"GET\"]",
        "headers = [{ name = \"x-a\", present = true }]",
        "queries = [{ name = \"x-a\", present = true }]",
        "cookies = [{ name = \"x-a\", present = true }]",
        "when = 'header.x-a'",
        "path_regex = '/.*'",
        "priority = 1",
        "listeners = [\"a\"]",
    ] {
        assert!(second(text).is_ok(), "{text}");
    }
    assert!(second("").is_err());
    assert!(second("path_prefix = \"/\"").is_err());
}

#[test]
fn problems_are_capped_and_counted() {
    let methods = vec!["\"get\""; 32].join(", ");
    let routes: String = (0..5).map(|n| format!("[[routes]]\nname = \"r{n}\"\nmethods = [{methods}]\n")).collect();
    let Errors(problems) = load(&source(&routes)).expect_err("lower-case methods");
    assert_eq!(problems.len(), 101);
    assert_eq!(problems[100].to_string(), "ringway.toml: and 60 more");
}

#[test]
fn a_message_is_one_line() {
    let text = SMALLEST.replace("cluster = \"b\"", &format!("cluster = \"a\\nb{}\"", "x".repeat(1000)));
    let errors = load(&source(&text)).expect_err("no such cluster").to_string();
    assert!(!errors.contains('\n') && errors.len() < 250, "{errors}");
}

/// Each of these would overflow a stack that followed it down.
#[test]
fn deep_nesting_is_refused() {
    let deep = |piece: &str| piece.repeat(10_000);
    let (dots, braces) = (deep("a."), deep("{ a = "));
    for text in [
        format!("{dots}a = 1\n"),
        format!("[{dots}a]\n"),
        format!("a = {}\n", deep("[")),
        format!("a = {braces}1"),
        SMALLEST.replace("cluster = \"b\"", &format!("filters = [{{ {dots}a = 1 }}]\ncluster = \"b\"")),
    ] {
        assert!(load(&source(&text)).is_err(), "{}", &text[..40]);
    }
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestHeaders {
    #[serde(default)]
    set: Vec<Pair>,
    wait: Option<DurationText>,
    size: Option<SizeText>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Pair {
    name: HeaderName,
    value: HeaderValue,
}

fn filter_fault(text: &str) -> (Fault, Source) {
    let source = source(&SMALLEST.replace("cluster = \"b\"", &format!("cluster = \"b\"\nfilters = [\n{text}\n]")));
    let loaded = load(&source).unwrap_or_else(|errors| panic!("{errors}"));
    let fault = filter::table::<RequestHeaders>(&loaded.snapshot.routes[0].filters[0]).expect_err(text);
    (fault, source)
}

#[test]
fn filters_read_their_own_tables() {
    let text =
        "filters = [{ h = { set = [{ name = \"X-A\", value = \"b\" }], wait = \"1s\", size = 10 } }]\ncluster = \"b\"";
    let read = snapshot(&SMALLEST.replace("cluster = \"b\"", text));
    let read: RequestHeaders = filter::table(&read.routes[0].filters[0]).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(read.set[0].name.as_str(), "x-a");
    assert_eq!((read.wait, read.size), (Some(DurationText(seconds(1))), Some(SizeText(10))));
}

#[test]
fn a_filters_typo_is_told_with_its_line() {
    let located = |text: &str| {
        let (fault, source) = filter_fault(text);
        fault.locate(&source).to_string()
    };
    assert_eq!(
        located("{ h = { stt = [] } }"),
        "ringway.toml:9:9: routes[0].filters[0].h.stt: no key \"stt\" here; did you mean \"set\"?"
    );
    assert_eq!(
        located("{ h = { wait = \"1sec\" } }"),
        "ringway.toml:9:9: routes[0].filters[0].h.wait: \"1sec\": no unit \"sec\"; the units are ms, s, m, h and d"
    );
    assert_eq!(
        located("{ h = { set = [{ name = \"a\", value = \"b\" },\n { name = \"a b\", value = \"c\" }] } }"),
        "ringway.toml:10:4: routes[0].filters[0].h.set[1].name: \"a b\" is not a header name; \
        use letters, digits and dashes, such as \"x-request-id\""
    );
    assert_eq!(
        located("{ h = { set = [{ name = \"a\" }] } }"),
        "ringway.toml:9:16: routes[0].filters[0].h.set[0]: missing field `value`"
    );
    // `Pair` forgot `deny_unknown_fields`; a key it does not have is refused all the same.
    assert_eq!(
        located("{ h = { set = [{ name = \"a\", value = \"b\", sep = 1 }] } }"),
        "ringway.toml:9:43: routes[0].filters[0].h.set[0].sep: no such key here"
    );
    assert!(located("{ h = 3 }").starts_with("ringway.toml:9:3: routes[0].filters[0].h: invalid type: integer `3`"));
}
