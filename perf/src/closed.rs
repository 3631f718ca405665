//! Closed-loop load: each connection asks again as soon as it has its answer, so that the gateway's core is the one that
//! saturates. Load and origin share one thread and one ring; see `open` for latency at a constant rate.

use std::io;
use std::time::{Duration, Instant};

use crate::clients::{Clients, Mode, Outcome};
use crate::latency::{Errors, Latencies, LoadReport};
use crate::origin::{ADDRESSES, Origin};
use crate::ring::{Event, Ring, Side, Wait};

const TURN_MAX: Duration = Duration::from_millis(50);

pub struct ClosedLoop {
    pub gateway_port: u16,
    /// Where to play the origin, if not elsewhere.
    pub origin_port: Option<u16>,
    pub path: String,
    /// Requests bring a token (`access`).
    pub with_token: bool,
    pub mode: Mode,
    pub connections: usize,
    pub warm: Duration,
    pub duration: Duration,
}

/// Runs warm-up and measurement; calls `measuring` between the two.
pub fn run(plan: &ClosedLoop, measuring: impl FnOnce()) -> io::Result<LoadReport> {
    let mut ring = Ring::new()?;
    let listen = |port| Origin::listen(&mut ring, &ADDRESSES, port);
    let mut origin = plan.origin_port.map(listen).transpose()?;
    let mut load = Load::new(Clients::new(plan.gateway_port, &plan.path, plan.mode, plan.with_token));
    for _ in 0..plan.connections {
        load.clients.open(&mut ring, Instant::now())?;
    }
    load.turn_until(&mut ring, &mut origin, Instant::now() + plan.warm)?;
    load.requests = 0;
    load.latencies = Latencies::new();
    measuring();
    let start = Instant::now();
    load.turn_until(&mut ring, &mut origin, start + plan.duration)?;
    Ok(LoadReport::new(&load.latencies, load.requests, load.errors, start.elapsed()))
}

struct Load {
    clients: Clients,
    events: Vec<Event>,
    latencies: Latencies,
    requests: u64,
    errors: Errors,
}

impl Load {
    fn new(clients: Clients) -> Self {
        let (events, latencies, errors) = (Vec::new(), Latencies::new(), Errors::default());
        Self { clients, events, latencies, requests: 0, errors }
    }

    fn turn_until(&mut self, ring: &mut Ring, origin: &mut Option<Origin>, end: Instant) -> io::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        loop {
            ring.turn(Wait::AtMost(TURN_MAX), &mut events)?;
            // One reading per turn: the few microseconds of a turn are not what a closed loop measures.
            let now = Instant::now();
            for event in events.drain(..) {
                match (side(&event), origin.as_mut()) {
                    (Side::Origin, Some(origin)) => origin.on(ring, event),
                    (Side::Origin, None) => {}
                    (Side::Client, _) => self.on(ring, event, now)?,
                }
            }
            if now >= end || self.errors.count > Errors::MAX {
                self.events = events;
                return Ok(());
            }
        }
    }

    fn on(&mut self, ring: &mut Ring, event: Event, now: Instant) -> io::Result<()> {
        match self.clients.on(ring, event) {
            None => Ok(()),
            Some(Outcome::Answered { fd, started }) => {
                self.requests += 1;
                self.latencies.record(now - started);
                if self.clients.mode() != Mode::Close {
                    self.clients.ask(ring, fd, now);
                }
                Ok(())
            }
            Some(Outcome::Closed) => self.clients.open(ring, now),
            Some(Outcome::Failed { why, .. }) => {
                self.errors.add(|| why.map_or("a connection was lost".to_owned(), |broken| broken.to_string()));
                self.clients.open(ring, now)
            }
        }
    }
}

/// Whose event it is.
pub fn side(event: &Event) -> Side {
    match event {
        Event::Accepted { side, .. }
        | Event::Received { side, .. }
        | Event::Ended { side, .. }
        | Event::Sent { side, .. } => *side,
    }
}
