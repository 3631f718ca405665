//! The harness must see what it is there to see: each fault of an origin or a gateway is caught here without any gateway.
//! Not a test of Ringway.

mod support;

use support::client::{Framing, request};
use support::odd::Deaf;
use support::{Client, Closed, Ending, Metrics, Origin, head, ms};

fn faults_of(head: &str) -> Vec<String> {
    head::parse(head.as_bytes()).1
}

#[test]
fn the_lint_passes_a_plain_request() {
    let plain = "POST /a?b HTTP/1.1\r\nHost: gw.test\r\nTransfer-Encoding: chunked\r\nVia: 1.1 x";
    assert_eq!(faults_of(plain), Vec::<String>::new());
}

#[test]
fn the_lint_finds_each_fault() {
    let foul = [
        "GET /a HTTP/1.1\nHost: a",
        "GET /a HTTP/1.0\r\nHost: a",
        "GET  /a HTTP/1.1\r\nHost: a",
        "GET /a HTTP/1.1\r\nHost: a\r\nHost: a",
        "GET /a HTTP/1.1",
        "GET /a HTTP/1.1\r\nHost: a/b",
        "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1",
        "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: +1",
        "GET /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked",
        "GET /a HTTP/1.1\r\nHost: a\r\nContent_Length: 1",
        "GET /a HTTP/1.1\r\nHost: a\r\nTransfer Encoding: chunked",
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: x-secret",
        "GET /a HTTP/1.1\r\nHost: a\r\nKeep-Alive: 5",
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c",
        "GET /a HTTP/1.1\r\nHost: a\r\nUpgrade: websocket",
        "GET /a HTTP/1.1\r\nHost: a\r\nTE: gzip",
        "GET /a HTTP/1.1\r\nHost: a\r\nX: a\rb",
        "GET /a HTTP/1.1\r\nHost: a\r\n folded: x",
    ];
    for head in foul {
        assert!(!faults_of(head).is_empty(), "the lint let this pass: {head:?}");
    }
}

#[test]
fn an_origin_records_requests_bodies_and_connections() {
    let origin = Origin::saying("hi");
    let mut client = Client::to(origin.address());
    assert_eq!(client.request("POST", "/one", "X-A: 1\r\n", b"body").expect(200).text(), "hi");
    client.send("POST /two HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: v\r\n\r\n");
    client.response().expect(200);
    let seen = origin.requests();
    assert_eq!((seen[0].text().as_str(), seen[0].header("x-a"), seen[0].complete), ("body", Some("1"), true));
    assert_eq!((seen[1].text().as_str(), seen[1].nth, seen[1].connection), ("abc", 1, 0));
    assert_eq!(seen[1].trailers, [("X-T".to_owned(), "v".to_owned())]);
    drop(client);
    assert_eq!((origin.ending(0), origin.connections()), (Ending::Eof, 1));
}

#[test]
fn an_origin_complains_of_a_foul_gateway() {
    let origin = Origin::saying("hi").without_lint();
    let mut client = Client::to(origin.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n");
    client.assert_closed();
    assert_eq!(origin.faults().len(), 1, "{:?}", origin.faults());
}

#[test]
fn a_client_tells_a_clean_end_from_a_cut() {
    let head = "HTTP/1.1 200 OK\r\n";
    let cases: [(&str, Option<Framing>); 5] = [
        ("Content-Length: 5\r\n\r\nabc", Some(Framing::Length(5))),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nabc", Some(Framing::Chunked)),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", Some(Framing::Chunked)),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", Some(Framing::Chunked)),
        ("\r\nabc", None),
    ];
    for (rest, cut) in cases {
        let origin = Origin::raw_then_close(format!("{head}{rest}"));
        let got = Client::to(origin.address()).get("/");
        assert_eq!(got.cut.is_some(), cut.is_some(), "{rest:?}: {got:?}");
        assert_eq!(got.framing, cut.unwrap_or(Framing::UntilClose));
    }
    let reset = Origin::start(move |x| {
        x.send("HTTP/1.1 200 OK\r\n\r\nabc")?;
        x.wait(ms(50));
        x.reset()
    });
    assert_eq!(Client::to(reset.address()).get("/").cut, Some(Ending::Reset));
}

#[test]
fn a_client_refuses_a_malformed_answer() {
    let foul = [
        "HTTP/1.1 200\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 200 OK\nA: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 204 OK\r\nContent-Length: 1\r\n\r\nx",
    ];
    for bytes in foul {
        let origin = Origin::raw(bytes);
        let mut client = Client::to(origin.address());
        client.send(request("GET", "/", "", b""));
        let got = client.try_response("GET");
        assert!(matches!(got, Err(Ending::Malformed(_))), "{bytes:?}: {got:?}");
    }
}

#[test]
fn a_client_sees_how_a_connection_stands() {
    let origin = Origin::start(|x| match x.target() {
        "/close" => x.close(),
        "/reset" => x.reset(),
        _ => x.send("junk"),
    });
    let look = |path: &str| Client::to(origin.address()).send(request("GET", path, "", b"")).closed_within(ms(400));
    assert_eq!(look("/close"), Closed::Eof);
    assert_eq!(look("/reset"), Closed::Reset);
    assert_eq!(look("/junk"), Closed::Data("junk".to_owned()));
    assert_eq!(Client::to(origin.address()).closed_within(ms(50)), Closed::Open);
}

#[test]
fn a_deaf_address_answers_no_connect() {
    let deaf = Deaf::start();
    let address = deaf.endpoint().parse().expect("an address");
    let refused = Client::try_to(address, ms(200)).expect_err("no connection");
    assert_eq!(refused.kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn metrics_are_read_with_their_labels() {
    let text =
        "# HELP a_total what\n# TYPE a_total counter\na_total{x=\"1\",y=\"q\\\"r\"} 2\na_total{x=\"2\"} 3\nb 0.5\n";
    let metrics = Metrics::parse(text);
    assert_eq!(metrics.count("a_total", &[]), 5);
    assert_eq!(metrics.count("a_total", &[("x", "1"), ("y", "q\"r")]), 2);
    assert_eq!(metrics.values("a_total", "x"), ["1", "2"]);
}
