//! `fault`: fails or delays a share of the requests on purpose, to see what clients make of it.
//!
//! ```toml
//! filters = [{ fault = { abort = { status = 503, percent = 10 }, delay = { time = "200ms", percent = 5 } } }]
//! filters = [{ fault = { abort = { status = 500 }, header = "x-fault" } }]   # all requests that have this header
//! ```
//! `percent` is a whole number or one like "0.1%"; unset it is 100. Which requests are hit is drawn for each on its own core.
//! Both are drawn for themselves: a request may be held first and then fail. Aborted ones have the flag `FI`, delayed ones
//! `DI` unless something else goes wrong with them later. The time they are held counts neither for `total_timeout` nor
//! as the gateway's overhead.

use std::time::Duration;

use ringway_config::Fault as Mistake;
use ringway_config::http::HeaderName;
use ringway_config::snapshot::FilterConfig;
use ringway_config::units::{DurationText, Percent, duration_text};
use serde::Deserialize;

use super::state::Chance;
use super::{Filter, RequestEdit, Then, Verdict, Waiting};
use crate::exchange::Refusal;
use crate::observe::Flag;

/// A longer delay would only hold connections.
const DELAY_MAX: Duration = Duration::from_secs(600);
const STATUS_MIN: u16 = 400;
const STATUS_MAX: u16 = 599;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    abort: Option<Abort>,
    delay: Option<Delay>,
    header: Option<HeaderName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Abort {
    status: u16,
    #[serde(default = "all")]
    percent: Percent,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delay {
    time: DurationText,
    #[serde(default = "all")]
    percent: Percent,
}

fn all() -> Percent {
    Percent { hundredths: 10_000 }
}

pub(super) struct Fault {
    abort: Option<(u16, Chance)>,
    delay: Option<(Duration, Chance)>,
    /// Only requests that have it.
    header: Option<String>,
}

impl Fault {
    pub(super) fn build(config: &FilterConfig) -> Result<Box<dyn Filter>, Mistake> {
        let Table { abort, delay, header } = ringway_config::filter::table(config)?;
        let wrong = |key: &str, why: String| Mistake::new(why).at(format!("{}.{key}", config.place));
        if abort.is_none() && delay.is_none() {
            let mistake = Mistake::new("does nothing").at(config.place.clone());
            return Err(mistake.cure("add abort = { status = 503, percent = 10 } or delay = { time = \"200ms\" }"));
        }
        if let Some(abort) = &abort
            && !(STATUS_MIN..=STATUS_MAX).contains(&abort.status)
        {
            let why = format!("{} is not the status of an error", abort.status);
            return Err(wrong("abort.status", why).cure(format!("use {STATUS_MIN} to {STATUS_MAX}")));
        }
        if let Some(delay) = &delay
            && (delay.time.0.is_zero() || delay.time.0 > DELAY_MAX)
        {
            let why = format!("{} is no delay", duration_text(delay.time.0));
            return Err(wrong("delay.time", why).cure(format!("use 1ms to {}", duration_text(DELAY_MAX))));
        }
        let abort = abort.map(|abort| (abort.status, Chance::of(abort.percent)));
        let delay = delay.map(|delay| (delay.time.0, Chance::of(delay.percent)));
        Ok(Box::new(Fault { abort, delay, header: header.map(HeaderName::into_string) }))
    }
}

impl Filter for Fault {
    fn on_request<'p>(&'p self, request: &mut RequestEdit<'p, '_>) -> Verdict<'p> {
        if self.header.as_ref().is_some_and(|name| !request.fields.any(name, &mut |_| true)) {
            return Verdict::Pass;
        }
        let abort = self.abort.filter(|(_, chance)| request.state.draw(*chance));
        let delay = self.delay.filter(|(_, chance)| request.state.draw(*chance));
        let refusal = abort.map(|(status, _)| {
            Box::new(Refusal { status, ..Refusal::new(Flag::FaultAbort, "a fault filter fails this request") })
        });
        match (delay, refusal) {
            (Some((time, _)), refusal) => {
                let sleep = request.net.sleep(time);
                let until = async move {
                    sleep.await;
                    let then: Then<'p> = Box::new(move |_| refusal.map_or(Verdict::Pass, Verdict::Reply));
                    then
                };
                let shown = Some((Flag::FaultDelay, "a fault filter held this request"));
                Verdict::Wait(Box::new(Waiting { until: Box::pin(until), shown }))
            }
            (None, Some(refusal)) => Verdict::Reply(refusal),
            (None, None) => Verdict::Pass,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(text: &str) -> Result<(), String> {
        let table = toml::Value::Table(toml::from_str(text).expect(text));
        let config = FilterConfig { name: "fault".into(), table, place: "here".into() };
        Fault::build(&config).map(|_| ()).map_err(|mistake| mistake.to_string())
    }

    #[test]
    fn what_is_no_fault_is_refused() {
        for good in [
            "abort = { status = 503 }",
            "abort = { status = 400, percent = '0.1%' }",
            "delay = { time = '1ms', percent = 0 }\nheader = 'X-Fault'",
        ] {
            assert_eq!(built(good), Ok(()), "{good}");
        }
        for (bad, part) in [
            ("", "does nothing"),
            ("header = 'x'", "does nothing"),
            ("abort = { status = 200 }", "here.abort.status: 200"),
            ("abort = { status = 503, percent = 101 }", "here.abort.percent: "),
            ("delay = { time = '1s', percent = -1 }", "here.delay.percent: "),
            ("delay = { time = '0s' }", "here.delay.time"),
            ("delay = { time = '1h' }", "here.delay.time"),
            ("delay = { tme = '1h' }", "tme"),
        ] {
            let said = built(bad).expect_err(bad);
            assert!(said.contains(part), "{bad}: {said}");
        }
    }
}
