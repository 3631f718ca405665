//! `ext_authz`: another server decides who may pass, request by request, as Envoy's HTTP authorisation service does.
//!
//! ```toml
//! [[policies.authz.filters]]
//! ext_authz = { url = "https://authz.internal/check", headers = ["authorization"], allow_headers = ["x-user"] }
//! ```
//! The server is asked with the request's method and with its path and query behind those of `url`, as the filters before
//! have left them, with the fields that `headers` names, and with `X-Forwarded-Method`, `-Uri`, `-Host` and `-For`. With
//! `body_bytes_max` it gets the body, too; a longer one is refused (413). Nothing is asked twice, and nothing remembered.
//!
//! | it answers | what becomes of the request |
//! |---|---|
//! | 2xx | goes on, with the fields of the answer that `allow_headers` names; the client gets those of `answer_headers` |
//! | 4xx | is answered with this status, the answer's body and the fields that `deny_headers` names |
//! | 301, 302, 303, 307, 308 | with `pass_redirects` is answered so; else 503 |
//! | anything else, too late, too much, or not at all | is answered with 503, or goes on with `fail_open = true` |
//!
//! No client can send a field of `allow_headers`, on any route; of `authorization` and `cookie`, which other routes may
//! need, the origins of this route get what the server says, or nothing. At most `concurrent_max` questions are open at
//! one server, over all cores, each for `deadline` at most.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName as FieldName, HeaderValue};
use reqwest::{Method, Url};
use ringway_config::Fault;
use ringway_config::http::HeaderName;
use ringway_config::snapshot::{ControlUrl, FilterConfig};
use ringway_config::units::{DurationText, SizeText};
use ringway_proto::credentials::decoded;
use ringway_proto::{Body, named};
use serde::Deserialize;

use super::server::{Said, Server};
use super::{Building, Filter, Outlook, RequestEdit, Then, Trial, Verdict, Waiting, WantsBody};
use crate::exchange::{HeaderEdit, Refusal, RefusalBody};
use crate::fetch::{Answer, Question};
use crate::observe::Flag;

/// A body that a filter reads whole lies in memory, and is copied for the server.
const BODY_BYTES_MAX: u64 = 16 << 20;
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Fields that one list names.
const HEADERS_MAX: usize = 64;
/// What the server gets of a request, if nothing else is said: the fields by which clients say who they are.
const HEADERS: [&str; 2] = ["authorization", "cookie"];
/// What a client gets of a redirect in any case.
const LOCATION: [&str; 1] = ["location"];
/// What a client gets of a refusal.
const DENY_HEADERS: [&str; 1] = ["www-authenticate"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    url: ControlUrl,
    #[serde(default)]
    insecure: bool,
    ca_file: Option<String>,
    #[serde(default = "deadline")]
    deadline: DurationText,
    #[serde(default = "concurrent_max")]
    concurrent_max: u32,
    #[serde(default = "answer_bytes_max")]
    answer_bytes_max: SizeText,
    headers: Option<Vec<HeaderName>>,
    body_bytes_max: Option<SizeText>,
    #[serde(default)]
    allow_headers: Vec<HeaderName>,
    #[serde(default)]
    answer_headers: Vec<HeaderName>,
    deny_headers: Option<Vec<HeaderName>>,
    #[serde(default)]
    pass_redirects: bool,
    #[serde(default)]
    fail_open: bool,
}

fn deadline() -> DurationText {
    DurationText(Duration::from_secs(1))
}

fn concurrent_max() -> u32 {
    256
}

fn answer_bytes_max() -> SizeText {
    SizeText(64 * 1024)
}

struct ExtAuthz {
    server: Server,
    /// Without a slash at its end.
    base: String,
    /// Bytes of `base` before its path.
    host_end: usize,
    headers: Vec<String>,
    body_bytes_max: Option<usize>,
    allow_headers: Vec<String>,
    answer_headers: Vec<String>,
    deny_headers: Vec<String>,
    pass_redirects: bool,
    fail_open: bool,
}

pub(super) fn build(config: &FilterConfig, building: &mut Building<'_>) -> Result<Box<dyn Filter>, Fault> {
    let table: Table = ringway_config::filter::table(config)?;
    let wrong = |key: &str, why: String| Fault::new(why).at(format!("{}.{key}", config.place));
    let url = Url::parse(&table.url.text).map_err(|error| wrong("url", error.to_string()))?;
    if url.query().is_some() {
        return Err(wrong("url", "has a query: that of the request stands there".to_owned()).cure("leave out \"?...\""));
    }
    for (key, size, max) in [
        ("body_bytes_max", table.body_bytes_max.map_or(0, |size| size.0), BODY_BYTES_MAX),
        ("answer_bytes_max", table.answer_bytes_max.0, ANSWER_BYTES_MAX),
    ] {
        if size > max {
            return Err(wrong(key, format!("the most is {max} bytes")));
        }
    }
    for (key, names) in [
        ("headers", table.headers.as_ref()),
        ("allow_headers", Some(&table.allow_headers)),
        ("answer_headers", Some(&table.answer_headers)),
        ("deny_headers", table.deny_headers.as_ref()),
    ] {
        judge_names(names.map_or(&[], Vec::as_slice)).map_err(|why| wrong(key, why))?;
    }
    let server = Server::build(
        Said {
            key: "url",
            url: &table.url,
            insecure: table.insecure,
            ca_file: table.ca_file.as_deref(),
            deadline: table.deadline.0,
            concurrent_max: table.concurrent_max,
            answer_bytes_max: table.answer_bytes_max.0 as usize,
        },
        config,
        building,
    )?;
    if table.fail_open {
        let fault = wrong("fail_open", "everybody passes while the server does not answer".to_owned());
        building.warned.push(fault.cure("leave it out to refuse them with 503"));
    }
    let texts = |names: Vec<HeaderName>| names.into_iter().map(HeaderName::into_string).collect::<Vec<String>>();
    let allow_headers = texts(table.allow_headers);
    // What clients say for themselves on other routes is overwritten here, or taken out.
    let own = |name: &&String| !HEADERS.contains(&name.as_str());
    building.withheld.extend(allow_headers.iter().filter(own).cloned());
    let base = url.as_str().trim_end_matches('/').to_owned();
    Ok(Box::new(ExtAuthz {
        server,
        host_end: base.len() - url.path().trim_end_matches('/').len(),
        base,
        headers: table.headers.map_or_else(|| HEADERS.map(String::from).to_vec(), texts),
        body_bytes_max: table.body_bytes_max.map(|size| size.0 as usize),
        allow_headers,
        answer_headers: texts(table.answer_headers),
        deny_headers: table.deny_headers.map_or_else(|| DENY_HEADERS.map(String::from).to_vec(), texts),
        pass_redirects: table.pass_redirects,
        fail_open: table.fail_open,
    }))
}

fn judge_names(names: &[HeaderName]) -> Result<(), String> {
    if names.len() > HEADERS_MAX {
        return Err(format!("{} headers; the most is {HEADERS_MAX}", names.len()));
    }
    let is_framing = |name: &&HeaderName| name.is_ours() || ["host", "content-type"].contains(&name.as_str());
    match names.iter().find(is_framing) {
        Some(name) => {
            Err(format!("{:?} frames the message, says of what kind it is, or belongs to one hop", name.as_str()))
        }
        None => Ok(()),
    }
}

impl Filter for ExtAuthz {
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        let has_body = !matches!(request.request.body, Body::None | Body::Length(0));
        match self.body_bytes_max.filter(|_| has_body) {
            Some(bytes_max) => {
                let then: Then<'p> = Box::new(move |request| self.ask(request));
                Verdict::Body(Box::new(WantsBody { bytes_max, then }))
            }
            None => self.ask(request),
        }
    }

    fn authenticates(&self) -> bool {
        !self.fail_open
    }

    fn try_out<'p>(&'p self, trial: &mut Trial<'p>) -> Option<Outlook> {
        trial.say("server", "decides about each request; it is not asked here");
        Some(Outlook::Unknown("its server decides about each request".to_owned()))
    }
}

impl ExtAuthz {
    fn ask<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        let question = match self.question(request) {
            Ok(question) => question,
            Err(why) => return Verdict::Reply(Box::new(Refusal::new(Flag::BadRequest, why))),
        };
        let answer = match self.server.ask(request.calls, request.net, question) {
            Ok(answer) => answer,
            Err(why) => return self.nobody(why.to_owned()),
        };
        let until = async move {
            let answer = answer.await;
            let then: Then<'p> = Box::new(move |request| match answer {
                Ok(answer) => self.conclude(request, answer),
                Err(why) => self.nobody(why),
            });
            then
        };
        Verdict::Wait(Box::new(Waiting { until: Box::pin(until), shown: None }))
    }

    /// # Errors
    /// The request cannot be put as a question that says the same.
    fn question(&self, request: &RequestEdit<'_, '_>) -> Result<Question, &'static str> {
        const NO_TEXT: &str = "the target holds what the server of ext_authz could not read";
        let (path, query) = (request.current_path(), request.current_query());
        let mut target = str::from_utf8(path).map_err(|_| NO_TEXT)?.to_owned();
        if let Some(query) = query {
            target.push('?');
            target.push_str(str::from_utf8(query).map_err(|_| NO_TEXT)?);
        }
        let url = Url::parse(&format!("{}{target}", self.base)).map_err(|_| NO_TEXT)?;
        // A URL's parser takes dots and backslashes for more than they are here: the server would judge another path.
        let asked_path = format!("{}{}", &self.base[self.host_end..], str::from_utf8(path).unwrap_or_default());
        let is_same = decoded(url.path().as_bytes()) == decoded(asked_path.as_bytes())
            && url.query().map(|query| decoded(query.as_bytes())) == query.map(decoded)
            && url.fragment().is_none();
        if !is_same {
            return Err(NO_TEXT);
        }
        let method = request.request.method_span.of(request.bytes);
        Ok(Question {
            method: Method::from_bytes(method).map_err(|_| NO_TEXT)?,
            url,
            headers: self.fields(request, method, &target).ok_or(NO_TEXT)?,
            body: request.body.filter(|_| self.body_bytes_max.is_some()).unwrap_or_default().to_vec(),
        })
    }

    fn fields(&self, request: &RequestEdit<'_, '_>, method: &[u8], target: &str) -> Option<HeaderMap> {
        let mut fields = HeaderMap::new();
        for name in &self.headers {
            let field = FieldName::from_bytes(name.as_bytes()).ok()?;
            for value in values(request, name) {
                fields.append(field.clone(), HeaderValue::from_bytes(value).ok()?);
            }
        }
        let host = request.headers.replacement("host").map(str::as_bytes);
        let host = host.unwrap_or_else(|| request.request.authority.of(request.bytes));
        let client = request.fields.client_ip().to_string();
        // Last: what a client says of itself is not in their place.
        for (name, value) in [
            ("x-forwarded-method", method),
            ("x-forwarded-uri", target.as_bytes()),
            ("x-forwarded-host", host),
            ("x-forwarded-for", client.as_bytes()),
        ] {
            fields.insert(FieldName::from_static(name), HeaderValue::from_bytes(value).ok()?);
        }
        Some(fields)
    }

    fn conclude<'p>(&'p self, request: &mut RequestEdit<'p, '_>, answer: Answer) -> Verdict<'p> {
        let done = match answer.status {
            200..=299 => self.allow(request, &answer),
            400..=499 => self.deny(request, answer, &[]),
            301 | 302 | 303 | 307 | 308 if self.pass_redirects && answer.headers.contains_key(LOCATION[0]) => {
                self.deny(request, answer, &LOCATION)
            }
            status => Err(format!("it answers {status}")),
        };
        done.unwrap_or_else(|why| self.nobody(why))
    }

    fn allow<'p>(&'p self, request: &mut RequestEdit<'p, '_>, answer: &Answer) -> Result<Verdict<'p>, String> {
        let for_origin = fields_of(answer, self.allow_headers.iter().map(String::as_str))?;
        let for_client = fields_of(answer, self.answer_headers.iter().map(String::as_str))?;
        let is_left = |name: &&String| HEADERS.contains(&name.as_str()) && !answer.headers.contains_key(name.as_str());
        for name in self.allow_headers.iter().filter(is_left) {
            request.headers.push(HeaderEdit::Remove(name));
        }
        let mut before = None;
        for (name, value) in for_origin {
            let is_first = before.replace(name) != Some(name);
            let edit = if is_first { HeaderEdit::Set } else { HeaderEdit::Add };
            request.headers.push(edit(name, value.into()));
        }
        for (name, value) in for_client {
            request.answer.push(HeaderEdit::Add(name, value.into()));
        }
        Ok(Verdict::Pass)
    }

    fn deny<'p>(
        &'p self,
        request: &mut RequestEdit<'p, '_>,
        answer: Answer,
        more: &[&'static str],
    ) -> Result<Verdict<'p>, String> {
        let named = self.deny_headers.iter().map(String::as_str).filter(|name| !more.contains(name));
        for (name, value) in fields_of(&answer, named.chain(more.iter().copied()))? {
            request.answer.push(HeaderEdit::Add(name, value.into()));
        }
        let flag = if answer.status == 401 { Flag::Unauthenticated } else { Flag::Forbidden };
        let reason = format!("the server of ext_authz answers {}", answer.status);
        let kind = answer.headers.get("content-type").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = Some(Box::new(RefusalBody { kind, bytes: answer.body }));
        Ok(Verdict::Reply(Box::new(Refusal { status: answer.status, body, ..Refusal::new(flag, reason) })))
    }

    /// The server has not said.
    fn nobody<'p>(&self, why: String) -> Verdict<'p> {
        if self.fail_open {
            return Verdict::Pass;
        }
        let refusal = Refusal::new(Flag::AuthUnavailable, format!("the server of ext_authz: {why}"));
        Verdict::Reply(Box::new(Refusal { retry_after_s: Some(1), ..refusal }))
    }
}

/// Values of a field that the origin would get, as the filters before have left it.
fn values<'r>(request: &'r RequestEdit<'_, '_>, name: &'r str) -> Vec<&'r [u8]> {
    if let Some(value) = request.headers.replacement(name) {
        return vec![value.as_bytes()];
    }
    // A field that is withheld is not there.
    if request.headers.drops(name.as_bytes()) || !request.fields.any(name, &mut |_| true) {
        return Vec::new();
    }
    let fields = named(&request.request.fields, request.bytes, name);
    fields.filter(|field| !field.twin && !field.nominated).map(|field| field.value.of(request.bytes)).collect()
}

/// Fields of an answer by these names, those of one name together.
///
/// # Errors
/// One holds what cannot stand in a field of ours.
fn fields_of<'p>(answer: &Answer, names: impl Iterator<Item = &'p str>) -> Result<Vec<(&'p str, String)>, String> {
    let of = |name: &'p str| answer.headers.get_all(name).iter().map(move |value| (name, value));
    let text = |(name, value): (&'p str, &HeaderValue)| match value.to_str() {
        Ok(text) => Ok((name, text.to_owned())),
        Err(_) => Err(format!("its {name} holds what cannot stand in a field")),
    };
    names.flat_map(of).map(text).collect()
}
