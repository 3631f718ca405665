//! What a command and a lease of tokens from Redis cost the core that asks for them: its CPU time, the server's, and how many
//! there are in a second. One core's client, one `redis-server` of its own over loopback.
//!
//!     cargo bench -p ringway-perf --bench redis

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use ringway::net::{EngineKind, Net, NetLimits, spawn};
use ringway::observe::RedisMeters;
use ringway::redis::{Cluster, Library, RedisPlan};
use ringway_config::Source;

/// Tasks that ask at the same time, each waiting for its answer before it asks again.
const AT_A_TIME: [usize; 4] = [1, 16, 128, 512];
const RUN: Duration = Duration::from_secs(2);
/// Under `cargo test` a bench only has to run.
const RUN_ONCE: Duration = Duration::from_millis(20);
const WARM: Duration = Duration::from_millis(300);
const KEYS: usize = 64;

/// A token bucket: how much of a lease is granted, what is left, when to ask again.
const BUCKET: Library = Library {
    name: "lease",
    code: "#!lua name=lease
local function take(keys, args)
  local rate, burst, cost = tonumber(args[1]), tonumber(args[2]), tonumber(args[3])
  local t = redis.call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  local h = redis.call('HMGET', keys[1], 'n', 't')
  local n, last = tonumber(h[1]) or burst, tonumber(h[2]) or now
  n = math.min(burst, n + math.max(0, now - last) * rate / 1000)
  local granted = math.min(cost, math.floor(n))
  redis.call('HSET', keys[1], 'n', n - granted, 't', now)
  redis.call('PEXPIRE', keys[1], math.ceil(burst * 1000 / rate) + 1000)
  return {granted, math.floor(n), 0}
end
redis.register_function('take', take)
",
};

#[derive(Clone, Copy)]
enum Job {
    Get,
    Lease,
}

/// Killed with the bench.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    let spawned = command.stdout(Stdio::null()).spawn();
    let _server = Server(spawned.map_err(|error| format!("redis-server: {error}; scripts/setup --test installs it"))?);
    std::thread::sleep(Duration::from_millis(300));
    // Cargo passes `--bench` when it measures, and nothing of the kind when it tests.
    let run = if std::env::args().any(|argument| argument == "--bench") { RUN } else { RUN_ONCE };
    println!("{:<10} {:>9} {:>12} {:>14} {:>14}", "what", "at a time", "per second", "own CPU, us", "server's, us");
    for engine in [EngineKind::IoUring, EngineKind::Epoll] {
        println!("{}", engine.as_str());
        for (name, job) in [("GET", Job::Get), ("lease", Job::Lease)] {
            for tasks in AT_A_TIME {
                let row = std::thread::spawn(move || {
                    measure(engine, port, job, tasks, run).map_err(|error| error.to_string())
                });
                let [rate, own, servers] = row.join().map_err(|_| "the core panicked")??;
                println!("{name:<10} {tasks:>9} {rate:>12.0} {own:>14.2} {servers:>14.2}");
            }
        }
    }
    Ok(())
}

/// Answers in a second; microseconds of this thread and of the server for each.
fn measure(engine: EngineKind, port: u16, job: Job, tasks: usize, run: Duration) -> Result<[f64; 3], Box<dyn Error>> {
    let net = Net::new(engine, &NetLimits { ring_entries: 4096, buffer_bytes: 16384, buffers_max: 1024 })?;
    let redis = Rc::new(Cluster::start(0, &net, &plan(port)?, Rc::new(RedisMeters::new("bench"))));
    let count = Rc::new(Cell::new(0_u64));
    for task in 0..tasks {
        let (redis, count) = (redis.clone(), count.clone());
        spawn(async move {
            let key = format!("{}-{}", if matches!(job, Job::Get) { "value" } else { "bucket" }, task % KEYS);
            loop {
                if ask(&redis, job, key.as_bytes()).await {
                    count.set(count.get() + 1);
                }
            }
        });
    }
    let result = Rc::new(RefCell::new(None));
    let (writes, ends) = (result.clone(), net.clone());
    spawn(async move {
        ends.sleep(WARM).await;
        let (began, before, own, servers) = (Instant::now(), count.get(), own_cpu_us(), server_cpu_us(&redis).await);
        ends.sleep(run).await;
        let answered = (count.get() - before) as f64;
        let spent = [own_cpu_us() - own, server_cpu_us(&redis).await - servers];
        let rate = answered / began.elapsed().as_secs_f64();
        writes.replace(Some([rate, spent[0] / answered, spent[1] / answered]));
        ends.stop();
    });
    net.run(|_| {})?;
    let measured = result.borrow().ok_or("no measurement")?;
    Ok(measured)
}

async fn ask(redis: &Cluster, job: Job, key: &[u8]) -> bool {
    match job {
        Job::Get => redis.read(key, &[b"GET", key]).await.is_ok(),
        Job::Lease => redis.function(&BUCKET, "take", &[key], &[b"1000000", b"1000000", b"10"]).await.is_ok(),
    }
}

fn plan(port: u16) -> Result<RedisPlan, Box<dyn Error>> {
    let text = format!(
        "[redis.bench]\nnodes = [\"127.0.0.1:{port}\"]\ntimeout = \"1s\"\nactive_max = 1000\n[listeners.a]\nbind = \":1\"\n\
         [[routes]]\nname = \"a\"\nrespond = {{ body = \"a\" }}\n"
    );
    let loaded =
        ringway_config::load(&Source { name: "bench".to_owned(), text }).map_err(|errors| errors.to_string())?;
    let plan = RedisPlan::new(&loaded.snapshot.process.redis[0], |_| Vec::new(), 1);
    Ok(plan.map_err(|fault| fault.to_string())?)
}

fn own_cpu_us() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

async fn server_cpu_us(redis: &Cluster) -> f64 {
    let Ok(reply) = redis.read(b"", &[b"INFO", b"cpu"]).await else { return 0.0 };
    let text = String::from_utf8_lossy(reply.text().map_or(&[], |text| text)).into_owned();
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.parse::<f64>().ok()).unwrap_or(0.0);
    (value("used_cpu_user:") + value("used_cpu_sys:")) * 1e6
}
