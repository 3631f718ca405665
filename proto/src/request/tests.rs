//! Limits, resuming and reuse; what heads mean is in the fixtures.

use super::*;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 1024, target_bytes_max: 100, fields_max: 4 };

/// What came of a head that is given byte by byte, and after how many bytes it was clear.
fn trickle(input: &[u8], limits: &HeadLimits) -> (Result<Progress, RequestError>, usize) {
    let mut head = RequestHead::new();
    for len in 0..=input.len() {
        let result = head.parse(&input[..len], limits);
        if result != Ok(Progress::Partial) {
            return (result, len);
        }
    }
    (Ok(Progress::Partial), input.len())
}

fn whole(input: &[u8], limits: &HeadLimits) -> Result<Progress, RequestError> {
    RequestHead::new().parse(input, limits)
}

#[test]
fn an_endless_target_is_414_at_its_limit() {
    let fits = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(99));
    assert_eq!(whole(fits.as_bytes(), &LIMITS), Ok(Progress::Complete));
    let long = format!("GET /{}", "a".repeat(100_000));
    assert_eq!(whole(long.as_bytes(), &LIMITS), Err(RequestError::TargetTooLong));
    assert_eq!(trickle(long.as_bytes(), &LIMITS), (Err(RequestError::TargetTooLong), "GET ".len() + 101));
    let limits = HeadLimits { target_bytes_max: 10_000, ..LIMITS };
    assert_eq!(whole(long.as_bytes(), &limits), Err(RequestError::TargetTooLong), "the head's limit comes first");
    assert_eq!(RequestError::TargetTooLong.status(), 414);
}

#[test]
fn an_endless_field_is_431_at_the_heads_limit() {
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(200_000));
    assert_eq!(whole(long.as_bytes(), &LIMITS), Err(RequestError::HeadTooLarge));
    assert_eq!(trickle(long.as_bytes(), &LIMITS), (Err(RequestError::HeadTooLarge), 1025));
    let limits = HeadLimits { head_bytes_max: usize::MAX, target_bytes_max: usize::MAX, fields_max: usize::MAX };
    assert_eq!(whole(long.as_bytes(), &limits), Err(RequestError::HeadTooLarge), "spans end at 64 KiB");
    assert_eq!(RequestError::HeadTooLarge.status(), 431);
}

#[test]
fn a_head_of_exactly_the_limit_is_complete() {
    let fields = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    let head = format!("{fields}{}\r\n\r\n", "a".repeat(1024 - fields.len() - 4));
    assert_eq!(head.len(), 1024);
    assert_eq!(whole(head.as_bytes(), &LIMITS), Ok(Progress::Complete));
    assert_eq!(whole((head.clone() + "body").as_bytes(), &LIMITS), Ok(Progress::Complete));
    assert_eq!(whole(head.replace("X:", "XX:").as_bytes(), &LIMITS), Err(RequestError::HeadTooLarge));
}

#[test]
fn fields_and_methods_are_counted() {
    let four = "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\n";
    assert_eq!(whole(format!("{four}\r\n").as_bytes(), &LIMITS), Ok(Progress::Complete));
    let error = RequestError::TooManyFields;
    assert_eq!(whole(format!("{four}D: 4\r\n").as_bytes(), &LIMITS), Err(error));
    assert_eq!(error.status(), 431);
    assert_eq!(trickle(&[b'A'; 50], &LIMITS), (Err(RequestError::MethodTooLong), METHOD_BYTES_MAX + 1));
    assert_eq!(RequestError::MethodTooLong.status(), 501);
}

/// An error shows as soon as its byte is there: a slow client is not waited for.
#[test]
fn errors_do_not_wait_for_the_end() {
    let cases: &[(&str, usize)] = &[
        ("\0 / HTTP/1.1\r\n", 1),
        ("GET /\x7f", 6),
        ("GET  /", 5),
        ("GET / http", 7),
        ("GET / HTTP/1.1 ", 15),
        ("GET / HTTP/2.0\r\n", 16),
        ("GET x HTTP/1.1\r\n", 16),
        ("GET / HTTP/1.1\r\n Host: a", 17),
        ("GET / HTTP/1.1\r\nHost: a\nb", 24),
        ("GET / HTTP/1.1\r\nHost: a b\r\nX", 27),
        ("GET / HTTP/1.1\r\nContent-Length: x\r\nX", 35),
    ];
    for (input, at) in cases {
        let (result, seen) = trickle(input.as_bytes(), &LIMITS);
        assert!(result.is_err(), "{input:?}");
        assert_eq!(seen, *at, "{input:?}");
    }
}

#[test]
fn a_head_is_reused_without_a_new_table() {
    let input = b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\n\r\n";
    let mut head = RequestHead::new();
    assert_eq!(head.parse(input, &LIMITS), Ok(Progress::Complete));
    let (capacity, place) = (head.fields.capacity(), head.fields.as_ptr());
    for _ in 0..100 {
        assert_eq!(head.parse(&input[..20], &LIMITS), Ok(Progress::Partial));
        assert_eq!(head.parse(input, &LIMITS), Ok(Progress::Complete));
        assert_eq!((head.fields.len(), head.fields.capacity()), (3, capacity));
        assert!(head.parse(b"\n", &LIMITS).is_err());
    }
    assert_eq!(head.parse(input, &LIMITS), Ok(Progress::Complete));
    assert_eq!(head.fields.as_ptr(), place);
    assert_eq!(head.find(Known::Host).map(|field| field.value.of(input)), Some(&b"a"[..]));
    assert_eq!(head.find(Known::Cookie), None);
}

#[test]
fn a_partial_head_is_forgotten_on_reset_and_when_the_buffer_shrinks() {
    let first = b"POST /abc HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n";
    let second = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for reset in [true, false] {
        let mut head = RequestHead::new();
        assert_eq!(head.parse(first, &LIMITS), Ok(Progress::Partial));
        if reset {
            head.reset();
        }
        assert_eq!(head.parse(second, &LIMITS), Ok(Progress::Complete));
        assert_eq!((head.method, head.body, head.fields.len()), (Method::Get, Body::None, 1));
    }
}

/// Work per byte does not grow with the head: twenty thousand bytes in single steps, far from quadratic.
#[test]
fn trickling_is_linear() {
    let limits = HeadLimits { head_bytes_max: 65_535, target_bytes_max: 100, fields_max: 10 };
    let mut head = RequestHead::new();
    let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    let input = format!("{start}{}", "a".repeat(20_000));
    for len in start.len()..input.len() {
        assert_eq!(head.parse(&input.as_bytes()[..len], &limits), Ok(Progress::Partial));
        assert_eq!(head.cursor.scanned, len, "every byte seen is done with");
    }
}

#[test]
fn errors_speak_in_sentences_and_stable_codes() {
    let errors = [
        RequestError::BadMethod,
        RequestError::MethodTooLong,
        RequestError::BadTarget,
        RequestError::TargetTooLong,
        RequestError::BadTargetForm,
        RequestError::BadVersion,
        RequestError::UnsupportedVersion,
        RequestError::HeadTooLarge,
        RequestError::TooManyFields,
        RequestError::Field(FieldError::BareLf),
        RequestError::Framing(FramingError::MissingHost),
    ];
    let mut codes: Vec<_> = errors.iter().map(RequestError::code).collect();
    for error in &errors {
        let text = error.to_string();
        assert!(text.ends_with('.') && text.starts_with(|first: char| first.is_uppercase()), "{text}");
        assert!(error.code().bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'));
    }
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), errors.len());
}
