//! One place decides what a path is: no spelling reaches an origin by another route than the one that was matched.

mod support;

use support::client::request;
use support::wire::lossy;
use support::{Gateway, Origin, Response};

/// `/admin` is answered here with 403; everything else goes to the origin.
fn guarded(origin: &Origin) -> Gateway {
    Gateway::start(&format!(
        "[[routes]]\nname = \"denied\"\npath_prefix = \"/admin\"\nrespond = {{ status = 403, body = \"no\" }}\n\n{}",
        support::proxy_to(origin)
    ))
}

/// Decodes once, as an origin does; `None` is no valid escape.
fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|h| str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

/// The path a lenient origin may make of a target: decoded, backslashes turned, parameters and dots gone, slashes merged.
fn lenient(target: &str) -> String {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let path = path.strip_prefix("http://gw.test").unwrap_or(path);
    let mut text = lossy(&decode(path)).replace('\\', "/");
    // Overlong two- and three-byte forms of `/` and `.`, as a careless decoder reads them.
    for (long, short) in
        [(b"\xc0\xaf".as_slice(), "/"), (b"\xc0\xae", "."), (b"\xe0\x80\xaf", "/"), (b"\xe0\x80\xae", ".")]
    {
        text = text.replace(&*lossy(long), short);
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        match segment.split([';', '\0']).next().unwrap_or_default() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            plain => segments.push(plain),
        }
    }
    format!("/{}", segments.join("/"))
}

const SPELLINGS: [&str; 84] = [
    "/admin",
    "/admin/",
    "/admin/x",
    "/admin?x=1",
    "/admin/?x",
    "/admin#f",
    "/%61dmin",
    "/%61%64%6d%69%6e",
    "/%41dmin",
    "/a%64min/x",
    "//admin",
    "///admin",
    "/./admin",
    "/././admin",
    "/x/../admin",
    "/x/./../admin",
    "/x//../admin",
    "/x/y/../../admin",
    "/../admin",
    "/../../admin",
    "/admin/.",
    "/admin/..%2fadmin",
    "/x/..;/admin",
    "/x/..;a=b/admin",
    "/admin;",
    "/admin;x=1",
    "/admin;/x",
    "/;/admin",
    "/;x/admin",
    "/.;/admin",
    "/x/%2e%2e/admin",
    "/x/%2E%2E/admin",
    "/x/.%2e/admin",
    "/x/%2e./admin",
    "/%2e/admin",
    "/%2fadmin",
    "/%2Fadmin",
    "/x%2f..%2fadmin",
    "/x/..%2fadmin",
    "/x%2f../admin",
    "/admin%2f",
    "/admin%2fx",
    "/admin%2Fx",
    "/admin%3f",
    "/admin%3fx",
    "/admin%23",
    "/admin%00",
    "/admin%00.jpg",
    "/%00/admin",
    "/x%00/../admin",
    "/\\admin",
    "/x\\..\\admin",
    "/x/..\\admin",
    "/%5cadmin",
    "/x%5c..%5cadmin",
    "/admin%5cx",
    "/admin\\x",
    "/%c0%afadmin",
    "/x/..%c0%afadmin",
    "/x/%c0%ae%c0%ae/admin",
    "/%e0%80%afadmin",
    "/%2561dmin",
    "/%25%36%31dmin",
    "/%252fadmin",
    "/x/%252e%252e/admin",
    "/x%252f..%252fadmin",
    "/admin%20",
    "/admin%09",
    "/admin%0a",
    "/admin%0d%0ax",
    "/admin.",
    "/admin%2e",
    "/admin/%2e",
    "/admin/%2e%2e/admin",
    "/admin/../admin/x",
    "http://gw.test/admin",
    "http://gw.test//admin",
    "http://gw.test/x/../admin",
    "HTTP://GW.TEST/admin",
    "/%u0061dmin",
    "/%c1%a1dmin",
    "/x/%2e%2e%2fadmin",
    "/.//admin",
    "/x/...//../../admin",
];

#[test]
fn no_spelling_reaches_a_denied_prefix() {
    let origin = Origin::saying("reached");
    let gateway = guarded(&origin);
    let mut report = Vec::new();
    for spelling in SPELLINGS {
        let before = origin.count();
        let mut client = gateway.client();
        client.send(request("GET", spelling, "", b""));
        let got = client.response();
        let reached: Vec<String> = origin.targets().split_off(before);
        for target in &reached {
            let path = lenient(target);
            if path == "/admin" || path.starts_with("/admin/") {
                report.push(format!("{spelling} reached the origin as {target}"));
            }
        }
        let refused = (400..500).contains(&got.status) || [301, 308].contains(&got.status);
        if reached.is_empty() && !refused {
            report.push(format!("{spelling}: {}", got.status));
        }
    }
    assert!(report.is_empty(), "{report:#?}");
}

#[test]
fn the_plain_spellings_are_answered_403() {
    let origin = Origin::saying("reached");
    let gateway = guarded(&origin);
    let plain = [
        "/admin",
        "/admin/",
        "/admin/x/y",
        "/admin?q",
        "/%61dmin",
        "/a%64min",
        "//admin",
        "/./admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "http://gw.test/admin",
    ];
    for spelling in plain {
        assert_eq!(gateway.get(spelling).status, 403, "{spelling}");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn neighbours_of_a_denied_prefix_pass() {
    let origin = Origin::saying("reached");
    let gateway = guarded(&origin);
    for path in ["/adminx", "/admi", "/x/admin", "/Admin", "/administrator/x", "/"] {
        gateway.get(path).expect(200);
    }
    assert_eq!(origin.count(), 6);
}

/// What the origin gets for a target; `Err` is the refusal.
fn arrives(origin: &Origin, gateway: &Gateway, target: &str) -> Result<String, Box<Response>> {
    let before = origin.count();
    let got = gateway.get(target);
    match origin.targets().get(before) {
        Some(seen) => Ok(seen.clone()),
        None => Err(Box::new(got)),
    }
}

#[test]
fn ordinary_targets_arrive_as_they_were_sent() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&support::proxy_to(&origin));
    let kept = [
        "/",
        "/a/b",
        "/a/b/",
        "/a-b_c~d.e",
        "/%C3%A9",
        "/a%20b",
        "/caf%C3%A9;p=1",
        "/a:b@c!$&'()*+,=",
        "/a%2Fb",
        "/a?b=c",
        "/a?",
        "/?q",
        "/a?b=%2F%20b&c=../d",
        "/a?b=//x/./y",
        "/a?x=%00%zz",
        "/a?b?c/d",
        "/a%3Fb",
        "/a%23b",
        "/...",
        "/a..b",
    ];
    for target in kept {
        match arrives(&origin, &gateway, target) {
            Ok(seen) => assert_eq!(seen, target),
            Err(got) => panic!("{target} was refused: {}", got.status),
        }
    }
}

#[test]
fn an_encoded_slash_stays_encoded() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&support::proxy_to(&origin));
    let seen = arrives(&origin, &gateway, "/t/a%2fb").expect("forwarded");
    assert_eq!(seen.to_ascii_lowercase(), "/t/a%2fb");
}

#[test]
fn dot_segments_are_resolved_before_forwarding() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&support::proxy_to(&origin));
    for (sent, wanted) in
        [("/a/./b", "/a/b"), ("/a/../b", "/b"), ("/a/b/..", "/a/"), ("/a/b/.", "/a/b/"), ("/a/%2e%2e/b", "/b")]
    {
        assert_eq!(arrives(&origin, &gateway, sent).expect("forwarded"), wanted, "{sent}");
    }
}

#[test]
fn a_climb_above_the_root_goes_nowhere() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&support::proxy_to(&origin));
    for target in ["/..", "/../", "/../../etc/passwd", "/a/../../b", "/%2e%2e/x", "/.%2e/x"] {
        match arrives(&origin, &gateway, target) {
            Ok(seen) => assert!(!lossy(&decode(&seen)).contains(".."), "{target} arrived as {seen}"),
            Err(got) => assert_eq!(got.status, 400, "{target}"),
        }
    }
}

#[test]
fn escapes_that_are_none_are_refused() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&support::proxy_to(&origin));
    for target in ["/a%", "/a%2", "/a%zz", "/a%2z/b", "/%u0041", "/a%%20"] {
        let got = arrives(&origin, &gateway, target).expect_err(target);
        assert_eq!(got.status, 400, "{target}");
        got.problem();
    }
}

#[test]
fn nul_and_line_ends_never_arrive() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&support::proxy_to(&origin));
    for target in ["/a%00", "/%00", "/a%00b/c"] {
        assert_eq!(arrives(&origin, &gateway, target).expect_err(target).status, 400, "{target}");
    }
    for target in ["/a%0d%0aX-Evil:%201", "/a%0ab", "/a%0db"] {
        if let Ok(seen) = arrives(&origin, &gateway, target) {
            assert!(seen.to_ascii_lowercase().contains("%0"), "{target} arrived decoded: {seen:?}");
        }
    }
    assert!(origin.requests().iter().all(|r| !r.has("x-evil")));
}

#[test]
fn overlong_encodings_are_not_decoded() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&support::proxy_to(&origin));
    for target in ["/a%c0%afb", "/a%c0%ae", "/%e0%80%af", "/%f0%80%80%af"] {
        match arrives(&origin, &gateway, target) {
            Ok(seen) => assert_eq!(seen.to_ascii_lowercase(), target),
            Err(got) => assert_eq!(got.status, 400, "{target}"),
        }
    }
}

#[test]
fn double_encoding_is_decoded_at_most_once() {
    let origin = Origin::saying("x");
    let gateway = guarded(&origin);
    for target in ["/%2561dmin", "/a%252fb", "/x/%252e%252e/y"] {
        if let Ok(seen) = arrives(&origin, &gateway, target) {
            assert_eq!(seen.to_ascii_lowercase(), target, "the origin must decode what we matched");
        }
    }
}

#[test]
fn a_param_segment_takes_no_hidden_slash_across_routes() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&format!(
        "[clusters.app]\nendpoints = [\"{}\"]\n\n\
         [[routes]]\nname = \"item\"\npath = \"/items/{{id}}\"\ncluster = \"app\"\n\n\
         [[routes]]\nname = \"secret\"\npath = \"/items/{{id}}/secret\"\nrespond = {{ status = 403, body = \"no\" }}\n",
        origin.endpoint()
    ));
    assert_eq!(gateway.get("/items/7/secret").status, 403);
    gateway.get("/items/7").expect(200);
    for target in
        ["/items/7%2fsecret", "/items/7%2Fsecret", "/items/7;x/secret", "/items/7%5csecret", "/items//7/secret"]
    {
        if let Ok(seen) = arrives(&origin, &gateway, target) {
            assert_ne!(lenient(&seen), "/items/7/secret", "{target}");
        }
    }
}

#[test]
fn strip_prefix_cannot_be_used_to_climb() {
    let origin = Origin::saying("x");
    let gateway = Gateway::start(&format!(
        "[clusters.app]\nendpoints = [\"{}\"]\n\n[[routes]]\nname = \"api\"\npath_prefix = \"/api\"\n\
         filters = [{{ strip_prefix = \"/api\" }}]\ncluster = \"app\"\n",
        origin.endpoint()
    ));
    assert_eq!(arrives(&origin, &gateway, "/api/a/b?c").expect("forwarded"), "/a/b?c");
    assert_eq!(arrives(&origin, &gateway, "/api").expect("forwarded"), "/");
    for target in ["/api/../x", "/api/%2e%2e/x", "/api//evil.test/x", "/api..%2fx", "/api/..;/x", "/api\\x"] {
        if let Ok(seen) = arrives(&origin, &gateway, target) {
            assert!(seen.starts_with('/') && !seen.starts_with("//"), "{target} arrived as {seen}");
            assert!(!lossy(&decode(&seen)).contains(".."), "{target} arrived as {seen}");
        }
    }
}
