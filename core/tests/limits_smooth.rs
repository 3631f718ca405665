//! `mode = "smooth"` beside the real nginx: the same requests at the same moments, admitted and held alike.

mod support;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::gateway::{Dir, launch};
use support::ports::Port;
use support::{Client, Gateway, SOON, ms, wait_until};

/// Two requests are 50 ms apart.
const RATE: &str = "20";
const BURST: usize = 10;
/// Moments in milliseconds: a flood, two late ones, a flood upon what is still queued, one after all is over.
const MOMENTS: [u64; 30] = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 130, 260, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400,
    2000,
];
/// Threads that begin together, two event loops and their clocks: what cannot be the limit's doing.
const JITTER: Duration = ms(30);
/// A request that comes some milliseconds late may find another queue; of so many rounds one is without that.
const ROUNDS_MAX: usize = 4;

struct Nginx {
    child: Child,
    address: SocketAddr,
    _dir: Dir,
    _port: Port,
}

impl Nginx {
    /// `None`, and a line that says so, where there is none.
    fn start(limit: &str) -> Option<Nginx> {
        let program = ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|path| fs::exists(path).unwrap_or(false));
        let Some(program) = program else {
            eprintln!("SKIPPED: no nginx; scripts/setup --test installs it");
            return None;
        };
        let (dir, port) = (Dir::new(), Port::lease());
        let address = port.address();
        dir.file("x", "x");
        let root = dir.path().display();
        let file = dir.file(
            "nginx.conf",
            &format!(
                "daemon off;\nmaster_process off;\npid {root}/pid;\nerror_log {root}/error.log;\n\
                 events {{}}\nhttp {{\naccess_log off;\nclient_body_temp_path {root}/b;\nproxy_temp_path {root}/p;\n\
                 fastcgi_temp_path {root}/f;\nuwsgi_temp_path {root}/u;\nscgi_temp_path {root}/s;\n\
                 limit_req_zone $server_name zone=z:1m rate={RATE}r/s;\nlimit_req_status 429;\n\
                 server {{\nserver_name a;\nlisten {address};\nlocation / {{\nlimit_req zone=z {limit};\nroot {root};\n}}\n}}\n}}\n"
            ),
        );
        let mut command = Command::new(program);
        command.arg("-c").arg(file).arg("-p").arg(dir.path()).stderr(Stdio::null());
        let (child, _) = launch(command, Default::default());
        let address = address.parse().expect("an address");
        wait_until("nginx listens", SOON, || TcpStream::connect(address).is_ok());
        Some(Nginx { child, address, _dir: dir, _port: port })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// How long those who passed were held, by the moment at which they came and sorted.
fn held(address: SocketAddr) -> Vec<(u64, Vec<Duration>)> {
    let mut clients: Vec<Client> = MOMENTS.iter().map(|_| Client::to(address)).collect();
    let began = Instant::now() + ms(50);
    let mut all: Vec<(u64, Option<Duration>)> = thread::scope(|scope| {
        let threads: Vec<_> = std::iter::zip(&mut clients, MOMENTS)
            .map(|(client, moment)| {
                scope.spawn(move || {
                    thread::sleep((began + ms(moment)).saturating_duration_since(Instant::now()));
                    let sent = Instant::now();
                    let status = client.get("/x").status;
                    assert!([200, 429].contains(&status), "{status}");
                    (moment, (status == 200).then(|| sent.elapsed()))
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
    });
    all.sort();
    let mut by_moment: Vec<(u64, Vec<Duration>)> = Vec::new();
    for (moment, time) in all {
        match by_moment.last_mut() {
            Some((last, times)) if *last == moment => times.extend(time),
            _ => by_moment.push((moment, time.into_iter().collect())),
        }
    }
    by_moment
}

fn compare(nginx: &str, ours: &str) {
    let mut told = String::new();
    for _ in 0..ROUNDS_MAX {
        let Some(theirs) = Nginx::start(nginx) else { return };
        let gateway = Gateway::start(&format!(
            "[[routes]]\nname = \"r\"\npath_prefix = \"/\"\nrespond = {{}}\n\
             filters = [{{ rate_limit = {{ rate = \"{RATE}/s\", key = \"global\", mode = \"smooth\", {ours} }} }}]\n"
        ));
        let (theirs, ours) = (held(theirs.address), held(gateway.addr()));
        match same(&theirs, &ours) {
            Ok(count) => return println!("{nginx}: both passed {count}"),
            Err(why) => told = why,
        }
    }
    panic!("in each of {ROUNDS_MAX} rounds, {told}");
}

/// How many passed, if they were treated alike.
fn same(theirs: &[(u64, Vec<Duration>)], ours: &[(u64, Vec<Duration>)]) -> Result<usize, String> {
    for ((moment, theirs), (_, ours)) in std::iter::zip(theirs, ours) {
        let alike = |(theirs, ours): (&Duration, &Duration)| theirs.abs_diff(*ours) <= JITTER;
        if theirs.len() != ours.len() || !std::iter::zip(theirs, ours).all(alike) {
            return Err(format!("at {moment} ms nginx held {theirs:?}, we {ours:?}"));
        }
    }
    Ok(ours.iter().map(|(_, times)| times.len()).sum())
}

#[test]
fn requests_are_held_as_nginx_holds_them() {
    compare(&format!("burst={BURST}"), &format!("burst = {BURST}"));
}

#[test]
fn with_nodelay_they_are_admitted_as_nginx_admits_them() {
    compare(&format!("burst={BURST} nodelay"), &format!("burst = {BURST}, nodelay = true"));
}

#[test]
fn without_a_queue_what_comes_too_early_is_refused_as_nginx_does() {
    compare("", "burst = 0");
}
