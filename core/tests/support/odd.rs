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
