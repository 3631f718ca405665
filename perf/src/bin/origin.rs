//! The measuring origin as a process of its own, for runs whose load comes from another program (`wrk`, `curl`).
//!
//! usage: origin --port PORT [--address 127.0.0.2]        on 127.0.0.1 to 127.0.0.3 if none is named

use std::error::Error;

use ringway_perf::origin::{ADDRESSES, Origin};
use ringway_perf::ring::{Ring, Wait};

fn main() -> Result<(), Box<dyn Error>> {
    let mut flags = pico_args::Arguments::from_env();
    let port = flags.value_from_str("--port")?;
    let only = flags.opt_value_from_str("--address")?;
    ringway_perf::no_flags_left(flags)?;
    let mut ring = Ring::new()?;
    let mut origin = match only {
        Some(address) => Origin::listen(&mut ring, &[address], port)?,
        None => Origin::listen(&mut ring, &ADDRESSES, port)?,
    };
    println!("ready");
    let mut events = Vec::new();
    loop {
        ring.turn(Wait::Forever, &mut events)?;
        for event in events.drain(..) {
            origin.on(&mut ring, event);
        }
    }
}
