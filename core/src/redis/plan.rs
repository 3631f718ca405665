//! A Redis as the control thread hands it to the cores: addresses resolved, the password read, limits divided.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ringway_config::Fault;
use ringway_config::snapshot::{EndpointAddress, Redis, Secret};

use crate::secret;

const PASSWORD_BYTES_MAX: usize = 4096;
/// Connections of a core to one node, however much is under way: more would only spread what one send takes along.
pub const LINKS_MAX: usize = 4;

/// What every core knows of a Redis. A reload brings another one for new connections.
#[derive(Debug, Clone, PartialEq)]
pub struct RedisPlan {
    pub config: Arc<Redis>,
    /// Where the cluster is asked when no node of it is known; empty while no name is resolved.
    pub seeds: Vec<SocketAddr>,
    pub password: Option<Password>,
    pub share: Share,
}

/// One core's part of the process's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub active_max: usize,
    pub queue_max: usize,
    /// Connections with nothing to do.
    pub idle_max: usize,
}

/// Shown by nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<[u8]>);

impl Password {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl RedisPlan {
    /// # Errors
    /// A password that cannot be read.
    pub fn new(config: &Redis, addresses: impl Fn(&str) -> Vec<IpAddr>, cores: usize) -> Result<RedisPlan, Fault> {
        let mut seeds = Vec::new();
        for node in &config.nodes {
            match node {
                EndpointAddress::Ip(address) => seeds.push(*address),
                EndpointAddress::Dns { host, port } => {
                    seeds.extend(addresses(host).into_iter().map(|ip| SocketAddr::new(ip, *port)));
                }
                EndpointAddress::Unix(_) => {} // refused by its check
            }
        }
        let password = config.password.as_ref().map(read).transpose();
        let password = password.map_err(|fault| fault.at(format!("redis.{}.password", config.name)))?;
        Ok(RedisPlan { config: Arc::new(config.clone()), seeds, password, share: Share::of(config, cores) })
    }

    /// A connection from which nothing has come for so long while an answer was due is given up: its node is stopped, or
    /// the way to it cut. Far longer than a command may take, for what else is under way on it is lost with it.
    pub fn silence_max(&self) -> Duration {
        (self.config.timeout * 10).max(Duration::from_millis(500))
    }
}

impl Share {
    /// Rounded up, so that no core has none: at most one more of each for each core than was written.
    fn of(config: &Redis, cores: usize) -> Share {
        Share {
            active_max: config.active_max.div_ceil(cores),
            queue_max: config.queue_max.div_ceil(cores),
            idle_max: config.idle_max.div_ceil(cores).min(LINKS_MAX),
        }
    }
}

fn read(secret: &Secret) -> Result<Password, Fault> {
    let text = secret::read(secret).map_err(Fault::new)?;
    match text.len() <= PASSWORD_BYTES_MAX {
        true => Ok(Password(text.into())),
        false => Err(Fault::new(format!("it has {} bytes; the most is {PASSWORD_BYTES_MAX}", text.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redis(keys: &str) -> Redis {
        let text = format!(
            "[redis.limits]\nnodes = [\"10.0.0.1:6379\", \"redis.test:7000\"]\n{keys}\n[listeners.a]\nbind = \":1\"\n\
             [[routes]]\nname = \"a\"\nrespond = {{ body = \"a\" }}\n"
        );
        let loaded = ringway_config::load(&ringway_config::Source { name: "test".into(), text });
        loaded.unwrap_or_else(|errors| panic!("{errors}")).snapshot.process.redis.remove(0)
    }

    fn no_names(_: &str) -> Vec<IpAddr> {
        Vec::new()
    }

    #[test]
    fn names_become_addresses_and_limits_are_divided() {
        let names = |host: &str| {
            assert_eq!(host, "redis.test");
            vec!["10.0.0.7".parse().unwrap(), "10.0.0.8".parse().unwrap()]
        };
        let plan = RedisPlan::new(&redis(""), names, 3).unwrap();
        let seeds: Vec<String> = plan.seeds.iter().map(ToString::to_string).collect();
        assert_eq!(seeds, ["10.0.0.1:6379", "10.0.0.7:7000", "10.0.0.8:7000"]);
        assert_eq!(plan.share, Share { active_max: 167, queue_max: 1667, idle_max: 4 });
        let plan = RedisPlan::new(&redis("active_max = 1\nidle_max = 2"), no_names, 7).unwrap();
        assert_eq!((plan.share.active_max, plan.share.idle_max, plan.seeds.len()), (1, 1, 1));
    }

    #[test]
    fn a_password_is_read_and_not_shown() {
        let path = std::env::temp_dir().join(format!("ringway-redis-password-{}", std::process::id()));
        std::fs::write(&path, "swordfish\n").unwrap();
        let plan = RedisPlan::new(&redis(&format!("password = \"file:{}\"", path.display())), no_names, 1).unwrap();
        assert_eq!(plan.password.as_ref().map(Password::bytes), Some(&b"swordfish"[..]));
        assert!(!format!("{plan:?}").contains("swordfish"), "{plan:?}");
        std::fs::write(&path, "\n").unwrap();
        let fault =
            RedisPlan::new(&redis(&format!("password = \"file:{}\"", path.display())), no_names, 1).unwrap_err();
        assert_eq!(fault.place, "redis.limits.password");
        std::fs::remove_file(&path).unwrap();
        let fault = RedisPlan::new(&redis("password = \"env:RINGWAY_NO_SUCH_VARIABLE\""), no_names, 1).unwrap_err();
        assert_eq!(fault.place, "redis.limits.password");
    }
}
