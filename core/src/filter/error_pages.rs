//! `error_pages`: bodies of one's own for errors.
//!
//! ```toml
//! filters = [{ error_pages = { pages = [
//!     { status = [404], html_file = "/etc/ringway/404.html" },
//!     { status = ["4xx", "5xx"], html = "<h1>{status}</h1>{request_id}",
//!       json = '{ "status": {status}, "code": "{code}", "request": "{request_id}" }' },
//! ] } }]
//! ```
//! Applies to the errors that Ringway and its filters further inside answer with; with `replace_origin = true` to those of
//! the origin server and of `respond` routes, too. The first page of the list that has the status is taken. Status and
//! other fields stay.
//!
//! `{status}`, `{code}` (`origin_error` if the error is the origin server's) and `{request_id}` are filled in, escaped for
//! where they stand; other braces are text. With both `html` and `json` the client's `Accept` decides, and JSON if it
//! does not care. A page may come from a file (`html_file`, `json_file`), which is read when a configuration is loaded.
//!
//! A request that no route takes passes no filter: give such requests a route of the lowest `priority`.

use ringway_config::Fault;
use ringway_config::snapshot::FilterConfig;
use ringway_proto::named;
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, de};

use super::accept::Accept;
use super::{AnswerEdit, Filter, RequestEdit, Verdict, changed, file};
use crate::exchange::{HeaderEdit, Transform};

const PAGES_MAX: usize = 64;
const PAGE_BYTES_MAX: usize = 64 * 1024;
/// Of an origin's error that nobody will see; then its connection is given up.
const REPLACED_BYTES_MAX: u64 = 1024 * 1024;
const ERRORS: std::ops::RangeInclusive<u16> = 400..=599;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    pages: Vec<PageTable>,
    #[serde(default)]
    replace_origin: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageTable {
    status: Vec<Status>,
    html: Option<String>,
    html_file: Option<String>,
    json: Option<String>,
    json_file: Option<String>,
}

/// `404` or `"4xx"`.
#[derive(Clone, Copy)]
enum Status {
    One(u16),
    /// Its hundreds.
    Class(u16),
}

pub(super) struct ErrorPages {
    pages: Box<[Page]>,
    replace_origin: bool,
}

struct Page {
    status: Box<[Status]>,
    html: Option<Template>,
    json: Option<Template>,
}

/// A page with places to fill in.
struct Template {
    kind: Kind,
    pieces: Box<[Piece]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Html,
    Json,
}

#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    Status,
    Code,
    RequestId,
}

impl ErrorPages {
    pub(super) fn build(config: &FilterConfig) -> Result<Box<dyn Filter>, Fault> {
        let table: Table = ringway_config::filter::table(config)?;
        if table.pages.is_empty() || table.pages.len() > PAGES_MAX {
            let fault = Fault::new(format!("needs 1 to {PAGES_MAX} pages")).at(format!("{}.pages", config.place));
            return Err(fault.cure("add { status = [\"5xx\"], html = \"...\" }"));
        }
        let pages = table.pages.into_iter().enumerate().map(|(at, page)| Page::build(config, at, page));
        Ok(Box::new(ErrorPages { pages: pages.collect::<Result<_, _>>()?, replace_origin: table.replace_origin }))
    }
}

impl Page {
    fn build(config: &FilterConfig, at: usize, table: PageTable) -> Result<Page, Fault> {
        let wrong = |why: &str| Fault::new(why).at(format!("{}.pages[{at}]", config.place));
        if table.status.is_empty() {
            return Err(wrong("is for no status").cure("add status = [404, \"5xx\"]"));
        }
        let template = |kind: Kind, text: Option<String>, path: Option<String>, key: &str| {
            let key = format!("pages[{at}].{key}");
            let text = match (text, path) {
                (Some(_), Some(_)) => return Err(wrong("has both a text and a file").cure("keep one of them")),
                (text, None) => text,
                (None, Some(path)) => Some(file::read(config, &format!("{key}_file"), &path, PAGE_BYTES_MAX as u64)?),
            };
            text.map(|text| Template::parse(kind, &text))
                .transpose()
                .map_err(|why| Fault::new(why).at(format!("{}.{key}", config.place)))
        };
        let html = template(Kind::Html, table.html, table.html_file, "html")?;
        let json = template(Kind::Json, table.json, table.json_file, "json")?;
        if html.is_none() && json.is_none() {
            return Err(wrong("has no page").cure("add html = \"...\" or json = \"...\""));
        }
        Ok(Page { status: table.status.into(), html, json })
    }
}

impl Filter for ErrorPages {
    fn on_request<'p>(&'p self, _request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        Verdict::Pass
    }

    fn sees_answers(&self) -> bool {
        true
    }

    fn on_answer<'p>(&'p self, answer: &mut AnswerEdit<'p, '_>) {
        let status = answer.of.status;
        if !ERRORS.contains(&status) || (answer.of.code.is_none() && !self.replace_origin) {
            return;
        }
        let Some(page) = self.pages.iter().find(|page| page.status.iter().any(|of| of.is(status))) else { return };
        let template = match (&page.html, &page.json) {
            (Some(html), Some(json)) => {
                answer.push(HeaderEdit::Add("vary", "Accept".into()));
                if prefers_html(answer) { html } else { json }
            }
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return,
        };
        let text = template.fill(status, answer.of.code.unwrap_or("origin_error"), answer.of.request_id);
        changed::forget_validators(answer);
        for name in ["content-encoding", "content-language", "etag", "last-modified"] {
            answer.push(HeaderEdit::Remove(name));
        }
        answer.push(HeaderEdit::Set("content-type", template.kind.content_type().into()));
        let bytes = text.len() as u64;
        answer.change_body(Box::new(Replaced { by: text.into_bytes(), seen: 0 }), Some(bytes));
    }
}

fn prefers_html(answer: &AnswerEdit<'_, '_>) -> bool {
    let lines = named(&answer.of.request.fields, answer.of.request_bytes, "accept");
    let accept = Accept::new(lines.map(|field| field.value.of(answer.of.request_bytes)));
    let json = accept.media("application/json").max(accept.media("application/problem+json"));
    accept.media("text/html") > json
}

impl Kind {
    fn content_type(self) -> &'static str {
        match self {
            Kind::Html => "text/html; charset=utf-8",
            Kind::Json => "application/json",
        }
    }
}

impl Template {
    fn parse(kind: Kind, text: &str) -> Result<Template, String> {
        if text.len() > PAGE_BYTES_MAX {
            return Err(format!("is larger than {PAGE_BYTES_MAX} bytes"));
        }
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find('{') {
            plain.push_str(&rest[..at]);
            rest = &rest[at..];
            let places = [("{status}", Piece::Status), ("{code}", Piece::Code), ("{request_id}", Piece::RequestId)];
            match places.into_iter().find(|(name, _)| rest.starts_with(name)) {
                Some((name, piece)) => {
                    pieces.extend([Piece::Text(std::mem::take(&mut plain)), piece]);
                    rest = &rest[name.len()..];
                }
                None => {
                    plain.push('{');
                    rest = &rest[1..];
                }
            }
        }
        pieces.push(Piece::Text(plain + rest));
        let template = Template { kind, pieces: pieces.into() };
        if kind == Kind::Json
            && let Err(error) = serde_json::from_str::<de::IgnoredAny>(&template.fill(404, "code", "id"))
        {
            return Err(format!("is no JSON when it is filled in: {error}"));
        }
        Ok(template)
    }

    fn fill(&self, status: u16, code: &str, request_id: &str) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Status => text.push_str(&status.to_string()),
                Piece::Code => self.escape(code, &mut text),
                Piece::RequestId => self.escape(request_id, &mut text),
            }
        }
        text
    }

    fn escape(&self, value: &str, text: &mut String) {
        for letter in value.chars() {
            match (self.kind, letter) {
                (Kind::Html, '&' | '<' | '>' | '"' | '\'') => text.push_str(&format!("&#{};", letter as u32)),
                (Kind::Json, '"' | '\\' | '\0'..='\x1f') => text.push_str(&format!("\\u{:04x}", letter as u32)),
                _ => text.push(letter),
            }
        }
    }
}

/// A body that takes the place of another.
struct Replaced {
    by: Vec<u8>,
    /// Bytes of the other one.
    seen: u64,
}

impl Transform for Replaced {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<usize, &'static str> {
        self.seen += piece.len() as u64;
        if self.seen > REPLACED_BYTES_MAX {
            return Err("replaced_body_too_long");
        }
        self.flush(out)?;
        Ok(piece.len())
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        out.append(&mut self.by);
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        self.flush(out)
    }
}

impl Status {
    fn is(self, status: u16) -> bool {
        match self {
            Status::One(one) => one == status,
            Status::Class(hundreds) => hundreds == status / 100,
        }
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Status, D::Error> {
        struct Shape;
        impl Visitor<'_> for Shape {
            type Value = Status;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the status of an error: 400 to 599, \"4xx\" or \"5xx\"")
            }

            fn visit_i64<E: Error>(self, status: i64) -> Result<Status, E> {
                let known = u16::try_from(status).ok().filter(|status| ERRORS.contains(status));
                known.map(Status::One).ok_or_else(|| E::invalid_value(de::Unexpected::Signed(status), &self))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Status, E> {
                match text {
                    "4xx" => Ok(Status::Class(4)),
                    "5xx" => Ok(Status::Class(5)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(text: &str) -> Result<(), String> {
        let table = toml::Value::Table(toml::from_str(text).expect(text));
        let config = FilterConfig { name: "error_pages".into(), table, place: "here".into() };
        ErrorPages::build(&config).map(|_| ()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn values_are_escaped_for_where_they_stand() {
        let fill = |kind, text: &str| Template::parse(kind, text).unwrap().fill(502, "a\"<\\", "i&'\n");
        assert_eq!(
            fill(Kind::Html, "<b>{status}</b> {code} {x} {request_id}"),
            "<b>502</b> a&#34;&#60;\\ {x} i&#38;&#39;\n"
        );
        let json = fill(Kind::Json, r#"{"s":{status},"c":"{code}","i":["{request_id}",{}]}"#);
        assert_eq!(json, r#"{"s":502,"c":"a\u0022<\u005c","i":["i&'\u000a",{}]}"#);
        assert_eq!(fill(Kind::Html, "{statu{status}{"), "{statu502{");
    }

    #[test]
    fn what_is_no_page_is_refused() {
        assert_eq!(built("pages = [{ status = [404, '5xx'], html = '' }]"), Ok(()));
        for (bad, part) in [
            ("pages = []", "here.pages: needs"),
            ("pages = [{ status = [], html = '' }]", "here.pages[0]: is for no status"),
            ("pages = [{ status = [404] }]", "here.pages[0]: has no page"),
            ("pages = [{ status = [200], html = '' }]", "here.pages[0].status[0]: "),
            ("pages = [{ status = ['3xx'], html = '' }]", "400 to 599"),
            ("pages = [{ status = [404], html = '', html_file = '/a' }]", "both a text and a file"),
            ("pages = [{ status = [404], html_file = '/nowhere' }]", "here.pages[0].html_file"),
            ("pages = [{ status = [404], json = '{\"a\": {code}}' }]", "here.pages[0].json: is no JSON"),
            ("pages = [{ status = [404], json = '{\"a\": }' }]", "is no JSON"),
        ] {
            let said = built(bad).expect_err(bad);
            assert!(said.contains(part), "{bad}: {said}");
        }
    }

    #[test]
    fn a_replaced_body_that_does_not_end_is_given_up() {
        let mut replaced = Replaced { by: b"page".to_vec(), seen: 0 };
        let mut out = Vec::new();
        let pushed = (0..2000).map(|_| replaced.push(&[0; 1024], &mut out)).find_map(Result::err);
        assert_eq!((pushed, out), (Some("replaced_body_too_long"), b"page".to_vec()));
    }
}
