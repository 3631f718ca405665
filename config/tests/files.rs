//! The files that ship or are shown: examples load, messages for bad files are what an operator was promised, and the
//! reference page is the declarations'. `RINGWAY_BLESS=1` rewrites what is generated; read the diff before keeping it.

use std::path::{Path, PathBuf};
use std::{env, fs};

use ringway_config::{DEMO, INIT, Source, load, load_file, reference};

fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let entries = fs::read_dir(&root).expect("the directory is in the repository");
    let paths = entries.map(|entry| entry.expect("readable").path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|is| is == extension)).collect();
    files.sort();
    files
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compares, or rewrites if asked to.
fn same_or_bless(path: &Path, now: &str, wrong: &mut Vec<String>) {
    if env::var_os("RINGWAY_BLESS").is_some() {
        fs::write(path, now).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    } else if fs::read_to_string(path).ok().as_deref() != Some(now) {
        wrong.push(format!("{} should be:\n{now}", path.display()));
    }
}

#[test]
fn every_example_loads() {
    let examples = files("examples", "toml");
    assert!(examples.len() >= 5);
    for path in examples {
        let loaded = load_file(&path).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(loaded.warnings, [], "{}", path.display());
    }
    for text in [DEMO, INIT] {
        assert!(load(&Source { name: "embedded".to_owned(), text: text.to_owned() }).is_ok());
    }
}

#[test]
fn every_bad_file_says_why() {
    let bad = files("tests/bad", "toml");
    assert!(bad.len() >= 30);
    let mut wrong = Vec::new();
    for path in bad {
        let source = Source { name: "ringway.toml".to_owned(), text: text(&path) };
        let errors = load(&source).err().unwrap_or_else(|| panic!("{} loads", path.display()));
        same_or_bless(&path.with_extension("expected"), &format!("{errors}\n"), &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_odd_file_is_warned_of() {
    let mut wrong = Vec::new();
    for path in files("tests/odd", "toml") {
        let source = Source { name: "ringway.toml".to_owned(), text: text(&path) };
        let loaded = load(&source).unwrap_or_else(|errors| panic!("{errors}"));
        let lines: String = loaded.warnings.iter().map(|warning| format!("{warning}\n")).collect();
        assert!(!lines.is_empty(), "{}", path.display());
        same_or_bless(&path.with_extension("expected"), &lines, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reference_page_is_current() {
    let mut wrong = Vec::new();
    same_or_bless(&Path::new(env!("CARGO_MANIFEST_DIR")).join("REFERENCE.md"), &reference(), &mut wrong);
    assert!(wrong.is_empty(), "config/REFERENCE.md is stale: run RINGWAY_BLESS=1 cargo test -p ringway-config");
}

#[test]
fn an_unreadable_file_is_named() {
    let errors = load_file(Path::new("/nowhere/ringway.toml")).expect_err("it is not there");
    assert_eq!(errors.to_string(), "/nowhere/ringway.toml: cannot be opened: No such file or directory (os error 2)");
    let errors = load_file(Path::new("/")).expect_err("it is a directory");
    assert_eq!(errors.to_string(), "/: cannot be read: Is a directory (os error 21)");
}

#[test]
fn a_file_that_is_not_utf8_is_told_where() {
    let path = env::temp_dir().join(format!("ringway-config-{}.toml", std::process::id()));
    fs::write(&path, b"io = \"auto\"\n# caf\xe9\n").expect("the temporary directory is writable");
    let errors = load_file(&path).expect_err("0xe9 alone is not UTF-8");
    fs::remove_file(&path).expect("it was just written");
    assert_eq!((errors.0[0].line, errors.0[0].column), (2, 6));
}
