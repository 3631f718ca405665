//! Active checks: each endpoint is asked by one task of this thread whether it is well, and what it says is every core's
//! word from then on (`upstream::node`). Checks nothing that the configuration does not name.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_config::snapshot::{CheckKind, Checks as Rules};
use ringway_proto::{HeadLimits, Method, Progress, ResponseHead};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::{AbortHandle, spawn_local};

use super::say;
use crate::net::Address;
use crate::plan::Plan;
use crate::upstream::EndpointNode;
use crate::upstream::balance::Random;
use crate::upstream::node::UNWELL;

/// Of an answer's head; a longer one is a failed check.
const HEAD_BYTES_MAX: usize = 32 * 1024;
const FIELDS_MAX: usize = 256;
/// A check that took this much longer than it may was not timed out by its endpoint: this process did not run.
const UNNOTICED: Duration = Duration::from_secs(1);

/// The checks that run.
pub struct Checks {
    random: Rc<Random>,
    running: RefCell<HashMap<Key, Running>>,
}

/// Cluster, and endpoint in it.
type Key = (String, Address, String);

/// What is asked of whom, and the task that asks.
type Running = (Rules, Arc<EndpointNode>, AbortHandle);

impl Checks {
    pub fn new(seed: u64) -> Checks {
        Checks { random: Rc::new(Random::new(seed)), running: RefCell::default() }
    }

    /// Checks what the plan says from now on. What stays as it was is not asked anew.
    pub fn follow(&self, plan: &Plan) {
        let mut before = self.running.take();
        let mut running = HashMap::new();
        for cluster in &plan.clusters {
            let Some(rules) = &cluster.config.checks else { continue };
            for node in &cluster.node.endpoints {
                let key = (cluster.config.name.clone(), node.address.clone(), node.label.clone());
                let same = before.remove(&key);
                let same = same.filter(|(old, known, _)| old == rules && Arc::ptr_eq(known, node));
                let check = same.unwrap_or_else(|| {
                    let asked = Asked::new(cluster.config.name.clone(), node.clone(), rules.clone());
                    let task = spawn_local(asked.repeat(plan.node.epoch, self.random.clone()));
                    (rules.clone(), node.clone(), task.abort_handle())
                });
                running.insert(key, check);
            }
        }
        before.into_values().for_each(|(_, _, task)| task.abort());
        self.running.replace(running);
    }
}

/// An endpoint that is asked.
struct Asked {
    cluster: String,
    node: Arc<EndpointNode>,
    rules: Rules,
    address: Address,
    verdict: Verdict,
}

/// Checks in a row that say otherwise than what is believed.
#[derive(Debug, Default)]
struct Verdict {
    against: u32,
}

/// What a check changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Out,
    Back,
}

impl Verdict {
    fn take(&mut self, rules: &Rules, believed_well: bool, is_well: bool) -> Option<Change> {
        if is_well == believed_well {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let (needed, change) = if believed_well { (rules.fall, Change::Out) } else { (rules.rise, Change::Back) };
        if self.against < needed {
            return None;
        }
        self.against = 0;
        Some(change)
    }
}

impl Asked {
    fn new(cluster: String, node: Arc<EndpointNode>, rules: Rules) -> Asked {
        let address = match (&node.address, rules.port) {
            (Address::Ip(address), Some(port)) => Address::Ip((address.ip(), port).into()),
            (address, _) => address.clone(),
        };
        Asked { cluster, node, rules, address, verdict: Verdict::default() }
    }

    /// For ever, at its own moments: endpoints that came together are not asked together.
    async fn repeat(mut self, epoch: Instant, random: Rc<Random>) {
        let interval = self.rules.interval;
        let part = |of: Duration| Duration::from_micros(random.below(of.as_micros() as u64 + 1));
        tokio::time::sleep(part(interval)).await;
        loop {
            let began = Instant::now();
            let result = match tokio::time::timeout(self.rules.timeout, self.ask()).await {
                Ok(result) => result,
                Err(_) => Err(format!("no answer in {:?}", self.rules.timeout)),
            };
            if began.elapsed() < self.rules.timeout + UNNOTICED {
                self.note(result, epoch);
            }
            // A tenth more or less.
            let rest = (interval * 9 / 10 + part(interval / 5)).saturating_sub(began.elapsed());
            tokio::time::sleep(rest).await;
        }
    }

    fn note(&mut self, result: Result<(), String>, epoch: Instant) {
        self.node.checked[usize::from(result.is_err())].add(1);
        let believed_well = self.node.barred() & UNWELL == 0;
        let Some(change) = self.verdict.take(&self.rules, believed_well, result.is_ok()) else { return };
        let (cluster, endpoint) = (&self.cluster, self.node.name());
        match (change, result) {
            (Change::Out, Err(why)) => {
                self.node.bar(UNWELL);
                say(&format!("cluster {cluster}: {endpoint} is out: {} checks failed; {why}", self.rules.fall));
            }
            (Change::Back, Ok(())) => {
                self.node.admit(UNWELL, epoch.elapsed().as_millis() as u64);
                say(&format!("cluster {cluster}: {endpoint} is back: {} checks were good", self.rules.rise));
            }
            _ => {}
        }
    }

    async fn ask(&self) -> Result<(), String> {
        let refused = |error: io::Error| error.to_string();
        match &self.address {
            Address::Ip(address) => self.converse(TcpStream::connect(address).await.map_err(refused)?).await,
            Address::Unix(path) => self.converse(UnixStream::connect(path).await.map_err(refused)?).await,
        }
    }

    async fn converse(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), String> {
        let CheckKind::Http { method, path, host, statuses } = &self.rules.kind else { return Ok(()) };
        let host = host.as_deref().unwrap_or(match self.node.label.starts_with("unix:") {
            true => "localhost",
            false => &self.node.label,
        });
        let question = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: ringway-check\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(question.as_bytes()).await.map_err(|error| error.to_string())?;
        let method = if method == "HEAD" { Method::Head } else { Method::Get };
        let status = read_status(&mut stream, method).await?;
        let good = if statuses.is_empty() { (200..400).contains(&status) } else { statuses.contains(&status) };
        if good { Ok(()) } else { Err(format!("the answer was {status}")) }
    }
}

/// The status of the first answer that is none of the interim ones.
async fn read_status(stream: &mut (impl AsyncRead + Unpin), method: Method) -> Result<u16, String> {
    let limits = HeadLimits { head_bytes_max: HEAD_BYTES_MAX, target_bytes_max: usize::MAX, fields_max: FIELDS_MAX };
    let (mut bytes, mut head) = (Vec::with_capacity(1024), ResponseHead::new());
    loop {
        match head.parse(&bytes, &limits, method) {
            Err(error) => return Err(format!("the answer cannot be read: {error}")),
            Ok(Progress::Complete) if head.interim() => {
                bytes.drain(..head.head_len);
                head.reset();
                continue;
            }
            Ok(Progress::Complete) => return Ok(head.status),
            Ok(Progress::Partial) => {}
        }
        let read = stream.read_buf(&mut bytes).await.map_err(|error| error.to_string())?;
        if read == 0 {
            return Err("the connection ended before an answer".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            kind: CheckKind::Tcp,
            port: None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
        }
    }

    #[test]
    fn a_verdict_takes_as_many_in_a_row_as_the_rules_say() {
        let (mut verdict, mut well, rules) = (Verdict::default(), true, rules());
        let mut said = String::new();
        for result in "--+---+--++-+++---".chars() {
            match verdict.take(&rules, well, result == '+') {
                Some(Change::Out) => (well, said) = (false, said + "x"),
                Some(Change::Back) => (well, said) = (true, said + "o"),
                None => said.push('.'),
            }
        }
        assert_eq!(said, ".....x....o......x");
    }
}
