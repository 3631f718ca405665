//! Two routes that match the very same requests at the same priority: a mistake, since one could never be reached and
//! which one would be an accident.

use std::collections::HashMap;

use crate::place::Place;
use crate::problem::{Fault, Problems};
use crate::snapshot::{Condition, HostPattern, PathPattern, Route, Segment};

/// What decides whether a route matches, for one host and one listener of it, whatever its params are named.
#[derive(PartialEq, Eq, Hash)]
struct Wanted<'a> {
    host: Option<&'a HostPattern>,
    listener: Option<&'a str>,
    path: String,
    methods: Vec<&'a str>,
    conditions: Vec<&'a Condition>,
    priority: i32,
}

pub(super) fn check(routes: &[Route], problems: &mut Problems) {
    let root = Place::ROOT.key("routes");
    let mut seen: HashMap<Wanted<'_>, usize> = HashMap::new();
    for (index, route) in routes.iter().enumerate() {
        let twin = wanted(route).into_iter().find_map(|wanted| match seen.get(&wanted) {
            Some(first) if *first != index => Some(*first),
            Some(_) => None,
            None => {
                seen.insert(wanted, index);
                None
            }
        });
        if let Some(first) = twin {
            let fault = Fault::new(format!(
                "route {:?} matches the same requests as routes[{first}], {:?}",
                route.name, routes[first].name
            ));
            problems.error(&root.index(index), fault.cure("remove one, add a condition, or give one a priority"));
        }
    }
}

fn wanted(route: &Route) -> Vec<Wanted<'_>> {
    let mut methods: Vec<&str> = route.methods.iter().map(String::as_str).collect();
    methods.sort_unstable();
    let mut conditions: Vec<&Condition> = route.conditions.iter().collect();
    conditions.sort_unstable();
    conditions.dedup();
    let path = match &route.path {
        PathPattern::Prefix(prefix) => format!("prefix {prefix:?}"),
        PathPattern::Expression(path) => format!("expression {}", path.expression),
        PathPattern::Segments(segments) => {
            let shape = segments.iter().map(|segment| match segment {
                Segment::Literal(text) => format!("{text:?}"),
                Segment::Param(_) => "{}".to_owned(),
                Segment::CatchAll(_) => "{*}".to_owned(),
            });
            shape.collect::<Vec<_>>().join("/")
        }
    };
    let hosts: Vec<Option<&HostPattern>> = or_any(route.hosts.iter());
    let listeners: Vec<Option<&str>> = or_any(route.listeners.iter().map(String::as_str));
    let pairs = hosts.iter().flat_map(|host| listeners.iter().map(move |listener| (*host, *listener)));
    pairs
        .map(|(host, listener)| Wanted {
            host,
            listener,
            path: path.clone(),
            methods: methods.clone(),
            conditions: conditions.clone(),
            priority: route.priority,
        })
        .collect()
}

/// Each, or `None` for "any" if there is none.
fn or_any<T>(each: impl ExactSizeIterator<Item = T>) -> Vec<Option<T>> {
    if each.len() == 0 { vec![None] } else { each.map(Some).collect() }
}
