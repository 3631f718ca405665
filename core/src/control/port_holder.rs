//! Who listens on a port already, from `/proc`. Asked only when a bind has failed.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `TCP_LISTEN` in the state column of `/proc/net/tcp`, between its blanks.
const LISTENING: &str = " 0A ";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} ({})", self.pid, self.name)
    }
}

/// The processes that listen where `address` would. Empty if none is visible: another user's are not.
pub fn holders(address: SocketAddr) -> Vec<Process> {
    let inodes = listening_inodes(address);
    if inodes.is_empty() {
        return Vec::new();
    }
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| holds_any(*pid, &inodes)).map(|pid| Process { pid, name: name_of(pid) }).collect()
}

/// True if this process, and no other that is visible, listens there.
pub fn is_ours(address: SocketAddr) -> bool {
    let holders = holders(address);
    !holders.is_empty() && holders.iter().all(|process| process.pid == std::process::id())
}

/// "port ... is busy" as one clause, with who holds it.
pub fn describe(address: SocketAddr) -> String {
    let list: Vec<String> = holders(address).iter().map(ToString::to_string).collect();
    match list.as_slice() {
        [] => format!("{address} is in use by a process of another user or container; stop it or choose another port"),
        _ => format!("{address} is in use by {}; stop it or choose another port", list.join(", ")),
    }
}

fn name_of(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().escape_default().to_string()
}

fn holds_any(pid: u32, inodes: &[u64]) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|link| {
        let inode = link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        inode.is_some_and(|inode| inodes.contains(&inode))
    })
}

fn listening_inodes(address: SocketAddr) -> Vec<u64> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines.filter_map(listening).filter(|(bound, _)| collide(*bound, address)).map(|(_, inode)| inode).collect()
}

/// Columns 2 and 10: local address, inode.
fn listening(line: &str) -> Option<(SocketAddr, u64)> {
    // First of all, since a busy machine has tens of thousands of lines in other states.
    if !line.contains(LISTENING) {
        return None;
    }
    let mut columns = line.split_ascii_whitespace();
    let (local, inode) = (columns.nth(1)?, columns.nth(7)?);
    let (ip, port) = local.split_once(':')?;
    let address = SocketAddr::new(kernel_ip(ip)?, u16::from_str_radix(port, 16).ok()?);
    Some((address, inode.parse().ok()?))
}

/// Words of the address in the machine's byte order.
fn kernel_ip(hex: &str) -> Option<IpAddr> {
    let mut bytes = Vec::with_capacity(16);
    for at in (0..hex.len()).step_by(8) {
        let word = u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    if let Ok(v4) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes.as_slice()).ok().map(|v6| Ipv6Addr::from(v6).into())
}

/// Same port, and addresses of which one covers the other.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let (one_ip, other_ip) = (one.ip().to_canonical(), other.ip().to_canonical());
    let wild = one_ip.is_unspecified() || other_ip.is_unspecified();
    one.port() == other.port() && (wild || one_ip == other_ip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_holder_of_a_real_port_is_found() {
        let own = std::process::id();
        for address in ["127.0.0.1:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let bound = listener.local_addr().unwrap();
            let found = holders(bound);
            assert!(found.iter().any(|process| process.pid == own && !process.name.is_empty()), "{bound}: {found:?}");
            assert!(describe(bound).contains(&format!("pid {own} (")), "{}", describe(bound));
            drop(listener);
            assert!(!holders(bound).iter().any(|process| process.pid == own), "{bound} is closed");
        }
    }

    #[test]
    fn a_wildcard_covers_its_port_alone() {
        let at = |text: &str| text.parse().unwrap();
        assert!(collide(at("0.0.0.0:80"), at("10.0.0.1:80")) && collide(at("10.0.0.1:80"), at("[::]:80")));
        assert!(!collide(at("0.0.0.0:80"), at("10.0.0.1:81")) && !collide(at("10.0.0.2:80"), at("10.0.0.1:80")));
    }

    #[test]
    fn lines_of_proc_are_read() {
        let line =
            "   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0";
        assert_eq!(listening(line), Some(("127.0.0.1:8080".parse().unwrap(), 4711)));
        assert_eq!(listening(&line.replace(" 0A ", " 01 ")), None);
        let v6 = "0: 00000000000000000000000001000000:0050 x 0A 0:0 0:0 0 0 0 99 1";
        assert_eq!(listening(v6), Some(("[::1]:80".parse().unwrap(), 99)));
        assert_eq!(listening("garbage"), None);
    }
}
