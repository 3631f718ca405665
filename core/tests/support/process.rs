//! An origin as a process of its own, to be killed, stopped and started again on the same port: the test's own binary,
//! run for one test that serves. Plain answers only; `origin` is the one that misbehaves on purpose.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use super::gateway::{ChildLimits, launch};
use super::ports::Port;
use super::wire::find;
use super::{Client, SOON, ms, wait_until};

/// Set for a process that shall serve on this port.
const ASKED: &str = "RINGWAY_TEST_ORIGIN_PORT";

pub const SMALL_BYTES: usize = 100;
pub const LARGE_BYTES: usize = 1 << 20;
/// A large answer comes in pieces, so that there is a middle of it.
const PIECE_BYTES: usize = 64 * 1024;
/// So slow that the middle of an answer is at the origin, not in the kernel's buffers behind it, and that the machine is not
/// the limit: then all answers end at the same time, and a moment can find none under way.
const PIECE_EVERY: Duration = ms(20);

pub struct OriginProcess {
    port: Port,
    /// The `#[test]` that calls [`serve_if_asked`].
    serving_test: &'static str,
    child: Child,
}

impl OriginProcess {
    #[track_caller]
    pub fn start(serving_test: &'static str) -> OriginProcess {
        let port = Port::lease();
        let child = run(port.number, serving_test);
        OriginProcess { port, serving_test, child }
    }

    pub fn endpoint(&self) -> String {
        self.port.address()
    }

    fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a pid");
        // SAFETY: kill(2) takes plain integers; the pid is our child's, not yet waited for.
        let done = unsafe { libc::kill(pid, signal) };
        assert_eq!(done, 0, "kill {pid}: {}", io::Error::last_os_error());
    }

    /// SIGKILL: the kernel closes what it had open, and nothing else is done.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill an origin");
        self.child.wait().expect("wait for an origin");
    }

    /// SIGSTOP: connections stay, new ones are taken by the kernel, nobody answers.
    pub fn stop(&self) {
        self.signal(libc::SIGSTOP);
    }

    pub fn go_on(&self) {
        self.signal(libc::SIGCONT);
    }

    #[track_caller]
    pub fn restart(&mut self) {
        self.child = run(self.port.number, self.serving_test);
    }
}

impl Drop for OriginProcess {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[track_caller]
fn run(port: u16, serving_test: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("the test's own binary"));
    command.args(["--exact", serving_test, "--nocapture"]).env(ASKED, port.to_string());
    let (child, output) = launch(command, ChildLimits::default());
    wait_until("an origin process that listens", SOON, || {
        Client::try_to((Ipv4Addr::LOCALHOST, port).into(), ms(500)).is_ok() || {
            thread::sleep(ms(10));
            false
        }
    });
    drop(output);
    child
}

/// Serves for ever in a process that was started for it; does nothing in the one that runs the tests.
pub fn serve_if_asked() {
    let Ok(port) = std::env::var(ASKED) else { return };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse().expect("a port"))).expect("bind");
    for stream in listener.incoming().flatten() {
        let port = port.clone();
        thread::spawn(move || serve(stream, &port));
    }
}

/// Answers by the target: `/large`, `/chunked` (as large), anything else small. `X-Origin` says who answered.
fn serve(mut stream: TcpStream, port: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    let mut room = [0; 16 * 1024];
    loop {
        while let Some(at) = find(&head, b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&head[..at]).into_owned();
            head.drain(..at + 4);
            let target = text.split(' ').nth(1).unwrap_or_default();
            let piece = vec![b'x'; PIECE_BYTES];
            let framing = match target {
                "/chunked" => "Transfer-Encoding: chunked".to_owned(),
                "/large" => format!("Content-Length: {LARGE_BYTES}"),
                _ => format!("Content-Length: {SMALL_BYTES}"),
            };
            let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\nX-Origin: {port}\r\n\r\n");
            match target {
                "/chunked" | "/large" => stream.write_all(head.as_bytes())?,
                _ => stream.write_all(&[head.as_bytes(), &piece[..SMALL_BYTES]].concat())?,
            }
            if target == "/large" || target == "/chunked" {
                for _ in 0..LARGE_BYTES / PIECE_BYTES {
                    thread::sleep(PIECE_EVERY);
                    match target {
                        "/large" => stream.write_all(&piece)?,
                        _ => {
                            stream.write_all(&[format!("{PIECE_BYTES:x}\r\n").as_bytes(), &piece, b"\r\n"].concat())?
                        }
                    }
                }
                if target == "/chunked" {
                    stream.write_all(b"0\r\n\r\n")?;
                }
            }
        }
        match stream.read(&mut room)? {
            0 => return Ok(()),
            count => head.extend_from_slice(&room[..count]),
        }
    }
}
