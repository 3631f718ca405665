//! What a message between cores costs both ends while they are awake, and when the receiver has to be rung.

use std::hint::black_box;

use ringway::mesh::inbox;
use ringway_perf::micro::Micro;

const CAPACITY: usize = 1024;
const BATCH: u64 = 64;

fn main() -> std::io::Result<()> {
    let micro = Micro::from_args();
    let (sender, mut receiver) = inbox::<u64>(CAPACITY)?;
    micro.time("mesh/send+drain of 64, awake", || {
        for message in 0..BATCH {
            // There is room: each batch is drained below.
            let _ = sender.try_send(black_box(message));
        }
        receiver.drain(CAPACITY, |message| {
            black_box(message);
        })
    });
    micro.time("mesh/prepare, send, ring, drain", || {
        assert!(receiver.prepare_sleep(), "the inbox is empty");
        // There is room: one message at a time.
        let _ = sender.try_send(black_box(1));
        receiver.woken();
        receiver.drain(1, |message| {
            black_box(message);
        })
    });
    Ok(())
}
