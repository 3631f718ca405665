//! Whatever the text, it is loaded or refused, on lines that exist; nothing panics.

use proptest::prelude::*;

use super::source;
use crate::{DEMO, Errors, INIT, Loaded, load, locate};

/// Pieces that get past the parser more often than noise does.
fn document_like() -> impl Strategy<Value = String> {
    let pieces = [
        "[cores]\n",
        "[cores.0]\n",
        "[listeners.a]\n",
        "[clusters.b]\n",
        "[[routes]]\n",
        "[log]\n",
        "count",
        "bind",
        "endpoints",
        "name",
        "path",
        "path_prefix",
        "path_regex",
        "queries",
        "cookies",
        "when",
        "hosts",
        "headers",
        "filters",
        "redirect",
        "respond",
        "methods",
        "trusted_proxies",
        "body_bytes_max",
        "header_timeout",
        " = ",
        "\n",
        "\"",
        "'",
        "[",
        "]",
        "{",
        "}",
        ", ",
        ":",
        "/",
        "-",
        "0",
        "9",
        "64KiB",
        "10s",
        "\"a\"",
        "\"/{id}\"",
        "'/v(?<a>[0-9]+)/.*'",
        "'header.a == \"b\" or not query.c'",
        "\":80\"",
        "\"0-7\"",
        "1.5",
        "true",
        "é",
        "\u{0}",
        "%",
        "*",
    ];
    proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..60).prop_map(|pieces| pieces.concat())
}

fn check_any(text: &str) -> Result<(), TestCaseError> {
    let source = source(text);
    match load(&source) {
        Ok(Loaded { snapshot, .. }) => prop_assert!(!snapshot.listeners.is_empty() && !snapshot.routes.is_empty()),
        Err(Errors(problems)) => {
            prop_assert!(!problems.is_empty());
            for problem in &problems {
                prop_assert!(!problem.to_string().contains('\n'), "{problem}");
                prop_assert!(problem.line <= text.lines().count() + 1);
                locate(&source, &problem.place);
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text_is_loaded_or_refused(text in ".{0,200}") {
        check_any(&text)?;
    }

    #[test]
    fn any_document_is_loaded_or_refused(text in document_like()) {
        check_any(&text)?;
    }

    /// One byte of a good file replaced, dropped or doubled.
    #[test]
    fn any_slip_is_loaded_or_refused(at in 0usize..4000, with in "[ -~\\n]{0,2}", demo in any::<bool>()) {
        let mut text = if demo { DEMO } else { INIT }.to_owned();
        let at = at % text.len();
        text.replace_range(at..=at, &with);
        check_any(&text)?;
    }

    #[test]
    fn any_place_is_found_or_not(place in "[a-z0-9.\\[\\]\"é]{0,40}") {
        locate(&source(DEMO), &place);
    }

    /// Every value of every key, replaced by something of any type.
    #[test]
    fn any_value_is_taken_or_refused(
        line in 0usize..200,
        value in prop_oneof![
            Just("{}".to_owned()), Just("[]".to_owned()), Just("true".to_owned()), any::<i64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_map(|n| format!("{n:?}")), ".{0,40}".prop_map(|text| format!("{text:?}")),
            "[0-9]{0,30}[a-zA-Z%/]{0,3}".prop_map(|text| format!("{text:?}")),
            "[/{}*a-z.%]{0,20}".prop_map(|text| format!("{text:?}")),
        ],
    ) {
        let keys: Vec<usize> = DEMO.lines().enumerate().filter(|(_, line)| line.contains(" = ")).map(|(n, _)| n).collect();
        let chosen = keys[line % keys.len()];
        let changed = DEMO.lines().enumerate().map(|(n, line)| match line.split_once(" = ") {
            Some((key, _)) if n == chosen => format!("{key} = {value}\n"),
            _ => format!("{line}\n"),
        });
        check_any(&changed.collect::<String>())?;
    }
}
