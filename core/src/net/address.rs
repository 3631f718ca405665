//! Where an origin listens, in the form the kernel takes. Names are resolved elsewhere.

use std::net::SocketAddr;
use std::path::PathBuf;

use socket2::{Domain, SockAddr};

/// The address of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    Ip(SocketAddr),
    Unix(PathBuf),
}

/// Who connected to us.
pub type Peer = SocketAddr;

impl Address {
    pub(super) fn domain(&self) -> Domain {
        match self {
            Address::Ip(SocketAddr::V4(_)) => Domain::IPV4,
            Address::Ip(SocketAddr::V6(_)) => Domain::IPV6,
            Address::Unix(_) => Domain::UNIX,
        }
    }

    /// # Errors
    /// A unix path longer than the kernel takes (107 bytes).
    pub(super) fn to_kernel(&self) -> std::io::Result<SockAddr> {
        match self {
            Address::Ip(address) => Ok((*address).into()),
            Address::Unix(path) => SockAddr::unix(path),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(out),
            Address::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}
