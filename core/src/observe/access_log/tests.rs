//! Lines as a log reader sees them, from friendly and from hostile requests.

use super::*;
use crate::observe::log_ring::{LineReceiver, log_ring};
use crate::observe::log_writer::{LogTarget, LogWriter};
use serde_json::Value;

fn none(_: &str) -> Option<&'static [u8]> {
    None
}

fn line() -> Line<'static> {
    Line {
        unix_ns: 1_795_473_643_000_123_456,
        duration_ns: 1_234_567,
        method: b"GET",
        path: b"/api/v1/users/7",
        query: Some(b"a=1&b=2"),
        version: "1.1",
        host: Some(b"api.example"),
        status: 200,
        request_body_bytes: 0,
        response_body_bytes: 100,
        peer: "10.0.0.9:4711".parse().unwrap(),
        client: "2001:db8::1".parse().unwrap(),
        user: None,
        user_agent: Some(b"curl/8.5.0"),
        referrer: None,
        request_id: b"0192-abc",
        route: Some("users"),
        api: None,
        api_version: None,
        cluster: Some("users-v1"),
        endpoint: Some("10.0.0.1:8080"),
        answered_by: Source::Origin,
        flag: Flag::None,
        reason: None,
        attempts: 1,
        tries: &[],
        generation: 42,
        overhead_ns: 34_567,
        origin_ns: 1_200_000,
        header: &none,
    }
}

struct Bench {
    log: CoreLog,
    ring: LineReceiver,
}

impl Bench {
    fn new(format: LogFormat, headers: Vec<LoggedHeader>, ring_bytes: usize) -> Bench {
        let (sender, ring) = log_ring(ring_bytes);
        let writer = LogWriter::start(LogTarget::File("/dev/null".into()), Vec::new()).unwrap();
        let settings = Rc::new(LogSettings::new(format, headers).unwrap());
        let log = CoreLog::new(3, settings, sender, writer.waker());
        assert!(writer.stop(std::time::Duration::from_secs(10)));
        Bench { log, ring }
    }

    fn ecs() -> Bench {
        Bench::new(LogFormat::Ecs, Vec::new(), 256 * 1024)
    }

    /// What the writer gets for one line.
    fn bytes(&mut self, line: &Line<'_>) -> Vec<u8> {
        assert!(self.log.log(line));
        let mut batch = Vec::new();
        assert_eq!(self.ring.take(&mut batch, usize::MAX), 1);
        batch
    }

    /// One line, one JSON object, no byte that a terminal would act on.
    fn object(&mut self, line: &Line<'_>) -> Value {
        let bytes = self.bytes(line);
        let (end, inside) = bytes.split_last().unwrap();
        assert_eq!(*end, b'\n');
        assert!(!inside.iter().any(|byte| byte.is_ascii_control()), "{}", String::from_utf8_lossy(inside));
        assert!(bytes.len() <= LINE_BYTES_MAX);
        let object: Value = serde_json::from_slice(inside).unwrap();
        assert!(object.is_object());
        object
    }
}

#[test]
fn a_line_has_the_schema_s_names() {
    let object = Bench::ecs().object(&line());
    let expected = serde_json::json!({
        "@timestamp": "2026-11-23T22:40:43.000123Z", "event.duration": 1_234_567,
        "http.request.method": "GET", "url.path": "/api/v1/users/7", "url.query": "a=1&b=2",
        "url.domain": "api.example", "http.version": "1.1", "http.response.status_code": 200,
        "http.response.body.bytes": 100, "http.request.body.bytes": 0,
        "source.ip": "10.0.0.9", "source.port": 4711, "client.ip": "2001:db8::1",
        "user_agent.original": "curl/8.5.0", "http.request.id": "0192-abc",
        "ringway.route": "users", "ringway.cluster": "users-v1", "ringway.endpoint": "10.0.0.1:8080",
        "ringway.source": "origin", "ringway.flags": "-", "ringway.attempts": 1, "ringway.core": 3,
        "ringway.generation": 42, "ringway.overhead_us": 34, "ringway.origin_us": 1200,
    });
    assert_eq!(object, expected);
}

#[test]
fn a_failure_has_its_flag_and_full_reason() {
    let reason = "connect to 10.0.0.1:8080: refused";
    let failed = Line {
        status: 502,
        answered_by: Source::Gateway,
        flag: Flag::ConnectFailed,
        reason: Some(reason),
        user: Some(b"ann"),
        referrer: Some(b"http://a/"),
        ..line()
    };
    let object = Bench::ecs().object(&failed);
    assert_eq!((&object["ringway.flags"], &object["ringway.source"]), (&"UF".into(), &"gateway".into()));
    assert_eq!((&object["ringway.reason"], &object["user.name"]), (&reason.into(), &"ann".into()));
    assert_eq!(object["http.request.referrer"], "http://a/");
}

const HOSTILE: &[u8] = b"/\n\r\t\x00\x1b[2J\x7f\"\\\xff\xc0\xaf\xc2\x9b31m\xe2\x80\xa8{\"a\":1}";
const HOSTILE_READ: &str = "/\n\r\t\0\u{1b}[2J\u{7f}\"\\\u{fffd}\u{fffd}\u{fffd}\u{9b}31m\u{2028}{\"a\":1}";

#[test]
fn hostile_text_stays_inside_its_string() {
    let mut bench = Bench::new(LogFormat::Ecs, vec![LoggedHeader::new("x-evil")], 256 * 1024);
    let header = |name: &str| (name == "x-evil").then_some(HOSTILE);
    let hostile = Line {
        method: HOSTILE,
        path: HOSTILE,
        query: Some(HOSTILE),
        host: Some(HOSTILE),
        user: Some(HOSTILE),
        user_agent: Some(HOSTILE),
        referrer: Some(HOSTILE),
        request_id: HOSTILE,
        header: &header,
        ..line()
    };
    let object = bench.object(&hostile);
    let keys = ["url.path", "url.query", "url.domain", "user.name", "user_agent.original", "http.request.referrer"];
    for key in keys.iter().chain(&["http.request.id", "http.request.headers.x-evil"]) {
        assert_eq!(object[*key], HOSTILE_READ, "{key}");
    }
    assert_eq!(object["http.response.status_code"], 200);
}

#[test]
fn every_text_is_capped_however_long_and_hostile() {
    let names: Vec<_> = (0..LOGGED_HEADERS_MAX).map(|n| format!("x-{n}")).collect();
    let headers = names.iter().map(|name| LoggedHeader::new(name)).collect();
    let mut bench = Bench::new(LogFormat::Ecs, headers, 256 * 1024);
    for byte in [b'a', 0x1b, 0xff, b'"'] {
        let megabyte = vec![byte; 1024 * 1024];
        let text = "\u{1}".repeat(1024 * 1024);
        let header = |_: &str| Some(&megabyte[..]);
        let huge = Line {
            method: &megabyte,
            path: &megabyte,
            query: Some(&megabyte),
            host: Some(&megabyte),
            user: Some(&megabyte),
            user_agent: Some(&megabyte),
            referrer: Some(&megabyte),
            request_id: &megabyte,
            route: Some(&text),
            api: Some(&text),
            api_version: Some(&text),
            cluster: Some(&text),
            endpoint: Some(&text),
            reason: Some(&text),
            header: &header,
            ..line()
        };
        let object = bench.object(&huge);
        let shown = |key: &str| object[key].as_str().unwrap().chars().count();
        assert_eq!(shown("url.path"), PATH_BYTES_MAX + 1, "and the mark");
        assert_eq!(shown("user_agent.original"), USER_AGENT_BYTES_MAX + 1);
        assert_eq!(shown("http.request.headers.x-15"), HEADER_VALUE_BYTES_MAX + 1);
        assert_eq!(bench.log.line.capacity(), LINE_BYTES_MAX, "the buffer never grows");
    }
}

#[test]
fn secrets_are_redacted_unless_asked_for() {
    let names = ["Authorization", "cookie", "X-Api-Key", "Accept", "x-absent"];
    let headers = names.iter().map(|name| LoggedHeader::new(name)).chain([LoggedHeader::plain("Set-Cookie")]).collect();
    let mut bench = Bench::new(LogFormat::Ecs, headers, 256 * 1024);
    let header = |name: &str| (name != "x-absent").then_some(&b"secret"[..]);
    let object = bench.object(&Line { header: &header, ..line() });
    let shown = |name: &str| object[&format!("http.request.headers.{name}")].clone();
    for name in ["authorization", "cookie", "x-api-key"] {
        assert_eq!(shown(name), "[redacted]", "{name}");
    }
    assert_eq!((shown("accept"), shown("set-cookie")), ("secret".into(), "secret".into()));
    assert_eq!(shown("x-absent"), Value::Null);
}

#[test]
fn too_many_header_fields_are_refused() {
    let headers = (0..=LOGGED_HEADERS_MAX).map(|n| LoggedHeader::new(&format!("x-{n}"))).collect();
    let refused = LogSettings::new(LogFormat::Ecs, headers).unwrap_err();
    assert_eq!(refused, TooManyHeaders { count: LOGGED_HEADERS_MAX + 1 });
}

#[test]
fn combined_is_nginx_s() {
    let mut bench = Bench::new(LogFormat::Combined, Vec::new(), 4096);
    let text = String::from_utf8(bench.bytes(&line())).unwrap();
    let expected = "2001:db8::1 - - [23/Nov/2026:22:40:43 +0000] \"GET /api/v1/users/7?a=1&b=2 HTTP/1.1\" 200 100 \
                    \"-\" \"curl/8.5.0\"\n";
    assert_eq!(text, expected);
    let hostile = Line { query: None, user_agent: Some(b"\" 200\n\x1b\xff"), ..line() };
    let text = String::from_utf8(bench.bytes(&hostile)).unwrap();
    assert!(text.ends_with("\"GET /api/v1/users/7 HTTP/1.1\" 200 100 \"-\" \"\\x22 200\\x0A\\x1B\\xFF\"\n"), "{text}");
}

#[test]
fn a_full_ring_drops_the_line_and_says_so() {
    let mut bench = Bench::new(LogFormat::Ecs, Vec::new(), 2048);
    let kept = (0..10).take_while(|_| bench.log.log(&line())).count();
    assert!((1..10).contains(&kept), "{kept}");
    let mut batch = Vec::new();
    assert_eq!(bench.ring.take(&mut batch, usize::MAX), kept as u64);
    assert!(bench.log.log(&line()), "room again");
}
