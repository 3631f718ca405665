//! What one core hands to the control thread for a scrape: a flat copy of its meters, plain data. Also the merge over
//! cores. Does not render (`prometheus`).

use crate::mesh::KindCounts;
use crate::observe::core_meters::CoreSnapshot;
use crate::observe::flags::{Flag, Source};
use crate::observe::histogram::{HistogramSnapshot, OVERHEAD, RESPONSE_TIME};
use crate::observe::meters::{FOLDED, METHODS, NO_ROUTE, RouteLabel};
use crate::observe::redis::RedisSnapshot;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The label of requests that matched no route, as name and as pattern.
pub const NO_ROUTE_LABEL: &str = "_none";
/// The label of routes that were retired too long ago.
pub const FOLDED_LABEL: &str = "_retired";

/// Method, status, source and flag of an answer, packed into one word to compare and hash at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Combo(NonZeroU32);

impl Combo {
    /// Bits: 4 method, 10 status, 1 source, 8 flag, and one that is always set.
    pub(crate) fn new(method: u8, status: u16, source: Source, flag: Flag) -> Combo {
        let status = u32::from(status.min(999));
        let packed = u32::from(method) | status << 4 | (source as u32) << 14 | (flag as u32) << 15;
        Combo(NonZeroU32::MIN | packed << 1)
    }

    pub fn method(self) -> &'static str {
        METHODS[(self.packed() & 0xf) as usize]
    }

    pub fn status(self) -> u16 {
        (self.packed() >> 4 & 0x3ff) as u16
    }

    pub fn source(self) -> Source {
        if self.packed() >> 14 & 1 == 0 { Source::Gateway } else { Source::Origin }
    }

    pub fn flag(self) -> Flag {
        Flag::from_index((self.packed() >> 15) as u8)
    }

    fn packed(self) -> u32 {
        self.0.get() >> 1
    }

    /// Fibonacci hashing; the high bits are the mixed ones.
    pub(crate) fn hash(self) -> usize {
        (self.0.get().wrapping_mul(0x9e37_79b9) >> 24) as usize
    }
}

#[derive(Debug, Clone)]
pub(crate) struct RouteRow {
    pub(crate) route: u32,
    pub(crate) overflow: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) overhead: HistogramSnapshot,
}

#[derive(Debug, Clone)]
pub(crate) struct TimeRow {
    pub(crate) route: u32,
    pub(crate) method: u8,
    pub(crate) time: HistogramSnapshot,
}

/// Rows by route index.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tables {
    pub(crate) rows: Vec<RouteRow>,
    pub(crate) combos: Vec<(u32, Combo, u64)>,
    pub(crate) times: Vec<TimeRow>,
}

/// One core's meters at one moment. Flat, so that the shard fills it with a few copies and no strings.
#[derive(Debug, Clone)]
pub struct MetersSnapshot {
    pub core: usize,
    /// Of the plan it serves.
    pub generation: u64,
    pub(crate) live: Arc<[RouteLabel]>,
    pub(crate) retired: Arc<[RouteLabel]>,
    pub(crate) tables: Tables,
    pub own: CoreSnapshot,
    pub redis: Vec<RedisSnapshot>,
    /// What became of the messages it sent.
    pub mesh: Vec<KindCounts>,
}

impl MetersSnapshot {
    /// How a row's route is labelled.
    fn label(&self, route: u32) -> TotalKey<'_> {
        match route {
            NO_ROUTE => (NO_ROUTE_LABEL, NO_ROUTE_LABEL, None),
            FOLDED => (FOLDED_LABEL, FOLDED_LABEL, None),
            _ => {
                let at = route as usize;
                let label = self.live.get(at).unwrap_or_else(|| &self.retired[at - self.live.len()]);
                (&label.name, &label.pattern, label.api.as_ref().map(|(api, version)| (&**api, &**version)))
            }
        }
    }
}

/// One route over all cores.
#[derive(Debug)]
pub struct RouteTotal {
    pub combos: BTreeMap<Combo, u64>,
    pub overflow: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub overhead: HistogramSnapshot,
    /// By method.
    pub times: BTreeMap<&'static str, HistogramSnapshot>,
}

/// Name, pattern, and the API with its version.
pub type TotalKey<'a> = (&'a str, &'a str, Option<(&'a str, &'a str)>);

/// Routes over all cores, in a stable order. Cores may be at different generations.
pub type Totals<'a> = BTreeMap<TotalKey<'a>, RouteTotal>;

pub fn merge<'a>(snapshots: impl Iterator<Item = &'a MetersSnapshot>) -> Totals<'a> {
    let mut totals = Totals::new();
    for snapshot in snapshots {
        for row in &snapshot.tables.rows {
            let total = entry(&mut totals, snapshot, row.route);
            total.overflow += row.overflow;
            total.bytes_in += row.bytes_in;
            total.bytes_out += row.bytes_out;
            total.overhead.merge(&row.overhead);
        }
        for (route, combo, count) in &snapshot.tables.combos {
            *entry(&mut totals, snapshot, *route).combos.entry(*combo).or_default() += count;
        }
        for row in &snapshot.tables.times {
            let times = &mut entry(&mut totals, snapshot, row.route).times;
            let time = times.entry(METHODS[row.method as usize]);
            time.or_insert_with(|| HistogramSnapshot::empty(&RESPONSE_TIME)).merge(&row.time);
        }
    }
    totals
}

fn entry<'t, 'a>(totals: &'t mut Totals<'a>, snapshot: &'a MetersSnapshot, route: u32) -> &'t mut RouteTotal {
    totals.entry(snapshot.label(route)).or_insert_with(|| RouteTotal {
        combos: BTreeMap::new(),
        overflow: 0,
        bytes_in: 0,
        bytes_out: 0,
        overhead: HistogramSnapshot::empty(&OVERHEAD),
        times: BTreeMap::new(),
    })
}
