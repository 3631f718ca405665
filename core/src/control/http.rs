//! As much of an HTTP/1.1 server as telemetry and the control socket need: one small request per connection, bounded
//! in bytes, time and number. Not the gateway's; knows no paths.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use ringway_proto::{Body, HeadLimits, Method, Progress, RequestHead, reason};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::timeout;

const HEAD_BYTES_MAX: usize = 8 * 1024;
const FIELDS_MAX: usize = 64;
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// A whole page of metrics to a slow reader.
const SEND_TIME_MAX: Duration = Duration::from_secs(10);
/// After the answer, what the client still sends is read so that closing does not reset the connection before the
/// client has read the answer (RFC 9112 9.6).
const LINGER_TIME_MAX: Duration = Duration::from_millis(500);
const LINGER_BYTES_MAX: usize = 512 * 1024;
/// Connections of one listener; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;
/// How long nothing is accepted after descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";

pub struct Request {
    pub method: Method,
    /// As it was sent, without the query.
    pub path: String,
    /// Without the `?`; empty if there is none.
    pub query: String,
}

pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    /// The methods that the path has, where the request's is not one of them.
    pub allow: &'static str,
    pub body: String,
}

impl Answer {
    pub fn text(status: u16, body: impl Into<String>) -> Answer {
        Answer { status, content_type: TEXT, allow: "", body: body.into() }
    }

    pub fn not_allowed(allow: &'static str) -> Answer {
        Answer { allow, ..Answer::text(405, format!("This path takes {allow}.\n")) }
    }
}

/// Where connections come from.
pub trait Accept {
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    fn accept_one(&self) -> impl Future<Output = std::io::Result<Self::Stream>>;
}

impl Accept for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn accept_one(&self) -> std::io::Result<Self::Stream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Accept for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn accept_one(&self) -> std::io::Result<Self::Stream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Serves for ever.
pub async fn serve<L: Accept, F>(listener: L, answer: Rc<dyn Fn(Request) -> F>)
where
    F: Future<Output = Answer> + 'static,
{
    let slots = std::sync::Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept_one().await {
            Ok(stream) => {
                let answer = answer.clone();
                tokio::task::spawn_local(async move {
                    let _slot = slot;
                    converse(stream, &*answer).await;
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin, F: Future<Output = Answer>>(
    mut stream: S,
    answer: &dyn Fn(Request) -> F,
) {
    let (bytes, with_body) = match timeout(HEAD_TIME_MAX, read_head(&mut stream)).await {
        Ok(Some(Ok(request))) => {
            let with_body = request.method != Method::Head;
            (render(&answer(request).await, with_body), with_body)
        }
        Ok(Some(Err(refusal))) => (render(&refusal, true), true),
        // Too slow, or gone.
        Ok(None) | Err(_) => return,
    };
    debug_assert!(with_body || bytes.ends_with(b"\r\n\r\n"));
    let send = async {
        stream.write_all(&bytes).await?;
        stream.shutdown().await
    };
    if let Ok(Ok(())) = timeout(SEND_TIME_MAX, send).await {
        let _ = timeout(LINGER_TIME_MAX, read_out(&mut stream)).await;
    }
}

/// `None`: the client went away first.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<Result<Request, Answer>> {
    let limits =
        HeadLimits { head_bytes_max: HEAD_BYTES_MAX, target_bytes_max: HEAD_BYTES_MAX, fields_max: FIELDS_MAX };
    let mut head = RequestHead::new();
    let mut bytes = Vec::with_capacity(1024);
    loop {
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
        match head.parse(&bytes, &limits) {
            Ok(Progress::Partial) => {}
            Ok(Progress::Complete) => break,
            Err(error) => return Some(Err(Answer::text(error.status(), format!("{error}\n")))),
        }
    }
    if !matches!(head.body, Body::None | Body::Length(0)) && head.method == Method::Get {
        return Some(Err(Answer::text(400, "A GET here has no body.\n")));
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let query = head.target.query.map_or(String::new(), |query| text(query.of(&bytes)));
    Some(Ok(Request { method: head.method, path: text(head.target.path.of(&bytes)), query }))
}

fn render(answer: &Answer, with_body: bool) -> Vec<u8> {
    let Answer { status, content_type, allow, body } = answer;
    let allow = if allow.is_empty() { String::new() } else { format!("Allow: {allow}\r\n") };
    let head = format!(
        "HTTP/1.1 {status} {}\r\nDate: {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{allow}\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        reason(*status),
        httpdate::fmt_http_date(SystemTime::now()),
        body.len(),
    );
    let mut bytes = head.into_bytes();
    if with_body {
        bytes.extend_from_slice(body.as_bytes());
    }
    bytes
}

async fn read_out(stream: &mut (impl AsyncRead + Unpin)) {
    let mut bytes = [0; 4096];
    let mut left = LINGER_BYTES_MAX;
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        left = left.saturating_sub(count);
        if left == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    async fn ask(request: &str) -> String {
        let (mut client, server) = duplex(64 * 1024);
        let answer = |request: Request| async move {
            Answer::text(200, format!("{:?} {} {}", request.method, request.path, request.query))
        };
        client.write_all(request.as_bytes()).await.unwrap();
        let mut got = String::new();
        let (_, read) = tokio::join!(converse(server, &answer), client.read_to_string(&mut got));
        read.unwrap();
        got
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn one_request_one_answer() {
        let got = ask("GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && got.ends_with("\r\n\r\nGet /metrics x=1"), "{got}");
        assert!(got.contains("\r\nContent-Length: 16\r\n") && got.contains("\r\nConnection: close\r\n"), "{got}");
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_head_request_gets_the_length_without_the_body() {
        let got = ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(got.contains("\r\nContent-Length: 7\r\n") && got.ends_with("\r\n\r\n"), "{got}");
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn what_is_no_request_is_refused() {
        assert!(ask("GET / HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
        assert!(ask(&format!("GET /{} HTTP/1.1\r\n", "x".repeat(9000))).await.starts_with("HTTP/1.1 4"));
        assert!(ask("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").await.starts_with("HTTP/1.1 400 "));
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_silent_client_is_dropped_in_time() {
        let (mut client, server) = duplex(64);
        let answer = |_: Request| async { Answer::text(200, "") };
        client.write_all(b"GET / HT").await.unwrap();
        let begun = tokio::time::Instant::now();
        converse(server, &answer).await;
        assert_eq!(begun.elapsed(), HEAD_TIME_MAX);
    }
}
