//! Keeps the keys of issuers fresh: each set is read ahead of its end, at its own moments, and at once when a core has met a
//! token with a key that nobody knows; so often at most, for all cores. What was good last stays until something better
//! comes; a key that a set does not have any more verifies nothing from then on.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringway_config::snapshot::KeySource;
use tokio::task::{AbortHandle, spawn_local};

use super::say;
use crate::fetch::{self, ANSWER_BYTES_MAX, Fetched};
use crate::identity::{IssuerNode, IssuerPlan, KeySet, Refused};
use crate::observe::IssuerFacts;
use crate::plan::Plan;
use crate::upstream::balance::Random;

/// After a failure the next attempt comes this late, then twice as late, up to the usual time.
const AGAIN_MIN: Duration = Duration::from_secs(1);
/// A server that says that its set is never fresh is asked this often.
const FRESH_MIN: Duration = Duration::from_secs(10);

/// The sets that are kept fresh.
pub struct Issuers {
    random: Rc<Random>,
    running: RefCell<HashMap<String, Running>>,
}

/// By whose keys, from where, and the task that reads them.
type Running = (Arc<IssuerNode>, KeySource, AbortHandle);

impl Issuers {
    pub fn new(seed: u64) -> Issuers {
        Issuers { random: Rc::new(Random::new(seed)), running: RefCell::default() }
    }

    /// Reads what the plan says from now on. What stays as it was is not read anew.
    pub fn follow(&self, plan: &Plan) {
        let mut before = self.running.take();
        let mut running = HashMap::new();
        for issuer in &plan.gathered.issuers {
            let source = &issuer.config.source;
            if !issuer.is_fetched() {
                continue;
            }
            let same = before.remove(&issuer.config.name);
            let same = same.filter(|(node, known, _)| Arc::ptr_eq(node, &issuer.node) && known == source);
            let one = same.unwrap_or_else(|| {
                let kept = Kept { issuer: issuer.clone(), epoch: plan.node.epoch, random: self.random.clone() };
                (issuer.node.clone(), source.clone(), spawn_local(kept.repeat()).abort_handle())
            });
            running.insert(issuer.config.name.clone(), one);
        }
        before.into_values().for_each(|(_, _, task)| task.abort());
        self.running.replace(running);
    }
}

/// One set.
struct Kept {
    issuer: Arc<IssuerPlan>,
    epoch: Instant,
    random: Rc<Random>,
}

impl Kept {
    async fn repeat(self) {
        let node = &self.issuer.node;
        let source = &self.issuer.config.source;
        let mut failures = 0;
        let mut said = None;
        loop {
            let outcome = read(&self.issuer).await;
            let refetch_from = self.epoch.elapsed() + source.refetch_min;
            node.refetch_from_ms.set(refetch_from.as_millis() as u64);
            let next = match outcome {
                Ok(fresh) => {
                    if said.take().is_some() {
                        say(&format!("issuer {:?}: its keys can be read again", self.issuer.config.name));
                    }
                    failures = 0;
                    fresh.map_or(source.refresh, |fresh| source.refresh.min(fresh.max(FRESH_MIN)))
                }
                Err(why) => {
                    node.failures.add(1);
                    if said.as_ref() != Some(&why) {
                        let kept = if node.keys.version() > 0 { "the last good ones stay" } else { "nobody passes" };
                        say(&format!("issuer {:?}: no keys: {why}; {kept}", self.issuer.config.name));
                        said = Some(why);
                    }
                    let again = AGAIN_MIN.saturating_mul(1 << failures.min(16));
                    failures += 1;
                    again.min(source.refresh)
                }
            };
            // Whoever rang while this was under way looks again now.
            node.wanted.silence();
            node.fetches.add(1);
            self.rest(next, source.refetch_min).await;
        }
    }

    /// Until it is time, or, after `refetch_min`, until a core asks. Ahead of the end, and never all gateways at once.
    async fn rest(&self, next: Duration, refetch_min: Duration) {
        let part = self.random.below(next.as_micros() as u64 / 5 + 1);
        let until = tokio::time::sleep(next - Duration::from_micros(part));
        let asked = async {
            tokio::time::sleep(refetch_min).await;
            self.issuer.node.wanted.rung().await;
        };
        tokio::select! {
            () = until => {}
            () = asked => {}
        }
    }
}

pub fn facts(plan: &Plan) -> Vec<IssuerFacts> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let of = |issuer: &Arc<IssuerPlan>| {
        let node = &issuer.node;
        let labels = std::iter::once("ok").chain(Refused::ALL.map(Refused::label));
        IssuerFacts {
            name: issuer.config.name.clone(),
            keys_age_s: Some(node.fetched_unix_s.get()).filter(|at| *at > 0).map(|at| now.saturating_sub(at)),
            keys_failures: node.failures.get(),
            keys: issuer.key_count() as u64,
            results: labels.zip(node.results.sum()).collect(),
        }
    };
    plan.gathered.issuers.iter().map(of).collect()
}

/// Reads an issuer's set and publishes it if it is another one. How long it is fresh, if its server says so.
///
/// # Errors
/// Why it cannot be had, or is no set.
pub async fn read(issuer: &IssuerPlan) -> Result<Option<Duration>, String> {
    let source = &issuer.config.source;
    let Fetched { bytes, fresh } = match &source.url {
        Some(url) => {
            let client = fetch::client(source.ca_file.as_deref(), source.timeout)?;
            fetch::get(&client, &url.text).await.map_err(|why| format!("{}: {why}", url.text))?
        }
        None => return read_kept(issuer).map(|()| None),
    };
    publish(issuer, &bytes)?;
    Ok(fresh)
}

/// The same of a set that stands in a file; nothing of one that has an address, or of none.
///
/// # Errors
/// As [`read`].
pub fn read_kept(issuer: &IssuerPlan) -> Result<(), String> {
    match &issuer.config.source {
        KeySource { url: None, file: Some(path), .. } => publish(issuer, &read_file(path)?),
        _ => Ok(()),
    }
}

fn publish(issuer: &IssuerPlan, bytes: &[u8]) -> Result<(), String> {
    let set = KeySet::from_jwks(bytes, &issuer.config.algorithms)?;
    let node = &issuer.node;
    if !node.keys.with(|known| known.is_some_and(|known| known.digest == set.digest)) {
        node.keys.publish(set);
    }
    node.fetched_unix_s.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    Ok(())
}

fn read_file(path: &std::path::Path) -> Result<Vec<u8>, String> {
    let cannot = |why: String| format!("{} cannot be read: {why}", path.display());
    let size = fs::metadata(path).map_err(|error| cannot(error.to_string()))?.len();
    if size > ANSWER_BYTES_MAX as u64 {
        return Err(cannot(format!("{size} bytes; the most is {ANSWER_BYTES_MAX}")));
    }
    fs::read(path).map_err(|error| cannot(error.to_string()))
}
