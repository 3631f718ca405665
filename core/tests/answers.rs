//! Answers that no origin should give: none of them reaches a client as if it were one, nor another client at all.

mod support;

use std::time::Duration;

use support::client::request;
use support::wire::lossy;
use support::{Closed, Gateway, Origin, SOON, cluster_all, ms, proxy_to};

fn before(origin: &Origin) -> Gateway {
    Gateway::start(&proxy_to(origin))
}

#[test]
fn bytes_behind_an_answer_reach_nobody() {
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL")
    });
    let gateway = before(&origin);
    let mut client = gateway.client();
    for _ in 0..5 {
        assert_eq!(client.get("/").expect(200).text(), "ok");
    }
    assert_eq!(client.closed_within(ms(100)), Closed::Open);
}

#[test]
fn bytes_that_come_late_on_an_idle_origin_connection_reach_nobody() {
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        x.wait(ms(40));
        x.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL")
    });
    let gateway = before(&origin);
    let mut client = gateway.client();
    for _ in 0..4 {
        assert_eq!(client.get("/").expect(200).text(), "ok");
        std::thread::sleep(ms(80));
    }
    assert_eq!(origin.connections(), 4, "a poisoned connection is not used again");
}

#[test]
fn a_malformed_answer_is_a_502() {
    let foul: [&[u8]; 14] = [
        b"\x15\x03\x01 no http\r\n\r\n",
        b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: cow\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX-S : 1\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\rX-Evil: b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: tru",
        b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: evil\r\n\r\nEVIL",
        b"HTTP/1.1 099 What\r\nContent-Length: 2\r\n\r\nok",
    ];
    let origin = Origin::start(move |x| {
        let number: usize = x.target()[1..].parse().expect("a number");
        x.send(foul[number])?;
        x.close()
    });
    let gateway = before(&origin);
    for (number, bytes) in foul.iter().enumerate() {
        let got = gateway.get(&format!("/{number}"));
        assert_eq!(got.status, 502, "{:?} became {got:?}", lossy(bytes));
        got.problem();
    }
}

#[test]
fn an_answer_head_without_end_is_a_502() {
    let origin = Origin::start(|x| {
        x.send(format!("HTTP/1.1 200 OK\r\nX-B: {}\r\nContent-Length: 2\r\n\r\nok", "b".repeat(2_000_000)))
    });
    let gateway = before(&origin);
    gateway.get("/").expect(502).problem();
}

#[test]
fn a_foul_chunk_in_an_answer_cuts_the_connection() {
    let origin = Origin::raw_then_close(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZ\r\nbad\r\n0\r\n\r\n",
    );
    let gateway = before(&origin);
    let mut client = gateway.client();
    client.send(request("GET", "/", "", b""));
    let got = client.try_response("GET");
    let clean = got.as_ref().is_ok_and(|r| r.status == 200 && r.cut.is_none());
    assert!(!clean, "a clean-looking answer: {got:?}");
}

#[test]
fn idle_origin_connections_do_not_outlive_the_origin() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&cluster_all(&format!("endpoints = [\"{}\"]", origin.endpoint())));
    gateway.get("/a").expect(200);
    origin.drop_connections();
    support::wait_until("the origin's connections end", SOON, || origin.open_connections() == 0);
    std::thread::sleep(Duration::from_millis(50));
    for _ in 0..5 {
        gateway.get("/b").expect(200);
    }
}
