//! Reads the Prometheus text format, strictly enough to find a broken one. Not a client library.

use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub samples: Vec<Sample>,
    /// Family name to its type.
    pub types: BTreeMap<String, String>,
    pub helps: BTreeMap<String, String>,
}

impl Metrics {
    /// Panics on a line that Prometheus would refuse.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let mut all = Self::default();
        for line in text.lines().filter(|l| !l.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                assert!(all.types.insert(name.to_owned(), kind.to_owned()).is_none(), "two TYPE lines of {name}");
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, text) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                all.helps.insert(name.to_owned(), text.to_owned());
            } else if !line.starts_with('#') {
                all.samples.push(sample(line));
            }
        }
        all
    }

    /// Samples of that name whose labels contain these.
    pub fn of<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |s| {
            s.name == name && labels.iter().all(|(k, v)| s.labels.get(*k).is_some_and(|have| have == v))
        })
    }

    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.of(name, labels).map(|s| s.value).sum()
    }

    /// The sum as a count.
    #[track_caller]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let sum = self.sum(name, labels);
        assert!(sum >= 0.0 && sum.fract() == 0.0, "{name} is no count: {sum}");
        sum as u64
    }

    pub fn has(&self, name: &str) -> bool {
        self.samples.iter().any(|s| s.name == name || s.name.strip_suffix("_count") == Some(name))
    }

    /// Every value of a label in a family.
    pub fn values(&self, name: &str, label: &str) -> Vec<String> {
        let mut all: Vec<String> = self.of(name, &[]).filter_map(|s| s.labels.get(label).cloned()).collect();
        all.sort();
        all.dedup();
        all
    }
}

#[track_caller]
fn sample(line: &str) -> Sample {
    let (name_end, has_labels) = match line.find(['{', ' ']) {
        Some(at) => (at, line.as_bytes()[at] == b'{'),
        None => panic!("no value: {line}"),
    };
    let name = &line[..name_end];
    let name_ok = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':') && !name.is_empty();
    assert!(name_ok, "metric name in {line}");
    let mut labels = BTreeMap::new();
    let mut rest = &line[name_end..];
    if has_labels {
        rest = &rest[1..];
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("labels of {line}"));
            let (value, after) = quoted(after, line);
            assert!(labels.insert(label.to_owned(), value).is_none(), "label {label} twice: {line}");
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.trim_start().split(' ').next().unwrap_or_default();
    let value = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        plain => plain.parse().unwrap_or_else(|e| panic!("value of {line}: {e}")),
    };
    Sample { name: name.to_owned(), labels, value }
}

/// A label value up to its closing quote, unescaped, and what follows it.
fn quoted<'a>(text: &'a str, line: &str) -> (String, &'a str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('\\' | '"'))) => value.push(c),
                other => panic!("escape {other:?} in {line}"),
            },
            c => value.push(c),
        }
    }
    panic!("an open quote in {line}");
}
