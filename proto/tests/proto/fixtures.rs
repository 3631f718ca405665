//! Every fixture, given whole, byte by byte and with bytes behind it: each time the same must come out.

use ringway_proto::Method;

use crate::cases::{self, Case, escape, read};
use crate::describe;

/// Compares one file's cases with what `describe` makes of them, and shows all that differ.
fn check(file: &str, describe: impl Fn(&Case, &[usize]) -> String) {
    let mut wrong = String::new();
    for case in read(file) {
        let whole = describe(&case, &[case.input.len()]);
        if whole != case.want {
            wrong += &format!("\n== {}\n   want {}\n    got {whole}\n", case.name, case.want);
        }
        let single: Vec<usize> = (0..=case.input.len()).collect();
        let trickled = describe(&case, &single);
        if trickled != whole {
            wrong += &format!("\n== {} (byte by byte)\n   want {whole}\n    got {trickled}\n", case.name);
        }
    }
    assert!(wrong.is_empty(), "{file}:{wrong}");
}

#[test]
fn requests_that_are_fine() {
    check("request-ok.txt", |case, cuts| describe::request(&case.input, cuts));
}

#[test]
fn requests_that_are_refused() {
    check("request-bad.txt", |case, cuts| describe::request(&case.input, cuts));
}

#[test]
fn a_refusal_does_not_depend_on_what_follows() {
    for case in read("request-bad.txt") {
        let mut longer = case.input.clone();
        longer.extend_from_slice(b"GET /smuggled HTTP/1.1\r\nHost: gw.test\r\n\r\n");
        assert_eq!(describe::request(&longer, &[longer.len()]), case.want, "{}", case.name);
    }
}

/// `HEAD ...` as a section's name: the answer to a HEAD request.
fn method(case: &Case) -> Method {
    Method::of(case.name.split(' ').next().unwrap_or_default().as_bytes())
}

#[test]
fn answers_that_are_fine() {
    check("response-ok.txt", |case, cuts| describe::response(&case.input, cuts, method(case)));
}

#[test]
fn answers_that_are_refused() {
    check("response-bad.txt", |case, cuts| describe::response(&case.input, cuts, method(case)));
}

#[test]
fn chunked_bodies_that_are_fine() {
    check("chunked-ok.txt", |case, cuts| describe::chunked(&case.input, cuts));
}

#[test]
fn chunked_bodies_that_are_refused() {
    check("chunked-bad.txt", |case, cuts| describe::chunked(&case.input, cuts));
}

#[test]
fn replies_that_are_fine() {
    check("resp-ok.txt", |case, cuts| describe::resp(&case.input, cuts));
}

#[test]
fn replies_that_are_refused() {
    check("resp-bad.txt", |case, cuts| describe::resp(&case.input, cuts));
}

/// `raw => normal ~ reading ~ reading` or `raw => error code`, one on each line.
#[test]
fn paths() {
    for (raw, want) in cases::paths() {
        assert_eq!(describe::path(&raw), want, "{}", escape(&raw));
    }
}
