//! The gateway as a process: started with a test's TOML, watched, signalled, and ended with the test. Knows no HTTP details.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::cli::{Ran, binary, ringway};
use super::client::{Client, Response};
use super::config::{Ports, fill};
use super::log::Line;
use super::metrics::Metrics;
use super::{SOON, wait_for, wait_until};

/// From exec to `/readyz` 200, on a loaded machine.
const START_TIME_MAX: Duration = Duration::from_secs(15);

static NEXT_DIR: AtomicU32 = AtomicU32::new(0);

/// A directory that ends with its owner.
#[derive(Debug)]
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        let number = NEXT_DIR.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ringway-e2e-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("write a file");
        path
    }
}

impl Default for Dir {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// How to start; `Gateway::start` takes the defaults.
#[derive(Default)]
pub struct Builder {
    toml: String,
    child: ChildLimits,
    wrapper: Vec<String>,
}

/// What the child is put under between fork and exec.
#[derive(Debug, Default, Clone, Copy)]
pub struct ChildLimits {
    /// Open files, soft and hard.
    pub files: Option<(u64, u64)>,
    /// Descriptors it inherits and knows nothing of.
    pub junk_files: usize,
    pub no_io_uring: bool,
}

impl Builder {
    /// Soft and hard limit of open files.
    pub fn files(mut self, soft: u64, hard: u64) -> Self {
        self.child.files = Some((soft, hard));
        self
    }

    pub fn junk_files(mut self, count: usize) -> Self {
        self.child.junk_files = count;
        self
    }

    pub fn without_io_uring(mut self) -> Self {
        self.child.no_io_uring = true;
        self
    }

    /// A program and its arguments that start the gateway (`taskset -c 0`).
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&w| w.to_owned()).collect();
        self
    }

    /// The engine, whatever the suite runs on.
    pub fn io(mut self, engine: &str) -> Self {
        self.toml = format!("io = \"{engine}\"\n{}", self.toml);
        self
    }

    /// Shards, whatever the suite runs on. Not for a document with a `[cores]` of its own.
    pub fn shards(mut self, count: usize) -> Self {
        self.toml.push_str(&format!("\n[cores]\ncount = {count}\n"));
        self
    }

    pub fn start(self) -> Gateway {
        let gateway = self.spawn();
        gateway.wait_ready();
        gateway
    }

    /// Without waiting: for starts that should fail.
    pub fn spawn(self) -> Gateway {
        let (dir, mut ports) = (Dir::new(), Ports::default());
        let filled = fill(&self.toml, dir.path(), &mut ports);
        let config = dir.file("ringway.toml", &filled.text);
        let mut command = match self.wrapper.split_first() {
            Some((program, rest)) => {
                let mut command = Command::new(program);
                command.args(rest).arg(binary());
                command
            }
            None => Command::new(binary()),
        };
        command.arg("run").arg("-c").arg(&config);
        let (child, output) = launch(command, self.child);
        Gateway { child, output, dir, config, ports, listeners: filled.listeners, telemetry: filled.telemetry }
    }
}

/// Spawns with both output streams gathered; the child does not outlive the test's thread.
pub fn launch(mut command: Command, limits: ChildLimits) -> (Child, Arc<Mutex<String>>) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: only async-signal-safe calls (prctl, setrlimit, dup) and no allocation between fork and exec.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if let Some((rlim_cur, rlim_max)) = limits.files {
                let limit = libc::rlimit { rlim_cur, rlim_max };
                if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            for _ in 0..limits.junk_files {
                libc::dup(0);
            }
            if limits.no_io_uring { super::odd::forbid_io_uring() } else { Ok(()) }
        });
    }
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let output = Arc::new(Mutex::new(String::new()));
    gather(child.stdout.take().expect("piped"), &output);
    gather(child.stderr.take().expect("piped"), &output);
    (child, output)
}

fn gather(from: impl Read + Send + 'static, into: &Arc<Mutex<String>>) {
    let into = Arc::clone(into);
    thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            into.lock().expect("output").push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
}

pub struct Gateway {
    child: Child,
    output: Arc<Mutex<String>>,
    pub dir: Dir,
    pub config: PathBuf,
    ports: Ports,
    listeners: BTreeMap<String, SocketAddr>,
    telemetry: SocketAddr,
}

impl Gateway {
    /// Runs with this document, ready to serve.
    #[track_caller]
    pub fn start(toml: &str) -> Self {
        Self::with(toml).start()
    }

    pub fn with(toml: &str) -> Builder {
        Builder { toml: toml.to_owned(), ..Builder::default() }
    }

    #[track_caller]
    fn wait_ready(&self) {
        wait_until("readyz 200", START_TIME_MAX, || {
            if !self.running() {
                thread::sleep(super::ms(50)); // for its last words
                panic!("ended while starting: {}", self.output());
            }
            self.try_telemetry("/readyz").is_some_and(|r| r.status == 200)
        });
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Not yet a zombie. Reads `/proc`, so that `wait_exit` still gets the status.
    pub fn running(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with(['Z', 'X']) && !rest.is_empty())
    }

    /// The address of `main`, or of the only listener.
    #[track_caller]
    pub fn addr(&self) -> SocketAddr {
        *self.listeners.get("main").or_else(|| self.listeners.values().next()).expect("a listener")
    }

    #[track_caller]
    pub fn addr_of(&self, listener: &str) -> SocketAddr {
        self.listeners[listener]
    }

    pub fn telemetry_addr(&self) -> SocketAddr {
        self.telemetry
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        Client::to(self.addr())
    }

    /// `GET` on a connection of its own.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.client().request("GET", target, "Connection: close\r\n", b"")
    }

    /// Raw bytes on a connection of their own, and the first answer.
    #[track_caller]
    pub fn exchange(&self, bytes: impl AsRef<[u8]>) -> Response {
        self.client().send(bytes).response()
    }

    #[track_caller]
    pub fn telemetry(&self, path: &str) -> Response {
        self.try_telemetry(path).unwrap_or_else(|| panic!("no answer to {path} on {}", self.telemetry))
    }

    pub fn try_telemetry(&self, path: &str) -> Option<Response> {
        let mut client = Client::try_to(self.telemetry, SOON).ok()?;
        client.try_send(super::client::request("GET", path, "Connection: close\r\n", b"")).ok()?;
        client.try_response("GET").ok()
    }

    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.telemetry("/metrics").expect(200).text())
    }

    /// Meters travel to the telemetry listener in snapshots; this waits for one that shows it.
    #[track_caller]
    pub fn wait_metrics(&self, what: &str, shows: impl Fn(&Metrics) -> bool) -> Metrics {
        wait_for(what, SOON, || Some(self.metrics()).filter(&shows))
    }

    /// Both output streams so far.
    pub fn output(&self) -> String {
        self.output.lock().expect("output").clone()
    }

    #[track_caller]
    pub fn wait_output(&self, needle: &str) {
        wait_until(&format!("{needle:?} in {:?}", self.output()), SOON, || self.output().contains(needle));
    }

    pub fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.pid()).expect("a pid");
        // SAFETY: kill(2) takes plain integers; the pid is our child's, not yet waited for.
        let done = unsafe { libc::kill(pid, signal) };
        assert_eq!(done, 0, "kill {pid}: {}", std::io::Error::last_os_error());
    }

    /// The exit status if it ends within `limit`.
    pub fn wait_exit(&mut self, limit: Duration) -> Option<ExitStatus> {
        let start = std::time::Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return Some(status);
            }
            if start.elapsed() > limit {
                return None;
            }
            thread::sleep(super::ms(5));
        }
    }

    /// Writes a new document; ports of known listeners stay.
    pub fn rewrite(&mut self, toml: &str) {
        let filled = fill(toml, self.dir.path(), &mut self.ports);
        fs::write(&self.config, &filled.text).expect("rewrite the configuration");
        self.listeners = filled.listeners;
    }

    /// `ringway reload -c FILE`.
    #[track_caller]
    pub fn reload(&self) -> Ran {
        ringway(["reload", "-c", self.config.to_str().expect("a plain path")])
    }

    #[track_caller]
    pub fn rewrite_and_reload(&mut self, toml: &str) {
        self.rewrite(toml);
        self.reload().expect(0);
    }

    /// Access-log lines so far.
    #[track_caller]
    pub fn log(&self) -> Vec<Line> {
        let text = fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        whole.lines().map(Line::parse).collect()
    }

    /// The first `count` lines or more.
    #[track_caller]
    pub fn wait_log(&self, count: usize) -> Vec<Line> {
        wait_for(&format!("{count} access-log lines"), SOON, || Some(self.log()).filter(|l| l.len() >= count))
    }

    /// CPU time the process has used, all threads.
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("stat of the gateway");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|f| f.parse::<u64>().expect("ticks")).sum();
        Duration::from_millis(ticks * 10) // USER_HZ is 100 on Linux
    }

    /// The soft limit of open files it runs with.
    pub fn files_limit(&self) -> u64 {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.pid())).expect("limits of the gateway");
        let line = limits.lines().find(|l| l.starts_with("Max open files")).expect("the line for open files");
        line.split_whitespace().nth(3).and_then(|n| n.parse().ok()).expect("a number")
    }

    /// Affinity masks of its threads, by thread name.
    pub fn thread_cpus(&self) -> Vec<(String, String)> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("tasks of the gateway");
        tasks
            .flatten()
            .filter_map(|task| {
                let status = fs::read_to_string(task.path().join("status")).ok()?;
                let field = |name: &str| {
                    status.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned()).unwrap_or_default()
                };
                Some((field("Name:"), field("Cpus_allowed_list:")))
            })
            .collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if thread::panicking() {
            eprintln!("--- gateway said:\n{}--- its document:", self.output());
            eprintln!("{}---", fs::read_to_string(&self.config).unwrap_or_default());
        }
    }
}
