//! `cors`: says which web pages of other origins may use an API (Fetch standard, 3.2). Keeps nobody out: browsers do.
//!
//! ```toml
//! filters = [{ cors = { allow_origins = ["https://app.example.com", "https://*.example.org"], credentials = true,
//!     headers = ["content-type", "authorization"], expose_headers = ["x-total"], max_age = "1h" } }]
//! ```
//! - `allow_origins`: whole origins; `"https://*.example.org"` is every host below it, `"http://localhost:*"` every port,
//!   `"*"` everybody, `"null"` pages without an origin. `allow_origin_regex` takes regular expressions of whole origins.
//! - `methods` (unset: those that the route takes) and `headers` (unset: none) are what a page may use; `["*"]` is all.
//! - `credentials` lets pages send cookies and certificates. Not with `"*"`: every page could act as the user.
//! - `expose_headers`, `max_age` (how long a browser may remember a preflight), `private_network`.
//!
//! **Preflights** are answered here with 204, for origins that are not allowed without a word about CORS. A preflight
//! belongs to the route that would take the request it asks about, so that routes need not have `OPTIONS` in `methods`.
//! It brings no credentials: put `cors` before filters that ask for some.
//!
//! What the origin server says of CORS is taken out of its answers. Ours is said on errors, too, also those of filters that
//! stand further inside. A request from an origin that is not allowed passes; its page cannot read the answer. If the
//! answer depends on `Origin`, `Vary` says so even if none came. Of two `cors` filters the outer one decides.

use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input};
use ringway_config::Fault;
use ringway_config::snapshot::FilterConfig;
use ringway_config::units::DurationText;
use ringway_proto::{Known, Method, named};
use serde::Deserialize;

use super::state::Numbers;
use super::{Filter, RequestEdit, Verdict, rewrite};
use crate::exchange::{EditValue, HeaderEdit};

/// Origins of one filter, and methods and headers.
const LIST_MAX: usize = 1024;
const REGEXES_MAX: usize = 16;
/// Of an origin: a scheme, a DNS name of 253 bytes, a port. A longer one is not allowed.
const ORIGIN_BYTES_MAX: usize = 300;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    allow_origins: Vec<String>,
    #[serde(default)]
    allow_origin_regex: Vec<String>,
    methods: Option<Vec<String>>,
    #[serde(default)]
    headers: Vec<String>,
    #[serde(default)]
    expose_headers: Vec<String>,
    #[serde(default)]
    credentials: bool,
    max_age: Option<DurationText>,
    #[serde(default)]
    private_network: bool,
}

pub(super) struct Cors {
    /// `"*"`.
    everybody: bool,
    /// Sorted.
    exact: Box<[String]>,
    patterns: Box<[Pattern]>,
    /// Each with the number of its memory on each core.
    regexes: Box<[(Regex, usize)]>,
    methods: Listed,
    headers: Listed,
    expose: Option<String>,
    credentials: bool,
    /// In seconds.
    max_age: Option<String>,
    private_network: bool,
    preflight_vary: &'static str,
}

/// An origin with something left open.
struct Pattern {
    /// `https://`, or all of the origin before its port.
    start: String,
    /// `.example.org`, perhaps with a port.
    end: String,
    /// What is open are digits, not labels.
    port: bool,
}

/// What a page may use.
enum Listed {
    /// Whatever it asks for. Not `*` on the wire, which leaves out `Authorization` and means nothing with credentials.
    All,
    These(String),
}

/// Who asks.
enum Asks<'p> {
    /// Not a page.
    Nobody,
    Allowed(EditValue<'p>),
    NotAllowed,
}

impl Cors {
    pub(super) fn build(config: &FilterConfig, numbers: &mut Numbers) -> Result<Box<dyn Filter>, Fault> {
        let table: Table = ringway_config::filter::table(config)?;
        let wrong = |key: &str, why: String| Fault::new(why).at(format!("{}.{key}", config.place));
        let lists = [&table.allow_origins, &table.headers, &table.expose_headers];
        if lists.iter().any(|list| list.len() > LIST_MAX) || table.allow_origin_regex.len() > REGEXES_MAX {
            let fault = Fault::new("a list is too long").at(config.place.clone());
            return Err(fault.cure(format!("use at most {LIST_MAX} entries, and {REGEXES_MAX} regular expressions")));
        }
        if table.allow_origins.is_empty() && table.allow_origin_regex.is_empty() {
            let fault = Fault::new("allows no origin").at(config.place.clone());
            return Err(fault.cure("add allow_origins = [\"https://app.example.com\"]"));
        }
        let everybody = table.allow_origins.iter().any(|origin| origin == "*");
        if table.credentials {
            let open = |list: &[String], word: &str| list.iter().any(|entry| entry == word);
            if everybody || open(&table.allow_origins, "null") {
                let why = "with \"*\" or \"null\" every page could act as the user".to_owned();
                return Err(wrong("credentials", why).cure("list the origins, or leave out credentials"));
            }
            if open(&table.expose_headers, "*") {
                let why = "\"*\" means nothing with credentials".to_owned();
                return Err(wrong("expose_headers", why).cure("list the headers"));
            }
        }
        let (mut exact, mut patterns) = (Vec::new(), Vec::new());
        for (at, text) in table.allow_origins.iter().enumerate().filter(|(_, text)| *text != "*") {
            let place = format!("allow_origins[{at}]");
            match Pattern::parse(text).map_err(|(why, cure)| wrong(&place, format!("{text:?} {why}")).cure(cure))? {
                Some(pattern) => patterns.push(pattern),
                None => exact.push(text.to_ascii_lowercase()),
            }
        }
        exact.sort_unstable();
        let mut regexes = Vec::new();
        for (at, text) in table.allow_origin_regex.iter().enumerate() {
            let regex = rewrite::compile(text).map_err(|why| {
                wrong(&format!("allow_origin_regex[{at}]"), format!("{text:?} cannot be used: {why}"))
            })?;
            regexes.push((regex, numbers.regex()));
        }
        let methods = table.methods.unwrap_or_else(|| vec!["*".to_owned()]);
        Ok(Box::new(Cors {
            everybody,
            exact: exact.into(),
            patterns: patterns.into(),
            regexes: regexes.into(),
            methods: Listed::new(&methods, "methods").map_err(|(key, why)| wrong(&key, why))?,
            headers: Listed::new(&table.headers, "headers").map_err(|(key, why)| wrong(&key, why))?,
            expose: match Listed::new(&table.expose_headers, "expose_headers").map_err(|(key, why)| wrong(&key, why))? {
                Listed::All => Some("*".to_owned()),
                Listed::These(names) => Some(names).filter(|names| !names.is_empty()),
            },
            credentials: table.credentials,
            max_age: table.max_age.map(|age| age.0.as_secs().to_string()),
            private_network: table.private_network,
            preflight_vary: match table.private_network {
                false => "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
                true => {
                    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, \
                     Access-Control-Request-Private-Network"
                }
            },
        }))
    }
}

impl Filter for Cors {
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        request.answer.push(HeaderEdit::RemoveAll("access-control-"));
        let asks = self.who_asks(request);
        let first = |name| named(&request.request.fields, request.bytes, name).next();
        let preflight = request.request.method == Method::Options
            && !matches!(asks, Asks::Nobody)
            && first("access-control-request-method").is_some();
        if preflight {
            if let Asks::Allowed(origin) = asks {
                self.allow_preflight(request, origin);
            }
            request.answer.push(HeaderEdit::Add("vary", self.preflight_vary.into()));
            return Verdict::Answer(204);
        }
        match asks {
            Asks::Allowed(origin) => {
                self.allow(request, origin);
                if let Some(names) = &self.expose {
                    request.answer.push(HeaderEdit::Add("access-control-expose-headers", names.into()));
                }
            }
            // The answer is the same for everybody, and a cache may have it for a page later.
            Asks::Nobody if self.everybody => self.allow(request, "*".into()),
            Asks::Nobody | Asks::NotAllowed => {}
        }
        if !self.everybody {
            request.answer.push(HeaderEdit::Add("vary", "Origin".into()));
        }
        Verdict::Pass
    }

    fn answers_preflights(&self) -> bool {
        true
    }
}

impl Cors {
    fn who_asks<'p>(&'p self, request: &RequestEdit<'p, '_>) -> Asks<'p> {
        let mut said = request.request.fields.iter().filter(|field| field.known == Known::Origin && !field.twin);
        let Some(field) = said.next() else { return Asks::Nobody };
        let origin = field.value.of(request.bytes);
        if self.everybody {
            return Asks::Allowed("*".into());
        }
        if said.next().is_some() || origin.len() > ORIGIN_BYTES_MAX {
            return Asks::NotAllowed;
        }
        if let Ok(at) = self.exact.binary_search_by(|known| known.as_bytes().cmp(origin)) {
            return Asks::Allowed((&self.exact[at]).into());
        }
        let matches = self.patterns.iter().any(|pattern| pattern.matches(origin))
            || self.regexes.iter().any(|(regex, number)| {
                let mut cache = request.state.regex_cache(*number, regex).borrow_mut();
                regex.search_half_with(&mut cache, &Input::new(origin).anchored(Anchored::Yes)).is_some()
            });
        match str::from_utf8(origin) {
            Ok(origin) if matches && origin.is_ascii() => Asks::Allowed(origin.to_owned().into()),
            _ => Asks::NotAllowed,
        }
    }

    fn allow<'p>(&'p self, request: &mut RequestEdit<'p, '_>, origin: EditValue<'p>) {
        request.answer.push(HeaderEdit::Add("access-control-allow-origin", origin));
        if self.credentials {
            request.answer.push(HeaderEdit::Add("access-control-allow-credentials", "true".into()));
        }
    }

    fn allow_preflight<'p>(&'p self, request: &mut RequestEdit<'p, '_>, origin: EditValue<'p>) {
        self.allow(request, origin);
        let asked = |name| {
            let field = named(&request.request.fields, request.bytes, name).next()?;
            str::from_utf8(field.value.of(request.bytes)).ok().filter(|text| is_token_list(text))
        };
        let listed = [
            ("access-control-allow-methods", &self.methods, asked("access-control-request-method")),
            ("access-control-allow-headers", &self.headers, asked("access-control-request-headers")),
        ];
        let private = asked("access-control-request-private-network") == Some("true");
        for (name, listed, asked) in listed {
            match (listed, asked) {
                (Listed::All, Some(asked)) => request.answer.push(HeaderEdit::Add(name, asked.to_owned().into())),
                (Listed::These(names), _) if !names.is_empty() => {
                    request.answer.push(HeaderEdit::Add(name, names.into()));
                }
                _ => {}
            }
        }
        if let Some(seconds) = &self.max_age {
            request.answer.push(HeaderEdit::Add("access-control-max-age", seconds.into()));
        }
        if self.private_network && private {
            request.answer.push(HeaderEdit::Add("access-control-allow-private-network", "true".into()));
        }
    }
}

impl Pattern {
    /// `None`: a whole origin. An error and its cure: it is none that a browser could send.
    fn parse(text: &str) -> Result<Option<Pattern>, (&'static str, String)> {
        const SHAPE: &str = "write it like \"https://app.example.com\" or \"https://*.example.com\"";
        if text == "null" {
            return Ok(None);
        }
        let lower = text.to_ascii_lowercase();
        let Some((scheme, rest)) = lower.split_once("://") else { return Err(("has no scheme", SHAPE.to_owned())) };
        if rest.contains(['/', '?', '#', '@']) {
            let end = rest.find(['/', '?', '#', '@']).unwrap_or(rest.len());
            return Err(("is more than an origin", format!("write \"{scheme}://{}\"", &rest[..end])));
        }
        let default = if scheme == "https" { ":443" } else { ":80" };
        if let Some(host) = rest.strip_suffix(default) {
            let cure = format!("write \"{scheme}://{host}\"");
            return Err(("names the port that browsers leave out", cure));
        }
        let plain = |text: &str| !text.is_empty() && !text.contains('*') && text.bytes().all(|b| b.is_ascii_graphic());
        if !plain(scheme) {
            return Err(("is no origin", SHAPE.to_owned()));
        }
        if plain(rest) {
            return Ok(None);
        }
        match (rest.strip_prefix("*."), rest.strip_suffix(":*")) {
            (Some(end), None) if plain(end) => {
                Ok(Some(Pattern { start: format!("{scheme}://"), end: format!(".{end}"), port: false }))
            }
            (None, Some(host)) if plain(host) => {
                Ok(Some(Pattern { start: format!("{scheme}://{host}:"), end: String::new(), port: true }))
            }
            _ => Err(("has a \"*\" where none can stand", SHAPE.to_owned())),
        }
    }

    fn matches(&self, origin: &[u8]) -> bool {
        let open = origin.strip_prefix(self.start.as_bytes()).and_then(|rest| rest.strip_suffix(self.end.as_bytes()));
        open.is_some_and(|open| match self.port {
            true => !open.is_empty() && open.iter().all(u8::is_ascii_digit),
            false => !open.is_empty() && open.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b)),
        })
    }
}

impl Listed {
    /// An error: the key, and why.
    fn new(names: &[String], key: &str) -> Result<Listed, (String, String)> {
        if let [star] = names
            && star == "*"
        {
            return Ok(Listed::All);
        }
        for (at, name) in names.iter().enumerate() {
            let is_good = match key {
                "methods" => !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'-'),
                _ => name != "*" && !name.is_empty() && is_token_list(name) && !name.contains([',', ' ']),
            };
            if !is_good {
                let why = format!("{name:?} cannot stand in this list; [\"*\"] alone means all");
                return Err((format!("{key}[{at}]"), why));
            }
        }
        Ok(Listed::These(names.join(", ")))
    }
}

/// What may be said back to who asked.
fn is_token_list(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~, ".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(text: &str) -> Result<(), String> {
        let table = toml::Value::Table(toml::from_str(text).expect(text));
        let config = FilterConfig { name: "cors".into(), table, place: "here".into() };
        Cors::build(&config, &mut Numbers::default()).map(|_| ()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_browsers_would_not_take_is_refused() {
        for (bad, part) in [
            ("", "here: allows no origin"),
            ("allow_origins = ['*']\ncredentials = true", "here.credentials"),
            ("allow_origins = ['null']\ncredentials = true", "here.credentials"),
            ("allow_origins = ['https://a']\nexpose_headers = ['*']\ncredentials = true", "here.expose_headers"),
            ("allow_origins = ['a.test']", "here.allow_origins[0]: \"a.test\" has no scheme"),
            ("allow_origins = ['https://a.test/']", "write \"https://a.test\""),
            ("allow_origins = ['https://b', 'https://a.test:443']", "here.allow_origins[1]"),
            ("allow_origins = ['https://a*.test']", "a \"*\" where none can stand"),
            ("allow_origins = ['https://*']", "a \"*\" where none can stand"),
            ("allow_origins = ['*']\nmethods = ['get']", "here.methods[0]"),
            ("allow_origins = ['*']\nheaders = ['a', '*']", "here.headers[1]"),
            ("allow_origin_regex = ['https://a']", "here.allow_origin_regex[0]"),
            ("allow_origins = ['*']\nmaxage = '1s'", "maxage"),
        ] {
            let said = built(bad).expect_err(bad);
            assert!(said.contains(part), "{bad}: {said}");
        }
        for good in ["allow_origins = ['null']", "allow_origin_regex = ['^https://.*$']\ncredentials = true"] {
            assert_eq!(built(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_pattern_takes_hosts_below_it_and_nothing_else() {
        let matches =
            |pattern: &str, origin: &str| Pattern::parse(pattern).unwrap().expect(pattern).matches(origin.as_bytes());
        let below = "https://*.Example.com";
        assert!(matches(below, "https://a.example.com") && matches(below, "https://a.b.example.com"));
        for origin in [
            "https://example.com",
            "https://.example.com",
            "http://a.example.com",
            "https://aexample.com",
            "https://evil.test/.example.com",
            "https://evil.test?.example.com",
            "https://evil.test:1.example.com",
            "https://u@a.example.com",
            "https://a.example.com:8443",
            "https://a.example.com.evil.test",
        ] {
            assert!(!matches(below, origin), "{origin}");
        }
        assert!(matches("http://localhost:*", "http://localhost:3000"));
        for origin in ["http://localhost", "http://localhost:", "http://localhost:1.evil.test", "http://localhost:3a"] {
            assert!(!matches("http://localhost:*", origin), "{origin}");
        }
    }
}
