//! A core inside the test's own process, for what cannot be seen from outside: allocations, planted panics, what is
//! left behind. No control thread; the plan is handed over as boot would.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use ringway::mesh::{self, CoreGauges, DrainStep, Receiver, Sender, ToControl, ToShard, Workers};
use ringway::net::EngineKind;
use ringway::observe::MetersSnapshot;
use ringway::plan::{Names, Node, Plan};
use ringway::serve::{self, CoreStart};
use ringway::shard::{ControlMessage, ShardMessage};
use ringway::sockets::{self, NewSockets};
use ringway::upstream::PoolShare;
use ringway_config::Source;

/// One running core.
pub struct Core {
    pub address: SocketAddr,
    inbox: Sender<ShardMessage>,
    from_core: Receiver<ControlMessage>,
    asked: u64,
}

struct NoNames;

impl Names for NoNames {
    fn addresses(&self, _host: &str) -> Vec<IpAddr> {
        Vec::new()
    }
}

impl Core {
    /// `at_start` runs on the core's thread before it serves.
    pub fn start(toml: &str, engine: EngineKind, at_start: impl FnOnce() + Clone + Send + 'static) -> Core {
        Core::start_all(toml, engine, 1, |_| at_start()).pop().expect("one core")
    }

    /// The cores of one node, with one plan and the same addresses.
    pub fn start_all(
        toml: &str,
        engine: EngineKind,
        count: usize,
        at_start: impl FnOnce(usize) + Clone + Send + 'static,
    ) -> Vec<Core> {
        let loaded = ringway_config::load(&Source { name: "test.toml".into(), text: toml.into() });
        let snapshot = loaded.unwrap_or_else(|errors| panic!("{errors}")).snapshot;
        let mut plan =
            Plan::build(&snapshot, 1, &NoNames, Node::new(count), None).unwrap_or_else(|faults| panic!("{faults:?}"));
        let mut new = Vec::new();
        let unpinned = vec![None; count];
        for (index, listener) in snapshot.listeners.iter().enumerate() {
            let made =
                sockets::bind(&listener.name, listener.bind[0], listener.backlog, listener.steering, &unpinned, false)
                    .unwrap();
            plan.listeners[index].addresses = vec![made[0].address];
            new.extend(made);
        }
        let address = new[0].address;
        plan.sockets = NewSockets::new(new);
        let plan = Arc::new(plan);
        let gauges = CoreGauges::new(count);
        let (inboxes, messages): (Vec<_>, Vec<_>) = (0..count).map(|_| mesh::inbox(64).unwrap()).unzip();
        let process = snapshot.process;
        let begin = |(core, inbox): (usize, Receiver<ShardMessage>)| {
            let (control, from_core) = mesh::inbox(64).unwrap();
            let start = CoreStart {
                core,
                cores: count,
                engine,
                limits: process.cores.each.clone(),
                share: PoolShare {
                    idle_max: process.pool.idle_max,
                    idle_per_endpoint_max: process.pool.idle_per_endpoint_max,
                    idle_timeout: process.pool.idle_timeout,
                    lifetime_max: process.pool.lifetime_max,
                },
                plan: plan.clone(),
                inbox,
                shards: inboxes.clone(),
                control,
                gauge: gauges.own(core),
                log: None,
                workers: Workers::start(1, 16).unwrap().0,
                seed: 7 + core as u64,
            };
            let at_start = at_start.clone();
            std::thread::spawn(move || {
                at_start(core);
                serve::run(start).unwrap();
            });
            Core { address, inbox: inboxes[core].clone(), from_core, asked: 0 }
        };
        messages.into_iter().enumerate().map(begin).collect()
    }

    /// What the core has counted by now.
    pub fn meters(&mut self) -> Box<MetersSnapshot> {
        self.asked += 1;
        assert!(self.inbox.try_send(ToShard::Meters { ask: self.asked }).is_ok(), "the core's inbox is full");
        for _ in 0..2000 {
            let mut found = None;
            self.from_core.drain(64, |message| {
                if let ToControl::Meters { ask, snapshot, .. } = message
                    && ask == self.asked
                {
                    found = Some(snapshot);
                }
            });
            if let Some(snapshot) = found {
                return snapshot;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        panic!("the core does not answer");
    }

    /// One of the core's own metrics.
    pub fn metric(&mut self, name: &str) -> u64 {
        self.meters().own.total(name)
    }

    /// The stalls reported so far, in nanoseconds.
    pub fn stalls(&mut self) -> Vec<u64> {
        let mut stalls = Vec::new();
        self.from_core.drain(64, |message| {
            if let ToControl::Stalled { lag_ns, .. } = message {
                stalls.push(lag_ns);
            }
        });
        stalls
    }

    /// The filters that held its loop: filter, route, nanoseconds.
    pub fn held(&mut self) -> Vec<(&'static str, String, u64)> {
        let mut all = Vec::new();
        self.from_core.drain(64, |message| {
            if let ToControl::Held { filter, route, held_ns, .. } = message {
                all.push((filter, route, held_ns));
            }
        });
        all
    }

    pub fn drain(&self, step: DrainStep) {
        assert!(self.inbox.try_send(ToShard::Drain(step)).is_ok(), "the core's inbox is full");
    }
}

/// Sends a request and reads its answer, which begins with `status`, into `answer`; allocates nothing of the core's.
pub fn exchange(client: &mut TcpStream, request: &[u8], answer: &mut [u8], status: &[u8]) {
    client.write_all(request).unwrap();
    let mut length = 0;
    loop {
        length += client.read(&mut answer[length..]).unwrap();
        let text = &answer[..length];
        assert!(text.starts_with(status), "{}", String::from_utf8_lossy(text));
        if let Some(head) = text.windows(4).position(|four| four == b"\r\n\r\n") {
            let head_text = String::from_utf8_lossy(&text[..head]).to_ascii_lowercase();
            let body = head_text.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
            if length >= head + 4 + body.trim().parse::<usize>().unwrap() {
                return;
            }
        }
    }
}
