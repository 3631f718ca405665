//! Which route takes a request, and what fixed answers, redirects and header filters do. Origins play a small part here.

mod support;

use support::client::request;
use support::{Gateway, Origin};

/// Routes that answer with their own name.
fn named(routes: &[(&str, &str)]) -> String {
    routes
        .iter()
        .map(|(name, lines)| {
            format!("[[routes]]\nname = \"{name}\"\n{lines}\nrespond = {{ status = 200, body = \"{name}\" }}\n\n")
        })
        .collect()
}

/// The name of the route that took it, or the status of the refusal.
fn taken(gateway: &Gateway, method: &str, host: &str, target: &str, lines: &str) -> String {
    let got = gateway
        .client()
        .send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}Connection: close\r\n\r\n"))
        .response_to(method);
    if got.status == 200 { got.text() } else { got.status.to_string() }
}

#[test]
fn hosts_exact_before_wildcard_before_any() {
    let gateway = Gateway::start(&named(&[
        ("any", "path_prefix = \"/\""),
        ("wild", "hosts = [\"*.example.com\"]\npath_prefix = \"/\""),
        ("deep", "hosts = [\"*.api.example.com\"]\npath_prefix = \"/\""),
        ("exact", "hosts = [\"www.example.com\", \"example.com\"]\npath_prefix = \"/\""),
    ]));
    let cases = [
        ("www.example.com", "exact"),
        ("WWW.Example.COM", "exact"),
        ("www.example.com:8080", "exact"),
        ("example.com", "exact"),
        ("a.example.com", "wild"),
        ("a.b.example.com", "wild"),
        ("v1.api.example.com", "deep"),
        ("api.example.com", "wild"),
        ("badexample.com", "any"),
        ("example.com.evil.test", "any"),
        ("other.test", "any"),
    ];
    for (host, wanted) in cases {
        assert_eq!(taken(&gateway, "GET", host, "/", ""), wanted, "{host}");
    }
}

#[test]
fn paths_exact_before_param_before_catch_all_before_prefix() {
    let gateway = Gateway::start(&named(&[
        ("root", "path_prefix = \"/\""),
        ("users", "path_prefix = \"/users\""),
        ("user", "path = \"/users/{id}\""),
        ("me", "path = \"/users/me\""),
        ("posts", "path = \"/users/{id}/posts\""),
        ("files", "path = \"/files/{*rest}\""),
        ("readme", "path = \"/files/readme\""),
    ]));
    let cases = [
        ("/", "root"),
        ("/other", "root"),
        ("/users", "users"),
        ("/users/", "users"),
        ("/users/7", "user"),
        ("/users/me", "me"),
        ("/users/me/x", "users"),
        ("/users/7/posts", "posts"),
        ("/users/7/posts/1", "users"),
        ("/usersx", "root"),
        ("/files", "files"),
        ("/files/a/b/c", "files"),
        ("/files/readme", "readme"),
        ("/filesystem", "root"),
        ("/users/7?x=/users/me", "user"),
        ("/users/%6de", "me"),
    ];
    for (path, wanted) in cases {
        assert_eq!(taken(&gateway, "GET", "a", path, ""), wanted, "{path}");
    }
}

#[test]
fn methods_are_conditions() {
    let gateway = Gateway::start(&named(&[
        ("read", "path = \"/x\"\nmethods = [\"GET\"]"),
        ("write", "path = \"/x\"\nmethods = [\"POST\", \"PUT\"]"),
        ("all", "path = \"/y\""),
    ]));
    assert_eq!(taken(&gateway, "GET", "a", "/x", ""), "read");
    assert_eq!(taken(&gateway, "PUT", "a", "/x", ""), "write");
    assert_eq!(taken(&gateway, "FROB", "a", "/y", ""), "all");
    let got = gateway.client().request("DELETE", "/x", "", b"").expect(405);
    let allow: Vec<&str> = got.header("allow").expect("Allow").split(',').map(str::trim).collect();
    assert!(["GET", "POST", "PUT"].iter().all(|m| allow.contains(m)) && !allow.contains(&"DELETE"), "{allow:?}");
    let head = gateway.client().request("HEAD", "/x", "", b"").expect(200);
    assert_eq!(head.header("content-length"), Some("4"), "HEAD of the fixed answer `read`");
}

#[test]
fn header_conditions() {
    let one = |name: &str, test: &str| {
        (name.to_owned(), format!("path = \"/{name}\"\nheaders = [{{ name = \"X-T\", {test} }}]"))
    };
    let routes = [
        one("equals", "equals = \"abc\""),
        one("present", "present = true"),
        one("absent", "absent = true"),
        one("prefix", "prefix = \"ab\""),
        one("suffix", "suffix = \"bc\""),
        one("contains", "contains = \"b\""),
    ];
    let routes: Vec<(&str, &str)> = routes.iter().map(|(n, l)| (n.as_str(), l.as_str())).collect();
    let gateway = Gateway::start(&named(&routes));
    let cases = [
        ("equals", "abc", true),
        ("equals", "abcd", false),
        ("present", "", true),
        ("absent", "x", false),
        ("prefix", "abx", true),
        ("prefix", "xab", false),
        ("suffix", "xbc", true),
        ("suffix", "bcx", false),
        ("contains", "xbx", true),
        ("contains", "xyx", false),
    ];
    for (name, value, holds) in cases {
        let got = taken(&gateway, "GET", "a", &format!("/{name}"), &format!("x-t: {value}\r\n"));
        assert_eq!(got, if holds { name } else { "404" }, "{name} of {value:?}");
    }
    assert_eq!(taken(&gateway, "GET", "a", "/absent", ""), "absent");
    assert_eq!(taken(&gateway, "GET", "a", "/present", ""), "404");
    assert_eq!(taken(&gateway, "GET", "a", "/equals", "X-T: no\r\nX-T: abc\r\n"), "equals", "any line of that name");
}

#[test]
fn several_conditions_must_all_hold_and_more_go_first() {
    let gateway = Gateway::start(&named(&[
        ("plain", "path = \"/x\""),
        ("one", "path = \"/x\"\nheaders = [{ name = \"a\", equals = \"1\" }]"),
        ("two", "path = \"/x\"\nheaders = [{ name = \"a\", equals = \"1\" }, { name = \"b\", equals = \"2\" }]"),
    ]));
    assert_eq!(taken(&gateway, "GET", "h", "/x", ""), "plain");
    assert_eq!(taken(&gateway, "GET", "h", "/x", "A: 1\r\n"), "one");
    assert_eq!(taken(&gateway, "GET", "h", "/x", "A: 1\r\nB: 2\r\n"), "two");
    assert_eq!(taken(&gateway, "GET", "h", "/x", "B: 2\r\n"), "plain");
}

#[test]
fn priority_goes_before_everything() {
    let gateway = Gateway::start(&named(&[
        ("exact", "hosts = [\"a\"]\npath = \"/x\""),
        ("first", "path_prefix = \"/\"\npriority = 10\nheaders = [{ name = \"maintenance\", present = true }]"),
        ("low", "path_prefix = \"/\"\npriority = -5"),
    ]));
    assert_eq!(taken(&gateway, "GET", "a", "/x", ""), "exact");
    assert_eq!(taken(&gateway, "GET", "a", "/x", "Maintenance: 1\r\n"), "first");
    assert_eq!(taken(&gateway, "GET", "b", "/x", ""), "low");
}

#[test]
fn the_order_of_the_file_decides_last() {
    let gateway = Gateway::start(&named(&[
        ("earlier", "path = \"/x\"\nheaders = [{ name = \"a\", present = true }]"),
        ("later", "path = \"/x\"\nheaders = [{ name = \"b\", present = true }]"),
    ]));
    assert_eq!(taken(&gateway, "GET", "h", "/x", "A: 1\r\nB: 1\r\n"), "earlier");
    assert_eq!(taken(&gateway, "GET", "h", "/x", "B: 1\r\n"), "later");
}

#[test]
fn a_route_can_be_bound_to_a_listener() {
    let toml = format!(
        "[listeners.main]\n\n[listeners.inner]\n\n{}",
        named(&[("everywhere", "path = \"/a\""), ("inner", "path = \"/b\"\nlisteners = [\"inner\"]"),])
    );
    let gateway = Gateway::start(&toml);
    let ask = |listener: &str, path: &str| {
        support::Client::to(gateway.addr_of(listener)).send(request("GET", path, "", b"")).response().status
    };
    assert_eq!((ask("main", "/a"), ask("inner", "/a")), (200, 200));
    assert_eq!((ask("main", "/b"), ask("inner", "/b")), (404, 200));
}

#[test]
fn no_route_is_a_404_with_a_code() {
    let gateway = Gateway::start(&named(&[("x", "path = \"/x\"")]));
    let got = gateway.get("/y").expect(404);
    assert_eq!(got.problem()["code"], "no_route");
    assert!(gateway.wait_log(1)[0].has_flag("NR"), "{:?}", gateway.log());
}

#[test]
fn fixed_answers_say_what_they_were_told() {
    let gateway = Gateway::start(
        "[[routes]]\nname = \"teapot\"\npath = \"/tea\"\n\
         respond = { status = 418, body = \"{\\\"a\\\":1}\", content_type = \"application/json\", headers = { X-Pot = \"yes\" } }\n\n\
         [[routes]]\nname = \"empty\"\npath = \"/empty\"\nrespond = { status = 204 }\n",
    );
    let mut client = gateway.client();
    let got = client.get("/tea").expect(418);
    assert_eq!(
        (got.text().as_str(), got.header("content-type"), got.header("x-pot")),
        ("{\"a\":1}", Some("application/json"), Some("yes"))
    );
    client.get("/empty").expect(204);
    let head = client.request("HEAD", "/tea", "", b"").expect(418);
    assert_eq!(head.header("content-length"), Some("7"));
    client.get("/tea").expect(418);
}

#[test]
fn a_body_sent_to_a_fixed_answer_does_not_become_a_request() {
    let gateway = Gateway::start(&named(&[("x", "path_prefix = \"/\"")]));
    let mut client = gateway.client();
    let inner = request("GET", "/smuggled", "", b"");
    client.request("POST", "/a", "", &inner).expect(200);
    client.send("POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    client.response_to("POST").expect(200);
    client.get("/c").expect(200);
    let paths: Vec<String> = gateway.wait_log(3).iter().map(support::log::Line::path).collect();
    assert_eq!(paths, ["/a", "/b", "/c"]);
}

#[test]
fn redirects_build_their_location() {
    let redirect = |name: &str, path: &str, status: u16, to: &str| {
        format!("[[routes]]\nname = \"{name}\"\n{path}\nredirect = {{ status = {status}, to = \"{to}\" }}\n\n")
    };
    let toml = [
        redirect("tls", "path = \"/tls\"", 308, "https://{host}{path}"),
        redirect("fixed", "path = \"/fixed\"", 301, "https://new.test/x"),
        redirect("param", "path = \"/old/{id}\"", 302, "/new/{id}"),
        redirect("query", "path = \"/q\"", 307, "https://new.test{path}?{query}"),
    ]
    .concat();
    let gateway = Gateway::start(&toml);
    let location =
        |target: &str, status: u16| gateway.get(target).expect(status).header("location").expect("Location").to_owned();
    assert_eq!(location("/tls", 308), "https://gw.test/tls");
    assert_eq!(location("/fixed", 301), "https://new.test/x");
    assert_eq!(location("/old/7", 302), "/new/7");
    assert_eq!(location("/q?a=b&c=%2F", 307), "https://new.test/q?a=b&c=%2F");
}

#[test]
fn a_redirect_cannot_be_split_or_sent_elsewhere() {
    let gateway = Gateway::start(
        "[[routes]]\nname = \"r\"\npath = \"/old/{id}\"\nredirect = { status = 302, to = \"/{id}\" }\n\n\
         [[routes]]\nname = \"s\"\npath_prefix = \"/go\"\nredirect = { status = 302, to = \"https://safe.test{path}\" }\n",
    );
    for target in ["/old/%0d%0aSet-Cookie:x=1", "/old/%2f%2fevil.test", "/old/%2fevil.test", "/old/%5cevil.test"] {
        let got = gateway.get(target);
        assert!(!got.has("set-cookie"), "{target}: {got:?}");
        let location = got.header("location").unwrap_or_default().to_owned();
        assert!(!location.starts_with("//") && !location.starts_with("/\\"), "{target}: {location}");
    }
    let location = gateway.get("/go/a/b").expect(302).header("location").map(str::to_owned);
    assert_eq!(location.as_deref(), Some("https://safe.test/go/a/b"));
}

fn filtered(origin: &Origin, route: &str, filters: &str) -> Gateway {
    Gateway::start(&format!(
        "[clusters.app]\nendpoints = [\"{}\"]\n\n[[routes]]\nname = \"r\"\n{route}\nfilters = [{filters}]\ncluster = \"app\"\n",
        origin.endpoint()
    ))
}

#[test]
fn request_headers_are_set_added_and_removed() {
    let origin = Origin::saying("x");
    let gateway = filtered(
        &origin,
        "path_prefix = \"/\"",
        "{ request_headers = { set = { X-Set = \"new\" }, add = { X-Add = \"more\" }, remove = [\"X-Gone\", \"Cookie\"] } }",
    );
    let lines = "x-set: old\r\nX-SET: older\r\nX-Add: first\r\nX-GONE: 1\r\nCookie: a=1\r\nX-Stays: 1\r\n";
    gateway.client().request("GET", "/", lines, b"").expect(200);
    let seen = origin.request();
    assert_eq!((seen.header("x-set"), seen.header("x-stays")), (Some("new"), Some("1")));
    assert_eq!(seen.all("x-add"), ["first", "more"]);
    assert!(!seen.has("x-gone") && !seen.has("cookie"), "{:?}", seen.headers);
}

#[test]
fn response_headers_are_set_added_and_removed() {
    let origin = Origin::start(|x| {
        x.reply(200, "Server: secret/1\r\nX-Set: old\r\nX-Add: first\r\nX-Gone: 1\r\nSet-Cookie: a=1\r\n", "body")
    });
    let gateway = filtered(
        &origin,
        "path_prefix = \"/\"",
        "{ response_headers = { set = { X-Set = \"new\", Strict-Transport-Security = \"max-age=1\" }, add = { X-Add = \"more\" }, remove = [\"x-gone\", \"server\"] } }",
    );
    let got = gateway.get("/").expect(200);
    assert_eq!((got.header("x-set"), got.header("strict-transport-security")), (Some("new"), Some("max-age=1")));
    assert_eq!((got.all("x-add"), got.all("set-cookie")), (vec!["first", "more"], vec!["a=1"]));
    assert!(!got.has("x-gone") && !got.has("server"), "{:?}", got.headers);
    assert_eq!(got.text(), "body");
}

#[test]
fn response_headers_touch_fixed_answers_too() {
    let gateway = Gateway::start(
        "[[routes]]\nname = \"r\"\npath = \"/x\"\nfilters = [{ response_headers = { set = { X-A = \"1\" } } }]\n\
         respond = { status = 200, body = \"x\" }\n",
    );
    assert_eq!(gateway.get("/x").expect(200).header("x-a"), Some("1"));
}

#[test]
fn strip_prefix_takes_whole_segments() {
    let origin = Origin::saying("x");
    let gateway = filtered(&origin, "path_prefix = \"/api/v1\"", "{ strip_prefix = \"/api/v1\" }");
    for (sent, wanted) in [
        ("/api/v1/users", "/users"),
        ("/api/v1", "/"),
        ("/api/v1/", "/"),
        ("/api/v1?q=1", "/?q=1"),
        ("/api/v1/a%2Fb?c=/api/v1", "/a%2Fb?c=/api/v1"),
    ] {
        gateway.get(sent).expect(200);
        assert_eq!(origin.last().target, wanted, "{sent}");
    }
    assert_eq!(gateway.get("/api/v1x").status, 404);
}

#[test]
fn filters_run_in_their_order() {
    let origin = Origin::saying("x");
    let gateway = filtered(
        &origin,
        "path_prefix = \"/\"",
        "{ request_headers = { set = { X-A = \"1\" } } }, { request_headers = { remove = [\"X-A\"] } }, { request_headers = { add = { X-A = \"2\" } } }",
    );
    gateway.get("/").expect(200);
    assert_eq!(origin.request().all("x-a"), ["2"]);
}

#[test]
fn a_filter_cannot_break_framing() {
    for filters in [
        "{ request_headers = { set = { Content-Length = \"5\" } } }",
        "{ request_headers = { remove = [\"Host\"] } }",
        "{ request_headers = { add = { Transfer-Encoding = \"chunked\" } } }",
        "{ response_headers = { set = { Content-Length = \"1\" } } }",
        "{ request_headers = { set = { \"X\\r\\nY\" = \"1\" } } }",
        "{ request_headers = { set = { X = \"1\\r\\nY: 2\" } } }",
    ] {
        let dir = support::gateway::Dir::new();
        let file = dir.file(
            "bad.toml",
            &format!(
                "[listeners.main]\nbind = \"127.0.0.1:18080\"\n\n[[routes]]\nname = \"r\"\npath = \"/x\"\nfilters = [{filters}]\n\
                 respond = {{ status = 200, body = \"x\" }}\n"
            ),
        );
        let ran = support::ringway(["check".as_ref(), file.as_os_str()]).expect(1);
        assert!(ran.all().contains("bad.toml:"), "{filters}: {}", ran.all());
    }
}
