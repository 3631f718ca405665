//! The measuring origin as a process of its own, for runs whose load comes from another program (`wrk`, `curl`).
//!
//! usage: origin --port PORT

use std::error::Error;

use ringway_perf::origin::Origin;
use ringway_perf::ring::{Ring, Wait};

fn main() -> Result<(), Box<dyn Error>> {
    let mut flags = pico_args::Arguments::from_env();
    let port = flags.value_from_str("--port")?;
    ringway_perf::no_flags_left(flags)?;
    let mut ring = Ring::new()?;
    let mut origin = Origin::listen(&mut ring, port)?;
    println!("ready");
    let mut events = Vec::new();
    loop {
        ring.turn(Wait::Forever, &mut events)?;
        for event in events.drain(..) {
            origin.on(&mut ring, event);
        }
    }
}
