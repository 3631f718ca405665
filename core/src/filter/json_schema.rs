//! `json_schema`: lets only requests pass whose JSON is as a schema says (drafts 4 to 2020-12).
//!
//! ```toml
//! filters = [{ json_schema = { schema_file = "/etc/ringway/order.json" } }]
//! filters = [{ json_schema = { bytes_max = "64KiB", depth_max = 8, schema = '''
//!     { "type": "object", "required": ["id"], "properties": { "id": { "type": "integer" } } }
//! ''' } }]
//! ```
//! A body that does not fit gets `status` (unset 422); the problem's `invalid` names where in it and the keyword that
//! fails, never a value. What is no JSON, deeper than `depth_max` (unset 32) or has two members of one name gets 400, what
//! is longer than `bytes_max` (unset 256 KiB) 413. `POST`, `PUT` and `PATCH` must have a body unless `required = false`.
//! Bodies of other `types` than JSON's, and encoded ones, get 415: put `decompress` before it.
//!
//! A schema refers to nothing outside of itself: other schemas belong into its `$defs`. Its regular expressions run in
//! linear time, so that they know no look-around and no references back. Alternatives that all refer back to the schema
//! (`oneOf`, `anyOf`) would be tried again at each level of a body, and double the work with each: such a schema is taken
//! with a small `depth_max` alone. `formats = true` holds values to `format`, too.

use jsonschema::{PatternOptions, ValidationError, Validator};
use ringway_config::Fault;
use ringway_config::snapshot::FilterConfig;
use ringway_config::units::SizeText;
use ringway_proto::{Body, Method, named};
use serde::Deserialize;
use serde_json::Value;

use super::json::{self, DEPTH_MAX_MAX, NotTaken};
use super::media::MediaPattern;
use super::schema_cost::{LOOKS_MAX, too_dear_from};
use super::unique::UniqueItems;
use super::{Filter, RequestEdit, Then, Verdict, WantsBody, file};
use crate::exchange::Refusal;
use crate::observe::Flag;

const SCHEMA_BYTES_MAX: u64 = 1024 * 1024;
/// Of each regular expression of a schema, compiled, and of what is kept to search with it.
const REGEX_BYTES_MAX: usize = 1024 * 1024;
const BYTES_MAX: u64 = 256 * 1024;
/// Parsing and validating take some 10 ns a byte, in which the core does nothing else.
const BYTES_MAX_MAX: u64 = 4 * 1024 * 1024;
const DEPTH_MAX: usize = 32;
const TYPES: [&str; 2] = ["application/json", "application/*+json"];
const TYPES_MAX: usize = 64;
/// Of the pointer that is said; the client knows what it has sent.
const POINTER_BYTES_MAX: usize = 512;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    schema: Option<String>,
    schema_file: Option<String>,
    bytes_max: Option<SizeText>,
    depth_max: Option<usize>,
    types: Option<Vec<String>>,
    status: Option<u16>,
    #[serde(default = "yes")]
    required: bool,
    #[serde(default)]
    formats: bool,
}

fn yes() -> bool {
    true
}

pub(super) struct JsonSchema {
    validator: Validator,
    bytes_max: usize,
    depth_max: usize,
    types: Box<[MediaPattern]>,
    status: u16,
    required: bool,
}

impl JsonSchema {
    pub(super) fn build(config: &FilterConfig) -> Result<Box<dyn Filter>, Fault> {
        let table: Table = ringway_config::filter::table(config)?;
        let wrong = |key: &str, why: String| Fault::new(why).at(format!("{}.{key}", config.place));
        let (key, text) = match (table.schema, table.schema_file) {
            (Some(text), None) => ("schema", text),
            (None, Some(path)) => ("schema_file", file::read(config, "schema_file", &path, SCHEMA_BYTES_MAX)?),
            _ => {
                let fault = Fault::new("needs one schema").at(config.place.clone());
                return Err(fault.cure("set schema = '''{ ... }''' or schema_file = \"/a/path.json\""));
            }
        };
        let schema: Value = serde_json::from_str(&text).map_err(|why| wrong(key, format!("is no JSON: {why}")))?;
        let patterns = PatternOptions::regex().size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX);
        let options = jsonschema::options().offline().with_pattern_options(patterns);
        let options = options.with_keyword("uniqueItems", |_, said, _| {
            Ok(Box::new(UniqueItems(said.as_bool() == Some(true)))) // what is neither is no schema
        });
        let options = options.should_validate_formats(table.formats).should_ignore_unknown_formats(false);
        let validator = options.build(&schema).map_err(|error| refused(wrong(key, String::new()), &error))?;
        let bytes_max = table.bytes_max.map_or(BYTES_MAX, |size| size.0);
        if !(1..=BYTES_MAX_MAX).contains(&bytes_max) {
            let fault = wrong("bytes_max", format!("{bytes_max} bytes would hold a core for too long"));
            return Err(fault.cure(format!("use 1 to {BYTES_MAX_MAX}")));
        }
        let depth_max = table.depth_max.unwrap_or(DEPTH_MAX);
        if !(1..=DEPTH_MAX_MAX).contains(&depth_max) {
            let fault = wrong("depth_max", format!("{depth_max} is no depth that can be parsed"));
            return Err(fault.cure(format!("use 1 to {DEPTH_MAX_MAX}")));
        }
        if let Some(level) = too_dear_from(&schema, depth_max) {
            let why = format!("may look at one value more than {LOOKS_MAX} times, at level {level} of a body");
            return Err(wrong(key, why).cure(match level {
                0 | 1 => "make it smaller: a short body could hold a core".to_owned(),
                _ => format!("set depth_max to {} or less, or tell alternatives apart by if and then", level - 1),
            }));
        }
        let status = table.status.unwrap_or(422);
        if !(400..=499).contains(&status) {
            return Err(wrong("status", format!("{status} does not blame the client")).cure("use 422 or 400"));
        }
        let types = table.types.unwrap_or_else(|| TYPES.map(str::to_owned).into());
        if types.is_empty() || types.len() > TYPES_MAX {
            let fault = wrong("types", format!("{} is no number of types", types.len()));
            return Err(fault.cure(format!("name 1 to {TYPES_MAX}, or leave it out for JSON")));
        }
        let types = types.iter().enumerate().map(|(at, text)| {
            let fault = || wrong(&format!("types[{at}]"), format!("{text:?} is no media type"));
            MediaPattern::parse(text)
                .ok_or_else(|| fault().cure("write \"application/json\" or \"application/*+json\""))
        });
        let types = types.collect::<Result<_, _>>()?;
        let bytes_max = bytes_max as usize;
        Ok(Box::new(JsonSchema { validator, bytes_max, depth_max, types, status, required: table.required }))
    }
}

/// Why a schema cannot be used.
fn refused(mut fault: Fault, error: &ValidationError<'_>) -> Fault {
    let place = error.instance_path().as_str();
    let message = error.to_string();
    let short: String = message.chars().take(200).collect();
    fault.message =
        format!("cannot be used, at {:?} of the schema: {short}", if place.is_empty() { "/" } else { place });
    if message.contains("regex") {
        return fault.cure("regular expressions know no look-around and no references back here");
    }
    if message.contains("retriev") || message.contains("resolv") || message.contains("Unresolvable") {
        return fault.cure("nothing is fetched: put what it refers to into its \"$defs\"");
    }
    fault
}

impl Filter for JsonSchema {
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        let wants = matches!(request.request.method, Method::Post | Method::Put | Method::Patch);
        if matches!(request.request.body, Body::None | Body::Length(0)) {
            return match wants && self.required {
                true => refuse(400, "body_missing", "the request has no body"),
                false => Verdict::Pass,
            };
        }
        let mut types = named(&request.request.fields, request.bytes, "content-type").peekable();
        let is_said = types.peek().is_some();
        let is_json = types.all(|field| self.types.iter().any(|of| of.matches(field.value.of(request.bytes))));
        let mut codings = named(&request.request.fields, request.bytes, "content-encoding");
        let is_plain = codings.all(|field| field.value.of(request.bytes).eq_ignore_ascii_case(b"identity"))
            || request.headers.drops(b"content-encoding");
        if !is_said || !is_json {
            return refuse(415, "unsupported_media_type", "the request's body does not say that it is JSON");
        }
        if !is_plain {
            return refuse(415, "unsupported_coding", "the request's body is in a content coding");
        }
        let then: Then<'p> = Box::new(|request| self.judge(request.body.unwrap_or_default()));
        Verdict::Body(Box::new(WantsBody { bytes_max: self.bytes_max, then }))
    }
}

impl JsonSchema {
    fn judge<'p>(&self, body: &[u8]) -> Verdict<'p> {
        let value = match json::parse(body, self.depth_max) {
            Ok(value) => value,
            Err(NotTaken::Malformed) => return refuse(400, "json_malformed", "the request's body is no JSON"),
            Err(NotTaken::TooDeep) => return refuse(400, "json_too_deep", "the request's JSON is too deep"),
            Err(NotTaken::Duplicate) => {
                return refuse(400, "json_duplicate_name", "the request's JSON has two members of one name");
            }
        };
        let Err(error) = self.validator.validate(&value) else { return Verdict::Pass };
        let pointer = error.instance_path().as_str();
        let keyword = error.kind().keyword();
        let invalid = match pointer.len() > POINTER_BYTES_MAX {
            true => serde_json::json!({ "keyword": keyword }),
            false => serde_json::json!({ "pointer": pointer, "keyword": keyword }),
        };
        let reason = format!("the request's JSON breaks {keyword:?} of the schema");
        let refusal = Refusal::new(Flag::BadRequest, reason);
        let member = Some(Box::new(("invalid", invalid.to_string())));
        Verdict::Reply(Box::new(Refusal { status: self.status, code: "json_schema", member, ..refusal }))
    }
}

fn refuse<'p>(status: u16, code: &'static str, reason: &'static str) -> Verdict<'p> {
    Verdict::Reply(Box::new(Refusal { status, code, ..Refusal::new(Flag::BadRequest, reason) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(text: &str) -> Result<(), String> {
        let table = toml::Value::Table(toml::from_str(text).expect(text));
        let config = FilterConfig { name: "json_schema".into(), table, place: "here".into() };
        JsonSchema::build(&config).map(|_| ()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_schema_that_cannot_be_used_is_refused() {
        assert_eq!(built("schema = '{\"pattern\": \"^[a-z]+$\"}'\nstatus = 400\ndepth_max = 127"), Ok(()));
        for (bad, part) in [
            ("", "here: needs one schema"),
            ("schema = '{'", "here.schema: is no JSON"),
            ("schema_file = '/nowhere'", "here.schema_file"),
            ("schema = '{\"type\": \"objekt\"}'", "at \"/type\" of the schema"),
            ("schema = '{\"pattern\": \"(?=a)b\"}'", "no look-around"),
            (r#"schema = '{"pattern": "(a)\\1"}'"#, "no references back"),
            ("schema = '{\"uniqueItems\": 1}'", "at \"/uniqueItems\" of the schema"),
            ("schema = '{\"$ref\": \"https://a.test/b.json\"}'", "nothing is fetched"),
            ("schema = '{\"$ref\": \"file:///etc/passwd\"}'", "nothing is fetched"),
            ("schema = '{\"$ref\": \"#/$defs/none\"}'", "here.schema: cannot be used"),
            ("schema = '{\"$schema\": \"https://a.test/draft\"}'", "here.schema: cannot be used"),
            ("schema = '{}'\nbytes_max = '5MiB'", "here.bytes_max"),
            ("schema = '{}'\ndepth_max = 128", "use 1 to 127"),
            ("schema = '{}'\nstatus = 500", "here.status"),
            ("schema = '{}'\ntypes = ['json']", "here.types[0]"),
            ("schema = '{}'\nremote = true", "remote"),
        ] {
            let said = built(bad).expect_err(bad);
            assert!(said.contains(part), "{bad}: {said}");
        }
    }
}
