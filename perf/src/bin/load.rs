//! Closed-loop load with the origin in the same thread; prints `measuring` when the warm-up is over and one JSON line at
//! the end.
//!
//! usage: load --gateway PORT [--origin PORT] [--path /b100] [--mode keepalive|close|upload] [--connections 64]
//!             [--with-token] [--warm SECONDS] [--duration SECONDS] [--linger]
//!
//! With `--linger` it stays until its input ends, so that whoever started it can read its CPU time.

use std::error::Error;

use ringway_perf::clients::Mode;
use ringway_perf::closed::{ClosedLoop, run};
use ringway_perf::{no_flags_left, seconds, wait_for_input_end};

fn main() -> Result<(), Box<dyn Error>> {
    let mut flags = pico_args::Arguments::from_env();
    let plan = ClosedLoop {
        gateway_port: flags.value_from_str("--gateway")?,
        origin_port: flags.opt_value_from_str("--origin")?,
        path: flags.opt_value_from_str("--path")?.unwrap_or("/b100".to_owned()),
        with_token: flags.contains("--with-token"),
        mode: flags.opt_value_from_str("--mode")?.unwrap_or(Mode::KeepAlive),
        connections: flags.opt_value_from_str("--connections")?.unwrap_or(64),
        warm: flags.opt_value_from_fn("--warm", seconds)?.unwrap_or_default(),
        duration: flags.opt_value_from_fn("--duration", seconds)?.unwrap_or(seconds("5")?),
    };
    let linger = flags.contains("--linger");
    no_flags_left(flags)?;
    let report = run(&plan, || println!("measuring"))?;
    println!("{}", serde_json::to_string(&report)?);
    if linger {
        wait_for_input_end();
    }
    Ok(())
}
