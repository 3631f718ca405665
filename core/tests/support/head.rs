//! A request head as the origin reads it, and the lint that a gateway's output must pass. Stricter than RFC 9112 asks.

/// In order, as spelled.
pub type Headers = Vec<(String, String)>;

/// One request as it arrived at the origin.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub version: String,
    pub headers: Headers,
    pub body: Vec<u8>,
    pub trailers: Headers,
    /// The whole body came.
    pub complete: bool,
    /// Which connection of the origin, from 0.
    pub connection: usize,
    /// Which request of that connection, from 0.
    pub nth: usize,
    pub raw_head: Vec<u8>,
}

impl Seen {
    pub fn all(&self, name: &str) -> Vec<&str> {
        all(&self.headers, name)
    }

    /// The only value of a field; `None` if it is absent. Twice is a fault.
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
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub fn all<'a>(headers: &'a Headers, name: &str) -> Vec<&'a str> {
    headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
}

/// The members of a comma list over all fields of that name, lower case.
pub fn members(headers: &Headers, name: &str) -> Vec<String> {
    all(headers, name).iter().flat_map(|v| v.split(',')).map(|m| m.trim().to_ascii_lowercase()).collect()
}

pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

/// `name: value` with OWS around the value taken off.
pub fn header_line(line: &[u8]) -> Result<(String, String), String> {
    let shown = || String::from_utf8_lossy(line).chars().take(60).collect::<String>();
    let colon = line.iter().position(|&b| b == b':').ok_or_else(|| format!("no colon in {:?}", shown()))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) {
        return Err(format!("field name in {:?}", shown()));
    }
    if value.iter().any(|&b| (b < b' ' && b != b'\t') || b == 0x7f) {
        return Err(format!("control byte in {:?}", shown()));
    }
    let latin1: String = value.iter().map(|&b| char::from(b)).collect();
    let latin1 = latin1.trim_matches([' ', '\t']);
    Ok((String::from_utf8_lossy(name).into_owned(), latin1.to_owned()))
}

/// Parses a head (without its empty line); what is wrong with it goes to the second part.
pub fn parse(raw: &[u8]) -> (Seen, Vec<String>) {
    let mut faults = Vec::new();
    let mut lines = Vec::new();
    for line in raw.split(|&b| b == b'\n') {
        let last = lines.len() == raw.iter().filter(|&&b| b == b'\n').count();
        let text = if last {
            line
        } else {
            line.strip_suffix(b"\r").unwrap_or_else(|| {
                faults.push("bare LF in the head".to_owned());
                line
            })
        };
        if text.contains(&b'\r') || text.contains(&0) {
            faults.push("bare CR or NUL in the head".to_owned());
        }
        lines.push(text);
    }
    let mut seen = Seen { raw_head: raw.to_vec(), ..Seen::default() };
    let words: Vec<&[u8]> = lines[0].split(|&b| b == b' ').collect();
    let start_ok = words.len() == 3
        && is_token(words[0])
        && !words[1].is_empty()
        && words[1].iter().all(|b| (b'!'..=b'~').contains(b))
        && (words[2] == b"HTTP/1.1" || words[2] == b"HTTP/1.0");
    if !start_ok {
        faults.push(format!("request line {:?}", String::from_utf8_lossy(lines[0])));
    }
    let word = |n: usize| words.get(n).map(|w| String::from_utf8_lossy(w).into_owned()).unwrap_or_default();
    (seen.method, seen.target, seen.version) = (word(0), word(1), word(2));
    for line in &lines[1..] {
        match header_line(line) {
            Ok(field) => seen.headers.push(field),
            Err(fault) => faults.push(fault),
        }
    }
    faults.extend(lint(&seen));
    (seen, faults)
}

/// What a forwarded head must never show.
fn lint(seen: &Seen) -> Vec<String> {
    let mut faults = Vec::new();
    lint_framing(seen, &mut faults);
    lint_hops(seen, &mut faults);
    let hosts = seen.all("host");
    if seen.version != "HTTP/1.1" {
        faults.push(format!("a gateway speaks its own version, got {}", seen.version));
    }
    if hosts.len() != 1 {
        faults.push(format!("{} Host fields", hosts.len()));
    }
    if hosts.iter().any(|h| h.bytes().any(|b| !b.is_ascii_graphic() || b"/@?#\\,".contains(&b))) {
        faults.push(format!("Host {hosts:?}"));
    }
    faults
}

fn lint_framing(seen: &Seen, faults: &mut Vec<String>) {
    let (lengths, codings) = (seen.all("content-length"), seen.all("transfer-encoding"));
    if !lengths.is_empty() && !codings.is_empty() {
        faults.push("Content-Length and Transfer-Encoding".to_owned());
    }
    let digits = |v: &&str| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit());
    if lengths.len() > 1 || !lengths.iter().all(digits) {
        faults.push(format!("Content-Length {lengths:?}"));
    }
    if codings.len() > 1 || !codings.iter().all(|c| c.eq_ignore_ascii_case("chunked")) {
        faults.push(format!("Transfer-Encoding {codings:?}"));
    }
    for (name, _) in &seen.headers {
        let letters: String = name.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).collect();
        let plain = name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding");
        if (letters == "contentlength" || letters == "transferencoding") && !plain {
            faults.push(format!("look-alike {name:?}"));
        }
    }
}

fn lint_hops(seen: &Seen, faults: &mut Vec<String>) {
    let options = members(&seen.headers, "connection");
    let allowed = |o: &String| match o.as_str() {
        "close" | "keep-alive" => true,
        "upgrade" => seen.has("upgrade"),
        "te" => seen.has("te"),
        _ => false,
    };
    if !options.iter().all(allowed) {
        faults.push(format!("Connection {options:?}"));
    }
    for name in ["keep-alive", "proxy-connection", "http2-settings"] {
        if seen.has(name) {
            faults.push(format!("hop-by-hop {name}"));
        }
    }
    if seen.has("upgrade") && !options.iter().any(|o| o == "upgrade") {
        faults.push("Upgrade without Connection: upgrade".to_owned());
    }
    if members(&seen.headers, "upgrade").iter().any(|u| u.contains("h2c")) {
        faults.push("Upgrade: h2c".to_owned());
    }
    if members(&seen.headers, "te").iter().any(|t| t != "trailers") {
        faults.push(format!("TE {:?}", seen.all("te")));
    }
}
