//! What an origin sees instead of the client's path and query.

mod support;

use support::{Gateway, Origin};

fn gateway(origin: &Origin, routes: &str) -> Gateway {
    Gateway::start(&format!("[clusters.app]\nendpoints = [\"{}\"]\n\n{routes}", origin.endpoint()))
}

/// One route to the origin.
fn route(name: &str, conditions: &str, filters: &str) -> String {
    format!("[[routes]]\nname = \"{name}\"\n{conditions}\nfilters = [{filters}]\ncluster = \"app\"\n\n")
}

#[test]
fn paths_are_rewritten() {
    let origin = Origin::saying("x");
    let routes = [
        route("to", "path = \"/users/{id}\"", "{ rewrite = { to = \"/v2/{id}\" } }"),
        route("files", "path = \"/files/{*rest}\"", "{ rewrite = { to = \"/f/{rest}\" } }"),
        route("all", "path_prefix = \"/all\"", "{ rewrite = { to = \"/v2{path}\" } }"),
        route("regex", "path_prefix = \"/old\"", "{ rewrite = { regex = \"^/old/(.*)$\", to = \"/new/$1\" } }"),
        route("prefix", "path_prefix = \"/a/b\"", "{ rewrite = { prefix = \"/c\" } }"),
        route("after", "path_prefix = \"/s\"", "{ strip_prefix = \"/s\" }, { rewrite = { to = \"/t{path}\" } }"),
    ];
    let gateway = gateway(&origin, &routes.concat());
    let mut client = gateway.client();
    for (sent, wanted) in [
        ("/users/7", "/v2/7"),
        ("/users/a%20b?x=/users/1", "/v2/a%20b?x=/users/1"),
        ("/files/a%2fb/c", "/f/a%2Fb/c"),
        ("/all", "/v2/all"),
        ("/all/x/../y", "/v2/all/y"),
        ("/old/x/y?z", "/new/x/y?z"),
        ("/old", "/old"),
        ("/a/b", "/c"),
        ("/a/b/d/", "/c/d/"),
        ("/s/x", "/t/x"),
        ("/s", "/t/"),
    ] {
        client.get(sent).expect(200);
        assert_eq!(origin.last().target, wanted, "{sent}");
    }
    assert_eq!(origin.last().header("x-forwarded-prefix"), Some("/s"), "what the client's path has lost");
}

#[test]
fn what_is_filled_in_cannot_lead_elsewhere() {
    let origin = Origin::saying("x");
    let routes = [
        route("to", "path = \"/users/{*rest}\"", "{ rewrite = { to = \"/safe/{rest}/end\" } }"),
        route("any", "path_prefix = \"/r\"", "{ rewrite = { regex = \"^/r/(.).*/(.).*$\", to = \"/safe/$1$2\" } }"),
    ];
    let gateway = gateway(&origin, &routes.concat());
    for target in [
        "/users/x%2f..%2fy/n",
        "/users/a/b/..%5cc",
        "/users/a/..;/b",
        "/users/a/;x/b",
        "/users/a/b%2f%2e%2e%2fc",
        "/users/a/b/%252e%252e%252fc",
        "/users/a%2f%2fb/n",
        "/r/.a/.b",
    ] {
        let got = gateway.get(target).expect(400);
        assert_eq!(got.problem()["code"], "bad_rewrite", "{target}");
    }
    assert_eq!(origin.count(), 0);
    gateway.get("/users/a%3fb%23c%0d%0aX:%20y/n").expect(200);
    assert_eq!(origin.last().target, "/safe/a%3Fb%23c%0D%0AX:%20y/n/end");
    assert!(!origin.last().has("x"));
}

#[test]
fn query_parameters_are_set_added_and_removed() {
    let origin = Origin::saying("x");
    let edits = "{ query = { set = { id = \"{id}\" }, add = { via = \"gate way\" }, remove = [\"debug\"] } }";
    let routes =
        route("q", "path = \"/u/{id}\"", edits) + &route("r", "path = \"/r\"", "{ query = { remove = [\"a\"] } }");
    let gateway = gateway(&origin, &routes);
    for (sent, wanted) in [
        ("/u/7", "/u/7?id=7&via=gate%20way"),
        ("/u/7?id=1&x=2&%64ebug=1&id=3", "/u/7?x=2&id=7&via=gate%20way"),
        ("/u/7&debug=1?x=%2F", "/u/7&debug=1?x=%2F&id=7%26debug%3D1&via=gate%20way"),
        ("/r?a=1", "/r"),
        ("/r?b", "/r?b"),
    ] {
        gateway.get(sent).expect(200);
        assert_eq!(origin.last().target, wanted, "{sent}");
    }
}

#[test]
fn a_rewritten_target_has_a_limit() {
    let origin = Origin::saying("x");
    let ten = "$1".repeat(10);
    let rewrite = format!("{{ rewrite = {{ regex = \"^(/.*)$\", to = \"{ten}\" }} }}");
    let gateway = gateway(&origin, &route("r", "path_prefix = \"/\"", &rewrite));
    gateway.get("/abc").expect(200);
    assert_eq!(origin.last().target, "/abc".repeat(10));
    gateway.get(&format!("/{}", "a".repeat(8000))).expect(414);
}
