//! The head parsers beside httparse, which does less: it neither checks fields against each other nor frames the body.

use std::hint::black_box;

use ringway_perf::micro::Micro;
use ringway_proto::{HeadLimits, Method, NormalPath, Progress, RequestHead, ResponseHead};

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 32 * 1024, target_bytes_max: 8 * 1024, fields_max: 100 };
const FIELDS_MAX: usize = 64;

/// What the load sends.
const SMALL_REQUEST: &[u8] = b"GET /b100 HTTP/1.1\r\nHost: 127.0.0.1:24100\r\n\r\n";

/// What a browser sends.
const BROWSER_REQUEST: &[u8] = b"GET /api/v1/users/123456?fields=name,mail&page=2 HTTP/1.1\r\n\
Host: www.example.com\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
Accept-Language: en-US,en;q=0.5\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Referer: https://www.example.com/users?page=1\r\n\
Connection: keep-alive\r\n\
Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes\r\n\
Upgrade-Insecure-Requests: 1\r\n\
Sec-Fetch-Dest: document\r\n\
Sec-Fetch-Mode: navigate\r\n\
Sec-Fetch-Site: same-origin\r\n\
Priority: u=0, i\r\n\r\n";

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\
Date: Mon, 23 Nov 2026 22:40:45 GMT\r\n\
Content-Type: application/json; charset=utf-8\r\n\
Content-Length: 512\r\n\
Cache-Control: private, max-age=0\r\n\
Vary: Accept-Encoding\r\n\
ETag: \"5f2d0c6a-200\"\r\n\
Connection: keep-alive\r\n\r\n";

fn main() {
    let micro = Micro::from_args();
    for (name, bytes) in [("small", SMALL_REQUEST), ("browser", BROWSER_REQUEST)] {
        let mut head = RequestHead::new();
        micro.time(&format!("request/{name}/ringway"), || {
            let progress = head.parse(black_box(bytes), &LIMITS);
            assert_eq!(progress, Ok(Progress::Complete));
        });
        micro.time(&format!("request/{name}/httparse"), || {
            let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
            let mut request = httparse::Request::new(&mut fields);
            assert_eq!(request.parse(black_box(bytes)), Ok(httparse::Status::Complete(bytes.len())));
        });
    }
    let mut head = ResponseHead::new();
    micro.time("answer/ringway", || {
        let progress = head.parse(black_box(ANSWER), &LIMITS, Method::Get);
        assert_eq!(progress, Ok(Progress::Complete));
    });
    micro.time("answer/httparse", || {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut answer = httparse::Response::new(&mut fields);
        assert_eq!(answer.parse(black_box(ANSWER)), Ok(httparse::Status::Complete(ANSWER.len())));
    });
    let mut path = NormalPath::new();
    for (name, raw) in [("plain", &b"/api/v1/users/123456"[..]), ("encoded", b"/api/v1/%75sers/./x/../12%2034")] {
        micro.time(&format!("path/{name}"), || path.set(black_box(raw)).is_ok());
    }
}
