//! A server that filters ask before they say: by the control thread on a core's errand, so many questions at once at most
//! over all cores, each within its deadline. Makes no question and judges no answer.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Client;
use reqwest::header::HeaderValue;
use ringway_config::Fault;
use ringway_config::snapshot::{ControlUrl, FilterConfig};

use super::Building;
use super::auth::in_time;
use crate::fetch::{self, Answer, Question};
use crate::mesh::{Call, Calls, Places};
use crate::net::Net;

/// Nobody waits longer for a request to begin.
const DEADLINE_MAX: Duration = Duration::from_secs(60);
/// Questions that are open at one server.
const CONCURRENT_MAX: u32 = 4096;

/// What a filter's table says of its server.
pub(super) struct Said<'t> {
    /// That of `url`.
    pub(super) key: &'static str,
    pub(super) url: &'t ControlUrl,
    pub(super) insecure: bool,
    pub(super) ca_file: Option<&'t str>,
    pub(super) deadline: Duration,
    pub(super) concurrent_max: u32,
    pub(super) answer_bytes_max: usize,
}

pub(super) struct Server {
    /// `None`: it cannot be asked, and the operator knows why.
    client: Option<Client>,
    open: Arc<Places>,
    deadline: Duration,
    concurrent_max: u32,
    answer_bytes_max: usize,
}

impl Server {
    /// # Errors
    /// What is wrong with the table.
    pub(super) fn build(said: Said<'_>, config: &FilterConfig, building: &mut Building<'_>) -> Result<Server, Fault> {
        let Said { key, url, insecure, ca_file, deadline, concurrent_max, answer_bytes_max } = said;
        let wrong = |key: &str, why: String| Fault::new(why).at(format!("{}.{key}", config.place));
        if !url.encrypted && !insecure {
            let fault = wrong(key, "is not encrypted: whoever is on the way could let anybody in".to_owned());
            return Err(fault.cure("use https, or say insecure = true"));
        }
        fetch::allowed(&url.text).map_err(|why| wrong(key, why).cure("name another address"))?;
        if deadline < Duration::from_millis(1) || deadline > DEADLINE_MAX {
            return Err(wrong("deadline", format!("use 1ms to {}s", DEADLINE_MAX.as_secs())));
        }
        if !(1..=CONCURRENT_MAX).contains(&concurrent_max) {
            return Err(wrong("concurrent_max", format!("use 1 to {CONCURRENT_MAX}")));
        }
        let client = fetch::client(ca_file.map(Path::new), deadline);
        let client = client.map_err(|why| building.unbuilt.push(wrong("ca_file", why))).ok();
        let open = building.node.get("server", &url.text, Places::default);
        Ok(Server { client, open, deadline, concurrent_max, answer_bytes_max })
    }

    /// Nobody asks it, for a reason that the operator knows.
    pub(super) fn close(&mut self) {
        self.client = None;
    }

    /// Begins to ask; the answer, or why there is none, for the log.
    pub(super) fn ask(
        &self,
        calls: &Rc<Calls>,
        net: &Rc<Net>,
        question: Question,
    ) -> Result<impl Future<Output = Result<Answer, String>> + 'static, &'static str> {
        let call = self.errand(calls, move |asking| async move { asking.ask(question).await })?;
        let time = net.sleep(self.deadline);
        Ok(async move {
            match in_time(call, time).await {
                Some(Some(answer)) => answer,
                Some(None) => Err("nobody asked it".to_owned()),
                None => Err("it does not answer in time".to_owned()),
            }
        })
    }

    /// Has the control thread do `work`, which asks as often as it needs to; each question within the deadline.
    pub(super) fn errand<T, F>(
        &self,
        calls: &Rc<Calls>,
        work: impl FnOnce(Asking) -> F + Send + 'static,
    ) -> Result<Call<T>, &'static str>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let client = self.client.clone().ok_or("the server cannot be asked, as `ringway check` says")?;
        let place = self.open.take(self.concurrent_max).ok_or("too many questions are open at the server")?;
        let asking = Asking { client, answer_bytes_max: self.answer_bytes_max };
        let call = calls.errand(move || async move {
            // Given back when the work is over, also if the one who asked has gone.
            let _place = place;
            work(asking).await
        });
        call.map_err(|_| "the control thread has too much to ask")
    }
}

/// Asks, on the control thread.
pub(super) struct Asking {
    client: Client,
    answer_bytes_max: usize,
}

impl Asking {
    /// # Errors
    /// Why there is no answer, for the log.
    pub(super) async fn ask(&self, question: Question) -> Result<Answer, String> {
        fetch::ask(&self.client, question, self.answer_bytes_max).await
    }
}

/// RFC 6749 section 2.3.1: both are encoded as in a form first.
pub(super) fn basic(id: &str, secret: &[u8]) -> HeaderValue {
    let pair = format!("{}:{}", form_encoded(id.as_bytes()), form_encoded(secret));
    let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)));
    let mut value = value.expect("base64 can stand in a field");
    value.set_sensitive(true);
    value
}

pub(super) fn form_encoded(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(*byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_form_ends_nothing() {
        assert_eq!(form_encoded("a&b=c+d e\u{e9}%~-._".as_bytes()), "a%26b%3Dc%2Bd%20e%C3%A9%25~-._");
        assert_eq!(basic("a:b", b"c d").to_str().unwrap(), format!("Basic {}", STANDARD.encode("a%3Ab:c%20d")));
    }
}
