//! Open-loop load at a constant rate, latency counted from the planned moment; prints `measuring` when the warm-up is
//! over and one JSON line at the end. Plays the origin in the same thread if asked to.
//!
//! usage: open_loop --gateway PORT --rate RPS [--origin PORT] [--path /b100] [--connections 64] [--warm SECONDS]
//!                  [--duration SECONDS] [--linger]
//!
//! With `--linger` it stays until its input ends, so that whoever started it can read its CPU time.

use std::error::Error;

use ringway_perf::open::{OpenLoop, run};
use ringway_perf::{no_flags_left, seconds, wait_for_input_end};

fn main() -> Result<(), Box<dyn Error>> {
    let mut flags = pico_args::Arguments::from_env();
    let plan = OpenLoop {
        gateway_port: flags.value_from_str("--gateway")?,
        origin_port: flags.opt_value_from_str("--origin")?,
        path: flags.opt_value_from_str("--path")?.unwrap_or("/b100".to_owned()),
        connections: flags.opt_value_from_str("--connections")?.unwrap_or(64),
        rate: flags.value_from_fn("--rate", rate)?,
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

fn rate(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|rate| *rate >= 1.0 && *rate <= 1e7).ok_or(format!("`{text}` is no rate of 1 to 1e7"))
}
