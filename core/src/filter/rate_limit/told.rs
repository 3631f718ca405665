//! What clients are told of a limit: the three families of header fields that are in use.

use std::fmt::Write;

use serde::Deserialize;

use crate::exchange::{EditValue, HeaderEdit, HeaderEdits};
use crate::mesh::budget::Standing;

/// Numbers whose text is made ahead: saying them allocates nothing.
const MADE: usize = 10_000;
const DIGITS: usize = 4;
const NS: u64 = 1_000_000_000;

/// How clients are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Headers {
    Draft10,
    #[default]
    Draft6,
    X,
    Off,
}

/// Names of one family of single values.
struct Names {
    limit: &'static str,
    remaining: &'static str,
    reset: &'static str,
}

const DRAFT6: Names = Names { limit: "ratelimit-limit", remaining: "ratelimit-remaining", reset: "ratelimit-reset" };
const X: Names = Names { limit: "x-ratelimit-limit", remaining: "x-ratelimit-remaining", reset: "x-ratelimit-reset" };

impl Headers {
    /// `policy`: the member of `RateLimit-Policy`, made ahead.
    pub fn tell<'p>(self, answer: &mut HeaderEdits<'p>, name: &str, policy: &'p str, standing: &Standing) {
        match self {
            Headers::Off => {}
            Headers::Draft6 => tell_single(answer, &DRAFT6, standing),
            Headers::X => tell_single(answer, &X, standing),
            // Lists may stand in several lines (RFC 9651 section 3.1): each rule adds its own.
            Headers::Draft10 => {
                answer.push(HeaderEdit::Add("ratelimit-policy", policy.into()));
                let (left, reset_s) = (standing.left, standing.reset_ns.div_ceil(NS));
                answer.push(HeaderEdit::Add("ratelimit", format!("\"{name}\";r={left};t={reset_s}").into()));
            }
        }
    }
}

/// `"api";q=200;w=1`: so many requests in so many seconds. Names have nothing to escape.
pub fn policy(name: &str, most: u64, window_ns: Option<u64>) -> String {
    let mut text = format!("\"{name}\";q={most}");
    if let Some(ns) = window_ns {
        // Writing to a String cannot fail.
        let _ = write!(text, ";w={}", ns.div_ceil(NS).max(1));
    }
    text
}

/// Of several rules, the one that leaves least is told.
fn tell_single(answer: &mut HeaderEdits<'_>, names: &Names, standing: &Standing) {
    let told = answer.replacement(names.remaining).and_then(|told| told.parse::<u64>().ok());
    if told.is_some_and(|told| told <= standing.left) {
        return;
    }
    answer.replace(names.limit, decimal(standing.most));
    answer.replace(names.remaining, decimal(standing.left));
    answer.replace(names.reset, decimal(standing.reset_ns.div_ceil(NS)));
}

fn decimal(number: u64) -> EditValue<'static> {
    match made(number) {
        Some(text) => EditValue::Plan(text),
        None => number.to_string().into(),
    }
}

/// `0000` to `9999`.
static TEXTS: [[u8; DIGITS]; MADE] = {
    let mut texts = [[b'0'; DIGITS]; MADE];
    let mut number = 0;
    while number < MADE {
        let (mut rest, mut at) = (number, DIGITS);
        while rest > 0 {
            at -= 1;
            texts[number][at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        number += 1;
    }
    texts
};

fn made(number: u64) -> Option<&'static str> {
    let text = TEXTS.get(usize::try_from(number).ok()?)?;
    let zeros = match number {
        0..10 => 3,
        10..100 => 2,
        100..1000 => 1,
        _ => 0,
    };
    str::from_utf8(&text[zeros..]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_numbers() {
        for number in (0..MADE as u64 + 2).chain([u64::MAX]) {
            assert_eq!(&*decimal(number), number.to_string());
        }
        assert!(matches!(decimal(9999), EditValue::Plan(_)) && matches!(decimal(10_000), EditValue::Own(_)));
    }

    fn told(headers: Headers, rules: &[(&'static str, u64, u64)]) -> Vec<String> {
        let policies: Vec<String> = rules.iter().map(|(name, most, _)| policy(name, *most, Some(1))).collect();
        let mut answer = HeaderEdits::default();
        for ((name, most, left), policy) in std::iter::zip(rules, &policies) {
            headers.tell(&mut answer, name, policy, &Standing { most: *most, left: *left, reset_ns: NS + 1 });
        }
        answer.written().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    #[test]
    fn each_family_is_as_it_is_known() {
        let one = [("api", 200, 12)];
        assert_eq!(
            told(Headers::Draft10, &one),
            ["ratelimit-policy: \"api\";q=200;w=1", "ratelimit: \"api\";r=12;t=2"]
        );
        assert_eq!(
            told(Headers::Draft6, &one),
            ["ratelimit-limit: 200", "ratelimit-remaining: 12", "ratelimit-reset: 2"]
        );
        assert_eq!(
            told(Headers::X, &one),
            ["x-ratelimit-limit: 200", "x-ratelimit-remaining: 12", "x-ratelimit-reset: 2"]
        );
        assert!(told(Headers::Off, &one).is_empty());
    }

    #[test]
    fn of_several_the_tightest_is_told_or_all() {
        let two = [("a", 100, 50), ("b", 10, 3), ("c", 7, 4)];
        let single = ["ratelimit-limit: 10", "ratelimit-remaining: 3", "ratelimit-reset: 2"];
        assert_eq!(told(Headers::Draft6, &two), single);
        assert_eq!(told(Headers::Draft10, &two).len(), 6);
    }
}
