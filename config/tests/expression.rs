//! What the fuzzer holds against conditions of `when`, here with texts that are nearly right, so that it is known without a
//! fuzzer too.

use proptest::prelude::*;

#[path = "../../proto/fuzz/properties/expression.rs"]
mod held;

fn when_like() -> impl Strategy<Value = String> {
    let pieces = [
        "header.a ",
        "query.b ",
        "cookie[\"c\"] ",
        "method ",
        "path ",
        "host ",
        "client_ip ",
        "and ",
        "or ",
        "not ",
        "(",
        ") ",
        "== ",
        "!= ",
        "in ",
        "matches ",
        "contains ",
        "\"x\" ",
        "'/y' ",
        "\"GET\" ",
        "\"10.0.0.0/8\" ",
        "[",
        "] ",
        ", ",
        "é",
        "\"",
        "=",
        ".",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..20).prop_map(|pieces| pieces.concat())
}

/// Tests joined in any way, all of them well formed.
fn when() -> impl Strategy<Value = String> {
    let tests = [
        "header.a",
        "header.a == \"x\"",
        "cookie[\"c d\"] != 'y'",
        "query.b in [\"x\", 'y']",
        "path matches \"/v\\d+\"",
        "host ends_with \".test\"",
        "client_ip in \"10.0.0.0/8\"",
        "method != \"GET\"",
    ];
    let leaf = prop::sample::select(tests.to_vec()).prop_map(str::to_owned);
    leaf.prop_recursive(6, 24, 4, |inner| {
        prop_oneof![
            (prop::collection::vec(inner.clone(), 2..4), prop::sample::select(vec![" and ", " or "]))
                .prop_map(|(parts, by)| parts.join(by)),
            inner.clone().prop_map(|inner| format!("not {inner}")),
            inner.prop_map(|inner| format!("({inner})")),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in prop_oneof![3 => when_like(), 3 => when(), 1 => ".{0,60}"]) {
        held::check(&text);
    }
}

#[test]
fn the_seeds_of_the_fuzzer_are_taken() {
    let text = include_str!("../../proto/tests/fixtures/expressions.txt");
    for line in text.lines().filter(|line| !line.starts_with("# ")) {
        held::check(line);
        assert!(line.parse::<ringway_config::snapshot::Condition>().is_ok(), "{line}");
    }
}
