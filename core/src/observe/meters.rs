//! What one core counts about its requests, by route. Plain cells: no atomics, no locks, no sharing. Does not merge
//! cores (`snapshot`) nor render (`prometheus`).
//!
//! A request costs one call of `record`: a probe in the route's small table and two histogram buckets, all in this
//! core's cache. Memory appears on first use: a route that is never called costs two words.

use crate::mesh::KindCounts;
use crate::observe::core_meters::{CoreMeters, add};
use crate::observe::flags::{Flag, Source};
use crate::observe::histogram::{Histogram, OVERHEAD, RESPONSE_TIME};
use crate::observe::redis::RedisMeters;
use crate::observe::snapshot::{Combo, MetersSnapshot, RouteRow, Tables, TimeRow};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// The route of a request that matched none.
pub const NO_ROUTE: u32 = u32::MAX;
/// In snapshots: the sum of what was retired longest ago.
pub(crate) const FOLDED: u32 = u32::MAX - 1;

/// Combinations of method, status, source and flag that one route tells apart. An origin that answers with made-up
/// statuses fills it; the rest is counted together.
pub const COMBOS_MAX: usize = 64;
/// Routes of earlier generations that stay visible, so that their counters do not go back; older ones are summed up.
pub const RETIRED_ROUTES_MAX: usize = 1024;

/// Names of the method index, the tenth for all that we do not know: a client must not be able to make series.
pub const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "_OTHER"];
pub const METHOD_OTHER: u8 = 9;

/// How a route appears in metrics, and what its counts are kept by across reloads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteLabel {
    pub name: Arc<str>,
    /// The path as configured, `{id}` and all; never a client's.
    pub pattern: Arc<str>,
    /// The API that it is a part of, and which version of it.
    pub api: Option<(Arc<str>, Arc<str>)>,
}

/// One finished request.
#[derive(Debug, Clone, Copy)]
pub struct Observation {
    /// Index into `METHODS`; whatever is beyond counts as `_OTHER`.
    pub method: u8,
    /// 0 to 999; 0: nothing was sent.
    pub status: u16,
    pub source: Source,
    pub flag: Flag,
    /// First byte reaped to last byte sent.
    pub total_ns: u64,
    /// Of that, how long it waited for the origin, or was held on purpose.
    pub waited_ns: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

pub struct Meters {
    core_index: usize,
    pub core: CoreMeters,
    redis: RefCell<Vec<Rc<RedisMeters>>>,
    labels: RefCell<Arc<[RouteLabel]>>,
    /// One per label.
    routes: RefCell<Vec<OnceCell<Rc<RouteStats>>>>,
    no_route: Rc<RouteStats>,
    retired: RefCell<Retired>,
    /// How often routes have changed.
    adoptions: Cell<u64>,
}

/// The counters of one route. An exchange takes it when it is routed and records on it when it is over: by then its
/// route may have another index, or be gone. (Counts on a route that has been folded away meanwhile are not shown.)
#[derive(Clone)]
pub struct RouteMeter(Rc<RouteStats>);

/// What is kept of routes that are gone, oldest first.
#[derive(Default)]
struct Retired {
    routes: VecDeque<(RouteLabel, Rc<RouteStats>)>,
    folded: Option<Rc<RouteStats>>,
    labels: Arc<[RouteLabel]>,
}

struct RouteStats {
    combos: RefCell<ComboTable>,
    response_time: [OnceCell<Box<Histogram>>; METHODS.len()],
    overhead: Histogram,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
}

impl Meters {
    /// Without routes: until `adopt`, everything counts as `NO_ROUTE`.
    pub fn new(core_index: usize) -> Meters {
        Meters {
            core_index,
            core: CoreMeters::new(),
            redis: RefCell::default(),
            labels: RefCell::default(),
            routes: RefCell::default(),
            no_route: Rc::default(),
            retired: RefCell::default(),
            adoptions: Cell::new(0),
        }
    }

    /// Makes the meters of a Redis, which stay for as long as the core.
    pub fn add_redis(&self, name: &str) -> Rc<RedisMeters> {
        let meters = Rc::new(RedisMeters::new(name));
        self.redis.borrow_mut().push(meters.clone());
        meters
    }

    /// The meter of a route by its index in the labels last adopted; of `NO_ROUTE` for any other index.
    pub fn route(&self, index: u32) -> RouteMeter {
        match self.routes.borrow().get(index as usize) {
            Some(route) => RouteMeter(route.get_or_init(Rc::default).clone()),
            None => RouteMeter(self.no_route.clone()),
        }
    }

    pub fn record(&self, route: &RouteMeter, seen: &Observation) {
        add(&self.core.requests_total, 1);
        route.0.record(seen);
    }

    /// A new plan's routes, in its order. A route that stays (same name, same pattern) keeps its counts.
    pub fn adopt(&self, labels: Arc<[RouteLabel]>) {
        add(&self.adoptions, 1);
        let old_labels = self.labels.replace(labels.clone());
        let old_routes = std::mem::take(&mut *self.routes.borrow_mut());
        let mut routes: Vec<OnceCell<Rc<RouteStats>>> = labels.iter().map(|_| OnceCell::new()).collect();

        // Most reloads leave most routes where they were.
        let mut moved: HashMap<&RouteLabel, Rc<RouteStats>> = HashMap::new();
        for (at, stats) in old_routes.into_iter().enumerate() {
            let Some(stats) = stats.into_inner() else { continue };
            match labels.get(at) {
                Some(label) if *label == old_labels[at] => routes[at] = OnceCell::from(stats),
                _ => drop(moved.insert(&old_labels[at], stats)),
            }
        }
        let mut retired = self.retired.borrow_mut();
        let is_gone = !moved.is_empty();
        let mut revived = retired.by_label(&labels);
        let is_back = !revived.is_empty();
        for (label, route) in labels.iter().zip(&routes) {
            if let Some(stats) = moved.remove(label).or_else(|| revived.remove(label)) {
                // Two routes of one label are refused with their document; here the first has the counts.
                let _ = route.set(stats);
            }
        }
        if is_gone || is_back {
            retired.keep(moved.into_iter().map(|(label, stats)| (label.clone(), stats)));
        }
        *self.routes.borrow_mut() = routes;
    }

    /// Copies everything at once: about half a microsecond per route that was ever called. For many routes, do it in
    /// slices (`begin_snapshot`), so that a scrape does not hold up requests.
    pub fn snapshot(&self, generation: u64, mesh: Vec<KindCounts>) -> MetersSnapshot {
        let mut slices = self.begin_snapshot();
        while !slices.step(self, usize::MAX) {}
        slices.finish(self, generation, mesh)
    }

    pub fn begin_snapshot(&self) -> SnapshotSlices {
        SnapshotSlices { adoptions: self.adoptions.get(), next: 0, tables: Tables::default() }
    }
}

/// A snapshot that is being taken, some routes at a time. A reload in between starts it over.
pub struct SnapshotSlices {
    adoptions: u64,
    /// Index of the route to copy next: live ones, then retired ones.
    next: usize,
    tables: Tables,
}

impl SnapshotSlices {
    /// Copies at most `routes_max` more routes. True: all are copied, call `finish` in the same turn.
    pub fn step(&mut self, meters: &Meters, routes_max: usize) -> bool {
        if self.adoptions != meters.adoptions.get() {
            *self = meters.begin_snapshot();
        }
        let routes = meters.routes.borrow();
        let retired = meters.retired.borrow();
        let count = routes.len() + retired.routes.len();
        let end = self.next.saturating_add(routes_max).min(count);
        for index in self.next..end {
            let stats = match index.checked_sub(routes.len()) {
                None => routes[index].get(),
                Some(at) => Some(&retired.routes[at].1),
            };
            stats.into_iter().for_each(|stats| stats.copy_to(index as u32, &mut self.tables));
        }
        self.next = end;
        end == count
    }

    pub fn finish(mut self, meters: &Meters, generation: u64, mesh: Vec<KindCounts>) -> MetersSnapshot {
        let retired = meters.retired.borrow();
        retired.folded.iter().for_each(|stats| stats.copy_to(FOLDED, &mut self.tables));
        meters.no_route.copy_to(NO_ROUTE, &mut self.tables);
        MetersSnapshot {
            core: meters.core_index,
            generation,
            live: meters.labels.borrow().clone(),
            retired: retired.labels.clone(),
            tables: self.tables,
            own: meters.core.snapshot(),
            redis: meters.redis.borrow().iter().map(|redis| redis.snapshot()).collect(),
            mesh,
        }
    }
}

impl Retired {
    /// Takes out those that are wanted again.
    fn by_label(&mut self, wanted: &[RouteLabel]) -> HashMap<RouteLabel, Rc<RouteStats>> {
        let mut back = HashMap::new();
        if self.routes.is_empty() {
            return back;
        }
        let wanted: HashSet<&RouteLabel> = wanted.iter().collect();
        for (label, stats) in std::mem::take(&mut self.routes) {
            match wanted.contains(&label) {
                true => drop(back.insert(label, stats)),
                false => self.routes.push_back((label, stats)),
            }
        }
        back
    }

    fn keep(&mut self, gone: impl Iterator<Item = (RouteLabel, Rc<RouteStats>)>) {
        self.routes.extend(gone);
        while self.routes.len() > RETIRED_ROUTES_MAX {
            let Some((_, oldest)) = self.routes.pop_front() else { break };
            match &self.folded {
                Some(folded) => folded.add(&oldest),
                None => self.folded = Some(oldest),
            }
        }
        self.labels = self.routes.iter().map(|(label, _)| label.clone()).collect();
    }
}

impl Default for RouteStats {
    fn default() -> RouteStats {
        RouteStats {
            combos: RefCell::new(ComboTable::new()),
            response_time: [const { OnceCell::new() }; METHODS.len()],
            overhead: Histogram::new(&OVERHEAD),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
        }
    }
}

impl RouteStats {
    fn record(&self, seen: &Observation) {
        let method = seen.method.min(METHOD_OTHER);
        self.combos.borrow_mut().add(Combo::new(method, seen.status, seen.source, seen.flag), 1);
        self.time(method).record(seen.total_ns);
        self.overhead.record(seen.total_ns.saturating_sub(seen.waited_ns));
        add(&self.bytes_in, seen.bytes_in);
        add(&self.bytes_out, seen.bytes_out);
    }

    fn time(&self, method: u8) -> &Histogram {
        self.response_time[method as usize].get_or_init(|| Box::new(Histogram::new(&RESPONSE_TIME)))
    }

    fn add(&self, other: &RouteStats) {
        let mut combos = self.combos.borrow_mut();
        let others = other.combos.borrow();
        others.iter().for_each(|(combo, count)| combos.add(combo, count));
        combos.overflow += others.overflow;
        for (method, time) in other.response_time.iter().enumerate() {
            time.get().into_iter().for_each(|time| self.time(method as u8).add(time));
        }
        self.overhead.add(&other.overhead);
        add(&self.bytes_in, other.bytes_in.get());
        add(&self.bytes_out, other.bytes_out.get());
    }

    fn copy_to(&self, route: u32, tables: &mut Tables) {
        let combos = self.combos.borrow();
        tables.rows.push(RouteRow {
            route,
            overflow: combos.overflow,
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            overhead: self.overhead.snapshot(),
        });
        tables.combos.extend(combos.iter().map(|(combo, count)| (route, combo, count)));
        for (method, time) in self.response_time.iter().enumerate() {
            let times = time.get().map(|time| time.snapshot());
            tables.times.extend(times.map(|time| TimeRow { route, method: method as u8, time }));
        }
    }
}

/// Open addressing over at most `COMBOS_MAX` combinations, at most half full, so that a probe is one or two looks.
struct ComboTable {
    /// A power of two of (combination, count); no combination: free.
    slots: Box<[(Option<Combo>, u64)]>,
    used: usize,
    /// Requests whose combination did not fit.
    overflow: u64,
}

const SLOTS_FIRST: usize = 8;

impl ComboTable {
    fn new() -> ComboTable {
        ComboTable { slots: vec![(None, 0); SLOTS_FIRST].into(), used: 0, overflow: 0 }
    }

    fn add(&mut self, combo: Combo, count: u64) {
        let at = self.find(combo);
        if self.slots[at].0.is_some() {
            self.slots[at].1 += count;
            return;
        }
        if self.used == COMBOS_MAX {
            self.overflow += count;
            return;
        }
        self.slots[at] = (Some(combo), count);
        self.used += 1;
        if self.used * 2 > self.slots.len() {
            self.grow();
        }
    }

    /// Its slot, or the free one where it belongs. There is always a free one.
    fn find(&self, combo: Combo) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = combo.hash() & mask;
        while self.slots[at].0.is_some_and(|other| other != combo) {
            at = (at + 1) & mask;
        }
        at
    }

    fn grow(&mut self) {
        let doubled = vec![(None, 0); self.slots.len() * 2].into();
        let old = std::mem::replace(&mut self.slots, doubled);
        for slot in old.into_iter().filter(|slot| slot.0.is_some()) {
            let at = slot.0.map_or(0, |combo| self.find(combo));
            self.slots[at] = slot;
        }
    }

    fn iter(&self) -> impl Iterator<Item = (Combo, u64)> {
        self.slots.iter().filter_map(|(combo, count)| combo.map(|combo| (combo, *count)))
    }
}

#[cfg(test)]
mod tests;
