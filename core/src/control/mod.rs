//! The control thread, which is no shard: plans, reloads, names, drain, metrics, the process's own sockets. Serves no
//! request; the shards serve on with what they have, whatever it does.

mod adopt;
mod checks;
pub mod document;
mod drain;
mod http;
pub mod issuers;
mod limits;
mod names;
pub mod notify;
pub mod port_holder;
mod reload;
pub mod socket;
mod telemetry;
mod upstreams;

use std::cell::{Cell, RefCell};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringway_config::snapshot;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_local;

pub use adopt::say_blockers;
pub use names::{Known, LOOKUPS_MAX, Names, system_lookup};
pub use reload::{Bound, Left, Order, QUEUED_MAX, Refused, Serving, bind_listeners};

use crate::mesh::{CoreGauges, Errand, Receiver, Sent, ToControl, ToShard, WorkerCounts};
use crate::net::EngineKind;
pub use crate::observe::say;
use crate::observe::{LogWriter, ProcessFacts};
use crate::plan::Plan;
use crate::shard::{ControlMessage, ShardMessage, ShardPort};
use adopt::Adopting;
use checks::Checks;
use drain::{Act, Drain};
use issuers::Issuers;
use notify::{State, notify};
use telemetry::Telemetry;

/// Messages taken from the cores in one go.
const MESSAGES_PER_TURN_MAX: usize = 256;
/// How often waiting messages are sent again and old plans are looked over.
const TICK: Duration = Duration::from_secs(1);
/// For cut connections to be closed as truncated ones, before the process's end closes the rest.
const CUT_TIME_MAX: Duration = Duration::from_millis(250);
const LOG_FLUSH_TIME_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Some core has no plan yet.
    Starting,
    Ready,
    Draining,
}

/// What became of the process.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    Drained,
    /// A second signal.
    Forced,
    /// A core's thread ended, and why.
    CoreDied(String),
}

#[derive(Debug, Clone, Copy, Default)]
struct Reloads {
    ok: u64,
    failed: u64,
    last_ok: bool,
    last_ok_unix_s: u64,
}

/// What the control thread is made of.
pub struct ControlParts {
    /// The file that a reload reads; `None`: the embedded demo.
    pub path: Option<PathBuf>,
    pub engine: EngineKind,
    /// By core: the CPU it is pinned to.
    pub cpus: Vec<Option<usize>>,
    pub port: ShardPort,
    pub gauges: CoreGauges,
    pub names: Rc<Names>,
    pub serving: Serving,
    pub log: Option<LogWriter>,
    pub orders: mpsc::Sender<Order>,
    pub workers: Arc<WorkerCounts>,
    /// Random.
    pub seed: u64,
}

pub struct Control {
    path: Option<PathBuf>,
    engine: EngineKind,
    cpus: Vec<Option<usize>>,
    port: ShardPort,
    gauges: CoreGauges,
    names: Rc<Names>,
    checks: Checks,
    issuers: Issuers,
    said: upstreams::Said,
    readiness: Cell<Readiness>,
    serving: RefCell<Serving>,
    left: RefCell<Left>,
    /// Names have changed, and the plan that follows was not adopted.
    owes_replan: Cell<bool>,
    /// The last one that was given to a plan; those that were not adopted are not used again.
    generations: Cell<u64>,
    adopting: RefCell<Option<Adopting>>,
    /// Every plan that some core may still hold.
    plans: RefCell<Vec<Arc<Plan>>>,
    telemetry: Telemetry,
    reloads: Cell<Reloads>,
    orders: mpsc::Sender<Order>,
    drain: RefCell<Option<Drain>>,
    drain_wanted: Notify,
    drain_news: Notify,
    log: RefCell<Option<LogWriter>>,
    workers: Arc<WorkerCounts>,
    started: SystemTime,
}

/// The signals that a gateway listens to, from before its first thread on.
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    reopen: Signal,
}

impl Signals {
    /// # Errors
    /// The kernel's.
    pub fn catch() -> io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reopen: signal(SignalKind::user_defined1())?,
        })
    }
}

impl Control {
    pub fn new(parts: ControlParts) -> Rc<Control> {
        let ControlParts { path, engine, cpus, port, gauges, names, serving, log, orders, workers, seed } = parts;
        Rc::new(Control {
            telemetry: Telemetry::new(cpus.len()),
            generations: Cell::new(serving.generation),
            serving: RefCell::new(serving),
            readiness: Cell::new(Readiness::Starting),
            adopting: RefCell::default(),
            plans: RefCell::default(),
            left: RefCell::default(),
            owes_replan: Cell::new(false),
            reloads: Cell::new(Reloads { last_ok: true, ..Reloads::default() }),
            drain: RefCell::default(),
            drain_wanted: Notify::new(),
            drain_news: Notify::new(),
            log: RefCell::new(log),
            workers,
            started: SystemTime::now(),
            checks: Checks::new(seed),
            issuers: Issuers::new(seed),
            said: upstreams::Said::default(),
            path,
            engine,
            cpus,
            port,
            gauges,
            names,
            orders,
        })
    }

    fn cores(&self) -> usize {
        self.cpus.len()
    }

    pub fn set_ready(&self) {
        self.follow(&self.serving.borrow().plan);
        self.readiness.set(Readiness::Ready);
        notify(State::Ready);
    }

    /// Asks and reads what the plan that serves now says.
    fn follow(&self, plan: &Plan) {
        self.checks.follow(plan);
        self.issuers.follow(plan);
        for fault in &plan.gathered.unbuilt {
            say(&format!("{fault}: nobody passes there"));
        }
        for fault in &plan.gathered.warned {
            say(&fault.to_string());
        }
    }

    /// Runs until the process shall end. `died` says which core's thread ended, and why.
    pub async fn run(self: Rc<Self>, mut signals: Signals, mut died: mpsc::Receiver<(usize, String)>) -> Ending {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                Some((core, why)) = died.recv() => return Ending::CoreDied(format!("core {core}: {why}")),
                _ = signals.hangup.recv() => {
                    let control = self.clone();
                    // Said on stderr in any case.
                    spawn_local(async move {
                        if let Err(busy @ Refused::Busy) = control.order_reload().await {
                            say(&busy.to_string());
                        }
                    });
                }
                _ = signals.reopen.recv() => if let Some(log) = &*self.log.borrow() { log.reopen() },
                _ = signals.terminate.recv() => if !self.begin_drain() { return Ending::Forced },
                _ = signals.interrupt.recv() => if !self.begin_drain() { return Ending::Forced },
                () = self.drain_wanted.notified() => { self.begin_drain(); }
                () = self.wind_down() => return Ending::Drained,
                _ = tick.tick() => {
                    self.port.flush();
                    self.sweep_plans();
                    self.watch_upstreams();
                    if self.owes_replan.take() {
                        self.names.changed.notify_one();
                    }
                }
            }
        }
    }

    /// Takes what the cores send, for ever.
    pub async fn read_inbox(self: Rc<Self>, inbox: Receiver<ControlMessage>) {
        if let Err(error) = self.watch_inbox(inbox).await {
            say(&format!("the control thread's inbox cannot be watched: {error}"));
        }
    }

    /// Runs what cores want asked, for ever; each errand bounds itself.
    pub async fn run_errands(self: Rc<Self>, mut errands: mpsc::Receiver<Errand>) {
        while let Some(errand) = errands.recv().await {
            spawn_local(errand());
        }
    }

    async fn watch_inbox(&self, mut inbox: Receiver<ControlMessage>) -> io::Result<()> {
        // SAFETY: the descriptor is the inbox's, which lives longer than `bell` and never exchanges it.
        let bell = unsafe { AsyncFd::register_with_interest(inbox.fd(), Interest::READABLE) }?;
        loop {
            while inbox.drain(MESSAGES_PER_TURN_MAX, |message| self.on_message(message)) > 0 {}
            if inbox.prepare_sleep() {
                bell.readable().await?.clear_ready();
                inbox.woken();
            }
        }
    }

    fn on_message(&self, message: ControlMessage) {
        match message {
            ToControl::Ack { core, generation, error } => {
                self.on_adoption(|adoption| adoption.on_ack(core, generation, error.map_or(Ok(()), Err)));
            }
            ToControl::Committed { core, generation, retired } => {
                // Not the last of its kind: `plans` has another.
                drop(retired);
                self.on_adoption(|adoption| adoption.on_committed(core, generation));
            }
            ToControl::Retired { plan, .. } => drop(plan),
            ToControl::Meters { core, ask, snapshot } => self.telemetry.on_meters(core, ask, snapshot),
            ToControl::Drained { core, open } => {
                if let Some(drain) = &mut *self.drain.borrow_mut() {
                    drain.on_drained(core, open);
                }
                self.drain_news.notify_one();
            }
            ToControl::Held { core, filter, route, held_ns } => {
                let ms = held_ns / 1_000_000;
                say(&format!("core {core}: the filter {filter} of route {route:?} held its loop for {ms} ms"));
            }
            ToControl::Notice { notice, .. } => self.said.notice(notice),
            ToControl::Stalled { core, lag_ns } => {
                let ms = lag_ns / 1_000_000;
                say(&format!("core {core}: one turn of its loop took {ms} ms; all its connections waited"));
            }
        }
    }

    fn tell_all(&self, message: impl Fn() -> ShardMessage) {
        for core in 0..self.cores() {
            if let Sent::Refused(_) = self.port.send(core, message()) {
                say(&format!("core {core} takes no more messages"));
            }
        }
    }

    /// False: it has begun already.
    fn begin_drain(&self) -> bool {
        if self.readiness.replace(Readiness::Draining) == Readiness::Draining {
            return false;
        }
        notify(State::Stopping);
        let snapshot::Drain { wait, deadline } = self.serving.borrow().document.snapshot.process.drain;
        say(&format!("draining: accepting for {wait:?} more, ending within {deadline:?}"));
        self.drain.replace(Some(Drain::new(self.cores(), Instant::now(), wait, deadline)));
        self.drain_news.notify_one();
        true
    }

    /// Ends with the last connection. May be dropped and called again at any time.
    async fn wind_down(&self) {
        loop {
            let act = self.drain.borrow_mut().as_mut().map(|drain| drain.advance(Instant::now()));
            match act {
                None => self.drain_news.notified().await,
                Some(Act::Wait(until)) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(until.into()) => {}
                        () = self.drain_news.notified() => {}
                    }
                }
                Some(Act::Send(steps)) => {
                    // For the report of the cut: a core answers in order, so its tunnels are counted before they end.
                    drop(self.begin_ask());
                    steps.iter().for_each(|step| self.tell_all(|| ToShard::Drain(*step)));
                }
                Some(Act::Over) => return,
            }
        }
    }

    /// Says what was cut, and brings the log to its end.
    pub async fn end(&self, ending: &Ending) {
        let open = || (0..self.cores()).map(|core| u64::from(self.gauges.connections(core))).sum::<u64>();
        match ending {
            Ending::Drained => {
                let report = self.drain.borrow().as_ref().and_then(|drain| drain.report(&self.telemetry.tunnels()));
                report.iter().for_each(|report| say(report));
                let patience = Instant::now() + CUT_TIME_MAX;
                while report.is_some() && open() > 0 && Instant::now() < patience {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            Ending::Forced => say(&format!("ended at once by a second signal; cut {} connections", open())),
            Ending::CoreDied(why) => say(&format!("ends, since a core ended: {why}; cut {} connections", open())),
        }
        let log = self.log.borrow_mut().take();
        if log.is_some_and(|log| !log.stop(LOG_FLUSH_TIME_MAX)) {
            say("the access log is stuck; its last lines are lost");
        }
    }

    fn facts(&self) -> ProcessFacts {
        let Reloads { ok, failed, last_ok, last_ok_unix_s } = self.reloads.get();
        let log = self.log.borrow();
        ProcessFacts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            io: self.engine.as_str().to_owned(),
            started_unix_s: self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            reloads_ok: ok,
            reloads_failed: failed,
            reload_last_ok: last_ok,
            reload_last_ok_unix_s: last_ok_unix_s,
            access_log_lines: log.as_ref().map_or(0, LogWriter::lines),
            access_log_write_errors: log.as_ref().map_or(0, LogWriter::errors),
            clusters: upstreams::facts(&self.serving.borrow().plan),
            issuers: issuers::facts(&self.serving.borrow().plan),
            limits: limits::facts(&self.serving.borrow().plan),
            workers: self.workers.facts(),
        }
    }
}
