//! Request smuggling by lengths, codings and chunks: where a body ends is the same for us and for the origin.

mod support;

use support::smuggle::{Either, Forward, INNER, Refuse, all, chunked, post};

#[test]
fn content_lengths_that_disagree_or_are_no_number() {
    let refuse = [
        "Content-Length: 0\r\nContent-Length: 41\r\n",
        "Content-Length: 41\r\nContent-Length: 0\r\n",
        "Content-Length: \r\nContent-Length: 41\r\n",
        "Content-Length: 41\r\nX: y\r\ncontent-length: 40\r\n",
        "Content-Length: 41, 40\r\n",
        "Content-Length: ,41\r\n",
        "Content-Length: 41,\r\n",
        "Content-Length: -41\r\n",
        "Content-Length: +41\r\n",
        "Content-Length: 41e0\r\n",
        "Content-Length: 41.0\r\n",
        "Content-Length: 0x29\r\n",
        "Content-Length: 41Z\r\n",
        "Content-Length: Z41\r\n",
        "Content-Length: 4 1\r\n",
        "Content-Length: 4_1\r\n",
        "Content-Length: \"41\"\r\n",
        "Content-Length:\r\n",
        "Content-Length: \u{b2}\r\n",
        "Content-Length: 99999999999999999999999999\r\n",
        "Content-Length: 18446744073709551657\r\n",
        "Content-Length: 41\0\r\n",
        "Content-Length: 41\u{b}\r\n",
        "Content-Length:\u{c}41\r\n",
        "Content-Length: 41\r\n 0\r\n",
    ];
    let mut cases: Vec<_> = refuse.iter().map(|l| (Refuse, post(l, INNER))).collect();
    cases.push((Either, post("Content-Length: 41\r\nContent-Length: 41\r\n", INNER)));
    cases.push((Either, post("Content-Length: 41, 41\r\n", INNER)));
    cases.push((Either, post("Content-Length: 041\r\n", INNER)));
    all(&cases);
}

#[test]
fn transfer_codings_other_than_one_chunked() {
    let rest = format!("0\r\n\r\n{INNER}");
    let values = [
        "identity",
        "chunk",
        "xchunked",
        "chunkedx",
        "\"chunked\"",
        "'chunked'",
        "",
        "chunked, chunked",
        "chunked, identity",
        "identity, chunked",
        "chunked, gzip",
        "cow",
        "chunked;q=1",
        "\u{b}chunked",
        "chunked\u{b}",
        "chunked\0",
        "\u{c}chunked",
        "\u{1}chunked",
        "\u{7f}chunked",
        "\u{a0}chunked",
        "chunked\u{85}",
        "\u{212}chunked",
    ];
    let mut cases = Vec::new();
    for value in values.iter().filter(|v| v.chars().all(|c| u32::from(c) < 256)) {
        cases.push((Refuse, post(&format!("Content-Length: 46\r\nTransfer-Encoding: {value}\r\n"), &rest)));
        cases.push((Refuse, post(&format!("Transfer-Encoding: {value}\r\n"), &rest)));
    }
    for twice in ["cow", "identity", ""] {
        let lines = format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: {twice}\r\n");
        cases.push((Refuse, post(&lines, &rest)));
        let lines = format!("Transfer-Encoding: {twice}\r\nTransfer-Encoding: chunked\r\n");
        cases.push((Refuse, post(&lines, &rest)));
    }
    cases.push((Either, post("Transfer-Encoding: gzip, chunked\r\n", "5\r\nhello\r\n0\r\n\r\n")));
    cases.push((Either, post("Transfer-Encoding:\tchunked\r\n", "5\r\nhello\r\n0\r\n\r\n")));
    cases.push((Either, post("Transfer-Encoding: ,chunked\r\n", &rest)));
    cases.push((Either, post("Transfer-Encoding: chunked,\r\n", &rest)));
    cases.push((Refuse, post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", &rest)));
    all(&cases);
}

#[test]
fn length_and_chunked_together() {
    let both = "Content-Length: 46\r\nTransfer-Encoding: chunked\r\n";
    let swapped = "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n";
    all(&[
        (Refuse, post(both, &format!("0\r\n\r\n{INNER}"))),
        (Refuse, post(swapped, &format!("0\r\n\r\n{INNER}"))),
        (Refuse, post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n")),
        // A transfer coding in HTTP/1.0 is a fault of its own (RFC 9112 §6.1).
        (
            Refuse,
            format!(
                "POST /c HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{INNER}"
            ),
        ),
    ]);
}

#[test]
fn chunk_sizes_that_are_no_plain_hexadecimal() {
    let sizes = [
        "0x5",
        "+5",
        "-5",
        "-0x0",
        "0_5",
        "5these-bytes",
        "G",
        "5 5",
        "5,5",
        "\"5\"",
        "5.0",
        "10000000000000005",
        "fffffffffffffffff",
        "100000000000000000000000000000005",
        "5\0",
        "\u{b}5",
        "5\u{b}",
        "5\r",
        "",
        "\u{ff}5",
        "5\u{85}",
    ];
    let mut cases: Vec<_> = sizes.iter().map(|s| (Refuse, chunked(&format!("{s}\r\nhello\r\n0\r\n\r\n")))).collect();
    for lax in [" 5", "5 ", "5\t", "05", "0000000005", "5;a", "5;a=b", "5;a=\"x;y\"", "5 ;a = b"] {
        cases.push((Either, chunked(&format!("{lax}\r\nhello\r\n0\r\n\r\n"))));
    }
    cases.push((Either, chunked("5\r\nhello\r\n00000\r\n\r\n")));
    // Larger than any body limit, and it must not wrap to 5.
    cases.push((Refuse, chunked("100000005\r\nhello\r\n0\r\n\r\n")));
    all(&cases);
}

#[test]
fn chunk_extensions_hide_nothing() {
    let fouls = [
        "5;a=\0\r\nhello\r\n0\r\n\r\n".to_owned(),
        "5;a\nhello\r\n0\r\n\r\n".to_owned(),
        "5;a\rb\r\nhello\r\n0\r\n\r\n".to_owned(),
        "5;\nxx\r\n4c\r\n0\r\n\r\n".to_owned(),
        format!("5\r\r;ABCD\r\n34\r\nE\r\n0\r\n\r\n{INNER}"),
        format!("2;\n10\r\n02\r\n0\r\n\r\n{INNER}"),
        format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(200_000)),
    ];
    let mut cases: Vec<_> = fouls.into_iter().map(|f| (Refuse, chunked(&f))).collect();
    // Extensions are the sender's own and are not relayed, but they are no fault.
    cases.push((Either, chunked("1;a=1\r\nh\r\n4;b\r\nello\r\n0;c\r\n\r\n")));
    all(&cases);
}

#[test]
fn chunk_line_ends_are_crlf() {
    all(&[
        (Refuse, chunked("5\nhello\r\n0\r\n\r\n")),
        (Refuse, chunked("5\r\nhello\n0\r\n\r\n")),
        (Refuse, chunked("5\r\nhello\r\n0\n\r\n")),
        (Refuse, chunked("5\r\nhello\r\n0\n\n")),
        (Refuse, chunked("5\r\nhello0\r\n\r\n")),
        (Refuse, chunked("5\r\nhello\r\r\n0\r\n\r\n")),
        (Refuse, chunked("5\r\nhelloXX0\r\n\r\n")),
        (Refuse, chunked("5\rhello\r0\r\r")),
        (Refuse, chunked("\r\n5\r\nhello\r\n0\r\n\r\n")),
        (Refuse, chunked(&format!("0\r\n\r{INNER}"))),
        (Refuse, chunked("5\r\nhello\r\n0\r\nX: y\n\r\n")),
    ]);
}

#[test]
fn trailers_are_no_second_head() {
    let bad = [
        "Transfer-Encoding: chunked",
        "Content-Length: 41",
        "Host: evil",
        "GET /smuggled HTTP/1.1",
        "X\0: y",
        "X: a\0b",
        " folded: x",
        ": none",
        "X : y",
        "X: a\rb",
    ];
    let mut cases: Vec<_> = bad.iter().map(|t| (Either, chunked(&format!("5\r\nhello\r\n0\r\n{t}\r\n\r\n")))).collect();
    cases.push((Forward, chunked("5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n")));
    cases.push((Either, chunked("0\r\nX:GET /smuggled HTTP/1.1\r\n\r\n")));
    cases.push((Refuse, chunked(&format!("0\r\n{}\r\n", "X: y\r\n".repeat(20_000)))));
    all(&cases);
}

#[test]
fn bodies_of_methods_that_have_none() {
    let mut cases = Vec::new();
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "FROB"] {
        let head = format!("{method} /c HTTP/1.1\r\nHost: gw.test\r\n");
        cases.push((Either, format!("{head}Content-Length: 41\r\n\r\n{INNER}")));
        cases.push((Either, format!("{head}Transfer-Encoding: chunked\r\n\r\n29\r\n{INNER}\r\n0\r\n\r\n")));
    }
    cases.push((
        Either,
        format!("GET /c HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 41\r\n\r\n{INNER}"),
    ));
    cases.push((Either, post("Connection: content-length\r\nContent-Length: 41\r\n", INNER)));
    cases.push((
        Either,
        post("Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n", &format!("29\r\n{INNER}\r\n0\r\n\r\n")),
    ));
    // HEAD is read as if it were GET by the client here: only its head matters.
    cases.retain(|(_, raw)| !raw.starts_with("HEAD"));
    all(&cases);
}
