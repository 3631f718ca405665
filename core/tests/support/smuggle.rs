//! The judge of smuggling cases: what a client wrote, what the origin read, and whether the next client got its own answer.

use std::sync::{Arc, Mutex};

use super::{Client, Closed, Ending, Gateway, Origin, Response, ms};

/// What may become of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    /// Refused (or closed), and nothing complete at the origin.
    Refuse,
    /// Refused, or one clean request.
    Either,
    /// One clean request, answered.
    Forward,
}

pub use May::{Either, Forward, Refuse};

/// 41 bytes: a request that must never come out.
pub const INNER: &str = "GET /smuggled HTTP/1.1\r\nHost: gw.test\r\n\r\n";

pub struct Bench {
    pub origin: Origin,
    pub gateway: Gateway,
    clean: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    pub fn new() -> Self {
        let clean = Arc::new(Mutex::new(Vec::new()));
        let targets = Arc::clone(&clean);
        let origin = Origin::start(move |x| {
            x.body()?;
            targets.lock().expect("targets").push(x.target().to_owned());
            let body = format!("path={}", x.target());
            x.ok(body)
        });
        let toml = format!(
            "[listeners.main]\nheader_timeout = \"400ms\"\nbody_timeout = \"400ms\"\n\n{}",
            super::proxy_to(&origin)
        );
        Self { gateway: Gateway::start(&toml), origin: origin.without_lint(), clean }
    }

    /// Complete requests at the origin since the last call.
    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut self.clean.lock().expect("targets"))
    }

    /// What is wrong with how this case went; empty if nothing.
    fn judge(&self, may: May, raw: &[u8]) -> Vec<String> {
        let mut faults = Vec::new();
        let known = self.origin.faults().len();
        let mut client = self.gateway.client().patience(ms(3000));
        client.try_send(raw).ok();
        let got = client.try_response("GET");
        let refused = match &got {
            Ok(r) => (400..500).contains(&r.status) || [501, 505].contains(&r.status),
            Err(Ending::Eof | Ending::Reset) => true,
            Err(other) => {
                faults.push(format!("no answer: {other:?}"));
                false
            }
        };
        let answered = got.as_ref().is_ok_and(|r| r.status == 200 && r.cut.is_none());
        if may == Refuse && !refused || may == Forward && !answered || may == Either && !refused && !answered {
            faults.push(format!("may {may:?}, got {:?}", brief(&got)));
        }
        if may == Refuse && got.is_ok() {
            match client.closed_within(ms(1500)) {
                Closed::Eof | Closed::Reset => {}
                other => faults.push(format!("after a refusal the connection is {other:?}")),
            }
        }
        drop(client);
        self.canary(&mut faults);
        let taken = self.taken();
        let inner = taken.iter().filter(|t| !t.starts_with("/canary")).collect::<Vec<_>>();
        if inner.len() > usize::from(may != Refuse) || inner.iter().any(|t| t.contains("smuggled")) {
            faults.push(format!("the origin served {inner:?}"));
        }
        faults.extend(self.origin.faults().into_iter().skip(known));
        faults
    }

    /// The next client gets its own answer.
    fn canary(&self, faults: &mut Vec<String>) {
        let mut client = Client::to(self.gateway.addr());
        client.send("GET /canary HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n");
        match client.try_response("GET") {
            Ok(r) if r.text() == "path=/canary" => {}
            other => faults.push(format!("the canary got {:?}", brief(&other))),
        }
    }
}

fn brief(got: &Result<Response, Ending>) -> String {
    match got {
        Ok(r) => format!("{} {:?}", r.status, r.text().chars().take(60).collect::<String>()),
        Err(e) => format!("{e:?}"),
    }
}

/// Each character is one byte (Latin-1), so that a case can hold any.
pub fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("a byte")).collect()
}

#[track_caller]
pub fn all(cases: &[(May, String)]) {
    let bench = Bench::new();
    let mut report = Vec::new();
    for (may, raw) in cases {
        let faults = bench.judge(*may, &bytes(raw));
        if !faults.is_empty() {
            let shown: String = format!("{raw:?}").chars().take(160).collect();
            report.push(format!("{shown}\n    {}", faults.join("; ")));
        }
    }
    assert!(report.is_empty(), "{} of {} cases:\n{}", report.len(), cases.len(), report.join("\n"));
}

/// `POST` with these header lines and this rest.
pub fn post(lines: &str, rest: &str) -> String {
    format!("POST /c HTTP/1.1\r\nHost: gw.test\r\n{lines}\r\n{rest}")
}

pub fn chunked(rest: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", rest)
}
