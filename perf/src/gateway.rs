//! A gateway under test as a process of its own, alone on its core.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::peer::{Peer, Ports, Programs};
use crate::trial::GATEWAY_CORE;
use crate::usage::tree;

const START_MAX: Duration = Duration::from_secs(30); // under a simulated CPU, too
const END_MAX: Duration = Duration::from_secs(30);
const START_POLL: Duration = Duration::from_millis(20);
const SETTLE: Duration = Duration::from_millis(150);
/// A gateway's complaint that is worth quoting.
const COMPLAINT_BYTES: usize = 600;

/// A gateway under test, ended with this value.
pub(crate) struct Gateway {
    child: Child,
    log: PathBuf,
}

impl Gateway {
    pub(crate) fn start(peer: &Peer, programs: &Programs, ports: Ports, scratch: &Path) -> io::Result<Self> {
        Self::start_under(&[], peer, programs, ports, scratch)
    }

    /// `wrapper` is a program and its arguments that run the gateway in a process of their own.
    pub(crate) fn start_under(
        wrapper: &[OsString],
        peer: &Peer,
        programs: &Programs,
        ports: Ports,
        scratch: &Path,
    ) -> io::Result<Self> {
        let dir = scratch.join(peer.name);
        fs::create_dir_all(&dir)?;
        let command = peer.command(programs, ports, &dir)?;
        let log = dir.join("output.log");
        let output = File::create(&log)?;
        let child = Command::new("taskset")
            .args(["-c", &GATEWAY_CORE.to_string()])
            .args(wrapper)
            .args(command)
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let mut gateway = Self { child, log };
        gateway.wait_for_port(ports.gateway)?;
        Ok(gateway)
    }

    fn wait_for_port(&mut self, port: u16) -> io::Result<()> {
        let deadline = Instant::now() + START_MAX;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(why) = self.death() {
                return Err(io::Error::other(why));
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("does not listen on {port}: {}", self.last_words())));
            }
            std::thread::sleep(START_POLL);
        }
        std::thread::sleep(SETTLE);
        Ok(())
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Has it end by itself, so that who runs it can write down what was seen.
    pub(crate) fn end(mut self) -> io::Result<()> {
        kill_process(self.pid(), Signal::TERM)?;
        let deadline = Instant::now() + END_MAX;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("does not end: {}", self.last_words())));
            }
            std::thread::sleep(START_POLL);
        }
        Ok(())
    }

    pub(crate) fn death(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        Some(format!("ended with {status}: {}", self.last_words()))
    }

    fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(COMPLAINT_BYTES)..];
        String::from_utf8_lossy(tail).split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        for pid in tree(self.pid()) {
            // One that has ended by itself is as good.
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
