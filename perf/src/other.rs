//! What a run needs that is no load: an origin as a process of its own, and a client that asks one thing after the
//! other.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::http::{Answer, AnswerScan};
use crate::peer::Programs;

const READ_BYTES: usize = 4096;

/// An origin, ended with this value.
pub(crate) struct OriginProcess(Child);

impl OriginProcess {
    pub(crate) fn start(programs: &Programs, core: usize, address: Ipv4Addr, port: u16) -> io::Result<Self> {
        let mut command = Command::new("taskset");
        command.args(["-c", &core.to_string()]).arg(programs.perf.join("origin"));
        command.args(["--port", &port.to_string(), "--address", &address.to_string()]);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut ready = [0; "ready\n".len()];
        let said = child.stdout.as_mut().map(|output| output.read_exact(&mut ready));
        let origin = Self(child);
        said.ok_or_else(|| io::Error::other("the origin has no output"))??;
        Ok(origin)
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// Stops it where it is: its kernel goes on taking connections and bytes.
    pub(crate) fn freeze(&self) -> io::Result<()> {
        Ok(kill_process(self.pid(), Signal::STOP)?)
    }
}

impl Drop for OriginProcess {
    fn drop(&mut self) {
        // One that has ended by itself is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A kept connection of a client that asks for the same again and again, once it has its answer.
pub(crate) struct Asking {
    stream: TcpStream,
    request: String,
    scan: AnswerScan,
}

impl Asking {
    /// A connection on which one request has been answered.
    pub(crate) fn served(port: u16, path: &str, fields: &str) -> io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{fields}\r\n");
        let scan = AnswerScan::new(Answer::of_path(path.as_bytes()).body_bytes());
        let mut asking = Self { stream, request, scan };
        asking.ask()?;
        Ok(asking)
    }

    pub(crate) fn ask(&mut self) -> io::Result<()> {
        self.stream.write_all(self.request.as_bytes())?;
        let mut bytes = [0; READ_BYTES];
        loop {
            let length = self.stream.read(&mut bytes)?;
            if length == 0 {
                return Err(io::Error::other("the gateway closed a connection that it should keep"));
            }
            if self.scan.feed(&bytes[..length]).map_err(io::Error::other)? {
                return Ok(());
            }
        }
    }
}
