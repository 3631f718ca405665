//! Real Redis servers, alone or as a cluster of three masters and three replicas, on ports of their own; and a blocking
//! client to arrange things with. What dies with a test are its servers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ringway_proto::resp::{FrameScan, Reply, RespVersion, decode, write_command};

use super::gateway::{ChildLimits, Dir, launch};
use super::ports::Port;
use super::{SOON, ms, wait_for, wait_until};

const PROGRAM: &str = "redis-server";
/// How fast a dead master is noticed.
const NODE_TIMEOUT_MS: &str = "1000";
pub const MASTERS: usize = 3;

/// True, and said, if there is no server to test with.
pub fn is_missing(test: &str) -> bool {
    let found = Command::new(PROGRAM).arg("--version").output().is_ok();
    if !found {
        eprintln!("SKIPPED {test}: there is no {PROGRAM}; scripts/setup --test installs it");
    }
    !found
}

pub struct RedisServer {
    port: Port,
    bus: Port,
    dir: Dir,
    options: Vec<String>,
    process: Mutex<(Child, Arc<Mutex<String>>)>,
}

impl RedisServer {
    /// With options as on its command line.
    #[track_caller]
    pub fn start(options: &[&str]) -> Arc<RedisServer> {
        let server = RedisServer::launch(options);
        server.wait_until_up();
        Arc::new(server)
    }

    fn launch(options: &[&str]) -> RedisServer {
        let (port, bus, dir) = (Port::lease(), Port::lease(), Dir::new());
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let process = Mutex::new(run(&port, &bus, &dir, &options));
        RedisServer { port, bus, dir, options, process }
    }

    #[track_caller]
    fn wait_until_up(&self) {
        wait_until(&format!("a server at {}", self.address()), SOON, || {
            Talk::try_to(self.address()).is_some_and(|mut talk| talk.ask(&["PING"]) != Reply::Nil)
        });
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address().parse().expect("an address")
    }

    pub fn port(&self) -> u16 {
        self.port.number
    }

    pub fn talk(&self) -> Talk {
        Talk::try_to(self.address()).expect("the server is up")
    }

    /// One command on a connection of its own.
    #[track_caller]
    pub fn ask(&self, args: &[&str]) -> Reply {
        self.talk().ask(args)
    }

    /// The same, for what must succeed and is text.
    #[track_caller]
    pub fn text(&self, args: &[&str]) -> String {
        text(&self.ask(args))
    }

    /// A number out of `INFO`.
    #[track_caller]
    pub fn info(&self, key: &str) -> u64 {
        let all = self.text(&["INFO", "everything"]);
        let line = all.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {key} in {all}")).parse().expect("a number")
    }

    /// How often it has run a command.
    #[track_caller]
    pub fn calls(&self, command: &str) -> u64 {
        let all = self.text(&["INFO", "commandstats"]);
        let line = all.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |line| line.split(',').next().expect("a number").parse().expect("a number"))
    }

    fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.process.lock().expect("a process").0.id()).expect("a pid");
        // SAFETY: kill(2) takes plain integers; the pid is our child's, not yet waited for.
        let done = unsafe { libc::kill(pid, signal) };
        assert_eq!(done, 0, "kill {pid}: {}", std::io::Error::last_os_error());
    }

    pub fn kill(&self) {
        let mut process = self.process.lock().expect("a process");
        process.0.kill().expect("kill a server");
        process.0.wait().expect("wait for a server");
    }

    /// Connections stay, new ones are taken by the kernel, nobody answers.
    pub fn stop(&self) {
        self.signal(libc::SIGSTOP);
    }

    pub fn go_on(&self) {
        self.signal(libc::SIGCONT);
    }

    #[track_caller]
    pub fn restart(&self) {
        *self.process.lock().expect("a process") = run(&self.port, &self.bus, &self.dir, &self.options);
        self.wait_until_up();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let Ok((child, output)) = self.process.get_mut() else { return };
        child.kill().ok();
        child.wait().ok();
        if std::thread::panicking() {
            eprintln!("{}: {}", self.port.address(), output.lock().expect("output"));
        }
    }
}

fn run(port: &Port, bus: &Port, dir: &Dir, options: &[String]) -> (Child, Arc<Mutex<String>>) {
    let mut command = Command::new(PROGRAM);
    command.args(["--port", &port.number.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    // A replica to which its master has sent nothing yet is in nobody's list.
    command.args(["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", "--dir"]).arg(dir.path());
    if options.iter().any(|option| option == "--cluster-enabled") {
        command.args(["--cluster-port", &bus.number.to_string()]);
    }
    command.args(options);
    launch(command, ChildLimits::default())
}

/// Three masters with a third of the slots each, then their replicas in the same order.
pub struct RedisCluster {
    pub servers: Vec<RedisServer>,
}

impl RedisCluster {
    #[track_caller]
    pub fn start() -> Arc<RedisCluster> {
        let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", NODE_TIMEOUT_MS];
        let servers: Vec<RedisServer> = (0..2 * MASTERS).map(|_| RedisServer::launch(&options)).collect();
        servers.iter().for_each(RedisServer::wait_until_up);
        let cluster = RedisCluster { servers };
        let (first, rest) = cluster.servers.split_first().expect("six");
        for (index, master) in cluster.masters().iter().enumerate() {
            let (from, to) = (index * 16384 / MASTERS, (index + 1) * 16384 / MASTERS - 1);
            master.text(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]);
            // Else two of them may both believe to be the first of their time.
            master.text(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
        }
        for server in rest {
            let (port, bus) = (server.port.number.to_string(), server.bus.number.to_string());
            first.text(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        for (index, replica) in cluster.servers[MASTERS..].iter().enumerate() {
            let id = cluster.servers[index].id();
            wait_until("a replica that knows its master", SOON, || {
                matches!(replica.ask(&["CLUSTER", "REPLICATE", &id]), Reply::Text(_))
            });
        }
        cluster.wait_until_whole();
        Arc::new(cluster)
    }

    /// Every server knows every slot's master, and every replica has caught up.
    #[track_caller]
    pub fn wait_until_whole(&self) {
        for server in &self.servers {
            wait_until("a cluster that serves", SOON * 2, || {
                let all = server.text(&["CLUSTER", "INFO"]);
                let linked = !server.text(&["INFO", "replication"]).contains("master_link_status:down");
                let rows = server.ask(&["CLUSTER", "SLOTS"]);
                let with_replicas =
                    rows.list().is_some_and(|rows| rows.iter().all(|row| row.list().is_some_and(|row| row.len() == 4)));
                all.contains("cluster_state:ok") && all.contains("cluster_known_nodes:6") && linked && with_replicas
            });
        }
    }

    pub fn masters(&self) -> &[RedisServer] {
        &self.servers[..MASTERS]
    }

    /// Who has a slot at the beginning.
    pub fn owner(&self, slot: u16) -> usize {
        (0..MASTERS).find(|index| usize::from(slot) < (index + 1) * 16384 / MASTERS).expect("a third")
    }

    /// `nodes = [...]` with every server.
    pub fn nodes(&self) -> String {
        let nodes: Vec<String> = self.servers.iter().map(|server| format!("\"{}\"", server.address())).collect();
        format!("nodes = [{}]", nodes.join(", "))
    }
}

impl RedisServer {
    pub fn id(&self) -> String {
        self.text(&["CLUSTER", "MYID"])
    }
}

#[track_caller]
fn text(reply: &Reply) -> String {
    match reply {
        Reply::Text(text) => String::from_utf8_lossy(text).into_owned(),
        other => panic!("{other:?}"),
    }
}

/// A blocking connection that speaks RESP2.
pub struct Talk {
    stream: TcpStream,
    buffer: BytesMut,
    scan: FrameScan,
}

impl Talk {
    fn try_to(address: SocketAddr) -> Option<Talk> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(SOON)).expect("a time");
        stream.set_nodelay(true).expect("an option");
        Some(Talk { stream, buffer: BytesMut::new(), scan: FrameScan::default() })
    }

    #[track_caller]
    pub fn ask(&mut self, args: &[&str]) -> Reply {
        let mut out = Vec::new();
        write_command(&mut out, &args.iter().map(|arg| arg.as_bytes()).collect::<Vec<_>>());
        self.stream.write_all(&out).expect("the server takes a command");
        let mut room = [0; 16 * 1024];
        loop {
            if let Some(end) = self.scan.find_end(&self.buffer).expect("a reply") {
                let frame: Bytes = self.buffer.split_to(end).freeze();
                return decode(&frame, RespVersion::Resp2).expect("a reply");
            }
            let length = self.stream.read(&mut room).expect("the server answers");
            if length == 0 {
                return Reply::Nil;
            }
            self.buffer.extend_from_slice(&room[..length]);
        }
    }
}

/// A client on the loop of the calling task, with these keys in its table.
pub fn client(net: &std::rc::Rc<ringway::net::Net>, keys: &str) -> std::rc::Rc<ringway::redis::Cluster> {
    let text = format!(
        "[redis.test]\n{keys}\n[listeners.a]\nbind = \":1\"\n[[routes]]\nname = \"a\"\nrespond = {{ body = \"a\" }}\n"
    );
    let loaded = ringway_config::load(&ringway_config::Source { name: "test.toml".into(), text });
    let snapshot = loaded.unwrap_or_else(|errors| panic!("{errors}")).snapshot;
    let plan = ringway::redis::RedisPlan::new(&snapshot.process.redis[0], |_| Vec::new(), 1);
    let plan = plan.unwrap_or_else(|fault| panic!("{fault:?}"));
    let meters = std::rc::Rc::new(ringway::observe::RedisMeters::new("test"));
    std::rc::Rc::new(ringway::redis::Cluster::start(0, net, &plan, meters))
}

/// A single server that answers commands as a test says; greetings and questions about the cluster like a real one.
pub struct FakeRedis {
    pub address: SocketAddr,
    /// Connections so far.
    pub connections: Arc<AtomicUsize>,
}

impl FakeRedis {
    /// `answer` gets a command and gives the bytes to send; none: the server is silent.
    pub fn start(answer: impl Fn(&[Bytes]) -> Vec<u8> + Send + Sync + 'static) -> FakeRedis {
        FakeRedis::accept(move |stream| {
            serve(stream, &answer);
        })
    }

    /// Answers the first words of every client with this error, and closes.
    pub fn refusing(error: &'static str) -> FakeRedis {
        FakeRedis::accept(move |mut stream| {
            // What is not read makes the kernel reset the connection, and the error may be lost.
            if stream.read(&mut [0; 1024]).is_ok() {
                stream.write_all(format!("-{error}\r\n").as_bytes()).ok();
            }
        })
    }

    fn accept(each: impl Fn(TcpStream) + Send + Sync + 'static) -> FakeRedis {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let (connections, each) = (Arc::new(AtomicUsize::new(0)), Arc::new(each));
        let counts = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counts.fetch_add(1, Ordering::SeqCst);
                let each = Arc::clone(&each);
                std::thread::spawn(move || each(stream));
            }
        });
        FakeRedis { address, connections }
    }
}

/// Until the client closes.
fn serve(mut stream: TcpStream, answer: &dyn Fn(&[Bytes]) -> Vec<u8>) -> Option<()> {
    let (mut buffer, mut scan, mut room) = (BytesMut::new(), FrameScan::default(), [0; 16 * 1024]);
    loop {
        while let Some(end) = scan.find_end(&buffer).expect("a command") {
            let command = decode(&buffer.split_to(end).freeze(), RespVersion::Resp2).expect("a command");
            let args: Vec<Bytes> = command.list()?.iter().filter_map(|arg| arg.text().cloned()).collect();
            let bytes = match &args[0][..] {
                b"HELLO" => b"%1\r\n$5\r\nproto\r\n:3\r\n".to_vec(),
                b"CLUSTER" => b"-ERR This instance has cluster support disabled\r\n".to_vec(),
                b"INFO" => b"$29\r\nmaxmemory_policy:noeviction\r\n\r\n".to_vec(),
                _ => answer(&args),
            };
            stream.write_all(&bytes).ok()?;
        }
        let length = stream.read(&mut room).ok().filter(|length| *length > 0)?;
        buffer.extend_from_slice(&room[..length]);
    }
}
