//! HTTP/1.1 framing, keep-alive and pipelining on both sides. Not header rules (`forwarding`) nor hostile framing (`smuggling`).

mod support;

use support::client::{Framing, request};
use support::wire::lossy;
use support::{Gateway, Origin, ms, proxy_to};

fn before(origin: &Origin) -> Gateway {
    Gateway::start(&proxy_to(origin))
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 % 251) as u8).collect()
}

#[test]
fn a_request_and_its_answer_pass_whole() {
    let origin = Origin::start(|x| {
        x.body()?;
        x.reply(299, "X-Answer: yes\r\nETag: \"e\"\r\n", "hello")
    });
    let gateway = before(&origin);
    let got = gateway.client().request("PUT", "/a/b?c=d", "X-Ask: 1\r\n", b"body").expect(299);
    assert_eq!((got.text().as_str(), got.reason.as_str()), ("hello", "Said"));
    assert_eq!((got.header("x-answer"), got.header("etag")), (Some("yes"), Some("\"e\"")));
    let seen = origin.request();
    assert_eq!((seen.method.as_str(), seen.target.as_str(), seen.text().as_str()), ("PUT", "/a/b?c=d", "body"));
    assert_eq!((seen.header("x-ask"), seen.header("content-length")), (Some("1"), Some("4")));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start(|x| {
        if x.target() == "/0" {
            x.wait(ms(120));
        }
        let target = x.target().to_owned();
        x.ok(target)
    });
    let gateway = before(&origin);
    let mut client = gateway.client();
    let burst: Vec<u8> = (0..20).flat_map(|n| request("GET", &format!("/{n}"), "", b"")).collect();
    client.send(burst);
    for n in 0..20 {
        assert_eq!(client.response().expect(200).text(), format!("/{n}"));
    }
    client.assert_open();
}

#[test]
fn a_pipelined_body_ends_where_its_request_ends() {
    let origin = Origin::start(|x| {
        let body = x.body()?;
        let target = x.target().to_owned();
        x.ok([target.as_bytes(), b"=", &body].concat())
    });
    let gateway = before(&origin);
    let mut client = gateway.client();
    let chunked = b"POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n".as_slice();
    client.send([request("POST", "/a", "", b"hello").as_slice(), chunked, &request("GET", "/c", "", b"")].concat());
    let got: Vec<String> = ["POST", "POST", "GET"].map(|m| client.response_to(m).expect(200).text()).into();
    assert_eq!(got, ["/a=hello", "/b=xyz", "/c="]);
}

#[test]
fn a_connection_serves_many_requests() {
    let origin = Origin::saying("x");
    let gateway = before(&origin);
    let mut client = gateway.client();
    for n in 0..50 {
        assert!(!client.get(&format!("/{n}")).expect(200).says_close());
    }
    assert_eq!(origin.connections(), 1, "one client connection needs one origin connection");
}

#[test]
fn connection_close_is_answered_and_closed() {
    let origin = Origin::saying("x");
    let gateway = before(&origin);
    let mut client = gateway.client();
    let got = client.request("GET", "/", "Connection: close\r\n", b"").expect(200);
    assert!(got.says_close(), "{:?}", got.headers);
    client.assert_closed();
}

#[test]
fn nothing_after_a_close_request_is_served() {
    let origin = Origin::saying("x");
    let gateway = before(&origin);
    let mut client = gateway.client();
    client.send([request("GET", "/1", "Connection: close\r\n", b""), request("GET", "/2", "", b"")].concat());
    client.response().expect(200);
    client.assert_closed();
    assert_eq!(origin.targets(), ["/1"]);
}

#[test]
fn http_1_0_closes_unless_asked() {
    let origin = Origin::saying("x");
    let gateway = before(&origin);
    let mut client = gateway.client();
    client.send("GET /a HTTP/1.0\r\nHost: a\r\n\r\n").response().expect(200);
    client.assert_closed();
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send("GET /b HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
        let got = client.response().expect(200);
        assert_eq!(got.header("connection").map(str::to_ascii_lowercase).as_deref(), Some("keep-alive"));
    }
}

#[test]
fn http_1_0_needs_no_host_but_the_origin_gets_one() {
    let origin = Origin::saying("x");
    let gateway = before(&origin);
    gateway.exchange("GET /a HTTP/1.0\r\n\r\n").expect(200);
    assert_eq!(origin.request().version, "HTTP/1.1");
}

#[test]
fn an_http_1_0_client_never_gets_chunks() {
    let origin = Origin::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    let gateway = before(&origin);
    let mut client = gateway.client();
    let got = client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").response().expect(200);
    assert_ne!(got.framing, Framing::Chunked);
    assert_eq!(got.text(), "hello");
}

#[test]
fn an_http_1_0_origin_is_understood() {
    let origin = Origin::raw_then_close("HTTP/1.0 200 OK\r\nX-Old: 1\r\n\r\nold body");
    let gateway = before(&origin);
    let got = gateway.client().get("/").expect(200);
    assert_eq!((got.text().as_str(), got.header("x-old")), ("old body", Some("1")));
}

#[test]
fn chunks_pass_both_ways() {
    let origin = Origin::start(|x| {
        x.body()?;
        x.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")?;
        x.wait(ms(20));
        x.send("4;ext=\"v;w\"\r\ndefg\r\n0\r\n\r\n")
    });
    let gateway = before(&origin);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    std::thread::sleep(ms(20));
    client.send("A;x=y\r\n, more of \r\n0000\r\n\r\n");
    assert_eq!(client.response_to("POST").expect(200).text(), "abcdefg");
    assert_eq!(origin.request().text(), "hello, more of ");
    client.send(request("GET", "/again", "", b"")).response().expect(200);
}

#[test]
fn request_trailers_reach_the_origin() {
    let origin = Origin::saying("x");
    let gateway = before(&origin);
    let mut client = gateway.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n",
    );
    client.response_to("POST").expect(200);
    assert_eq!(origin.request().trailers, [("X-Sum".to_owned(), "42".to_owned())]);
}

#[test]
fn answer_trailers_reach_a_client_that_takes_them() {
    let origin = Origin::raw(
        "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n",
    );
    let gateway = before(&origin);
    let got = gateway.client().request("GET", "/", "Connection: TE\r\nTE: trailers\r\n", b"").expect(200);
    assert_eq!(got.text(), "abc");
    assert_eq!(got.trailers, [("X-Sum".to_owned(), "42".to_owned())]);
}

#[test]
fn head_answers_have_no_body_and_keep_their_length() {
    let origin = Origin::raw("HTTP/1.1 200 OK\r\nContent-Length: 77\r\nX-H: 1\r\n\r\n");
    let gateway = before(&origin);
    let mut client = gateway.client();
    for _ in 0..2 {
        let got = client.request("HEAD", "/", "", b"").expect(200);
        assert_eq!((got.header("content-length"), got.header("x-h")), (Some("77"), Some("1")));
    }
    client.assert_open();
    assert_eq!(origin.connections(), 1);
}

#[test]
fn head_of_a_chunked_answer_ends_with_its_head() {
    let origin = Origin::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    let gateway = before(&origin);
    let mut client = gateway.client();
    client.request("HEAD", "/1", "", b"").expect(200);
    client.request("HEAD", "/2", "", b"").expect(200);
    client.assert_open();
}

#[test]
fn status_204_has_neither_body_nor_length() {
    let origin = Origin::raw("HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n");
    let gateway = before(&origin);
    let mut client = gateway.client();
    for _ in 0..2 {
        let got = client.get("/").expect(204);
        assert_eq!((got.framing, got.header("x-a")), (Framing::None, Some("1")));
    }
    client.assert_open();
}

#[test]
fn a_204_that_claims_a_body_gives_none_away() {
    let origin = Origin::raw("HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nEVIL");
    let gateway = before(&origin);
    let mut client = gateway.client();
    for _ in 0..3 {
        client.send(request("GET", "/", "", b""));
        let got = client.response();
        assert!(got.status == 204 || got.status == 502, "{got:?}");
        assert!(!got.text().contains("EVIL"), "{got:?}");
        if got.says_close() {
            client = gateway.client();
        }
    }
    assert!(!lossy(&client.wire.tape.lock().expect("tape")).contains("EVIL"));
}

#[test]
fn status_304_ends_with_its_head() {
    let origin = Origin::raw("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 10\r\n\r\n");
    let gateway = before(&origin);
    let mut client = gateway.client();
    for _ in 0..2 {
        assert_eq!(client.get("/").expect(304).header("etag"), Some("\"x\""));
    }
    client.assert_open();
}

#[test]
fn close_delimited_answers_arrive_whole() {
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 200 OK\r\n\r\nuntil ")?;
        x.wait(ms(30));
        x.send("close")?;
        x.close()
    });
    let gateway = before(&origin);
    let mut client = gateway.client();
    let got = client.get("/").expect(200);
    assert_eq!(got.text(), "until close");
    // A client that can take chunks keeps its connection.
    assert_eq!(got.framing, Framing::Chunked);
    assert_eq!(client.get("/").expect(200).text(), "until close");
}

#[test]
fn large_bodies_pass_both_ways_unharmed() {
    let big = pattern(3 << 20);
    let answer = big.clone();
    let origin = Origin::start(move |x| {
        x.body()?;
        x.ok(&answer)
    });
    let gateway = Gateway::start(&format!("{}\n[listeners.main]\nbody_bytes_max = \"16MiB\"\n", proxy_to(&origin)));
    let mut client = gateway.client();
    for _ in 0..2 {
        let sent = request("POST", "/", "", &big);
        let mut sender = client.wire.stream.try_clone().expect("a second handle");
        let sending = std::thread::spawn(move || sender.write_all(&sent));
        let got = client.response_to("POST").expect(200);
        sending.join().expect("sender").expect("send");
        assert!(got.body == big, "the answer was changed");
    }
    assert!(origin.requests().iter().all(|r| r.body == big), "the request was changed");
}

#[test]
fn a_slow_byte_by_byte_request_is_served() {
    let origin = Origin::saying("x");
    let gateway = before(&origin);
    let mut client = gateway.client();
    let bytes = b"POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n";
    client.dribble(bytes, ms(1)).expect("send");
    client.response_to("POST").expect(200);
    assert_eq!(origin.request().text(), "abc");
}

#[test]
fn a_slow_byte_by_byte_answer_is_relayed() {
    let origin = Origin::start(|x| {
        x.dribble(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n", ms(1))
    });
    let gateway = before(&origin);
    assert_eq!(gateway.client().get("/").expect(200).text(), "abc");
}

#[test]
fn a_part_of_an_answer_is_not_held_back() {
    let origin = Origin::start(|x| {
        x.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ndata: \r\n",
        )?;
        x.wait(ms(1500));
        x.send("0\r\n\r\n")
    });
    let gateway = before(&origin);
    let mut client = gateway.client().patience(ms(1000));
    client.send(request("GET", "/events", "", b""));
    let head = client.wire.head().expect("the head before the end of the body");
    assert!(lossy(&head).starts_with("HTTP/1.1 200"));
    let mut part = client.wire.some().expect("the first event");
    while !lossy(&part).contains("data: ") {
        part.extend(client.wire.some().expect("the first event"));
    }
}

#[test]
fn an_early_answer_during_an_upload_arrives() {
    let origin = Origin::start(|x| {
        x.body_prefix(1)?;
        x.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\nConnection: close\r\n\r\nearly!")?;
        x.await_gone(ms(500));
        x.close()
    });
    let gateway = before(&origin);
    let mut client = gateway.client();
    let length = 800_000;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
    for _ in 0..20 {
        if client.try_send(vec![b'x'; 20_000]).is_err() {
            break;
        }
        std::thread::sleep(ms(4));
    }
    assert_eq!(client.response_to("POST").expect(403).text(), "early!");
}

#[test]
fn an_early_answer_ends_or_drains_the_connection_but_never_confuses_it() {
    let origin = Origin::start(|x| {
        if x.target() == "/early" {
            x.body_prefix(1)?;
            x.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")?;
            x.await_gone(ms(200));
            return x.close();
        }
        x.ok("next")
    });
    let gateway = before(&origin);
    let mut client = gateway.client();
    client.send("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx");
    assert_eq!(client.response_to("POST").expect(200).text(), "ok");
    // The rest of the body looks like a request: it must stay a body.
    let rest = format!("{:<99}", "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    let after = client.try_send(rest).and_then(|()| client.try_send(request("GET", "/next", "", b"")));
    if after.is_ok()
        && let Ok(got) = client.try_response("GET")
    {
        assert_eq!(got.expect(200).text(), "next");
    }
    assert!(!origin.targets().contains(&"/smuggled".to_owned()), "{:?}", origin.targets());
}

#[test]
fn a_half_closed_client_still_gets_its_answer() {
    let origin = Origin::start(|x| {
        x.body()?;
        x.wait(ms(200));
        x.ok("late")
    });
    let gateway = before(&origin);
    let mut client = gateway.client();
    client.send(request("POST", "/", "", b"b"));
    client.half_close();
    assert_eq!(client.response_to("POST").expect(200).text(), "late");
    client.assert_closed();
}

#[test]
fn half_closed_pipelined_requests_are_all_answered() {
    let origin = Origin::start(|x| {
        x.wait(ms(30));
        x.ok("x")
    });
    let gateway = before(&origin);
    let mut client = gateway.client();
    client.send((0..3).flat_map(|n| request("GET", &format!("/{n}"), "", b"")).collect::<Vec<_>>());
    client.half_close();
    for _ in 0..3 {
        client.response().expect(200);
    }
    client.assert_closed();
}

#[test]
fn one_empty_line_before_a_request_is_forgiven() {
    let origin = Origin::saying("x");
    let gateway = before(&origin);
    let mut client = gateway.client();
    client.send(b"\r\n").send(request("GET", "/", "", b""));
    client.response().expect(200);
}

#[test]
fn a_connection_serves_at_most_its_requests() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&format!("{}\n[listeners.main]\nkeepalive_requests_max = 3\n", proxy_to(&origin)));
    let mut client = gateway.client();
    let says: Vec<bool> = (0..3).map(|_| client.get("/").expect(200).says_close()).collect();
    assert_eq!(says, [false, false, true]);
    client.assert_closed();
}
