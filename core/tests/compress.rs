//! Answers encoded for clients that accept it.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use support::{Client, Gateway, Origin, Response, ms};

const LONG: usize = 300_000;

/// Text that packs well, different at each place.
fn text(bytes: usize) -> Vec<u8> {
    let words =
        (0_u32..).flat_map(|number| format!("{{\"id\": {}}},\n", number.wrapping_mul(0x9e37_79b9)).into_bytes());
    words.take(bytes).collect()
}

fn decoded(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut plain),
        "br" => brotli::Decompressor::new(body, 4096).read_to_end(&mut plain),
        "zstd" => zstd::Decoder::new(body).and_then(|mut decoder| decoder.read_to_end(&mut plain)),
        _ => panic!("{coding:?}"),
    }
    .unwrap_or_else(|error| panic!("{coding}: {error}"));
    plain
}

fn origin() -> Origin {
    Origin::start(|x| {
        let json = "Content-Type: application/json\r\n";
        let with = |more: &str| format!("{json}{more}");
        match x.target() {
            "/chunked" => {
                x.send(format!("HTTP/1.1 200 OK\r\n{json}Transfer-Encoding: chunked\r\n\r\n"))?;
                for piece in text(LONG).chunks(7000) {
                    x.send(format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece)))?;
                }
                x.send("0\r\nX-Sum: 7\r\n\r\n")
            }
            "/short" => x.reply(200, json, "{}"),
            "/empty" => x.reply(200, json, ""),
            "/image" => x.reply(200, "Content-Type: image/png\r\n", text(LONG)),
            "/untyped" => x.reply(200, "", text(LONG)),
            "/encoded" => x.reply(200, &with("Content-Encoding: x\r\n"), text(LONG)),
            "/no-transform" => x.reply(200, &with("Cache-Control: private, No-Transform\r\n"), text(LONG)),
            "/part" => x.reply(206, &with("Content-Range: bytes 0-299999/300001\r\n"), text(LONG)),
            "/weak" => x.reply(200, &with("ETag: W/\"b\"\r\nVary: Cookie\r\n"), text(LONG)),
            "/unchanged" => x.send("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"),
            "/nothing" => x.send("HTTP/1.1 204 No Content\r\n\r\n"),
            "/broken" => {
                x.send(format!("HTTP/1.1 200 OK\r\n{json}Content-Length: 400000\r\n\r\n"))?;
                x.send(text(LONG))?;
                x.close()
            }
            "/huge" => x.reply(200, json, text(20_000_000)),
            _ => x.reply(
                200,
                &with("ETag: \"a\"\r\nAccept-Ranges: bytes\r\nContent-MD5: x\r\nRepr-Digest: x\r\n"),
                text(LONG),
            ),
        }
    })
}

fn gateway(origin: &Origin) -> Gateway {
    Gateway::with(&format!(
        "[clusters.app]\nendpoints = [\"{}\"]\n
        [[routes]]\nname = \"respond\"\npath = \"/respond\"\nfilters = [{{ compress = {{ bytes_min = \"10B\" }} }}]\n
        respond = {{ status = 200, body = \"{}\", content_type = \"text/plain\" }}\n
        [[routes]]\nname = \"order\"\npath = \"/order\"\ncluster = \"app\"\n
        filters = [{{ compress = {{ codings = [\"br\", \"gzip\"], types = [\"application/*\"], brotli_level = 1 }} }}]\n
        [[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"app\"\n
        filters = [{{ response_headers = {{ add = {{ x-outer = \"1\" }} }} }}, {{ compress = {{}} }}]\n",
        origin.endpoint(),
        "respond ".repeat(100),
    ))
    .shards(1)
    .start()
}

fn ask(gateway: &Gateway, path: &str, accept: &str) -> Response {
    gateway.client().request("GET", path, &format!("Accept-Encoding: {accept}\r\n"), b"")
}

#[test]
fn a_body_arrives_in_each_coding() {
    let origin = origin();
    let gateway = gateway(&origin);
    let mut client = gateway.client();
    for (coding, path) in
        [("gzip", "/"), ("br", "/"), ("zstd", "/"), ("gzip", "/chunked"), ("br", "/chunked"), ("zstd", "/chunked")]
    {
        for _ in 0..3 {
            let got = client.request("GET", path, &format!("Accept-Encoding: {coding}\r\n"), b"").expect(200);
            assert_eq!((got.all("content-encoding"), got.all("vary")), (vec![coding], vec!["Accept-Encoding"]));
            assert!(got.header("content-length").is_none() && got.body.len() < LONG / 2, "{coding} {}", got.body.len());
            assert!(decoded(coding, &got.body) == text(LONG), "{coding} {path}");
            let wanted = if path == "/" { vec!["W/\"a\""] } else { vec![] };
            assert_eq!(got.all("etag"), wanted);
            for name in ["accept-ranges", "content-md5", "repr-digest"] {
                assert!(!got.has(name), "{name}");
            }
            assert_eq!(got.header("x-outer"), Some("1"));
            let trailers: Vec<_> = got.trailers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
            assert_eq!(trailers, if path == "/chunked" { vec!["x-sum"] } else { vec![] });
        }
    }
    let huge = ask(&gateway, "/huge", "gzip").expect(200);
    assert!(decoded("gzip", &huge.body) == text(20_000_000));
    let line = gateway.wait_log(19).pop().expect("a line");
    assert_eq!(line.field("http.response.body.bytes").as_u64(), Some(huge.body.len() as u64), "{line:?}");
}

#[test]
fn the_client_says_which_coding() {
    let origin = origin();
    let gateway = gateway(&origin);
    for (accept, wanted) in [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, br", "gzip"),
        ("gzip;q=0.5, br;q=0.6", "br"),
        ("x-gzip", "gzip"),
        ("GZIP", "gzip"),
        ("*", "zstd"),
        ("*, zstd;q=0", "gzip"),
        ("*;q=0.5, br", "br"),
        ("gzip;q=0.5, identity;q=0.4", "gzip"),
        ("gzip;q=0.5, identity;q=0.6", ""),
        ("gzip;q=0", ""),
        ("*;q=0", ""),
        ("deflate, compress", ""),
        ("identity", ""),
        ("", ""),
    ] {
        let got = ask(&gateway, "/", accept).expect(200);
        assert_eq!(got.header("content-encoding").unwrap_or_default(), wanted, "{accept}");
        assert_eq!(got.all("vary"), ["Accept-Encoding"], "{accept}");
    }
    let got = gateway.get("/").expect(200);
    assert!(!got.has("content-encoding") && got.header("etag") == Some("\"a\""), "it says nothing");
    assert_eq!(ask(&gateway, "/order", "gzip, br, zstd").header("content-encoding"), Some("br"));
}

#[test]
fn what_cannot_or_need_not_be_encoded_is_left_alone() {
    let origin = origin();
    let gateway = gateway(&origin);
    for (path, vary) in [
        ("/short", "Accept-Encoding"),
        ("/image", ""),
        ("/untyped", ""),
        ("/encoded", ""),
        ("/no-transform", ""),
        ("/part", ""),
        ("/nothing", ""),
        ("/unchanged", "Accept-Encoding"),
    ] {
        let got = ask(&gateway, path, "gzip");
        let encoded = got.header("content-encoding").filter(|coding| *coding != "x");
        assert_eq!((encoded, got.header("vary").unwrap_or_default()), (None, vary), "{path}");
        assert_eq!(got.has("content-length"), !matches!(path, "/nothing" | "/unchanged"), "{path}");
    }
    let asked = "Accept-Encoding: gzip\r\nCache-Control: no-transform\r\n";
    assert!(!gateway.client().request("GET", "/", asked, b"").has("content-encoding"));
    let got = ask(&gateway, "/weak", "gzip");
    assert_eq!((got.header("etag"), got.all("vary")), (Some("W/\"b\""), vec!["Cookie", "Accept-Encoding"]));
    let refused = ask(&gateway, "/short", "gzip, identity;q=0");
    assert_eq!(decoded("gzip", &refused.body), b"{}", "short, but the client refuses it as it is");
    assert_eq!(decoded("gzip", &ask(&gateway, "/empty", "gzip, *;q=0").body), b"");
}

/// A cache brings a 304 together with what it has by a strong tag only if it has that one (RFC 9111 4.3.4).
#[test]
fn a_304_has_the_tag_of_the_answer_that_it_confirms() {
    let origin = origin();
    let gateway = gateway(&origin);
    let tag = |known: &str| {
        let asked = format!("Accept-Encoding: gzip\r\nIf-None-Match: {known}\r\n");
        let got = gateway.client().request("GET", "/unchanged", &asked, b"").expect(304);
        got.header("etag").unwrap_or_default().to_owned()
    };
    assert_eq!(tag("W/\"a\""), "W/\"a\"");
    assert_eq!(tag("\"x\", W/\"a\""), "W/\"a\"");
    assert_eq!(tag("\"a\""), "\"a\"");
    assert_eq!(tag("W/\"aa\""), "\"a\"");
}

#[test]
fn head_and_http_1_0_have_their_framing() {
    let origin = origin();
    let gateway = gateway(&origin);
    let mut client = gateway.client();
    let head = client.request("HEAD", "/", "Accept-Encoding: gzip\r\n", b"").expect(200);
    assert_eq!(head.header("content-encoding"), Some("gzip"));
    assert!(!head.has("content-length") && head.header("etag") == Some("W/\"a\""), "{:?}", head.headers);
    client.get("/").expect(200);
    let mut old = gateway.client();
    old.send("GET / HTTP/1.0\r\nHost: a\r\nAccept-Encoding: gzip\r\nConnection: keep-alive\r\n\r\n");
    let got = old.response().expect(200);
    assert!(!got.has("transfer-encoding") && !got.has("content-length") && decoded("gzip", &got.body) == text(LONG));
    old.assert_closed();
}

#[test]
fn answers_of_the_gateway_are_encoded_with_their_length() {
    let origin = origin();
    let gateway = gateway(&origin);
    let got = ask(&gateway, "/respond", "gzip").expect(200);
    assert_eq!(got.all("content-length"), [got.body.len().to_string()]);
    assert_eq!(decoded("gzip", &got.body), "respond ".repeat(100).as_bytes());
    let head = gateway.client().request("HEAD", "/respond", "Accept-Encoding: gzip\r\n", b"").expect(200);
    assert_eq!(head.header("content-length"), got.header("content-length"));
}

#[test]
fn an_answer_that_breaks_off_does_not_look_whole() {
    let origin = origin();
    let gateway = gateway(&origin);
    let mut client = gateway.client();
    client.send("GET /broken HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    let got = client.response();
    assert!(got.cut.is_some(), "{:?}", got.headers);
    assert!(gateway.wait_log(1)[0].has_flag("UC"));
}

/// Reads until what came, decoded, has `wanted` in it.
fn read_events(stream: &mut TcpStream, coding: &str, wanted: &str) {
    let mut raw = Vec::new();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).unwrap_or_else(|error| panic!("no {wanted} through {coding}: {error}"));
        assert!(count > 0, "ended");
        raw.extend_from_slice(&piece[..count]);
        let Some(head) = raw.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let (mut body, mut rest) = (Vec::new(), &raw[head + 4..]);
        while let Some(line) = rest.windows(2).position(|bytes| bytes == b"\r\n") {
            let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
            let Some(data) = rest.get(line + 2..line + 2 + length) else { break };
            body.extend_from_slice(data);
            rest = rest.get(line + 4 + length..).unwrap_or_default();
        }
        let mut plain = vec![0; 64 * 1024];
        let seen = match coding {
            "gzip" => flate2::read::GzDecoder::new(&body[..]).read(&mut plain),
            "br" => brotli::Decompressor::new(&body[..], 4096).read(&mut plain),
            _ => zstd::Decoder::new(&body[..]).and_then(|mut decoder| decoder.read(&mut plain)),
        };
        let seen = seen.unwrap_or(0);
        if String::from_utf8_lossy(&plain[..seen]).contains(wanted) {
            return;
        }
    }
}

fn events() -> Origin {
    Origin::start(|x| {
        x.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        x.send("d\r\ndata: first\n\n\r\n")?;
        x.wait(ms(30_000));
        Ok(())
    })
}

fn subscribe(gateway: &Gateway, coding: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.addr()).unwrap();
    write!(stream, "GET /events HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {coding}\r\n\r\n").unwrap();
    stream
}

#[test]
fn events_of_a_stream_are_not_held_back() {
    let origin = events();
    let gateway = gateway(&origin);
    for coding in ["gzip", "br", "zstd"] {
        read_events(&mut subscribe(&gateway, coding), coding, "data: first\n\n");
    }
}

#[test]
fn a_core_encodes_so_many_bodies_at_once() {
    let origin = events();
    let gateway = gateway(&origin);
    let mut first = Client::to(gateway.addr());
    first.send("GET /events HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n").expect_bytes(b"HTTP/1.1 200 OK\r\n");
    let _open: Vec<_> = (0..127)
        .map(|_| {
            let mut stream = subscribe(&gateway, "gzip");
            read_events(&mut stream, "gzip", "data: first");
            stream
        })
        .collect();
    let mut plain = subscribe(&gateway, "gzip");
    let mut piece = [0; 4096];
    let mut raw = Vec::new();
    while !raw.ends_with(b"data: first\n\n\r\n") {
        let count = plain.read(&mut piece).unwrap();
        raw.extend_from_slice(&piece[..count]);
    }
    first.reset();
    gateway.wait_log(1);
    read_events(&mut subscribe(&gateway, "gzip"), "gzip", "data: first");
}
