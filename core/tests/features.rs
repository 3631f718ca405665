//! Every clause of what the data plane promises has a test that exists: `features.toml` is the list, this keeps it honest.
//! Does not run them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const LIST: &str = "features.toml";

fn tests_dir() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Names of the `#[test]` functions of each file.
fn tests() -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(tests_dir()).expect("the tests").flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a test file");
        let mut names = BTreeSet::new();
        let mut marked = false;
        for line in text.lines() {
            if line == "#[test]" {
                marked = true;
            } else if let Some(name) = line.strip_prefix("fn ").filter(|_| marked) {
                names.insert(name.split('(').next().unwrap_or_default().to_owned());
                marked = false;
            }
        }
        all.insert(path.file_stem().expect("a name").to_string_lossy().into_owned(), names);
    }
    all
}

fn rows() -> Vec<toml::Table> {
    let text = fs::read_to_string(tests_dir().join(LIST)).expect("the list");
    let list: toml::Table = text.parse().unwrap_or_else(|e| panic!("{LIST}: {e}"));
    let rows = list["feature"].as_array().expect("[[feature]] rows");
    rows.iter().map(|row| row.as_table().expect("a row is a table").clone()).collect()
}

#[test]
fn every_clause_names_a_test_that_exists() {
    let tests = tests();
    let mut missing = Vec::new();
    for row in rows() {
        let word = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        assert!(!word("clause").is_empty() && row.len() == 3, "a row has id, clause and test: {row:?}");
        let test = word("test");
        let (file, name) = test.split_once("::").unwrap_or_default();
        if !tests.get(file).is_some_and(|names| names.contains(name)) {
            missing.push(format!("{}: {test}", word("id")));
        }
    }
    assert!(missing.is_empty(), "named in {LIST}, but not there: {missing:#?}");
}

#[test]
fn ids_are_unique() {
    let mut seen = BTreeSet::new();
    for row in rows() {
        let id = row["id"].as_str().expect("an id").to_owned();
        assert!(seen.insert(id.clone()), "{id} twice");
    }
    assert!(seen.len() > 100, "{} rows", seen.len());
}
