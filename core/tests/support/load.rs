//! Clients that ask again and again from threads of their own, and note what came of each request. Judges nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::request;
use super::{Client, Closed, SOON, ms};

/// Between two requests of a connection, so that the machine is not the limit.
const PAUSE: Duration = ms(4);
/// Between the starts of two connections: those that begin as one go on in step, and a moment finds all of their answers
/// just ended.
const START_EVERY: Duration = ms(3);

/// What came of one request.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub began: Instant,
    pub took: Duration,
    pub target: &'static str,
    /// `X-Origin` of the answer.
    pub origin: String,
    pub result: Result,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Result {
    /// 200 with so many bytes.
    Whole(usize),
    /// 200, and then the connection ended within the body.
    Cut,
    /// 200 that ended early, on a connection that then stayed open: nobody may see such a thing.
    LooksWhole,
    Status(u16, String),
    NoAnswer(String),
}

pub struct Load {
    stop: Arc<AtomicBool>,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// `connections` clients; number n asks for `targets[n % len]`.
    pub fn start(address: SocketAddr, connections: usize, targets: &[&'static str]) -> Load {
        let (stop, outcomes) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let ask = |n: usize| {
            let (stop, outcomes, target) = (stop.clone(), outcomes.clone(), targets[n % targets.len()]);
            let wait = START_EVERY * u32::try_from(n).expect("few connections");
            thread::spawn(move || {
                thread::sleep(wait);
                let mut client = None;
                while !stop.load(Ordering::Acquire) {
                    let outcome = once(&mut client, address, target);
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
                    thread::sleep(PAUSE);
                }
            })
        };
        let threads = (0..connections).map(ask).collect();
        Load { stop, outcomes, threads }
    }

    pub fn so_far(&self) -> Vec<Outcome> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests that have ended. To be asked often: a copy of all would hold the clients up.
    pub fn count(&self) -> usize {
        self.count_of(|_| true)
    }

    pub fn count_of(&self, which: impl Fn(&Outcome) -> bool) -> usize {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.iter().filter(|outcome| which(outcome)).count()
    }

    /// Ends after the requests that are under way.
    pub fn end(mut self) -> Vec<Outcome> {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            thread.join().expect("a client's thread");
        }
        self.so_far()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn once(client: &mut Option<Client>, address: SocketAddr, target: &'static str) -> Outcome {
    let began = Instant::now();
    let mut connection = client.take().unwrap_or_else(|| Client::to(address));
    let answer = match connection.try_send(request("GET", target, "", b"")) {
        Ok(()) => connection.try_response("GET").map_err(|ending| format!("{ending:?}")),
        Err(error) => Err(error.to_string()),
    };
    let took = began.elapsed();
    let (origin, result) = match answer {
        Err(ending) => (String::new(), Result::NoAnswer(ending)),
        Ok(answer) => {
            let origin = answer.header("x-origin").unwrap_or_default().to_owned();
            let result = match (answer.status, &answer.cut) {
                (200, None) => Result::Whole(answer.body.len()),
                (200, Some(_)) => match connection.closed_within(SOON) {
                    Closed::Eof | Closed::Reset => Result::Cut,
                    Closed::Open | Closed::Data(_) => Result::LooksWhole,
                },
                (status, _) => Result::Status(status, answer.text()),
            };
            if answer.cut.is_none() && !answer.says_close() {
                *client = Some(connection);
            }
            (origin, result)
        }
    };
    Outcome { began, took, target, origin, result }
}
