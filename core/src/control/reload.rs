//! A new document in the old one's place: read, checked, planned, bound, adopted by every core, or refused as a whole.
//! Also the new plan that a name's new addresses call for. One at a time.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringway_config::snapshot::{Listener, Process, Steering};
use ringway_config::{Errors, Fault, Snapshot};
use tokio::sync::{mpsc, oneshot};

use super::adopt::say_blockers;
use super::document::Document;
use super::names::Known;
use super::notify::{State, notify};
use super::port_holder;
use super::{Control, Readiness, say};
use crate::plan::Plan;
use crate::sockets::{self, NewSocket, NewSockets};

/// Reloads that wait while one is under way.
pub const QUEUED_MAX: usize = 1;
/// Several times what a core takes to close a listening socket without losing a connection.
const LEFT_FOR: Duration = Duration::from_secs(30);

/// How long a port that nobody visible holds is tried for, and how often.
const RELEASE_TIME: Duration = Duration::from_secs(1);
const RELEASE_LOOK: Duration = Duration::from_millis(20);

/// Where each address of the configuration really is: port 0 resolved. Keyed by listener and `bind`.
pub type Bound = BTreeMap<(String, SocketAddr), SocketAddr>;

/// What is served now.
pub struct Serving {
    pub document: Arc<Document>,
    pub plan: Arc<Plan>,
    pub generation: u64,
    pub bound: Bound,
    /// What names stood for when it was planned.
    pub known: Known,
}

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("{0}")]
    Document(#[from] Errors),
    #[error("the embedded demo has no file to reload")]
    NoFile,
    #[error("the gateway is draining")]
    Draining,
    #[error("a reload is under way and another waits; try again when they are done")]
    Busy,
    #[error("{0}")]
    Socket(String),
    #[error("not adopted: {0}")]
    NotAdopted(String),
    #[error("the gateway ended")]
    Ended,
}

/// One reload that was asked for.
pub type Order = oneshot::Sender<Result<String, Refused>>;

impl Control {
    /// Waits for its turn and its end.
    pub async fn order_reload(&self) -> Result<String, Refused> {
        let (done, result) = oneshot::channel();
        self.orders.try_send(done).map_err(|_| Refused::Busy)?;
        result.await.unwrap_or(Err(Refused::Ended))
    }

    /// Reloads and replans in turn, for ever.
    pub async fn obey(self: Rc<Self>, mut orders: mpsc::Receiver<Order>) {
        loop {
            tokio::select! {
                Some(done) = orders.recv() => {
                    notify(State::Reloading);
                    let result = self.reload().await;
                    self.note(&result);
                    notify(State::Ready);
                    let _ = done.send(result);
                }
                () = self.names.changed.notified() => self.replan().await,
            }
        }
    }

    fn note(&self, result: &Result<String, Refused>) {
        let mut counts = self.reloads.get();
        match result {
            Ok(said) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                (counts.ok, counts.last_ok, counts.last_ok_unix_s) = (counts.ok + 1, true, now.as_secs());
                say(said);
            }
            Err(refused) => {
                (counts.failed, counts.last_ok) = (counts.failed + 1, false);
                let generation = self.serving.borrow().generation;
                say(&format!("{refused}\nreload refused; generation {generation} serves on"));
            }
        }
        self.reloads.set(counts);
    }

    async fn reload(&self) -> Result<String, Refused> {
        if self.readiness.get() == Readiness::Draining {
            return Err(Refused::Draining);
        }
        let path = self.path.clone().ok_or(Refused::NoFile)?;
        let read = tokio::task::spawn_blocking(move || Document::read(Some(&path))).await;
        let document = Arc::new(read.map_err(|_| Refused::Ended)??);
        let old = self.serving.borrow().document.clone();
        let faults = needs_restart(&old.snapshot, &document.snapshot);
        if !faults.is_empty() {
            return Err(document.locate(faults).into());
        }
        self.names.learn(&document.snapshot).await;
        let warnings: String = document.warnings.iter().map(|warning| format!("{warning}\n")).collect();
        let result = self.serve_by(document).await.map(|said| warnings + &said);
        let serving = self.serving.borrow().document.clone();
        self.names.keep_only(&serving.snapshot);
        result
    }

    /// The same document with other addresses.
    async fn replan(&self) {
        if self.readiness.get() != Readiness::Ready {
            return;
        }
        if self.serving.borrow().known == self.names.known() {
            return; // A reload was faster.
        }
        let document = self.serving.borrow().document.clone();
        match self.serve_by(document).await {
            Ok(said) => say(&format!("names have new addresses: {said}")),
            Err(refused) => {
                say(&format!("names have new addresses, but: {refused}; trying again"));
                self.owes_replan.set(true);
            }
        }
    }

    async fn serve_by(&self, document: Arc<Document>) -> Result<String, Refused> {
        let generation = self.generations.get() + 1;
        self.generations.set(generation);
        let known = Arc::new(self.names.known());
        let (names, planned, serving) = (known.clone(), document.clone(), self.serving.borrow().plan.clone());
        let build = move || planned.plan(generation, &*names, serving.node, Some(&serving));
        let plan = tokio::task::spawn_blocking(build).await;
        let mut plan = plan.map_err(|_| Refused::Ended)??;
        let before = self.serving.borrow().bound.clone();
        let bound = bind_listeners(&mut plan, &before, &self.left.borrow(), &self.cpus)?;
        let plan = Arc::new(plan);
        let late = self.adopt(plan.clone()).await.map_err(|why| Refused::NotAdopted(say_blockers(&why)))?;
        self.left.borrow_mut().note(&before, &bound, Instant::now());
        self.follow(&plan);
        self.serving.replace(Serving { document, plan, generation, bound, known: known.as_ref().clone() });
        let late = match late.as_slice() {
            [] => String::new(),
            late => format!("; late to confirm, and on the old one until they do: cores {late:?}"),
        };
        Ok(format!("generation {generation} serves on all {} cores{late}", self.cores()))
    }
}

/// Addresses that listeners have left a short while ago: their sockets take nobody new, but may be there still.
#[derive(Debug, Default)]
pub struct Left(Vec<(SocketAddr, Instant)>);

impl Left {
    fn note(&mut self, before: &Bound, after: &Bound, now: Instant) {
        self.0.retain(|(_, since)| now.duration_since(*since) < LEFT_FOR);
        let left = before.iter().filter(|(key, _)| !after.contains_key(key));
        self.0.extend(left.map(|(_, address)| (*address, now)));
    }

    fn contains(&self, address: SocketAddr) -> bool {
        self.0.iter().any(|(left, since)| *left == address && since.elapsed() < LEFT_FOR)
    }
}

/// Binds what no core listens on yet, and writes the true addresses into the plan. On an error nothing stays bound.
///
/// # Errors
/// The first address that cannot be had, and who has it.
pub fn bind_listeners(plan: &mut Plan, before: &Bound, left: &Left, cpus: &[Option<usize>]) -> Result<Bound, Refused> {
    let mut bound = Bound::new();
    let mut sockets: Vec<NewSocket> = Vec::new();
    for listener in &mut plan.listeners {
        let config = &listener.config;
        let mut addresses = Vec::with_capacity(config.bind.len());
        for wanted in &config.bind {
            let key = (config.name.clone(), *wanted);
            let address = match before.get(&key) {
                Some(address) => *address,
                None => {
                    let new = bind(config, *wanted, left, cpus)?;
                    let address = new.first().map_or(*wanted, |socket| socket.address);
                    sockets.extend(new);
                    address
                }
            };
            addresses.push(address);
            bound.insert(key, address);
        }
        listener.addresses = addresses;
    }
    plan.sockets = NewSockets::new(sockets);
    Ok(bound)
}

fn bind(
    config: &Listener,
    address: SocketAddr,
    left: &Left,
    cpus: &[Option<usize>],
) -> Result<Vec<NewSocket>, Refused> {
    let bind = |beside_own| sockets::bind(&config.name, address, config.backlog, config.steering, cpus, beside_own);
    let mut bound = bind(left.contains(address));
    // The kernel gives up the sockets of a process that used io_uring a moment after the process itself: a restart finds
    // its port taken, and by nobody.
    let patience = Instant::now() + RELEASE_TIME;
    while matches!(&bound, Err(error) if error.kind() == ErrorKind::AddrInUse)
        && port_holder::holders(address).is_empty()
        && Instant::now() < patience
    {
        std::thread::sleep(RELEASE_LOOK);
        bound = bind(left.contains(address));
    }
    let bound = match bound {
        // A slow core may hold on to it for longer than we remember.
        Err(error) if error.kind() == ErrorKind::AddrInUse && port_holder::is_ours(address) => bind(true),
        bound => bound,
    };
    bound.map_err(|error| {
        let why = match error.kind() {
            ErrorKind::AddrInUse => port_holder::describe(address),
            _ => format!("{address}: {error}"),
        };
        Refused::Socket(format!("listeners.{}.bind: {why}", config.name))
    })
}

/// Every key that differs and cannot be changed while the process runs.
fn needs_restart(old: &Snapshot, new: &Snapshot) -> Vec<Fault> {
    let restart = |key: &str| {
        let fault = Fault::new("changed, and is read only at start").at(key);
        fault.cure("restart the gateway, or put the old value back to reload the rest")
    };
    let process = changed_keys(&old.process, &new.process).into_iter().map(|key| restart(&key));
    let listeners = new.listeners.iter().flat_map(|new| {
        let same = old.listeners.iter().find(|old| old.name == new.name);
        let same = same.filter(|old| new.bind.iter().any(|address| old.bind.contains(address)));
        same.into_iter().flat_map(|old| fixed_keys(old, new))
    });
    process.chain(listeners.map(|(name, key)| restart(&format!("listeners.{name}.{key}")))).collect()
}

fn changed_keys(old: &Process, new: &Process) -> Vec<String> {
    let mut keys = Vec::new();
    let mut compare = |key: &str, differs: bool| {
        if differs {
            keys.push(key.to_owned());
        }
    };
    compare("io", old.io != new.io);
    let (was, is) = (&old.cores, &new.cores);
    compare("cores.count", was.count != is.count);
    compare("cores.ring_entries", was.each.ring_entries != is.each.ring_entries);
    compare("cores.connections_max", was.each.connections_max != is.each.connections_max);
    compare("cores.buffer_bytes", was.each.buffer_bytes != is.each.buffer_bytes);
    compare("cores.buffers_max", was.each.buffers_max != is.each.buffers_max);
    compare("cores.keepalive_timeout", was.each.keepalive_timeout != is.each.keepalive_timeout);
    compare("telemetry.bind", old.telemetry != new.telemetry);
    compare("control.socket", old.control != new.control);
    compare("log.access", old.log.access != new.log.access);
    compare("log.access_format", old.log.access_format != new.log.access_format);
    compare("log.queue_lines_max", old.log.queue_lines_max != new.log.queue_lines_max);
    compare("log.headers", old.log.headers != new.log.headers);
    compare("log.redact", old.log.redact != new.log.redact);
    compare("drain.wait", old.drain.wait != new.drain.wait);
    compare("drain.deadline", old.drain.deadline != new.drain.deadline);
    compare("pool.idle_max", old.pool.idle_max != new.pool.idle_max);
    compare("pool.idle_per_endpoint_max", old.pool.idle_per_endpoint_max != new.pool.idle_per_endpoint_max);
    compare("pool.idle_timeout", old.pool.idle_timeout != new.pool.idle_timeout);
    compare("pool.lifetime_max", old.pool.lifetime_max != new.pool.lifetime_max);
    compare("redis", old.redis != new.redis);
    if keys.is_empty() && old != new {
        // What is left is an override of one core.
        let numbers = was.overrides.iter().chain(&is.overrides).map(|(number, _)| *number);
        let differs = |number: &usize| was.limits(*number) != is.limits(*number);
        keys.extend(numbers.filter(differs).map(|number| format!("cores.{number}")));
        keys.dedup();
        if keys.is_empty() {
            keys.push("cores".to_owned());
        }
    }
    keys
}

/// What a listener that stays where it is has given to the kernel.
fn fixed_keys(old: &Listener, new: &Listener) -> Vec<(String, &'static str)> {
    let by_cpu = |listener: &Listener| listener.steering == Steering::Cpu;
    let steering = (old.steering != new.steering && (by_cpu(old) || by_cpu(new))).then_some("steering");
    let backlog = (old.backlog != new.backlog).then_some("backlog");
    steering.into_iter().chain(backlog).map(|key| (new.name.clone(), key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Node;

    fn snapshot(text: &str) -> Snapshot {
        let base = "[[routes]]\nname = \"a\"\nrespond = { body = \"a\" }\n";
        let text = match text.contains("[listeners.main]") {
            true => format!("{text}\n{base}"),
            false => format!("{text}\n[listeners.main]\nbind = \"127.0.0.1:8080\"\n{base}"),
        };
        ringway_config::load(&ringway_config::Source { name: "test".into(), text }).unwrap().snapshot
    }

    fn refused(old: &str, new: &str) -> Vec<String> {
        needs_restart(&snapshot(old), &snapshot(new)).into_iter().map(|fault| fault.place).collect()
    }

    #[test]
    fn each_key_of_the_process_is_named() {
        let keys = [
            ("io = \"epoll\"", "io"),
            ("[cores]\ncount = 3", "cores.count"),
            ("[cores]\nring_entries = 128", "cores.ring_entries"),
            ("[cores]\nconnections_max = 9", "cores.connections_max"),
            ("[cores]\nbuffer_bytes = \"8KiB\"", "cores.buffer_bytes"),
            ("[cores]\nbuffers_max = 64", "cores.buffers_max"),
            ("[cores]\nkeepalive_timeout = \"1s\"", "cores.keepalive_timeout"),
            ("[cores.0]\nconnections_max = 9", "cores.0"),
            ("[telemetry]\nbind = \"off\"", "telemetry.bind"),
            ("[control]\nsocket = \"/x\"", "control.socket"),
            ("[redis.a]\nnodes = [\"127.0.0.1:1\"]", "redis"),
            ("[log]\naccess = \"stdout\"", "log.access"),
            ("[log]\naccess_format = \"combined\"", "log.access_format"),
            ("[log]\nqueue_lines_max = 9", "log.queue_lines_max"),
            ("[log]\nheaders = [\"x\"]", "log.headers"),
            ("[log]\nredact = [\"x\"]", "log.redact"),
            ("[drain]\nwait = \"1s\"", "drain.wait"),
            ("[drain]\ndeadline = \"9s\"", "drain.deadline"),
            ("[pool]\nidle_max = 9", "pool.idle_max"),
            ("[pool]\nidle_per_endpoint_max = 9", "pool.idle_per_endpoint_max"),
            ("[pool]\nidle_timeout = \"9s\"", "pool.idle_timeout"),
            ("[pool]\nlifetime_max = \"9s\"", "pool.lifetime_max"),
        ];
        for (text, key) in keys {
            assert_eq!(refused("", text), [key]);
        }
        assert!(refused("[cores]\ncount = 3", "[cores]\ncount = 3").is_empty());
        assert_eq!(refused("io = \"epoll\"", "[drain]\nwait = \"1s\""), ["io", "drain.wait"], "all at once");
    }

    #[test]
    fn a_listener_that_stays_keeps_what_the_kernel_has() {
        let with = |bind: &str, lines: &str| format!("[listeners.main]\nbind = \"127.0.0.1:{bind}\"\n{lines}\n");
        let plain = with("1", "");
        assert_eq!(refused(&plain, &with("1", "backlog = 99")), ["listeners.main.backlog"]);
        assert_eq!(refused(&plain, &with("1", "steering = \"cpu\"")), ["listeners.main.steering"]);
        assert!(refused(&plain, &with("1", "steering = \"least_loaded\"")).is_empty());
        assert!(refused(&plain, &with("2", "backlog = 99\nsteering = \"cpu\"")).is_empty(), "a new socket");
        assert!(refused(&plain, &with("1", "header_timeout = \"1s\"")).is_empty());
    }

    #[test]
    fn a_port_of_the_kernels_choice_stays() {
        let snapshot = snapshot("[listeners.main]\nbind = \"127.0.0.1:0\"");
        let plan = || Plan::build(&snapshot, 1, &super::super::document::NoNames, Node::new(1), None).unwrap();
        let mut first = plan();
        let bound = bind_listeners(&mut first, &Bound::new(), &Left::default(), &[None, None]).unwrap();
        let address = first.listeners[0].addresses[0];
        assert_ne!(address.port(), 0);
        assert_eq!((first.sockets.take(0).len(), first.sockets.take(1).len()), (1, 1));
        let mut second = plan();
        assert_eq!(bind_listeners(&mut second, &bound, &Left::default(), &[None, None]).unwrap(), bound);
        assert_eq!(second.listeners[0].addresses, [address]);
        assert!(second.sockets.take(0).is_empty(), "the cores have it");
    }

    #[test]
    fn a_busy_address_is_refused_with_its_holder_unless_it_is_our_own_leaving() {
        let snapshot = |port| snapshot(&format!("[listeners.main]\nbind = \"127.0.0.1:{port}\""));
        let plan =
            |port| Plan::build(&snapshot(port), 1, &super::super::document::NoNames, Node::new(1), None).unwrap();
        let mut first = plan(0);
        bind_listeners(&mut first, &Bound::new(), &Left::default(), &[None]).unwrap();
        let port = first.listeners[0].addresses[0].port();
        let mut again = plan(port);
        bind_listeners(&mut again, &Bound::new(), &Left::default(), &[None]).expect("it is this process's own");
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let busy = holder.local_addr().unwrap();
        let Err(error) = bind_listeners(&mut plan(busy.port()), &Bound::new(), &Left::default(), &[None]) else {
            panic!("{busy}")
        };
        let said = error.to_string();
        assert!(said.starts_with(&format!("listeners.main.bind: {busy} is in use by pid ")), "{said}");
    }
}
