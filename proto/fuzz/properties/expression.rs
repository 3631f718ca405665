//! What holds of any text as a condition of `when`: no panic, bounded depth, and what is shown of one that is taken is read
//! as the same. Run by the fuzzer and, on texts that are nearly conditions, by the tests of config.

use ringway_config::snapshot::Condition;

/// The language allows 16 of parentheses and `not`; within each there may be an `or` of `and`s.
const DEPTH_MAX: usize = 2 * 17 + 1;
const BYTES_MAX: usize = 4096;

pub fn check(text: &str) {
    let Ok(read) = text.parse::<Condition>() else { return };
    assert!(text.len() <= BYTES_MAX && depth(&read) <= DEPTH_MAX);
    let shown = read.to_string();
    match shown.parse::<Condition>() {
        Ok(again) => {
            assert_eq!(again, read, "{text:?} is shown as {shown:?}");
            assert_eq!(again.to_string(), shown);
        }
        // Names and lists in brackets and quotes take more room than they were written with.
        Err(fault) => assert!(shown.len() > BYTES_MAX, "{text:?} is shown as {shown:?}: {fault}"),
    }
    assert!(read.follows_from(&read) && read.weight() <= 64);
}

fn depth(condition: &Condition) -> usize {
    match condition {
        Condition::Is(..) => 1,
        Condition::Not(inner) => 1 + depth(inner),
        Condition::All(parts) | Condition::Any(parts) => 1 + parts.iter().map(depth).max().unwrap_or(0),
    }
}
