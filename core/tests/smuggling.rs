//! Request smuggling by heads: whatever a client writes, the origin reads one clean request or none. Bodies: `smuggling_bodies`.

mod support;

use support::ms;
use support::smuggle::{Bench, Either, Forward, INNER, Refuse, all, bytes, chunked, post};

#[test]
fn plain_requests_pass() {
    all(&[
        (Forward, post("Content-Length: 5\r\n", "hello")),
        (Forward, chunked("5\r\nhello\r\n0\r\n\r\n")),
        (Forward, post("TrAnSFer-EnCODinG: cHuNkeD\r\n", "5\r\nhello\r\n0\r\n\r\n")),
        (Forward, post("Content-Length:5\r\n", "hello")),
        (Forward, post("Content-Length: \t 5 \t\r\n", "hello")),
        (Forward, "GET /c HTTP/1.1\r\nhOsT: gw.test\r\n\r\n".to_owned()),
    ]);
}

#[test]
fn names_that_look_like_framing() {
    let rest = format!("0\r\n\r\n{INNER}");
    let refuse = [
        "Content-Length : 46\r\n",
        "Content-Length\t: 46\r\n",
        "Content-Length 46\r\n",
        "Content-Length\0: 46\r\n",
        "Content\rLength: 46\r\n",
        "\u{b}Content-Length: 46\r\n",
        "Content-Length: 46\r\nTransfer-Encoding : chunked\r\n",
        "Content-Length: 46\r\nTransfer-Encoding\t: chunked\r\n",
        "Content-Length: 46\r\nTransfer-Encoding\0: chunked\r\n",
        "Content-Length: 46\r\nTransfer Encoding: chunked\r\n",
        "Content-Length: 46\r\n Transfer-Encoding: chunked\r\n",
        "Content-Length: 46\r\n\tTransfer-Encoding: chunked\r\n",
        "Content-Length: 46\r\nTransfer\r-Encoding: chunked\r\n",
        "Content-Length: 46\r\nX: X\rTransfer-Encoding: chunked\r\n",
        "Content-Length: 46\r\n: Transfer-Encoding: chunked\r\n",
        "Content-Length: 46\r\nTransfer-Encoding\u{85}: chunked\r\n",
        "Content-Length: 46\r\nTransfer-Encoding\u{a0}: chunked\r\n",
    ];
    let mut cases: Vec<_> = refuse.iter().map(|l| (Refuse, post(l, &rest))).collect();
    for twin in
        ["Content_Length: 46", "Transfer_Encoding: chunked", "Content.Length: 46", "Transfer-Encoding_: chunked"]
    {
        cases.push((Either, post(&format!("{twin}\r\n"), "")));
    }
    cases.push((Either, post("Content-Length: 46\r\nTransfer_Encoding: chunked\r\n", &rest)));
    all(&cases);
}

#[test]
fn request_lines() {
    let lines = [
        "GET /c",
        "GET /c ",
        "GET",
        "",
        " GET /c HTTP/1.1",
        "GET /c HTTP/1.1 ",
        "GET /c  HTTP/1.1",
        "GET\t/c HTTP/1.1",
        "GET\t/c\tHTTP/1.1",
        "GET /c\tHTTP/1.1",
        "GET /c\u{b}HTTP/1.1",
        "GET /c HTTP/1.32",
        "GET /c HTTP/11",
        "GET /c HTTP/1.",
        "GET /c HTTP/.1",
        "GET /c HTTP/1,1",
        "GET /c HTTP/ 1.1",
        "GET /c http/1.1",
        "GET /c HTTTP/1.1",
        "GET /c HTTP/4294967297.1",
        "GET /c HTTP/1.1\r",
        "GET /c HTTP/\r1.1",
        "GET /c d HTTP/1.1",
        "GET /c HTTP/1.1 /smuggled HTTP/1.1",
        "GET /c\nHTTP/1.1",
        "G=\":<>(e),[T];?\" /c HTTP/1.1",
        "\0 / HTTP/1.1",
        "G\0T /c HTTP/1.1",
        "GET /c\0 HTTP/1.1",
        "GET /c\u{7f}d HTTP/1.1",
        "GET /c\u{1}d HTTP/1.1",
        "GET c HTTP/1.1",
        "GET gw.test/c HTTP/1.1",
        "GET http:///c HTTP/1.1",
        "GET http:c HTTP/1.1",
        "GET ftp://gw.test/c HTTP/1.1",
        "GET //c\\\r HTTP/1.1",
        "GET\u{a0}/c HTTP/1.1",
        "GET /c\u{a0}HTTP/1.1",
        "\u{feff}",
        "G\u{c9}T /c HTTP/1.1",
    ];
    let mut cases = Vec::new();
    for line in lines.iter().filter(|l| l.chars().all(|c| u32::from(c) < 256)) {
        if line.is_empty() {
            continue; // An empty line before a request is forgiven (RFC 9112 §2.2).
        }
        cases.push((Refuse, format!("{line}\r\nHost: gw.test\r\n\r\n")));
    }
    for lax in ["GET  /c HTTP/1.1", "GET /c HTTP/1.2", "GET /c\u{ff} HTTP/1.1", "GET /c#frag HTTP/1.1"] {
        cases.push((Either, format!("{lax}\r\nHost: gw.test\r\n\r\n")));
    }
    cases.push((Either, "GET http://u:p@gw.test/c HTTP/1.1\r\nHost: gw.test\r\n\r\n".to_owned()));
    cases.push((Refuse, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()));
    all(&cases);
}

#[test]
fn bare_line_ends_in_a_head() {
    all(&[
        (Refuse, "GET /c HTTP/1.1\nHost: gw.test\n\n".to_owned()),
        (Refuse, "GET /c HTTP/1.1\r\nHost: gw.test\n\r\n".to_owned()),
        (Refuse, "GET /c HTTP/1.1\nHost: gw.test\r\n\r\n".to_owned()),
        (Refuse, "GET /c HTTP/1.1\rHost: gw.test\r\r".to_owned()),
        (Refuse, "GET /c HTTP/1.1\r\nHost: gw.test\r\nX-A: b\nGET /smuggled HTTP/1.1\r\n\r\n".to_owned()),
        (Refuse, format!("GET /c HTTP/1.1\r\nHost: gw.test\r\nUseless:\n\n{INNER}")),
        (Refuse, format!("GET /c HTTP/1.1\r\nHost: gw.test\r\nX: y\r\n\n{INNER}")),
        (Refuse, "GET /c HTTP/1.1\r\nHost: gw.test\r\nX-A: va\rlue\r\n\r\n".to_owned()),
        (Refuse, "GET /c HTTP/1.1\r\r\nHost: gw.test\r\n\r\n".to_owned()),
        (Refuse, post("Content-Length: 46\r\nX: X\nTransfer-Encoding: chunked\r\n", &format!("0\r\n\r\n{INNER}"))),
    ]);
}

#[test]
fn header_lines() {
    let refuse = [
        "X-A: v\0w",
        "Foo Bar: x",
        ": ignored",
        "F\u{1}oo: bar",
        "Foo\u{7f}: bar",
        "Foobar",
        "(x): y",
        "X-A: b\r\n\tc",
        "X-A: b\r\n c",
        "X@: y",
        "X[]: y",
        "X\u{e9}: y",
        "X/y: z",
        "\"X\": y",
        "X-A\u{85}: y",
        "X-A: a\u{1}b",
    ];
    let mut cases: Vec<_> =
        refuse.iter().map(|l| (Refuse, format!("GET /c HTTP/1.1\r\nHost: gw.test\r\n{l}\r\n\r\n"))).collect();
    for lax in ["X-A: \u{e9}\u{80}", "X-A: a\u{7f}b", "X-A:", "X-A: \t", "X!#$%&'*+-.^_`|~9: y"] {
        cases.push((Either, format!("GET /c HTTP/1.1\r\nHost: gw.test\r\n{lax}\r\n\r\n")));
    }
    cases.push((Refuse, format!("POST /c HTTP/1.1\r\n\tContent-Length: 41\r\nHost: gw.test\r\n\r\n{INNER}")));
    cases.push((Refuse, format!("POST /c HTTP/1.1\r\n Host: gw.test\r\nContent-Length: 41\r\n\r\n{INNER}")));
    all(&cases);
}

#[test]
fn hosts() {
    let refuse = [
        "Host: gw.test\r\nHost: evil",
        "Host: gw.test\r\nHost: gw.test",
        "X: y",
        "Host: gw test",
        "Host: gw.test/x",
        "Host: u@gw.test",
        "Host: gw.test:80x",
        "Host: gw\u{ff}.test",
        "Host: gw.test#x",
        "Host: gw.test?x",
        "Host: gw.test\\x",
        "Host: [::1",
        "Host: ::1",
        "Host: gw.test:-1",
        "Host:\r\n gw.test",
        "Host : gw.test",
        "Host: gw.test\0",
        "Host: gw\u{7f}.test",
        "Host: gw.test,evil",
        "Host: <gw>",
        "Host: gw.test:80:80",
        "Host: gw.test\r\nhost: evil",
        "Host: gw.test\r\nX-A: b\rHost: evil",
    ];
    let mut cases: Vec<_> = refuse.iter().map(|h| (Refuse, format!("GET /c HTTP/1.1\r\n{h}\r\n\r\n"))).collect();
    for lax in ["gw.test:99999", "gw.test:", "GW.TEST", "gw.test.", "127.0.0.1:80", "[::1]:80"] {
        cases.push((Either, format!("GET /c HTTP/1.1\r\nHost: {lax}\r\n\r\n")));
    }
    cases.push((Refuse, "GET http://other.test/c HTTP/1.1\r\nHost: gw.test\r\n\r\n".to_owned()));
    cases.push((Refuse, "GET http://gw.test/c HTTP/1.1\r\n\r\n".to_owned()));
    cases.push((Either, "GET /c HTTP/1.1\r\nHost: gw.test\r\nConnection: host\r\n\r\n".to_owned()));
    cases.push((Either, "GET /c HTTP/1.1\r\nHost:\r\n\r\n".to_owned()));
    all(&cases);
}

#[test]
fn nothing_after_a_refused_or_closing_request_is_served() {
    all(&[
        (Refuse, format!("GET /c HTTP/1.1\r\nHost: gw.test\r\nBad Header: x\r\n\r\n{INNER}")),
        (Refuse, format!("GET /c HTTP/1.1\r\n\r\n{INNER}")),
        (Refuse, format!("GET /c HTTP/9.9\r\nHost: gw.test\r\n\r\n{INNER}")),
        (Forward, format!("GET /c HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n{INNER}")),
        (Forward, format!("GET /c HTTP/1.0\r\nHost: gw.test\r\n\r\n{INNER}")),
        (Forward, format!("GET /c HTTP/1.1\r\nHost: gw.test\r\nConnection: keep-alive, Close\r\n\r\n{INNER}")),
        (Either, chunked("0\r\n\r\n\0")),
    ]);
}

#[test]
fn every_cut_of_a_request_into_two_writes_reads_the_same() {
    let bench = Bench::new();
    let whole = bytes(&chunked("5;a=b\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"));
    for cut in 1..whole.len() {
        let mut client = bench.gateway.client();
        client.send(&whole[..cut]);
        std::thread::sleep(ms(2));
        client.send(&whole[cut..]);
        assert_eq!(client.response_to("POST").expect(200).text(), "path=/c", "cut at {cut}");
    }
    assert_eq!(bench.origin.faults(), Vec::<String>::new());
    assert!(bench.origin.requests().iter().all(|r| r.text() == "hello" && r.trailers.len() == 1));
}
