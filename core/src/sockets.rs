//! Listening sockets in the making: one per core and address, made on the control thread and handed to the cores inside
//! the plan that needs them. Accepting is `listen`'s.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Mutex;
use std::time::Duration;

use ringway_config::snapshot::Steering;
use socket2::{Domain, Protocol, Socket, Type};

/// A vanished peer is noticed by the kernel after about this long without a byte.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// A listening socket of one core.
pub struct NewSocket {
    pub core: usize,
    /// The listener's name.
    pub listener: String,
    pub address: SocketAddr,
    pub fd: OwnedFd,
}

/// Sockets on their way from the control thread to the cores, inside the plan that needs them.
#[derive(Default)]
pub struct NewSockets(Mutex<Vec<NewSocket>>);

impl NewSockets {
    pub fn new(sockets: Vec<NewSocket>) -> NewSockets {
        NewSockets(Mutex::new(sockets))
    }

    /// Those of `core`. A core asks once, when it adopts the plan.
    pub fn take(&self, core: usize) -> Vec<NewSocket> {
        let mut all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (mine, others) = std::mem::take(&mut *all).into_iter().partition(|socket| socket.core == core);
        *all = others;
        mine
    }
}

/// One listening socket per core on `address`, in the order of the cores, which is the kernel's index for steering.
/// `cpus` are the cores' CPU numbers, where they are pinned. `beside_own`: sockets of this process are there already,
/// on their way out.
///
/// # Errors
/// The kernel's; `AddrInUse` when somebody else holds the port.
pub fn bind(
    listener: &str,
    address: SocketAddr,
    backlog: u32,
    steering: Steering,
    cpus: &[Option<usize>],
    beside_own: bool,
) -> io::Result<Vec<NewSocket>> {
    // Without SO_REUSEPORT first: with it the kernel would let two gateways of one user share a port unnoticed.
    if !beside_own {
        drop(socket_on(address, false)?);
    }
    let mut sockets = Vec::with_capacity(cpus.len());
    let mut address = address;
    for core in 0..cpus.len() {
        let socket = socket_on(address, true)?;
        // Port 0: the kernel chooses for the first, the others follow.
        address = socket.local_addr()?.as_socket().unwrap_or(address);
        sockets.push((core, socket));
    }
    for (_, socket) in &sockets {
        socket.listen(backlog.min(i32::MAX as u32) as i32)?;
    }
    if steering == Steering::Cpu
        && let Some((_, first)) = sockets.first()
    {
        steer_by_cpu(first, cpus)?;
    }
    let listener =
        |core, socket: Socket| NewSocket { core, listener: listener.to_string(), address, fd: socket.into() };
    Ok(sockets.into_iter().map(|(core, socket)| listener(core, socket)).collect())
}

fn socket_on(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections of the one before that linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if let SocketAddr::V6(v6) = address {
        // `[::]` takes IPv4, too; a certain address takes its own family.
        socket.set_only_v6(!v6.ip().is_unspecified())?;
    }
    // Accepted sockets inherit these, which saves a system call for each connection.
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// The kernel chooses the socket by the CPU that took the packet (`SO_ATTACH_REUSEPORT_CBPF`, socket(7)).
fn steer_by_cpu(socket: &Socket, cpus: &[Option<usize>]) -> io::Result<()> {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load_cpu = (libc::SKF_AD_OFF + libc::SKF_AD_CPU) as u32;
    let mut program = vec![instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, load_cpu)];
    for (index, cpu) in cpus.iter().enumerate() {
        if let Some(cpu) = cpu {
            program.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, *cpu as u32));
            program.push(instruction(libc::BPF_RET | libc::BPF_K, 0, 0, index as u32));
        }
    }
    // A CPU without a core of ours: spread over all.
    program.push(instruction(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, 0, 0, cpus.len() as u32));
    program.push(instruction(libc::BPF_RET | libc::BPF_A, 0, 0, 0));
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the option takes a `sock_fprog`, whose filter lives across the call; the kernel copies it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
