//! `rbac`: what the sender of a request may do. Stands inside of the filter that finds out who that is.
//!
//! ```toml
//! filters = [{ jwt = { issuer = "corp" } }, { rbac = { roles = ["user"] } }]
//! filters = [{ rbac = { rules = [
//!     { methods = ["GET"], paths = ["/reports/**"], roles = ["reader", "admin"] },
//!     { routes = ["reports"], roles = ["admin"] },
//!     { paths = ["/health"], anyone = true },
//! ] } }]
//! ```
//! Of `rules` the first whose methods, paths and routes all fit decides; if none fits nobody may. A rule lets pass who has
//! one of `roles`, or is one of `consumers`; with `authenticated = true` whoever has said who he is; with `anyone = true`
//! everybody; with `deny = true` nobody. `roles` beside `rules` is a rule for everything.
//!
//! Roles are those that the issuer's configuration takes from claims, the groups of the consumer, and, with `roles_header`,
//! what a filter further outside has set as this request header, parted by commas; no client can send it, on any route.
//!
//! Paths are compared to the normal form of what the client asked for, whatever filters make of it: `*` stands for one
//! segment, `**` at the end for any number. A path that origins may read in several ways passes only if every reading does.
//! Who is unknown gets 401, who is known and may not 403. `HEAD` is what `GET` is.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use ringway_config::Fault;
use ringway_config::http::HeaderName;
use ringway_config::snapshot::FilterConfig;
use ringway_proto::NormalPath;
use serde::Deserialize;

use super::auth::unknown;
use super::trial::shown;
use super::{Building, Filter, Outlook, RequestEdit, Trial, Verdict};
use crate::exchange::{HeaderEdits, Identity, Refusal};
use crate::identity::Consumers;
use crate::observe::Flag;
use crate::route::RouteId;

/// Rules of one filter: each request tries them one by one.
const RULES_MAX: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    rules: Vec<Rule>,
    roles_header: Option<HeaderName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Rule {
    methods: Vec<String>,
    paths: Vec<String>,
    routes: Vec<String>,
    roles: Vec<String>,
    consumers: Vec<String>,
    authenticated: bool,
    anyone: bool,
    deny: bool,
}

struct Rbac {
    rules: Vec<Compiled>,
    roles_header: Option<String>,
    consumers: Arc<Consumers>,
}

struct Compiled {
    methods: Vec<String>,
    paths: Vec<Pattern>,
    /// Ids; empty: all.
    routes: HashSet<RouteId>,
    allows: Allows,
    /// Of the configuration.
    place: String,
}

impl fmt::Display for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.place.rsplit('.').next().unwrap_or_default();
        match &self.allows {
            Allows::Anyone => write!(f, "{name}: anyone"),
            Allows::Authenticated => write!(f, "{name}: who has said who he is"),
            Allows::Nobody => write!(f, "{name}: nobody"),
            Allows::Who { roles, consumers } => {
                let lists = [("one of the roles", roles), ("one of the consumers", consumers)];
                let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
                let lists: Vec<String> = lists.map(|(what, list)| format!("{what} {}", list.join(", "))).collect();
                write!(f, "{name}: {}", lists.join(", or "))
            }
        }
    }
}

enum Allows {
    Anyone,
    Authenticated,
    Nobody,
    Who { roles: Vec<String>, consumers: Vec<String> },
}

/// Segments of a path.
struct Pattern {
    segments: Vec<Segment>,
    /// Whatever follows.
    open: bool,
}

enum Segment {
    Literal(Vec<u8>),
    Any,
}

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Allowed,
    /// Whoever it is.
    Denied,
    /// Not this one; nobody is known.
    Unknown,
}

pub(super) fn build(config: &FilterConfig, building: &mut Building<'_>) -> Result<Box<dyn Filter>, Fault> {
    let Table { roles, rules, roles_header } = ringway_config::filter::table(config)?;
    let wrong = |key: &str, why: String| Fault::new(why).at(format!("{}.{key}", config.place));
    if roles.is_empty() == rules.is_empty() {
        let fault = Fault::new("one of `roles` and `rules` says who may").at(config.place.clone());
        return Err(fault.cure("write roles = [\"user\"], or rules = [{ methods = [\"GET\"], roles = [\"user\"] }]"));
    }
    if rules.len() > RULES_MAX {
        return Err(wrong("rules", format!("has {} rules; the most is {RULES_MAX}", rules.len())));
    }
    let only_roles = rules.is_empty();
    let rules = match only_roles {
        true => vec![Rule { roles, ..Rule::default() }],
        false => rules,
    };
    let mut compiled = Vec::with_capacity(rules.len());
    for (index, rule) in rules.into_iter().enumerate() {
        let key = if only_roles { "roles".to_owned() } else { format!("rules[{index}]") };
        let place = format!("{}.{key}", config.place);
        compiled.push(compile(rule, building, &place)?);
    }
    let roles_header = roles_header.map(HeaderName::into_string);
    building.withheld.extend(roles_header.clone());
    Ok(Box::new(Rbac { rules: compiled, roles_header, consumers: building.consumers.clone() }))
}

fn compile(rule: Rule, building: &Building<'_>, place: &str) -> Result<Compiled, Fault> {
    let Rule { methods, paths, routes, roles, consumers, authenticated, anyone, deny } = rule;
    let wrong = |key: &str, why: String| Fault::new(why).at(format!("{place}.{key}"));
    let who = !roles.is_empty() || !consumers.is_empty();
    let allows = match (who, authenticated, anyone, deny) {
        (true, false, false, false) => Allows::Who { roles, consumers: known_consumers(consumers, building, place)? },
        (false, true, false, false) => Allows::Authenticated,
        (false, false, true, false) => Allows::Anyone,
        (false, false, false, true) => Allows::Nobody,
        _ => {
            let fault = Fault::new("one of roles or consumers, authenticated, anyone and deny says who may").at(place);
            return Err(fault.cure("keep one"));
        }
    };
    if let Some(method) = methods.iter().find(|method| method.bytes().any(|byte| !byte.is_ascii_uppercase())) {
        return Err(wrong("methods", format!("{method:?} is no method")).cure("such as \"GET\" or \"POST\""));
    }
    let patterns =
        paths.iter().map(|path| Pattern::parse(path).map_err(|why| wrong("paths", why).cure("write \"/a/*/b/**\"")));
    let paths = patterns.collect::<Result<Vec<_>, _>>()?;
    let mut ids = HashSet::new();
    for name in routes {
        let id = building.snapshot.routes.iter().position(|route| route.name == name);
        ids.insert(id.ok_or_else(|| wrong("routes", format!("no route named {name:?}")))? as RouteId);
    }
    Ok(Compiled { methods, paths, routes: ids, allows, place: place.to_owned() })
}

fn known_consumers(names: Vec<String>, building: &Building<'_>, place: &str) -> Result<Vec<String>, Fault> {
    match names.iter().find(|name| building.consumers.named(name).is_none()) {
        None => Ok(names),
        Some(name) => Err(Fault::new(format!("no consumer named {name:?}"))
            .at(format!("{place}.consumers"))
            .cure(format!("add a table [consumers.{name}]"))),
    }
}

impl Filter for Rbac {
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        let asking = Asking {
            method: request.request.method_span.of(request.bytes),
            route: request.matched.route,
            identity: request.identity.as_deref(),
            headers: request.headers,
        };
        let decision = self.decide(&asking, request.normal).0;
        match (decision, decision.refusal()) {
            (_, None) => Verdict::Pass,
            (Decision::Unknown, Some(refusal)) => unknown(request, refusal),
            (_, Some(refusal)) => Verdict::Reply(Box::new(refusal)),
        }
    }

    fn authenticates(&self) -> bool {
        !self.rules.iter().any(|rule| matches!(rule.allows, Allows::Anyone))
    }

    fn try_out<'p>(&'p self, trial: &mut Trial<'p>) -> Option<Outlook> {
        let Trial { method, path, route, .. } = *trial;
        let asking = Asking { method, route, identity: trial.identity.as_deref(), headers: &trial.headers };
        let (decision, rule) = self.decide(&asking, path);
        let roles = self.say_roles(&asking);
        trial.say("roles", if roles.is_empty() { "none".to_owned() } else { roles.join(", ") });
        match rule {
            Some(rule) => trial.say_at("rule", rule.to_string(), &rule.place),
            None => trial.say("rule", "none fits: nobody may"),
        }
        let depends = matches!(rule, Some(Compiled { allows: Allows::Who { .. } | Allows::Authenticated, .. }));
        Some(match (decision.refusal(), &self.roles_header) {
            (None, _) => Outlook::Passes,
            (Some(_), _) if depends && trial.blind => Outlook::Unknown("the sender is not known here".to_owned()),
            (Some(_), Some(name)) if depends && trial.headers.replacement(name).is_none() => {
                Outlook::Unknown(format!("roles may stand in {name}, which no filter has set that can be tried here"))
            }
            (Some(refusal), _) => Outlook::Refused(refusal),
        })
    }
}

/// What rules look at, besides the path.
struct Asking<'a, 'p> {
    method: &'a [u8],
    route: RouteId,
    identity: Option<&'a Identity>,
    /// What filters have set.
    headers: &'a HeaderEdits<'p>,
}

impl Decision {
    fn refusal(self) -> Option<Refusal> {
        match self {
            Decision::Allowed => None,
            Decision::Denied => {
                Some(Refusal::new(Flag::Forbidden, "the sender has none of the roles that may do this"))
            }
            Decision::Unknown => Some(Refusal::new(Flag::Unauthenticated, "nobody has said who asks")),
        }
    }
}

impl Rbac {
    /// The decision, and the rule that has made it. Every way in which an origin may read the path must be allowed.
    fn decide(&self, asking: &Asking<'_, '_>, path: &NormalPath) -> (Decision, Option<&Compiled>) {
        let mut decided = self.decide_reading(asking, &path.bytes);
        if path.ambiguous && decided.0 == Decision::Allowed {
            let mut others = path.readings().map(|path| self.decide_reading(asking, path));
            decided = others.find(|(decision, _)| *decision != Decision::Allowed).unwrap_or(decided);
        }
        decided
    }

    fn decide_reading(&self, asking: &Asking<'_, '_>, path: &[u8]) -> (Decision, Option<&Compiled>) {
        let method = || if asking.method == b"HEAD" { b"GET" } else { asking.method };
        let fits = |rule: &&Compiled| {
            (rule.methods.is_empty() || rule.methods.iter().any(|known| known.as_bytes() == method()))
                && (rule.routes.is_empty() || rule.routes.contains(&asking.route))
                && (rule.paths.is_empty() || rule.paths.iter().any(|pattern| pattern.fits(path)))
        };
        match self.rules.iter().find(fits) {
            Some(rule) => (self.judge(asking, rule), Some(rule)),
            None => (Decision::Denied, None),
        }
    }

    fn judge(&self, asking: &Asking<'_, '_>, rule: &Compiled) -> Decision {
        let identity = asking.identity;
        let allowed = match &rule.allows {
            Allows::Anyone => return Decision::Allowed,
            Allows::Nobody => return Decision::Denied,
            Allows::Authenticated => identity.is_some(),
            Allows::Who { roles, consumers } => {
                let named = |identity: &Identity| {
                    identity.consumer.as_deref().is_some_and(|name| consumers.iter().any(|one| one == name))
                };
                let has = |role: &String| identity.is_some_and(|identity| self.has_role(identity, role));
                identity.is_some_and(named) || roles.iter().any(|role| has(role) || self.header_has(asking, role))
            }
        };
        match (allowed, identity) {
            (true, _) => Decision::Allowed,
            (false, Some(_)) => Decision::Denied,
            (false, None) => Decision::Unknown,
        }
    }

    fn has_role(&self, identity: &Identity, role: &str) -> bool {
        identity.has_role(role) || self.groups(identity).iter().any(|group| group == role)
    }

    /// Of the consumer.
    fn groups(&self, identity: &Identity) -> &[String] {
        let known = identity.consumer.as_deref().and_then(|name| self.consumers.named(name));
        known.map_or(&[], |known| &known.groups)
    }

    /// Only what filters have set: what a client sends under this name is not there.
    fn header_has(&self, asking: &Asking<'_, '_>, role: &str) -> bool {
        let value = self.roles_header.as_ref().and_then(|name| asking.headers.replacement(name));
        value.is_some_and(|value| value.split(',').any(|one| one.trim() == role))
    }

    /// All roles, each kind with where it comes from.
    fn say_roles(&self, asking: &Asking<'_, '_>) -> Vec<String> {
        let mut said = Vec::new();
        let mut add = |roles: Vec<String>, whence: String| {
            if !roles.is_empty() {
                said.push(format!("{} ({whence})", roles.join(", ")));
            }
        };
        if let Some(identity) = asking.identity {
            add(identity.roles.iter().map(|role| shown(role)).collect(), identity.by.to_owned());
            let consumer = identity.consumer.as_deref().unwrap_or_default();
            add(self.groups(identity).to_vec(), format!("groups of consumer {}", shown(consumer)));
        }
        if let Some(name) = &self.roles_header {
            let value = asking.headers.replacement(name).unwrap_or_default();
            let roles = value.split(',').map(|role| shown(role.trim())).filter(|role| !role.is_empty());
            add(roles.collect(), format!("header {name}"));
        }
        said
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Pattern, String> {
        let rest = text.strip_prefix('/').ok_or_else(|| format!("{text:?} does not begin with a slash"))?;
        // It is held against normal forms: one that is none would never fit, and a rule behind it would decide.
        let mut normal = NormalPath::new();
        normal.set(text.as_bytes()).map_err(|error| format!("{text:?} is no path: {error}"))?;
        if normal.bytes != text.as_bytes() {
            let normal = normal.bytes.escape_ascii();
            return Err(format!("{text:?} would never fit, since paths are compared in their normal form: {normal}"));
        }
        let (rest, open) = match rest {
            "**" => ("", true),
            _ => rest.strip_suffix("/**").map_or((rest, false), |rest| (rest, true)),
        };
        let mut segments = Vec::new();
        for segment in rest.split('/').filter(|_| !(rest.is_empty() && open)) {
            segments.push(match segment {
                "*" => Segment::Any,
                plain if plain.contains('*') => return Err(format!("{text:?}: \"*\" stands for a whole segment")),
                plain => Segment::Literal(plain.as_bytes().to_vec()),
            });
        }
        Ok(Pattern { segments, open })
    }

    fn fits(&self, path: &[u8]) -> bool {
        let mut parts = path.strip_prefix(b"/").unwrap_or(path).split(|byte| *byte == b'/');
        for segment in &self.segments {
            match (segment, parts.next()) {
                (_, None) | (Segment::Any, Some([])) => return false,
                (Segment::Literal(text), Some(part)) if text != part => return false,
                _ => {}
            }
        }
        self.open || parts.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_segments() {
        let fits = |pattern: &str, path: &str| Pattern::parse(pattern).unwrap().fits(path.as_bytes());
        for (pattern, path) in [
            ("/", "/"),
            ("/**", "/"),
            ("/**", "/a/b"),
            ("/a/**", "/a"),
            ("/a/**", "/a/"),
            ("/a/**", "/a/b/c"),
            ("/a/*/c", "/a/b/c"),
            ("/a/", "/a/"),
            ("/*", "/a"),
        ] {
            assert!(fits(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("/", "/a"),
            ("/a", "/a/"),
            ("/a/", "/a"),
            ("/a/**", "/ab"),
            ("/a/**", "/"),
            ("/a/*/c", "/a/b/c/d"),
            ("/a/*/c", "/a//c"),
            ("/*", "/"),
            ("/*", "/a/b"),
        ] {
            assert!(!fits(pattern, path), "{pattern} {path}");
        }
        for wrong in ["", "a", "/a*", "/**/a", "/a/b**", "/a b", "/a//b", "/a/../b", "/%61", "/a%2fb", "/é", "/a?b"] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
