//! A cluster as the plan has it: the same for every core, without any state.

use ringway_config::snapshot::{Balance, Cluster, HostHeader};

use crate::net::Address;

pub struct ClusterPlan {
    pub config: Cluster,
    pub endpoints: Vec<EndpointPlan>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPlan {
    pub address: Address,
    /// As the operator wrote it, for logs and metrics; also what `host = "endpoint"` sends.
    pub label: String,
    pub weight: u32,
}

impl ClusterPlan {
    /// The `Host` for an endpoint, if it is not the client's.
    pub fn host_for<'a>(&'a self, endpoint: &'a str) -> Option<&'a str> {
        match &self.config.host {
            HostHeader::Preserve => None,
            HostHeader::Endpoint if endpoint.starts_with("unix:") => Some("localhost"),
            HostHeader::Endpoint => Some(endpoint),
            HostHeader::Literal(host) => Some(host),
        }
    }

    pub fn least_request(&self) -> bool {
        self.config.balance == Balance::LeastRequest
    }
}
