//! A slow matcher that reads like `README.md` and shares no code with the real one, and random tables on which both
//! must agree.

use super::super::{Because, Captures, Missed, RouteTable, Why};
use super::{
    Condition, HostPattern, LISTENERS, PathPattern, Request, Route, Segment, Subject, Test, hosts, path, route,
};
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
        takes(route) && route.conditions.iter().all(|condition| holds(condition, request))
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

fn holds(condition: &Condition, request: &Request) -> bool {
    match condition {
        Condition::Not(inner) => !holds(inner, request),
        Condition::All(parts) => parts.iter().all(|part| holds(part, request)),
        Condition::Any(parts) => parts.iter().any(|part| holds(part, request)),
        Condition::Is(Subject::ClientIp, test) => {
            let inside = request.fields.1.is_some_and(|ip| ip.to_string().ends_with("10.0.0.1"));
            assert!(matches!(test, Test::Within(_)));
            inside
        }
        Condition::Is(subject, test) => values(subject, request).iter().any(|value| is(test, value)),
    }
}

fn values(subject: &Subject, request: &Request) -> Vec<String> {
    let lines = |name: &str| -> Vec<String> {
        request.fields.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect()
    };
    let pairs = |text: &str, between: char, name: &str| {
        let pairs = text.split(between).filter_map(|pair| {
            let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
            (found.trim() == name).then(|| value.to_owned())
        });
        pairs.collect::<Vec<_>>()
    };
    match subject {
        Subject::Header(name) => lines(name),
        Subject::Query(name) => pairs(&unescape(&request.query_string).replace('+', " "), '&', name),
        Subject::Cookie(name) => lines("cookie").iter().flat_map(|line| pairs(line, ';', name)).collect(),
        Subject::Method => vec![request.method.clone()],
        Subject::Host => {
            let host = request.host.to_lowercase();
            vec![host.strip_suffix('.').unwrap_or(&host).to_owned()]
        }
        Subject::Path => vec![unescape(&request.path)],
        Subject::ClientIp => Vec::new(),
    }
}

fn is(test: &Test, value: &str) -> bool {
    match test {
        Test::Present => true,
        Test::Equals(text) => value == text,
        Test::OneOf(texts) => texts.iter().any(|text| value == text),
        Test::Prefix(text) => value.starts_with(text),
        Test::Suffix(text) => value.ends_with(text),
        Test::Contains(text) => value.contains(text),
        Test::Matches(expression) => whole(expression.as_str()).is_match(value),
        Test::Within(_) => false,
    }
}

fn whole(expression: &str) -> regex::Regex {
    regex::Regex::new(&format!("^(?:{expression})$")).expect("the tests' own")
}

/// The fewest tests that must come out as asked.
fn weight(condition: &Condition, wanted: bool) -> usize {
    match condition {
        Condition::Is(..) => 1,
        Condition::Not(inner) => weight(inner, !wanted),
        Condition::All(parts) if wanted => parts.iter().map(|part| weight(part, true)).sum(),
        Condition::Any(parts) if !wanted => parts.iter().map(|part| weight(part, false)).sum(),
        Condition::All(parts) | Condition::Any(parts) => {
            parts.iter().map(|part| weight(part, wanted)).min().unwrap_or(0)
        }
    }
}

fn better(routes: &[Route], request: &Request, one: usize, other: usize) -> usize {
    let (a, b) = (&routes[one], &routes[other]);
    let by_priority = a.priority.cmp(&b.priority);
    let by_host = host_rank(a, &request.host).cmp(&host_rank(b, &request.host));
    let by_methods = (!a.methods.is_empty()).cmp(&!b.methods.is_empty());
    let weights = |route: &Route| route.conditions.iter().map(|one| weight(one, true)).sum::<usize>();
    let by_conditions = weights(a).cmp(&weights(b));
    let by_place = other.cmp(&one);
    let order = by_priority.then(by_host).then(path_order(&a.path, &b.path));
    if order.then(by_methods).then(by_conditions).then(by_place) == Ordering::Greater { one } else { other }
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
    path[1..].split('/').map(unescape).collect()
}

fn unescape(text: &str) -> String {
    text.replace("%61", "a").replace("%2F", "/")
}

fn path_matches(pattern: &PathPattern, path: &str) -> bool {
    let found = split(path);
    match pattern {
        PathPattern::Prefix(literals) => found.starts_with(literals),
        PathPattern::Expression(expression) => {
            found.starts_with(&expression.prefix) && whole(expression.expression.as_str()).is_match(&unescape(path))
        }
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
        PathPattern::Prefix(literals) if at < literals.len() => 5,
        PathPattern::Prefix(_) => 1,
        PathPattern::Expression(expression) if at < expression.prefix.len() => 5,
        PathPattern::Expression(_) => 2,
        PathPattern::Segments(segments) => match segments.get(at) {
            Some(Segment::Literal(_)) => 5,
            Some(Segment::Param(_)) => 4,
            None => 3,
            Some(Segment::CatchAll(_)) => 1,
        },
    };
    for at in 0.. {
        let (one, other) = (grade(a, at), grade(b, at));
        if one != other {
            return one.cmp(&other);
        }
        if one < 4 {
            break;
        }
    }
    match (a, b) {
        (PathPattern::Expression(a), PathPattern::Expression(b)) => a.prefix_bytes.cmp(&b.prefix_bytes),
        _ => Ordering::Equal,
    }
}

/// What params take; of an expression, decoded.
fn captured(pattern: &PathPattern, path: &str) -> Vec<String> {
    let segments = match pattern {
        PathPattern::Prefix(_) => return Vec::new(),
        PathPattern::Segments(segments) => segments,
        PathPattern::Expression(expression) => {
            let decoded = unescape(path);
            let groups = whole(expression.expression.as_str()).captures(&decoded).expect("it was chosen");
            let text = |name: &String| groups.name(name).map_or(String::new(), |group| group.as_str().to_owned());
            return expression.params.iter().map(text).collect();
        }
    };
    let found: Vec<&str> = path[1..].split('/').collect();
    let take = |(at, segment): (usize, &Segment)| match segment {
        Segment::Literal(_) => None,
        Segment::Param(_) => Some(found[at].to_owned()),
        Segment::CatchAll(_) => Some(found.get(at..).map_or(String::new(), |rest| rest.join("/"))),
    };
    segments.iter().enumerate().filter_map(take).collect()
}

fn any_path_pattern() -> impl Strategy<Value = PathPattern> {
    let expression = prop::sample::select(vec![
        "~/a/.*",
        "~/a/b.*",
        "~/a(/.*)?",
        "~.*b",
        "~/a/(?<x>[^/]+)",
        "~/(?<x>.*)/(?<y>[ab]+)(?<z>/c)?",
        "~/(a|b)/(?<x>[^/]*)/?",
        "~/a/b/c",
    ]);
    prop_oneof![4 => any_segments(), 1 => expression.prop_map(path)]
}

fn any_segments() -> impl Strategy<Value = PathPattern> {
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

fn any_condition() -> impl Strategy<Value = Condition> {
    let expression = prop::sample::select(vec!["a.*", "[ab]+", "(a|b)b?", ".*"]);
    let test = prop_oneof![
        Just(Test::Present),
        Just(Test::Equals("ab".into())),
        Just(Test::OneOf(vec!["a".into(), "b a".into()])),
        Just(Test::Prefix("a".into())),
        Just(Test::Suffix("a".into())),
        Just(Test::Contains("b".into())),
        expression.prop_map(|text| Test::Matches(text.parse().unwrap())),
    ];
    let name = prop::sample::select(vec!["x", "y"]);
    let kind = prop::sample::select(vec![Subject::Header, Subject::Query, Subject::Cookie]);
    let named = (kind, name, test).prop_map(|(kind, name, test)| Condition::Is(kind(name.to_owned()), test));
    let whole = prop::sample::select(vec![
        "method == \"GET\"",
        "host ends_with \"test\"",
        "path contains \"a\"",
        "path matches \"/[ab/]+\"",
        "client_ip in \"10.0.0.0/8\"",
    ]);
    let one = prop_oneof![4 => named, 1 => whole.prop_map(|text| text.parse().unwrap())];
    one.prop_recursive(3, 8, 3, |inner| {
        let some = prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            inner.prop_map(|inner| Condition::Not(Box::new(inner))),
            some.clone().prop_map(Condition::All),
            some.prop_map(Condition::Any),
        ]
    })
}

fn any_route() -> impl Strategy<Value = Route> {
    let host = prop::sample::select(vec!["a.test", "b.a.test", "test", "*.test", "*.a.test", "*.b.a.test"]);
    let hosts_of = prop_oneof![2 => Just(Vec::new()), 3 => prop::collection::vec(host, 1..4)];
    let method = prop::sample::select(vec!["GET", "POST", "PURGE", "HEAD"]);
    let methods = prop_oneof![1 => Just(Vec::new()), 1 => prop::collection::vec(method, 1..3)];
    let conditions = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(any_condition(), 1..3)];
    let listeners = prop::sample::select(vec![vec![], vec![], vec![], vec!["public"], vec!["internal"], vec!["gone"]]);
    let priority = prop_oneof![4 => Just(0), 1 => -1..=1];
    (any_path_pattern(), hosts_of, methods, conditions, listeners, priority).prop_map(
        |(path, hosts_of, methods, conditions, listeners, priority)| Route {
            path,
            hosts: hosts(&hosts_of),
            methods: super::strings(&methods),
            conditions,
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
    let field = prop_oneof![
        2 => (prop::sample::select(vec!["x", "y"]), prop::sample::select(vec!["", "a", "ab", "ba"])),
        1 => (Just("cookie"), prop::sample::select(vec!["x=a", "x=ab; y=b", "y=ba;x=", "z=ab; x=b"])),
    ];
    let piece = prop::sample::select(vec!["x=a", "x=%61b", "y=b+a", "y", "z=ab", "x="]);
    let query = prop::collection::vec(piece, 0..3).prop_map(|pieces| pieces.join("&"));
    let client = prop::sample::select(vec!["10.0.0.1", "192.168.0.1", "::ffff:10.0.0.1", "::1"]);
    (0u32..2, host, path, method, prop::collection::vec(field, 0..3), query, client).prop_map(
        |(listener, host, path, method, fields, query, client)| {
            let request =
                Request { listener, path, ..Request::at(host) }.method(method).with_query(&query).client(client);
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
            let decoded = matches!(routes[id].path, PathPattern::Expression(_));
            let values = values.map(|value: String| if decoded { unescape(&value) } else { value });
            prop_assert_eq!(values.collect::<Vec<String>>(), captured(&routes[id].path, &request.path));
        }
    }

    /// The order is the rule's, not the file's, wherever the rule does not say that the file decides.
    #[test]
    fn another_order_of_the_file_chooses_the_same_unless_only_the_place_decides(
        (routes, shuffled) in any_table().prop_flat_map(|routes| (Just(routes.clone()), Just(routes).prop_shuffle())),
        requests in prop::collection::vec(any_request(), 1..24),
    ) {
        let (table, other) = (super::table(&routes), super::table(&shuffled));
        for request in &requests {
            let (first, second) = (request.to(&table), request.to(&other));
            if first == second {
                continue;
            }
            prop_assert!(first.is_ok() && second.is_ok(), "{:?} and {:?}", first, second);
            let (first, second) = (first.unwrap(), second.unwrap());
            let verdicts = table.explain(&request.query());
            let why = verdicts.into_iter().find(|verdict| verdict.name == second).map(|verdict| verdict.why);
            prop_assert_eq!(why, Some(Why::Behind { winner: first.to_owned(), because: Because::Place }));
        }
    }

    /// Nor does a route win that is warned of as one that never can.
    #[test]
    fn a_shadowed_route_never_wins(
        routes in any_table(),
        requests in prop::collection::vec(any_request(), 1..48),
    ) {
        let shadowed: Vec<(usize, usize)> = ringway_config::shadowed(&routes, &LISTENERS).collect();
        let table = super::table(&routes);
        for request in &requests {
            let winner = table.find(&request.query(), &mut Captures::default());
            let taken = shadowed.iter().find(|(route, _)| winner == Ok(*route as u32));
            prop_assert_eq!(taken, None, "{:?}", request);
        }
    }
}
