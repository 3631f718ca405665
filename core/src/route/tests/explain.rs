//! Explanations as `ringway explain` prints them.

use super::super::RouteTable;
use super::{Request, Route, Test, conditions, header, hosts, route, strings, table};

fn said(table: &RouteTable, request: &Request) -> String {
    table.explain(&request.query()).iter().map(|verdict| format!("{verdict}\n")).collect()
}

#[test]
fn every_reason_is_said_in_matching_order() {
    let named = |name: &str, path: &str| Route { name: name.to_owned(), ..route(path) };
    let on = |route: Route, patterns: &[&str]| Route { hosts: hosts(patterns), ..route };
    let canary = header("x-canary", Test::Equals("on\u{1b}".into()));
    let table = table(&[
        named("everything", "/*"),
        named("item", "/items/{id}"),
        named("item-again", "/items/{other}"),
        Route { methods: strings(&["GET"]), ..named("item-get", "/items/{id}") },
        Route { methods: strings(&["POST"]), ..named("item-post", "/items/{id}") },
        Route { conditions: vec![canary], ..named("canary", "/items/{id}") },
        Route { listeners: strings(&["internal"]), ..named("inside", "/items/{id}") },
        Route { priority: 5, ..named("urgent", "/users/{id}") },
        named("longer", "/items/{id}/parts/{part}"),
        named("shorter", "/items"),
        on(named("elsewhere", "/items/7"), &["b.test"]),
        on(named("wild", "/items/*"), &["*.test"]),
        on(named("exact", "/items/{*rest}"), &["*.test", "a.test"]),
    ]);
    let request = Request { path: "/items/7".to_owned(), ..Request::at("a.test") };
    assert_eq!(
        said(&table, &request),
        "\
urgent (/users/{id}): path: segment 1 is \"items\", not \"users\"
elsewhere (/items/7): has no such host
exact (/items/{*rest}): chosen
wild (/items/*): matches, but \"exact\" goes first: closer host
longer (/items/{id}/parts/{part}): path: ends before segment 3, \"parts\"
item-get (/items/{id}): matches, but \"exact\" goes first: closer host
item-post (/items/{id}): takes only POST
canary (/items/{id}): wants header.x-canary == \"on\\u{1b}\"
item (/items/{id}): matches, but \"exact\" goes first: closer host
item-again (/items/{other}): matches, but \"exact\" goes first: closer host
inside (/items/{id}): is not on this listener
shorter (/items): path: goes on with segment 2, \"7\"
everything (/*): matches, but \"exact\" goes first: closer host
"
    );
}

#[test]
fn the_rule_that_decided_is_named() {
    let named = |name: &str, path: &str| Route { name: name.to_owned(), ..route(path) };
    let table = table(&[
        Route { priority: 1, ..named("first", "/a/*") },
        Route { priority: 1, ..named("path", "/*") },
        Route { priority: 1, ..named("place", "/a/{*rest}") },
        named("priority", "/a"),
    ]);
    assert_eq!(
        said(&table, &Request::get("/a")),
        "\
first (/a/*): chosen
place (/a/{*rest}): matches, but \"first\" goes first: earlier in the file
path (/*): matches, but \"first\" goes first: closer path
priority (/a): matches, but \"first\" goes first: higher priority
"
    );
    let conditions = super::table(&[named("fewer", "/a"), Route { methods: strings(&["GET"]), ..named("more", "/a") }]);
    assert_eq!(
        said(&conditions, &Request::get("/a")),
        "more (/a): chosen\nfewer (/a): matches, but \"more\" goes first: more conditions\n"
    );
}

#[test]
fn paths_are_explained_to_the_segment() {
    let table = table(&[route("/a/{id}")]);
    for (path, wanted) in [
        ("/a/", "segment 2 is empty, not {param}"),
        ("/a", "ends before segment 2, {param}"),
        ("/b\u{7}/c", "segment 1 is \"b\\x07\", not \"a\""),
        ("/a/7/", "goes on with segment 3, \"\""),
        ("*", "does not start with \"/\""),
    ] {
        assert_eq!(said(&table, &Request::get(path)), format!("/a/{{id}} (/a/{{id}}): path: {wanted}\n"));
    }
}

#[test]
fn the_condition_that_fails_is_named() {
    let when = ["cookie.beta", "header.a == \"1\" or (query.debug and not client_ip in \"10.0.0.0/8\")"];
    let table = table(&[
        Route { name: "when".to_owned(), conditions: conditions(&when), ..route("/*") },
        Route { name: "v".to_owned(), ..route("~/v[0-9]") },
    ]);
    let request = Request::get("/").client("10.0.0.1");
    let said = |request: &Request| said(&table, request).lines().last().unwrap().to_owned();
    assert_eq!(said(&request), "when (/*): wants cookie.beta");
    let request = request.field("cookie", "beta=").with_query("debug");
    let wanted = "wants header.a == \"1\" or (query.debug and not client_ip in [\"10.0.0.0/8\"])";
    assert_eq!(said(&request), format!("when (/*): {wanted}"));
    assert_eq!(said(&request.client("11.0.0.1")), "when (/*): chosen");
    let first = self::said(&table, &Request::get("/vx").client("::1"));
    assert!(first.starts_with("v (~/v[0-9]): path: does not match /v[0-9]\n"), "{first}");
}
