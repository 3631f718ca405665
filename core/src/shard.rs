//! What one core owns: its plan, its pools, its meters, the memory of its exchanges. No other core touches any of it.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ahash::AHashMap;
use quanta::Instant;
use ringway_config::snapshot::CoreLimits;

use crate::exchange::{Exchange, RequestIds};
use crate::filter::FilterState;
use crate::mesh::budget::Moment;
use crate::mesh::{Calls, CoreGauge, Port, ToControl, ToShard};
use crate::net::Net;
use crate::observe::core_meters::add;
use crate::observe::{CoreLog, Meters, MetersSnapshot};
use crate::plan::Plan;
use crate::pool::{FuturePool, Recycled};
use crate::redis::{Cluster as Redis, RedisPlan};
use crate::route::split::first_turn;
use crate::upstream::{ClusterState, PoolShare};

/// News for a shard and from it.
pub type ShardMessage = ToShard<Plan, ()>;
pub type ControlMessage = ToControl<Plan, MetersSnapshot>;
pub type ShardPort = Port<ShardMessage, ControlMessage>;

/// Exchanges kept for reuse; as few as blocks for futures (`pool`), and for the same reason.
const EXCHANGES_KEPT_MAX: usize = 32;
/// How often idle origin connections are looked over.
pub const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often a core looks whether another one is short of what rests here, if anything is limited for the node.
pub const LEND_EVERY: Duration = Duration::from_millis(50);
/// Filters that hold the loop are named so often at most; all are counted.
const HELD_AGAIN: Duration = Duration::from_secs(1);
/// A step of the wall clock shows this late at most.
const WALL_READ_EVERY: Duration = Duration::from_secs(1);
/// What a filter may take of its core's time in one go.
const HELD_MAX: Duration = Duration::from_millis(10);
/// `Sun, 06 Nov 1994 08:49:37 GMT`
const DATE_BYTES: usize = 29;

/// How far the shard has wound down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Serving,
    /// Listening sockets are closing.
    Closing,
    /// Every answer is its connection's last.
    LastAnswers,
    /// Whatever is left is cut.
    Cut,
}

/// One core's world.
pub struct Shard {
    pub core: usize,
    pub net: Rc<Net>,
    pub limits: CoreLimits,
    pub share: PoolShare,
    pub meters: Rc<Meters>,
    pub port: ShardPort,
    pub gauge: CoreGauge,
    pub ids: RequestIds,
    pub calls: Rc<Calls>,
    pub futures: FuturePool,
    /// For those that send an error.
    pub refusals: FuturePool,
    /// In the order of the plan's, which stays as it is for as long as the process.
    pub redis: Rc<[Rc<Redis>]>,
    log: Option<RefCell<CoreLog>>,
    adopted: RefCell<Rc<Adopted>>,
    exchanges: Recycled<Exchange>,
    stage: Cell<Stage>,
    per_ip: RefCell<AHashMap<IpAddr, u32>>,
    date: RefCell<Date>,
    second: Cell<Second>,
    /// A filter that takes more ticks has held up everybody on this core: it is named.
    pub held_ticks: u64,
    /// Until then, in the reactor's milliseconds, no further filter is named.
    held_told_ms: Cell<u64>,
    /// Wall clock at a moment of the reactor's, read once a second: log times and `Date` cost no system call.
    wall: Cell<(SystemTime, Instant)>,
}

/// A plan in use, with this core's state for its clusters.
pub struct Adopted {
    pub plan: Arc<Plan>,
    /// By the plan's cluster index.
    pub clusters: Vec<ClusterState>,
    pub filters: FilterState,
    /// By number of a split: where its next request without a key falls.
    pub turns: Vec<Cell<u64>>,
}

struct Date {
    /// Seconds since 1970.
    of: Option<u64>,
    text: [u8; DATE_BYTES],
}

/// A second of the wall clock.
#[derive(Clone, Copy)]
struct Second {
    /// Another one begins, or the wall clock may have been set.
    until: Instant,
    /// Since 1970.
    unix_s: u64,
}

/// What a shard is made of.
pub struct ShardParts {
    pub core: usize,
    pub cores: usize,
    pub net: Rc<Net>,
    pub limits: CoreLimits,
    pub share: PoolShare,
    pub port: ShardPort,
    pub gauge: CoreGauge,
    pub log: Option<CoreLog>,
    pub plan: Arc<Plan>,
    pub calls: Rc<Calls>,
    pub seed: u64,
}

impl Shard {
    pub fn new(parts: ShardParts) -> Rc<Shard> {
        let ShardParts { core, cores, net, limits, share, port, gauge, log, plan, calls, seed } = parts;
        let meters = Rc::new(Meters::new(core));
        meters.adopt(plan.labels.clone());
        net.set_epoch(plan.node.epoch);
        let redis = plan.redis.iter();
        let start = |plan: &RedisPlan| Redis::start(core, &net, plan, meters.add_redis(&plan.config.name));
        let redis: Rc<[Rc<Redis>]> = redis.map(|plan| Rc::new(start(plan))).collect();
        let adopted = Adopted::new(plan, None, core, cores, &meters, &redis);
        Rc::new(Shard {
            core,
            limits,
            share,
            port,
            gauge,
            ids: RequestIds::new(seed),
            calls,
            futures: FuturePool::default(),
            refusals: FuturePool::default(),
            redis,
            log: log.map(RefCell::new),
            adopted: RefCell::new(Rc::new(adopted)),
            exchanges: Recycled::new(EXCHANGES_KEPT_MAX),
            stage: Cell::new(Stage::Serving),
            per_ip: RefCell::default(),
            date: RefCell::new(Date { of: None, text: [0; DATE_BYTES] }),
            second: Cell::new(Second { until: net.now(), unix_s: 0 }),
            held_ticks: net.ticks_of(HELD_MAX),
            held_told_ms: Cell::new(0),
            wall: Cell::new((SystemTime::now(), net.now())),
            meters,
            net,
        })
    }

    /// The plan that serves now. A request keeps the one it began with.
    pub fn adopted(&self) -> Rc<Adopted> {
        self.adopted.borrow().clone()
    }

    pub fn generation(&self) -> u64 {
        self.adopted.borrow().plan.generation
    }

    /// Serves by `plan` from the next request on. Pools, balancers and counters of what stays live on.
    pub fn adopt(&self, plan: Arc<Plan>, cores: usize) {
        self.meters.adopt(plan.labels.clone());
        std::iter::zip(self.redis.iter(), &plan.redis).for_each(|(redis, plan)| redis.follow(plan));
        let before = self.adopted();
        let adopted = Adopted::new(plan, Some(&before), self.core, cores, &self.meters, &self.redis);
        self.adopted.replace(Rc::new(adopted));
    }

    /// Memory for exchanges.
    pub fn exchange(&self) -> Box<Exchange> {
        self.exchanges.take().unwrap_or_else(|| Exchange::new(self.net.reaped_at()))
    }

    /// Tells the operator which filter of which route has held this core's loop, so often at most.
    pub fn note_held(&self, filter: &'static str, route: String, held: Duration) {
        add(&self.meters.core.filter_holds, 1);
        let now_ms = self.net.now_ms();
        if now_ms >= self.held_told_ms.get() {
            self.held_told_ms.set(now_ms + HELD_AGAIN.as_millis() as u64);
            let held_ns = held.as_nanos() as u64;
            // What its inbox does not take waits in the port's backlog.
            let _ = self.port.send_control(ToControl::Held { core: self.core, filter, route, held_ns });
        }
    }

    /// Takes it back, cleared.
    pub fn keep_exchange(&self, exchange: Box<Exchange>) {
        self.exchanges.keep(exchange);
    }

    pub fn stage(&self) -> Stage {
        self.stage.get()
    }

    pub fn set_stage(&self, stage: Stage) {
        self.stage.set(stage.max(self.stage.get()));
    }

    /// Counts a connection of `ip`; false if it would pass `limit` (0: none).
    pub fn count_ip(&self, ip: IpAddr, limit: usize) -> bool {
        let mut per_ip = self.per_ip.borrow_mut();
        let count = per_ip.entry(ip).or_insert(0);
        if limit > 0 && *count as usize >= limit {
            return false;
        }
        *count += 1;
        true
    }

    pub fn forget_ip(&self, ip: IpAddr) {
        let mut per_ip = self.per_ip.borrow_mut();
        if let Some(count) = per_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                per_ip.remove(&ip);
            }
        }
    }

    /// Writes the present `Date` (RFC 9110 5.6.7), made once a second.
    pub fn with_date<R>(&self, write: impl FnOnce(&[u8]) -> R) -> R {
        let unix_s = self.unix_s();
        let mut date = self.date.borrow_mut();
        if date.of != Some(unix_s) {
            let now = UNIX_EPOCH + Duration::from_secs(unix_s);
            // Always 29 bytes (RFC 9110 5.6.7), so writing them cannot fail.
            let _ = write!(&mut date.text[..], "{}", httpdate::HttpDate::from(now));
            date.of = Some(unix_s);
        }
        write(&date.text)
    }

    /// The wall clock in seconds since 1970.
    #[inline]
    pub fn unix_s(&self) -> u64 {
        let Second { until, unix_s } = self.second.get();
        if self.net.reaped_at() < until { unix_s } else { self.begin_second() }
    }

    #[cold]
    fn begin_second(&self) -> u64 {
        let moment = self.net.reaped_at();
        let now = self.wall_time(moment).duration_since(UNIX_EPOCH).unwrap_or_default();
        let next = moment + (Duration::from_secs(1) - Duration::from_nanos(now.subsec_nanos().into()));
        let until = next.min(self.wall.get().1 + WALL_READ_EVERY);
        self.second.set(Second { until, unix_s: now.as_secs() });
        now.as_secs()
    }

    /// The wall clock at `moment`, a recent one.
    pub fn wall_time(&self, moment: Instant) -> SystemTime {
        let (mut wall, mut at) = self.wall.get();
        if moment.saturating_duration_since(at) > WALL_READ_EVERY {
            (wall, at) = (SystemTime::now(), self.net.now());
            self.wall.set((wall, at));
        }
        match moment.checked_duration_since(at) {
            Some(after) => wall + after,
            None => wall - at.saturating_duration_since(moment),
        }
    }

    pub fn log(&self) -> Option<std::cell::RefMut<'_, CoreLog>> {
        self.log.as_ref().map(RefCell::borrow_mut)
    }

    /// True if something is limited for the node, so that what rests here may be missed elsewhere.
    pub fn may_lend(&self) -> bool {
        let adopted = self.adopted();
        adopted.filters.borrows()
            || adopted.plan.clusters.iter().any(|cluster| cluster.config.limits.connections_per_endpoint_max > 0)
    }

    /// Gives up connections at rest that another core waits for, and what was borrowed of limits and not used.
    pub fn lend(&self) {
        let adopted = self.adopted();
        adopted.clusters.iter().flat_map(|cluster| &cluster.endpoints).for_each(|endpoint| endpoint.lend());
        adopted.filters.lend(&Moment { ns: self.net.node_ns(), unix_s: self.unix_s() });
    }

    /// Looks over the idle origin connections.
    pub fn sweep(&self) {
        let adopted = self.adopted();
        let now_ms = self.net.now_ms();
        let endpoints = || adopted.clusters.iter().flat_map(|cluster| &cluster.endpoints);
        let idle: usize = endpoints().map(|endpoint| endpoint.sweep(now_ms, &self.share)).sum();
        let mut beyond = idle.saturating_sub(self.share.idle_max);
        for endpoint in endpoints() {
            let drop = beyond.min(endpoint.idle());
            endpoint.drop_idle(drop);
            beyond -= drop;
        }
        for (cluster, plan) in std::iter::zip(&adopted.clusters, &adopted.plan.clusters) {
            cluster.tick(plan, self.net.node_ms());
        }
        adopted.filters.tick();
        self.meters.core.buffers_in_use.set(self.net.buffers().lent() as u64);
    }
}

/// Another one on each core, in each process and with each plan.
fn filter_seed(core: usize, generation: u64) -> u64 {
    (core as u64) << 48 ^ generation << 32 ^ u64::from(std::process::id())
}

impl Adopted {
    fn new(
        plan: Arc<Plan>,
        before: Option<&Adopted>,
        core: usize,
        cores: usize,
        meters: &Rc<Meters>,
        redis: &Rc<[Rc<Redis>]>,
    ) -> Adopted {
        let known: AHashMap<&str, &ClusterState> = before
            .iter()
            .flat_map(|before| std::iter::zip(&before.plan.clusters, &before.clusters))
            .map(|(plan, state)| (plan.config.name.as_str(), state))
            .collect();
        let clusters = plan.clusters.iter().map(|cluster| {
            let same = known.get(cluster.config.name.as_str()).copied();
            ClusterState::adopt(cluster, same, core, cores, meters)
        });
        let clusters = clusters.collect();
        let turn = |name: &String| {
            let same = before.and_then(|before| before.plan.splits.iter().position(|known| known == name));
            let turn = same.zip(before).map(|(at, before)| before.turns[at].get());
            Cell::new(turn.unwrap_or_else(|| first_turn(core, cores)))
        };
        let turns = plan.splits.iter().map(turn).collect();
        let filters = FilterState::new(
            &plan.gathered.numbers,
            core,
            filter_seed(core, plan.generation),
            redis,
            before.map(|before| &before.filters),
        );
        Adopted { clusters, filters, turns, plan }
    }
}
