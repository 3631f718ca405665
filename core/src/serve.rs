//! The life of one core: its thread's loop, its inbox, its listeners, plans that come, the drain at the end.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringway_config::snapshot::CoreLimits;

use crate::listen::{self, Accepting};
use crate::mesh::{Calls, CoreGauge, DrainStep, Full, Receiver, Ring, Sender, ToControl, ToShard, Workers};
use crate::net::{EngineKind, Net, NetLimits, Turn, panics, spawn, wake_all};
use crate::observe::CoreLog;
use crate::observe::core_meters::add;
use crate::observe::say;
use crate::pipeline::Listening;
use crate::plan::Plan;
use crate::shard::{
    Adopted, ControlMessage, LEND_EVERY, SWEEP_EVERY, Shard, ShardMessage, ShardParts, ShardPort, Stage,
};
use crate::upstream::PoolShare;

/// Messages taken from the inbox in one go.
const MESSAGES_PER_TURN_MAX: usize = 256;
/// How often the drain looks whether it is over, and messages that found an inbox full are sent again.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A turn that takes this long is reported: every connection of the core has waited for it. The histogram of loop lag has
/// the shorter ones.
const STALL: Duration = Duration::from_millis(50);
/// Stalls are reported so often at most.
const STALL_AGAIN: Duration = Duration::from_secs(10);

/// How long a worker tries to tell a core whose inbox is full: whoever waits for the work has a deadline of its own.
const RINGS_MAX: usize = 10_000;
const RING_AGAIN: Duration = Duration::from_millis(1);

/// What a core is started with, on its own thread.
pub struct CoreStart {
    pub core: usize,
    pub cores: usize,
    pub engine: EngineKind,
    pub limits: CoreLimits,
    pub share: PoolShare,
    pub plan: Arc<Plan>,
    pub inbox: Receiver<ShardMessage>,
    /// The inboxes of all cores, this one's too.
    pub shards: Vec<Sender<ShardMessage>>,
    pub control: Sender<ControlMessage>,
    pub gauge: CoreGauge,
    pub log: Option<Box<dyn FnOnce() -> CoreLog + Send>>,
    pub workers: Workers,
    /// Random, and another one for each core.
    pub seed: u64,
}

/// Serves until the process ends; the calling thread becomes the core's.
///
/// # Errors
/// What kept the core from starting, or its engine's failure.
pub fn run(start: CoreStart) -> io::Result<()> {
    let CoreStart { core, cores, engine, limits, share, plan, inbox, shards, control, gauge, log, workers, seed } =
        start;
    let calls = Calls::new(workers, ring(shards[core].clone()));
    let net_limits = NetLimits {
        ring_entries: limits.ring_entries,
        buffer_bytes: limits.buffer_bytes,
        buffers_max: limits.buffers_max,
    };
    let net = Net::new(engine, &net_limits)?;
    let port = ShardPort::of_shard(core, &shards, control);
    let log = log.map(|make| make());
    let parts =
        ShardParts { core, cores, net: net.clone(), limits, share, port, gauge, log, plan: plan.clone(), calls, seed };
    let life = Rc::new(Life {
        shard: Shard::new(parts),
        cores,
        prepared: RefCell::default(),
        accepting: RefCell::default(),
        reported: Cell::new(false),
        stall_told_ms: Cell::new(0),
    });
    life.follow_listeners(&plan, &life.shard.adopted())?;
    life.acknowledge(plan.generation, None);
    spawn(life.clone().read_inbox(inbox));
    spawn(life.clone().look_around());
    net.run(|turn| life.note_turn(turn))
}

/// How a worker tells this core that work is done: it can wait for room in the inbox, unlike a core.
fn ring(inbox: Sender<ShardMessage>) -> Ring {
    Arc::new(move |number| {
        let mut message = ToShard::Worked(number);
        for _ in 0..RINGS_MAX {
            match inbox.try_send(message) {
                Ok(()) => return,
                Err(Full(back)) => message = back,
            }
            std::thread::sleep(RING_AGAIN);
        }
    })
}

struct Life {
    shard: Rc<Shard>,
    cores: usize,
    /// The plan of a first phase, waiting for its second.
    prepared: RefCell<Option<Arc<Plan>>>,
    accepting: RefCell<Vec<Accepting>>,
    /// The end of the drain has been reported.
    reported: Cell<bool>,
    /// Until then, in the reactor's milliseconds, no further stall is reported.
    stall_told_ms: Cell<u64>,
}

impl Life {
    fn note_turn(&self, turn: Turn) {
        let core = &self.shard.meters.core;
        core.loop_lag.record(turn.busy.as_nanos() as u64);
        core.panics.set(panics());
        if turn.busy >= STALL {
            self.note_stall(turn.busy);
        }
    }

    #[cold]
    fn note_stall(&self, lag: Duration) {
        let now_ms = self.shard.net.now_ms();
        if now_ms >= self.stall_told_ms.get() {
            self.stall_told_ms.set(now_ms + STALL_AGAIN.as_millis() as u64);
            self.tell(ToControl::Stalled { core: self.shard.core, lag_ns: lag.as_nanos() as u64 });
        }
    }

    async fn read_inbox(self: Rc<Self>, mut inbox: Receiver<ShardMessage>) {
        let watch = match self.shard.net.watch(inbox.fd()) {
            Ok(watch) => watch,
            Err(error) => {
                say(&format!("core {}: its inbox cannot be watched: {error}", self.shard.core));
                return;
            }
        };
        loop {
            while inbox.drain(MESSAGES_PER_TURN_MAX, |message| self.on_message(message)) > 0 {}
            if inbox.prepare_sleep() {
                watch.ready().await;
                inbox.woken();
            }
        }
    }

    fn on_message(self: &Rc<Self>, message: ShardMessage) {
        match message {
            ToShard::Prepare { generation, plan } => {
                self.prepared.replace(Some(plan));
                self.acknowledge(generation, None);
            }
            ToShard::Commit { generation } => self.commit(generation),
            ToShard::Abort { generation } => {
                let aborted = self.prepared.take().filter(|plan| plan.generation == generation);
                if let Some(plan) = aborted {
                    self.tell(ToControl::Retired { core: self.shard.core, plan });
                }
            }
            ToShard::Accepted { socket, listener, peer, from } => self.take_over(socket, listener, peer, from),
            ToShard::Meters { ask } => {
                let snapshot = self.shard.meters.snapshot(self.shard.generation(), self.shard.port.counts());
                self.tell(ToControl::Meters { core: self.shard.core, ask, snapshot: Box::new(snapshot) });
            }
            ToShard::Drain(step) => self.drain(step),
            ToShard::Resolved(()) => {}
            ToShard::Worked(number) => self.shard.calls.rung(number),
        }
    }

    fn tell(&self, message: ControlMessage) {
        // What its inbox does not take waits in the port's backlog, which `look_around` empties.
        let _ = self.shard.port.send_control(message);
    }

    fn acknowledge(&self, generation: u64, error: Option<String>) {
        self.tell(ToControl::Ack { core: self.shard.core, generation, error });
    }

    fn commit(self: &Rc<Self>, generation: u64) {
        let Some(plan) = self.prepared.take().filter(|plan| plan.generation == generation) else { return };
        let before = self.shard.adopted();
        let retired = Some(before.plan.clone());
        self.shard.adopt(plan.clone(), self.cores);
        if let Err(error) = self.follow_listeners(&plan, &before) {
            say(&format!("core {}: a listener cannot be opened: {error}", self.shard.core));
        }
        self.tell(ToControl::Committed { core: self.shard.core, generation, retired });
    }

    /// Opens the sockets that a plan brings, and closes those whose address no listener has any more.
    fn follow_listeners(&self, plan: &Plan, before: &Rc<Adopted>) -> io::Result<()> {
        let mut accepting = self.accepting.borrow_mut();
        accepting.retain(|one| !one.is_closed());
        let mut changed = false;
        for one in accepting.iter() {
            let index = plan.listeners.iter().position(|listener| listener.config.name == one.listening.name);
            one.listening.follow(index.map(|index| index as u32), before);
            let bound = index.is_some_and(|index| plan.listeners[index].addresses.contains(&one.address));
            if !bound {
                one.close();
                changed = true;
            }
        }
        for socket in plan.sockets.take(self.shard.core) {
            let index = plan.listeners.iter().position(|listener| listener.config.name == socket.listener);
            let same = accepting.iter().find(|one| one.listening.name == socket.listener);
            let listening = match same {
                Some(one) => one.listening.clone(),
                None => Listening::new(socket.listener.clone(), index.map(|index| index as u32)),
            };
            accepting.push(Accepting::start(&self.shard, socket, listening)?);
        }
        if changed {
            wake_all();
        }
        Ok(())
    }

    fn take_over(&self, socket: std::os::fd::OwnedFd, listener: u32, peer: std::net::SocketAddr, from: usize) {
        add(&self.shard.meters.core.handed_in, 1);
        let accepting = self.accepting.borrow();
        let found = accepting.iter().find(|one| one.listening.index.get() == Some(listener));
        if let Some(one) = found {
            let port = socket2::SockRef::from(&socket).local_addr().ok().and_then(|own| own.as_socket());
            let port = port.map_or(one.address.port(), |own| own.port());
            listen::serve(&self.shard, socket, peer, &one.listening, port);
        }
        self.shard.gauge.arrived(from);
    }

    fn drain(&self, step: DrainStep) {
        match step {
            DrainStep::CloseListeners => {
                self.shard.set_stage(Stage::Closing);
                self.accepting.borrow().iter().for_each(Accepting::close);
            }
            DrainStep::LastAnswers => self.shard.set_stage(Stage::LastAnswers),
            DrainStep::Cut => {
                self.shard.set_stage(Stage::Cut);
                self.report_drained();
            }
        }
        wake_all();
    }

    fn report_drained(&self) {
        if !self.reported.replace(true) {
            let open = self.shard.meters.core.connections_open.get() as usize;
            self.tell(ToControl::Drained { core: self.shard.core, open });
        }
    }

    /// Small duties: idle origin connections, messages that wait, the end of the drain.
    async fn look_around(self: Rc<Self>) {
        let mut swept_ms = 0;
        loop {
            let pending = self.shard.port.waiting() > 0 || self.shard.stage() > Stage::Serving;
            let lends = self.shard.may_lend();
            let wait = if lends { LEND_EVERY } else { SWEEP_EVERY };
            self.shard.net.sleep(if pending { LOOK_EVERY } else { wait }).await;
            self.shard.port.flush();
            for notice in self.shard.redis.iter().flat_map(|redis| redis.take_notices()) {
                self.tell(ToControl::Notice { core: self.shard.core, notice });
            }
            if lends {
                self.shard.lend();
            }
            let now_ms = self.shard.net.now_ms();
            if now_ms >= swept_ms + SWEEP_EVERY.as_millis() as u64 {
                swept_ms = now_ms;
                self.shard.sweep();
            }
            let closed = self.accepting.borrow().iter().all(Accepting::is_closed);
            let served = self.shard.meters.core.connections_open.get() == 0;
            if self.shard.stage() >= Stage::LastAnswers && closed && served {
                self.report_drained();
            }
        }
    }
}
