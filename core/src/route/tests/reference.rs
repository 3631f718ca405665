//! A slow matcher that reads like `README.md` and shares no code with the real one, and random tables on which both
//! must agree.

use super::super::{Captures, Missed, RouteTable, Why};
use super::{HeaderTest, HostPattern, LISTENERS, PathPattern, Request, Route, Segment, header, hosts, path, route};
use proptest::prelude::*;
use std::cmp::Ordering;

/// What the reference says: the route's number, or the status and what it allows.
#[derive(Debug, PartialEq)]
enum Answer {
    Route(usize),
    NotFound,
    Allow(Vec<String>),
}

fn reference(routes: &[Route], request: &Request) -> Answer {
    let here: Vec<usize> = (0..routes.len())
        .filter(|id| {
            let route = &routes[*id];
            let listens = |name: &String| LISTENERS[request.listener as usize] == name;
            (route.listeners.is_empty() || route.listeners.iter().any(listens))
                && host_rank(route, &request.host).is_some()
                && path_matches(&route.path, &request.path)
        })
        .collect();
    let takes = |route: &Route| {
        let names = |method: &str| route.methods.iter().any(|name| name == method);
        route.methods.is_empty() || names(&request.method) || (request.method == "HEAD" && names("GET"))
    };
    let matching = here.iter().copied().filter(|id| {
        let route = &routes[*id];
        takes(route)
            && route.headers.iter().all(|condition| {
                let mut values =
                    request.fields.0.iter().filter(|(name, _)| *name == condition.name).map(|(_, value)| value);
                match &condition.is {
                    HeaderTest::Present => values.next().is_some(),
                    HeaderTest::Absent => values.next().is_none(),
                    HeaderTest::Equals(text) => values.any(|value| value == text),
                    HeaderTest::EqualsOrAbsent(text) => {
                        values.clone().next().is_none() || values.any(|value| value == text)
                    }
                    HeaderTest::Prefix(text) => values.any(|value| value.starts_with(text)),
                    HeaderTest::Suffix(text) => values.any(|value| value.ends_with(text)),
                    HeaderTest::Contains(text) => values.any(|value| value.contains(text)),
                }
            })
    });
    if let Some(best) = matching.reduce(|one, other| better(routes, request, one, other)) {
        return Answer::Route(best);
    }
    if here.is_empty() || here.iter().any(|id| takes(&routes[*id])) {
        return Answer::NotFound;
    }
    let mut allow: Vec<String> = here.iter().flat_map(|id| routes[*id].methods.clone()).collect();
    if allow.contains(&"GET".to_owned()) {
        allow.push("HEAD".to_owned());
    }
    allow.sort();
    allow.dedup();
    Answer::Allow(allow)
}

fn better(routes: &[Route], request: &Request, one: usize, other: usize) -> usize {
    let (a, b) = (&routes[one], &routes[other]);
    let by_priority = a.priority.cmp(&b.priority);
    let by_host = host_rank(a, &request.host).cmp(&host_rank(b, &request.host));
    let by_methods = (!a.methods.is_empty()).cmp(&!b.methods.is_empty());
    let by_headers = a.headers.len().cmp(&b.headers.len());
    let by_place = other.cmp(&one);
    let order = by_priority.then(by_host).then(path_order(&a.path, &b.path));
    if order.then(by_methods).then(by_headers).then(by_place) == Ordering::Greater { one } else { other }
}

fn host_rank(route: &Route, host: &str) -> Option<usize> {
    let host = host.to_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    if route.hosts.is_empty() {
        return Some(0);
    }
    let rank = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(name) => (host == name).then_some(1000),
        HostPattern::Wildcard(suffix) => {
            let dotted = format!(".{suffix}");
            (host.ends_with(&dotted) && host.len() > dotted.len()).then_some(suffix.len())
        }
    };
    route.hosts.iter().filter_map(rank).max()
}

fn split(path: &str) -> Vec<String> {
    let unescape = |segment: &str| segment.replace("%61", "a").replace("%2F", "/");
    path[1..].split('/').map(unescape).collect()
}

fn path_matches(pattern: &PathPattern, path: &str) -> bool {
    let found = split(path);
    match pattern {
        PathPattern::Prefix(literals) => found.starts_with(literals),
        PathPattern::Segments(segments) => {
            for (at, segment) in segments.iter().enumerate() {
                match (segment, found.get(at)) {
                    (Segment::CatchAll(_), _) => return true,
                    (Segment::Literal(text), Some(found)) if text == found => {}
                    (Segment::Param(_), Some(found)) if !found.is_empty() => {}
                    _ => return false,
                }
            }
            segments.len() == found.len()
        }
    }
}

/// Of two patterns that match the same path.
fn path_order(a: &PathPattern, b: &PathPattern) -> Ordering {
    let grade = |pattern: &PathPattern, at: usize| match pattern {
        PathPattern::Prefix(literals) => {
            if at < literals.len() {
                4
            } else {
                1
            }
        }
        PathPattern::Segments(segments) => match segments.get(at) {
            Some(Segment::Literal(_)) => 4,
            Some(Segment::Param(_)) => 3,
            None => 2,
            Some(Segment::CatchAll(_)) => 1,
        },
    };
    for at in 0.. {
        let (one, other) = (grade(a, at), grade(b, at));
        if one != other {
            return one.cmp(&other);
        }
        if one < 3 {
            break;
        }
    }
    Ordering::Equal
}

fn captured(pattern: &PathPattern, path: &str) -> Vec<String> {
    let PathPattern::Segments(segments) = pattern else { return Vec::new() };
    let found: Vec<&str> = path[1..].split('/').collect();
    let take = |(at, segment): (usize, &Segment)| match segment {
        Segment::Literal(_) => None,
        Segment::Param(_) => Some(found[at].to_owned()),
        Segment::CatchAll(_) => Some(found.get(at..).map_or(String::new(), |rest| rest.join("/"))),
    };
    segments.iter().enumerate().filter_map(take).collect()
}

fn any_path_pattern() -> impl Strategy<Value = PathPattern> {
    let segment = prop_oneof![4 => Just("a"), 3 => Just("b"), 1 => Just("a/b"), 5 => Just("{x}")];
    let end = prop_oneof![5 => Just(""), 1 => Just("/"), 2 => Just("/{*rest}"), 2 => Just("/*")];
    (prop::collection::vec(segment, 0..4), end).prop_map(|(segments, end)| {
        let literal = |text: &&str| if *text == "{x}" { "c".to_owned() } else { (*text).to_owned() };
        if end == "/*" {
            return PathPattern::Prefix(segments.iter().map(literal).collect());
        }
        let mut parsed: Vec<Segment> = segments
            .iter()
            .map(|text| match *text {
                "{x}" => Segment::Param("x".to_owned()),
                text => Segment::Literal(text.to_owned()),
            })
            .collect();
        match end {
            "/{*rest}" => parsed.push(Segment::CatchAll("rest".to_owned())),
            "/" => parsed.push(Segment::Literal(String::new())),
            _ if parsed.is_empty() => return path("/"),
            _ => {}
        }
        PathPattern::Segments(parsed)
    })
}

fn any_route() -> impl Strategy<Value = Route> {
    let host = prop::sample::select(vec!["a.test", "b.a.test", "test", "*.test", "*.a.test", "*.b.a.test"]);
    let hosts_of = prop_oneof![2 => Just(Vec::new()), 3 => prop::collection::vec(host, 1..4)];
    let method = prop::sample::select(vec!["GET", "POST", "PURGE", "HEAD"]);
    let methods = prop_oneof![1 => Just(Vec::new()), 1 => prop::collection::vec(method, 1..3)];
    let is = prop::sample::select(vec![
        HeaderTest::Present,
        HeaderTest::Absent,
        HeaderTest::Equals("ab".into()),
        HeaderTest::Prefix("a".into()),
        HeaderTest::Suffix("a".into()),
        HeaderTest::Contains("b".into()),
    ]);
    let condition = (prop::sample::select(vec!["x", "y"]), is).prop_map(|(name, is)| header(name, is));
    let headers = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(condition, 1..3)];
    let listeners = prop::sample::select(vec![vec![], vec![], vec![], vec!["public"], vec!["internal"], vec!["gone"]]);
    let priority = prop_oneof![4 => Just(0), 1 => -1..=1];
    (any_path_pattern(), hosts_of, methods, headers, listeners, priority).prop_map(
        |(path, hosts_of, methods, headers, listeners, priority)| Route {
            path,
            hosts: hosts(&hosts_of),
            methods: super::strings(&methods),
            headers,
            listeners: super::strings(&listeners),
            priority,
            ..route("/named-below")
        },
    )
}

fn any_table() -> impl Strategy<Value = Vec<Route>> {
    prop::collection::vec(any_route(), 0..24).prop_map(|mut routes| {
        for (id, route) in routes.iter_mut().enumerate() {
            route.name = format!("r{id}");
        }
        routes
    })
}

fn any_request() -> impl Strategy<Value = Request> {
    let segment = prop::sample::select(vec!["a", "a", "a", "b", "b", "%61", "c", "", "a%2Fb", "q"]);
    let path = prop::collection::vec(segment, 1..6).prop_map(|segments| format!("/{}", segments.join("/")));
    let host = prop::sample::select(vec![
        "",
        "a.test",
        "A.Test",
        "a.test.",
        "b.a.test",
        "x.b.a.test",
        "x.a.test",
        "test",
        ".test",
        "test.a",
        "x.test..",
    ]);
    let method = prop::sample::select(vec!["GET", "HEAD", "POST", "PURGE", "get"]);
    let field = (prop::sample::select(vec!["x", "y"]), prop::sample::select(vec!["", "a", "ab", "ba"]));
    (0u32..2, host, path, method, prop::collection::vec(field, 0..3)).prop_map(
        |(listener, host, path, method, fields)| {
            let request = Request { listener, path, ..Request::at(host) }.method(method);
            fields.into_iter().fold(request, |request, (name, value)| request.field(name, value))
        },
    )
}

fn real(table: &RouteTable, request: &Request, captures: &mut Captures) -> Answer {
    match table.find(&request.query(), captures) {
        Ok(route) => Answer::Route(route as usize),
        Err(Missed::Method(allow)) => {
            let mut names: Vec<String> = allow.to_string().split(", ").map(str::to_owned).collect();
            names.sort();
            Answer::Allow(names)
        }
        Err(Missed::Path | Missed::Conditions) => Answer::NotFound,
        Err(Missed::Ambiguous) => unreachable!("find reads a path once"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_agrees_with_the_reference(
        routes in any_table(),
        requests in prop::collection::vec(any_request(), 1..24),
    ) {
        let table = super::table(&routes);
        let mut captures = Captures::default();
        for request in &requests {
            let wanted = reference(&routes, request);
            prop_assert_eq!(&real(&table, request, &mut captures), &wanted, "{:?}", request);
            let chosen = table.explain(&request.query()).into_iter().find(|verdict| verdict.why == Why::Chosen);
            let Answer::Route(id) = wanted else {
                prop_assert_eq!(chosen, None);
                continue;
            };
            prop_assert_eq!(chosen.map(|verdict| verdict.route as usize), Some(id));
            let path = request.path.as_bytes();
            let values = (0..captures.len()).map(|at| String::from_utf8_lossy(captures.get(path, at).unwrap()).into());
            prop_assert_eq!(values.collect::<Vec<String>>(), captured(&routes[id].path, &request.path));
        }
    }
}
