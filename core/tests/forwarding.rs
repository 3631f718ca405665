//! What is added, dropped and kept in a head on its way: hop-by-hop fields, Via, forwarded headers, request id, Host.

mod support;

use support::wire::lossy;
use support::{Gateway, Origin, Seen, proxy_to};

/// Sends these header lines through a gateway with these listener lines, and returns what the origin saw.
#[track_caller]
fn sees(listener: &str, lines: &str) -> Seen {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&format!("[listeners.main]\n{listener}\n{}", proxy_to(&origin)));
    gateway.client().request("GET", "/e", lines, b"").expect(200);
    origin.request()
}

#[test]
fn connection_listed_fields_are_dropped() {
    let seen = sees("", "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nConnection: X-Two\r\nX-Two: 2\r\nX-Keep: 3\r\n");
    assert_eq!((seen.header("x-hop"), seen.header("x-two"), seen.header("x-keep")), (None, None, Some("3")));
}

#[test]
fn standing_hop_by_hop_fields_are_dropped() {
    let seen = sees("", "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nUpgrade: foo\r\n");
    for name in ["keep-alive", "proxy-connection", "upgrade", "connection"] {
        let kept = seen.header(name);
        assert!(kept.is_none_or(|v| name == "connection" && v.eq_ignore_ascii_case("keep-alive")), "{name}: {kept:?}");
    }
}

#[test]
fn te_keeps_only_trailers() {
    let seen = sees("", "Connection: TE\r\nTE: gzip, trailers\r\n");
    assert!([None, Some("trailers")].contains(&seen.header("te")), "{:?}", seen.headers);
    assert_eq!(sees("", "Connection: TE\r\nTE: trailers\r\n").header("te"), Some("trailers"));
    assert_eq!(sees("", "Connection: TE\r\nTE: gzip\r\n").header("te"), None);
}

#[test]
fn connection_cannot_strip_what_the_gateway_adds_or_needs() {
    let lines = "Connection: host, x-forwarded-for, x-forwarded-proto, x-real-ip, via, x-request-id, authorization\r\n\
                 Authorization: Basic eDp5\r\n";
    let seen = sees("", lines);
    for name in ["host", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "via", "x-request-id"] {
        assert!(seen.header(name).is_some(), "{name} was stripped: {:?}", seen.headers);
    }
}

#[test]
fn connection_cannot_strip_framing() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    client.send("POST /c HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 5\r\n\r\nhello");
    let first = client.response_to("POST").status;
    assert!([200, 400].contains(&first));
    client = gateway.client();
    client.send(
        "POST /t HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\n",
    );
    let second = client.response_to("POST").status;
    assert!([200, 400].contains(&second));
    assert!(origin.requests().iter().all(|r| r.text() == "hello" && r.complete));
}

#[test]
fn end_to_end_fields_pass_in_order() {
    let seen = sees(
        "",
        "Authorization: Basic eDp5\r\nX-A: 1\r\nX-B: q\r\nX-A: 2\r\nCookie: a=1\r\nCookie: b=2\r\nx-Odd-CASE:  padded \t\r\nX-Empty:\r\n",
    );
    assert_eq!(seen.header("authorization"), Some("Basic eDp5"));
    assert_eq!(seen.all("x-a").join(",").replace(' ', ""), "1,2");
    assert_eq!(seen.all("cookie").join("; "), "a=1; b=2");
    assert_eq!((seen.header("x-odd-case"), seen.header("x-empty")), (Some("padded"), Some("")));
}

#[test]
fn answer_hop_by_hop_fields_are_dropped() {
    let origin = Origin::raw(
        "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=77\r\nProxy-Connection: keep-alive\r\n\
         Set-Cookie: a=1; Path=/\r\nSet-Cookie: b=2, x\r\nContent-Length: 2\r\n\r\nok",
    );
    let gateway = Gateway::start(&proxy_to(&origin));
    let got = gateway.client().get("/").expect(200);
    assert!(!got.has("x-hop") && !got.has("proxy-connection"), "{:?}", got.headers);
    assert!(!got.all("keep-alive").join(",").contains("77"), "{:?}", got.headers);
    assert_eq!(got.all("set-cookie"), ["a=1; Path=/", "b=2, x"]);
}

#[test]
fn via_is_added_behind_what_was_there() {
    assert!(sees("", "").header("via").is_some_and(|v| v.starts_with("1.1 ")));
    let seen = sees("via = \"edge-7\"", "Via: 1.0 first\r\n");
    assert_eq!(seen.all("via").join(", "), "1.0 first, 1.1 edge-7");
    let old = Origin::saying("x");
    let gateway = Gateway::start(&proxy_to(&old));
    gateway.exchange("GET /e HTTP/1.0\r\nHost: a\r\n\r\n").expect(200);
    assert!(
        old.request().header("via").is_some_and(|v| v.starts_with("1.0 ")),
        "RFC 9110 §7.6.3: the received protocol"
    );
}

#[test]
fn via_can_be_off() {
    assert_eq!(sees("via = \"\"", "").header("via"), None);
}

#[test]
fn an_untrusted_peer_cannot_forge_forwarded_fields() {
    let forged = "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n\
                  X-Real-IP: 9.9.9.9\r\nForwarded: for=9.9.9.9\r\nX-Forwarded-Prefix: /evil\r\nX-Forwarded-Server: evil\r\n\
                  X_Forwarded_For: 9.9.9.9\r\nx-forwarded-for: 8.8.8.8\r\n";
    let seen = sees("", forged);
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-real-ip"), Some("127.0.0.1"));
    assert_eq!((seen.header("x-forwarded-proto"), seen.header("x-forwarded-host")), (Some("http"), Some("gw.test")));
    assert!(!lossy(&seen.raw_head).contains("9.9.9.9"), "{}", lossy(&seen.raw_head));
    assert!(!lossy(&seen.raw_head).contains("evil"), "{}", lossy(&seen.raw_head));
}

#[test]
fn the_forwarded_port_is_the_listeners() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&proxy_to(&origin));
    gateway.get("/").expect(200);
    assert_eq!(origin.request().header("x-forwarded-port"), Some(gateway.addr().port().to_string().as_str()));
}

#[test]
fn a_trusted_peer_is_believed_and_appended() {
    let lines = "X-Forwarded-For: 9.9.9.9, 127.0.0.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.test\r\n";
    let seen = sees("trusted_proxies = [\"127.0.0.0/8\"]", lines);
    assert_eq!(seen.all("x-forwarded-for").join(", ").replace(", ", ","), "9.9.9.9,127.0.0.7,127.0.0.1");
    assert_eq!((seen.header("x-forwarded-proto"), seen.header("x-forwarded-host")), (Some("https"), Some("shop.test")));
    assert_eq!(seen.header("x-real-ip"), Some("9.9.9.9"), "the first untrusted one from the right");
}

#[test]
fn a_peer_outside_the_trusted_range_is_not_believed() {
    let seen = sees("trusted_proxies = [\"10.0.0.0/8\", \"::1\"]", "X-Forwarded-For: 9.9.9.9\r\n");
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn a_forged_address_left_of_a_trusted_proxy_is_not_the_client() {
    let seen = sees("trusted_proxies = [\"127.0.0.1\"]", "X-Forwarded-For: 6.6.6.6, 203.0.113.9\r\n");
    assert_eq!(seen.header("x-real-ip"), Some("203.0.113.9"));
}

#[test]
fn rfc_7239_alone() {
    let seen = sees("forwarded = \"rfc7239\"", "X-Forwarded-For: 9.9.9.9\r\nForwarded: for=9.9.9.9\r\n");
    let forwarded = seen.header("forwarded").expect("Forwarded").to_ascii_lowercase();
    assert!(forwarded.contains("for=127.0.0.1") && forwarded.contains("proto=http"), "{forwarded}");
    assert!(forwarded.contains("host=gw.test") || forwarded.contains("host=\"gw.test\""), "{forwarded}");
    assert!(!forwarded.contains("9.9.9.9") && !seen.has("x-forwarded-for"), "{:?}", seen.headers);
}

#[test]
fn both_kinds_and_none() {
    let both = sees("forwarded = \"both\"", "");
    assert!(both.has("forwarded") && both.has("x-forwarded-for"));
    let off =
        sees("forwarded = \"off\"", "X-Forwarded-For: 9.9.9.9\r\nForwarded: for=9.9.9.9\r\nX-Real-IP: 9.9.9.9\r\n");
    assert!(!off.has("forwarded") && !off.has("x-forwarded-for") && !off.has("x-real-ip"), "{:?}", off.headers);
}

#[test]
fn an_ipv6_client_is_quoted_and_bracketed_in_forwarded() {
    let origin = Origin::saying("x");
    let port = support::ports::Port::lease();
    let toml =
        format!("[listeners.main]\nbind = \"[::1]:{}\"\nforwarded = \"both\"\n{}", port.number, proxy_to(&origin));
    let gateway = Gateway::start(&toml);
    gateway.get("/").expect(200);
    let seen = origin.request();
    assert_eq!(seen.header("x-forwarded-for"), Some("::1"));
    let forwarded = seen.header("forwarded").expect("Forwarded").to_ascii_lowercase();
    assert!(forwarded.contains("for=\"[::1]\""), "{forwarded}");
}

#[test]
fn a_good_request_id_is_kept() {
    let longest = "a".repeat(128);
    for id in ["abc-1.2_Z", "0", &longest] {
        assert_eq!(sees("", &format!("X-Request-ID: {id}\r\n")).header("x-request-id"), Some(id));
    }
}

#[test]
fn a_bad_request_id_is_replaced() {
    let long = "a".repeat(129);
    for id in ["", "has space", "semi;colon", "\"quoted\"", "caf\u{e9}", "a/b", "a\tb", &long] {
        let seen = sees("", &format!("X-Request-ID: {id}\r\n"));
        let made = seen.header("x-request-id").unwrap_or_default();
        assert!(made != id && good_id(made), "{id:?} became {made:?}");
    }
    let two = sees("", "X-Request-ID: one\r\nX-Request-ID: two\r\n");
    assert!(good_id(two.header("x-request-id").unwrap_or_default()), "one id, not two: {:?}", two.headers);
}

fn good_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

#[test]
fn made_request_ids_differ() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    for _ in 0..40 {
        client.get("/").expect(200);
        gateway.get("/").expect(200);
    }
    let mut ids: Vec<String> =
        origin.requests().iter().map(|r| r.header("x-request-id").expect("an id").to_owned()).collect();
    assert!(ids.iter().all(|id| good_id(id)), "{ids:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 80);
}

#[test]
fn the_host_is_the_clients_the_endpoints_or_a_literal() {
    let origin = Origin::saying("x");
    let with = |host: &str| {
        let toml = support::cluster_all(&format!("endpoints = [\"{}\"]\n{host}", origin.endpoint()));
        Gateway::start(&toml).get("/").expect(200);
        origin.last().header("host").expect("Host").to_owned()
    };
    assert_eq!(with(""), "gw.test");
    assert_eq!(with("host = \"preserve\""), "gw.test");
    assert_eq!(with("host = \"endpoint\""), origin.endpoint());
    assert_eq!(with("host = \"app.internal:81\""), "app.internal:81");
}

#[test]
fn a_request_without_one_good_host_is_refused() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&proxy_to(&origin));
    let bad = [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: u@a\r\n",
        "Host: a:80x\r\n",
        "Host: a,b\r\n",
    ];
    for host in bad {
        let got = gateway.exchange(format!("GET / HTTP/1.1\r\n{host}\r\n"));
        assert_eq!(got.status, 400, "{host:?}");
    }
    assert_eq!(origin.count(), 0);
}
