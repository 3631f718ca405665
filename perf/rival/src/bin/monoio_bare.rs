//! The barest reverse proxy on monoio: httparse, two buffers a connection, a pool of origin connections. Knows
//! Content-Length only; no limits, no timeouts. It shows what the runtime costs before a gateway adds anything.
//!
//! usage: monoio_bare --port PORT --origin PORT

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use monoio::buf::IoBufMut;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::TcpStream;

const BUFFER_BYTES: usize = 16 * 1024;
const FIELDS_MAX: usize = 64;

type Pool = Rc<RefCell<Vec<Peer>>>;

fn main() -> io::Result<()> {
    let pool = Pool::default();
    ringway_rival::serve(move |client, origin| {
        let pool = pool.clone();
        async move {
            // However it ends, the connection is over.
            let _ = connection(Peer::new(client), origin, pool).await;
        }
    })
}

/// A socket and what was read from it but not used yet.
struct Peer {
    socket: TcpStream,
    read: Vec<u8>,
}

impl Peer {
    fn new(socket: TcpStream) -> Self {
        Self { socket, read: Vec::with_capacity(BUFFER_BYTES) }
    }

    /// Reads behind what is there; false at the end.
    async fn fill(&mut self) -> io::Result<bool> {
        let buffer = std::mem::take(&mut self.read);
        let start = buffer.len();
        if start == buffer.capacity() {
            return Err(io::Error::other("a head does not fit the buffer"));
        }
        let (result, slice) = self.socket.read(buffer.slice_mut(start..)).await;
        self.read = slice.into_inner();
        Ok(result? > 0)
    }

    async fn write(&mut self, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let (result, bytes) = self.socket.write_all(bytes).await;
        result.map(|_| bytes)
    }
}

/// What decides how a message goes on.
struct Framing {
    head_bytes: usize,
    body_bytes: usize,
    close: bool,
}

async fn connection(mut client: Peer, origin_address: SocketAddr, pool: Pool) -> io::Result<()> {
    let mut out = Vec::with_capacity(2 * BUFFER_BYTES);
    loop {
        let request = match head(&mut client, &mut out, request_head).await? {
            Some(request) => request,
            None => return Ok(()),
        };
        let idle = pool.borrow_mut().pop();
        let mut origin = match idle {
            Some(origin) => origin,
            None => Peer::new(ringway_rival::connect(origin_address).await?),
        };
        out = relay(&mut client, &mut origin, out, &request).await?;
        let answer = head(&mut origin, &mut out, |bytes, out| answer_head(bytes, out, request.close)).await?;
        let answer = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
        out = relay(&mut origin, &mut client, out, &answer).await?;
        if !answer.close {
            pool.borrow_mut().push(origin);
        }
        if request.close {
            return Ok(());
        }
    }
}

/// Reads a whole head and writes into `out` what is to be sent for it; nothing if the peer ended before one.
async fn head(
    peer: &mut Peer,
    out: &mut Vec<u8>,
    rewrite: impl Fn(&[u8], &mut Vec<u8>) -> Option<httparse::Result<Framing>>,
) -> io::Result<Option<Framing>> {
    loop {
        out.clear();
        match rewrite(&peer.read, out) {
            Some(Ok(httparse::Status::Complete(framing))) => return Ok(Some(framing)),
            Some(Ok(httparse::Status::Partial)) | None => {}
            Some(Err(why)) => return Err(io::Error::other(why)),
        }
        if !peer.fill().await? {
            return if peer.read.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    }
}

/// Sends the head in `out` with what there is of the body, then the rest of it; `out` comes back.
async fn relay(from: &mut Peer, to: &mut Peer, mut out: Vec<u8>, framing: &Framing) -> io::Result<Vec<u8>> {
    let mut left = framing.body_bytes;
    let mut used = framing.head_bytes;
    loop {
        let body = left.min(from.read.len() - used);
        out.extend_from_slice(&from.read[used..used + body]);
        used += body;
        left -= body;
        from.read.drain(..used);
        used = 0;
        out = to.write(out).await?;
        if left == 0 {
            return Ok(out);
        }
        out.clear();
        if !from.fill().await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn request_head(bytes: &[u8], out: &mut Vec<u8>) -> Option<httparse::Result<Framing>> {
    if bytes.is_empty() {
        return None;
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let head_bytes = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) => return Some(Ok(httparse::Status::Partial)),
        Err(why) => return Some(Err(why)),
    };
    for part in [request.method.unwrap_or_default(), " ", request.path.unwrap_or_default(), " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let (body_bytes, close) = copy_fields(request.headers, out);
    out.extend_from_slice(b"X-Forwarded-For: 127.0.0.1\r\n\r\n");
    Some(Ok(httparse::Status::Complete(Framing { head_bytes, body_bytes, close })))
}

fn answer_head(bytes: &[u8], out: &mut Vec<u8>, close_client: bool) -> Option<httparse::Result<Framing>> {
    if bytes.is_empty() {
        return None;
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut answer = httparse::Response::new(&mut fields);
    let head_bytes = match answer.parse(bytes) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) => return Some(Ok(httparse::Status::Partial)),
        Err(why) => return Some(Err(why)),
    };
    let line_bytes = bytes.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    out.extend_from_slice(&bytes[..line_bytes]);
    let (body_bytes, close) = copy_fields(answer.headers, out);
    out.extend_from_slice(if close_client { b"Connection: close\r\n\r\n" } else { b"\r\n" });
    Some(Ok(httparse::Status::Complete(Framing { head_bytes, body_bytes, close })))
}

/// Copies all but the hop-by-hop fields; the body's length and whether the sender will close.
fn copy_fields(fields: &[httparse::Header<'_>], out: &mut Vec<u8>) -> (usize, bool) {
    const HOP_BY_HOP: [&str; 5] = ["connection", "keep-alive", "upgrade", "te", "proxy-connection"];
    let (mut body_bytes, mut close) = (0, false);
    for field in fields {
        if field.name.eq_ignore_ascii_case("content-length") {
            body_bytes = std::str::from_utf8(field.value).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0);
        } else if field.name.eq_ignore_ascii_case("connection") {
            close = field.value.eq_ignore_ascii_case(b"close");
        }
        if !HOP_BY_HOP.iter().any(|name| field.name.eq_ignore_ascii_case(name)) {
            for part in [field.name.as_bytes(), b": ", field.value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
    (body_bytes, close)
}
