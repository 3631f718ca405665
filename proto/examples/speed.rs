//! Nanoseconds for one request head of ten fields, beside `httparse`, and for paths. Not a benchmark with statistics: the
//! best of many rounds, interleaved, to see at a glance whether a change made the parser slower.
//!
//!     cargo run --release -p ringway-proto --example speed

use std::hint::black_box;
use std::time::Instant;

use ringway_proto::{HeadLimits, NormalPath, RequestHead};

const HEAD: &[u8] = b"GET /api/v1/users/42/orders?limit=20&offset=40 HTTP/1.1\r\n\
Host: shop.example.com\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n\
Accept: application/json, text/plain, */*\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
Connection: keep-alive\r\n\
Cookie: session=6f2c1b0a9e8d7c6b5a4f3e2d1c0b9a88; theme=dark; consent=yes\r\n\
Referer: https://shop.example.com/account/orders\r\n\
X-Requested-With: XMLHttpRequest\r\n\
Sec-Fetch-Mode: cors\r\n\
\r\n";

const SMALL_HEAD: &[u8] = b"GET /hello HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

const ROUNDS: usize = 200;
const CALLS: u32 = 2_000;

fn main() {
    let (mut head, mut small_head) = (RequestHead::new(), RequestHead::new());
    let (mut plain, mut spelled, mut ambiguous) = (NormalPath::new(), NormalPath::new(), NormalPath::new());
    let mut best = [f64::MAX; 7];
    for _ in 0..ROUNDS {
        let rows: [&mut dyn FnMut(); 7] = [
            &mut || ours(&mut head, HEAD),
            &mut || theirs(HEAD),
            &mut || ours(&mut small_head, SMALL_HEAD),
            &mut || theirs(SMALL_HEAD),
            &mut || set(&mut plain, b"/api/v1/users/42/orders"),
            &mut || set(&mut spelled, b"/api/v1/%75sers/./42//orders"),
            &mut || set(&mut ambiguous, b"/api/v1/users;v=1/42%2Forders"),
        ];
        for (row, best) in rows.into_iter().zip(&mut best) {
            *best = best.min(time(row));
        }
    }
    let names = [
        "head of 10 fields",
        "  httparse",
        "head of 1 field",
        "  httparse",
        "plain path",
        "path to normalise",
        "ambiguous path",
    ];
    for (name, ns) in names.iter().zip(best) {
        println!("{name:<20} {ns:7.1} ns");
    }
}

fn time(call: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..CALLS {
        call();
    }
    start.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

fn ours(head: &mut RequestHead, buf: &[u8]) {
    let limits = HeadLimits { head_bytes_max: 32 * 1024, target_bytes_max: 8 * 1024, fields_max: 100 };
    let _ = black_box(head.parse(black_box(buf), &limits));
}

fn set(path: &mut NormalPath, raw: &[u8]) {
    let _ = black_box(path.set(black_box(raw)));
}

fn theirs(buf: &[u8]) {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut fields);
    let _ = black_box(request.parse(black_box(buf)));
}
