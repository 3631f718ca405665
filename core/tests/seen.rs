//! What an operator sees: metrics by route template, blame, health, and an access log that hostile text cannot break.

mod support;

use std::ffi::CString;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Instant;

use support::client::request;
use support::wire::lossy;
use support::{Client, Gateway, Origin, SOON, ms, names, ports::Port, proxy_to, wait_until};

/// A route with a param, one that fails, one that is fixed.
fn site(origin: &Origin) -> String {
    format!(
        "[clusters.app]\nendpoints = [\"{}\"]\n\n[clusters.dead]\nendpoints = [\"{}\"]\n\n\
         [[routes]]\nname = \"user\"\npath = \"/users/{{id}}\"\ncluster = \"app\"\n\n\
         [[routes]]\nname = \"dead\"\npath_prefix = \"/dead\"\ncluster = \"dead\"\n\n\
         [[routes]]\nname = \"fixed\"\npath = \"/fixed\"\nrespond = {{ status = 200, body = \"fixed\" }}\n",
        origin.endpoint(),
        Port::lease().address()
    )
}

#[test]
fn requests_are_counted_by_route_template() {
    let origin = Origin::start(|x| {
        let status = if x.target().ends_with("/missing") { 404 } else { 200 };
        x.reply(status, "", "x")
    });
    let gateway = Gateway::start(&site(&origin));
    let mut client = gateway.client();
    for id in ["1", "2", "3", "secret-token"] {
        client.get(&format!("/users/{id}?q={id}")).expect(200);
    }
    client.get("/users/missing").expect(404);
    client.request("POST", "/users/9", "", b"b").expect(200);
    client.get("/nowhere/at/all").expect(404);
    let metrics = gateway.wait_metrics("seven requests", |m| m.count(names::REQUESTS, &[]) == 7);
    let of = |method: &str, path: &str, status: &str| {
        metrics.count(names::REQUESTS, &[("method", method), ("path", path), ("status", status)])
    };
    assert_eq!(
        (of("GET", "/users/{id}", "200"), of("POST", "/users/{id}", "200"), of("GET", "/users/{id}", "404")),
        (4, 1, 1)
    );
    let paths = metrics.values(names::REQUESTS, "path");
    assert!(!paths.iter().any(|p| p.contains("nowhere") || p.contains("secret")), "{paths:?}");
    assert_eq!(metrics.types[names::REQUESTS], "counter");
}

#[test]
fn a_client_cannot_make_series() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&format!(
        "{}{}",
        site(&origin),
        "\n[[routes]]\nname = \"rest\"\npath_prefix = \"/\"\ncluster = \"app\"\n"
    ));
    let mut client = gateway.client();
    client.get("/users/1").expect(200);
    for n in 0..100 {
        client.request(&format!("M{n}"), &format!("/users/{n}"), "", b"").expect(200);
        client.get(&format!("/p{n}?q={n}")).expect(200);
    }
    let metrics = gateway.wait_metrics("201 requests", |m| m.count(names::REQUESTS, &[]) == 201);
    assert!(
        metrics.of(names::REQUESTS, &[]).count() <= 6,
        "{:?}",
        metrics.of(names::REQUESTS, &[]).collect::<Vec<_>>()
    );
    assert!(!metrics.values(names::REQUESTS, "method").iter().any(|m| m.starts_with('M')));
}

#[test]
fn response_times_have_the_buckets_that_alerts_use() {
    let origin = Origin::start(|x| {
        x.wait(ms(120));
        x.ok("x")
    });
    let gateway = Gateway::start(&site(&origin));
    gateway.get("/users/1").expect(200);
    let labels = [("method", "GET"), ("path", "/users/{id}")];
    let count = format!("{}_count", names::RESPONSE_TIME);
    let metrics = gateway.wait_metrics("one time", |m| m.count(&count, &labels) == 1);
    let bucket = format!("{}_bucket", names::RESPONSE_TIME);
    let mut bounds: Vec<(f64, f64)> = metrics
        .of(&bucket, &labels)
        .map(|s| {
            (if s.labels["le"] == "+Inf" { f64::INFINITY } else { s.labels["le"].parse().expect("a bound") }, s.value)
        })
        .collect();
    bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    for wanted in [0.1, 0.5, 1.0, 2.0, 5.0, f64::INFINITY] {
        assert!(bounds.iter().any(|(b, _)| *b == wanted), "no bucket {wanted}: {bounds:?}");
    }
    assert!(bounds[0].0 <= 0.001, "finer ones below: {bounds:?}");
    assert!(bounds.windows(2).all(|w| w[0].1 <= w[1].1), "cumulative: {bounds:?}");
    let at = |bound: f64| bounds.iter().find(|(b, _)| *b == bound).expect("a bucket").1;
    assert_eq!((at(0.1), at(1.0)), (0.0, 1.0));
    let sum = metrics.sum(&format!("{}_sum", names::RESPONSE_TIME), &labels);
    assert!((0.12..1.0).contains(&sum), "{sum}");
}

#[test]
fn blame_is_split_between_gateway_and_origin() {
    let origin = Origin::start(|x| x.reply(500, "", "broken"));
    let gateway = Gateway::start(&site(&origin));
    gateway.get("/users/1").expect(500);
    gateway.get("/dead").expect(502);
    gateway.get("/fixed").expect(200);
    gateway.get("/nowhere").expect(404);
    let metrics = gateway.wait_metrics("four requests", |m| m.count(names::BLAME, &[]) == 4);
    let of = |route: &str, source: &str, code: &str| {
        metrics.count(names::BLAME, &[("route", route), ("source", source), ("code", code)])
    };
    assert_eq!((of("user", "origin", "500"), of("dead", "gateway", "502"), of("fixed", "gateway", "200")), (1, 1, 1));
    let flagged = |flag: &str| metrics.count(names::BLAME, &[("flag", flag)]);
    assert_eq!(
        (flagged("UF"), flagged("NR"), flagged("-")),
        (1, 1, 2),
        "{:?}",
        metrics.of(names::BLAME, &[]).collect::<Vec<_>>()
    );
}

#[test]
fn overhead_is_the_total_without_the_wait_for_the_origin() {
    let origin = Origin::start(|x| {
        x.wait(ms(200));
        x.ok("x")
    });
    let gateway = Gateway::start(&site(&origin));
    let mut client = gateway.client();
    for _ in 0..4 {
        client.get("/users/1").expect(200);
    }
    let count = format!("{}_count", names::OVERHEAD);
    let metrics = gateway.wait_metrics("four overheads", |m| m.count(&count, &[]) == 4);
    let overhead = metrics.sum(&format!("{}_sum", names::OVERHEAD), &[]);
    let total = metrics.sum(&format!("{}_sum", names::RESPONSE_TIME), &[]);
    assert!(total >= 0.8, "{total} s for four requests of 200 ms");
    assert!(overhead > 0.0 && overhead < 0.2, "{overhead} s of overhead");
    assert_eq!(metrics.types[names::OVERHEAD], "histogram");
}

#[test]
fn health_is_served_on_the_telemetry_listener() {
    let gateway = Gateway::start(&site(&Origin::saying("x")));
    gateway.telemetry("/livez").expect(200);
    gateway.telemetry("/readyz").expect(200);
    let metrics = gateway.telemetry("/metrics").expect(200);
    assert!(metrics.header("content-type").is_some_and(|t| t.starts_with("text/plain")), "{:?}", metrics.headers);
}

#[test]
fn the_telemetry_listener_serves_nothing_else() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&proxy_to(&origin));
    for path in ["/", "/users/1", "/metrics/x", "/../metrics", "/livezz", "/debug", "/config"] {
        assert_eq!(gateway.telemetry(path).status, 404, "{path}");
    }
    let mut client = Client::to(gateway.telemetry_addr());
    assert_eq!(client.request("POST", "/metrics", "", b"x").status, 405);
    gateway.get("/metrics").expect(200);
    assert_eq!(origin.targets(), ["/metrics"], "on the front it is a path like any other");
}

#[test]
fn silent_and_hostile_peers_do_not_block_telemetry() {
    let gateway = Gateway::start(&site(&Origin::saying("x")));
    let _silent: Vec<Client> = (0..60).map(|_| Client::to(gateway.telemetry_addr())).collect();
    let mut hostile = Client::to(gateway.telemetry_addr());
    hostile.try_send(vec![b'x'; 300_000]).ok();
    let begun = Instant::now();
    gateway.telemetry("/readyz").expect(200);
    assert!(begun.elapsed() < ms(2000));
}

#[test]
fn a_log_line_tells_the_whole_story() {
    let origin = Origin::start(|x| {
        x.wait(ms(50));
        x.ok("body!")
    });
    let gateway = Gateway::start(&site(&origin));
    let lines = "X-Request-ID: my-id.1\r\nUser-Agent: test/1\r\nReferer: http://r.test/\r\n";
    gateway.client().request("PUT", "/users/7?a=b", lines, b"body").expect(200);
    let line = &gateway.wait_log(1)[0];
    assert_eq!(
        (line.text(names::LOG_METHOD), line.path(), line.text(names::LOG_QUERY)),
        ("PUT".into(), "/users/7".into(), "a=b".into())
    );
    assert_eq!((line.status(), line.text(names::LOG_ROUTE)), (200, "user".to_owned()));
    assert_eq!(
        (line.text(names::LOG_CLIENT), line.text(names::LOG_REQUEST_ID)),
        ("127.0.0.1".into(), "my-id.1".into())
    );
    let duration = line.field(names::LOG_DURATION).as_u64().expect("nanoseconds");
    assert!((50_000_000..2_000_000_000).contains(&duration), "{duration}");
    let time = line.text(names::LOG_TIME);
    assert!(time.len() >= 20 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
    assert_eq!(line.text("user_agent.original"), "test/1");
    assert_eq!(line.field("http.response.body.bytes").as_u64(), Some(5));
    assert!(line.flags().is_empty());
}

#[test]
fn hostile_text_stays_text() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&site(&origin));
    let hostile: [&[u8]; 6] = [
        b"\"},{\"x\":\"",
        b"\\\"\\u0000\\",
        b"\xff\xfe\x80 bytes",
        b"\x1b[31mred\x1b[0m",
        "\u{2028}\u{202e}\u{85}".as_bytes(),
        b"<script>alert(1)</script>\t\ttabs",
    ];
    let mut sent = 0;
    for text in hostile {
        let head = [
            b"GET /users/1?q=\"' HTTP/1.1\r\nHost: a\r\nUser-Agent: ".as_slice(),
            text,
            b"\r\nConnection: close\r\n\r\n",
        ];
        gateway.client().send(head.concat()).response();
        sent += 1;
    }
    for target in ["/%22%7d%0a", "/users/\"quoted\"", "/users/{brace}", "/users/%1b[2J"] {
        gateway.client().send(request("GET", target, "", b"")).response();
        sent += 1;
    }
    let long = "u".repeat(20_000);
    gateway.client().request(
        "GET",
        "/users/1",
        &format!("User-Agent: {long}\r\nReferer: {long}\r\n").replace(&long, &long[..9000]),
        b"",
    );
    sent += 1;
    let lines = gateway.wait_log(sent);
    assert_eq!(lines.len(), sent, "one line for each request");
    let raw = std::fs::read(gateway.dir.path().join("access.log")).expect("the log");
    assert!(raw.iter().all(|&b| b == b'\n' || b >= b' ' && b != 0x7f), "a control byte in the log");
    assert!(lossy(&raw).lines().all(|l| l.len() < 8192), "client text is capped");
}

#[test]
fn a_foul_request_is_logged_too() {
    let gateway = Gateway::start(&site(&Origin::saying("x")));
    gateway.exchange("GET / HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n").expect(400);
    assert_eq!(gateway.wait_log(1)[0].status(), 400);
}

/// The memory of one exchange serves the next: what a refused head left unsaid must not be read from the one before it.
#[test]
fn a_refused_head_is_not_logged_as_the_request_before_it() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&site(&origin));
    let mut client = gateway.client();
    let long = "s".repeat(500);
    client.send(request("GET", &format!("/users/{long}"), "", b""));
    assert_eq!(client.response().status, 200);
    client.send("?\r\n\r\n");
    assert_eq!(client.response().status, 400);
    let lines = gateway.wait_log(2);
    assert!(lines[0].path().ends_with(&long[..100]), "{}", lines[0].path());
    assert_eq!((lines[1].status(), lines[1].path().as_str(), lines[1].text(names::LOG_METHOD).as_str()), (400, "", ""));
    assert_eq!(gateway.metrics().count("ringway_core_panics_total", &[]), 0);
}

#[test]
fn secrets_are_redacted_by_default() {
    let origin = Origin::saying("x");
    let toml = format!(
        "[log]\nheaders = [\"authorization\", \"cookie\", \"x-api-key\", \"x-mine\", \"x-plain\"]\nredact = [\"x-mine\"]\n\n{}",
        site(&origin)
    );
    let gateway = Gateway::start(&toml);
    let lines = "Authorization: Bearer s3cret-1\r\nCookie: sid=s3cret-2\r\nX-Api-Key: s3cret-3\r\nX-Mine: s3cret-4\r\nX-Plain: shown\r\n\
                 Proxy-Authorization: Basic s3cret-5\r\n";
    gateway.client().request("GET", "/users/1", lines, b"");
    gateway.wait_log(1);
    let raw = std::fs::read_to_string(gateway.dir.path().join("access.log")).expect("the log");
    assert!(!raw.contains("s3cret"), "{raw}");
    assert!(raw.contains("shown") && raw.contains("[redacted]"), "{raw}");
    assert!(!gateway.output().contains("s3cret"));
}

#[test]
fn the_combined_format_is_nginxs() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&format!("[log]\naccess_format = \"combined\"\n\n{}", site(&origin)));
    gateway.client().request("GET", "/users/1?a=b", "User-Agent: t/1\r\nReferer: r\r\n", b"").expect(200);
    let path = gateway.dir.path().join("access.log");
    let line = support::wait_for("a line", SOON, || std::fs::read_to_string(&path).ok().filter(|t| t.ends_with('\n')));
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(line.contains("\"GET /users/1?a=b HTTP/1.1\" 200 1 \"r\" \"t/1\""), "{line}");
}

#[test]
fn the_log_can_go_to_stdout_or_nowhere() {
    let stdout = Gateway::start(&format!("[log]\naccess = \"stdout\"\n\n{}", site(&Origin::saying("x"))));
    stdout.get("/fixed").expect(200);
    stdout.wait_output("/fixed");
    let off = Gateway::start(&format!("[log]\naccess = \"off\"\n\n{}", site(&Origin::saying("x"))));
    off.get("/fixed").expect(200);
    assert!(!off.dir.path().join("access.log").exists());
}

#[test]
fn a_stuck_log_drops_lines_and_never_blocks() {
    let dir = support::gateway::Dir::new();
    let pipe = dir.path().join("log.pipe");
    let name = CString::new(pipe.to_str().expect("a plain path")).expect("no NUL");
    // SAFETY: the pointer is to a live NUL-terminated string.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    // Open but not read: a pipe holds 64 KiB, then its writer blocks.
    let mut reader = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&pipe)
        .expect("the pipe");
    let toml =
        format!("[log]\naccess = \"{}\"\nqueue_lines_max = 100\n\n{}", pipe.display(), site(&Origin::saying("x")));
    let gateway = Gateway::start(&toml);
    let mut client = gateway.client();
    let begun = Instant::now();
    for _ in 0..2000 {
        client.get("/fixed").expect(200);
    }
    assert!(begun.elapsed() < ms(6000), "2000 requests took {:?}", begun.elapsed());
    gateway.wait_metrics("dropped lines are counted", |m| m.sum(names::LOG_DROPPED, &[]) > 0.0);
    let mut text = vec![0; 1 << 16];
    let count = reader.read(&mut text).expect("lines in the pipe");
    assert!(lossy(&text[..count]).contains("/fixed"));
}

#[test]
fn a_log_that_cannot_be_opened_is_a_clear_error() {
    let toml = format!("[log]\naccess = \"/nonexistent/dir/access.log\"\n\n{}", site(&Origin::saying("x")));
    let mut gateway = Gateway::with(&toml).spawn();
    assert_eq!(gateway.wait_exit(SOON).expect("an end").code(), Some(1));
    wait_until("the reason", SOON, || gateway.output().contains("/nonexistent/dir/access.log"));
}

#[test]
fn the_request_id_is_one_for_origin_log_and_client_problem() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&site(&origin));
    gateway.get("/users/1").expect(200);
    let problem = gateway.get("/dead").expect(502).problem();
    let lines = gateway.wait_log(2);
    // Lines of different cores come in any order.
    let id_of = |path: &str| {
        let line = lines.iter().find(|l| l.path() == path).expect("its line");
        line.text(names::LOG_REQUEST_ID)
    };
    assert_eq!(origin.request().header("x-request-id"), Some(id_of("/users/1").as_str()));
    assert_eq!(problem[names::PROBLEM_REQUEST_ID].as_str(), Some(id_of("/dead").as_str()));
}

#[test]
fn the_client_address_in_the_log_is_believed_only_from_trusted_proxies() {
    let with = |listener: &str| {
        let gateway = Gateway::start(&format!("[listeners.main]\n{listener}\n{}", site(&Origin::saying("x"))));
        gateway.client().request("GET", "/fixed", "X-Forwarded-For: 203.0.113.9\r\n", b"").expect(200);
        gateway.wait_log(1)[0].text("client.ip")
    };
    assert_eq!(with(""), "127.0.0.1");
    assert_eq!(with("trusted_proxies = [\"127.0.0.1\"]"), "203.0.113.9");
}

#[test]
fn every_metric_has_help_and_type() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&site(&origin));
    gateway.get("/users/1").expect(200);
    let metrics = gateway.metrics();
    for sample in &metrics.samples {
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|s| sample.name.strip_suffix(s))
            .find(|f| metrics.types.get(*f).is_some_and(|t| t == "histogram"))
            .unwrap_or(&sample.name);
        assert!(metrics.types.contains_key(family) && metrics.helps.contains_key(family), "{}", sample.name);
        let ours = family.starts_with("ringway_") || family.starts_with("http_");
        assert!(ours, "{family}");
        assert_eq!(metrics.types[family] == "counter", family.ends_with("_total"), "{family}");
    }
}
