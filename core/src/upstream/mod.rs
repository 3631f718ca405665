//! The way to an origin: which endpoint (`choose`), on which connection (`pool`), and the exchange on it (`forward`).
//! What a core has is its own; what the node has in common about an endpoint (`node`) comes with the plan.

mod adaptive;
mod attempt;
pub mod balance;
pub mod breaker;
mod choose;
mod cluster;
mod forward;
mod hedge;
pub mod node;
pub mod outlier;
mod permit;
mod pool;
mod retry;
mod state;
mod ticket;
mod waiting;

pub use breaker::Circuit;
pub use cluster::{ClusterPlan, EndpointPlan};
pub use forward::{Opened, Origin, blame_for};
pub use node::{ClusterNode, EndpointNode};
pub use pool::{ConnectError, Endpoint, Lease, PoolShare};
pub use retry::budget;
pub use state::ClusterState;
