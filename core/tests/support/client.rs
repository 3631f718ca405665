//! A client on a raw socket: sends any bytes, reads answers strictly, and tells a clean end from a cut. Not a real client.

use std::fmt::Write as _;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::head::{self, Headers};
use super::wire::{Ending, Stream, Wire, lossy};
use super::{SOON, ms};

/// An answer that takes longer, however busy, is taken for one without end.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// How an answer's body was delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

#[derive(Debug, Clone)]
pub struct Response {
    pub version: String,
    pub status: u16,
    pub reason: String,
    pub headers: Headers,
    pub body: Vec<u8>,
    pub trailers: Headers,
    pub framing: Framing,
    /// Set when the body ended before its framing said so.
    pub cut: Option<Ending>,
    /// The 1xx answers that came before it.
    pub interim: Vec<Self>,
}

impl Response {
    pub fn all(&self, name: &str) -> Vec<&str> {
        head::all(&self.headers, name)
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.all(name);
        assert!(found.len() <= 1, "{name} came {} times: {found:?}", found.len());
        found.first().copied()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    pub fn text(&self) -> String {
        lossy(&self.body)
    }

    /// Says that the connection ends after it.
    pub fn says_close(&self) -> bool {
        head::members(&self.headers, "connection").iter().any(|o| o == "close")
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert!(self.cut.is_none(), "cut short ({:?}): {self:?}", self.cut);
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.text());
        self
    }

    /// The body as `application/problem+json`, checked for what every refusal of ours carries.
    #[track_caller]
    pub fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let body: Value = serde_json::from_slice(&self.body).expect("a JSON body");
        assert_eq!(body["status"], self.status, "{body}");
        let code = body[super::names::PROBLEM_CODE].as_str();
        assert!(code.is_some_and(|c| !c.is_empty()), "no stable code in {body}");
        let id = body[super::names::PROBLEM_REQUEST_ID].as_str();
        assert!(id.is_some_and(|c| !c.is_empty()), "no request id in {body}");
        body
    }
}

/// How a connection stands, looked at from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    Eof,
    Reset,
    Open,
    /// Bytes came instead.
    Data(String),
}

#[derive(Debug)]
pub struct Client {
    pub wire: Wire,
}

impl Client {
    #[track_caller]
    pub fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, SOON).unwrap_or_else(|e| panic!("connect {address}: {e}"));
        Self::over(stream)
    }

    pub fn try_to(address: SocketAddr, limit: Duration) -> std::io::Result<Self> {
        TcpStream::connect_timeout(&address, limit).map(Self::over)
    }

    /// From another loopback address, to look like another client.
    #[track_caller]
    pub fn from_to(source: IpAddr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("socket");
        // Else a bound port is taken from the range for every destination.
        super::odd::bind_address_without_port(&socket);
        socket.bind(&SocketAddr::new(source, 0).into()).expect("bind the source address");
        socket.connect_timeout(&address.into(), SOON).expect("connect");
        Self::over(socket.into())
    }

    /// With a receive window so small that the sender feels a client that does not read.
    #[track_caller]
    pub fn with_small_window(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("socket");
        socket.set_recv_buffer_size(4096).expect("SO_RCVBUF");
        socket.connect_timeout(&address.into(), SOON).expect("connect");
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let wire = Wire::new(Stream::Tcp(stream));
        wire.stream.read_timeout(SOON);
        wire.stream.write_timeout(SOON);
        Self { wire }
    }

    pub fn patience(self, limit: Duration) -> Self {
        self.wire.stream.read_timeout(limit);
        self
    }

    pub fn local_port(&self) -> u16 {
        match &self.wire.stream {
            Stream::Tcp(s) => s.local_addr().expect("local address").port(),
            Stream::Unix(_) => unreachable!("clients are TCP"),
        }
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.wire.stream.write_all(bytes.as_ref()).expect("send");
        self
    }

    /// For sends that the gateway may refuse half-way.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.wire.stream.write_all(bytes.as_ref())
    }

    pub fn dribble(&mut self, bytes: &[u8], pause: Duration) -> std::io::Result<()> {
        for byte in bytes {
            self.try_send([*byte])?;
            std::thread::sleep(pause);
        }
        Ok(())
    }

    /// `GET path` on this connection, and its answer.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Response {
        self.request("GET", path, "", b"")
    }

    /// `extra` is whole header lines, each with its CRLF; a body brings its Content-Length.
    #[track_caller]
    pub fn request(&mut self, method: &str, target: &str, extra: &str, body: &[u8]) -> Response {
        self.send(request(method, target, extra, body));
        self.response_to(method)
    }

    /// The next final answer, to a GET.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    #[track_caller]
    pub fn response_to(&mut self, method: &str) -> Response {
        self.try_response(method).unwrap_or_else(|ending| {
            panic!("no answer: {ending:?}; so far {:?}", lossy(&self.wire.tape.lock().expect("tape")))
        })
    }

    pub fn try_response(&mut self, method: &str) -> Result<Response, Ending> {
        let mut interim = Vec::new();
        loop {
            let mut one = self.one(method)?;
            if (100..200).contains(&one.status) && one.status != 101 {
                interim.push(one);
                continue;
            }
            one.interim = interim;
            return Ok(one);
        }
    }

    /// One answer, be it interim or final.
    pub fn one(&mut self, method: &str) -> Result<Response, Ending> {
        self.wire.deadline = Some(Instant::now() + ANSWER_TIME_MAX);
        let answer = self.read_one(method);
        self.wire.deadline = None;
        answer
    }

    fn read_one(&mut self, method: &str) -> Result<Response, Ending> {
        let raw = self.wire.head()?;
        let mut response = parse_head(&raw).map_err(Ending::Malformed)?;
        response.framing = framing(&response, method).map_err(Ending::Malformed)?;
        let mut body = Vec::new();
        let ended = match response.framing {
            Framing::None => Ok(()),
            Framing::Length(n) => self.wire.exactly(n, &mut body),
            Framing::Chunked => self.wire.chunked(&mut body, &mut response.trailers),
            Framing::UntilClose => match self.wire.rest(&mut body) {
                Ending::Eof => Ok(()),
                other => Err(other),
            },
        };
        response.cut = ended.err();
        response.body = body;
        Ok(response)
    }

    /// Waits at most `limit` for the end of the connection. An end is an answer too: bytes are reported, not eaten.
    pub fn closed_within(&mut self, limit: Duration) -> Closed {
        if !self.wire.unread().is_empty() {
            return Closed::Data(lossy(self.wire.unread()));
        }
        self.wire.stream.read_timeout(limit);
        let state = match self.wire.fill() {
            Ok(()) => Closed::Data(lossy(self.wire.unread())),
            Err(Ending::Eof) => Closed::Eof,
            Err(Ending::Silence) => Closed::Open,
            Err(_) => Closed::Reset,
        };
        self.wire.stream.read_timeout(SOON);
        state
    }

    /// Panics unless the connection ends, without another byte, soon.
    #[track_caller]
    pub fn assert_closed(&mut self) {
        let state = self.closed_within(SOON);
        assert!(matches!(state, Closed::Eof | Closed::Reset), "should be closed, is {state:?}");
    }

    #[track_caller]
    pub fn assert_open(&mut self) {
        assert_eq!(self.closed_within(ms(100)), Closed::Open);
    }

    /// FIN: no more from us, still reading.
    pub fn half_close(&mut self) {
        self.wire.stream.shutdown(Shutdown::Write).expect("half-close");
    }

    pub fn reset(self) {
        self.wire.stream.reset_on_close();
    }

    /// Exactly these bytes next (a tunnel's).
    #[track_caller]
    pub fn expect_bytes(&mut self, wanted: &[u8]) {
        let mut got = Vec::new();
        let ended = self.wire.exactly(wanted.len() as u64, &mut got);
        assert!(ended.is_ok(), "{ended:?} after {:?}, wanted {:?}", lossy(&got), lossy(wanted));
        assert_eq!(lossy(&got), lossy(wanted));
    }

    /// Reads and drops until the end, for at most `limit`; how it ended, and how much came.
    pub fn drain(&mut self, limit: Duration) -> (Ending, usize) {
        let start = Instant::now();
        let mut count = 0;
        loop {
            self.wire.stream.read_timeout(limit.saturating_sub(start.elapsed()));
            match self.wire.some() {
                Ok(bytes) => count += bytes.len(),
                Err(ending) => return (ending, count),
            }
            if start.elapsed() > limit {
                return (Ending::Silence, count);
            }
        }
    }
}

/// A plain request to `gw.test`.
pub fn request(method: &str, target: &str, extra: &str, body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: gw.test\r\n{extra}");
    if !body.is_empty() {
        write!(head, "Content-Length: {}\r\n", body.len()).expect("to a string");
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

fn parse_head(raw: &[u8]) -> Result<Response, String> {
    let mut lines = raw.split(|&b| b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l));
    let start = lines.next().unwrap_or_default();
    if raw.iter().zip(raw.iter().skip(1)).any(|(&a, &b)| (b == b'\n') != (a == b'\r')) {
        return Err(format!("bare CR or LF in {:?}", lossy(raw)));
    }
    let start_line = lossy(start);
    let mut words = start_line.splitn(3, ' ');
    let version = words.next().unwrap_or_default().to_owned();
    let code = words.next().unwrap_or_default();
    let reason = words.next().ok_or_else(|| format!("status line {start_line:?}"))?.to_owned();
    let digits = code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit());
    if !digits || version != "HTTP/1.1" {
        return Err(format!("status line {start_line:?}"));
    }
    let headers = lines.map(head::header_line).collect::<Result<_, _>>()?;
    Ok(Response {
        version,
        status: code.parse().expect("three digits"),
        reason,
        headers,
        body: Vec::new(),
        trailers: Vec::new(),
        framing: Framing::None,
        cut: None,
        interim: Vec::new(),
    })
}

/// RFC 9112 §6.3, with every doubtful case a fault.
fn framing(response: &Response, method: &str) -> Result<Framing, String> {
    let (lengths, codings) = (response.all("content-length"), response.all("transfer-encoding"));
    if lengths.len() + codings.len() > 1 {
        return Err(format!("framed twice: {:?}", response.headers));
    }
    let length = match lengths.first() {
        Some(v) if !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit()) => {
            Some(v.parse::<u64>().map_err(|e| format!("Content-Length {v:?}: {e}"))?)
        }
        Some(v) => return Err(format!("Content-Length {v:?}")),
        None => None,
    };
    let status = response.status;
    if (status < 200 || status == 204) && lengths.len() + codings.len() > 0 {
        return Err(format!("{status} with framing: {:?}", response.headers));
    }
    if method == "HEAD" || status < 200 || status == 204 || status == 304 {
        return Ok(Framing::None);
    }
    match (length, codings.first()) {
        (Some(n), _) => Ok(Framing::Length(n)),
        (None, Some(c)) if c.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        (None, Some(c)) => Err(format!("Transfer-Encoding {c:?}")),
        (None, None) => Ok(Framing::UntilClose),
    }
}
