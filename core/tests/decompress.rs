//! Bodies taken out of their content codings: requests for origin servers, answers for clients; and bombs.

mod support;

use std::io::Write;
use std::time::Instant;

use support::{Gateway, Origin, Response, ms};

fn encoded(coding: &str, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "gzip" => {
            let mut writer = flate2::write::GzEncoder::new(&mut out, flate2::Compression::best());
            writer.write_all(plain).unwrap();
            writer.finish().unwrap();
        }
        "deflate" => {
            let mut writer = flate2::write::ZlibEncoder::new(&mut out, flate2::Compression::best());
            writer.write_all(plain).unwrap();
            writer.finish().unwrap();
        }
        "br" => brotli::CompressorWriter::new(&mut out, 4096, 5, 22).write_all(plain).unwrap(),
        "zstd" => out = zstd::encode_all(plain, 3).unwrap(),
        _ => panic!("{coding}"),
    }
    out
}

/// Text that does not pack well.
fn text(bytes: usize) -> Vec<u8> {
    (0_u32..).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_string().into_bytes()).take(bytes).collect()
}

fn gateway(origin: &Origin) -> Gateway {
    Gateway::with(&format!(
        "[clusters.app]\nendpoints = [\"{}\"]\n
        [[routes]]\nname = \"answers\"\npath_prefix = \"/answers\"\ncluster = \"app\"\n
        filters = [{{ decompress = {{ requests = false, answers = true }} }}]\n
        [[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"app\"\nfilters = [{{ decompress = {{}} }}]\n",
        origin.endpoint()
    ))
    .shards(1)
    .start()
}

fn post(gateway: &Gateway, codings: &str, body: &[u8]) -> Response {
    gateway.client().request("POST", "/", &format!("Content-Encoding: {codings}\r\nContent-Digest: x\r\n"), body)
}

#[test]
fn a_request_arrives_as_it_was_before_it_was_encoded() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin);
    let plain = text(900_000);
    for coding in ["gzip", "deflate", "br", "zstd", "X-GZIP"] {
        let body = encoded(&coding.to_lowercase().replace("x-", ""), &plain);
        post(&gateway, coding, &body).expect(200);
        let seen = origin.last();
        assert!(seen.body == plain, "{coding}: {} bytes", seen.body.len());
        assert_eq!((seen.all("content-encoding"), seen.all("content-digest")), (vec![], vec![]), "{coding}");
        assert_eq!(seen.all("content-length"), [plain.len().to_string()], "{coding}");
    }
    post(&gateway, "br, gzip", &encoded("gzip", &encoded("br", &plain))).expect(200);
    assert!(origin.last().body == plain, "one inside of the other");
    let members = [encoded("gzip", b"a"), encoded("gzip", b"b")].concat();
    post(&gateway, "gzip", &members).expect(200);
    assert_eq!(origin.last().body, b"ab");
    for (codings, body) in [("identity", &b"plain"[..]), ("gzip", b"")] {
        post(&gateway, codings, body).expect(200);
        assert_eq!(origin.last().body, body);
    }
    let chunked = encoded("gzip", &plain);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in chunked.chunks(10_000) {
        client.send(format!("{:x}\r\n", piece.len())).send(piece).send("\r\n");
    }
    client.send("0\r\n\r\n").response().expect(200);
    assert!(origin.last().body == plain);
    client.get("/next").expect(200);
}

#[test]
fn a_bomb_is_a_413() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin);
    let code = |codings: &str, body: &[u8]| {
        let began = Instant::now();
        let got = post(&gateway, codings, body).expect(413);
        assert!(began.elapsed() < ms(2000), "{:?}", began.elapsed());
        got.problem()["code"].as_str().unwrap_or_default().to_owned()
    };
    let zeros = vec![0; 100 << 20];
    for coding in ["gzip", "br", "zstd", "deflate"] {
        assert_eq!(code(coding, &encoded(coding, &zeros)), "decoded_body_too_dense", "{coding}");
    }
    let twice = encoded("gzip", &encoded("gzip", &zeros));
    assert_eq!(code("gzip, gzip", &twice), "decoded_body_too_dense");
    let mixed = [text(800_000), vec![b'a'; 400_000]].concat();
    assert_eq!(code("gzip", &encoded("gzip", &mixed)), "decoded_body_too_large");
    assert_eq!(code("gzip", &vec![0; (1 << 20) + 1]), "body_too_large", "before it is decoded");
    post(&gateway, "gzip", &encoded("gzip", &zeros[..64 * 1024])).expect(200);
    assert_eq!(origin.count(), 1, "a small one may be dense");
    let peak = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    assert!(peak.parse::<u64>().unwrap() < 100 * 1024, "{peak} kB at most were resident");
}

#[test]
fn what_is_not_known_is_a_415_and_what_is_broken_a_400() {
    let origin = Origin::saying("x");
    let gateway = gateway(&origin);
    for codings in ["compress", "gzip, gzip, gzip", "br, x"] {
        let got = post(&gateway, codings, b"x").expect(415);
        assert_eq!(got.header("accept-encoding"), Some("gzip, deflate, br, zstd"), "{codings}");
        assert_eq!(got.problem()["code"].as_str(), Some("unsupported_coding"));
    }
    let whole = encoded("gzip", &text(5000));
    for (codings, body) in [
        ("gzip", &b"no gzip at all"[..]),
        ("gzip", &whole[..whole.len() - 1]),
        ("gzip", &[&whole[..], b"x"].concat()),
        ("br", b"\xff\xff\xff\xff"),
        ("zstd", &encoded("zstd", &text(5000))[..100]),
        ("deflate", b"\x78\x9c"),
    ] {
        let got = post(&gateway, codings, body).expect(400);
        assert_eq!(got.problem()["code"].as_str(), Some("encoded_body_malformed"), "{codings}");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn what_one_filter_has_decoded_is_not_decoded_again() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&format!(
        "[clusters.app]\nendpoints = [\"{}\"]\n[policies.p]\nfilters = [{{ decompress = {{}} }}]\n\
         [[routes]]\nname = \"r\"\npath_prefix = \"/\"\ncluster = \"app\"\npolicies = [\"p\"]\n\
         filters = [{{ decompress = {{ codings_max = 1 }} }}]\n",
        origin.endpoint()
    ));
    post(&gateway, "gzip", &encoded("gzip", b"plain")).expect(200);
    assert_eq!(origin.last().body, b"plain");
}

#[test]
fn an_answer_that_must_not_be_transformed_is_left_alone() {
    let origin = Origin::start(|x| {
        let body = encoded("gzip", b"plain");
        match x.target() {
            "/answers/lines" => x.reply(
                200,
                "Content-Encoding: br\r\nContent-Encoding: gzip\r\n",
                encoded("gzip", &encoded("br", b"plain")),
            ),
            "/answers/no" => x.reply(200, "Content-Encoding: gzip\r\nCache-Control: public, No-Transform\r\n", body),
            _ => x.reply(200, "Content-Encoding: gzip\r\n", body),
        }
    });
    let gateway = gateway(&origin);
    let ask = |path: &str, more: &str| gateway.client().request("GET", path, more, b"").expect(200);
    for (path, more) in [("/answers/no", ""), ("/answers", "Cache-Control: no-transform\r\n")] {
        let got = ask(path, more);
        assert_eq!(got.header("content-encoding"), Some("gzip"), "{path}");
        assert!(got.body == encoded("gzip", b"plain"), "{path}");
    }
    assert_eq!(ask("/answers", "").text(), "plain");
    let got = ask("/answers/lines", "");
    assert_eq!((&*got.text(), got.has("content-encoding")), ("plain", false), "each line is a coding");
}

#[test]
fn an_answer_is_decoded_for_a_client_that_does_not_accept_its_coding() {
    let origin = Origin::start(|x| match x.target() {
        "/answers/bomb" => x.reply(200, "Content-Encoding: zstd\r\n", encoded("zstd", &vec![0; 50 << 20])),
        _ => x.reply(200, "Content-Encoding: br\r\nETag: \"a\"\r\n", encoded("br", &text(400_000))),
    });
    let gateway = gateway(&origin);
    let mut client = gateway.client();
    let got = client.request("GET", "/answers", "Accept-Encoding: gzip\r\n", b"").expect(200);
    assert!(got.body == text(400_000), "{} bytes", got.body.len());
    assert_eq!((got.has("content-encoding"), got.header("etag")), (false, Some("W/\"a\"")));
    assert_eq!(got.header("vary"), Some("Accept-Encoding"));
    let got = client.request("GET", "/answers", "Accept-Encoding: br\r\n", b"").expect(200);
    assert!(got.header("content-encoding") == Some("br") && got.header("etag") == Some("\"a\""));
    client.send("GET /answers/bomb HTTP/1.1\r\nHost: a\r\n\r\n");
    let got = client.response();
    assert!(got.cut.is_some() && got.body.len() < 2 << 20, "{} bytes", got.body.len());
}

/// What it confirms is what the client has: the decoded answer, under its weak tag.
#[test]
fn a_304_has_the_tag_of_the_answer_that_it_confirms() {
    let origin = Origin::start(|x| x.reply(304, "ETag: \"a\"\r\n", ""));
    let gateway = gateway(&origin);
    for (known, wanted) in [("W/\"a\"", "W/\"a\""), ("\"x\", W/\"a\"", "W/\"a\""), ("\"a\"", "\"a\"")] {
        let got = gateway.client().request("GET", "/answers", &format!("If-None-Match: {known}\r\n"), b"").expect(304);
        assert_eq!((got.header("etag"), got.header("vary")), (Some(wanted), Some("Accept-Encoding")), "{known}");
    }
}

/// Who reads his answer slowly, or whose origin writes it so.
#[test]
fn answers_on_their_way_keep_no_request_waiting() {
    let origin = Origin::start(|x| match x.target() {
        "/answers" => {
            x.send("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 100000\r\n\r\n")?;
            x.wait(ms(20_000));
            Ok(())
        }
        _ => x.ok("x"),
    });
    let gateway = gateway(&origin);
    let mut slow: Vec<_> = (0..20).map(|_| gateway.client()).collect();
    for client in &mut slow {
        client.send("GET /answers HTTP/1.1\r\nHost: a\r\n\r\n").expect_bytes(b"HTTP/1.1 200 OK\r\n");
    }
    post(&gateway, "gzip", &encoded("gzip", b"plain")).expect(200);
    assert!(origin.requests().iter().any(|seen| seen.body == b"plain"));
}
