//! Filters run on a request that nobody sent, and what an origin would see of it.

use proptest::prelude::*;
use ringway_config::{Source, load};
use ringway_proto::NormalPath;

use super::*;
use crate::mesh::Workers;
use crate::net::{EngineKind, NetLimits};

/// What came out.
#[derive(Debug, PartialEq)]
pub(super) struct Passed {
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) refused: Option<&'static str>,
}

struct NoFields;

impl FieldSource for NoFields {
    fn any(&self, _name: &str, _test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        false
    }

    fn client_ip(&self) -> std::net::IpAddr {
        std::net::Ipv4Addr::LOCALHOST.into()
    }
}

impl Passed {
    /// `filters` as in a route with these conditions; `target` is a path and perhaps a query.
    pub(super) fn of(filters: &str, conditions: &str, target: &str) -> Passed {
        let text = format!(
            "[listeners.a]\nbind = \":1\"\n[[routes]]\nname = \"r\"\n{conditions}\nfilters = [{filters}]\nrespond = {{}}\n"
        );
        let loaded = load(&Source { name: "t".into(), text }).unwrap_or_else(|errors| panic!("{errors}"));
        let route = &loaded.snapshot.routes[0];
        let mut building = Building::new(&loaded.snapshot, Default::default(), 1);
        let built: Vec<_> = route
            .filters
            .iter()
            .map(|config| build(config, &mut building).unwrap_or_else(|fault| panic!("{fault}")))
            .collect();
        let table = RouteTable::build(&loaded.snapshot).unwrap();
        let (raw, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let mut path = NormalPath::new();
        path.set(raw.as_bytes()).unwrap_or_else(|error| panic!("{target}: {error}"));
        let mut captures = Captures::default();
        let asked = crate::route::Query {
            listener: 0,
            host: b"a",
            path: &path.bytes,
            method: b"GET",
            query_string: b"",
            fields: &NoFields,
        };
        let id = table.find(&asked, &mut captures).unwrap_or_else(|missed| panic!("{target}: {missed:?}"));
        let mut rewritten = Rewritten::default();
        let mut edit = RequestEdit {
            headers: &mut HeaderEdits::default(),
            answer: &mut HeaderEdits::default(),
            request: &RequestHead::new(),
            bytes: b"",
            body: None,
            new_body: None,
            path: &path.bytes,
            normal: &path,
            stripped: 0,
            query: query.map(str::as_bytes),
            fields: &NoFields,
            rewritten: &mut rewritten,
            matched: Matched { table: &table, route: id, captures: &captures },
            identity: &mut None,
            ends_unix_s: &mut None,
            nonce: &mut None,
            state: &FilterState::new(&building.finish().numbers, 0, 0, &Rc::from([]), None),
            calls: &Calls::new(Workers::start(1, 1).unwrap().0, std::sync::Arc::new(|_| {})),
            held: &mut HeldList::new(),
            net: &Net::new(EngineKind::Epoll, &NetLimits { ring_entries: 8, buffer_bytes: 4096, buffers_max: 1 })
                .unwrap(),
            unix_s: &|| 0,
        };
        let refused = built.iter().find_map(|filter| match filter.on_request(&mut edit) {
            Verdict::Reply(refusal) => Some(refusal.code),
            Verdict::Pass | Verdict::Answer(_) | Verdict::Wait(_) | Verdict::Body(_) => None,
        });
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Passed { path: text(edit.current_path()), query: edit.current_query().map(text), refused }
    }
}

fn path(filters: &str, conditions: &str, target: &str) -> String {
    let passed = Passed::of(filters, conditions, target);
    passed.refused.map_or(passed.path, str::to_owned)
}

#[test]
fn a_template_makes_the_path() {
    let to = |to: &str, pattern: &str, target: &str| {
        path(&format!("{{ rewrite = {{ to = \"{to}\" }} }}"), &format!("path = \"{pattern}\""), target)
    };
    assert_eq!(to("/v2/{id}", "/users/{id}", "/users/7"), "/v2/7");
    assert_eq!(to("/v2{path}", "/users/{id}", "/users/7"), "/v2/users/7");
    assert_eq!(to("/{b}/{a}/x", "/{a}/{b}", "/1/2"), "/2/1/x");
    assert_eq!(to("/new/{rest}", "/old/{*rest}", "/old/a/b/"), "/new/a/b/");
    assert_eq!(to("/new/{rest}", "/old/{*rest}", "/old"), "/new/");
    assert_eq!(to("/v2/{id}", "/users/{id}", "/users/a%20b%2Fc"), "/v2/a%20b%2Fc");
}

#[test]
fn a_capture_cannot_climb() {
    let to = |target: &str| {
        path("{ rewrite = { to = \"/safe/{id}/x\" } }", "path = \"/a/b/c/{id}\"", &format!("/a/b/c{target}"))
    };
    for target in ["/..%2Fadmin", "/a%2F..%2F..%2Fadmin", "/..%5Cadmin", "/..;a", "/a%2F%2Fb", "/%252e%252e%252Fadmin"]
    {
        assert_eq!(to(target), "bad_rewrite", "{target}");
    }
    assert_eq!(to("/a%3Fb%23c%0D%0Ad"), "/safe/a%3Fb%23c%0D%0Ad/x", "still escaped, so a part of the segment");
}

#[test]
fn a_regular_expression_takes_whole_paths() {
    let regex = |regex: &str, to: &str, target: &str| {
        let filter = format!("{{ rewrite = {{ regex = '{regex}', to = '{to}' }} }}");
        path(&filter, "path_prefix = \"/\"", target)
    };
    assert_eq!(regex("^/old/(.*)$", "/new/$1", "/old/a/b"), "/new/a/b");
    assert_eq!(regex("^/old/(.*)$", "/new/$1", "/older/a"), "/older/a");
    assert_eq!(regex("^/(?<a>[^/]+)/(?<b>.+)$", "/${b}/${a}", "/x/y"), "/y/x");
    assert_eq!(regex("^/a|/b$", "/c", "/b"), "/c", "each alternative is a whole path");
    assert_eq!(regex("^/a|/b$", "/c", "/a/x"), "/a/x");
    assert_eq!(regex("^/(.)x/(.)y$", "/z/$1$2", "/.x/.y"), "bad_rewrite");
    assert_eq!(regex("^/a/(.*)$", "/b/$1/c", "/a/"), "bad_rewrite", "nothing between two slashes");
    assert_eq!(regex("^(/.*)(b)?$", "$1$2", "/a"), "/a", "a group that took no part is empty");
}

#[test]
fn a_prefix_replaces_the_routes() {
    let prefix = |new: &str, of: &str, target: &str| {
        path(&format!("{{ rewrite = {{ prefix = \"{new}\" }} }}"), &format!("path_prefix = \"{of}\""), target)
    };
    assert_eq!(prefix("/new", "/old/api", "/old/api/x/y"), "/new/x/y");
    assert_eq!(prefix("/new", "/old/api", "/old/api"), "/new");
    assert_eq!(prefix("/", "/old", "/old/x"), "/x");
    assert_eq!(prefix("/", "/old", "/old"), "/");
    assert_eq!(prefix("/new/", "/", "/x"), "/new/x");
    assert_eq!(prefix("/new", "/old", "/old/..%2Fx"), "bad_rewrite");
}

#[test]
fn filters_see_what_those_before_left() {
    let of = |filters: &str| path(filters, "path_prefix = \"/api\"", "/api/v1/x");
    assert_eq!(of("{ strip_prefix = \"/api\" }, { rewrite = { to = \"/n{path}\" } }"), "/n/v1/x");
    assert_eq!(of("{ rewrite = { to = \"/n{path}\" } }, { strip_prefix = \"/n/api\" }"), "/v1/x");
    assert_eq!(of("{ rewrite = { to = \"/n\" } }, { strip_prefix = \"/n\" }"), "/");
    assert_eq!(of("{ rewrite = { to = \"/n{path}\" } }, { rewrite = { to = \"/m{path}\" } }"), "/m/n/api/v1/x");
    assert_eq!(of("{ strip_prefix = \"/api\" }, { rewrite = { prefix = \"/new\" } }"), "/new/v1/x");
}

#[test]
fn query_parameters_are_edited() {
    let query = |edits: &str, target: &str| {
        Passed::of(&format!("{{ query = {{ {edits} }} }}"), "path = \"/u/{id}\"", target).query
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(query("set = { a = '9' }", "/u/7?a=1&b=2&a=3"), some("b=2&a=9"));
    assert_eq!(query("add = { a = '9' }", "/u/7?a=1"), some("a=1&a=9"));
    assert_eq!(query("add = { a = '9' }", "/u/7"), some("a=9"));
    assert_eq!(query("remove = ['a']", "/u/7?a=1&%61=2&b&=3"), some("b&=3"));
    assert_eq!(query("remove = ['a']", "/u/7?a"), None);
    assert_eq!(query("set = { user = '{id}', from = '{path}' }", "/u/7?x"), some("x&from=/u/7&user=7"));
    assert_eq!(query("set = { user = '{id}' }", "/u/a&admin=1+%26"), some("user=a%26admin%3D1%2B%26"));
    assert_eq!(query("set = { 'a b' = 'c&d é' }", "/u/7"), some("a%20b=c%26d%20%C3%A9"));
    assert_eq!(
        query("remove = ['x']", "/u/7?keep=%zz&&a=b%20c"),
        some("keep=%zz&a=b%20c"),
        "bytes stay, empty pairs go"
    );
}

/// Pieces of paths that somebody could want to smuggle something with.
fn tricky_path() -> impl Strategy<Value = String> {
    let pieces = [
        "/", "/", "a", ".", "..", "%2e", "%2F", "%2f", "%5C", "\\", ";", "%3B", "%25", "%252F", "%252e", "%3F", "%23",
        "%0D", "%0A", "x", "%20", "%C3%A9",
    ];
    proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// However the path is spelled and however an origin reads it, what is filled in stays below the template's front.
    #[test]
    fn no_reading_of_a_rewritten_path_leaves_its_front(rest in tricky_path()) {
        let target = format!("/a/b/c/{rest}");
        let mut client = NormalPath::new();
        prop_assume!(client.set(target.as_bytes()).is_ok() && client.bytes.starts_with(b"/a/b/c/"));
        for filter in [
            "{ rewrite = { to = \"/safe/{rest}/end\" } }",
            "{ rewrite = { regex = \"^/a/b/c/(.*?)(/?[^/]*)$\", to = \"/safe/$1$2\" } }",
        ] {
            let passed = Passed::of(filter, "path = \"/a/b/c/{*rest}\"", &target);
            if passed.refused.is_some() {
                continue;
            }
            prop_assert!(passed.path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte)));
            let mut sent = NormalPath::new();
            prop_assert!(sent.set(passed.path.as_bytes()).is_ok());
            prop_assert_eq!(&sent.bytes, passed.path.as_bytes());
            for reading in std::iter::once(&sent.bytes[..]).chain(sent.readings()) {
                prop_assert!(reading.starts_with(b"/safe/"), "{} reads as {}", passed.path, reading.escape_ascii());
            }
        }
    }

    /// Whatever stands in a path, it stays the value of the parameter it is filled into.
    #[test]
    fn a_value_of_a_query_stays_one(rest in tricky_path()) {
        let target = format!("/a/{rest}&=+;{rest}?keep=1");
        let mut client = NormalPath::new();
        prop_assume!(client.set(target.split('?').next().unwrap_or_default().as_bytes()).is_ok());
        prop_assume!(client.bytes.starts_with(b"/a/"));
        let passed = Passed::of("{ query = { set = { v = \"{rest}\" } } }", "path = \"/a/{*rest}\"", &target);
        let query = passed.query.unwrap_or_default();
        let value = query.strip_prefix("keep=1&v=");
        prop_assert!(value.is_some_and(|value| !value.contains(['&', '=', ';', '#', '+', '?', ' '])), "{query}");
    }
}
