//! `ringway explain`: which route, filters and cluster a request would take, and why every other route does not.
//! Asks no running gateway.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use ringway_config::snapshot::{Action, FilterConfig, Policy, Route, Settings, Snapshot};
use ringway_config::units::{duration_text, size_text};
use ringway_config::{Errors, Fault, Level, outer_policies};
use ringway_proto::NormalPath;

use super::cli::print_problems;
use super::explain_access::{self, TokenText};
use super::explain_cluster;
use crate::control::document::{Document, NoNames};
use crate::filter::Trial;
use crate::plan::{Node, Plan};
use crate::route::{Captures, FieldSource, Missed, Query, RouteId};

const NO_ROUTE: u8 = 1;

/// A request that nobody sent.
pub struct Asked {
    pub method: String,
    pub url: Url,
    pub headers: Vec<(String, String)>,
    pub listener: Option<String>,
    /// The client's address, as trusted proxies have told it.
    pub client: IpAddr,
    /// Stands wherever a filter looks for a token.
    pub token: Option<TokenText>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Without port; empty for a path alone.
    host: String,
    path: String,
    /// What follows the `?`; empty for none.
    query: String,
}

/// For the command line.
///
/// # Errors
/// Neither a path nor an http URL.
pub fn parse_url(text: &str) -> Result<Url, String> {
    let wrong = || "write http://host/path or /path".to_owned();
    if !text.bytes().all(|byte| byte.is_ascii_graphic() || !byte.is_ascii()) {
        return Err(wrong());
    }
    let (authority, rest) = match text.split_once("://") {
        _ if text.starts_with('/') => ("", text),
        Some(("http" | "https", rest)) => rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())),
        _ => return Err(wrong()),
    };
    if authority.is_empty() && !text.starts_with('/') {
        return Err(wrong());
    }
    let target = rest.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let host = String::from_utf8_lossy(ringway_proto::host_of(authority.as_bytes())).into_owned();
    let path = if path.is_empty() { "/" } else { path };
    Ok(Url { host, path: path.to_owned(), query: query.to_owned() })
}

/// For the command line.
///
/// # Errors
/// No token (RFC 9110 5.6.2).
pub fn parse_method(text: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_token) {
        true => Ok(text.to_owned()),
        false => Err("write a method as in GET".to_owned()),
    }
}

/// For the command line.
///
/// # Errors
/// No colon.
pub fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write 'Name: value'")?;
    Ok((parse_method(name.trim())?.to_ascii_lowercase(), value.trim().to_owned()))
}

struct Fields<'a> {
    headers: &'a [(String, String)],
    client: IpAddr,
}

impl FieldSource for Fields<'_> {
    fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.headers.iter().any(|(have, value)| have == name && test(value.as_bytes()))
    }

    fn client_ip(&self) -> IpAddr {
        self.client
    }
}

/// Prints the answer. 0: some route takes the request; 1: none does, or the file is bad.
pub fn explain(file: Option<&Path>, asked: &Asked) -> ExitCode {
    let found = Document::read(file).and_then(|document| {
        let plan = document.plan(0, &NoNames, Node::new(1), None)?;
        answer(&document, &plan, asked)
    });
    match found {
        Ok((text, is_found)) => {
            use std::io::Write;
            let _ = std::io::stdout().write_all(text.as_bytes());
            if is_found { ExitCode::SUCCESS } else { ExitCode::from(NO_ROUTE) }
        }
        Err(errors) => {
            print_problems(&errors);
            ExitCode::from(NO_ROUTE)
        }
    }
}

fn answer(document: &Document, plan: &Plan, asked: &Asked) -> Result<(String, bool), Errors> {
    let snapshot = &document.snapshot;
    let listener = listener(snapshot, asked.listener.as_deref()).map_err(|fault| document.locate(vec![fault]))?;
    let mut path = NormalPath::new();
    if let Err(error) = path.set(asked.url.path.as_bytes()) {
        return Ok((format!("400: the path is refused before any route is asked: {error}\n"), false));
    }
    let named = asked.headers.iter().find(|(name, _)| name == "host").map(|(_, value)| value.as_str());
    let host = named.filter(|_| asked.url.host.is_empty()).unwrap_or(&asked.url.host);
    let query = Query {
        listener: listener as u32,
        host: ringway_proto::host_of(host.as_bytes()),
        path: &path.bytes,
        query_string: asked.url.query.as_bytes(),
        method: asked.method.as_bytes(),
        fields: &Fields { headers: &asked.headers, client: asked.client },
    };
    let found = plan.table.find_all_readings(&query, path.readings(), &mut Captures::default());
    let mut out = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        out,
        "{} {} for host {:?} on listener {:?}, from {}",
        asked.method,
        path.bytes.escape_ascii(),
        host,
        snapshot.listeners[listener].name,
        asked.client
    );
    let entry = plan.outer.as_ref().and_then(|outer| outer.host_entry(query.host));
    match &found {
        Ok(id) => describe(&mut out, &Taken { document, plan, id: *id, listener, entry }),
        Err(missed) => out.push_str(&say_missed(missed)),
    }
    out.push_str("\nroutes in the order of preference:\n");
    for verdict in plan.table.explain(&query) {
        let _ = writeln!(out, "  {verdict}");
    }
    match (&asked.token, &found) {
        (Some(token), Ok(id)) => {
            let taken = Taken { document, plan, id: *id, listener, entry };
            let request = (asked.method.as_bytes(), &path, *id);
            explain_access::read_keys(&mut out, plan);
            let trial = Trial::new(token.bytes(), request, asked.client, explain_access::unix_s());
            let in_force = plan.in_force(&plan.routes[*id as usize], query.listener, || query.host);
            explain_access::describe(&mut out, document, &taken.row(), in_force.filters(), trial);
        }
        (Some(_), Err(_)) => out.push_str("\naccess: no route takes the request\n"),
        (None, _) => {}
    }
    Ok((out, found.is_ok()))
}

fn listener(snapshot: &Snapshot, named: Option<&str>) -> Result<usize, Fault> {
    let Some(named) = named else { return Ok(0) };
    let found = snapshot.listeners.iter().position(|listener| listener.name == named);
    found.ok_or_else(|| {
        let names: Vec<&str> = snapshot.listeners.iter().map(|listener| listener.name.as_str()).collect();
        let fault = Fault::new(format!("no listener is called {named:?}")).at("listeners");
        fault.cure(format!("the listeners are {}", names.join(", ")))
    })
}

fn say_missed(missed: &Missed) -> String {
    match missed {
        Missed::Path => "404: no route has this host and path\n".to_owned(),
        Missed::Method(allow) => format!("405: routes have this host and path, but take only {allow}\n"),
        Missed::Conditions => "404: routes have this host, path and method, but their conditions fail\n".to_owned(),
        Missed::Ambiguous => {
            "400: an origin could read this path in another way, and that reading takes another route\n".to_owned()
        }
    }
}

/// A request that has a route.
struct Taken<'a> {
    document: &'a Document,
    plan: &'a Plan,
    id: RouteId,
    listener: usize,
    /// The host entry that applies.
    entry: Option<usize>,
}

/// One filter of the row that a request passes.
pub struct Row<'a> {
    /// `None`: what an API's version says.
    config: Option<&'a FilterConfig>,
    /// `route`, `policy NAME of group NAME`, ...
    whose: String,
}

impl Row<'_> {
    pub fn name(&self) -> &str {
        self.config.map_or("version_notice", |config| &config.name)
    }

    /// File and line, if it stands in the file itself.
    pub fn place(&self, document: &Document) -> String {
        self.config.map_or(self.whose.clone(), |config| place_text(document, &config.place))
    }
}

/// File and line of a dotted place.
pub fn place_text(document: &Document, place: &str) -> String {
    let found = Fault::new("").at(place).locate(&document.source);
    match found.line {
        0 => found.file,
        line => format!("{}:{line}", found.file),
    }
}

/// A filter's table without secrets that are written out.
fn shown_table(table: &toml::Value) -> toml::Value {
    use toml::Value;
    match table {
        Value::String(text) if text.starts_with("text:") => Value::String("text:(not shown)".to_owned()),
        Value::Array(list) => Value::Array(list.iter().map(shown_table).collect()),
        Value::Table(table) => {
            Value::Table(table.iter().map(|(key, value)| (key.clone(), shown_table(value))).collect())
        }
        plain => plain.clone(),
    }
}

impl<'a> Taken<'a> {
    /// The filters in the order in which they run, as [`Plan::in_force`] has them.
    fn row(&self) -> Vec<Row<'a>> {
        let snapshot = &self.document.snapshot;
        let route = &snapshot.routes[self.id as usize];
        let mut row = Vec::new();
        let mut inside = false;
        let version = |row: &mut Vec<Row<'a>>| {
            if let Some((api, version)) = route.api.map(|of| self.plan.apis.names(of))
                && self.plan.apis.has_notice(route.api)
            {
                row.push(Row { config: None, whose: format!("version {version} of api {api}") });
            }
        };
        for (level, policy, whose) in self.policies() {
            if level >= Level::Group && !std::mem::replace(&mut inside, true) {
                version(&mut row);
            }
            let required = if policy.required { "required " } else { "" };
            let whose = format!("{required}{whose}");
            row.extend(policy.filters.iter().map(|config| Row { config: Some(config), whose: whose.clone() }));
        }
        if !inside {
            version(&mut row);
        }
        row.extend(route.filters.iter().map(|config| Row { config: Some(config), whose: "route".to_owned() }));
        row
    }

    /// The policies it passes, outermost first, each with where it was named.
    fn policies(&self) -> Vec<(Level, &'a Policy, String)> {
        let Taken { document, listener, entry, .. } = *self;
        let snapshot = &document.snapshot;
        let route = &snapshot.routes[self.id as usize];
        let listener = &snapshot.listeners[listener];
        let of_host = entry.map_or(&[][..], |entry| &snapshot.hosts[entry].policies);
        let mut all = outer_policies(&listener.policies, of_host, &snapshot.left_out(route));
        all.extend(snapshot.inner_policies(route));
        let say = |(level, policy): (Level, usize)| {
            let policy = &snapshot.policies[policy];
            let whose = match level {
                Level::Listener => format!("listener {}", listener.name),
                Level::Host => {
                    format!("host {}", entry.map_or(String::new(), |at| snapshot.hosts[at].host.to_string()))
                }
                Level::Group => format!("group {}", route.group.map_or("", |at| &snapshot.groups[at].name)),
                Level::Route => "route".to_owned(),
            };
            (level, policy, format!("policy {} of {whose}", policy.name))
        };
        all.into_iter().map(say).collect()
    }
}

fn describe(out: &mut String, taken: &Taken<'_>) {
    let Taken { document, plan, id, .. } = taken;
    let snapshot = &document.snapshot;
    let route = &snapshot.routes[*id as usize];
    let _ = writeln!(out, "takes route {:?} ({})", route.name, plan.table.label(*id));
    if let Some(of) = route.api {
        let api = &snapshot.apis[of.api];
        let _ = writeln!(out, "  api      {}, version {}", api.name, api.versions[of.version].name);
    }
    let row = taken.row();
    for (at, row @ Row { config, whose }) in row.iter().enumerate() {
        let _ = match config {
            Some(config) => {
                let table = shown_table(&config.table);
                let place = row.place(document);
                writeln!(out, "  filter   {}. {} = {table}  ({whose}, {place})", at + 1, config.name)
            }
            None => writeln!(out, "  filter   {}. {}  ({whose})", at + 1, row.name()),
        };
    }
    limits(out, plan, &row);
    let policies = taken.policies().into_iter().map(|(_, policy, whose)| (policy, whose)).collect::<Vec<_>>();
    match &route.action {
        Action::Cluster(index) => {
            explain_cluster::describe(out, &snapshot.clusters[*index]);
        }
        Action::Split(split) => {
            let on = split.on.as_ref().map_or("one by one".to_owned(), |on| format!("by {on}"));
            let _ = writeln!(out, "  split    {on}");
            for arm in &split.arms {
                let when: Vec<String> = arm.when.iter().map(ToString::to_string).collect();
                let when = if when.is_empty() { String::new() } else { format!(", always if {}", when.join(" and ")) };
                let cluster = &snapshot.clusters[arm.cluster];
                let _ = writeln!(out, "  arm      {}, weight {}{when}", cluster.name, arm.weight);
            }
            split.arms.iter().for_each(|arm| explain_cluster::describe(out, &snapshot.clusters[arm.cluster]));
        }
        Action::Redirect(redirect) => {
            let _ = writeln!(out, "  redirect {} to {}", redirect.status, redirect.to);
        }
        Action::Respond(respond) => {
            let _ = writeln!(
                out,
                "  respond  {}, {} bytes of {}",
                respond.status,
                respond.body.len(),
                respond.content_type
            );
        }
    }
    if let Some(mirror) = &route.mirror {
        let cluster = &snapshot.clusters[mirror.cluster].name;
        let percent = mirror.percent.fraction() * 100.0;
        let _ = writeln!(out, "  mirror   {percent} % to {cluster}, {} at most", duration_text(mirror.timeout));
    }
    settings(out, taken, &policies);
}

/// What each limit that it passes is called in metrics, and what it counts by.
fn limits(out: &mut String, plan: &Plan, row: &[Row<'_>]) {
    for place in row.iter().filter_map(|row| row.config).map(|filter| filter.place.as_str()) {
        for (name, key) in plan.gathered.numbers.limits_at(place) {
            let _ = writeln!(out, "  limit    {name}, by {key}");
        }
    }
}

/// Each setting in force, and who says so: the innermost that says anything.
fn settings(out: &mut String, taken: &Taken<'_>, policies: &[(&Policy, String)]) {
    let snapshot = &taken.document.snapshot;
    let route = &snapshot.routes[taken.id as usize];
    let listener = &snapshot.listeners[taken.listener];
    let cluster = match &route.action {
        Action::Cluster(index) => Some(&snapshot.clusters[*index]),
        Action::Split(_) | Action::Redirect(_) | Action::Respond(_) => None,
    };
    let bytes = innermost(route, policies, |of| of.body_bytes_max)
        .unwrap_or((listener.body_bytes_max, format!("listener {}", listener.name)));
    let _ = writeln!(out, "  setting  body_bytes_max = {}  ({})", size_text(bytes.0), bytes.1);
    let of_cluster = || cluster.and_then(|cluster| Some((cluster.total_timeout?, format!("cluster {}", cluster.name))));
    if let Some((time, whose)) = innermost(route, policies, |of| of.total_timeout).or_else(of_cluster) {
        let _ = writeln!(out, "  setting  total_timeout = {}  ({whose})", duration_text(time));
    }
    let of_cluster = || cluster.map(|cluster| (cluster.retry.clone(), format!("cluster {}", cluster.name)));
    if let Some((rules, whose)) = innermost(route, policies, |of| of.retry.clone()).or_else(of_cluster) {
        let _ = writeln!(out, "  retry    {}", explain_cluster::retry(&rules, &whose));
    }
    if let Some((rules, whose)) = innermost(route, policies, |of| of.hedge) {
        let _ = writeln!(out, "  hedge    {}", explain_cluster::hedge(rules, &whose));
    }
}

fn innermost<T>(
    route: &Route,
    policies: &[(&Policy, String)],
    of: impl Fn(&Settings) -> Option<T>,
) -> Option<(T, String)> {
    let own = of(&route.settings).map(|value| (value, "route".to_owned()));
    own.or_else(|| policies.iter().rev().find_map(|(policy, whose)| Some((of(&policy.settings)?, whose.clone()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &str, url: &str, headers: &[&str]) -> (String, bool) {
        let client = IpAddr::from([127, 0, 0, 1]);
        let document = Document::read(None).unwrap();
        let plan = document.plan(0, &NoNames, Node::new(1), None).unwrap();
        let headers = headers.iter().map(|header| parse_header(header).unwrap()).collect();
        let asked =
            Asked { method: method.into(), url: parse_url(url).unwrap(), headers, listener: None, client, token: None };
        answer(&document, &plan, &asked).unwrap()
    }

    #[test]
    fn urls_are_read() {
        let url = |text: &str| parse_url(text).map(|url| (url.host, url.path));
        assert_eq!(url("http://a.test:80/b/c?d#e"), Ok(("a.test".into(), "/b/c".into())));
        assert_eq!(url("https://a.test"), Ok(("a.test".into(), "/".into())));
        assert_eq!(url("http://[::1]:80/x"), Ok(("[::1]".into(), "/x".into())));
        assert_eq!(url("/b?c=http://d"), Ok((String::new(), "/b".into())));
        for wrong in ["not a url", "", "a.test/b", "ftp://a/b", "http:///b", "http://a/b c"] {
            assert!(url(wrong).is_err(), "{wrong:?}");
        }
        assert!(parse_method("G E T").is_err() && parse_method("").is_err() && parse_header("x").is_err());
    }

    #[test]
    fn a_found_route_is_described_and_the_others_say_why_not() {
        let (said, found) = ask("GET", "http://x/api/hello?q", &[]);
        assert!(found);
        for part in ["takes route \"api\" (/api/*)", "strip_prefix = \"/api\"", "demo: 127.0.0.1:9101, 127.0.0.1:9102"]
        {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
        assert!(said.contains("\n  user (/users/{id}): path: "), "{said}");
    }

    #[test]
    fn a_query_is_read_for_versions() {
        assert_eq!(parse_url("/a?b=c#d").unwrap().query, "b=c");
        assert_eq!(parse_url("http://a/b").unwrap().query, "");
    }

    #[test]
    fn what_no_route_takes_has_its_status() {
        let first = |method, url| {
            let (said, found) = ask(method, url, &[]);
            assert!(!found, "{said}");
            said
        };
        assert!(first("GET", "/nowhere").contains("\n404: "));
        assert!(first("DELETE", "/users/7").contains("\n405: "));
        assert!(first("GET", "/a%00").starts_with("400: "));
    }
}
