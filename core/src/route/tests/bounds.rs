//! What a lookup may cost, counted in nodes touched: no clock is asked.

use super::super::{BuildError, CANDIDATES_MAX, RouteTable, TRIES_MAX, VISITS_MAX};
use super::{Request, Route, conditions, hosts, route, table};

fn path_of(segments: impl IntoIterator<Item = &'static str>) -> String {
    segments.into_iter().flat_map(|segment| ["/", segment]).collect()
}

/// Every choice of `a` or `{x}` in `depth` places, and a last `z`.
fn every_choice(depth: usize) -> Vec<Route> {
    let choices = 0..1usize << depth;
    let pattern = |choice: usize| (0..depth).map(move |place| if choice >> place & 1 == 0 { "a" } else { "{x}" });
    choices.map(|choice| route(&path_of(pattern(choice).chain(["z"])))).collect()
}

#[test]
fn deep_params_cost_one_node_for_each_segment() {
    for depth in [4, 8, 16, 31] {
        // A chain of params, with an open end at each place to fall back to.
        let mut routes = vec![route(&path_of(["{x}"; 31].into_iter().take(depth).chain(["z"])))];
        routes.extend((1..depth).map(|count| route(&path_of(["{x}"; 31].into_iter().take(count).chain(["{*rest}"])))));
        let table = table(&routes);
        let hit = path_of(["a"; 31].into_iter().take(depth).chain(["z"]));
        let miss = path_of(["a"; 31].into_iter().take(depth).chain(["y"]));
        assert_eq!(Request::get(&hit).to(&table).map(str::len), Ok(routes[0].name.len()));
        assert_eq!(table.visits(&Request::get(&hit).query()), depth as u32 + 2);
        assert_eq!(table.visits(&Request::get(&miss).query()), depth as u32 + 1);
    }
}

#[test]
fn overlapping_params_stay_within_length_times_patterns() {
    for depth in [8, 16, 30] {
        // A param in one place only: a naive matcher tries every subset of the places.
        let with_param_at = |at: usize| (0..depth).map(move |place| if place == at { "{x}" } else { "a" });
        let routes: Vec<Route> = (0..depth).map(|at| route(&path_of(with_param_at(at).chain(["z"])))).collect();
        let table = table(&routes);
        let miss = path_of(vec!["a"; depth].into_iter().chain(["y"]));
        let visits = table.visits(&Request::get(&miss).query());
        assert!(visits as usize <= (depth + 2) * routes.len(), "{visits} at depth {depth}");
    }
}

#[test]
fn the_winner_is_found_without_trying_the_rest() {
    let depth = 10;
    let table = table(&every_choice(depth));
    let hit = Request::get(&path_of(["a"; 10].into_iter().chain(["z"])));
    assert_eq!(hit.to(&table), Ok("/a/a/a/a/a/a/a/a/a/a/z"));
    // Straight down, with one glance at the best param branch cut by rank.
    assert_eq!(table.visits(&hit.query()), depth as u32 + 2);
}

#[test]
fn no_request_exceeds_the_bound_however_long_its_path() {
    let table = table(&every_choice(10));
    let visits = |segments: usize| table.visits(&Request::get(&"/a".repeat(segments)).query());
    let nodes = (1 << 11) - 1; // every node but those after a `z`
    assert_eq!(visits(11), nodes);
    assert_eq!(visits(30_000), nodes, "more segments than any pattern has buy nothing");
    assert!(nodes <= VISITS_MAX);
}

#[test]
fn a_table_that_would_exceed_the_bound_is_refused() {
    assert_eq!(RouteTable::compile(&every_choice(10), &[]).err(), None);
    let refused = RouteTable::compile(&every_choice(12), &[]).err();
    assert!(
        matches!(&refused, Some(BuildError::Visits { host, visits }) if host == "*" && *visits > VISITS_MAX),
        "{refused:?}"
    );
    // Two host patterns that match the same host add up.
    let on = |patterns: &[&str]| {
        every_choice(10).into_iter().map(|route| Route { hosts: hosts(patterns), ..route }).collect::<Vec<_>>()
    };
    assert_eq!(RouteTable::compile(&on(&["b.test"]), &[]).err(), None);
    let refused = RouteTable::compile(&on(&["a.b.test", "*.b.test", "*.test"]), &[]).err();
    assert!(matches!(&refused, Some(BuildError::Visits { host, .. }) if host == "a.b.test"), "{refused:?}");
}

#[test]
fn hosts_with_the_same_routes_share_a_trie() {
    let names: Vec<String> = (0..200).map(|number| format!("h{number}.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let routes: Vec<Route> =
        (0..50).map(|number| Route { hosts: hosts(&names), ..route(&format!("/r{number}/{{x}}")) }).collect();
    let table = table(&routes);
    assert!(table.nodes.len() < 200, "{} nodes", table.nodes.len());
    let request = Request { path: "/r49/x".to_owned(), ..Request::at("h199.test") };
    assert_eq!(request.to(&table), Ok("/r49/{x}"));
    let twice = super::table(&[Route { hosts: hosts(&["a.test", "a.test"]), ..route("/") }]);
    assert_eq!(twice.candidates.len(), 1);
}

#[test]
fn every_route_of_a_large_table_is_found_in_a_few_steps() {
    let routes: Vec<Route> = (0..20_000)
        .map(|number| match number % 3 {
            0 => route(&format!("/svc{number}/v1/items")),
            1 => route(&format!("/svc{number}/v1/{{id}}")),
            _ => route(&format!("/svc{number}/*")),
        })
        .collect();
    let table = table(&routes);
    for (number, route) in routes.iter().enumerate() {
        let request = Request::get(&format!("/svc{number}/v1/items"));
        assert_eq!(request.to(&table), Ok(&*route.name));
        assert!(table.visits(&request.query()) <= 4);
    }
}

/// Expressions that all begin alike, and patterns with params to any depth beside them.
fn crowded(count: u32) -> Vec<Route> {
    let mut routes: Vec<Route> = (0..count).map(|number| route(&format!("~/a/.*{number}"))).collect();
    routes.extend((1..30).map(|depth| route(&format!("{}/z", "/{x}".repeat(depth)))));
    routes
}

#[test]
fn a_path_tries_each_expression_of_its_prefix_once_however_long_it_is() {
    let table = table(&crowded(TRIES_MAX));
    for segments in [1, 10, 100, 5000] {
        let path = format!("/a{}", "/a".repeat(segments));
        let request = Request::get(&path);
        assert_eq!(table.tries(&request.query()), TRIES_MAX, "{segments}");
        assert!(table.visits(&request.query()) <= 40);
    }
    assert_eq!(table.tries(&Request::get("/b/a/a").query()), 0, "below another prefix");
    assert_eq!(Request::get("/a/5").to(&table), Ok("~/a/.*5"));
}

#[test]
fn expressions_below_different_prefixes_do_not_add_up() {
    let routes: Vec<Route> = (0..5000).map(|number| route(&format!("~/s{number}/[0-9]+"))).collect();
    let table = table(&routes);
    let request = Request::get("/s4999/7");
    assert_eq!((request.to(&table), table.tries(&request.query())), (Ok("~/s4999/[0-9]+"), 1));
}

#[test]
fn too_many_expressions_for_one_path_are_refused_by_host_and_prefix() {
    let refused = RouteTable::compile(&crowded(TRIES_MAX + 1), &[]).err();
    let wanted = BuildError::Tries { host: "*".to_owned(), tries: TRIES_MAX + 1, prefix: "/a".to_owned() };
    assert_eq!(refused, Some(wanted));
    // Those of a host and of any host add up; the name of the host is told.
    let mut routes = crowded(TRIES_MAX);
    routes.push(Route { hosts: hosts(&["h.test"]), ..route("~/a/b/.*") });
    let refused = RouteTable::compile(&routes, &[]).err();
    assert!(matches!(&refused, Some(BuildError::Tries { host, .. }) if host == "h.test"), "{refused:?}");
}

/// Routes that only a header tells apart, and one of another host.
fn alike(count: u32) -> Vec<Route> {
    let mut routes: Vec<Route> = (0..count)
        .map(|number| Route {
            name: format!("t{number}"),
            conditions: conditions(&[&format!("header.x-tenant == \"{number}\"")]),
            ..route("/a/*")
        })
        .collect();
    routes.push(Route { hosts: hosts(&["h.test"]), ..route("/a/b") });
    routes
}

#[test]
fn too_many_routes_on_one_path_are_refused_by_host_and_path() {
    let last = CANDIDATES_MAX - 2;
    let table = table(&alike(CANDIDATES_MAX - 1));
    let request = Request::get("/a/b").field("x-tenant", &last.to_string());
    assert_eq!(request.to(&table), Ok(&*format!("t{last}")));
    let refused = RouteTable::compile(&alike(CANDIDATES_MAX), &[]).err();
    let candidates = CANDIDATES_MAX + 1;
    let wanted = BuildError::Candidates { host: "h.test".to_owned(), candidates, path: "/a/*".to_owned() };
    assert_eq!(refused, Some(wanted));
    // Where the paths differ there may be any number.
    let apart: Vec<Route> = (0..2 * CANDIDATES_MAX).map(|number| route(&format!("/s{number}/*"))).collect();
    assert!(RouteTable::compile(&apart, &[]).is_ok());
}
