//! Bounds and writing; bodies of every kind are in the fixtures.

use super::*;

/// Decodes in pieces of `piece` bytes; the data, and how many bytes were used.
fn decode(input: &[u8], piece: usize) -> Result<(Vec<u8>, usize, Trailers), ChunkedError> {
    let mut decoder = ChunkedDecoder::new();
    let mut data = Vec::new();
    let (mut at, mut end) = (0, 0);
    loop {
        let (used, step) = decoder.step(&input[at..end])?;
        match step {
            Step::Data(range) => data.extend_from_slice(&input[at..end][range]),
            Step::End => return Ok((data, at + used, std::mem::take(decoder.trailers()))),
            Step::NeedMore if end == input.len() => return Ok((data, at + used, Trailers::default())),
            Step::NeedMore => {
                assert_eq!(at + used, end, "all is consumed");
                end = input.len().min(end + piece);
            }
        }
        at += used;
    }
}

fn error(input: &[u8]) -> ChunkedError {
    let whole = decode(input, usize::MAX >> 1).expect_err("must be refused");
    assert_eq!(decode(input, 1).expect_err("must be refused"), whole);
    whole
}

#[test]
fn extensions_are_bounded_per_line_and_per_body() {
    let line = |bytes: usize| format!("1;{}\r\nx\r\n", "a".repeat(bytes));
    assert!(decode(line(4000).as_bytes(), 100).is_ok());
    assert_eq!(error(line(4096).as_bytes()), ChunkedError::ExtensionsTooLarge);
    assert!(decode(line(4000).repeat(16).as_bytes(), 100).is_ok());
    assert_eq!(error(line(4000).repeat(17).as_bytes()), ChunkedError::ExtensionsTooLarge);
}

#[test]
fn trailers_are_bounded_kept_or_dropped() {
    let body = |fields: String| format!("0\r\n{fields}\r\n");
    assert_eq!(error(body(format!("X: {}\r\n", "a".repeat(8200))).as_bytes()), ChunkedError::TrailersTooLarge);
    assert_eq!(error(body("X: a\r\n".repeat(65)).as_bytes()), ChunkedError::TooManyTrailers);
    assert_eq!(error(body("Cookie: a\r\n".repeat(65)).as_bytes()), ChunkedError::TooManyTrailers);
    assert_eq!(
        error(body(format!("Cookie: {}\r\n", "a".repeat(1000)).repeat(9)).as_bytes()),
        ChunkedError::TrailersTooLarge
    );
    assert!(decode(body("X: a\r\n".repeat(64)).as_bytes(), 7).is_ok());
}

#[test]
fn trailer_spans_count_from_the_kept_lines() {
    let input = b"0\r\nA: 1\r\nCookie: c\r\nEtag:  2 \r\nx_real_ip: 3\r\ngrpc-status: 0\r\n\r\n";
    for piece in [1, 5, 100] {
        let (_, used, trailers) = decode(input, piece).expect("valid");
        assert_eq!(used, input.len());
        assert_eq!(trailers.wire(), b"A: 1\r\nEtag:  2 \r\ngrpc-status: 0\r\n");
        let pairs: Vec<_> =
            trailers.fields().iter().map(|f| (f.name.of(trailers.wire()), f.value.of(trailers.wire()))).collect();
        let want: [(&[u8], &[u8]); 3] = [(b"A", b"1"), (b"Etag", b"2"), (b"grpc-status", b"0")];
        assert_eq!(pairs, want);
        let mut out = Vec::new();
        write_last_chunk(&mut out, Some(&trailers));
        assert_eq!(out, b"0\r\nA: 1\r\nEtag:  2 \r\ngrpc-status: 0\r\n\r\n");
    }
}

#[test]
fn a_body_without_trailers_holds_no_memory() {
    for piece in [1, 2, 3, 100] {
        let (data, _, trailers) = decode(b"5\r\nhello\r\n0\r\n\r\n", piece).expect("valid");
        assert_eq!(data, b"hello");
        assert_eq!((trailers.bytes.capacity(), trailers.fields.capacity()), (0, 0));
    }
}

#[test]
fn a_bare_cr_in_the_place_of_the_end_is_seen_at_once() {
    assert_eq!(error(b"0\r\n\rX"), ChunkedError::Trailer(FieldError::BareCr));
    assert_eq!(error(b"0\r\nA: 1\r\n\rX"), ChunkedError::Trailer(FieldError::BareCr));
}

#[test]
fn what_follows_the_end_is_left_alone() {
    let mut decoder = ChunkedDecoder::new();
    assert_eq!(decoder.step(b"0\r\n\r\nGET"), Ok((5, Step::End)));
    assert_eq!(decoder.step(b"GET"), Ok((0, Step::End)));
    assert_eq!(decoder.step(b""), Ok((0, Step::End)));
}

#[test]
fn sizes_use_all_64_bits_and_no_more() {
    let mut decoder = ChunkedDecoder::new();
    assert_eq!(decoder.step(b"ffffffffffffffff\r\nab"), Ok((20, Step::Data(18..20))));
    assert_eq!(decoder.left, u64::MAX - 2);
    assert_eq!(error(b"10000000000000000\r\n"), ChunkedError::SizeTooLarge);
    assert_eq!(error(b"00000000000000005\r\n"), ChunkedError::SizeTooLarge);
}

#[test]
fn chunk_heads_are_hexadecimal() {
    for len in [1, 9, 15, 16, 0x1a, 255, 4096, 0xdead_beef, usize::MAX] {
        let mut out = Vec::new();
        write_chunk_head(&mut out, len);
        assert_eq!(out, format!("{len:x}\r\n").as_bytes());
    }
    let mut out = Vec::new();
    write_last_chunk(&mut out, None);
    assert_eq!(out, LAST_CHUNK);
}

#[test]
fn trailers_are_dropped_by_name() {
    let mut decoder = ChunkedDecoder::new();
    let mut input: &[u8] = b"0\r\nX-User: root\r\nX-Sum: 42\r\nx_user: a\r\nX-More: b \r\nX-USER: c\r\n\r\n";
    while decoder.step(input).map(|(used, step)| (input = &input[used..], step)).unwrap().1 != Step::End {}
    let mut trailers = std::mem::take(decoder.trailers());
    trailers.drop_fields(|name| name == b"none");
    assert_eq!(trailers.fields().len(), 5);
    trailers.drop_fields(|name| name.eq_ignore_ascii_case(b"x-user") || name == b"x_user");
    assert_eq!(trailers.wire(), b"X-Sum: 42\r\nX-More: b \r\n");
    let values: Vec<&[u8]> = trailers.fields().iter().map(|field| field.value.of(trailers.wire())).collect();
    assert_eq!(values, [&b"42"[..], b"b"]);
    trailers.drop_fields(|_| true);
    assert!(trailers.is_empty() && trailers.wire().is_empty());
}
