//! What routes share: policies by name, and the groups and hosts that name them. Which of them a request passes is
//! `inherit`'s; whether the names exist is `check`'s.

use crate::cluster::{Hedge, Retry};
use crate::decode::{List, Table, document};
use crate::document::{BodyBytes, FILTERS_MAX, Timeout};
use crate::snapshot::{FilterConfig, HostPattern};

/// Named in one place.
const POLICIES_PER_PLACE_MAX: usize = 32;

/// Names of policies, outermost first.
pub(crate) type PolicyNames = List<String, POLICIES_PER_PLACE_MAX>;

document! {
    /// Filters and settings that many routes share. Filters run outermost first: the policies of the listener, of the
    /// host, of the group, of the route, each list in its order, then the route's own filters; on answers in reverse.
    /// Of settings the innermost that says something wins: the route, its policies from the last to the first, then
    /// group, host, listener. A policy named in several places counts once, in the innermost of them.
    struct Policy {
        /// As a route's.
        filters: List<FilterConfig, FILTERS_MAX> = [];
        /// No route can leave it out, unless it says public = true.
        required: bool = false;
        /// Replaces the listener's.
        body_bytes_max: Option<BodyBytes>;
        /// Replaces the cluster's.
        total_timeout: Option<Timeout>;
        /// Replaces the cluster's as a whole.
        retry: Option<Table<Retry>>;
        /// As a route's.
        hedge: Option<Table<Hedge>>;
    }

    /// What all requests to a host have in common. Of several entries the most specific applies, alone: the exact host,
    /// then the longest wildcard. Chooses no route.
    struct HostEntry {
        /// Run after the listener's, before those of group and route.
        policies: PolicyNames = [];
    }

    /// Routes that belong together; a route names its group.
    struct Group {
        /// Run after the host's, before the route's.
        policies: PolicyNames = [];
        /// Policies of listener and host that do not apply to these routes.
        without: PolicyNames = [];
    }
}

/// The tables of a document that routes, hosts and listeners refer to.
pub(crate) struct Shared {
    pub(crate) policies: Vec<(String, Table<Policy>)>,
    pub(crate) hosts: Vec<(HostPattern, Table<HostEntry>)>,
    pub(crate) groups: Vec<(String, Table<Group>)>,
}
