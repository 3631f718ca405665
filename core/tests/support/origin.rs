//! An origin whose every move is scripted by the test, with a strict reader that finds fault with what the gateway sends.
//! Not an HTTP server: one thread for each connection, and it does only what its script says.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::head::{self, Seen};
use super::wire::{Ending, Stream, Wire, find};
use super::{SOON, wait_until};

/// An origin connection that says nothing for so long is a leak of the test.
const CONNECTION_SILENCE_MAX: Duration = Duration::from_secs(60);

type Script = dyn Fn(&mut Exchange) -> io::Result<()> + Send + Sync;

pub struct Origin {
    place: Place,
    shared: Arc<Shared>,
    check_lint: bool,
}

enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Default)]
struct Shared {
    book: Mutex<Book>,
    stop: AtomicBool,
    refuse: AtomicBool,
}

#[derive(Default)]
struct Book {
    requests: Vec<Seen>,
    faults: Vec<String>,
    tapes: Vec<Arc<Mutex<Vec<u8>>>>,
    live: HashMap<usize, Stream>,
    endings: HashMap<usize, Ending>,
    /// Connections that were open at the same time, at most.
    most_open: usize,
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Origin {
    /// On 127.0.0.1; the script runs once for each request, as soon as its head is in and before its body is read.
    pub fn start(script: impl Fn(&mut Exchange) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0", script)
    }

    /// Answers 200 with this body to everything, body read first.
    pub fn saying(body: &'static str) -> Self {
        Self::start(move |x| {
            x.body()?;
            x.ok(body)
        })
    }

    /// Answers with these raw bytes, body read first.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |x| {
            x.body()?;
            x.send(&bytes)
        })
    }

    /// As `raw`, and closes after it.
    pub fn raw_then_close(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |x| {
            x.body()?;
            x.send(&bytes)?;
            x.close()
        })
    }

    /// Answers 200 with this body to every head and keeps no records: for millions of requests without bodies.
    pub fn unrecorded(body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("local address");
        let shared = Arc::new(Shared::default());
        let ours = Arc::clone(&shared);
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ours.stop.load(Ordering::Acquire) {
                    return;
                }
                let answer = answer.clone();
                thread::spawn(move || answer_each_head(stream, answer.as_bytes()));
            }
        });
        Self { place: Place::Tcp(address), shared, check_lint: true }
    }

    pub fn on(bind: &str, script: impl Fn(&mut Exchange) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(bind).unwrap_or_else(|e| panic!("bind {bind}: {e}"));
        let address = listener.local_addr().expect("local address");
        let shared = Arc::new(Shared::default());
        let (script, ours): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&shared));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ours.stop.load(Ordering::Acquire) {
                    return;
                }
                stream.set_nodelay(true).ok();
                accept(&ours, Stream::Tcp(stream), &script);
            }
        });
        Self { place: Place::Tcp(address), shared, check_lint: true }
    }

    pub fn on_unix(path: &Path, script: impl Fn(&mut Exchange) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(path).unwrap_or_else(|e| panic!("bind {}: {e}", path.display()));
        let shared = Arc::new(Shared::default());
        let (script, ours): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&shared));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ours.stop.load(Ordering::Acquire) {
                    return;
                }
                accept(&ours, Stream::Unix(stream), &script);
            }
        });
        Self { place: Place::Unix(path.to_owned()), shared, check_lint: true }
    }

    pub fn address(&self) -> SocketAddr {
        match &self.place {
            Place::Tcp(address) => *address,
            Place::Unix(path) => panic!("{} is a unix socket", path.display()),
        }
    }

    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// As the configuration spells it.
    pub fn endpoint(&self) -> String {
        match &self.place {
            Place::Tcp(address) => address.to_string(),
            Place::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.shared.book().requests.clone()
    }

    /// The only request so far.
    #[track_caller]
    pub fn request(&self) -> Seen {
        let all = self.requests();
        assert_eq!(all.len(), 1, "{:?}", all.iter().map(|r| &r.target).collect::<Vec<_>>());
        all.into_iter().next().expect("one")
    }

    #[track_caller]
    pub fn last(&self) -> Seen {
        self.requests().pop().expect("a request at the origin")
    }

    pub fn count(&self) -> usize {
        self.shared.book().requests.len()
    }

    pub fn targets(&self) -> Vec<String> {
        self.shared.book().requests.iter().map(|r| r.target.clone()).collect()
    }

    #[track_caller]
    pub fn wait_count(&self, count: usize) {
        wait_until(&format!("{count} requests at the origin"), SOON, || self.count() >= count);
    }

    /// Connections ever accepted.
    pub fn connections(&self) -> usize {
        self.shared.book().tapes.len()
    }

    pub fn open_connections(&self) -> usize {
        self.shared.book().live.len()
    }

    /// Connections that were open at the same time, at most.
    pub fn most_connections(&self) -> usize {
        self.shared.book().most_open
    }

    /// Every byte that came on a connection.
    pub fn tape(&self, connection: usize) -> Vec<u8> {
        let tape = Arc::clone(&self.shared.book().tapes[connection]);
        tape.lock().expect("tape").clone()
    }

    /// How a connection ended, seen from here; waits for it.
    #[track_caller]
    pub fn ending(&self, connection: usize) -> Ending {
        wait_until("the end of an origin connection", SOON, || self.shared.book().endings.contains_key(&connection));
        self.shared.book().endings[&connection].clone()
    }

    /// Ends every live connection from this side, as a restarted origin does.
    pub fn drop_connections(&self) {
        for stream in self.shared.book().live.values() {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    /// From now on accepted connections are closed at once.
    pub fn refuse(&self, refuse: bool) {
        self.shared.refuse.store(refuse, Ordering::Release);
    }

    pub fn faults(&self) -> Vec<String> {
        self.shared.book().faults.clone()
    }

    /// For the rare test whose traffic is foul on purpose.
    pub fn without_lint(mut self) -> Self {
        self.check_lint = false;
        self
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.drop_connections();
        match &self.place {
            Place::Tcp(address) => drop(TcpStream::connect_timeout(address, Duration::from_millis(200))),
            Place::Unix(path) => drop(UnixStream::connect(path)),
        }
        let faults = self.faults();
        if self.check_lint && !thread::panicking() {
            assert!(faults.is_empty(), "the gateway sent the origin what it must not: {faults:?}");
        }
    }
}

fn answer_each_head(mut stream: TcpStream, answer: &[u8]) {
    stream.set_nodelay(true).ok();
    let mut room = [0; 16 * 1024];
    let mut filled = 0;
    while let Ok(count @ 1..) = stream.read(&mut room[filled..]) {
        filled += count;
        while let Some(at) = find(&room[..filled], b"\r\n\r\n") {
            room.copy_within(at + 4..filled, 0);
            filled -= at + 4;
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    }
}

fn accept(shared: &Arc<Shared>, stream: Stream, script: &Arc<Script>) {
    if shared.refuse.load(Ordering::Acquire) {
        return;
    }
    stream.read_timeout(CONNECTION_SILENCE_MAX);
    let Ok(twin) = stream.try_clone() else { return };
    let wire = Wire::new(stream);
    let connection = {
        let mut book = shared.book();
        book.tapes.push(Arc::clone(&wire.tape));
        let connection = book.tapes.len() - 1;
        book.live.insert(connection, twin);
        // One that its peer has ended counts no more, although its thread may not have noticed yet.
        let open = book.live.values().filter(|stream| stream.is_established()).count();
        book.most_open = book.most_open.max(open);
        connection
    };
    let (shared, script) = (Arc::clone(shared), Arc::clone(script));
    thread::spawn(move || {
        let ending = serve(&shared, wire, connection, &script);
        let mut book = shared.book();
        book.live.remove(&connection);
        book.endings.insert(connection, ending);
    });
}

/// Requests of one connection until it ends; the ending is the peer's, or `Eof` when the script closed it.
fn serve(shared: &Arc<Shared>, mut wire: Wire, connection: usize, script: &Arc<Script>) -> Ending {
    let mut nth = 0;
    loop {
        let raw = match wire.head() {
            Ok(raw) => raw,
            Err(ending) => {
                if !wire.unread().is_empty() && ending == Ending::Eof {
                    note_partial(shared, wire.unread());
                }
                return ending;
            }
        };
        let (mut seen, faults) = head::parse(&raw);
        (seen.connection, seen.nth) = (connection, nth);
        nth += 1;
        let number = {
            let mut book = shared.book();
            book.faults.extend(faults);
            book.requests.push(seen.clone());
            book.requests.len() - 1
        };
        let mut exchange = Exchange { wire, seen, number, shared: Arc::clone(shared), state: State::BodyUnread };
        let done = script(&mut exchange);
        if done.is_err() || exchange.state == State::Closed {
            return exchange.how_it_ended();
        }
        if exchange.state == State::BodyUnread && exchange.body().is_err() {
            return Ending::Eof;
        }
        wire = exchange.wire;
    }
}

/// A head that never ended is not a request, but a bare LF in it is still a fault.
fn note_partial(shared: &Arc<Shared>, bytes: &[u8]) {
    let bare = bytes.iter().enumerate().any(|(i, &b)| b == b'\n' && (i == 0 || bytes[i - 1] != b'\r'));
    if bare {
        shared.book().faults.push("bare LF in an unfinished head".to_owned());
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    BodyUnread,
    BodyRead,
    Closed,
}

/// One request in the script's hands.
pub struct Exchange {
    wire: Wire,
    /// Its head (the body is in what `body` returns, and in the origin's records).
    pub seen: Seen,
    /// Which request of this origin, from 0.
    pub number: usize,
    shared: Arc<Shared>,
    state: State,
}

impl Exchange {
    pub fn target(&self) -> &str {
        &self.seen.target
    }

    /// Reads the whole body; a cut one is an error, and recorded as incomplete.
    pub fn body(&mut self) -> io::Result<Vec<u8>> {
        if self.state != State::BodyUnread {
            return Ok(self.shared.book().requests[self.number].body.clone());
        }
        self.state = State::BodyRead;
        let (mut body, mut trailers) = (Vec::new(), Vec::new());
        let ended = match (self.seen.all("content-length").first(), self.seen.has("transfer-encoding")) {
            (_, true) => self.wire.chunked(&mut body, &mut trailers),
            (Some(length), _) => match length.parse() {
                Ok(length) => self.wire.exactly(length, &mut body),
                Err(_) => Err(Ending::Malformed(format!("Content-Length {length:?}"))),
            },
            (None, false) => Ok(()),
        };
        let mut book = self.shared.book();
        if let Err(Ending::Malformed(fault)) = &ended {
            book.faults.push(fault.clone());
        }
        for (name, _) in &trailers {
            let name = name.to_ascii_lowercase();
            if ["content-length", "transfer-encoding", "host", "connection"].contains(&name.as_str()) {
                book.faults.push(format!("trailer {name}"));
            }
        }
        let entry = &mut book.requests[self.number];
        (entry.body, entry.trailers, entry.complete) = (body.clone(), trailers, ended.is_ok());
        match ended {
            Ok(()) => Ok(body),
            Err(ending) => Err(io::Error::other(format!("{ending:?}"))),
        }
    }

    /// At least `count` bytes of the body, leaving the rest on the wire; for early answers.
    pub fn body_prefix(&mut self, count: usize) -> io::Result<()> {
        let mut taken = 0;
        while taken < count {
            taken += self.wire.some().map_err(|e| io::Error::other(format!("{e:?}")))?.len();
        }
        self.state = State::BodyRead;
        Ok(())
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.stream.write_all(bytes.as_ref())
    }

    pub fn dribble(&mut self, bytes: &[u8], pause: Duration) -> io::Result<()> {
        for byte in bytes {
            self.send([*byte])?;
            thread::sleep(pause);
        }
        Ok(())
    }

    pub fn ok(&mut self, body: impl AsRef<[u8]>) -> io::Result<()> {
        self.reply(200, "", body)
    }

    /// `extra` is whole header lines, each with its CRLF.
    pub fn reply(&mut self, status: u16, extra: &str, body: impl AsRef<[u8]>) -> io::Result<()> {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n{extra}\r\n", body.len());
        let body: &[u8] = if self.seen.method == "HEAD" { b"" } else { body };
        self.send([head.as_bytes(), body].concat())
    }

    pub fn wait(&self, time: Duration) {
        thread::sleep(time);
    }

    /// Waits, at most `limit`, until the gateway ends this connection; what it was, `Silence` if it did not.
    pub fn await_gone(&mut self, limit: Duration) -> Ending {
        let start = Instant::now();
        let ending = loop {
            self.wire.stream.read_timeout(limit.saturating_sub(start.elapsed()));
            match self.wire.some() {
                Ok(_) if start.elapsed() < limit => {}
                Ok(_) => break Ending::Silence,
                Err(ending) => break ending,
            }
        };
        self.wire.stream.read_timeout(CONNECTION_SILENCE_MAX);
        if ending != Ending::Silence {
            self.state = State::Closed;
            self.shared.book().endings.insert(self.seen.connection, ending.clone());
        }
        ending
    }

    /// Sends back what comes, in a tunnel, until the other side ends.
    pub fn echo_until_end(&mut self) -> io::Result<()> {
        self.state = State::Closed;
        loop {
            match self.wire.some() {
                Ok(bytes) => self.wire.stream.write_all(&bytes)?,
                Err(ending) => {
                    self.shared.book().endings.insert(self.seen.connection, ending);
                    return Ok(());
                }
            }
        }
    }

    /// What the tunnel brings next.
    pub fn some(&mut self) -> io::Result<Vec<u8>> {
        self.wire.some().map_err(|e| io::Error::other(format!("{e:?}")))
    }

    #[expect(clippy::unnecessary_wraps, reason = "a script's last words")]
    pub fn close(&mut self) -> io::Result<()> {
        self.wire.stream.shutdown(Shutdown::Both).ok();
        self.state = State::Closed;
        Ok(())
    }

    /// FIN, and goes on reading.
    pub fn half_close(&mut self) -> io::Result<()> {
        self.wire.stream.shutdown(Shutdown::Write)
    }

    /// RST, after what was sent has left.
    #[expect(clippy::unnecessary_wraps, reason = "a script's last words")]
    pub fn reset(&mut self) -> io::Result<()> {
        self.wire.stream.reset_on_close();
        self.shared.book().live.remove(&self.seen.connection);
        self.state = State::Closed;
        Ok(())
    }

    fn how_it_ended(&self) -> Ending {
        self.shared.book().endings.get(&self.seen.connection).cloned().unwrap_or(Ending::Eof)
    }
}
