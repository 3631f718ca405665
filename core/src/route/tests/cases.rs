//! The rules of `README.md`, one by one.

use super::super::{
    BuildError, Captures, HOST_BYTES_MAX, LITERAL_BYTES_MAX, METHODS_MAX, Missed, RouteTable, SEGMENTS_MAX,
};
use super::{HeaderTest, PathPattern, Request, Route, Segment, header, hosts, route, strings, table};

/// The route of a `GET`, of a table with these paths.
#[track_caller]
fn reaches(paths: &[&str], requested: &str, wanted: Option<&str>) {
    let table = table(&paths.iter().map(|path| route(path)).collect::<Vec<_>>());
    let found = Request::get(requested).to(&table);
    assert_eq!(found, wanted.ok_or(Missed::Path), "{requested} of {paths:?}");
}

#[test]
fn each_kind_of_pattern_takes_what_the_readme_says() {
    for (pattern, takes, refuses) in [
        ("/", vec!["/"], vec!["/a", "//"]),
        ("/a/b", vec!["/a/b"], vec!["/a", "/a/", "/a/b/", "/a/b/c", "/A/b", "/a/bb"]),
        ("/a/", vec!["/a/"], vec!["/a", "/a/b"]),
        ("/users/{id}", vec!["/users/7", "/users/%2F"], vec!["/users", "/users/", "/users/7/", "/users/7/x"]),
        ("/{a}", vec!["/a"], vec!["/", "/a/"]),
        ("/files/{*rest}", vec!["/files", "/files/", "/files/a/b", "/files//"], vec!["/filesystem", "/"]),
        ("/{*rest}", vec!["/", "/a", "/a/b/"], vec![]),
        ("/api/*", vec!["/api", "/api/", "/api/x", "/api/x/y/"], vec!["/apix", "/ap", "/"]),
        ("/*", vec!["/", "/a", "/a/b/"], vec![]),
    ] {
        for path in takes {
            reaches(&[pattern], path, Some(pattern));
        }
        for path in refuses {
            reaches(&[pattern], path, None);
        }
    }
}

#[test]
fn what_is_no_path_reaches_nothing() {
    for path in ["", "*", "a", "http://h/a"] {
        reaches(&["/*", "/{a}", "/{*rest}"], path, None);
    }
}

#[test]
fn the_closer_path_goes_first_whatever_the_order_of_the_file() {
    for (paths, requested, wanted) in [
        (["/users/me", "/users/{id}"], "/users/me", "/users/me"),
        (["/users/me", "/users/{id}"], "/users/you", "/users/{id}"),
        (["/a/{x}", "/{x}/b"], "/a/b", "/a/{x}"),
        (["/a/{*rest}", "/{x}/b"], "/a/b", "/a/{*rest}"),
        (["/{x}", "/{*rest}"], "/a", "/{x}"),
        (["/api/*", "/*"], "/api/x", "/api/*"),
        (["/api/v1/*", "/api/*"], "/api/v1", "/api/v1/*"),
        (["/api/v1/*", "/api/*"], "/api/v10", "/api/*"),
        (["/api", "/api/*"], "/api", "/api"),
        (["/api", "/api/*"], "/api/", "/api/*"),
        (["/a/b/c", "/a/{x}/d"], "/a/b/d", "/a/{x}/d"),
        (["/a/{x}/c", "/*"], "/a/b/d", "/*"),
    ] {
        reaches(&paths, requested, Some(wanted));
        reaches(&[paths[1], paths[0]], requested, Some(wanted));
    }
}

#[test]
fn a_prefix_and_a_catch_all_of_equal_length_go_by_the_file() {
    reaches(&["/a/*", "/a/{*rest}"], "/a/b", Some("/a/*"));
    reaches(&["/a/{*rest}", "/a/*"], "/a/b", Some("/a/{*rest}"));
}

#[test]
fn segments_are_compared_decoded() {
    reaches(&["/a b/c"], "/a%20b/c", Some("/a b/c"));
    reaches(&["/é"], "/%C3%a9", Some("/é"));
    reaches(&["/100%"], "/100%", Some("/100%"));
    reaches(&["/100%"], "/100%25", Some("/100%"));
    reaches(&["/a"], "/%6", None);
    reaches(&["/a"], "/%zz", None);
    let slash = Route { path: PathPattern::Segments(vec![Segment::Literal("a/b".to_owned())]), ..route("/x") };
    let table = table(&[slash]);
    assert_eq!(Request::get("/a%2Fb").to(&table), Ok("/x"));
    assert_eq!(Request::get("/a/b").to(&table), Err(Missed::Path));
    assert_eq!(table.label(0), "/a%2Fb");
    let long = format!("/{}", "%61".repeat(LITERAL_BYTES_MAX));
    let pattern = format!("/{}", "a".repeat(LITERAL_BYTES_MAX));
    reaches(&[&pattern], &long, Some(&pattern));
    reaches(&[&pattern], &format!("{long}%61"), None);
}

#[test]
fn an_empty_list_of_segments_is_the_root_and_a_prefix_may_end_in_a_slash() {
    let root = Route { path: PathPattern::Segments(Vec::new()), ..route("/root") };
    let api = Route { path: PathPattern::Prefix(strings(&["api", ""])), ..route("/api") };
    let table = table(&[root, api]);
    assert_eq!(Request::get("/").to(&table), Ok("/root"));
    assert_eq!(Request::get("/api").to(&table), Ok("/api"));
    assert_eq!(Request::get("/api/x").to(&table), Ok("/api"));
    assert_eq!((table.label(0), table.label(1)), ("/", "/api/*"));
}

fn hosted(name: &str, patterns: &[&str]) -> Route {
    Route { name: name.to_owned(), hosts: hosts(patterns), ..route("/") }
}

#[test]
fn hosts_match_by_exact_name_then_longest_wildcard_then_any() {
    let table = table(&[
        hosted("any", &[]),
        hosted("com", &["*.com"]),
        hosted("example", &["*.example.com"]),
        hosted("api", &["api.example.com", "api.test"]),
    ]);
    for (host, wanted) in [
        ("api.example.com", "api"),
        ("API.Example.COM", "api"),
        ("api.example.com.", "api"),
        ("api.test", "api"),
        ("www.example.com", "example"),
        ("a.b.EXAMPLE.com", "example"),
        ("x.api.example.com", "example"),
        ("example.com", "com"),
        ("badexample.com", "com"),
        (".com", "any"),
        ("com", "any"),
        ("", "any"),
        (".", "any"),
        ("test", "any"),
        ("[::1]", "any"),
        ("api.example.com..", "any"),
    ] {
        assert_eq!(Request::at(host).to(&table), Ok(wanted), "{host}");
    }
}

#[test]
fn a_host_without_a_matching_pattern_reaches_nothing_named() {
    let table = table(&[hosted("a", &["a.test"]), hosted("b", &["*.b.test"])]);
    for host in ["", "b.test", "x.a.test", "test"] {
        assert_eq!(Request::at(host).to(&table), Err(Missed::Path), "{host}");
    }
}

#[test]
fn a_host_over_255_bytes_is_none_that_a_pattern_names() {
    let long = |len: usize| format!("{}.com", "a".repeat(len - 4));
    let table = table(&[hosted("any", &[]), hosted("com", &["*.com"])]);
    assert_eq!(Request::at(&long(255)).to(&table), Ok("com"));
    assert_eq!(Request::at(&format!("{}.", long(255))).to(&table), Ok("com"));
    assert_eq!(Request::at(&long(256)).to(&table), Ok("any"));
    assert_eq!(Request::at(&long(70_000)).to(&table), Ok("any"));
}

#[test]
fn a_closer_host_without_the_path_falls_through_to_the_next() {
    let table = table(&[
        Route { hosts: hosts(&["a.test"]), ..route("/only/a") },
        Route { hosts: hosts(&["*.test"]), ..route("/only/wild") },
        route("/anywhere"),
    ]);
    for path in ["/only/a", "/only/wild", "/anywhere"] {
        assert_eq!(Request { path: path.to_owned(), ..Request::at("a.test") }.to(&table), Ok(path));
    }
}

#[test]
fn priority_goes_before_host_and_host_before_path() {
    let first = |routes: &[Route]| {
        let request = Request { path: "/a".to_owned(), ..Request::at("h.test") };
        request.to(&table(routes)).map(str::to_owned)
    };
    let exact = Route { hosts: hosts(&["h.test"]), ..route("/*") };
    let wild = Route { hosts: hosts(&["*.test"]), ..route("/{x}") };
    let any = route("/a");
    assert_eq!(first(&[any.clone(), wild.clone(), exact.clone()]).as_deref(), Ok("/*"));
    assert_eq!(first(&[any.clone(), wild.clone()]).as_deref(), Ok("/{x}"));
    let raised = Route { priority: 1, ..any };
    assert_eq!(first(&[exact.clone(), wild.clone(), raised]).as_deref(), Ok("/a"));
    let lowered = Route { priority: -1, ..exact };
    assert_eq!(first(&[lowered, wild]).as_deref(), Ok("/{x}"));
}

#[test]
fn more_conditions_go_first_and_then_the_file() {
    let named = |name: &str| Route { name: name.to_owned(), ..route("/") };
    let present = |name: &str| header(name, HeaderTest::Present);
    let plain = named("plain");
    let get = Route { methods: strings(&["GET"]), ..named("get") };
    let one = Route { headers: vec![present("a")], ..named("one") };
    let two = Route { headers: vec![present("a"), present("b")], ..named("two") };
    let request = Request::get("/").field("a", "").field("b", "");
    let first = |routes: &[&Route]| {
        request.to(&table(&routes.iter().copied().cloned().collect::<Vec<_>>())).map(str::to_owned).unwrap()
    };
    assert_eq!(first(&[&plain, &one, &two]), "two");
    assert_eq!(first(&[&plain, &two, &get]), "get");
    assert_eq!(first(&[&plain, &named("later")]), "plain");
}

#[test]
fn a_failing_condition_falls_through_to_the_next_route() {
    let canary = Route { headers: vec![header("x-canary", HeaderTest::Equals("on".into()))], ..route("/a") };
    let post = Route { methods: strings(&["POST"]), ..route("/{x}") };
    let inner = Route { listeners: strings(&["internal"]), ..route("/{*rest}") };
    let table = table(&[canary, post, inner, route("/*")]);
    let get = Request::get("/a");
    assert_eq!(get.clone().field("x-canary", "on").to(&table), Ok("/a"));
    assert_eq!(get.clone().field("x-canary", "off").method("POST").to(&table), Ok("/{x}"));
    assert_eq!(Request { listener: 1, ..get.clone() }.to(&table), Ok("/{*rest}"));
    assert_eq!(get.to(&table), Ok("/*"));
}

#[test]
fn header_conditions_look_at_every_line() {
    let cases = [
        (HeaderTest::Present, vec![], false),
        (HeaderTest::Present, vec![""], true),
        (HeaderTest::Absent, vec![], true),
        (HeaderTest::Absent, vec!["x"], false),
        (HeaderTest::Equals("on".into()), vec!["off", "on"], true),
        (HeaderTest::Equals("on".into()), vec!["On", "on "], false),
        (HeaderTest::EqualsOrAbsent("v1".into()), vec![], true),
        (HeaderTest::EqualsOrAbsent("v1".into()), vec!["v2", "v1"], true),
        (HeaderTest::EqualsOrAbsent("v1".into()), vec![""], false),
        (HeaderTest::Prefix("ab".into()), vec!["xab", "abx"], true),
        (HeaderTest::Prefix("ab".into()), vec!["xab"], false),
        (HeaderTest::Suffix("ab".into()), vec!["abx", "xab"], true),
        (HeaderTest::Suffix("ab".into()), vec!["abx"], false),
        (HeaderTest::Contains("ab".into()), vec!["xabx"], true),
        (HeaderTest::Contains("ab".into()), vec!["a", "b"], false),
    ];
    for (test, values, holds) in cases {
        let table = table(&[Route { headers: vec![header("x-a", test.clone())], ..route("/") }]);
        let request = values.iter().fold(Request::get("/").field("x-b", "on"), |all, value| all.field("x-a", value));
        let wanted = if holds { Ok("/") } else { Err(Missed::Conditions) };
        assert_eq!(request.to(&table), wanted, "{test:?} on {values:?}");
    }
}

#[track_caller]
fn assert_allow(missed: Result<&str, Missed>, wanted: &str) {
    match missed {
        Err(Missed::Method(allow)) => assert_eq!(allow.as_bytes(), wanted.as_bytes()),
        other => panic!("{other:?} instead of Allow: {wanted}"),
    }
}

#[test]
fn head_matches_get_and_a_refused_method_is_told_what_is_allowed() {
    let with = |methods: &[&str], path| Route { methods: strings(methods), ..route(path) };
    let inner = Route { listeners: strings(&["internal"]), ..with(&["PURGE"], "/a") };
    let table = table(&[with(&["POST"], "/a"), with(&["GET"], "/{x}"), inner, with(&["DELETE", "MOVE"], "/b/*")]);
    assert_eq!(Request::get("/a").method("HEAD").to(&table), Ok("/{x}"));
    assert_allow(Request::get("/a").method("PUT").to(&table), "GET, HEAD, POST");
    assert_allow(Request::get("/a").method("get").to(&table), "GET, HEAD, POST");
    assert_allow(Request::get("/b").method("POST").to(&table), "GET, HEAD, DELETE, MOVE");
    assert_allow(Request::get("/b/c").method("NEVER-HEARD-OF").to(&table), "DELETE, MOVE");
    assert_eq!(Request::get("/c/d").method("PUT").to(&table), Err(Missed::Path));
    let purge = Request { listener: 1, ..Request::get("/a").method("PURGE") };
    assert_eq!(purge.to(&table), Ok("/a"));
}

#[test]
fn failing_headers_alone_are_no_method_refusal() {
    let get = Route { methods: strings(&["GET"]), ..route("/a") };
    let pinned = Route { headers: vec![header("x-a", HeaderTest::Present)], ..route("/a") };
    let table = table(&[get, pinned]);
    assert_eq!(Request::get("/a").method("PUT").to(&table), Err(Missed::Conditions));
}

#[test]
fn a_listener_that_does_not_exist_admits_nobody() {
    let table = table(&[Route { listeners: strings(&["gone"]), ..route("/") }]);
    assert_eq!(Request::get("/").to(&table), Err(Missed::Path));
}

#[test]
fn an_empty_table_misses() {
    let table = table(&[]);
    assert!(table.is_empty());
    assert_eq!(Request::at("a.test").to(&table), Err(Missed::Path));
}

#[test]
fn captures_are_ranges_of_the_raw_path() {
    let paths = ["/users/{id}/posts/{post}", "/files/{kind}/{*rest}", "/plain"];
    let table = table(&paths.map(route));
    let mut captures = Captures::default();
    for (path, names, wanted) in [
        ("/users/7/posts/a%2Fb", vec!["id", "post"], vec!["7", "a%2Fb"]),
        ("/files/img/a/b/", vec!["kind", "rest"], vec!["img", "a/b/"]),
        ("/files/img/", vec!["kind", "rest"], vec!["img", ""]),
        ("/files/img", vec!["kind", "rest"], vec!["img", ""]),
        ("/plain", vec![], vec![]),
    ] {
        let found = table.find(&Request::get(path).query(), &mut captures).expect("a route");
        assert_eq!(table.param_names(found).iter().map(|name| &**name).collect::<Vec<_>>(), names);
        let values: Vec<&[u8]> =
            (0..captures.len()).map(|index| captures.get(path.as_bytes(), index).expect("a range")).collect();
        assert_eq!(values, wanted.iter().map(|value| value.as_bytes()).collect::<Vec<_>>(), "{path}");
        assert_eq!(captures.get(path.as_bytes(), wanted.len()), None);
    }
    assert!(table.find(&Request::get("/users/7/posts/8").query(), &mut captures).is_ok());
    assert!(table.find(&Request::get("/none").query(), &mut captures).is_err());
    assert!(captures.is_empty(), "nothing of the request before");
}

#[test]
fn readings_must_reach_the_same_route() {
    let table = table(&["/public/*", "/admin/*", "/files/{name}"].map(route));
    let read = |path: &str, readings: &[&str]| {
        let request = Request::get(path);
        let readings = readings.iter().map(|reading| reading.as_bytes());
        let mut captures = Captures::default();
        table.find_all_readings(&request.query(), readings, &mut captures).map(|route| table.name(route))
    };
    assert_eq!(read("/public/a", &[]), Ok("/public/*"));
    assert_eq!(read("/public/a%2Fb", &["/public/a/b"]), Ok("/public/*"));
    assert_eq!(read("/public/..%2Fadmin", &["/public/../admin", "/admin"]), Err(Missed::Ambiguous));
    assert_eq!(read("/files/a%2Fb", &["/files/a%2Fb", "/files/a/b"]), Err(Missed::Ambiguous), "reaches none");
    assert_eq!(read("/x%2F..%2Fadmin", &["/admin"]), Err(Missed::Ambiguous), "ours reaches none");
    assert_eq!(read("/x%2Fy", &["/x/y"]), Err(Missed::Path));
}

#[test]
fn labels_are_patterns_and_cannot_break_a_line() {
    let odd = Route { path: PathPattern::Prefix(strings(&["a\nb", "{c}", "d e"])), ..route("/odd") };
    let table = table(&[route("/users/{id}"), route("/files/{*rest}"), route("/api/*"), route("/*"), odd]);
    let labels: Vec<&str> = (0..5).map(|id| table.label(id)).collect();
    assert_eq!(labels, ["/users/{id}", "/files/{*rest}", "/api/*", "/*", "/a%0Ab/%7Bc%7D/d%20e/*"]);
}

#[test]
fn tables_beyond_the_limits_are_refused_by_name() {
    let refused = |route: Route| RouteTable::compile(&[route], &[]).err();
    let deep = |segments: usize| route(&"/a".repeat(segments));
    assert_eq!(refused(deep(SEGMENTS_MAX)), None);
    let (name, segments) = (deep(SEGMENTS_MAX + 1).name, SEGMENTS_MAX + 1);
    assert_eq!(refused(deep(segments)), Some(BuildError::Segments { route: name, segments }));

    let wide = |bytes: usize| route(&format!("/{}", "a".repeat(bytes)));
    assert_eq!(refused(wide(LITERAL_BYTES_MAX)), None);
    let (name, bytes) = (wide(LITERAL_BYTES_MAX + 1).name, LITERAL_BYTES_MAX + 1);
    assert_eq!(refused(wide(bytes)), Some(BuildError::Literal { route: name, bytes }));

    let named = |bytes: usize| hosted("h", &[&"a".repeat(bytes)]);
    assert_eq!(refused(named(HOST_BYTES_MAX)), None);
    let bytes = HOST_BYTES_MAX + 1;
    assert_eq!(refused(named(bytes)), Some(BuildError::Host { route: "h".to_owned(), bytes }));

    // The seven common names are always there.
    let many = |count: usize| Route { methods: (7..count).map(|number| format!("M{number}")).collect(), ..route("/m") };
    assert_eq!(refused(many(METHODS_MAX)), None);
    assert_eq!(refused(many(METHODS_MAX + 1)), Some(BuildError::Methods { route: "/m".to_owned() }));
    let full = table(&[many(METHODS_MAX)]);
    assert_eq!(Request::get("/m").method("M62").to(&full), Ok("/m"));
    assert!(matches!(Request::get("/m").method("M63").to(&full), Err(Missed::Method(_))));
}

#[test]
fn a_checked_file_builds_with_its_listeners_by_index() {
    let text = r#"
        listeners.b = { bind = "127.0.0.1:1" }
        listeners.a = { bind = "127.0.0.1:2" }
        routes = [
            { name = "inner", path = "/x/{id}", listeners = ["b"], respond = { status = 200 } },
            { name = "outer", path_prefix = "/x/", host = "*.Test", respond = { status = 200 } },
            { name = "root", path = "/", respond = { status = 200 } },
        ]
    "#;
    let source = ringway_config::Source { name: "test.toml".to_owned(), text: text.to_owned() };
    let snapshot = ringway_config::load(&source).expect("a sound file").snapshot;
    let table = RouteTable::build(&snapshot).expect("within the limits");
    let at = |listener: u32, path: &str| Request { listener, path: path.to_owned(), ..Request::at("h.test") };
    let index = |name: &str| snapshot.listeners.iter().position(|known| known.name == name).unwrap() as u32;
    assert_eq!(at(index("b"), "/x/7").to(&table), Ok("outer"), "closer host");
    assert_eq!(Request { host: String::new(), ..at(index("b"), "/x/7") }.to(&table), Ok("inner"));
    assert_eq!(Request { host: String::new(), ..at(index("a"), "/x/7") }.to(&table), Err(Missed::Path));
    assert_eq!(at(index("a"), "/").to(&table), Ok("root"));
}
