//! Odd things of the network that a test needs: an address that never answers, a port nobody has. No HTTP here.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// Listens, but its accept queue is full and nobody accepts: a connect gets no answer, not even a refusal.
pub struct Deaf {
    socket: Socket,
    _queued: Vec<TcpStream>,
}

impl Deaf {
    pub fn start() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("bind");
        socket.listen(0).expect("listen");
        let address = socket.local_addr().expect("address").as_socket().expect("an IP address");
        let mut queued = Vec::new();
        // A queue of length 0 still takes one or two; fill it until a connect hangs.
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(150)) {
            queued.push(stream);
            assert!(queued.len() < 16, "the queue does not fill");
        }
        Self { socket, _queued: queued }
    }

    pub fn endpoint(&self) -> String {
        let address = self.socket.local_addr().expect("address").as_socket().expect("an IP address");
        address.to_string()
    }
}

/// Runs `body` on a thread with a network of its own (only loopback), where it may change what the kernel allows.
/// `false`, with a line on stderr, where that is not permitted.
pub fn in_own_network(body: impl FnOnce() + Send + 'static) -> bool {
    let thread = std::thread::spawn(move || {
        // SAFETY: a plain system call; it moves only this thread and what it starts.
        let moved = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        if moved != 0 {
            eprintln!("not run: a network of one's own: {}", std::io::Error::last_os_error());
            return false;
        }
        raise_loopback();
        body();
        true
    });
    match thread.join() {
        Ok(ran) => ran,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn raise_loopback() {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("socket");
    // SAFETY: all-zero bytes are a valid `ifreq` (plain integers and arrays).
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the fd is open and the pointer is to a live `ifreq`, which is what SIOCSIFFLAGS reads.
    let done = unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&socket), libc::SIOCSIFFLAGS, &raw const request) };
    assert_eq!(done, 0, "loopback up: {}", std::io::Error::last_os_error());
}
