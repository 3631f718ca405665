//! Judges of the gateway: an origin, loads, an L4 floor, and side-by-side runs against rivals. Nothing here is shipped.

use std::io::Read;
use std::time::Duration;

pub mod access;
pub mod ballast;
pub mod bars;
pub mod calib;
pub mod case;
pub mod clients;
pub mod closed;
pub mod frozen;
mod gateway;
pub mod http;
pub mod idle;
pub mod instructions;
pub mod latency;
pub mod micro;
pub mod open;
pub mod origin;
mod other;
pub mod peer;
pub mod report;
pub mod ring;
pub mod rounds;
pub mod routing;
pub mod stats;
pub mod trial;
pub mod usage;

/// Refuses flags that nobody asked for.
pub fn no_flags_left(flags: pico_args::Arguments) -> Result<(), String> {
    match flags.finish().as_slice() {
        [] => Ok(()),
        [first, ..] => Err(format!("unknown flag {}", first.display())),
    }
}

/// A flag's time in seconds, with a fraction if need be.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| format!("`{text}` is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("`{text}`: {error}"))
}

/// Waits until whoever started this process has closed its input: a load that has reported stays in the process table
/// until its CPU time has been read.
pub fn wait_for_input_end() {
    // An input that cannot be read has ended, too.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
