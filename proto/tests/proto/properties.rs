//! What must hold for any input: heads and bodies do not depend on how they are cut, nothing panics, paths are stable
//! and agree with a slow, obvious model, and what we accept `httparse` accepts with the same parts.
//! `PROPTEST_CASES=20000` in front of a release run looks harder.

use proptest::prelude::*;
use proptest::sample::Index;
use ringway_proto::{
    CHUNK_END, Method, NormalPath, PathError, Progress, RequestHead, ResponseHead, Trailers, decode_segment, segments,
    write_chunk_head, write_last_chunk,
};

use crate::describe::{self, LIMITS};
use crate::{cases, model};

/// Bytes from the corner of the alphabet where parsers err.
fn odd_byte() -> impl Strategy<Value = u8> {
    prop_oneof![prop::sample::select(b" \t\r\n\0:;,=\"\\/%.?#0aZ-_\x7f\x80\xff".to_vec()), any::<u8>()]
}

/// Lines that are right, or nearly.
fn field_line() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        prop::sample::select(vec![
            "Host",
            "Content-Length",
            "Transfer-Encoding",
            "Connection",
            "Upgrade",
            "Expect",
            "TE",
            "X-Forwarded-For",
            "x_real_ip",
            "content_length",
            "Accept",
            "Keep-Alive",
            "X-Hop",
        ])
        .prop_map(str::to_owned),
        "[!#-'*+.0-9A-Z^_`a-z|~-]{1,20}",
    ];
    let value = prop_oneof![
        prop::sample::select(vec![
            "gw.test",
            "gw.test:80",
            "5",
            "0",
            "chunked",
            "gzip",
            "close",
            "keep-alive, x-hop",
            "upgrade",
            "websocket",
            "100-continue",
            "trailers",
            "",
            "5, 5",
        ])
        .prop_map(str::to_owned),
        "[ -~\\t]{0,40}",
    ];
    (name, prop::sample::select(vec![":", ": ", ":\t ", " :"]), value).prop_map(|(name, colon, value)| {
        // Mostly right: the odd colon is rare enough among the others.
        format!("{name}{colon}{value}\r\n")
    })
}

fn with_first_line(line: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::collection::vec(field_line(), 0..6);
    let host = prop::sample::select(vec!["Host: gw.test\r\n", "Host: gw.test\r\n", ""]);
    (line, host, lines).prop_map(|(line, host, lines)| format!("{line}{host}{}\r\nrest", lines.concat()).into_bytes())
}

fn request_bytes() -> impl Strategy<Value = Vec<u8>> {
    let method = prop::sample::select(vec!["GET", "HEAD", "POST", "OPTIONS", "CONNECT", "get", "\r\nGET"]);
    let target = prop_oneof![
        prop::sample::select(vec!["/", "*", "gw.test:80", "http://gw.test/a?b", "https://gw.test:80", "/a?b"])
            .prop_map(str::to_owned),
        "/[!-~]{0,30}",
    ];
    let version = prop::sample::select(vec!["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.12"]);
    let line =
        (method, target, version).prop_map(|(method, target, version)| format!("{method} {target} {version}\r\n"));
    mutated(with_first_line(line))
}

fn response_bytes() -> impl Strategy<Value = Vec<u8>> {
    let version = prop::sample::select(vec!["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2"]);
    let status = prop_oneof![Just(200u16), Just(204), Just(304), Just(101), Just(103), 0u16..1000];
    let reason = prop::sample::select(vec![" OK", " ", "", "  x\ty"]);
    let line =
        (version, status, reason).prop_map(|(version, status, reason)| format!("{version} {status}{reason}\r\n"));
    mutated(with_first_line(line))
}

fn chunked_bytes() -> impl Strategy<Value = Vec<u8>> {
    let data = prop::collection::vec(any::<u8>(), 1..40);
    let chunk = (data, "(;[a-z]{1,3}(=[a-z]{1,3}|=\"[ -!#-\\[\\]-~]{0,5}\")?)?").prop_map(|(data, extension)| {
        let mut out = format!("{:x}{extension}\r\n", data.len()).into_bytes();
        out.extend_from_slice(&data);
        out.extend_from_slice(CHUNK_END);
        out
    });
    let trailers = prop::collection::vec(field_line(), 0..3);
    let body = (prop::collection::vec(chunk, 0..5), trailers).prop_map(|(chunks, trailers)| {
        let mut out = chunks.concat();
        out.extend_from_slice(b"0\r\n");
        out.extend_from_slice(trailers.concat().as_bytes());
        out.extend_from_slice(b"\r\nrest");
        out
    });
    mutated(body)
}

/// As it is, or with a byte or two replaced, put in or taken out.
fn mutated(bytes: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<Index>(), odd_byte(), 0..3);
    (bytes, prop::collection::vec(change, 0..3)).prop_map(|(mut bytes, changes)| {
        for (at, byte, kind) in changes {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

/// Ascending lengths that end with all of it.
fn cuts(at: &[Index], len: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = at.iter().map(|at| at.index(len + 1)).collect();
    cuts.push(len);
    cuts.sort_unstable();
    cuts
}

fn pieces() -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 0..8)
}

fn raw_path() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "/",
        "/",
        "//",
        ".",
        "..",
        "/..",
        "/../",
        "/./",
        "a",
        "b",
        "admin",
        "A-z_~",
        ";",
        ";x=y",
        "\\",
        "{",
        "%2f",
        "%2F",
        "%5c",
        "%2e",
        "%2E%2e",
        "%41",
        "%c3%a9",
        "%25",
        "%252e",
        "%252f",
        "%255c",
        "%3b",
        "%253B",
        "%2561",
        "%00",
        "%2500",
        "%c0%af",
        "%e0%80%80",
        "%zz",
        "%",
        "%0d%0a",
        "%25252e",
        "%20",
        "é",
        "x",
    ]);
    let pieces = prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()).into_bytes());
    prop_oneof![4 => pieces, 1 => "/[!-~]{0,20}".prop_map(String::into_bytes), 1 => prop::collection::vec(odd_byte(), 0..20)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_request_does_not_depend_on_its_cuts(input in request_bytes(), at in pieces()) {
        let whole = describe::request(&input, &[input.len()]);
        prop_assert_eq!(describe::request(&input, &cuts(&at, input.len())), whole);
    }

    #[test]
    fn an_answer_does_not_depend_on_its_cuts(input in response_bytes(), at in pieces()) {
        let whole = describe::response(&input, &[input.len()], Method::Get);
        prop_assert_eq!(describe::response(&input, &cuts(&at, input.len()), Method::Get), whole);
    }

    #[test]
    fn a_chunked_body_does_not_depend_on_its_cuts(input in chunked_bytes(), at in pieces()) {
        let whole = describe::chunked(&input, &[input.len()]);
        let cut = describe::chunked(&input, &cuts(&at, input.len()));
        prop_assert_eq!(cut, whole);
    }

    #[test]
    fn no_bytes_panic(input in prop::collection::vec(odd_byte(), 0..80), at in pieces()) {
        let cuts = cuts(&at, input.len());
        describe::request(&input, &cuts);
        describe::response(&input, &cuts, Method::Head);
        describe::chunked(&input, &cuts);
        describe::path(&input);
    }

    #[test]
    fn what_is_written_is_read_again(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..5)) {
        let mut out = Vec::new();
        for chunk in &chunks {
            write_chunk_head(&mut out, chunk.len());
            out.extend_from_slice(chunk);
            out.extend_from_slice(CHUNK_END);
        }
        write_last_chunk(&mut out, Some(&Trailers::default()));
        let want = format!("ok data={} trailers= rest=", cases::escape(&chunks.concat()));
        prop_assert_eq!(describe::chunked(&out, &[out.len()]), want);
    }

    /// Whatever we accept, `httparse` accepts with the same parts; it is laxer, so the other way does not hold.
    #[test]
    fn httparse_agrees_on_requests(input in request_bytes()) {
        let mut head = RequestHead::new();
        if head.parse(&input, &LIMITS) != Ok(Progress::Complete) {
            return Ok(());
        }
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut theirs = httparse::Request::new(&mut fields);
        prop_assert_eq!(theirs.parse(&input), Ok(httparse::Status::Complete(head.head_len)));
        prop_assert_eq!(theirs.method.map(str::as_bytes), Some(head.method_span.of(&input)));
        prop_assert_eq!(theirs.path.map(str::as_bytes), Some(head.target.whole.of(&input)));
        prop_assert_eq!(theirs.version, Some(head.version as u8));
        same_fields(&input, &head.fields, theirs.headers)?;
    }

    #[test]
    fn httparse_agrees_on_answers(input in response_bytes()) {
        let mut head = ResponseHead::new();
        if head.parse(&input, &LIMITS, Method::Get) != Ok(Progress::Complete) {
            return Ok(());
        }
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut theirs = httparse::Response::new(&mut fields);
        prop_assert_eq!(theirs.parse(&input), Ok(httparse::Status::Complete(head.head_len)));
        prop_assert_eq!(theirs.code, Some(head.status));
        same_fields(&input, &head.fields, theirs.headers)?;
    }

    #[test]
    fn a_normal_path_is_stable_and_free_of_dots(raw in raw_path()) {
        let mut normal = NormalPath::new();
        if normal.set(&raw).is_err() {
            return Ok(());
        }
        let (bytes, ambiguous) = (normal.bytes.clone(), normal.ambiguous);
        let readings: Vec<Vec<u8>> = normal.readings().map(<[u8]>::to_vec).collect();
        prop_assert!(readings.len() <= 16 && (ambiguous || readings.is_empty()));
        for path in readings.iter().chain([&bytes]) {
            prop_assert!(path.first() == Some(&b'/') && path.iter().all(u8::is_ascii_graphic));
            prop_assert!(!path.windows(2).any(|two| two == b"//"));
            prop_assert!(segments(path).all(|segment| segment != b"." && segment != b".."));
        }
        prop_assert_eq!(normal.set(&bytes), Ok(()));
        prop_assert_eq!(&normal.bytes, &bytes);
        prop_assert_eq!(normal.ambiguous, ambiguous);
        prop_assert!(normal.readings().eq(readings.iter().map(Vec::as_slice)));
    }

    #[test]
    fn the_model_agrees(raw in raw_path()) {
        let mut normal = NormalPath::new();
        let ours = normal.set(&raw).map(|()| cases::escape(&normal.bytes));
        match (ours, model::normalise(&raw)) {
            // The model knows one path only, not what the readings of it lead to.
            (Err(PathError::TooAmbiguous), Ok(_)) => {}
            (Err(PathError::AboveRoot | PathError::Nul | PathError::Overlong), Ok(path)) => {
                prop_assert!(model::is_doubtful(&path), "{path} was refused");
            }
            (ours, theirs) => prop_assert_eq!(ours.map_err(|error| error.code().to_owned()), theirs),
        }
    }

    /// An origin that decodes everything once, takes `\` for `/`, cuts parameters off and forgives `..` above the root
    /// sees the path or one of its readings; one that decodes twice does so, too.
    #[test]
    fn a_lax_origin_sees_one_of_the_readings(raw in raw_path(), times in 1..=2usize) {
        let mut normal = NormalPath::new();
        if normal.set(&raw).is_err() {
            return Ok(());
        }
        let seen = model::lax_origin(&normal.bytes, times);
        let readings = normal.readings().chain([&normal.bytes[..]]);
        let readings: Vec<Vec<u8>> = readings.flat_map(|reading| [1, 2].map(|times| decoded(reading, times))).collect();
        prop_assert!(readings.contains(&seen), "{} not among {:?}", cases::escape(&seen), readings);
    }
}

/// A reading decoded, a last slash dropped: what it means to a lax origin.
fn decoded(path: &[u8], times: usize) -> Vec<u8> {
    let mut out = path.to_vec();
    for _ in 0..times {
        let before = std::mem::take(&mut out);
        decode_segment(&before, &mut out);
    }
    model::without_last_slash(out)
}

fn same_fields(
    input: &[u8],
    ours: &[ringway_proto::Field],
    theirs: &[httparse::Header<'_>],
) -> Result<(), TestCaseError> {
    prop_assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        prop_assert_eq!(ours.name.of(input), theirs.name.as_bytes());
        prop_assert_eq!(ours.value.of(input), theirs.value);
    }
    Ok(())
}
