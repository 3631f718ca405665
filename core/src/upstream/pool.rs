//! Connections of this core to one endpoint: those in use are counted, those at rest are kept, and there are no more of
//! them than the node may have. Does not choose among endpoints (`choose`) nor speak HTTP (`forward`).

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::balance::PeakEwma;
use super::cluster::EndpointPlan;
use super::node::{EndpointNode, NO_LIMIT};
use super::waiting::WaitList;
use crate::mesh::{Quota, Share};
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
    /// For the balance by latency.
    pub latency: PeakEwma,
    active: Cell<u64>,
    /// Oldest use first.
    idle: RefCell<Vec<Idle>>,
    places: Rc<Places>,
    meters: Rc<Meters>,
}

/// What this core may have of the node's connections to the endpoint, and who waits for one.
struct Places {
    open: Share,
    opening: Share,
    waiting: WaitList,
}

/// A connection's place, and while it is being opened its place among those.
struct Place {
    places: Rc<Places>,
    opening: bool,
}

impl Place {
    fn take(places: &Rc<Places>) -> Option<Place> {
        if !places.open.take() {
            return None;
        }
        if !places.opening.take() {
            places.open.give();
            return None;
        }
        Some(Place { places: places.clone(), opening: true })
    }

    fn is_limited(&self) -> bool {
        self.places.open.max() < NO_LIMIT
    }

    fn opened(&mut self) {
        if std::mem::take(&mut self.opening) {
            self.places.opening.give();
            self.places.waiting.wake_first();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.opened();
        self.places.open.give();
        self.places.waiting.wake_first();
    }
}

struct Idle {
    open: Open,
    since_ms: u64,
}

/// An open connection, counted as such.
struct Open {
    stream: Stream,
    born_ms: u64,
    place: Place,
    meters: Rc<Meters>,
}

impl Drop for Open {
    fn drop(&mut self) {
        // The reactor closes a little later. By then another core may have opened a connection in this one's place.
        if self.place.is_limited() {
            self.stream.end_sending();
        }
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

/// What a wait for a connection ends in.
enum Found {
    Connection(Open),
    Place(Place),
}

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    TimedOut,
    /// The node has as many connections to the endpoint as it may, or is opening as many, and none came free in time.
    NoPlace,
    /// Every local port towards this address is taken.
    NoPort,
    /// No descriptor or memory left for a socket.
    NoDescriptor(io::Error),
    Failed(io::Error),
}

impl Endpoint {
    pub(super) fn new(plan: &EndpointPlan, node: &EndpointNode, cores: usize, meters: &Rc<Meters>) -> Endpoint {
        let share = |quota: &std::sync::Arc<Quota>| Share::new(quota.clone(), cores);
        let (open, opening) = (share(&node.connections), share(&node.connects));
        Endpoint {
            address: plan.address.clone(),
            label: plan.label.as_str().into(),
            latency: PeakEwma::default(),
            active: Cell::new(0),
            idle: RefCell::default(),
            places: Rc::new(Places { open, opening, waiting: WaitList::default() }),
            meters: meters.clone(),
        }
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
        Some(Lease { open: self.take_idle(lifetime_max)?, active: self.activate() })
    }

    fn take_idle(&self, lifetime_max: Duration) -> Option<Open> {
        loop {
            let Idle { open, .. } = self.idle.borrow_mut().pop()?;
            sub(&self.meters.core.origin_connections_idle, 1);
            let age_ms = open.stream.now_ms() - open.born_ms;
            if open.stream.is_quiet() && age_ms < lifetime_max.as_millis() as u64 {
                add(&self.meters.core.origin_connections_reused, 1);
                return Some(open);
            }
        }
    }

    /// Requests that wait for a connection.
    pub fn waiting(&self) -> usize {
        self.places.waiting.len()
    }

    /// A fresh connection. Where no more may be opened, the first one that somebody gives back.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(
        self: &Rc<Self>,
        net: &Rc<Net>,
        timeout: Duration,
        lifetime_max: Duration,
    ) -> Result<Lease, ConnectError> {
        let active = self.activate();
        let place = match Place::take(&self.places).filter(|_| self.places.waiting.is_empty()) {
            Some(place) => place,
            None => match self.wait_for_place(net, timeout, lifetime_max).await.ok_or(ConnectError::NoPlace)? {
                Found::Connection(open) => return Ok(Lease { open, active }),
                Found::Place(place) => place,
            },
        };
        let connected = self.open(net, timeout, place).await;
        match &connected {
            Ok(_) => add(&self.meters.core.origin_connections_opened, 1),
            Err(ConnectError::NoPort) => add(&self.meters.core.port_exhausted, 1),
            Err(_) => add(&self.meters.core.origin_connections_failed, 1),
        }
        Ok(Lease { open: connected?, active })
    }

    async fn wait_for_place(&self, net: &Rc<Net>, timeout: Duration, lifetime_max: Duration) -> Option<Found> {
        let until_ms = net.now_ms() + timeout.as_millis() as u64;
        let look = || {
            let resting = self.take_idle(lifetime_max).map(Found::Connection);
            resting.or_else(|| Place::take(&self.places).map(Found::Place))
        };
        self.places.waiting.wait(net, until_ms, look).await
    }

    async fn open(&self, net: &Rc<Net>, timeout: Duration, place: Place) -> Result<Open, ConnectError> {
        let stream = net.connect(&self.address)?;
        add(&self.meters.core.origin_connections_open, 1);
        let mut open = Open { stream, born_ms: net.now_ms(), place, meters: self.meters.clone() };
        open.stream.set_send_deadline(Some(timeout));
        open.stream.connected().await?;
        open.stream.set_send_deadline(None);
        open.place.opened();
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
        self.places.open.tick();
        self.places.opening.tick();
        sub(&self.meters.core.origin_connections_idle, (before - idle.len()) as u64);
        resting - beyond
    }

    /// Gives up what rests here if another core has found no connection; its place goes there.
    pub fn lend(&self) {
        if self.places.open.is_wanted_elsewhere() {
            self.drop_idle(self.idle());
        }
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
        let places = &endpoint.places;
        if places.waiting.is_empty() && places.open.is_wanted_elsewhere() {
            return; // its place goes to the core that has found none
        }
        add(&endpoint.meters.core.origin_connections_idle, 1);
        endpoint.idle.borrow_mut().push(Idle { open, since_ms });
        places.waiting.wake_first();
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
