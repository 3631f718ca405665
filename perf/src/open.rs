//! Open-loop load at a constant rate: requests are planned ahead of time and each latency counts from the planned moment,
//! so that a gateway that stalls is charged for every request it kept waiting. No planned request is left out: when all
//! connections are busy it waits for the next free one.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use crate::clients::{Clients, Mode, Outcome};
use crate::closed::side;
use crate::latency::{Errors, Latencies, LoadReport};
use crate::origin::{ADDRESSES, Origin};
use crate::ring::{Event, Ring, Side, Wait};

/// How long answers to the last planned requests may take before they count as errors.
const GRACE: Duration = Duration::from_secs(5);

pub struct OpenLoop {
    pub gateway_port: u16,
    pub origin_port: Option<u16>,
    pub path: String,
    pub connections: usize,
    /// Requests per second.
    pub rate: f64,
    pub warm: Duration,
    pub duration: Duration,
}

/// One request of the measured time.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When it was due.
    pub planned: Instant,
    /// From then to its answer; `None` if its connection was lost or the answer was wrong.
    pub latency: Option<Duration>,
}

/// Runs warm-up and measurement at the same rate; calls `measuring` between the two.
pub fn run(plan: &OpenLoop, measuring: impl FnOnce()) -> io::Result<LoadReport> {
    run_each(plan, measuring, |_| {})
}

/// The same; `each` gets every request of the measured time as it ends.
pub fn run_each(plan: &OpenLoop, measuring: impl FnOnce(), each: impl FnMut(Sample)) -> io::Result<LoadReport> {
    let mut ring = Ring::new()?;
    let listen = |port| Origin::listen(&mut ring, &ADDRESSES, port);
    let mut origin = plan.origin_port.map(listen).transpose()?;
    let mut load = Load {
        clients: Clients::new(plan.gateway_port, &plan.path, Mode::KeepAlive, false),
        free: VecDeque::new(),
        events: Vec::new(),
        latencies: Latencies::new(),
        answered: 0,
        failed: 0,
        errors: Errors::default(),
        each: None,
    };
    for _ in 0..plan.connections {
        let fd = load.clients.open_idle(&mut ring)?;
        load.free.push_back(fd);
    }
    load.pursue(&mut ring, &mut origin, Schedule::new(plan.rate, plan.warm))?;
    load.latencies = Latencies::new();
    load.answered = 0;
    load.failed = 0;
    load.each = Some(each);
    measuring();
    let start = Instant::now();
    load.pursue(&mut ring, &mut origin, Schedule::new(plan.rate, plan.duration))?;
    Ok(LoadReport::new(&load.latencies, load.answered, load.errors, start.elapsed().min(plan.duration)))
}

/// When each request is due: the k-th at start + k/rate.
struct Schedule {
    start: Instant,
    interval_ns: f64,
    total: u64,
    next: u64,
}

impl Schedule {
    fn new(rate: f64, time: Duration) -> Self {
        let total = (rate * time.as_secs_f64()) as u64;
        Self { start: Instant::now(), interval_ns: 1e9 / rate, total, next: 0 }
    }

    fn due_at(&self, request: u64) -> Instant {
        self.start + Duration::from_nanos((request as f64 * self.interval_ns) as u64)
    }

    /// The planned moment of the next request, if any is left.
    fn next_due(&self) -> Option<Instant> {
        (self.next < self.total).then(|| self.due_at(self.next))
    }
}

struct Load<F> {
    clients: Clients,
    free: VecDeque<RawFd>,
    events: Vec<Event>,
    latencies: Latencies,
    answered: u64,
    /// Requests whose connection was lost.
    failed: u64,
    errors: Errors,
    /// Once warm.
    each: Option<F>,
}

impl<F: FnMut(Sample)> Load<F> {
    fn pursue(&mut self, ring: &mut Ring, origin: &mut Option<Origin>, mut schedule: Schedule) -> io::Result<()> {
        let end = schedule.due_at(schedule.total) + GRACE;
        loop {
            let now = Instant::now();
            self.send_due(ring, &mut schedule, now);
            // Never sleeps while a request is planned: a timer's wake-up would be the first thing measured, and the
            // load has its core to itself.
            let wait = if schedule.next_due().is_some() { Duration::ZERO } else { Duration::from_millis(1) };
            let mut events = std::mem::take(&mut self.events);
            ring.turn(Wait::AtMost(wait), &mut events)?;
            for event in events.drain(..) {
                match (side(&event), origin.as_mut()) {
                    (Side::Origin, Some(origin)) => origin.on(ring, event),
                    (Side::Origin, None) => {}
                    (Side::Client, _) => self.on(ring, event)?,
                }
            }
            self.events = events;
            if schedule.next == schedule.total && self.answered + self.failed >= schedule.total {
                return Ok(());
            }
            if now >= end || self.errors.count > Errors::MAX {
                let missing = schedule.total - self.answered - self.failed;
                (0..missing).for_each(|_| self.errors.add(|| "a request had no answer in time".to_owned()));
                return Ok(());
            }
        }
    }

    fn send_due(&mut self, ring: &mut Ring, schedule: &mut Schedule, now: Instant) {
        while let Some(due) = schedule.next_due().filter(|&due| due <= now) {
            let Some(fd) = self.free.pop_front() else { return };
            if self.clients.ask(ring, fd, due) {
                schedule.next += 1;
            }
        }
    }

    fn on(&mut self, ring: &mut Ring, event: Event) -> io::Result<()> {
        match self.clients.on(ring, event) {
            None | Some(Outcome::Closed) => {}
            Some(Outcome::Answered { fd, started }) => {
                self.answered += 1;
                let latency = started.elapsed();
                self.latencies.record(latency);
                self.tell(Sample { planned: started, latency: Some(latency) });
                self.free.push_back(fd);
            }
            Some(Outcome::Failed { asked, why }) => {
                if let Some(planned) = asked {
                    self.failed += 1;
                    self.tell(Sample { planned, latency: None });
                }
                self.errors.add(|| why.map_or("a connection was lost".to_owned(), |broken| broken.to_string()));
                let fd = self.clients.open_idle(ring)?;
                self.free.push_back(fd);
            }
        }
        Ok(())
    }

    fn tell(&mut self, sample: Sample) {
        if let Some(each) = &mut self.each {
            each(sample);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_does_not_drift() {
        let schedule = Schedule::new(30_000.0, Duration::from_secs(10));
        assert_eq!(schedule.total, 300_000);
        assert_eq!(schedule.due_at(300_000) - schedule.start, Duration::from_secs(10));
    }

    /// One connection against a server that answers each request 20 ms late: the plan runs far ahead, and the latencies
    /// must grow with it although each answer took 20 ms.
    #[test]
    fn waiting_for_a_free_connection_counts() {
        const DELAY: Duration = Duration::from_millis(20);
        let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = server.local_addr().expect("bound").port();
        std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut client, _) = server.accept().expect("a client");
            let mut bytes = [0; 1024];
            while client.read(&mut bytes).is_ok_and(|got| got > 0) {
                std::thread::sleep(DELAY);
                if client.write_all(&crate::http::Answer::B100.bytes(false)).is_err() {
                    return;
                }
            }
        });
        let plan = OpenLoop {
            gateway_port: port,
            origin_port: None,
            path: "/b100".to_owned(),
            connections: 1,
            rate: 200.0,
            warm: Duration::ZERO,
            duration: Duration::from_millis(100),
        };
        let report = run(&plan, || {}).expect("a ring");
        assert_eq!((report.requests, report.errors), (20, 0), "no planned request may be left out");
        // The last of 20 was planned at 95 ms and answered at 400 ms at the earliest.
        assert!(report.max_us >= 300_000.0, "coordinated omission: max {} us", report.max_us);
    }
}
