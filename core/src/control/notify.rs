//! What systemd is told of the process's state (sd_notify(3)). A no-op without `NOTIFY_SOCKET`.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Ready,
    Reloading,
    Stopping,
}

/// Tells the service manager, if there is one. Nothing depends on its hearing it.
pub fn notify(state: State) {
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
        let _ = send(path.as_bytes(), &message(state, monotonic_us()));
    }
}

/// systemd matches a reload with the `Ready` after it by the time (`Type=notify-reload`).
fn message(state: State, monotonic_us: u64) -> String {
    match state {
        State::Ready => "READY=1\n".to_owned(),
        State::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={monotonic_us}\n"),
        State::Stopping => "STOPPING=1\n".to_owned(),
    }
}

/// `@` begins a name in the abstract namespace.
fn send(address: &[u8], message: &str) -> io::Result<()> {
    let address = match address.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(Path::new(std::ffi::OsStr::from_bytes(address)))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message.as_bytes(), &address).map(|_| ())
}

fn monotonic_us() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the struct that the pointer is to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_lines() {
        assert_eq!(message(State::Ready, 7), "READY=1\n");
        assert_eq!(message(State::Reloading, 7), "RELOADING=1\nMONOTONIC_USEC=7\n");
        assert_eq!(message(State::Stopping, 7), "STOPPING=1\n");
    }

    #[test]
    fn an_abstract_and_a_plain_address_are_reached() {
        let name = format!("ringway-notify-{}", std::process::id());
        let listener = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(format!("@{name}").as_bytes(), "READY=1\n").unwrap();
        let mut got = [0; 64];
        let count = listener.recv(&mut got).unwrap();
        assert_eq!(&got[..count], b"READY=1\n");

        let path = std::env::temp_dir().join(&name);
        let listener = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str().as_bytes(), "STOPPING=1\n").unwrap();
        let count = listener.recv(&mut got).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&got[..count], b"STOPPING=1\n");
    }
}
