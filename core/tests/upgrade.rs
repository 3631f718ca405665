//! `Upgrade`: WebSocket bytes tunnelled both ways, with an idle limit. Knows nothing of WebSocket frames.

mod support;

use std::time::Instant;

use support::client::{Client, request};
use support::{Closed, Ending, Gateway, Origin, SOON, ms, proxy_to, wait_until};

const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn echo() -> Origin {
    Origin::start(|x| {
        x.send(SWITCH)?;
        x.echo_until_end()
    })
}

fn tunnel(gateway: &Gateway) -> Client {
    let mut client = gateway.client();
    client.send(request("GET", "/chat", WEBSOCKET, b""));
    let got = client.response();
    assert_eq!(got.status, 101, "{got:?}");
    client
}

#[test]
fn bytes_pass_both_ways_after_101() {
    let origin = echo();
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    client.send(request("GET", "/chat", WEBSOCKET, b""));
    let got = client.response();
    assert_eq!((got.status, got.header("upgrade")), (101, Some("websocket")), "{got:?}");
    assert_eq!(got.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert!(got.header("connection").is_some_and(|c| c.eq_ignore_ascii_case("upgrade")), "{got:?}");
    for word in ["ping", "\0\u{1}\r\n\r\nGET / HTTP/1.1\r\n\r\n", "last"] {
        client.send(word).expect_bytes(word.as_bytes());
    }
    let seen = origin.request();
    assert_eq!(seen.header("upgrade"), Some("websocket"));
    assert!(seen.header("connection").is_some_and(|c| c.eq_ignore_ascii_case("upgrade")), "{:?}", seen.headers);
    assert_eq!(seen.header("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
}

#[test]
fn bytes_right_behind_the_101_are_not_lost() {
    let origin = Origin::start(|x| {
        x.send(format!("{SWITCH}HELLO"))?;
        x.echo_until_end()
    });
    let gateway = Gateway::start(&proxy_to(&origin));
    tunnel(&gateway).expect_bytes(b"HELLO");
}

#[test]
fn bytes_sent_with_the_request_are_not_lost() {
    let origin = echo();
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    client.send([request("GET", "/chat", WEBSOCKET, b"").as_slice(), b"eager"].concat());
    assert_eq!(client.response().status, 101);
    client.expect_bytes(b"eager");
}

#[test]
fn a_megabyte_comes_back_unharmed() {
    let origin = echo();
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = tunnel(&gateway);
    let big: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 253) as u8).collect();
    let mut sender = client.wire.stream.try_clone().expect("a second handle");
    let copy = big.clone();
    let sending = std::thread::spawn(move || sender.write_all(&copy));
    let mut back = Vec::new();
    client.wire.exactly(big.len() as u64, &mut back).expect("the echo");
    sending.join().expect("sender").expect("send");
    assert!(back == big, "the tunnel changed bytes");
}

#[test]
fn a_refused_upgrade_is_a_plain_answer() {
    let origin = Origin::raw("HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno");
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    for _ in 0..2 {
        assert_eq!(client.request("GET", "/", WEBSOCKET, b"").expect(400).text(), "no");
    }
}

#[test]
fn an_idle_tunnel_is_closed() {
    let origin = echo();
    let gateway = Gateway::start(&format!("{}\n[listeners.main]\ntunnel_timeout = \"300ms\"\n", proxy_to(&origin)));
    let mut client = tunnel(&gateway);
    client.send("a").expect_bytes(b"a");
    let start = Instant::now();
    client.assert_closed();
    let took = start.elapsed();
    assert!(took > ms(200) && took < ms(3000), "closed after {took:?}");
    origin.ending(0);
}

#[test]
fn a_tunnel_with_traffic_one_way_only_stays() {
    let origin = Origin::start(|x| {
        x.send(SWITCH)?;
        for _ in 0..10 {
            x.send("tick")?;
            x.wait(ms(100));
        }
        x.echo_until_end()
    });
    let gateway = Gateway::start(&format!("{}\n[listeners.main]\ntunnel_timeout = \"400ms\"\n", proxy_to(&origin)));
    let mut client = tunnel(&gateway);
    for _ in 0..10 {
        client.expect_bytes(b"tick");
    }
    client.send("x").expect_bytes(b"x");
}

#[test]
fn other_timeouts_do_not_touch_a_tunnel() {
    let origin = echo();
    let toml = format!(
        "[listeners.main]\nheader_timeout = \"200ms\"\nbody_timeout = \"200ms\"\nkeepalive_timeout = \"200ms\"\n\
         unused_timeout = \"200ms\"\nsend_timeout = \"200ms\"\n\n[clusters.app]\nendpoints = [\"{}\"]\n\
         first_byte_timeout = \"200ms\"\nbetween_bytes_timeout = \"200ms\"\ntotal_timeout = \"200ms\"\n\n\
         [[routes]]\nname = \"all\"\npath_prefix = \"/\"\ncluster = \"app\"\n",
        origin.endpoint()
    );
    let gateway = Gateway::start(&toml);
    let mut client = tunnel(&gateway);
    assert_eq!(client.closed_within(ms(900)), Closed::Open);
    client.send("still").expect_bytes(b"still");
}

#[test]
fn the_end_of_the_client_ends_the_origin() {
    let origin = echo();
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = tunnel(&gateway);
    client.send("a").expect_bytes(b"a");
    drop(client);
    origin.ending(0);
}

#[test]
fn a_reset_client_ends_the_origin() {
    let origin = echo();
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = tunnel(&gateway);
    client.send("a").expect_bytes(b"a");
    client.reset();
    origin.ending(0);
}

#[test]
fn the_end_of_the_origin_ends_the_client() {
    let origin = Origin::start(|x| {
        x.send(format!("{SWITCH}bye"))?;
        x.close()
    });
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = tunnel(&gateway);
    client.expect_bytes(b"bye");
    client.assert_closed();
}

#[test]
fn a_half_closed_tunnel_still_brings_the_rest() {
    let origin = Origin::start(|x| {
        x.send(SWITCH)?;
        let mut all = Vec::new();
        while let Ok(part) = x.some() {
            all.extend(part);
        }
        x.send(format!("got {}", String::from_utf8_lossy(&all)))?;
        x.close()
    });
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = tunnel(&gateway);
    client.send("words");
    client.half_close();
    client.expect_bytes(b"got words");
    client.assert_closed();
}

#[test]
fn a_101_of_another_protocol_than_asked_is_refused() {
    let origin =
        Origin::raw_then_close("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\nEVIL");
    let gateway = Gateway::start(&proxy_to(&origin));
    assert_eq!(gateway.client().request("GET", "/", WEBSOCKET, b"").status, 502);
}

#[test]
fn h2c_is_never_offered_to_an_origin() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&proxy_to(&origin));
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    let got = gateway.client().request("GET", "/", h2c, b"");
    assert!([200, 400, 501].contains(&got.status), "{got:?}");
    assert!(origin.requests().iter().all(|r| !r.has("upgrade")));
}

#[test]
fn an_upgrade_without_the_connection_option_is_dropped() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&proxy_to(&origin));
    gateway.client().request("GET", "/", "Upgrade: websocket\r\n", b"").expect(200);
    assert!(!origin.request().has("upgrade"));
}

#[test]
fn an_upgrade_of_http_1_0_is_ignored() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&proxy_to(&origin));
    gateway.exchange(format!("GET / HTTP/1.0\r\nHost: a\r\n{WEBSOCKET}\r\n")).expect(200);
    assert!(!origin.request().has("upgrade"));
}

#[test]
fn many_tunnels_stand_beside_each_other() {
    let origin = echo();
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut all: Vec<Client> = (0..40).map(|_| tunnel(&gateway)).collect();
    for (n, client) in all.iter_mut().enumerate() {
        client.send(format!("to {n}"));
    }
    for (n, client) in all.iter_mut().enumerate() {
        client.expect_bytes(format!("to {n}").as_bytes());
    }
    drop(all);
    wait_until("every origin connection ends", SOON, || origin.open_connections() == 0);
    assert!((0..40).all(|n| origin.ending(n) != Ending::Silence));
}
