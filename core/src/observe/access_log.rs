//! One line per finished request, rendered on its shard into a buffer that is used again and pushed to the shard's ring.
//! Allocates nothing per line, writes nothing to disk (`log_writer`), and is not called at all when the log is off.
//!
//! Two formats: JSON with Elastic Common Schema names, and nginx's `combined`. Whatever a client or an origin wrote is
//! escaped and capped (`log_text`).

use crate::observe::flags::{Flag, Source};
use crate::observe::log_ring::{LineSender, Pushed};
use crate::observe::log_text::{CUT_MARK, ESCAPED_GROWTH, Times, json_text, nginx_text, number};
use crate::observe::log_writer::LogWaker;
use crate::observe::tries::Try;
use std::fmt;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

/// Bytes of each text that a line shows; the rest is cut.
const METHOD_BYTES_MAX: usize = 32;
const PATH_BYTES_MAX: usize = 2048;
const QUERY_BYTES_MAX: usize = 2048;
const HOST_BYTES_MAX: usize = 255; // RFC 1035 section 2.3.4
const USER_AGENT_BYTES_MAX: usize = 512;
const REFERRER_BYTES_MAX: usize = 1024;
const REQUEST_ID_BYTES_MAX: usize = 128;
const USER_BYTES_MAX: usize = 128;
const NAME_BYTES_MAX: usize = 128; // routes, APIs, versions, clusters, endpoints
const REASON_BYTES_MAX: usize = 512;
/// Tries that a line shows: what `retry.attempts_max` allows, and a hedge.
const TRIES_MAX: usize = 11;
const HEADER_VALUE_BYTES_MAX: usize = 256;
const HEADER_NAME_BYTES_MAX: usize = 64;

/// Request header fields that one line can show.
pub const LOGGED_HEADERS_MAX: usize = 16;

/// What a line can grow to when every byte of every text has to be escaped.
pub const LINE_BYTES_MAX: usize = 96 * 1024;

const TEXT_BYTES_MAX: usize = METHOD_BYTES_MAX
    + PATH_BYTES_MAX
    + QUERY_BYTES_MAX
    + HOST_BYTES_MAX
    + USER_AGENT_BYTES_MAX
    + REFERRER_BYTES_MAX
    + REQUEST_ID_BYTES_MAX
    + USER_BYTES_MAX
    + (5 + TRIES_MAX) * NAME_BYTES_MAX
    + REASON_BYTES_MAX
    + LOGGED_HEADERS_MAX * (HEADER_VALUE_BYTES_MAX + HEADER_NAME_BYTES_MAX);
/// Keys, numbers, times, addresses and the marks of cut texts.
const FRAME_BYTES_MAX: usize = 2048 + LOGGED_HEADERS_MAX * (32 + CUT_MARK.len());
const _: () = assert!(TEXT_BYTES_MAX * ESCAPED_GROWTH + FRAME_BYTES_MAX <= LINE_BYTES_MAX);

/// Fields whose value is a secret: shown as `[redacted]` unless the operator asks for the plain value by name.
pub const REDACTED: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "api-key",
    "x-auth-token",
    "x-access-token",
    "x-csrf-token",
    "x-xsrf-token",
    "x-amz-security-token",
    "x-vault-token",
    "x-forwarded-client-cert",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// JSON with Elastic Common Schema names.
    Ecs,
    /// nginx's `combined`.
    Combined,
}

/// A request header field that lines show (in `LogFormat::Ecs`).
#[derive(Debug, Clone)]
pub struct LoggedHeader {
    name: String,
    /// `,"http.request.headers.NAME":"`
    key: Vec<u8>,
    is_redacted: bool,
}

impl LoggedHeader {
    /// Redacted if `REDACTED` has it.
    pub fn new(name: &str) -> LoggedHeader {
        let name = name.to_ascii_lowercase();
        let mut key = b",\"http.request.headers.".to_vec();
        json_text(&mut key, name.as_bytes(), HEADER_NAME_BYTES_MAX);
        key.extend_from_slice(b"\":\"");
        LoggedHeader { is_redacted: REDACTED.contains(&name.as_str()), name, key }
    }

    /// Never shown in clear, because the operator says so.
    pub fn redacted(name: &str) -> LoggedHeader {
        LoggedHeader { is_redacted: true, ..LoggedHeader::new(name) }
    }

    /// As it was sent, secret or not.
    pub fn plain(name: &str) -> LoggedHeader {
        LoggedHeader { is_redacted: false, ..LoggedHeader::new(name) }
    }
}

/// How lines look. One per plan.
#[derive(Debug, Clone)]
pub struct LogSettings {
    format: LogFormat,
    headers: Vec<LoggedHeader>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyHeaders {
    pub count: usize,
}

impl fmt::Display for TooManyHeaders {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the access log shows at most {LOGGED_HEADERS_MAX} header fields, not {}", self.count)
    }
}

impl std::error::Error for TooManyHeaders {}

impl LogSettings {
    pub fn new(format: LogFormat, headers: Vec<LoggedHeader>) -> Result<LogSettings, TooManyHeaders> {
        match headers.len() {
            0..=LOGGED_HEADERS_MAX => Ok(LogSettings { format, headers }),
            count => Err(TooManyHeaders { count }),
        }
    }
}

/// One finished request, borrowed from its exchange. Absent texts are `None`.
pub struct Line<'a> {
    /// When its first byte was reaped; wall clock.
    pub unix_ns: u64,
    pub duration_ns: u64,
    pub method: &'a [u8],
    /// As the client sent it, without the query.
    pub path: &'a [u8],
    pub query: Option<&'a [u8]>,
    /// "1.1"
    pub version: &'a str,
    pub host: Option<&'a [u8]>,
    /// 0: nothing was sent.
    pub status: u16,
    pub request_body_bytes: u64,
    pub response_body_bytes: u64,
    /// Who is connected to us.
    pub peer: SocketAddr,
    /// Who is behind the trusted proxies.
    pub client: IpAddr,
    pub user: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
    pub referrer: Option<&'a [u8]>,
    pub request_id: &'a [u8],
    pub route: Option<&'a str>,
    pub api: Option<&'a str>,
    pub api_version: Option<&'a str>,
    pub cluster: Option<&'a str>,
    pub endpoint: Option<&'a str>,
    pub answered_by: Source,
    pub flag: Flag,
    /// All that we know of why; shown nowhere else.
    pub reason: Option<&'a str>,
    /// Times it was sent to an origin.
    pub attempts: u32,
    /// Those that another one followed.
    pub tries: &'a [Try],
    pub generation: u64,
    pub overhead_ns: u64,
    pub origin_ns: u64,
    /// The first field of that (lower-case) name.
    pub header: &'a dyn Fn(&str) -> Option<&'a [u8]>,
}

/// The access log of one core.
pub struct CoreLog {
    core: usize,
    settings: Rc<LogSettings>,
    ring: LineSender,
    waker: LogWaker,
    times: Times,
    line: Vec<u8>,
}

impl CoreLog {
    pub fn new(core: usize, settings: Rc<LogSettings>, ring: LineSender, waker: LogWaker) -> CoreLog {
        CoreLog { core, settings, ring, waker, times: Times::default(), line: Vec::with_capacity(LINE_BYTES_MAX) }
    }

    /// For a plan that shows other fields.
    pub fn set_settings(&mut self, settings: Rc<LogSettings>) {
        self.settings = settings;
    }

    /// False: the ring was full and the line is gone; the caller counts it. Never blocks.
    #[must_use]
    pub fn log(&mut self, line: &Line<'_>) -> bool {
        self.line.clear();
        match self.settings.format {
            LogFormat::Ecs => ecs(&mut self.line, &mut self.times, self.core, &self.settings.headers, line),
            LogFormat::Combined => combined(&mut self.line, &mut self.times, line),
        }
        match self.ring.push(&self.line) {
            Pushed::Stored => true,
            Pushed::PassedHalf => {
                self.waker.wake();
                true
            }
            Pushed::Dropped => false,
        }
    }
}

fn ecs(out: &mut Vec<u8>, times: &mut Times, core: usize, headers: &[LoggedHeader], line: &Line<'_>) {
    out.extend_from_slice(b"{\"@timestamp\":\"");
    times.rfc3339(out, line.unix_ns);
    out.push(b'"');
    value(out, ",\"event.duration\":", line.duration_ns);
    text(out, ",\"http.request.method\":\"", Some(line.method), METHOD_BYTES_MAX);
    text(out, ",\"url.path\":\"", Some(line.path), PATH_BYTES_MAX);
    text(out, ",\"url.query\":\"", line.query, QUERY_BYTES_MAX);
    text(out, ",\"url.domain\":\"", line.host, HOST_BYTES_MAX);
    text(out, ",\"http.version\":\"", Some(line.version.as_bytes()), METHOD_BYTES_MAX);
    value(out, ",\"http.response.status_code\":", line.status.into());
    value(out, ",\"http.response.body.bytes\":", line.response_body_bytes);
    value(out, ",\"http.request.body.bytes\":", line.request_body_bytes);
    // Writing to a Vec cannot fail, here and below.
    let (ip, port) = (line.peer.ip(), line.peer.port());
    let _ = write!(out, ",\"source.ip\":\"{ip}\",\"source.port\":{port},\"client.ip\":\"{}\"", line.client);
    text(out, ",\"user.name\":\"", line.user, USER_BYTES_MAX);
    text(out, ",\"user_agent.original\":\"", line.user_agent, USER_AGENT_BYTES_MAX);
    text(out, ",\"http.request.referrer\":\"", line.referrer, REFERRER_BYTES_MAX);
    text(out, ",\"http.request.id\":\"", Some(line.request_id), REQUEST_ID_BYTES_MAX);
    text(out, ",\"ringway.route\":\"", line.route.map(str::as_bytes), NAME_BYTES_MAX);
    text(out, ",\"ringway.api\":\"", line.api.map(str::as_bytes), NAME_BYTES_MAX);
    text(out, ",\"ringway.api_version\":\"", line.api_version.map(str::as_bytes), NAME_BYTES_MAX);
    text(out, ",\"ringway.cluster\":\"", line.cluster.map(str::as_bytes), NAME_BYTES_MAX);
    text(out, ",\"ringway.endpoint\":\"", line.endpoint.map(str::as_bytes), NAME_BYTES_MAX);
    let (source, flags) = (line.answered_by.label(), line.flag.letters());
    let _ = write!(out, ",\"ringway.source\":\"{source}\",\"ringway.flags\":\"{flags}\"");
    text(out, ",\"ringway.reason\":\"", line.reason.map(str::as_bytes), REASON_BYTES_MAX);
    value(out, ",\"ringway.attempts\":", line.attempts.into());
    tries(out, line.tries);
    value(out, ",\"ringway.core\":", core as u64);
    value(out, ",\"ringway.generation\":", line.generation);
    value(out, ",\"ringway.overhead_us\":", line.overhead_ns / 1_000);
    value(out, ",\"ringway.origin_us\":", line.origin_ns / 1_000);
    for header in headers {
        let Some(sent) = (line.header)(&header.name) else { continue };
        out.extend_from_slice(&header.key);
        match header.is_redacted {
            true => out.extend_from_slice(b"[redacted]"),
            false => json_text(out, sent, HEADER_VALUE_BYTES_MAX),
        }
        out.push(b'"');
    }
    out.extend_from_slice(b"}\n");
}

fn tries(out: &mut Vec<u8>, tries: &[Try]) {
    for (at, one) in tries.iter().take(TRIES_MAX).enumerate() {
        out.extend_from_slice(if at == 0 { b",\"ringway.tries\":[\"" } else { b"\",\"" });
        json_text(out, one.endpoint.as_bytes(), NAME_BYTES_MAX);
        let _ = write!(out, " {}", one.came_to);
    }
    if !tries.is_empty() {
        out.extend_from_slice(b"\"]");
    }
}

/// `key` ends with the opening quote.
fn text(out: &mut Vec<u8>, key: &str, text: Option<&[u8]>, bytes_max: usize) {
    let Some(text) = text else { return };
    out.extend_from_slice(key.as_bytes());
    json_text(out, text, bytes_max);
    out.push(b'"');
}

fn value(out: &mut Vec<u8>, key: &str, value: u64) {
    out.extend_from_slice(key.as_bytes());
    number(out, value);
}

fn combined(out: &mut Vec<u8>, times: &mut Times, line: &Line<'_>) {
    let _ = write!(out, "{} - ", line.client);
    nginx_text(out, line.user.unwrap_or(b"-"), USER_BYTES_MAX);
    out.extend_from_slice(b" [");
    times.common(out, line.unix_ns);
    out.extend_from_slice(b"] \"");
    nginx_text(out, line.method, METHOD_BYTES_MAX);
    out.push(b' ');
    nginx_text(out, line.path, PATH_BYTES_MAX);
    if let Some(query) = line.query {
        out.push(b'?');
        nginx_text(out, query, QUERY_BYTES_MAX);
    }
    out.extend_from_slice(b" HTTP/");
    out.extend_from_slice(line.version.as_bytes());
    out.extend_from_slice(b"\" ");
    number(out, line.status.into());
    out.push(b' ');
    number(out, line.response_body_bytes);
    out.extend_from_slice(b" \"");
    nginx_text(out, line.referrer.unwrap_or(b"-"), REFERRER_BYTES_MAX);
    out.extend_from_slice(b"\" \"");
    nginx_text(out, line.user_agent.unwrap_or(b"-"), USER_AGENT_BYTES_MAX);
    out.extend_from_slice(b"\"\n");
}

#[cfg(test)]
mod tests;
