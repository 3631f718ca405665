//! What an error of a node asks its client to do: go elsewhere, or come again. Follows none of them (`cluster`).

use std::net::{IpAddr, SocketAddr};

/// A node's refusal that is none of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Redirect {
    /// The slot lives there now.
    Moved { slot: u16, to: SocketAddr },
    /// This key may be there already; only the next command goes there, after ASKING.
    Ask { to: SocketAddr },
    /// The slot is moving and only some of the keys are here, nobody serves it, or the node is starting.
    Later,
}

/// `MOVED 3999 127.0.0.1:6381`, `ASK 3999 127.0.0.1:6381`, `TRYAGAIN ...`. A node that does not know how it is reached
/// leaves its host out (`MOVED 3999 :6381`): it is the one that was `asked`. Of a host that is named, `Later`: the name is
/// looked up in the table that is asked for then.
pub(super) fn parse(text: &[u8], asked: IpAddr) -> Option<Redirect> {
    let mut words = text.split(|byte| *byte == b' ');
    let word = words.next()?;
    match word {
        b"MOVED" | b"ASK" => {
            let slot: u16 = str::from_utf8(words.next()?).ok()?.parse().ok()?;
            let (host, port) = str::from_utf8(words.next()?).ok()?.rsplit_once(':')?;
            let Some(to) = address(host, port.parse().ok()?, asked) else { return Some(Redirect::Later) };
            Some(if word == b"ASK" { Redirect::Ask { to } } else { Redirect::Moved { slot, to } })
        }
        // MASTERDOWN: a replica whose master is gone.
        b"TRYAGAIN" | b"CLUSTERDOWN" | b"LOADING" | b"MASTERDOWN" => Some(Redirect::Later),
        _ => None,
    }
}

/// IPv6 addresses stand without brackets.
pub(super) fn address(host: &str, port: u16, asked: IpAddr) -> Option<SocketAddr> {
    let ip = if host.is_empty() { asked } else { host.parse().ok()? };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_say_is_understood() {
        let asked: IpAddr = "10.0.0.9".parse().unwrap();
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let known = [
            ("MOVED 15495 127.0.0.1:7003", Some(Redirect::Moved { slot: 15495, to: at("127.0.0.1:7003") })),
            ("MOVED 1 :7003", Some(Redirect::Moved { slot: 1, to: at("10.0.0.9:7003") })),
            ("MOVED 1 ::1:7003", Some(Redirect::Moved { slot: 1, to: at("[::1]:7003") })),
            ("MOVED 1 redis-1.test:7003", Some(Redirect::Later)),
            ("ASK 14415 127.0.0.1:7001", Some(Redirect::Ask { to: at("127.0.0.1:7001") })),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Some(Redirect::Later)),
            ("CLUSTERDOWN The cluster is down", Some(Redirect::Later)),
            ("LOADING Redis is loading the dataset in memory", Some(Redirect::Later)),
            ("MASTERDOWN Link with MASTER is down", Some(Redirect::Later)),
            ("CROSSSLOT Keys in request don't hash to the same slot", None),
            ("MOVED", None),
            ("MOVED x 127.0.0.1:1", None),
            ("MOVED 99999 127.0.0.1:1", None),
            ("ERR unknown command", None),
            ("", None),
        ];
        for (text, wanted) in known {
            assert_eq!(parse(text.as_bytes(), asked), wanted, "{text}");
        }
    }
}
