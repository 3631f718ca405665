//! Forms of the request target, methods that are the gateway's own business, and versions. Not paths (`paths`).

mod support;

use support::{Gateway, Origin, proxy_to};

fn before(origin: &Origin) -> Gateway {
    Gateway::start(&proxy_to(origin))
}

#[test]
fn absolute_form_is_taken_and_sent_on_as_origin_form() {
    let origin = Origin::saying("x");
    let gateway = before(&origin);
    gateway.exchange("GET http://gw.test/abs?q=1 HTTP/1.1\r\nHost: gw.test\r\n\r\n").expect(200);
    let seen = origin.request();
    assert_eq!((seen.target.as_str(), seen.header("host")), ("/abs?q=1", Some("gw.test")));
}

#[test]
fn absolute_form_that_disagrees_with_host_is_refused() {
    let origin = Origin::saying("x");
    let gateway = before(&origin);
    gateway.exchange("GET http://other.test/abs HTTP/1.1\r\nHost: gw.test\r\n\r\n").expect(400);
    assert_eq!(origin.count(), 0);
}

#[test]
fn options_star_is_answered() {
    let origin = Origin::saying("x");
    let gateway = before(&origin);
    let mut client = gateway.client();
    let got = client.request("OPTIONS", "*", "", b"");
    assert!([200, 204].contains(&got.status), "{got:?}");
    client.assert_open();
    for seen in origin.requests() {
        assert_eq!(seen.target, "*");
    }
}

#[test]
fn star_is_for_options_only() {
    let origin = Origin::saying("x");
    let gateway = before(&origin);
    gateway.exchange("GET * HTTP/1.1\r\nHost: a\r\n\r\n").expect(400);
    assert_eq!(origin.count(), 0);
}

#[test]
fn max_forwards_zero_is_answered_here() {
    let origin = Origin::saying("x");
    let gateway = before(&origin);
    let got = gateway.client().request("OPTIONS", "/a", "Max-Forwards: 0\r\n", b"");
    assert!([200, 204].contains(&got.status), "{got:?}");
    assert_eq!(origin.count(), 0);
}

#[test]
fn max_forwards_counts_down() {
    let origin = Origin::saying("x");
    let gateway = before(&origin);
    gateway.client().request("OPTIONS", "/a", "Max-Forwards: 7\r\n", b"").expect(200);
    assert_eq!(origin.request().header("max-forwards"), Some("6"));
}

#[test]
fn connect_and_trace_are_refused() {
    let origin = Origin::saying("x");
    let gateway = before(&origin);
    let address = origin.endpoint();
    let connect = gateway.exchange(format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    assert!([405, 501].contains(&connect.status), "{connect:?}");
    let trace = gateway.client().request("TRACE", "/a", "Cookie: secret=1\r\n", b"");
    assert!([405, 501].contains(&trace.status), "{trace:?}");
    assert!(!trace.text().contains("secret"), "{trace:?}");
    assert_eq!(origin.count(), 0);
}

#[test]
fn an_unknown_method_is_passed_on() {
    let origin = Origin::saying("x");
    let gateway = before(&origin);
    gateway.client().request("FROB", "/a", "", b"").expect(200);
    assert_eq!(origin.request().method, "FROB");
}

#[test]
fn http_2_0_and_unknown_versions_are_refused() {
    let origin = Origin::saying("x");
    let gateway = before(&origin);
    for version in ["HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/1.10", "http/1.1", "HTTP/11"] {
        let mut client = gateway.client();
        let got = client.send(format!("GET / {version}\r\nHost: a\r\n\r\n")).response();
        assert!([400, 505].contains(&got.status), "{version}: {got:?}");
        client.assert_closed();
    }
    assert_eq!(origin.count(), 0);
}
