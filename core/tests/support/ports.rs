//! Ports that no other test has: the gateway binds with SO_REUSEPORT, so two that met on one port would share it in silence.
//! Not for origins, which bind port 0 and keep it.

use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below Linux's ephemeral range (32768 up), so that no outgoing connection takes one meanwhile.
const FIRST: u32 = 10_240;
const COUNT: u32 = 20_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port that is ours while this lives, over all test processes of the machine: an abstract unix name is the lock,
/// which the kernel frees with the process.
#[derive(Debug)]
pub struct Port {
    pub number: u16,
    _lock: UnixListener,
}

impl Port {
    pub fn lease() -> Self {
        let start = std::process::id().wrapping_mul(131);
        for _ in 0..COUNT {
            let offset = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = u16::try_from(FIRST + start.wrapping_add(offset) % COUNT).expect("the range ends below 65536");
            let name = format!("ringway-test-port-{number}");
            let name = SocketAddr::from_abstract_name(name).expect("a short name");
            let Ok(lock) = UnixListener::bind_addr(&name) else { continue };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self { number, _lock: lock };
            }
        }
        panic!("no free port between {FIRST} and {}", FIRST + COUNT);
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}
