//! Loads, origin and floor against each other over loopback: every path and mode, and what must count as an error.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ringway_perf::clients::Mode;
use ringway_perf::closed::{self, ClosedLoop};
use ringway_perf::http::Answer;
use ringway_perf::latency::LoadReport;
use ringway_perf::open::{self, OpenLoop};

const SHORT: Duration = Duration::from_millis(150);
const CONNECTIONS: usize = 8;

/// A program of this crate that listens, ended with this value.
struct Listening(Child);

impl Listening {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().expect("a built program");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n");
        Self(child)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("our child");
    }
}

/// A port that nobody listens on at the moment.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("bound").port()
}

fn through_floor(path: &str, mode: Mode) -> LoadReport {
    let (floor_port, origin_port) = (free_port(), free_port());
    let arguments = ["--port", &floor_port.to_string(), "--origin", &origin_port.to_string()];
    let _floor = Listening::start(env!("CARGO_BIN_EXE_l4_floor"), &arguments);
    closed_loop(floor_port, Some(origin_port), path, mode)
}

fn closed_loop(gateway_port: u16, origin_port: Option<u16>, path: &str, mode: Mode) -> LoadReport {
    let plan = ClosedLoop {
        gateway_port,
        origin_port,
        with_token: false,
        path: path.to_owned(),
        mode,
        connections: CONNECTIONS,
        warm: Duration::from_millis(20),
        duration: SHORT,
    };
    let mut measured = false;
    let report = closed::run(&plan, || measured = true).expect("a ring");
    assert!(measured);
    report
}

#[test]
fn every_answer_goes_through_the_floor() {
    for path in ["/b100", "/b1k", "/b10k", "/b100k"] {
        let report = through_floor(path, Mode::KeepAlive);
        assert_eq!(report.errors, 0, "{path}: {:?}", report.first_error);
        assert!(report.requests > CONNECTIONS as u64 && report.p50_us > 0.0, "{path}: {report:?}");
    }
}

#[test]
fn a_connection_per_request_is_opened_and_closed() {
    let report = through_floor("/b100", Mode::Close);
    assert_eq!(report.errors, 0, "{:?}", report.first_error);
    assert!(report.requests > 2 * CONNECTIONS as u64, "{report:?}");
}

#[test]
fn uploads_arrive_whole() {
    let report = through_floor("/upload", Mode::Upload);
    assert_eq!(report.errors, 0, "{:?}", report.first_error);
    assert!(report.requests >= CONNECTIONS as u64, "{report:?}");
}

#[test]
fn a_constant_rate_is_kept() {
    let port = free_port();
    let plan = OpenLoop {
        gateway_port: port,
        origin_port: Some(port),
        path: "/b1k".to_owned(),
        connections: CONNECTIONS,
        rate: 2_000.0,
        warm: Duration::from_millis(20),
        duration: SHORT,
    };
    let report = open::run(&plan, || {}).expect("a ring");
    assert_eq!((report.requests, report.errors), (300, 0), "{report:?}");
}

#[test]
fn the_origin_answers_pipelined_requests_in_order() {
    let port = free_port();
    let _origin = Listening::start(env!("CARGO_BIN_EXE_origin"), &["--port", &port.to_string()]);
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    let asked =
        b"GET /b100k HTTP/1.1\r\n\r\nPOST /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
        GET /b100 HTTP/1.1\r\nConnection: close\r\n\r\n";
    client.write_all(asked).expect("it reads");
    let mut answers = Vec::new();
    client.read_to_end(&mut answers).expect("it closes after the last");
    let expected = [Answer::B100k.bytes(false), Answer::Uploaded.bytes(false), Answer::B100.bytes(true)].concat();
    assert!(answers == expected, "{} bytes instead of {}", answers.len(), expected.len());
}

#[test]
fn wrong_answers_and_lost_connections_are_errors() {
    let port = free_port();
    let _origin = Listening::start(env!("CARGO_BIN_EXE_origin"), &["--port", &port.to_string()]);
    let report = closed_loop(port, None, "/nothing", Mode::KeepAlive);
    assert_eq!(report.requests, 0);
    assert!(report.errors > 0);
    assert_eq!(report.first_error.as_deref(), Some("an answer of status 404"));
    // Nobody listens there.
    let report = closed_loop(free_port(), None, "/b100", Mode::KeepAlive);
    assert_eq!((report.requests, report.first_error.as_deref()), (0, Some("a connection was lost")));
}
