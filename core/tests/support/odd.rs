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

/// The port is chosen by connect, which can share it between destinations.
pub fn bind_address_without_port(socket: &Socket) {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("a small integer");
    let fd = std::os::fd::AsRawFd::as_raw_fd(socket);
    // SAFETY: the fd is open and the pointer is to a live integer of the given size.
    let done =
        unsafe { libc::setsockopt(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, (&raw const on).cast(), size) };
    assert_eq!(done, 0, "IP_BIND_ADDRESS_NO_PORT: {}", std::io::Error::last_os_error());
}

/// For a child between fork and exec: `io_uring_setup` fails with EPERM, as in a container's seccomp profile.
pub fn forbid_io_uring() -> std::io::Result<()> {
    const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS; word 0 of seccomp_data is the call's number
    const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let call = u32::try_from(libc::SYS_io_uring_setup).expect("a small number");
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    let mut code = [
        libc::sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: 0 },
        libc::sock_filter { code: JUMP_EQUAL, jt: 0, jf: 1, k: call },
        libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: refuse },
        libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ];
    let program = libc::sock_fprog { len: 4, filter: code.as_mut_ptr() };
    // SAFETY: plain system calls; the program and its code live until the second returns.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
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
