//! A cluster as the plan has it: the same for every core, without any state of one.

use std::time::Duration;

use ringway_config::snapshot::{Balance, Cluster, HostHeader, SameSite, Sticky};
use xxhash_rust::xxh3::xxh3_64;

use super::balance::{Maglev, Ring};
use super::node::ClusterNode;
use crate::net::Address;

pub struct ClusterPlan {
    pub config: Cluster,
    pub endpoints: Vec<EndpointPlan>,
    /// What the node knows of it.
    pub node: ClusterNode,
    /// For the balances that hash.
    pub table: Option<Table>,
    /// By endpoint, with `sticky`: the whole value of `Set-Cookie`.
    pub cookies: Vec<Cookie>,
    /// To the head of an answer, each try, by the breakers.
    pub try_timeout: Option<Duration>,
    /// Somebody wants to know how each try ends.
    pub watched: bool,
    /// A request needs leave to be under way.
    pub limited: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPlan {
    pub address: Address,
    /// As the operator wrote it, for logs and metrics; also what `host = "endpoint"` sends.
    pub label: String,
    pub weight: u32,
    pub backup: bool,
}

/// Where a key's endpoint is looked up.
#[derive(Debug)]
pub enum Table {
    Ring(Ring),
    Maglev(Maglev),
}

/// What keeps a client with an endpoint.
pub struct Cookie {
    /// The cookie's value: 16 hexadecimal digits.
    pub id: String,
    pub set: String,
}

impl Table {
    fn new(config: &Cluster, endpoints: &[EndpointPlan]) -> Option<Table> {
        let names: Vec<String> = endpoints.iter().map(EndpointPlan::name).collect();
        let named: Vec<(&str, u32)> =
            std::iter::zip(&names, endpoints).map(|(name, endpoint)| (name.as_str(), endpoint.weight)).collect();
        match config.balance {
            Balance::RingHash => Some(Table::Ring(Ring::build(&named))),
            Balance::Maglev => Some(Table::Maglev(Maglev::build(&named))),
            _ => None,
        }
    }

    pub fn pick(&self, hash: u64, accept: impl FnMut(u16) -> bool) -> Option<u16> {
        match self {
            Table::Ring(ring) => ring.pick(hash, accept),
            Table::Maglev(maglev) => maglev.pick(hash, accept),
        }
    }
}

impl EndpointPlan {
    /// The same on every gateway of a fleet, and different from every other endpoint's.
    fn name(&self) -> String {
        match &self.address {
            Address::Ip(address) => address.to_string(),
            Address::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

impl Cookie {
    fn new(sticky: &Sticky, endpoint: &EndpointPlan) -> Cookie {
        // Hashed with the cookie's name, so that one cluster's value tells nothing of another's endpoints.
        let id = format!("{:016x}", xxh3_64(format!("{}\0{}", sticky.cookie, endpoint.name()).as_bytes()));
        let mut set = format!("{}={id}; Path={}", sticky.cookie, sticky.path);
        if let Some(ttl) = sticky.ttl {
            set += &format!("; Max-Age={}", ttl.as_secs());
        }
        if sticky.secure {
            set += "; Secure";
        }
        if sticky.http_only {
            set += "; HttpOnly";
        }
        set += match sticky.same_site {
            SameSite::Unset => "",
            SameSite::Lax => "; SameSite=Lax",
            SameSite::Strict => "; SameSite=Strict",
            SameSite::None => "; SameSite=None",
        };
        Cookie { id, set }
    }
}

impl ClusterPlan {
    /// `before` is the same cluster of the plan that serves now.
    pub fn new(
        config: Cluster,
        endpoints: Vec<EndpointPlan>,
        before: Option<&ClusterPlan>,
        cores: usize,
        now_ms: u64,
    ) -> ClusterPlan {
        let node = ClusterNode::next(&config, &endpoints, before.map(|plan| &plan.node), cores, now_ms);
        let table = Table::new(&config, &endpoints);
        let cookie = |sticky| endpoints.iter().map(|endpoint| Cookie::new(sticky, endpoint)).collect();
        let cookies = config.sticky.as_ref().map(cookie).unwrap_or_default();
        let breakers = [&config.breaker, &config.endpoint_breaker];
        let try_timeout = breakers.into_iter().flatten().map(|rules| rules.timeout).min();
        let watched = try_timeout.is_some()
            || config.outlier.is_some()
            || config.adaptive.is_some()
            || config.balance == Balance::Ewma;
        let limited = config.adaptive.is_some() || config.limits.requests_max > 0;
        ClusterPlan { config, endpoints, node, table, cookies, try_timeout, watched, limited }
    }

    /// Which endpoint a client's cookie names, if it is still one of the cluster's.
    pub fn endpoint_of_cookie(&self, value: &[u8]) -> Option<u16> {
        self.cookies.iter().position(|cookie| cookie.id.as_bytes() == value).map(|at| at as u16)
    }

    /// The `Host` for an endpoint, if it is not the client's.
    pub fn host_for<'a>(&'a self, endpoint: &'a str) -> Option<&'a str> {
        match &self.config.host {
            HostHeader::Preserve => None,
            HostHeader::Endpoint if endpoint.starts_with("unix:") => Some("localhost"),
            HostHeader::Endpoint => Some(endpoint),
            HostHeader::Literal(host) => Some(host),
        }
    }
}
