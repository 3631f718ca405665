//! `Expect: 100-continue` and interim answers, both ways.

mod support;

use support::client::request;
use support::{Gateway, Origin, SOON, ms, proxy_to};

const ASK: &str = "POST /up HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";

#[test]
fn a_waiting_client_is_told_to_continue() {
    let origin = Origin::start(|x| {
        if x.seen.has("expect") {
            x.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        x.body()?;
        x.ok("took it")
    });
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    client.send(ASK);
    assert_eq!(client.one("POST").expect("an interim answer").status, 100);
    client.send("hello");
    let got = client.response_to("POST").expect(200);
    assert_eq!((got.text().as_str(), got.interim.len()), ("took it", 0));
    assert_eq!(origin.request().text(), "hello");
    client.get("/next").expect(200);
}

#[test]
fn a_final_answer_instead_of_100_spares_the_body() {
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")?;
        x.await_gone(ms(500));
        x.close()
    });
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    client.send(ASK);
    let first = client.one("POST").expect("an answer");
    let last = if first.status == 100 {
        client.send("hello");
        client.response_to("POST")
    } else {
        first
    };
    assert_eq!((last.status, last.text().as_str()), (417, "no"));
}

#[test]
fn a_refused_expecting_client_cannot_turn_its_body_into_a_request() {
    let origin = Origin::start(|x| {
        if x.target() == "/up" {
            x.send("HTTP/1.1 403 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")?;
            x.await_gone(ms(300));
            return x.close();
        }
        x.ok("y")
    });
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    let inner = request("GET", "/smuggled", "", b"");
    client.send(format!(
        "POST /up HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        inner.len()
    ));
    client.response_to("POST").expect(403);
    client.try_send(&inner).ok();
    client.try_response("GET").ok();
    assert_eq!(origin.targets(), ["/up"]);
}

#[test]
fn a_client_that_does_not_wait_is_served() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    client.send(format!("{ASK}hello"));
    client.response_to("POST").expect(200);
    assert_eq!(origin.request().text(), "hello");
    client.get("/next").expect(200);
}

#[test]
fn an_origin_that_never_says_continue_still_gets_the_body() {
    let origin = Origin::start(|x| {
        x.body()?;
        x.ok("x")
    });
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    client.send(ASK);
    // The client's own patience (RFC 9110 §10.1.1: it need not wait for ever).
    client.wire.stream.read_timeout(ms(200));
    let interim = client.one("POST");
    assert!(interim.is_err() || interim.is_ok_and(|i| i.status == 100));
    client.wire.stream.read_timeout(SOON);
    client.send("hello");
    client.response_to("POST").expect(200);
    assert_eq!(origin.request().text(), "hello");
}

#[test]
fn an_http_1_0_client_gets_no_interim_answer() {
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
        x.body()?;
        x.ok("x")
    });
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    client.send("POST /up HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.response_to("POST").expect(200).interim.len(), 0);
}

#[test]
fn early_hints_are_relayed() {
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n")?;
        x.wait(ms(30));
        x.ok("fin")
    });
    let gateway = Gateway::start(&proxy_to(&origin));
    let got = gateway.client().get("/").expect(200);
    assert_eq!(got.text(), "fin");
    let hints: Vec<_> = got.interim.iter().map(|i| (i.status, i.header("link"))).collect();
    assert_eq!(hints, [(103, Some("</a>; rel=preload"))]);
}

#[test]
fn early_hints_do_not_wait_for_the_answer() {
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
        x.wait(ms(1200));
        x.ok("fin")
    });
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client().patience(ms(900));
    client.send(request("GET", "/", "", b""));
    assert_eq!(client.one("GET").expect("the hint before the answer").status, 103);
}

#[test]
fn several_interim_answers_and_the_final_one_in_one_write() {
    let origin = Origin::raw(
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nfin",
    );
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    for _ in 0..2 {
        let got = client.get("/").expect(200);
        assert_eq!(got.text(), "fin");
        assert!(got.interim.iter().any(|i| i.status == 103), "{:?}", got.interim);
    }
}

#[test]
fn a_100_that_nobody_asked_for_does_no_harm() {
    let origin = Origin::raw("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nfin");
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    for _ in 0..2 {
        assert_eq!(client.get("/").expect(200).text(), "fin");
    }
}

#[test]
fn interim_answers_without_end_are_cut() {
    let origin = Origin::start(|x| {
        for _ in 0..200_000 {
            x.send("HTTP/1.1 102 Processing\r\n\r\n")?;
        }
        x.ok("never")
    });
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    client.send(request("GET", "/", "", b""));
    let got = client.try_response("GET");
    assert!(got.as_ref().map_or(true, |r| r.status == 502), "{:?}", got.map(|r| r.status));
}
