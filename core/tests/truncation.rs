//! An origin that dies in the middle of its answer: the client must be able to see that something is missing.

mod support;

use support::client::request;
use support::{Ending, Exchange, Gateway, Origin, ms, proxy_to};

/// How the origin ends its connection.
#[derive(Debug, Clone, Copy)]
enum Death {
    Close,
    Reset,
}

const DEATHS: [Death; 2] = [Death::Close, Death::Reset];

fn die(x: &mut Exchange, death: Death) -> std::io::Result<()> {
    // What was sent is on its way before the end comes.
    x.wait(ms(60));
    match death {
        Death::Close => x.close(),
        Death::Reset => x.reset(),
    }
}

/// An origin that sends these bytes and dies, and what a client of the gateway then gets.
#[track_caller]
fn must_be_cut(bytes: &'static str, death: Death, asking: &str) {
    let origin = Origin::start(move |x| {
        if x.target() == "/fine" {
            return x.ok("fine");
        }
        x.send(bytes)?;
        die(x, death)
    });
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    client.send(asking);
    match client.try_response("GET") {
        Ok(got) if got.status == 502 => {
            got.problem();
        }
        Ok(got) => {
            assert!(got.cut.is_some(), "{bytes:?}, {death:?}: looks complete: {got:?}");
            client.assert_closed();
        }
        Err(ending) => assert!(matches!(ending, Ending::Eof | Ending::Reset), "{ending:?}"),
    }
    let lines = gateway.wait_log(1);
    let flags = lines[0].flags();
    assert!(flags.iter().any(|f| ["UC", "UR", "UP"].contains(&f.as_str())), "{bytes:?}, {death:?}: {:?}", lines[0]);
    gateway.get("/fine").expect(200);
}

fn plain() -> String {
    String::from_utf8(request("GET", "/", "", b"")).expect("ASCII")
}

#[test]
fn a_body_with_a_length_is_never_cut_in_silence() {
    for death in DEATHS {
        must_be_cut("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npartial", death, &plain());
    }
}

#[test]
fn a_head_without_its_body_is_never_an_empty_answer() {
    for death in DEATHS {
        must_be_cut("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", death, &plain());
        must_be_cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", death, &plain());
    }
}

#[test]
fn chunks_that_stop_are_never_ended_cleanly() {
    for death in DEATHS {
        must_be_cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", death, &plain());
    }
}

#[test]
fn a_cut_in_the_middle_of_a_chunk_or_its_size() {
    for partial in
        ["5\r\nhel", "5", "5\r", "5\r\n", "5\r\nhello", "5\r\nhello\r", "5\r\nhello\r\n0", "5\r\nhello\r\n0\r\n"]
    {
        let bytes: &'static str =
            Box::leak(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{partial}").into_boxed_str());
        must_be_cut(bytes, Death::Close, &plain());
    }
}

#[test]
fn a_cut_in_the_middle_of_trailers() {
    must_be_cut(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 4",
        Death::Close,
        &plain(),
    );
}

#[test]
fn a_reset_of_an_answer_until_close_is_seen() {
    must_be_cut("HTTP/1.1 200 OK\r\n\r\nuntil res", Death::Reset, &plain());
}

#[test]
fn chunks_for_an_http_1_0_client_end_in_a_reset() {
    // Without framing the only way to say "cut" is not to end the connection in order.
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")?;
        die(x, Death::Close)
    });
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let got = client.try_response("GET");
    let clean = got.as_ref().is_ok_and(|r| r.status == 200 && r.cut.is_none());
    assert!(!clean, "a clean-looking short body: {got:?}");
}

#[test]
fn a_cut_large_answer_brings_what_came_and_then_the_cut() {
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n")?;
        x.send(vec![b'x'; 1_000_000])?;
        die(x, Death::Close)
    });
    let gateway = Gateway::start(&proxy_to(&origin));
    let got = gateway.client().get("/");
    assert_eq!((got.status, got.body.len()), (200, 1_000_000));
    assert!(got.cut.is_some());
}

#[test]
fn an_origin_that_dies_within_its_head_is_a_502() {
    for death in DEATHS {
        for bytes in ["", "HTTP/1.1 2", "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"] {
            let origin = Origin::start(move |x| {
                x.send(bytes)?;
                die(x, death)
            });
            let gateway = Gateway::start(&proxy_to(&origin));
            gateway.client().request("POST", "/", "", b"b").expect(502).problem();
        }
    }
}

#[test]
fn an_origin_that_dies_after_an_interim_answer_is_a_502() {
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
        die(x, Death::Close)
    });
    let gateway = Gateway::start(&proxy_to(&origin));
    gateway.client().request("POST", "/", "", b"b").expect(502).problem();
}

#[test]
fn a_pipelined_answer_after_a_cut_one_is_never_sent() {
    let origin = Origin::start(|x| {
        if x.target() == "/2" {
            return x.ok("second");
        }
        x.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort")?;
        die(x, Death::Close)
    });
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    client.send([request("GET", "/1", "", b""), request("GET", "/2", "", b"")].concat());
    let got = client.response();
    assert!(got.cut.is_some() && got.text() == "short", "{got:?}");
}

#[test]
fn a_short_answer_is_not_padded_and_a_long_one_not_taken() {
    let origin = Origin::start(|x| {
        x.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdefgh")?;
        x.wait(ms(20));
        x.close()
    });
    let gateway = Gateway::start(&proxy_to(&origin));
    let mut client = gateway.client();
    for _ in 0..2 {
        assert_eq!(client.get("/").expect(200).text(), "abc");
    }
}
