//! What no compiler keeps: import direction, length of functions and files, words that do not belong, `unsafe` with its
//! proof. A room that is too long today is listed in `tidy.toml` with its length: it may shrink, never grow.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_CHARS_MAX: usize = 130;

/// Words that say less than the glossary's, and marks of what is not finished.
const BANNED: [&str; 10] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("#[ig", "nore"),
    concat!("mod ut", "il"),
    concat!("mod hel", "per"),
    concat!("mod com", "mon"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn sources(under: &str) -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut open = vec![root.join(under)];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no sources under {under}");
    found
}

fn shipped() -> Vec<(String, String)> {
    ["core/src", "core/model/src", "proto/src", "config/src", "perf/src"]
        .iter()
        .flat_map(|under| sources(under))
        .collect()
}

/// The code before the tests at a file's foot.
fn without_tests(text: &str) -> &str {
    let end = text
        .find("\n#[cfg(test)]\nmod tests {")
        .or_else(|| text.find("\n#[cfg(all(test, not(ringway_loom)))]\nmod tests {"));
    &text[..end.unwrap_or(text.len())]
}

fn is_test_file(name: &str) -> bool {
    name.ends_with("/tests.rs") || name.contains("/tests/")
}

#[test]
fn a_module_imports_only_from_below() {
    let lib = fs::read_to_string(root().join("core/src/lib.rs")).unwrap();
    let order: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.split(';').next()).collect();
    let place = |module: &str| order.iter().position(|known| *known == module);
    let mut wrong = Vec::new();
    for (name, text) in sources("core/src") {
        let rest = name.strip_prefix("core/src/").unwrap();
        let module = rest.split(['/', '.']).next().unwrap();
        let Some(own) = place(module) else { continue };
        for (number, line) in without_tests(&text).lines().enumerate() {
            for part in line.split("crate::").skip(1).filter(|_| !line.trim_start().starts_with("//")) {
                let used = part.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                if place(used).is_some_and(|there| there < own) {
                    wrong.push(format!("{name}:{}: {module} imports {used}, which stands above it", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_and_functions_stay_short() {
    let listed: BTreeMap<String, usize> = fs::read_to_string(root().join("core/tests/tidy.toml"))
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, length)| (name.trim_matches('"').to_string(), length.parse().unwrap()))
        .collect();
    let mut wrong = Vec::new();
    let mut seen = BTreeMap::new();
    for (name, text) in shipped().into_iter().filter(|(name, _)| !is_test_file(name)) {
        let code = without_tests(&text);
        seen.insert(name.clone(), (code.lines().count(), FILE_LINES_MAX));
        for (function, length) in functions(code) {
            seen.insert(format!("{name}:{function}"), (length, FUNCTION_LINES_MAX));
        }
    }
    for (name, (length, max)) in &seen {
        match listed.get(name) {
            Some(allowed) if length > allowed => wrong.push(format!("{name}: {length} lines, was {allowed}")),
            Some(allowed) if length < allowed => {
                wrong.push(format!("{name}: {length} lines, down from {allowed}: write it into tidy.toml"));
            }
            None if length > max => wrong.push(format!("{name}: {length} lines, at most {max}")),
            _ => {}
        }
    }
    wrong
        .extend(listed.keys().filter(|name| !seen.contains_key(*name)).map(|name| format!("{name}: listed, but gone")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Functions by name with their length, by indentation, which rustfmt guarantees.
fn functions(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(String, usize, usize)> = None;
    for (number, line) in code.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if let Some((name, start, depth)) = &open
            && indent == *depth
            && line.trim_start().starts_with('}')
        {
            found.push((name.clone(), number + 1 - start));
            open = None;
        }
        if open.is_none()
            && let Some(at) = line.find("fn ")
            && line[..at]
                .trim_start()
                .split(' ')
                .all(|word| word.is_empty() || word.starts_with("pub") || ["async", "const", "unsafe"].contains(&word))
            && !line.trim_end().ends_with(';')
        {
            let name = line[at + 3..].split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            if !line.trim_end().ends_with('}') {
                open = Some((name.to_string(), number, indent));
            }
        }
    }
    found
}

#[test]
fn words_and_marks_that_do_not_belong_are_absent() {
    let mut wrong = Vec::new();
    let tests = sources("core/tests").into_iter().filter(|(name, _)| !name.ends_with("tidy.rs"));
    for (name, text) in shipped().into_iter().chain(tests) {
        for (number, line) in text.lines().enumerate() {
            let place = format!("{name}:{}", number + 1);
            if let Some(word) = BANNED.iter().find(|word| line.contains(**word)) {
                wrong.push(format!("{place}: {word}"));
            }
            if !name.contains("/tests/") && line.chars().count() > LINE_CHARS_MAX {
                wrong.push(format!("{place}: a line of {} characters", line.chars().count()));
            }
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{name}: its first line does not say what it is for"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A plain request stays within its core: where requests are served there is nothing to share by.
#[test]
fn the_hot_path_shares_no_memory_between_cores() {
    const HOT: [&str; 10] =
        ["conn", "pipeline", "shard", "pool", "filter", "upstream", "redis", "exchange", "route", "net"];
    const SHARED: [&str; 5] = ["Atomic", "Mutex", "RwLock", "Condvar", "static mut"];
    let mut wrong = Vec::new();
    for (name, text) in sources("core/src") {
        let room = name.strip_prefix("core/src/").and_then(|rest| rest.split(['/', '.']).next()).unwrap();
        // The ring's tail is shared with the kernel; failpoints are compiled for tests alone.
        let exempt = name.ends_with("net/provided.rs") || name.ends_with("net/failpoint.rs") || is_test_file(&name);
        if !HOT.contains(&room) || exempt {
            continue;
        }
        for (number, line) in without_tests(&text).lines().enumerate() {
            let code = line.split("//").next().unwrap();
            if let Some(word) = SHARED.iter().find(|word| code.contains(**word)) {
                wrong.push(format!("{name}:{}: {word}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_has_its_proof() {
    let needs_proof = ["{", "impl"].map(|what| ["unsafe", what].join(" "));
    let mut wrong = Vec::new();
    for (name, text) in shipped() {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap();
            if !needs_proof.iter().any(|start| code.contains(start.as_str())) {
                continue;
            }
            let before = &lines[number.saturating_sub(5)..=number];
            if !before.iter().any(|line| line.contains("SAFETY:")) {
                wrong.push(format!("{name}:{}: unsafe without a SAFETY comment", number + 1));
            }
            if name.starts_with("proto/") || name.starts_with("config/") {
                wrong.push(format!("{name}:{}: no unsafe code here", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
