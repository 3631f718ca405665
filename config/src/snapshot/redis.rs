//! A Redis as it was checked: where it is, how it is logged in to, how much may be under way.

use std::time::Duration;

use super::{EndpointAddress, Secret};

#[derive(Debug, Clone, PartialEq)]
pub struct Redis {
    pub name: String,
    /// Never empty, and no unix sockets.
    pub nodes: Vec<EndpointAddress>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// Of a command as a whole.
    pub timeout: Duration,
    pub connect_timeout: Duration,
    /// Commands under way to one node, of the whole process.
    pub active_max: usize,
    /// Beyond `active_max`; else refused.
    pub wait: bool,
    pub queue_max: usize,
    pub idle_max: usize,
    pub idle_timeout: Duration,
    pub read_from: ReadFrom,
    pub refresh: Duration,
    pub evicts: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    Master,
    Replica,
}
