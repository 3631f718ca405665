//! A buffered socket with the strict framing of RFC 9112, shared by the client and the origin. Knows no methods or statuses.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::head::{Headers, header_line};

/// A line longer than this is a fault of the sender.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Why there was no more to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    Eof,
    Reset,
    /// Nothing came for the socket's read timeout.
    Silence,
    Malformed(String),
}

#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(s) => Self::Tcp(s.try_clone()?),
            Self::Unix(s) => Self::Unix(s.try_clone()?),
        })
    }

    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(s) => s.shutdown(how),
            Self::Unix(s) => s.shutdown(how),
        }
    }

    pub fn read_timeout(&self, limit: Duration) {
        let limit = Some(limit.max(Duration::from_millis(1)));
        match self {
            Self::Tcp(s) => s.set_read_timeout(limit),
            Self::Unix(s) => s.set_read_timeout(limit),
        }
        .expect("set a read timeout");
    }

    pub fn write_timeout(&self, limit: Duration) {
        match self {
            Self::Tcp(s) => s.set_write_timeout(Some(limit)),
            Self::Unix(s) => s.set_write_timeout(Some(limit)),
        }
        .expect("set a write timeout");
    }

    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(s) => s.write_all(bytes),
            Self::Unix(s) => s.write_all(bytes),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(s) => s.read(into),
            Self::Unix(s) => s.read(into),
        }
    }

    /// By the kernel: neither side has ended it.
    pub fn is_established(&self) -> bool {
        const TCP_ESTABLISHED: u8 = 1;
        // SAFETY: all-zero bytes are a valid `tcp_info` (plain integers).
        let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
        let mut size = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).expect("a small struct");
        // SAFETY: the fd is open (we hold the stream) and the pointers are to a live struct and its size.
        let done = unsafe {
            libc::getsockopt(self.fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut size)
        };
        done == 0 && info.tcpi_state == TCP_ESTABLISHED
    }

    fn fd(&self) -> RawFd {
        match self {
            Self::Tcp(s) => s.as_raw_fd(),
            Self::Unix(s) => s.as_raw_fd(),
        }
    }

    /// The next close sends RST instead of FIN.
    pub fn reset_on_close(&self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let size = libc::socklen_t::try_from(size_of::<libc::linger>()).expect("a small struct");
        // SAFETY: the fd is open (we hold the stream) and the pointer is to a live struct of the given size.
        let done =
            unsafe { libc::setsockopt(self.fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), size) };
        assert_eq!(done, 0, "SO_LINGER: {}", io::Error::last_os_error());
    }
}

/// A socket and what was read from it but not used yet.
#[derive(Debug)]
pub struct Wire {
    pub stream: Stream,
    unread: Vec<u8>,
    /// Every byte that ever came in.
    pub tape: Arc<Mutex<Vec<u8>>>,
    /// After it there is only silence, however many bytes still come.
    pub deadline: Option<Instant>,
}

impl Wire {
    pub fn new(stream: Stream) -> Self {
        Self { stream, unread: Vec::new(), tape: Arc::default(), deadline: None }
    }

    pub fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Reads once. `Ok` means at least one byte more.
    pub fn fill(&mut self) -> Result<(), Ending> {
        if self.deadline.is_some_and(|d| Instant::now() > d) {
            return Err(Ending::Silence);
        }
        let mut room = vec![0; 64 * 1024];
        let count = loop {
            match self.stream.read(&mut room) {
                Ok(0) => return Err(Ending::Eof),
                Ok(count) => break count,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(Ending::Silence);
                }
                Err(_) => return Err(Ending::Reset),
            }
        };
        self.unread.extend_from_slice(&room[..count]);
        self.tape.lock().expect("tape").extend_from_slice(&room[..count]);
        Ok(())
    }

    /// Bytes up to and with the empty line, without it in the result. A bare LF is not a line end.
    pub fn head(&mut self) -> Result<Vec<u8>, Ending> {
        let mut from = 0;
        loop {
            if let Some(at) = find(&self.unread[from..], b"\r\n\r\n") {
                let end = from + at;
                let head = self.unread[..end].to_vec();
                self.unread.drain(..end + 4);
                return Ok(head);
            }
            from = self.unread.len().saturating_sub(3);
            if self.unread.len() > LINE_BYTES_MAX {
                return Err(Ending::Malformed("a head without end".into()));
            }
            self.fill()?;
        }
    }

    pub fn line(&mut self) -> Result<Vec<u8>, Ending> {
        loop {
            if let Some(at) = self.unread.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=at).collect();
                let Some(text) = line.strip_suffix(b"\r\n") else {
                    return Err(Ending::Malformed(format!("bare LF after {:?}", lossy(&line))));
                };
                if text.contains(&b'\r') {
                    return Err(Ending::Malformed(format!("bare CR in {:?}", lossy(text))));
                }
                return Ok(text.to_vec());
            }
            if self.unread.len() > LINE_BYTES_MAX {
                return Err(Ending::Malformed("a line without end".into()));
            }
            self.fill()?;
        }
    }

    /// Exactly `count` bytes to the end of `body`; what came before an ending stays in it.
    pub fn exactly(&mut self, count: u64, body: &mut Vec<u8>) -> Result<(), Ending> {
        let mut left = count;
        while left > 0 {
            if self.unread.is_empty() {
                self.fill()?;
            }
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(self.unread.len());
            body.extend(self.unread.drain(..take));
            left -= take as u64;
        }
        Ok(())
    }

    /// A chunked body (RFC 9112 §7.1), strict: no space after the size, CRLF everywhere.
    pub fn chunked(&mut self, body: &mut Vec<u8>, trailers: &mut Headers) -> Result<(), Ending> {
        loop {
            let line = self.line()?;
            let size = line.split(|&b| b == b';').next().unwrap_or(&line);
            let digits = !size.is_empty() && size.len() <= 16 && size.iter().all(u8::is_ascii_hexdigit);
            if !digits {
                return Err(Ending::Malformed(format!("chunk size {:?}", lossy(&line))));
            }
            let size = u64::from_str_radix(&lossy(size), 16).expect("at most 16 hexadecimal digits");
            if size == 0 {
                break;
            }
            self.exactly(size, body)?;
            if !self.line()?.is_empty() {
                return Err(Ending::Malformed("no CRLF after a chunk".into()));
            }
        }
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(());
            }
            trailers.push(header_line(&line).map_err(Ending::Malformed)?);
        }
    }

    /// Everything up to the end of the stream; the ending says which.
    pub fn rest(&mut self, body: &mut Vec<u8>) -> Ending {
        loop {
            body.append(&mut self.unread);
            if let Err(ending) = self.fill() {
                return ending;
            }
        }
    }

    /// What is buffered, or one read more.
    pub fn some(&mut self) -> Result<Vec<u8>, Ending> {
        if self.unread.is_empty() {
            self.fill()?;
        }
        Ok(std::mem::take(&mut self.unread))
    }
}

pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|w| w == needle)
}

pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
