//! As much HTTP/1.1 as a fixed origin and a checking load need: where requests and answers end. Not a parser to learn
//! from: it trusts its peers' syntax, since the gateway's own strictness is tested elsewhere.

use memchr::{memchr, memmem};

const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// What the origin has to know about one complete request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub answer: Answer,
    pub close: bool,
}

/// The origin's fixed answers, by path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    B100,
    B1k,
    B10k,
    B100k,
    Uploaded,
    NotFound,
}

impl Answer {
    pub const ALL: [Self; 6] = [Self::B100, Self::B1k, Self::B10k, Self::B100k, Self::Uploaded, Self::NotFound];

    pub fn of_path(path: &[u8]) -> Self {
        match path {
            b"/b100" => Self::B100,
            b"/b1k" => Self::B1k,
            b"/b10k" => Self::B10k,
            b"/b100k" => Self::B100k,
            b"/upload" => Self::Uploaded,
            _ => Self::NotFound,
        }
    }

    pub fn body_bytes(self) -> usize {
        match self {
            Self::B100 => 100,
            Self::B1k => 1024,
            Self::B10k => 10 * 1024,
            Self::B100k => 100 * 1024,
            Self::Uploaded => 2,
            Self::NotFound => 0,
        }
    }

    /// Head and body, ready to send.
    pub fn bytes(self, close: bool) -> Vec<u8> {
        let status = if self == Self::NotFound { "404 Not Found" } else { "200 OK" };
        let close = if close { "Connection: close\r\n" } else { "" };
        let length = self.body_bytes();
        let mut bytes =
            format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n{close}\r\n")
                .into_bytes();
        bytes.resize(bytes.len() + length, b'x');
        bytes
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("a head of more than {HEAD_BYTES_MAX} bytes")]
    HeadTooLong,
    #[error("a request line that is none")]
    RequestLine,
    #[error("a length or chunk size that is none")]
    Length,
    #[error("an answer of status {0}")]
    Status(u16),
    #[error("an answer of {got} body bytes instead of {expected}")]
    BodyLength { expected: u64, got: u64 },
    #[error("bytes after the end of an answer")]
    Surplus,
}

/// Finds the requests in what one connection sends.
#[derive(Debug, Default)]
pub struct RequestScan {
    held: Vec<u8>,
    body: Body,
    request: Option<Request>,
}

#[derive(Debug, Default)]
enum Body {
    #[default]
    None,
    Length(u64),
    Chunked(Chunks),
}

impl RequestScan {
    pub fn feed(&mut self, mut bytes: &[u8], mut complete: impl FnMut(Request)) -> Result<(), Broken> {
        loop {
            match &mut self.body {
                Body::None => {}
                Body::Length(left) => {
                    let taken = (*left).min(bytes.len() as u64);
                    *left -= taken;
                    bytes = &bytes[taken as usize..];
                    if *left > 0 {
                        return Ok(());
                    }
                }
                Body::Chunked(chunks) => match chunks.feed(bytes)? {
                    Some(rest) => bytes = rest,
                    None => return Ok(()),
                },
            }
            self.body = Body::None;
            if let Some(request) = self.request.take() {
                complete(request);
            }
            if bytes.is_empty() {
                return Ok(());
            }
            let Some(rest) = self.head(bytes)? else { return Ok(()) };
            bytes = rest;
        }
    }

    /// Reads a head and sets `request` and `body`; what follows it, or `None` if it is not all there.
    fn head<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Broken> {
        let (head, rest) = if self.held.is_empty() {
            match find_head_end(bytes) {
                Some(end) => bytes.split_at(end),
                None => {
                    self.held.extend_from_slice(bytes);
                    return Ok(None);
                }
            }
        } else {
            let before = self.held.len();
            self.held.extend_from_slice(bytes);
            match find_head_end(&self.held) {
                // The head's end lies in the new bytes: it was not in the old ones.
                Some(end) => (&self.held[..end], &bytes[end - before..]),
                None if self.held.len() > HEAD_BYTES_MAX => return Err(Broken::HeadTooLong),
                None => return Ok(None),
            }
        };
        let (request, body) = read_request(head)?;
        self.request = Some(request);
        self.body = body;
        self.held.clear();
        Ok(Some(rest))
    }
}

fn find_head_end(bytes: &[u8]) -> Option<usize> {
    // Nearly always the buffer is exactly one head, but a pipelined one may end the same way.
    memmem::find(bytes, HEAD_END).map(|at| at + HEAD_END.len())
}

fn read_request(head: &[u8]) -> Result<(Request, Body), Broken> {
    let mut lines = Lines(head);
    let line = lines.next().ok_or(Broken::RequestLine)?;
    let mut words = line.split(|&byte| byte == b' ');
    let (_method, target) = (words.next(), words.next().ok_or(Broken::RequestLine)?);
    let mut request = Request { answer: Answer::of_path(target), close: false };
    let mut body = Body::None;
    for line in lines {
        match field(line) {
            Some((Field::ContentLength, value)) => body = Body::Length(decimal(value)?),
            Some((Field::TransferEncoding, _)) => body = Body::Chunked(Chunks::default()),
            Some((Field::Connection, value)) => request.close = value.eq_ignore_ascii_case(b"close"),
            None => {}
        }
    }
    Ok((request, body))
}

/// Checks the answers of one connection: status 200, the expected body length, nothing more.
#[derive(Debug)]
pub struct AnswerScan {
    expected: u64,
    held: Vec<u8>,
    left: Option<u64>,
}

impl AnswerScan {
    pub fn new(body_bytes: usize) -> Self {
        Self { expected: body_bytes as u64, held: Vec::new(), left: None }
    }

    /// True once an answer is complete with these bytes; the next call then begins a new one.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<bool, Broken> {
        let mut body_bytes = bytes.len() as u64;
        let left = match self.left {
            Some(left) => left,
            None => {
                let before = self.held.len();
                let head_bytes = if before == 0 {
                    find_head_end(bytes).map(|end| (end, check_head(&bytes[..end], self.expected)))
                } else {
                    self.held.extend_from_slice(bytes);
                    let held = &self.held;
                    find_head_end(held).map(|end| (end - before, check_head(&held[..end], self.expected)))
                };
                match head_bytes {
                    Some((end, checked)) => {
                        checked?;
                        self.held.clear();
                        body_bytes -= end as u64;
                        self.expected
                    }
                    None if before + bytes.len() > HEAD_BYTES_MAX => return Err(Broken::HeadTooLong),
                    None => {
                        if before == 0 {
                            self.held.extend_from_slice(bytes);
                        }
                        return Ok(false);
                    }
                }
            }
        };
        let left = left.checked_sub(body_bytes).ok_or(Broken::Surplus)?;
        self.left = (left > 0).then_some(left);
        Ok(left == 0)
    }
}

fn check_head(head: &[u8], expected: u64) -> Result<(), Broken> {
    let mut lines = Lines(head);
    let line = lines.next().unwrap_or_default();
    let status = line.get(9..12).and_then(|digits| decimal(digits).ok()).unwrap_or(0) as u16;
    if status != 200 {
        return Err(Broken::Status(status));
    }
    for line in lines {
        if let Some((Field::ContentLength, value)) = field(line) {
            let got = decimal(value)?;
            return if got == expected { Ok(()) } else { Err(Broken::BodyLength { expected, got }) };
        }
    }
    Err(Broken::Length)
}

/// Lines of a head without their ends.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = memchr(b'\n', self.0)?;
        let line = self.0[..end].strip_suffix(b"\r").unwrap_or(&self.0[..end]);
        self.0 = &self.0[end + 1..];
        Some(line)
    }
}

enum Field {
    ContentLength,
    TransferEncoding,
    Connection,
}

fn field(line: &[u8]) -> Option<(Field, &[u8])> {
    // The first byte and the colon's place decide without comparing the names that do not matter.
    let (field, name): (Field, &[u8]) = match (line.first()?, line.get(10), line.get(14), line.get(17)) {
        (b'c' | b'C', _, Some(b':'), _) => (Field::ContentLength, b"content-length"),
        (b'c' | b'C', Some(b':'), _, _) => (Field::Connection, b"connection"),
        (b't' | b'T', _, _, Some(b':')) => (Field::TransferEncoding, b"transfer-encoding"),
        _ => return None,
    };
    let (start, value) = line.split_at(name.len());
    start.eq_ignore_ascii_case(name).then(|| (field, value[1..].trim_ascii()))
}

fn decimal(digits: &[u8]) -> Result<u64, Broken> {
    std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or(Broken::Length)
}

/// A chunked body, skipped.
#[derive(Debug, Default)]
struct Chunks {
    at: ChunkPart,
    size: u64,
    digits: u32,
    line_bytes: u64,
}

#[derive(Debug, Default)]
enum ChunkPart {
    #[default]
    Size,
    SizeEnd,
    Bytes,
    BytesEnd,
    Trailer,
}

impl Chunks {
    const DIGITS_MAX: u32 = 15;

    /// What follows the body, or `None` if it is not at its end.
    fn feed<'a>(&mut self, mut bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Broken> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.at {
                ChunkPart::Size => match (byte as char).to_digit(16) {
                    Some(digit) if self.digits < Self::DIGITS_MAX => {
                        self.size = self.size * 16 + u64::from(digit);
                        self.digits += 1;
                    }
                    None if self.digits > 0 => {
                        self.at = ChunkPart::SizeEnd;
                        continue;
                    }
                    _ => return Err(Broken::Length),
                },
                ChunkPart::SizeEnd if byte == b'\n' && self.size == 0 => self.at = ChunkPart::Trailer,
                ChunkPart::SizeEnd if byte == b'\n' => self.at = ChunkPart::Bytes,
                ChunkPart::SizeEnd => {}
                ChunkPart::Bytes => {
                    let taken = self.size.min(bytes.len() as u64);
                    self.size -= taken;
                    bytes = &bytes[taken as usize..];
                    if self.size == 0 {
                        self.at = ChunkPart::BytesEnd;
                    }
                    continue;
                }
                ChunkPart::BytesEnd if byte == b'\n' => *self = Self::default(),
                ChunkPart::BytesEnd => {}
                ChunkPart::Trailer if byte == b'\n' && self.line_bytes == 0 => return Ok(Some(rest)),
                ChunkPart::Trailer if byte == b'\n' => self.line_bytes = 0,
                ChunkPart::Trailer => self.line_bytes += u64::from(byte != b'\r'),
            }
            bytes = rest;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way to cut the bytes in two gives the same requests.
    fn requests(bytes: &[u8]) -> Vec<Request> {
        let whole = feed(&[bytes]);
        for cut in 0..bytes.len() {
            assert_eq!(feed(&[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
        }
        whole
    }

    fn feed(parts: &[&[u8]]) -> Vec<Request> {
        let (mut scan, mut found) = (RequestScan::default(), Vec::new());
        for part in parts {
            scan.feed(part, |request| found.push(request)).expect("well formed");
        }
        found
    }

    #[test]
    fn pipelined_requests_are_each_found() {
        let found = requests(b"GET /b100 HTTP/1.1\r\nHost: a\r\n\r\nGET /b10k HTTP/1.1\r\nConnection: Close\r\n\r\n");
        let b100 = Request { answer: Answer::B100, close: false };
        let b10k = Request { answer: Answer::B10k, close: true };
        assert_eq!(found, [b100, b10k]);
    }

    #[test]
    fn a_body_ends_where_its_length_says() {
        let found = requests(b"POST /upload HTTP/1.1\r\ncontent-length: 5\r\n\r\nGET /GET /b1k HTTP/1.1\r\n\r\n");
        assert_eq!(found.iter().map(|request| request.answer).collect::<Vec<_>>(), [Answer::Uploaded, Answer::B1k]);
    }

    #[test]
    fn a_chunked_body_ends_after_its_trailers() {
        let found = requests(
            b"POST /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\nT: 1\r\n\r\n\
              GET /b100k HTTP/1.1\r\n\r\n",
        );
        assert_eq!(found.iter().map(|request| request.answer).collect::<Vec<_>>(), [Answer::Uploaded, Answer::B100k]);
    }

    #[test]
    fn a_bad_chunk_size_is_refused() {
        let mut scan = RequestScan::default();
        let result = scan.feed(b"POST /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", |_| {});
        assert_eq!(result, Err(Broken::Length));
    }

    #[test]
    fn the_origins_answers_pass_the_loads_check_at_every_cut() {
        for answer in Answer::ALL.into_iter().filter(|&answer| answer != Answer::NotFound) {
            let bytes = answer.bytes(false);
            for cut in (0..bytes.len()).take(200) {
                let mut scan = AnswerScan::new(answer.body_bytes());
                let first = scan.feed(&bytes[..cut]).expect("a good answer");
                assert!(!first, "{answer:?} cut at {cut} is not complete");
                assert_eq!(scan.feed(&bytes[cut..]), Ok(true), "{answer:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_wrong_status_length_or_surplus_is_an_error() {
        let not_found = Answer::NotFound.bytes(false);
        assert_eq!(AnswerScan::new(100).feed(&not_found), Err(Broken::Status(404)));
        let b1k = Answer::B1k.bytes(false);
        assert_eq!(AnswerScan::new(100).feed(&b1k), Err(Broken::BodyLength { expected: 100, got: 1024 }));
        let mut longer = Answer::B100.bytes(false);
        longer.push(b'x');
        assert_eq!(AnswerScan::new(100).feed(&longer), Err(Broken::Surplus));
    }
}
