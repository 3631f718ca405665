//! Connections of this core to one endpoint: those in use are counted, those at rest are kept. Does not choose among
//! endpoints (`balance`) nor speak HTTP (`forward`).

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::cluster::EndpointPlan;
use crate::net::{Address, Net, Stream};
use crate::observe::Meters;
use crate::observe::core_meters::{add, sub};

/// A connection counts as idle once nobody has used it for this long. Between two requests of a busy core many rest for
/// microseconds: cutting those down to the idle limit would only make the next requests connect again.
const IDLE_AFTER_MS: u64 = 1000;

/// This core's share of the node's `[pool]`.
#[derive(Debug, Clone, Copy)]
pub struct PoolShare {
    pub idle_max: usize,
    pub idle_per_endpoint_max: usize,
    pub idle_timeout: Duration,
    pub lifetime_max: Duration,
}

/// One endpoint as this core knows it.
pub struct Endpoint {
    pub address: Address,
    pub label: Rc<str>,
    pub weight: u32,
    active: Cell<u64>,
    /// Oldest use first.
    idle: RefCell<Vec<Idle>>,
    meters: Rc<Meters>,
}

struct Idle {
    open: Open,
    since_ms: u64,
}

/// An open connection, counted as such.
struct Open {
    stream: Stream,
    born_ms: u64,
    meters: Rc<Meters>,
}

impl Drop for Open {
    fn drop(&mut self) {
        sub(&self.meters.core.origin_connections_open, 1);
    }
}

/// A connection lent for one exchange. Dropping it closes the connection; [`Lease::keep`] puts it to rest.
pub struct Lease {
    open: Open,
    active: Active,
}

/// Counts an exchange as under way at its endpoint.
struct Active(Rc<Endpoint>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    TimedOut,
    /// Every local port towards this address is taken.
    NoPort,
    /// No descriptor or memory left for a socket.
    NoDescriptor(io::Error),
    Failed(io::Error),
}

impl Endpoint {
    pub(super) fn new(plan: &EndpointPlan, meters: &Rc<Meters>) -> Endpoint {
        Endpoint {
            address: plan.address.clone(),
            label: plan.label.as_str().into(),
            weight: plan.weight,
            active: Cell::new(0),
            idle: RefCell::default(),
            meters: meters.clone(),
        }
    }

    /// True if `plan` means this endpoint, unchanged.
    pub(super) fn is(&self, plan: &EndpointPlan) -> bool {
        self.address == plan.address && *self.label == *plan.label && self.weight == plan.weight
    }

    /// Exchanges under way.
    pub fn active(&self) -> u64 {
        self.active.get()
    }

    /// Connections at rest.
    pub fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    /// The connection used last that is still good. Dead ones are dropped on the way.
    pub fn reuse(self: &Rc<Self>, lifetime_max: Duration) -> Option<Lease> {
        loop {
            let Idle { open, .. } = self.idle.borrow_mut().pop()?;
            sub(&self.meters.core.origin_connections_idle, 1);
            let age_ms = open.stream.now_ms() - open.born_ms;
            if open.stream.is_quiet() && age_ms < lifetime_max.as_millis() as u64 {
                add(&self.meters.core.origin_connections_reused, 1);
                return Some(Lease { open, active: self.activate() });
            }
        }
    }

    /// A fresh connection.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(self: &Rc<Self>, net: &Rc<Net>, timeout: Duration) -> Result<Lease, ConnectError> {
        let active = self.activate();
        let connected = self.open(net, timeout).await;
        match &connected {
            Ok(_) => add(&self.meters.core.origin_connections_opened, 1),
            Err(ConnectError::NoPort) => add(&self.meters.core.port_exhausted, 1),
            Err(_) => add(&self.meters.core.origin_connections_failed, 1),
        }
        Ok(Lease { open: connected?, active })
    }

    async fn open(&self, net: &Rc<Net>, timeout: Duration) -> Result<Open, ConnectError> {
        let stream = net.connect(&self.address)?;
        add(&self.meters.core.origin_connections_open, 1);
        let open = Open { stream, born_ms: net.now_ms(), meters: self.meters.clone() };
        open.stream.set_send_deadline(Some(timeout));
        open.stream.connected().await?;
        open.stream.set_send_deadline(None);
        Ok(open)
    }

    fn activate(self: &Rc<Self>) -> Active {
        self.active.set(self.active.get() + 1);
        Active(self.clone())
    }

    /// Drops what is dead, too old, idle for too long, or idle beyond `share`'s limit per endpoint. Returns how many
    /// are left that count as idle.
    pub fn sweep(&self, now_ms: u64, share: &PoolShare) -> usize {
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        idle.retain(|one| {
            now_ms - one.since_ms < share.idle_timeout.as_millis() as u64
                && now_ms - one.open.born_ms < share.lifetime_max.as_millis() as u64
                && one.open.stream.is_quiet()
        });
        let resting = idle.partition_point(|one| now_ms - one.since_ms >= IDLE_AFTER_MS);
        let beyond = resting.saturating_sub(share.idle_per_endpoint_max);
        idle.drain(..beyond);
        sub(&self.meters.core.origin_connections_idle, (before - idle.len()) as u64);
        resting - beyond
    }

    /// Drops the `count` connections that rested longest.
    pub fn drop_idle(&self, count: usize) {
        let mut idle = self.idle.borrow_mut();
        let count = count.min(idle.len());
        idle.drain(..count);
        sub(&self.meters.core.origin_connections_idle, count as u64);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        sub(&self.meters.core.origin_connections_idle, self.idle.get_mut().len() as u64);
    }
}

impl Lease {
    pub fn stream(&self) -> &Stream {
        &self.open.stream
    }

    /// Puts the connection to rest for the next request. The caller vouches that nothing of this exchange is left on it.
    pub fn keep(self) {
        let Lease { open, active } = self;
        open.stream.set_recv_deadline(None);
        open.stream.keep_watch();
        let since_ms = open.stream.now_ms();
        let endpoint = &active.0;
        add(&endpoint.meters.core.origin_connections_idle, 1);
        endpoint.idle.borrow_mut().push(Idle { open, since_ms });
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> ConnectError {
        match error.raw_os_error() {
            Some(libc::EADDRNOTAVAIL) => ConnectError::NoPort,
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => ConnectError::NoDescriptor(error),
            Some(libc::ETIMEDOUT) => ConnectError::TimedOut,
            _ if error.kind() == io::ErrorKind::TimedOut => ConnectError::TimedOut,
            _ => ConnectError::Failed(error),
        }
    }
}
