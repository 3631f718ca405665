//! The text against a strict parser of the format, and against promtool where it is installed.

use super::*;
use crate::mesh::KindCounts;
use crate::observe::core_meters::add;
use crate::observe::flags::{Flag, Source};
use crate::observe::meters::{COMBOS_MAX, Meters, NO_ROUTE, Observation, RouteLabel};
use std::collections::{BTreeSet, HashMap};
use std::io::Write as _;
use std::process::{Command, Stdio};

type Labels = Vec<(String, String)>;

/// Samples by name and sorted labels. Panics on anything that the format does not allow.
fn parse(text: &str) -> HashMap<(String, Labels), f64> {
    assert!(text.ends_with('\n'), "the last line has its end");
    let (mut samples, mut families) = (HashMap::new(), BTreeSet::new());
    let (mut family, mut kind) = (String::new(), "");
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, about) = help.split_once(' ').expect("a help text");
            assert!(!about.is_empty() && families.insert(name.to_string()), "{name} begins twice");
            let kind_line = lines.next().and_then(|line| line.strip_prefix("# TYPE ")).expect("TYPE after HELP");
            kind = kind_line.strip_prefix(name).expect("of the same name").trim_start();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind_line}");
            family = name.to_string();
            continue;
        }
        let (name, labels, value) = sample(line);
        let suffix = name.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{name} within {family}"));
        let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(suffixes.contains(&suffix), "{line}");
        assert_eq!(labels.iter().any(|(key, _)| key == "le"), suffix == "_bucket", "{line}");
        assert!(samples.insert((name, labels), value).is_none(), "duplicate series: {line}");
    }
    samples
}

fn sample(line: &str) -> (String, Labels, f64) {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    let end = line.find(['{', ' ']).expect("a value");
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (key, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("a label in {line}"));
            assert!(is_name(key), "{line}");
            let (value, after) = quoted(after);
            labels.push((key.to_string(), value));
            match after.split_at(1) {
                (",", more) => rest = more,
                ("}", more) => break rest = more,
                _ => panic!("{line}"),
            }
        }
    }
    labels.sort();
    assert!(labels.windows(2).all(|pair| pair[0].0 != pair[1].0), "a label twice: {line}");
    let value = rest.strip_prefix(' ').expect("one space");
    (name.to_string(), labels, value.parse().unwrap_or_else(|_| panic!("a number in {line}")))
}

/// The value up to its closing quote, and what follows that.
fn quoted(text: &str) -> (String, &str) {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match chars.next().map(|(_, c)| c) {
                Some('n') => '\n',
                Some(c @ ('\\' | '"')) => c,
                other => panic!("escape {other:?}"),
            }),
            c => value.push(c),
        }
    }
    panic!("an open quote")
}

fn get(samples: &HashMap<(String, Labels), f64>, name: &str, labels: &[(&str, &str)]) -> f64 {
    let mut labels: Labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    labels.sort();
    *samples.get(&(name.to_string(), labels.clone())).unwrap_or_else(|| panic!("no {name} {labels:?}"))
}

const OK: Observation = Observation {
    method: 0,
    status: 200,
    source: Source::Origin,
    flag: Flag::None,
    total_ns: 300_000,
    waited_ns: 270_000,
    bytes_in: 80,
    bytes_out: 120,
};

fn label(name: &str, pattern: &str) -> RouteLabel {
    RouteLabel { name: name.into(), pattern: pattern.into(), api: None }
}

/// A core whose routes 0 and 1 share a pattern, and whose route 2 has a hostile name.
fn core(index: usize) -> Meters {
    let meters = Meters::new(index);
    let hostile = label("quote\" slash\\ line\n end", "/a\"b\\c\nd");
    meters.adopt([label("read", "/users/{id}"), label("write", "/users/{id}"), hostile].into());
    meters
}

fn record(meters: &Meters, route: u32, seen: Observation) {
    meters.record(&meters.route(route), &seen);
}

fn facts() -> ProcessFacts {
    ProcessFacts { version: "0.1.0".into(), io: "io_uring".into(), started_unix_s: 1_800_000_000, ..Default::default() }
}

/// Two cores with a bit of everything.
fn page() -> (Scrape, String) {
    let mut scrape = Scrape::default();
    for index in 0..2 {
        let meters = core(index);
        record(&meters, 0, OK);
        record(&meters, 0, Observation { total_ns: 3_000_000_000, ..OK });
        record(&meters, 1, Observation { status: 502, source: Source::Gateway, flag: Flag::ConnectFailed, ..OK });
        record(&meters, 1, Observation { status: 502, source: Source::Gateway, flag: Flag::ConnectTimeout, ..OK });
        record(&meters, 2, OK);
        record(&meters, NO_ROUTE, Observation { status: 404, source: Source::Gateway, flag: Flag::NoRoute, ..OK });
        add(&meters.core.rejected_ip_limit, 4);
        add(&meters.core.connections_open, 1 + 2 * index as u64);
        meters.core.loop_lag.record(40_000);
        let mesh = vec![KindCounts { kind: "ack", delivered: 1, ..Default::default() }];
        scrape.update(Box::new(meters.snapshot(5 + index as u64, mesh)));
    }
    let text = scrape.render(&facts());
    (scrape, text)
}

#[test]
fn the_two_common_metrics_are_by_pattern_over_all_cores_and_routes() {
    let samples = parse(&page().1);
    let requests = |status| {
        get(&samples, "http_requests_total", &[("method", "GET"), ("path", "/users/{id}"), ("status", status)])
    };
    assert_eq!((requests("200"), requests("502")), (4.0, 4.0));
    let labels = [("method", "GET"), ("path", "/users/{id}")];
    assert_eq!(get(&samples, "http_response_time_seconds_count", &labels), 8.0);
    let bucket = |le| get(&samples, "http_response_time_seconds_bucket", &[labels[0], labels[1], ("le", le)]);
    assert_eq!((bucket("0.00025"), bucket("0.0005"), bucket("2.5")), (0.0, 6.0, 6.0));
    assert_eq!((bucket("0.1"), bucket("1"), bucket("2"), bucket("5"), bucket("+Inf")), (6.0, 6.0, 6.0, 8.0, 8.0));
    let sum = get(&samples, "http_response_time_seconds_sum", &labels);
    assert!((sum - 6.0018).abs() < 1e-9, "{sum}");
}

#[test]
fn blame_is_split_by_source_and_flag() {
    let samples = parse(&page().1);
    let labels = [("route", "write"), ("method", "GET"), ("code", "502"), ("source", "gateway"), ("flag", "UF")];
    assert_eq!(get(&samples, "ringway_requests_total", &labels), 4.0, "two causes of one flag are one series");
    let labels = [("route", "_none"), ("method", "GET"), ("code", "404"), ("source", "gateway"), ("flag", "NR")];
    assert_eq!(get(&samples, "ringway_requests_total", &labels), 2.0);
    assert_eq!(get(&samples, "ringway_overhead_seconds_bucket", &[("route", "write"), ("le", "0.00005")]), 4.0);
    assert_eq!(get(&samples, "ringway_response_bytes_total", &[("route", "read")]), 480.0);
}

#[test]
fn a_hostile_label_arrives_as_it_was() {
    let samples = parse(&page().1);
    let name = "quote\" slash\\ line\n end";
    let labels = [("route", name), ("method", "GET"), ("code", "200"), ("source", "origin"), ("flag", "-")];
    assert_eq!(get(&samples, "ringway_requests_total", &labels), 2.0);
    let labels = [("method", "GET"), ("path", "/a\"b\\c\nd"), ("status", "200")];
    assert_eq!(get(&samples, "http_requests_total", &labels), 2.0);
}

#[test]
fn each_core_is_visible() {
    let samples = parse(&page().1);
    let of = |name: &str, core: &str| get(&samples, name, &[("core", core)]);
    assert_eq!((of("ringway_config_generation", "0"), of("ringway_config_generation", "1")), (5.0, 6.0));
    assert_eq!((of("ringway_core_requests_total", "0"), of("ringway_core_connections_open", "1")), (6.0, 3.0));
    assert_eq!(of("ringway_core_loop_lag_seconds_count", "1"), 1.0);
    let rejected = [("core", "1"), ("reason", "ip_limit")];
    assert_eq!(get(&samples, "ringway_core_connections_rejected_total", &rejected), 4.0);
    let acks = [("core", "0"), ("kind", "ack"), ("outcome", "delivered")];
    assert_eq!(get(&samples, "ringway_core_mesh_messages_total", &acks), 1.0);
    let build = [("version", "0.1.0"), ("io", "io_uring")];
    assert_eq!(get(&samples, "ringway_build_info", &build), 1.0);
}

#[test]
fn imbalance_is_maximum_over_mean_of_the_window() {
    let (one, two) = (core(0), core(1));
    let mut scrape = Scrape::default();
    let mut window = |ones: u64, twos: u64| {
        (0..ones).for_each(|_| record(&one, 0, OK));
        (0..twos).for_each(|_| record(&two, 0, OK));
        scrape.update(Box::new(one.snapshot(1, Vec::new())));
        scrape.update(Box::new(two.snapshot(1, Vec::new())));
        get(&parse(&scrape.render(&facts())), "ringway_core_imbalance_index", &[("of", "requests")])
    };
    assert_eq!(window(10, 10), 1.0);
    assert_eq!(window(20, 0), 2.0, "not diluted by what was before");
    assert_eq!(window(30, 10), 1.5);
    assert_eq!(window(0, 0), 1.0);
    let connections = get(&parse(&page().1), "ringway_core_imbalance_index", &[("of", "connections")]);
    assert_eq!(connections, 1.5, "3 of 1 and 3");
}

#[test]
fn a_core_that_is_late_keeps_its_last_values_and_is_named() {
    let (mut scrape, first) = page();
    let meters = core(0);
    (0..9).for_each(|_| record(&meters, 0, OK));
    scrape.update(Box::new(meters.snapshot(7, Vec::new())));
    let second = scrape.render(&facts());
    let (first, second) = (parse(&first), parse(&second));
    let answered = |samples, core| get(samples, "ringway_core_answered", &[("core", core)]);
    assert_eq!((answered(&first, "0"), answered(&first, "1")), (1.0, 1.0));
    assert_eq!((answered(&second, "0"), answered(&second, "1")), (1.0, 0.0));
    assert_eq!(get(&second, "ringway_core_requests_total", &[("core", "1")]), 6.0);
}

#[test]
fn what_passes_the_bound_of_combinations_is_still_counted() {
    let meters = core(0);
    (0..COMBOS_MAX as u16 + 36).for_each(|n| record(&meters, 0, Observation { status: 200 + n, ..OK }));
    let mut scrape = Scrape::default();
    scrape.update(Box::new(meters.snapshot(1, Vec::new())));
    let samples = parse(&scrape.render(&facts()));
    let labels = [("method", "_OTHER"), ("path", "/users/{id}"), ("status", "_OTHER")];
    assert_eq!(get(&samples, "http_requests_total", &labels), 36.0);
    let all = samples.iter().filter(|((name, _), _)| name == "ringway_requests_total").map(|(_, value)| value);
    assert_eq!(all.sum::<f64>(), 100.0);
}

#[test]
fn before_the_first_snapshot_the_page_is_valid() {
    parse(&Scrape::default().render(&facts()));
}

#[test]
fn the_parser_is_strict() {
    let head = "# HELP a b\n# TYPE a counter\n";
    parse(&format!("{head}a 1\n"));
    for bad in ["a 1", "a\n", "a x\n", "b 1\n", "a{} 1\n", "a{b=\"1\"\n", "a 1\na 1\n", "a{b=\"\\x\"} 1\n", "a_sum 1\n"]
    {
        let text = format!("{head}{bad}");
        assert!(std::panic::catch_unwind(|| parse(&text)).is_err(), "{bad:?} passes");
    }
}

#[test]
fn seconds_are_exact() {
    let shown = |ns| Seconds(ns).to_string();
    assert_eq!(
        (shown(250_000), shown(2_500_000_000), shown(10_000_000_000)),
        ("0.00025".into(), "2.5".into(), "10".into())
    );
    assert_eq!((shown(1), shown(0)), ("0.000000001".into(), "0".into()));
}

#[test]
fn promtool_agrees() {
    let tool = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut tool) = tool else {
        println!("SKIPPED: promtool is not installed (Debian: prometheus)");
        return;
    };
    tool.stdin.take().unwrap().write_all(page().1.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
