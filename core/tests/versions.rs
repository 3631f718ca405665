//! APIs in several versions: how a request chooses one, what answers say of its end, and what is counted.

mod support;

use support::{Gateway, Origin};

const VERSIONS: &str = "
    [apis.users.versions.v1]
    deprecated = 2024-01-01
    sunset = 2100-01-01
    link = \"https://docs.test/v2\"
    [apis.users.versions.v2]
    ";

/// A route of a version that answers with its name.
fn route(version: &str, conditions: &str) -> String {
    format!(
        "[[routes]]\nname = \"users-{version}\"\napi = \"users\"\nversion = \"{version}\"\n{conditions}\n\
         respond = {{ body = \"{version}\" }}\n"
    )
}

fn gateway(by: &str, conditions: &str) -> Gateway {
    let routes = route("v1", conditions) + &route("v2", conditions);
    Gateway::start(&format!("[apis.users]\n{by}\n{VERSIONS}\n{routes}"))
}

/// What answered: a version, or the status and the code of the refusal.
fn taken(gateway: &Gateway, target: &str, lines: &str) -> String {
    let got = gateway.client().request("GET", target, lines, b"");
    if got.status == 200 {
        got.text()
    } else {
        format!("{} {}", got.status, got.problem()["code"].as_str().unwrap_or(""))
    }
}

#[test]
fn the_path_chooses() {
    let by_prefix = gateway("by = \"path\"", "path_prefix = \"/api/{version}/users\"");
    for (target, wanted) in [
        ("/api/v1/users", "v1"),
        ("/api/v2/users/7", "v2"),
        ("/api/v3/users", "404 no_route"),
        ("/api/users", "404 no_route"),
    ] {
        assert_eq!(taken(&by_prefix, target, ""), wanted, "{target}");
    }
    let by_path = gateway("by = \"path\"", "path = \"/{version}/users/{id}\"");
    assert_eq!(taken(&by_path, "/v2/users/7", ""), "v2");
    assert_eq!(taken(&by_path, "/v1/users", ""), "404 no_route");
}

#[test]
fn a_header_chooses_and_its_absence_is_the_default() {
    let gateway = gateway("by = { header = \"X-Api-Version\" }\ndefault = \"v1\"", "path_prefix = \"/users\"");
    for (lines, wanted) in [
        ("", "v1"),
        ("x-api-version: v1\r\n", "v1"),
        ("X-API-VERSION: v2\r\n", "v2"),
        ("x-api-version: v3\r\n", "404 unknown_version"),
        ("x-api-version: V2\r\n", "404 unknown_version"),
        ("x-api-version:\r\n", "404 unknown_version"),
    ] {
        assert_eq!(taken(&gateway, "/users/7", lines), wanted, "{lines:?}");
    }
    let got = gateway.client().request("GET", "/users", "x-api-version: v3\r\n", b"").expect(404);
    assert_eq!(got.problem()["versions"], serde_json::json!(["v1", "v2"]));
    assert_eq!(taken(&gateway, "/other", "x-api-version: v3\r\n"), "404 no_route", "no version would have it");
}

#[test]
fn without_a_default_a_request_must_say_its_version() {
    let gateway = gateway("by = { header = \"x-api-version\" }", "path = \"/users\"");
    assert_eq!(taken(&gateway, "/users", "x-api-version: v2\r\n"), "v2");
    assert_eq!(taken(&gateway, "/users", ""), "404 unknown_version");
}

#[test]
fn a_path_that_a_known_version_does_not_have_is_no_unknown_version() {
    let conditions = |version: &str| if version == "v1" { "path = \"/old\"" } else { "path = \"/new\"" };
    let routes = ["v1", "v2"].map(|version| route(version, conditions(version))).concat();
    let by = "by = { header = \"v\" }\ndefault = \"v2\"";
    let gateway = Gateway::start(&format!("[apis.users]\n{by}\n{VERSIONS}\n{routes}"));
    assert_eq!(taken(&gateway, "/old", "v: v1\r\n"), "v1");
    assert_eq!(taken(&gateway, "/old", "v: v2\r\n"), "404 no_route");
    assert_eq!(taken(&gateway, "/old", ""), "404 no_route");
    assert_eq!(taken(&gateway, "/old", "v: v3\r\n"), "404 unknown_version");
}

#[test]
fn a_query_parameter_chooses() {
    let gateway = gateway("by = { query = \"version\" }\ndefault = \"v2\"", "path_prefix = \"/users\"");
    for (target, wanted) in [
        ("/users", "v2"),
        ("/users?x=1", "v2"),
        ("/users?x=1&version=v1", "v1"),
        ("/users?%76ersion=%761", "v1"),
        ("/users?version=v2", "v2"),
        ("/users?version=", "404 unknown_version"),
        ("/users?version=v9", "404 unknown_version"),
    ] {
        assert_eq!(taken(&gateway, target, ""), wanted, "{target}");
    }
}

#[test]
fn answers_of_a_deprecated_version_say_so() {
    let origin = Origin::start(|x| x.reply(200, "Sunset: never\r\nLink: </next>; rel=\"next\"\r\n", "x"));
    let gateway = Gateway::start(&format!(
        "[apis.users]\nby = \"path\"\n{VERSIONS}\n[clusters.app]\nendpoints = [\"{}\"]\n
         [[routes]]\nname = \"one\"\napi = \"users\"\nversion = \"v1\"\npath_prefix = \"/{{version}}\"\ncluster = \"app\"\n
         [[routes]]\nname = \"two\"\napi = \"users\"\nversion = \"v2\"\npath_prefix = \"/{{version}}\"\ncluster = \"app\"\n",
        origin.endpoint()
    ));
    let got = gateway.get("/v1/users").expect(200);
    assert_eq!(got.all("deprecation"), ["@1704067200"]);
    assert_eq!(got.all("sunset"), ["Fri, 01 Jan 2100 00:00:00 GMT"]);
    assert_eq!(
        got.all("link"),
        [
            "</next>; rel=\"next\"",
            "<https://docs.test/v2>; rel=\"deprecation\"",
            "<https://docs.test/v2>; rel=\"sunset\""
        ]
    );
    let got = gateway.get("/v2/users").expect(200);
    assert!(!got.has("deprecation") && got.header("sunset") == Some("never"), "{:?}", got.headers);
}

#[test]
fn after_its_sunset_a_version_is_gone_or_still_served() {
    let gateway = Gateway::start(
        "[apis.users]\nby = \"path\"\n[apis.users.versions.v1]\nsunset = 2024-01-01T12:00:00Z\nafter_sunset = \"gone\"\n\
         [apis.users.versions.v2]\nsunset = 2024-01-01\n[apis.users.versions.v3]\nsunset = 2100-01-01\nafter_sunset = \"gone\"\n\
         [[routes]]\nname = \"one\"\napi = \"users\"\nversion = \"v1\"\npath_prefix = \"/{version}\"\nrespond = {}\n\
         [[routes]]\nname = \"two\"\napi = \"users\"\nversion = \"v2\"\npath_prefix = \"/{version}\"\nrespond = {}\n\
         [[routes]]\nname = \"three\"\napi = \"users\"\nversion = \"v3\"\npath_prefix = \"/{version}\"\nrespond = {}\n",
    );
    let got = gateway.get("/v1/x").expect(410);
    assert_eq!(got.problem()["code"], "version_gone");
    assert_eq!(got.header("sunset"), Some("Mon, 01 Jan 2024 12:00:00 GMT"));
    gateway.get("/v2/x").expect(200);
    gateway.get("/v3/x").expect(200);
}

#[test]
fn a_version_is_counted_over_its_routes_and_logged() {
    let more = "[[routes]]\nname = \"more\"\napi = \"users\"\nversion = \"v2\"\npath = \"/more\"\nrespond = { status = 202 }\n";
    let routes = route("v1", "path_prefix = \"/users\"") + &route("v2", "path_prefix = \"/users\"") + more;
    let gateway =
        Gateway::start(&format!("[apis.users]\nby = {{ header = \"v\" }}\ndefault = \"v1\"\n{VERSIONS}\n{routes}"));
    let mut client = gateway.client();
    for (path, lines) in [("/users", ""), ("/users", "v: v2\r\n"), ("/users/7", "v: v2\r\n"), ("/more", "v: v2\r\n")] {
        client.request("GET", path, lines, b"");
    }
    let of = [("api", "users"), ("version", "v2"), ("code", "200")];
    let metrics = gateway.wait_metrics("three answers of v2", |all| all.count("ringway_api_requests_total", &of) == 2);
    let count = |labels: &[(&str, &str)]| metrics.count("ringway_api_requests_total", labels);
    assert_eq!(count(&[("version", "v1"), ("code", "200")]), 1);
    assert_eq!(count(&[("version", "v2"), ("code", "202")]), 1);
    assert_eq!(metrics.count("ringway_api_response_time_seconds_count", &of[..2]), 3);
    let line = &gateway.wait_log(4)[3];
    assert_eq!((line.text("ringway.api"), line.text("ringway.api_version")), ("users".into(), "v2".into()));
}
