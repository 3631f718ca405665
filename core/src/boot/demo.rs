//! The origins of the embedded demo: a thread that answers every request with what it saw of it. Not for production,
//! and not the origin that benchmarks use.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringway_config::Snapshot;
use ringway_config::snapshot::EndpointAddress;
use ringway_proto::{Body, ChunkedDecoder, HeadLimits, Progress, RequestHead, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

const CONNECTIONS_MAX: usize = 4096;
/// How long nothing is accepted after descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 16 * 1024, target_bytes_max: 8 * 1024, fields_max: 128 };

/// Binds every loopback endpoint of the snapshot and serves them on one thread until the process ends.
///
/// # Errors
/// The address that cannot be had.
pub fn start(snapshot: &Snapshot) -> Result<(), (SocketAddr, io::Error)> {
    let endpoints = snapshot.clusters.iter().flat_map(|cluster| &cluster.endpoints);
    let addresses = endpoints.filter_map(|endpoint| match endpoint.address {
        EndpointAddress::Ip(address) if address.ip().is_loopback() => Some(address),
        _ => None,
    });
    let mut listeners = Vec::new();
    for address in addresses {
        let bind = || {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true).map(|()| listener)
        };
        listeners.push(bind().map_err(|error| (address, error))?);
    }
    let first = listeners.first().and_then(|listener| listener.local_addr().ok());
    let at = first.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| (at, error))?;
    let serve = move || {
        runtime.block_on(async {
            let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
            let all = listeners.into_iter().map(|listener| tokio::spawn(accept(listener, slots.clone())));
            for one in all.collect::<Vec<_>>() {
                let _ = one.await;
            }
        });
    };
    std::thread::Builder::new().name("ringway-demo".into()).spawn(serve).map(drop).map_err(|error| (at, error))
}

async fn accept(listener: std::net::TcpListener, slots: Arc<Semaphore>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let own = listener.local_addr()?;
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return Ok(()) };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(async move {
                    let _slot = slot;
                    let _ = serve(stream, own).await;
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(mut stream: TcpStream, own: SocketAddr) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut head, mut bytes, mut answer) = (RequestHead::new(), Vec::with_capacity(4096), String::new());
    loop {
        match head.parse(&bytes, &LIMITS) {
            Ok(Progress::Complete) => {}
            Ok(Progress::Partial) => {
                if stream.read_buf(&mut bytes).await? == 0 {
                    return Ok(());
                }
                continue;
            }
            Err(_) => return stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await,
        }
        describe(&head, &bytes, own, &mut answer);
        bytes.drain(..head.head_len);
        if head.expect_continue {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        read_body(&mut stream, &mut bytes, head.body).await?;
        let body = if head.method == ringway_proto::Method::Head { "" } else { answer.as_str() };
        let length = answer.len();
        let text =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(text.as_bytes()).await?;
        if !head.keep_alive {
            return Ok(());
        }
    }
}

/// Reads the body to its end; what follows it stays in `bytes`.
async fn read_body(stream: &mut TcpStream, bytes: &mut Vec<u8>, body: Body) -> io::Result<()> {
    let (mut left, mut chunked) = match body {
        Body::None | Body::UntilClose => return Ok(()),
        Body::Length(length) => (length, None),
        Body::Chunked => (0, Some(ChunkedDecoder::new())),
    };
    loop {
        let is_over = match &mut chunked {
            None => {
                let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                bytes.drain(..taken);
                left -= taken as u64;
                left == 0
            }
            Some(decoder) => loop {
                let (used, step) = decoder.step(bytes).map_err(|_| io::ErrorKind::InvalidData)?;
                bytes.drain(..used);
                match step {
                    Step::Data(_) => {}
                    Step::NeedMore => break false,
                    Step::End => break true,
                }
            },
        };
        if is_over {
            return Ok(());
        }
        if stream.read_buf(bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The request as JSON.
fn describe(head: &RequestHead, bytes: &[u8], own: SocketAddr, out: &mut String) {
    out.clear();
    // Writing to a String cannot fail.
    let _ = write!(out, "{{\"origin\":\"{own}\",\"method\":");
    json_text(out, head.method_span.of(bytes));
    out.push_str(",\"target\":");
    json_text(out, head.target.whole.of(bytes));
    out.push_str(",\"headers\":{");
    for (index, field) in head.fields.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        json_text(out, field.name.of(bytes));
        out.push(':');
        json_text(out, field.value.of(bytes));
    }
    out.push_str("}}\n");
}

fn json_text(out: &mut String, bytes: &[u8]) {
    out.push('"');
    for char in String::from_utf8_lossy(bytes).chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", control as u32);
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(text: &str) -> String {
        let (mut head, mut out) = (RequestHead::new(), String::new());
        assert_eq!(head.parse(text.as_bytes(), &LIMITS), Ok(Progress::Complete));
        describe(&head, text.as_bytes(), "127.0.0.1:9101".parse().unwrap(), &mut out);
        out
    }

    #[test]
    fn an_origin_shows_what_it_saw() {
        let said = described("GET /a?b=\"c HTTP/1.1\r\nHost: x\r\nX-A: t\\\tb\r\n\r\n");
        let wanted = "{\"origin\":\"127.0.0.1:9101\",\"method\":\"GET\",\"target\":\"/a?b=\\\"c\",\
                      \"headers\":{\"Host\":\"x\",\"X-A\":\"t\\\\\\u0009b\"}}\n";
        assert_eq!(said, wanted);
    }

    #[test]
    fn bodies_are_read_past_and_the_next_request_is_answered() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let own = listener.local_addr().unwrap();
            tokio::spawn(async move { serve(listener.accept().await.unwrap().0, own).await });
            let mut client = TcpStream::connect(own).await.unwrap();
            let requests = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
                            POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
                            HEAD /3 HTTP/1.1\r\nHost: a\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            client.write_all(requests.as_bytes()).await.unwrap();
            let mut got = String::new();
            client.read_to_string(&mut got).await.unwrap();
            assert_eq!(got.matches("HTTP/1.1 200 OK").count(), 4, "{got}");
            let targets = ["/1", "/2", "/4"].map(|target| got.contains(&format!("\"target\":\"{target}\"")));
            assert_eq!((targets, got.contains("/3\"")), ([true; 3], false), "{got}");
        });
    }
}
