//! Policies of listeners, hosts, groups and routes: what applies to which request, in which order.

mod support;

use support::gateway::Dir;
use support::{Client, Gateway, Origin, ms, ringway};

/// A policy that adds its name to a header of the request and of the answer.
fn adding(name: &str) -> String {
    format!(
        "[policies.{name}]\nfilters = [{{ request_headers = {{ add = {{ x-passed = \"{name}\" }} }} }}, \
         {{ response_headers = {{ add = {{ x-passed = \"{name}\" }} }} }}]\n\n"
    )
}

fn document(endpoint: &str) -> String {
    let policies: String = ["listener", "host", "exact", "group", "route"].map(adding).concat();
    format!(
        "{policies}
        [listeners.main]\npolicies = [\"listener\"]\n
        [listeners.plain]\n
        [hosts.\"*.example.test\"]\npolicies = [\"host\"]\n
        [hosts.\"www.example.test\"]\npolicies = [\"exact\"]\n
        [groups.users]\npolicies = [\"group\"]\nwithout = [\"host\"]\n
        [clusters.app]\nendpoints = [\"{endpoint}\"]\n
        [[routes]]\nname = \"own\"\npath = \"/own\"\ncluster = \"app\"\n
        filters = [{{ request_headers = {{ add = {{ x-passed = \"own\" }} }} }}]\npolicies = [\"route\"]\n
        [[routes]]\nname = \"grouped\"\npath = \"/grouped\"\ncluster = \"app\"\ngroup = \"users\"\npolicies = [\"route\"]\n
        [[routes]]\nname = \"without\"\npath = \"/without\"\ncluster = \"app\"\ngroup = \"users\"\n
        without = [\"listener\", \"group\"]\n
        [[routes]]\nname = \"moved\"\npath = \"/moved\"\ncluster = \"app\"\npolicies = [\"listener\", \"route\"]\n"
    )
}

#[test]
fn filters_run_from_the_outside_in_and_back() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&document(&origin.endpoint()));
    let passed = |listener: &str, host: &str, path: &str| {
        let mut client = Client::to(gateway.addr_of(listener));
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        let answer = client.response().expect(200);
        let on_request: Vec<String> = origin.last().all("x-passed").into_iter().map(str::to_owned).collect();
        let mut on_answer: Vec<String> = answer.all("x-passed").into_iter().map(str::to_owned).collect();
        on_answer.reverse();
        (on_request, on_answer)
    };
    let cases: [(&str, &str, &str, &[&str]); 10] = [
        ("main", "a.test", "/own", &["listener", "route", "own"]),
        ("plain", "a.test", "/own", &["route", "own"]),
        ("main", "a.example.test", "/own", &["listener", "host", "route", "own"]),
        ("main", "A.Example.Test:80", "/own", &["listener", "host", "route", "own"]),
        ("main", "www.example.test", "/own", &["listener", "exact", "route", "own"]),
        ("main", "example.test", "/own", &["listener", "route", "own"]),
        ("main", "a.example.test", "/grouped", &["listener", "group", "route"]),
        ("main", "www.example.test", "/grouped", &["listener", "exact", "group", "route"]),
        ("main", "www.example.test", "/without", &["exact"]),
        ("main", "a.example.test", "/moved", &["host", "listener", "route"]),
    ];
    for (listener, host, path, wanted) in cases {
        let (on_request, on_answer) = passed(listener, host, path);
        assert_eq!(on_request, wanted, "{listener} {host}{path}");
        let wanted: Vec<&str> = wanted.iter().copied().filter(|name| *name != "own").collect();
        assert_eq!(on_answer, wanted, "the answer of {listener} {host}{path}");
    }
}

#[test]
fn of_settings_the_innermost_wins() {
    let origin = Origin::start(|x| {
        let slow = x.target().ends_with("slow");
        x.body()?;
        x.wait(ms(if slow { 1500 } else { 0 }));
        x.ok("x")
    });
    let gateway = Gateway::start(&format!(
        "[listeners.main]\nbody_bytes_max = 100\npolicies = [\"outer\"]\n
        [policies.outer]\nbody_bytes_max = 10\ntotal_timeout = \"200ms\"\n
        [policies.inner]\nbody_bytes_max = 20\n
        [policies.patient]\ntotal_timeout = \"20s\"\n
        [groups.files]\npolicies = [\"inner\"]\n
        [clusters.app]\nendpoints = [\"{}\"]\n
        [[routes]]\nname = \"listener\"\npath_prefix = \"/listener\"\ncluster = \"app\"\n
        [[routes]]\nname = \"group\"\npath_prefix = \"/group\"\ncluster = \"app\"\ngroup = \"files\"\n
        policies = [\"patient\"]\n
        [[routes]]\nname = \"route\"\npath_prefix = \"/route\"\ncluster = \"app\"\ngroup = \"files\"\nbody_bytes_max = 30\n
        [[routes]]\nname = \"none\"\npath_prefix = \"/none\"\ncluster = \"app\"\nwithout = [\"outer\"]\n",
        origin.endpoint()
    ));
    for (path, most) in [("/listener", 10), ("/group", 20), ("/route", 30), ("/none", 100)] {
        let post = |bytes: usize| gateway.client().request("POST", path, "", &vec![b'a'; bytes]).status;
        assert_eq!((post(most), post(most + 1)), (200, 413), "{path}");
    }
    let status = |path: &str| gateway.get(path).status;
    assert_eq!((status("/listener/slow"), status("/group/slow")), (504, 200));
}

#[test]
fn a_policy_changes_with_a_reload() {
    let origin = Origin::saying("x");
    let text = document(&origin.endpoint());
    let mut gateway = Gateway::start(&text);
    gateway.get("/moved").expect(200);
    gateway.rewrite_and_reload(&text.replace("x-passed = \"listener\"", "x-passed = \"other\""));
    gateway.get("/moved").expect(200);
    assert_eq!(origin.last().all("x-passed"), ["other", "route"]);
}

#[test]
fn explain_says_where_each_filter_and_setting_comes_from() {
    let dir = Dir::new();
    let text = document("127.0.0.1:1")
        .replace("[policies.host]\n", "[policies.host]\nbody_bytes_max = \"1MiB\"\n")
        .replace("[policies.group]\n", "[policies.group]\ntotal_timeout = \"3s\"\n")
        .replace("[listeners.main]\n", "[listeners.main]\nbind = \"127.0.0.1:18080\"\n")
        .replace("[listeners.plain]\n", "[listeners.plain]\nbind = \"127.0.0.1:18081\"\n");
    let file = dir.file("p.toml", &text);
    let explain = |url: &str| {
        ringway(["explain".as_ref(), "GET".as_ref(), url.as_ref(), "-c".as_ref(), file.as_os_str()]).expect(0).out
    };
    let said = explain("http://a.example.test/own");
    let filters: Vec<&str> = said.lines().filter(|line| line.trim_start().starts_with("filter")).collect();
    let from: Vec<&str> = filters.iter().filter_map(|line| line.rsplit_once("  (")).map(|(_, from)| from).collect();
    let from: Vec<&str> = from.iter().filter_map(|from| from.rsplit_once(", ")).map(|(whose, _)| whose).collect();
    let listener = "policy listener of listener main";
    let host = "policy host of host *.example.test";
    let route = "policy route of route";
    assert_eq!(from, [listener, listener, host, host, route, route, "route"], "{said}");
    assert!(said.contains("setting  body_bytes_max = 1MiB  (policy host of host *.example.test)"), "{said}");
    let said = explain("http://a.test/grouped");
    assert!(said.contains("setting  body_bytes_max = 10MiB  (listener main)"), "{said}");
    assert!(said.contains("setting  total_timeout = 3s  (policy group of group users)"), "{said}");
}

#[test]
fn a_filter_of_a_policy_that_is_wrong_is_told_at_its_line() {
    let dir = Dir::new();
    let text = "[listeners.main]\nbind = \"127.0.0.1:18080\"\n[policies.edge]\nfilters = [\n  { strip_prefx = \"/a\" },\n]\n\
        [[routes]]\nname = \"r\"\npolicies = [\"edge\"]\nrespond = {}\n";
    let file = dir.file("bad.toml", text);
    let ran = ringway(["check".as_ref(), file.as_os_str()]).expect(1);
    assert!(ran.all().contains("bad.toml:5") && ran.all().contains("strip_prefx"), "{}", ran.all());
}
