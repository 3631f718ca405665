//! A fixed piece of work, timed beside each run, to see when the machine itself was slow: loopback TCP round trips inside
//! one thread, which is nearly all that a gateway does.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Instant;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

const BATCHES: usize = 12;
const ROUND_TRIPS: usize = 300;
const MESSAGE_BYTES: usize = 100;

/// Nanoseconds per send and receive of 100 bytes on `core`: the median of a dozen batches, in about 30 ms.
pub fn measure(core: usize) -> io::Result<f64> {
    let before = sched_getaffinity(None)?;
    pin(core)?;
    let result = round_trips();
    sched_setaffinity(None, &before)?;
    result
}

/// Pins the calling thread.
pub fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

fn round_trips() -> io::Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let mut message = [b'x'; MESSAGE_BYTES];
    let mut batches = [0.0; BATCHES];
    for batch in &mut batches {
        let start = Instant::now();
        for _ in 0..ROUND_TRIPS {
            near.write_all(&message)?;
            far.read_exact(&mut message)?;
            far.write_all(&message)?;
            near.read_exact(&mut message)?;
        }
        *batch = start.elapsed().as_nanos() as f64 / (2 * ROUND_TRIPS) as f64;
    }
    Ok(crate::stats::median(&batches))
}
