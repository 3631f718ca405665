//! `rewrite`: the origin sees another path.
//!
//! ```toml
//! filters = [{ rewrite = { to = "/v2/{id}" } }]                          # a template
//! filters = [{ rewrite = { regex = "^/old/(.*)$", to = "/new/$1" } }]    # only paths that match as a whole
//! filters = [{ rewrite = { prefix = "/new" } }]                          # instead of the route's path_prefix
//! ```
//! `{path}` is the path as the filters before have left it; `{name}` what the route's path captured; `$1` and `${name}`
//! what the regular expression did. All of it is percent-encoded still, and the regular expression sees it so. The query
//! stays.
//!
//! What comes out must be a normal path: one that changes when it is normalised (dot segments, `//`, a bad escape), or in
//! which some origin could find a dot or an empty segment (`..%2F`, `..;`), is refused with 400, code `bad_rewrite`. So
//! what is filled in can add segments below those of the template, never climb out of them.

use regex_automata::meta::{Config, Regex};
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};
use ringway_config::Fault;
use ringway_config::snapshot::FilterConfig;
use ringway_proto::NormalPath;
use serde::Deserialize;

use super::state::Numbers;
use super::template::{Piece, Template};
use super::{Filter, Needs, RequestEdit, Verdict, refuse_rewrite};

/// Of a regular expression's text.
const REGEX_BYTES_MAX: usize = 1024;
/// Of its compiled form.
const REGEX_COMPILED_BYTES_MAX: usize = 256 * 1024;
/// Of what each core keeps to search with.
const REGEX_CACHE_BYTES_MAX: usize = 64 * 1024;
/// Groups, the whole match among them.
const GROUPS_MAX: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    to: Option<String>,
    regex: Option<String>,
    prefix: Option<String>,
}

/// `to` alone.
struct ByTemplate {
    to: Template,
    needs: Needs,
}

/// `regex` and `to`.
struct ByRegex {
    regex: Regex,
    /// Of its memory on each core.
    number: usize,
    to: Template,
    needs: Needs,
}

/// `prefix`.
struct ByPrefix {
    /// Without a last slash.
    to: String,
    needs: Needs,
}

pub(super) fn build(config: &FilterConfig, numbers: &mut Numbers) -> Result<Box<dyn Filter>, Fault> {
    let Table { to, regex, prefix } = ringway_config::filter::table(config)?;
    match (to, regex, prefix) {
        (Some(to), None, None) => {
            let to = path_template(config, &to, &[])?;
            Ok(Box::new(ByTemplate { needs: needs(config, &to), to }))
        }
        (Some(to), Some(text), None) => {
            let regex = compile(&text).map_err(|why| wrong(config, "regex", &text, &why))?;
            let names = regex.group_info().pattern_names(regex_automata::PatternID::ZERO);
            let to = path_template(config, &to, &names.collect::<Vec<_>>())?;
            Ok(Box::new(ByRegex { number: numbers.regex(), needs: needs(config, &to), regex, to }))
        }
        (None, None, Some(prefix)) => {
            if !is_normal(&prefix) {
                return Err(wrong(config, "prefix", &prefix, "it is no normal path").cure("write it like \"/new\""));
            }
            let needs = Needs { place: config.place.clone(), prefix: true, ..Needs::default() };
            Ok(Box::new(ByPrefix { to: prefix.trim_end_matches('/').to_owned(), needs }))
        }
        _ => Err(Fault::new("needs to, or regex and to, or prefix").at(config.place.clone())),
    }
}

fn wrong(config: &FilterConfig, key: &str, text: &str, why: &str) -> Fault {
    Fault::new(format!("{text:?} cannot be used: {why}")).at(format!("{}.{key}", config.place))
}

fn needs(config: &FilterConfig, to: &Template) -> Needs {
    Needs { place: config.place.clone(), params: to.params().cloned().collect(), prefix: false }
}

/// A template that makes a normal path of plain values.
fn path_template(config: &FilterConfig, to: &str, groups: &[Option<&str>]) -> Result<Template, Fault> {
    let template = Template::parse(to, groups).map_err(|why| wrong(config, "to", to, &why))?;
    let mut sample = String::new();
    for piece in &template.pieces {
        match piece {
            Piece::Text(text) => sample.push_str(text),
            Piece::Path => sample.push_str("/a"),
            Piece::Param(_) | Piece::Group(_) => sample.push('a'),
        }
    }
    let from_group = matches!(template.pieces.first(), Some(Piece::Group(_)));
    if is_normal(&sample) || (from_group && is_normal(&format!("/{sample}"))) {
        return Ok(template);
    }
    let cure = match to.contains("/{path}") {
        true => "{path} begins with a slash of its own: leave out the one before it",
        false => "begin it with \"/\", \"{path}\" or a group; no \"//\", no dot segment, nothing unencoded, no query",
    };
    Err(wrong(config, "to", to, "it makes no normal path").cure(cure))
}

fn is_normal(path: &str) -> bool {
    let mut normal = NormalPath::new();
    normal.set(path.as_bytes()).is_ok() && normal.bytes == path.as_bytes() && !path.is_empty()
}

/// It matches whole paths, and says so: what an expression without ends should replace is read differently elsewhere.
pub(super) fn compile(text: &str) -> Result<Regex, String> {
    if text.len() > REGEX_BYTES_MAX {
        return Err(format!("longer than {REGEX_BYTES_MAX} bytes"));
    }
    let inner = text.strip_prefix('^').and_then(|rest| rest.strip_suffix('$'));
    let escapes = inner.map(|inner| inner.bytes().rev().take_while(|byte| *byte == b'\\').count());
    let (Some(inner), Some(true)) = (inner, escapes.map(|count| count % 2 == 0)) else {
        return Err("it must say where it begins and ends: \"^/old/(.*)$\"".to_owned());
    };
    let config = Config::new()
        .nfa_size_limit(Some(REGEX_COMPILED_BYTES_MAX))
        .onepass_size_limit(Some(REGEX_COMPILED_BYTES_MAX))
        .hybrid_cache_capacity(REGEX_CACHE_BYTES_MAX)
        .utf8_empty(false);
    let syntax = syntax::Config::new().unicode(false).utf8(false);
    let built = Regex::builder().configure(config).syntax(syntax).build(&format!("\\A(?:{inner})\\z"));
    let regex = built.map_err(|error| match (error.size_limit(), error.syntax_error()) {
        (Some(limit), _) => format!("it is larger than {limit} bytes when compiled"),
        (None, Some(error)) => error.to_string().lines().last().unwrap_or_default().to_owned(),
        (None, None) => error.to_string(),
    })?;
    match regex.captures_len() > GROUPS_MAX {
        true => Err(format!("it has more than {} groups", GROUPS_MAX - 1)),
        false => Ok(regex),
    }
}

/// As it stands: what a request brings is percent-encoded already.
fn as_it_is(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(value);
}

impl Filter for ByTemplate {
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        let mut draft = request.rewritten.draft();
        self.to.fill(&mut draft, request, |_| &[], as_it_is);
        refuse_rewrite(request.rewritten.set_path(draft))
    }

    fn needs(&self) -> Option<&Needs> {
        Some(&self.needs)
    }
}

impl Filter for ByRegex {
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        let mut draft = request.rewritten.draft();
        let mut slots: [Option<NonMaxUsize>; 2 * GROUPS_MAX] = [None; 2 * GROUPS_MAX];
        let path = request.current_path();
        let input = Input::new(path).anchored(Anchored::Yes);
        let mut cache = request.state.regex_cache(self.number, &self.regex).borrow_mut();
        if self.regex.search_slots_with(&mut cache, &input, &mut slots).is_none() {
            request.rewritten.keep(draft);
            return Verdict::Pass;
        }
        let group = |number: usize| match (slots[2 * number], slots[2 * number + 1]) {
            (Some(start), Some(end)) => &path[start.get()..end.get()],
            _ => &[],
        };
        self.to.fill(&mut draft, request, group, as_it_is);
        refuse_rewrite(request.rewritten.set_path(draft))
    }

    fn needs(&self) -> Option<&Needs> {
        Some(&self.needs)
    }
}

impl Filter for ByPrefix {
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        let mut draft = request.rewritten.draft();
        let matched = request.matched.table.prefix_segments(request.matched.route).unwrap_or(0);
        let rest = after_segments(request.path, matched);
        draft.extend_from_slice(self.to.as_bytes());
        draft.extend_from_slice(rest);
        if draft.is_empty() {
            draft.push(b'/');
        }
        refuse_rewrite(request.rewritten.set_path(draft))
    }

    fn needs(&self) -> Option<&Needs> {
        Some(&self.needs)
    }
}

/// What of a path follows so many segments: empty, or it starts with `/`.
fn after_segments(path: &[u8], count: usize) -> &[u8] {
    memchr::memchr_iter(b'/', path).nth(count).map_or(&[], |at| &path[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_counted_by_their_slashes() {
        for (path, count, rest) in [("/a/b/c", 2, "/c"), ("/a/b", 2, ""), ("/a/b/", 2, "/"), ("/x", 0, "/x")] {
            assert_eq!(after_segments(path.as_bytes(), count), rest.as_bytes(), "{path}");
        }
    }

    fn built(text: &str) -> Result<(), String> {
        let table = toml::Value::Table(toml::from_str(text).expect(text));
        let config = FilterConfig { name: "rewrite".into(), table, place: "here".into() };
        build(&config, &mut Numbers::default()).map(|_| ()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_makes_no_path_is_refused() {
        for good in [
            "to = '/v2/{id}'",
            "to = '/v2{path}'",
            "to = '{path}/x'",
            "regex = '^/old/(.*)$'\nto = '/new/$1'",
            "regex = '^(?<all>/.*)\\.html$'\nto = '${all}'",
            "prefix = '/new'",
            "prefix = '/'",
        ] {
            assert_eq!(built(good), Ok(()), "{good}");
        }
        for bad in [
            "to = 'v2'",
            "to = ''",
            "to = '/a/../b'",
            "to = '/a?b={id}'",
            "to = '/a b'",
            "to = '//{id}'",
            "to = '/{path}'",
            "to = '/$1'\nregex = '/old'",
            "to = '/$1'\nregex = '^/old\\$'",
            "to = '/$2'\nregex = '^/(.*)$'",
            "to = '/a'\nregex = '^/($'",
            "to = '/a'\nregex = '^(a{1000}){1000}$'",
            "regex = '^/a$'",
            "prefix = '/a//b'",
            "prefix = 'a'",
            "prefix = '/a'\nto = '/b'",
            "target = '/b'",
            "",
        ] {
            assert!(built(bad).is_err(), "{bad}");
        }
    }
}
