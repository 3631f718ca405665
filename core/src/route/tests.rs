//! What the tests of routing share: routes from short text, and requests.

mod bounds;
mod cases;
mod explain;
mod reference;

use super::{Captures, FieldSource, Missed, Query, RouteTable};
use ringway_config::snapshot::{
    Action, Condition, HostPattern, PathPattern, Respond, Route, Segment, Settings, Subject, Test,
};
use std::net::IpAddr;

const LISTENERS: [&str; 2] = ["public", "internal"];

/// `/users/{id}`, `/files/{*rest}`; a last `*` makes a prefix (`/api/*`, `/*`), a first `~` an expression.
fn path(text: &str) -> PathPattern {
    if let Some(expression) = text.strip_prefix('~') {
        return PathPattern::Expression(expression.parse().unwrap_or_else(|fault| panic!("{fault}")));
    }
    let segments = text.strip_prefix('/').expect("a path starts with a slash").split('/');
    if let Some(prefix) = text.strip_suffix("/*") {
        let literals = prefix.split('/').skip(1).map(str::to_owned);
        return PathPattern::Prefix(literals.collect());
    }
    let segment = |text: &str| match text.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
        Some(name) => match name.strip_prefix('*') {
            Some(rest) => Segment::CatchAll(rest.to_owned()),
            None => Segment::Param(name.to_owned()),
        },
        None => Segment::Literal(text.to_owned()),
    };
    PathPattern::Segments(segments.map(segment).collect())
}

/// A route named as its path, for every listener, host, method and header.
fn route(text: &str) -> Route {
    Route {
        public: false,
        name: text.to_owned(),
        listeners: Vec::new(),
        hosts: Vec::new(),
        path: path(text),
        methods: Vec::new(),
        conditions: Vec::new(),
        priority: 0,
        filters: Vec::new(),
        action: Action::Respond(Respond {
            status: 200,
            content_type: String::new(),
            body: String::new(),
            headers: Vec::new(),
        }),
        mirror: None,
        api: None,
        group: None,
        policies: Vec::new(),
        without: Vec::new(),
        settings: Settings::default(),
    }
}

fn hosts(texts: &[&str]) -> Vec<HostPattern> {
    let host = |text: &&str| match text.strip_prefix("*.") {
        Some(suffix) => HostPattern::Wildcard(suffix.to_owned()),
        None => HostPattern::Exact((*text).to_owned()),
    };
    texts.iter().map(host).collect()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn header(name: &str, is: Test) -> Condition {
    Condition::Is(Subject::Header(name.to_owned()), is)
}

/// As in `when`.
fn conditions(texts: &[&str]) -> Vec<Condition> {
    texts.iter().map(|text| text.parse().unwrap_or_else(|fault| panic!("{fault}"))).collect()
}

fn table(routes: &[Route]) -> RouteTable {
    RouteTable::compile(routes, &LISTENERS).expect("within the limits")
}

#[derive(Debug, Clone, Default)]
struct Fields(Vec<(String, String)>, Option<IpAddr>);

impl FieldSource for Fields {
    fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.0.iter().any(|(known, value)| known == name && test(value.as_bytes()))
    }

    fn client_ip(&self) -> IpAddr {
        self.1.expect("asked for only by tests that name one")
    }
}

/// A request; by default `GET http:///` on the first listener.
#[derive(Debug, Clone)]
pub(super) struct Request {
    listener: u32,
    host: String,
    path: String,
    query_string: String,
    method: String,
    fields: Fields,
}

impl Request {
    pub(super) fn get(path: &str) -> Request {
        Request { path: path.to_owned(), ..Request::at("") }
    }

    fn at(host: &str) -> Request {
        let (path, method) = ("/".to_owned(), "GET".to_owned());
        Request {
            listener: 0,
            host: host.to_owned(),
            path,
            query_string: String::new(),
            method,
            fields: Fields::default(),
        }
    }

    fn method(self, method: &str) -> Request {
        Request { method: method.to_owned(), ..self }
    }

    pub(super) fn with_query(self, query: &str) -> Request {
        Request { query_string: query.to_owned(), ..self }
    }

    fn client(mut self, address: &str) -> Request {
        self.fields.1 = address.parse().ok();
        self
    }

    pub(super) fn field(mut self, name: &str, value: &str) -> Request {
        self.fields.0.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn query(&self) -> Query<'_> {
        Query {
            listener: self.listener,
            host: self.host.as_bytes(),
            path: self.path.as_bytes(),
            query_string: self.query_string.as_bytes(),
            method: self.method.as_bytes(),
            fields: &self.fields,
        }
    }

    /// The name of the route that takes it.
    fn to<'t>(&self, table: &'t RouteTable) -> Result<&'t str, Missed> {
        table.find(&self.query(), &mut Captures::default()).map(|route| table.name(route))
    }
}
