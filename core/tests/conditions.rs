//! What a route may ask beyond host, path and method: expressions over the path, queries, cookies, `when`; which of
//! them goes first, and what the operator is told of all that. The older conditions are in `routing`.

mod support;

use support::Gateway;
use support::gateway::Dir;

const NAMED_BY_BODY: &str = "respond = { status = 200, body = ";

/// Routes that answer with their own name.
fn named(routes: &[(&str, &str)]) -> String {
    let route = |(name, lines): &(&str, &str)| {
        format!("[[routes]]\nname = \"{name}\"\n{lines}\n{NAMED_BY_BODY}\"{name}\" }}\n\n")
    };
    routes.iter().map(route).collect()
}

/// The name of the route that took it, or the status of the refusal.
fn taken(gateway: &Gateway, target: &str, lines: &str) -> String {
    taken_by(gateway, "GET", "a.test", target, lines)
}

fn taken_by(gateway: &Gateway, method: &str, host: &str, target: &str, lines: &str) -> String {
    let got = gateway
        .client()
        .send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}Connection: close\r\n\r\n"))
        .response_to(method);
    if got.status == 200 { got.text() } else { got.status.to_string() }
}

fn checked(text: &str, code: i32) -> String {
    let dir = Dir::new();
    let file = dir.file("routes.toml", &format!("[listeners.main]\nbind = \"127.0.0.1:18080\"\n\n{text}"));
    support::ringway(["check".as_ref(), file.as_os_str()]).expect(code).all()
}

#[test]
fn an_expression_takes_whole_paths_and_goes_between_patterns_and_prefixes() {
    let gateway = Gateway::start(&named(&[
        ("all", "path_prefix = \"/\""),
        ("api", "path_prefix = \"/api\""),
        ("any-version", "path_regex = '/api/v[0-9]+/.*'"),
        ("users", "path_regex = '/api/v1/users/[0-9]+'"),
        ("exact", "path = \"/api/v1/users/7\""),
        ("param", "path = \"/api/{version}/status\""),
        ("php", "path_regex = '.*\\.php'"),
        ("here", "host = \"here.test\"\npath_regex = '/api/here.*'"),
    ]));
    for (target, wanted) in [
        ("/api/v1/users/7", "exact"),
        ("/api/v1/users/8?x=/", "users"),
        ("/api/v1/users/8/", "any-version"),
        ("/api/v1/users/%38", "users"),
        ("/api/v22/x/y", "any-version"),
        ("/api/vx/x", "api"),
        ("/api/v1/status", "param"),
        ("/x/index.php", "php"),
        ("/x/index.phpx", "all"),
        ("/api/index.php", "api"),
        ("/api/here", "api"),
        ("/x/../api/v3/y", "any-version"),
    ] {
        assert_eq!(taken(&gateway, target, ""), wanted, "{target}");
    }
    assert_eq!(taken_by(&gateway, "GET", "here.test", "/api/here/x", ""), "here");
}

#[test]
fn groups_of_an_expression_fill_a_redirect() {
    let gateway = Gateway::start(
        "[[routes]]\nname = \"old\"\npath_regex = '/v(?<major>[0-9]+)(\\.(?<minor>[0-9]+))?/(?<rest>.*)'\n\
         redirect = { status = 301, to = \"/api/{major}/{rest}?minor={minor}\" }\n",
    );
    for (target, wanted) in [
        ("/v1.2/users/7", "/api/1/users/7?minor=2"),
        ("/v10/", "/api/10/?minor="),
        ("/v1/a%20b/%C3%A9", "/api/1/a%20b/%C3%A9?minor="),
        ("/v1/%0d%0aSet-Cookie:x", "/api/1/%0D%0ASet-Cookie:x?minor="),
    ] {
        assert_eq!(gateway.get(target).expect(301).header("location"), Some(wanted), "{target}");
    }
}

#[test]
fn an_ambiguous_path_must_reach_one_route_by_expressions_too() {
    let gateway = Gateway::start(&named(&[("open", "path_regex = '/open.*'"), ("admin", "path_regex = '/admin/.*'")]));
    assert_eq!(taken(&gateway, "/open/a%2Fb", ""), "open");
    assert_eq!(taken(&gateway, "/open/..%2Fadmin%2Fx", ""), "400");
    assert_eq!(taken(&gateway, "/admin%2Fx", ""), "400");
}

#[test]
fn query_conditions() {
    let gateway = Gateway::start(&named(&[
        ("plain", "path_prefix = \"/\""),
        ("debug", "queries = [{ name = \"debug\", present = true }]"),
        ("page", "queries = [{ name = \"debug\", absent = true }, { name = \"page\", matches = \"[0-9]+\" }]"),
        ("text", "queries = [{ name = \"q r\", equals = \"a b&c\" }]"),
    ]));
    for (target, wanted) in [
        ("/", "plain"),
        ("/?", "plain"),
        ("/?debug", "debug"),
        ("/?x=1&debug=", "debug"),
        ("/?Debug=1", "plain"),
        ("/?%64ebug=1", "debug"),
        ("/?page=12", "page"),
        ("/?page=x&page=12", "page"),
        ("/?page=12x", "plain"),
        ("/?page=12&debug", "debug"),
        ("/?q+r=a%20b%26c", "text"),
        ("/?q%20r=a+b&c", "plain"),
        ("/?x=debug#debug", "400"),
    ] {
        assert_eq!(taken(&gateway, target, ""), wanted, "{target}");
    }
}

#[test]
fn cookie_conditions() {
    let gateway = Gateway::start(&named(&[
        ("plain", "path_prefix = \"/\""),
        ("beta", "cookies = [{ name = \"beta\", present = true }]"),
        ("blue", "cookies = [{ name = \"env\", equals = \"blue\" }, { name = \"beta\", absent = true }]"),
    ]));
    for (lines, wanted) in [
        ("", "plain"),
        ("Cookie: a=1; beta=; c=2\r\n", "beta"),
        ("Cookie: a=1;beta=x\r\n", "beta"),
        ("Cookie: a=beta; xbeta=1; Beta=1\r\n", "plain"),
        ("Cookie: a=1\r\nCookie: env=blue\r\n", "blue"),
        ("Cookie: env=green; env=blue\r\n", "blue"),
        ("Cookie: env=\"blue\"\r\n", "blue"),
        ("Cookie: env=\"blue\r\n", "plain"),
        ("Cookie: env=blue; beta=1\r\n", "beta"),
        ("X-Cookie: beta=1\r\n", "plain"),
    ] {
        assert_eq!(taken(&gateway, "/", lines), wanted, "{lines:?}");
    }
}

#[test]
fn when_says_what_lists_cannot() {
    let gateway = Gateway::start(&named(&[
        ("plain", "path_prefix = \"/\""),
        ("canary", "when = 'header.x-canary == \"on\" or (cookie.beta and not query.debug == \"1\")'"),
        ("inner", "path_prefix = \"/inner\"\nwhen = 'client_ip in [\"127.0.0.0/8\", \"::1\"] and method != \"POST\"'"),
        ("outer", "path_prefix = \"/outer\"\nwhen = 'not client_ip in \"127.0.0.1\"'"),
        ("tenant", "when = 'host matches \"t[0-9]+[.]test\" and path starts_with \"/t\"'"),
    ]));
    for (target, lines, wanted) in [
        ("/", "", "plain"),
        ("/", "X-Canary: on\r\n", "canary"),
        ("/", "Cookie: beta=1\r\n", "canary"),
        ("/?debug=1", "Cookie: beta=1\r\n", "plain"),
        ("/?debug=1", "Cookie: beta=1\r\nX-Canary: off\r\nX-Canary: on\r\n", "canary"),
        ("/inner", "", "inner"),
        ("/outer", "X-Forwarded-For: 10.0.0.1\r\n", "plain"),
    ] {
        assert_eq!(taken(&gateway, target, lines), wanted, "{target} {lines:?}");
    }
    assert_eq!(taken_by(&gateway, "POST", "a.test", "/inner", ""), "plain");
    assert_eq!(taken_by(&gateway, "GET", "T12.Test:80", "/%74x", ""), "tenant");
    assert_eq!(taken_by(&gateway, "GET", "tx.test", "/t", ""), "plain");
}

#[test]
fn when_sees_the_client_through_trusted_proxies() {
    let routes = named(&[("plain", "path_prefix = \"/\""), ("office", "when = 'client_ip in \"192.0.2.0/24\"'")]);
    let gateway = Gateway::start(&format!("[listeners.main]\ntrusted_proxies = [\"127.0.0.1\"]\n\n{routes}"));
    assert_eq!(taken(&gateway, "/", ""), "plain");
    assert_eq!(taken(&gateway, "/", "X-Forwarded-For: 192.0.2.7\r\n"), "office");
    assert_eq!(taken(&gateway, "/", "X-Forwarded-For: 192.0.2.7, 10.0.0.1\r\n"), "plain");
}

#[test]
fn more_conditions_go_first_whatever_their_kind() {
    let one = "headers = [{ name = \"a\", present = true }]";
    let gateway = Gateway::start(&named(&[
        ("none", "path_prefix = \"/\""),
        ("one", one),
        ("two", &format!("{one}\nqueries = [{{ name = \"b\", present = true }}]")),
        ("three", &format!("{one}\nwhen = 'query.b and cookie.c'")),
        ("either", &format!("{one}\nwhen = 'query.b or query.d or cookie.c'")),
    ]));
    assert_eq!(taken(&gateway, "/", "A: 1\r\n"), "one");
    assert_eq!(taken(&gateway, "/?b", "A: 1\r\nCookie: c=1\r\n"), "three");
    assert_eq!(taken(&gateway, "/?b", "A: 1\r\n"), "two", "`or` weighs as its cheaper side; then the file decides");
    assert_eq!(taken(&gateway, "/?d", "A: 1\r\n"), "either");
}

#[test]
fn mistakes_in_conditions_are_told_with_line_and_cure() {
    let said = checked(&named(&[("r", "path_regex = '/('"), ("s", "when = 'headr.a == \"b\"'")]), 1);
    for part in ["routes.toml:6:1: routes[0].path_regex: ", "unclosed group", "routes.toml:11:1: ", "header.NAME?"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    let said = checked(&named(&[("r", "path_regex = '/(a|b)*a(a|b){20}'")]), 1);
    assert!(said.contains("routes.toml:6:1: routes[0].path_regex: ") && said.contains("1024 KiB"), "{said}");
    let many: Vec<String> = (0..129).map(|n| format!("path_regex = '/api/.*{n}'")).collect();
    let many: Vec<(String, &str)> = many.iter().enumerate().map(|(n, line)| (format!("r{n}"), line.as_str())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, line)| (name.as_str(), *line)).collect();
    let said = checked(&named(&many), 1);
    assert!(said.contains("host \"*\" have 129 expressions") && said.contains("\"/api\""), "{said}");
}

#[test]
fn explain_says_why_each_kind_of_condition_lost() {
    let dir = Dir::new();
    let text = format!(
        "[listeners.main]\nbind = \"127.0.0.1:18080\"\n\n{}",
        named(&[
            ("plain", "path_prefix = \"/\""),
            ("numbers", "path_regex = '/users/[0-9]+'"),
            ("debug", "queries = [{ name = \"debug\", present = true }]"),
            ("beta", "cookies = [{ name = \"beta\", equals = \"1\" }]"),
            ("office", "when = 'client_ip in \"192.0.2.0/24\" or header.x-office'"),
        ])
    );
    let file = dir.file("f.toml", &text);
    let file = file.to_str().expect("a plain path");
    let explain = |arguments: &[&str]| {
        let all = [&["explain", "GET"], arguments, &["-c", file]].concat();
        support::ringway(all).expect(0).out
    };
    let said = explain(&["/users/x?page=1"]);
    for part in [
        "takes route \"plain\"",
        "numbers (~/users/[0-9]+): path: does not match /users/[0-9]+",
        "debug (/*): wants query.debug",
        "beta (/*): wants cookie.beta == \"1\"",
        "office (/*): wants client_ip in [\"192.0.2.0/24\"] or header.x-office",
    ] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    assert!(explain(&["/users/7?debug"]).contains("takes route \"numbers\""));
    assert!(explain(&["/?debug=1"]).contains("takes route \"debug\""));
    assert!(explain(&["/", "-H", "Cookie: a=2; beta=1"]).contains("takes route \"beta\""));
    assert!(explain(&["/", "--client", "192.0.2.9"]).contains("takes route \"office\""));
}

#[test]
fn a_route_that_never_wins_is_warned_of_with_its_taker() {
    let routes = named(&[
        ("api", "path_prefix = \"/api\"\npriority = 1"),
        ("health", "path = \"/api/health\"\nmethods = [\"GET\"]"),
        ("other", "path = \"/health\""),
    ]);
    let said = checked(&routes, 0);
    let wanted =
        "routes.toml:10:1: routes[1]: route \"health\" is never chosen: routes[0], \"api\", takes all its requests";
    assert!(said.contains(wanted) && said.matches("never chosen").count() == 1, "{said}");
    // A warning, and true: the gateway starts and reloads, and says it each time.
    let mut gateway = Gateway::start(&routes);
    gateway.wait_output("route \"health\" is never chosen");
    gateway.rewrite(&routes.replace("\"other\"", "\"another\""));
    let said = gateway.reload().expect(0).all();
    assert!(said.contains("route \"health\" is never chosen") && said.contains("generation"), "{said}");
    assert_eq!((taken(&gateway, "/api/health", ""), taken(&gateway, "/health", "")), ("api".into(), "another".into()));
}
