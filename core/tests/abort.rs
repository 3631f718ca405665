//! A client that goes away: its origin's work ends with it, and nothing it held stays. A half-close is not going away (`http1`).

mod support;

use std::sync::mpsc;
use std::time::Duration;

use support::client::request;
use support::{Client, Ending, Gateway, Origin, SOON, ms, names, proxy_to, wait_until};

/// Works until the gateway hangs up (or for too long), and tells the test which.
fn worker() -> (Origin, mpsc::Receiver<Ending>) {
    let (tell, told) = mpsc::channel();
    let origin = Origin::start(move |x| {
        if x.target() != "/work" {
            return x.ok("x");
        }
        x.body()?;
        tell.send(x.await_gone(Duration::from_secs(6))).ok();
        x.close()
    });
    (origin, told)
}

fn gone(told: &mpsc::Receiver<Ending>) -> Ending {
    told.recv_timeout(SOON).expect("the origin's own end")
}

#[test]
fn a_reset_client_cancels_the_origins_work() {
    let (origin, told) = worker();
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    client.send(request("GET", "/work", "", b""));
    origin.wait_count(1);
    std::thread::sleep(ms(50));
    client.reset();
    assert_ne!(gone(&told), Ending::Silence, "the origin went on working for nobody");
    let lines = gateway.wait_log(1);
    assert!(lines[0].has_flag("DC"), "{:?}", lines[0]);
}

#[test]
fn a_reset_client_cancels_a_post_too() {
    let (origin, told) = worker();
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    client.send(request("POST", "/work", "", b"body"));
    origin.wait_count(1);
    client.reset();
    assert_ne!(gone(&told), Ending::Silence);
}

#[test]
fn a_half_close_alone_cancels_nothing() {
    let (origin, told) = worker();
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    client.send(request("GET", "/work", "", b""));
    origin.wait_count(1);
    client.half_close();
    assert!(told.recv_timeout(ms(700)).is_err(), "the work was cancelled");
}

#[test]
fn a_client_that_closes_during_a_long_answer_ends_it() {
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        loop {
            x.send("5\r\nhello\r\n")?;
            x.wait(ms(5));
        }
    });
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    client.send(request("GET", "/long", "", b""));
    client.wire.head().expect("a head");
    drop(client);
    origin.ending(0);
    assert!(gateway.wait_log(1)[0].has_flag("DC"));
}

#[test]
fn a_reset_during_an_upload_never_completes_it_at_the_origin() {
    for framing in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
        let origin = Origin::saying("x");
        let gateway = Gateway::start(&proxy_to(&origin));
        let mut client = gateway.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n400\r\n"));
        client.send(vec![b'x'; 0x400]);
        origin.wait_count(1);
        client.reset();
        origin.ending(0);
        assert!(!origin.request().complete, "{framing}");
    }
}

#[test]
fn a_close_during_an_upload_never_completes_it_at_the_origin() {
    for framing in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
        let origin = Origin::saying("x");
        let gateway = Gateway::start(&proxy_to(&origin));
        let mut client = gateway.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n400\r\n"));
        client.send(vec![b'x'; 0x400]);
        origin.wait_count(1);
        drop(client);
        origin.ending(0);
        assert!(!origin.request().complete, "{framing}");
    }
}

#[test]
fn what_vanished_clients_held_is_released() {
    let (origin, told) = worker();
    let gateway = Gateway::start(&proxy_to(&origin));
    let clients: Vec<Client> = (0..30)
        .map(|_| {
            let mut client = gateway.client();
            client.send(request("GET", "/work", "", b""));
            client
        })
        .collect();
    origin.wait_count(30);
    gateway.wait_metrics("30 connections", |m| m.sum(names::CORE_CONNECTIONS, &[]) >= 30.0);
    for client in clients {
        client.reset();
    }
    for _ in 0..30 {
        assert_ne!(gone(&told), Ending::Silence);
    }
    gateway.wait_metrics("no connection held", |m| m.sum(names::CORE_CONNECTIONS, &[]) == 0.0);
    gateway.get("/after").expect(200);
}

#[test]
fn a_client_that_vanishes_between_two_requests_is_forgotten_in_silence() {
    let (origin, _told) = worker();
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    client.get("/a").expect(200);
    client.reset();
    gateway.wait_metrics("no connection held", |m| m.sum(names::CORE_CONNECTIONS, &[]) == 0.0);
    wait_until("its one line", SOON, || gateway.log().len() == 1);
    assert!(gateway.log()[0].flags().is_empty(), "{:?}", gateway.log());
}

#[test]
fn resets_in_the_middle_of_anything_leave_the_gateway_sound() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&proxy_to(&origin));
    let whole = request("POST", "/work?x", "X-A: 1\r\n", b"some body");
    for cut in 0..whole.len() {
        let mut client = gateway.client();
        client.send(&whole[..cut]);
        client.reset();
    }
    gateway.get("/after").expect(200);
    gateway.wait_metrics("no connection held", |m| m.sum(names::CORE_CONNECTIONS, &[]) == 0.0);
}
