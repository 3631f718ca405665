//! The policies of listeners and hosts, compiled: a request's listener, host and route to the filters that run outside
//! of the route's own. Which policies those are is `ringway_config::outer_policies`'s to say.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ringway_config::snapshot::{HostPattern, Settings, Snapshot};
use ringway_config::{Fault, Level, outer_policies};

use crate::filter::{self, Building, Filter, Needs};
use crate::route::{HostMap, RouteId, RouteTable};

/// Places of the table below: kinds of routes (by what they leave out) x kinds of listeners x kinds of hosts.
const PLACES_MAX: usize = 1 << 22;

/// Filters in the order they run on a request, and what their policies say besides; of settings the innermost.
#[derive(Default)]
pub struct Chain {
    pub filters: Box<[Arc<dyn Filter>]>,
    /// One of them wants to see answers.
    pub sees_answers: bool,
    pub settings: Settings,
}

/// What one policy does, built once for all who name it.
pub(super) struct Built {
    filters: Vec<Arc<dyn Filter>>,
    settings: Settings,
}

/// What applies outside of routes. A plan has it only if a listener or a host names a policy.
pub struct OuterPolicies {
    hosts: HostMap,
    /// By listener index: which kind of listener it is.
    listener_kinds: Box<[u32]>,
    /// By host entry, after a first one for hosts without.
    host_kinds: Box<[u32]>,
    host_kinds_len: usize,
    /// Listener kinds x host kinds.
    row_len: usize,
    /// Rows of chain numbers, one for each kind of route.
    places: Vec<u32>,
    chains: Vec<Chain>,
}

/// What compiles [`OuterPolicies`], route by route.
pub(super) struct Outers<'a> {
    policies: &'a [Built],
    listeners: Vec<&'a [usize]>,
    hosts: Vec<&'a [usize]>,
    /// Every policy among them.
    named: HashSet<usize>,
    table: OuterPolicies,
    rows: HashMap<Vec<usize>, u32>,
    chain_numbers: HashMap<Vec<usize>, u32>,
}

/// Builds every policy's filters, used or not.
pub(super) fn build(snapshot: &Snapshot, building: &mut Building<'_>, faults: &mut Vec<Fault>) -> Vec<Built> {
    let built = snapshot.policies.iter().map(|policy| {
        let filters = policy.filters.iter().map(|config| filter::build(config, building));
        let filters = filters.filter_map(|filter| keep(filter, faults));
        Built { filters: filters.map(Arc::from).collect(), settings: policy.settings.clone() }
    });
    built.collect()
}

/// What was built; what could not be is noted.
pub(super) fn keep<T>(result: Result<T, Fault>, faults: &mut Vec<Fault>) -> Option<T> {
    result.map_err(|fault| faults.push(fault)).ok()
}

impl Chain {
    /// Of policies, outermost first, and of what stands inside of them all; `outside` of them perhaps another filter.
    pub(super) fn new(
        outside: Option<Arc<dyn Filter>>,
        policies: &[Built],
        named: impl DoubleEndedIterator<Item = usize> + Clone,
        inside: Vec<Arc<dyn Filter>>,
        settings: Settings,
    ) -> Chain {
        let filters = named.clone().flat_map(|policy| policies[policy].filters.iter().cloned());
        let settings = named.rev().fold(settings, |inner, policy| inner.or(&policies[policy].settings));
        let filters: Box<[_]> = outside.into_iter().chain(filters).chain(inside).collect();
        Chain { sees_answers: filters.iter().any(|filter| filter.sees_answers()), filters, settings }
    }
}

impl Chain {
    pub(super) fn authenticates(&self) -> bool {
        self.filters.iter().any(|filter| filter.authenticates())
    }
}

impl OuterPolicies {
    /// What runs outside of a route of this row, for a request to this host on this listener.
    pub fn chain(&self, row: u32, listener: u32, host: &[u8]) -> &Chain {
        let entry = self.hosts.find(host).map_or(0, |entry| entry + 1);
        let place =
            self.listener_kinds[listener as usize] as usize * self.host_kinds_len + self.host_kinds[entry] as usize;
        &self.chains[self.places[row as usize * self.row_len + place] as usize]
    }

    /// True if whoever comes by this listener for one of these hosts (none: any) is asked who he is outside of a route of
    /// this row.
    pub(super) fn authenticates(&self, row: u32, listener: usize, hosts: &[HostPattern]) -> bool {
        let kind_of = |entry: Option<usize>| self.host_kinds[entry.map_or(0, |entry| entry + 1)];
        let exact = hosts.iter().map(|host| match host {
            HostPattern::Exact(host) => Some(kind_of(self.hosts.find(host.as_bytes()))),
            HostPattern::Wildcard(_) => None,
        });
        let exact: Option<Vec<u32>> = exact.collect();
        let kinds = exact.filter(|kinds| !kinds.is_empty()).unwrap_or_else(|| self.host_kinds.to_vec());
        let first = row as usize * self.row_len + self.listener_kinds[listener] as usize * self.host_kinds_len;
        kinds.iter().all(|kind| self.chains[self.places[first + *kind as usize] as usize].authenticates())
    }

    /// The host entry that applies.
    pub fn host_entry(&self, host: &[u8]) -> Option<usize> {
        self.hosts.find(host)
    }
}

impl<'a> Outers<'a> {
    /// `None` if no listener and no host names a policy.
    pub(super) fn new(snapshot: &'a Snapshot, policies: &'a [Built]) -> Option<Outers<'a>> {
        let listeners: Vec<&[usize]> = snapshot.listeners.iter().map(|listener| &listener.policies[..]).collect();
        let mut hosts: Vec<&[usize]> = vec![&[]];
        hosts.extend(snapshot.hosts.iter().map(|entry| &entry.policies[..]));
        if listeners.iter().chain(&hosts).all(|named| named.is_empty()) {
            return None;
        }
        let named = listeners.iter().chain(&hosts).copied().flatten().copied().collect();
        let (listeners, listener_kinds) = kinds(&listeners);
        let (hosts, host_kinds) = kinds(&hosts);
        let table = OuterPolicies {
            hosts: HostMap::new(snapshot.hosts.iter().map(|entry| &entry.host)),
            listener_kinds,
            host_kinds,
            host_kinds_len: hosts.len(),
            row_len: listeners.len() * hosts.len(),
            places: Vec::new(),
            chains: Vec::new(),
        };
        Some(Outers { policies, listeners, hosts, named, table, rows: HashMap::new(), chain_numbers: HashMap::new() })
    }

    /// The row of a route; routes that leave out the same share one.
    ///
    /// # Errors
    /// The table is beyond [`PLACES_MAX`].
    pub(super) fn row(&mut self, snapshot: &Snapshot, route: usize) -> Result<u32, Fault> {
        let left_out = snapshot.left_out(&snapshot.routes[route]);
        let mut relevant: Vec<usize> = left_out.iter().copied().filter(|policy| self.named.contains(policy)).collect();
        relevant.sort_unstable();
        if let Some(row) = self.rows.get(&relevant) {
            return Ok(*row);
        }
        if self.table.places.len() + self.table.row_len > PLACES_MAX {
            let fault = Fault::new("too many different combinations of listeners, hosts and `without`");
            return Err(fault.at(format!("routes[{route}]")).cure("leave out the same policies on more routes"));
        }
        for listener in &self.listeners {
            for host in &self.hosts {
                let named: Vec<(Level, usize)> = outer_policies(listener, host, &left_out);
                let named: Vec<usize> = named.into_iter().map(|(_, policy)| policy).collect();
                let number = *self.chain_numbers.entry(named).or_insert_with_key(|named| {
                    let chain = Chain::new(None, self.policies, named.iter().copied(), Vec::new(), Settings::default());
                    self.table.chains.push(chain);
                    self.table.chains.len() as u32 - 1
                });
                self.table.places.push(number);
            }
        }
        let row = self.rows.len() as u32;
        self.rows.insert(relevant, row);
        Ok(row)
    }

    pub(super) fn finish(self) -> OuterPolicies {
        self.table
    }
}

/// What a route's filters ask of it and it does not have.
pub(super) fn unmet(inner: &Chain, table: &RouteTable, id: RouteId, faults: &mut Vec<Fault>) {
    for needs in inner.filters.iter().filter_map(|filter| filter.needs()) {
        let route = table.name(id);
        for param in needs.params.iter().filter(|param| !table.param_names(id).iter().any(|known| **known == ***param))
        {
            let fault = Fault::new(format!("the path of route {route:?} has no {{{param}}}")).at(needs.place.clone());
            faults.push(match table.param_names(id) {
                [] => fault,
                names => fault.cure(format!("it has {}", names.join(", "))),
            });
        }
        if needs.prefix && table.prefix_segments(id).is_none() {
            let fault = Fault::new(format!("route {route:?} has no path_prefix to replace")).at(needs.place.clone());
            faults.push(fault.cure("write rewrite = { to = ... } for a whole path"));
        }
    }
}

impl OuterPolicies {
    /// What its filters ask of routes: they serve many, which have different params.
    pub(super) fn unmet(&self, faults: &mut Vec<Fault>) {
        let all = self.chains.iter().flat_map(|chain| &chain.filters).filter_map(|filter| filter.needs());
        let mut seen: HashSet<&str> = HashSet::new();
        for Needs { place, params, prefix } in all.filter(|needs| needs.prefix || !needs.params.is_empty()) {
            if !seen.insert(place) {
                continue;
            }
            let what = match prefix {
                true => "the route's path_prefix".to_owned(),
                false => format!("{{{}}}", params.join("}, {")),
            };
            let fault = Fault::new(format!("a policy of a listener or a host cannot use {what}")).at(place.clone());
            faults.push(fault.cure("routes differ in it: name the policy on a group or on the routes"));
        }
    }
}

/// The different lists, and for each list the number of its kind.
fn kinds<'a>(lists: &[&'a [usize]]) -> (Vec<&'a [usize]>, Box<[u32]>) {
    let (mut different, mut numbers) = (Vec::new(), HashMap::new());
    let number = |list: &&'a [usize]| {
        *numbers.entry(*list).or_insert_with(|| {
            different.push(*list);
            different.len() as u32 - 1
        })
    };
    let of_each = lists.iter().map(number).collect();
    (different, of_each)
}
