//! What the choice of an endpoint costs, each way, for a small set and a large one; and what the control thread pays for
//! its tables.

use std::cell::Cell;
use std::hint::black_box;

use ringway::route::split::{Split, first_turn};
use ringway::upstream::balance::{
    Load, Maglev, PeakEwma, Random, Ring, RoundRobin, Spill, bounded, least, of_two, place_after, slow_start,
};
use ringway_perf::micro::Micro;

const SMALL: u16 = 4;
const LARGE: u16 = 1000;
const TAU_NS: u64 = 10_000_000_000;

fn main() {
    let micro = Micro::from_args();
    for count in [SMALL, LARGE] {
        by_load(&micro, count);
        by_key(&micro, count);
    }
    let random = Random::new(1);
    micro.time("balance/random below", || random.below(black_box(1000)));
    micro.time("balance/bounded limit", || bounded::limit(black_box(1000), black_box(64), black_box(3), 125));
    let elapsed = Cell::new(0);
    let share = |aggression: f64| {
        elapsed.set((elapsed.get() + 1) % 60_000);
        slow_start::share(elapsed.get(), 0, black_box(60_000), 10, aggression)
    };
    micro.time("balance/slow start, linear", || share(black_box(1.0)));
    micro.time("balance/slow start, aggression 1.5", || share(black_box(1.5)));
    micro.time("balance/spill of 3 tiers, built", || Spill::new(black_box([(3, 10), (2, 10), (5, 10)]), 140));
    let spill = Spill::new([(3, 10), (2, 10), (5, 10)], 140);
    micro.time("balance/spill of 3 tiers, chosen", || spill.tier(random.percent()));
    let split = Split::new(&[95, 5]);
    let turn = Cell::new(first_turn(0, 1));
    micro.time("route/split by turn", || split.by_turn(&turn));
    micro.time("route/split by key", || split.by_key(random.bits()));
}

fn by_load(micro: &Micro, count: u16) {
    let usable: Vec<u16> = (0..count).collect();
    let random = Random::new(1);
    let active: Vec<u64> = (0..count).map(|_| random.below(20)).collect();
    let load = |endpoint: u16| Load::new(active[usize::from(endpoint)], 1 + u32::from(endpoint % 3));
    let weighted: Vec<(u16, u32)> = (0..count).map(|endpoint| (endpoint, 1 + u32::from(endpoint % 3))).collect();
    let turns = RoundRobin::new(&weighted, 0, 1);
    micro.time(&format!("balance/round robin of {count}"), || turns.next());
    micro.time(&format!("balance/round robin of {count}, built"), || RoundRobin::new(&weighted, 0, 1));
    let mut last = 0;
    micro.time(&format!("balance/least of {count}"), || {
        last = least(&usable, place_after(&usable, last), &random, load);
        last
    });
    micro.time(&format!("balance/two of {count}"), || of_two(&usable, &random, load));

    let averages: Vec<PeakEwma> = (0..count).map(|_| PeakEwma::default()).collect();
    averages.iter().for_each(|average| average.observe(1_000_000 + random.below(9_000_000), 0, TAU_NS));
    let mut now_ns = 0;
    micro.time(&format!("balance/two of {count} by EWMA, at rest"), || {
        now_ns += 1000;
        of_two(&usable, &random, |endpoint| averages[usize::from(endpoint)].cost(0, now_ns, TAU_NS, 1))
    });
    micro.time(&format!("balance/two of {count} by EWMA, busy"), || {
        now_ns += 1000;
        let cost = |endpoint| {
            let index = usize::from(endpoint);
            averages[index].cost(active[index], now_ns, TAU_NS, 1)
        };
        of_two(&usable, &random, cost)
    });
    micro.time(&format!("balance/EWMA of {count} observes"), || {
        now_ns += 1000;
        averages[random.below(u64::from(count)) as usize].observe(black_box(1_000_000), now_ns, TAU_NS);
    });
}

fn by_key(micro: &Micro, count: u16) {
    let names: Vec<String> = (0..count).map(|number| format!("10.0.{}.{}:8080", number / 256, number % 256)).collect();
    let endpoints: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let random = Random::new(1);
    let ring = Ring::build(&endpoints);
    let maglev = Maglev::build(&endpoints);
    micro.time(&format!("balance/ring of {count}"), || ring.pick(random.bits(), |_| true));
    micro.time(&format!("balance/ring of {count}, half refuse"), || ring.pick(random.bits(), |one| one % 2 == 0));
    micro.time(&format!("balance/ring of {count}, all refuse"), || ring.pick(random.bits(), |_| false));
    micro.time(&format!("balance/maglev of {count}"), || maglev.pick(random.bits(), |_| true));
    micro.time(&format!("balance/maglev of {count}, half refuse"), || maglev.pick(random.bits(), |one| one % 2 == 0));
    micro.time(&format!("balance/maglev of {count}, all refuse"), || maglev.pick(random.bits(), |_| false));
    micro.time(&format!("balance/ring of {count}, built"), || Ring::build(&endpoints));
    micro.time(&format!("balance/maglev of {count}, built"), || Maglev::build(&endpoints));
}
