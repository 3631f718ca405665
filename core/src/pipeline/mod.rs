//! The whole story of a request: our own business first, then its route, its filters, its action.

mod arms;
mod client;
mod filters;
mod keys;
mod mirror;
mod relay;
mod reply;
mod versions;

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

use ringway_config::snapshot::Retry;
use ringway_proto::{Body, Known, Method, NormalPath, RequestHead, TargetForm, host_of, named};

use crate::exchange::{
    BodyReader, Encoding, Exchange, Forwarding, HeaderEdit, Hop, Pump, Refusal, client_address, max_forwards,
    write_hop, write_request_head,
};
use crate::net::Stream;
use crate::plan::{ActionPlan, InForce, ListenerPlan, RoutePlan};
use crate::route::{FieldSource, Missed, Query, RouteId};
use crate::shard::{Adopted, Shard, Stage};
use crate::upstream::{Endpoint, Origin};

pub use mirror::{MIRROR_BODY_BYTES_MAX, MIRRORS_OPEN_MAX};

pub use client::{After, Connection, Listening};
pub use reply::refuse;

use filters::{Ended, Filtered, ReadBody};

/// The methods that routes can take, for `Allow`.
const METHODS: &str = "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS";

/// Where a request is served.
pub struct Serving<'a> {
    pub shard: &'a Rc<Shard>,
    pub adopted: &'a Adopted,
    pub listener: &'a ListenerPlan,
    /// The listener's index in the plan.
    pub listener_index: u32,
    pub client: &'a Stream,
    pub connection: &'a Connection,
    /// See [`Serving::trusts_peer`].
    trusts_peer: Cell<Option<bool>>,
}

impl<'a> Serving<'a> {
    /// `listener_index`: of the adopted plan.
    pub fn new(
        shard: &'a Rc<Shard>,
        adopted: &'a Adopted,
        listener_index: u32,
        client: &'a Stream,
        connection: &'a Connection,
    ) -> Serving<'a> {
        let listener = &adopted.plan.listeners[listener_index as usize];
        Serving { shard, adopted, listener, listener_index, client, connection, trusts_peer: Cell::new(None) }
    }

    /// The client's connection comes from a trusted proxy.
    #[inline]
    pub fn trusts_peer(&self) -> bool {
        self.trusts_peer.get().unwrap_or_else(|| self.look_up_peer())
    }

    #[inline(never)]
    fn look_up_peer(&self) -> bool {
        let trusts = self.listener.trusts(self.connection.peer.ip());
        self.trusts_peer.set(Some(trusts));
        trusts
    }

    /// True if the connection may serve another request after this answer.
    pub fn keeps_alive(&self, x: &Exchange) -> bool {
        let max = self.listener.config.keepalive_requests_max;
        x.request.keep_alive
            && self.shard.stage() < Stage::LastAnswers
            && self.connection.listening.index.get().is_some()
            && (max == 0 || self.connection.requests.get() + 1 < max)
    }

    /// Sends everything queued to the client; a client that takes nothing is given up. With `keep` false the connection
    /// must end as soon as this is done.
    ///
    /// # Errors
    /// The stream's.
    pub async fn flush(&self, keep: bool) -> io::Result<()> {
        if !keep {
            self.client.mark_last();
        }
        self.client.set_send_deadline(Some(self.listener.config.send_timeout));
        let sent = self.client.flush().await;
        self.client.set_send_deadline(None);
        sent
    }
}

/// Serves a request whose head has been read. Its answer has been sent when this ends.
pub async fn handle(serving: &Serving<'_>, x: &mut Exchange) -> After {
    if let Some(answer) = own_business(x) {
        return match answer {
            Ok(()) => reply::options(serving, x, METHODS).await,
            Err(refusal) => refuse(serving, x, refusal, None).await,
        };
    }
    let id = match choose(serving, x) {
        Ok(id) => id,
        Err(refusal) => return refuse(serving, x, refusal, None).await,
    };
    let rule = &serving.adopted.plan.routes[id as usize];
    let host = || host_of(x.request.authority.of(x.request_bytes.bytes()));
    let in_force = serving.adopted.plan.in_force(rule, serving.listener_index, host);
    let body_max = in_force.setting(|of| of.body_bytes_max).unwrap_or(serving.listener.config.body_bytes_max);
    let mut filtered = Filtered::default();
    if in_force.filter(0).is_some()
        && let Some(stopped) = filters::pass(serving, x, id, in_force, &mut filtered)
        && let Err(ended) = filters::go_on(stopped, serving, x, body_max, &mut filtered).await
    {
        return match ended {
            Ended::Refused(refusal) => refuse(serving, x, refusal, Some(&mut filtered)).await,
            Ended::Answered(status) => reply::bare(serving, x, status, &mut filtered).await,
        };
    }
    if let Body::Length(length) = x.request.body
        && length > body_max
    {
        return refuse(serving, x, Refusal::body_too_large(body_max), Some(&mut filtered)).await;
    }
    let cluster = match &rule.action {
        ActionPlan::Respond(answer) => return reply::fixed(serving, x, answer, &mut filtered).await,
        ActionPlan::Redirect(redirect) => return reply::redirect(serving, x, redirect, &mut filtered).await,
        ActionPlan::Forward(cluster) => *cluster,
        ActionPlan::Split(split) => arms::choose(serving, x, rule, split),
    };
    x.record.cluster = Some(cluster);
    let origin = origin(serving, rule, in_force, cluster, x);
    let mut upload = upload(serving, origin.retry, cluster, x, body_max, filtered.body.take());
    let head = |out: &mut Vec<u8>, x: &Exchange, endpoint: &Endpoint| {
        write_head(out, x, serving, origin.plan.host_for(&endpoint.label), &filtered);
    };
    x.body_taken = true;
    let mut mirror = mirror::begin(serving, x, rule.mirror.as_ref(), &filtered, &mut upload);
    let opened = origin.open(serving.client, x, &mut upload, head).await;
    upload.forget(serving.shard.net.buffers());
    mirror.send(&mut upload);
    match opened {
        Ok(opened) => {
            if let Some(cookie) = origin.cookie_for(opened.at) {
                filtered.answer.push(HeaderEdit::Add("set-cookie", cookie.into()));
            }
            let after = relay::answer(serving, x, &origin, opened, &mut upload, &mut filtered).await;
            mirror.send(&mut upload);
            after
        }
        Err(refusal) => refuse(serving, x, refusal, Some(&mut filtered)).await,
    }
}

/// What is asked of the gateway itself: `Ok` is answered like `OPTIONS *`.
fn own_business(x: &Exchange) -> Option<Result<(), Refusal>> {
    let request = &x.request;
    match request.method {
        Method::Connect | Method::Trace => Some(Err(Refusal::method_not_allowed(METHODS))),
        Method::Options if request.target.form == TargetForm::Asterisk => Some(Ok(())),
        // RFC 9110 7.6.2: at zero the recipient answers itself.
        Method::Options if max_forwards(request, x.request_bytes.bytes()) == Some(0) => Some(Ok(())),
        _ => None,
    }
}

/// Finds the route; an ambiguous path must lead to one route in every reading.
fn choose(serving: &Serving<'_>, x: &mut Exchange) -> Result<RouteId, Refusal> {
    let bytes = x.request_bytes.bytes();
    x.path.set(x.request.target.path.of(bytes))?;
    let fields = Fields { serving, request: &x.request, bytes };
    let query = query(serving, &x.request, &x.path.bytes, bytes, &fields);
    let table = &serving.adopted.plan.table;
    let mut find = |query: &Query<'_>| match x.path.ambiguous {
        true => table.find_all_readings(query, NormalPath::readings(&x.path), &mut x.captures),
        false => table.find(query, &mut x.captures),
    };
    let preflighted = preflighted_method(&x.request, bytes).and_then(|method| {
        let id = find(&Query { method, ..query }).ok()?;
        let rule = &serving.adopted.plan.routes[id as usize];
        let in_force = serving.adopted.plan.in_force(rule, serving.listener_index, || query.host);
        in_force.filters().any(|filter| filter.answers_preflights()).then_some(id)
    });
    let found = preflighted.map_or_else(|| find(&query), Ok);
    let id = found.map_err(|missed| {
        let by_version =
            (missed == Missed::Conditions).then(|| versions::refuse_unknown(&serving.adopted.plan, &query));
        by_version.flatten().unwrap_or_else(|| refuse_missed(missed))
    })?;
    x.record.route = Some(id);
    Ok(id)
}

/// The method that a CORS preflight asks about. It belongs to the route that would take that request, though the route
/// may not take `OPTIONS`; only if a filter there answers it, so that it goes no further.
fn preflighted_method<'b>(request: &RequestHead, bytes: &'b [u8]) -> Option<&'b [u8]> {
    if request.method != Method::Options {
        return None;
    }
    let first = |name| named(&request.fields, bytes, name).next().map(|field| field.value.of(bytes));
    first("origin").and(first("access-control-request-method"))
}

/// What a route, or an arm of one, is chosen by.
fn query<'q>(
    serving: &Serving<'_>,
    request: &'q RequestHead,
    path: &'q [u8],
    bytes: &'q [u8],
    fields: &'q Fields<'_>,
) -> Query<'q> {
    Query {
        listener: serving.listener_index,
        host: host_of(request.authority.of(bytes)),
        path,
        query_string: request.target.query.map_or(b"", |query| query.of(bytes)),
        method: request.method_span.of(bytes),
        fields,
    }
}

fn refuse_missed(missed: Missed) -> Refusal {
    use crate::observe::Flag;
    match missed {
        Missed::Path => Refusal::new(Flag::NoRoute, "no route has this host and path"),
        Missed::Conditions => Refusal::new(Flag::NoRoute, "the conditions of every route fail"),
        Missed::Method(allow) => Refusal::method_not_allowed(allow.to_string()),
        Missed::Ambiguous => {
            let reason = "the path can be read in ways that lead to different routes";
            Refusal { code: "ambiguous_path", ..Refusal::new(Flag::BadRequest, reason) }
        }
    }
}

fn origin<'a>(
    serving: &Serving<'a>,
    rule: &RoutePlan,
    in_force: InForce<'a>,
    cluster: usize,
    x: &Exchange,
) -> Origin<'a> {
    let (adopted, shard) = (serving.adopted, serving.shard);
    let plan = &adopted.plan.clusters[cluster];
    let total = in_force.setting(|of| of.total_timeout).or(plan.config.total_timeout);
    Origin {
        net: &shard.net,
        plan,
        state: &adopted.clusters[cluster],
        share: &shard.share,
        meters: &shard.meters,
        until_ms: total.map_or(u64::MAX, |total| shard.net.now_ms() + total.as_millis() as u64),
        retry: in_force.setting(|of| of.retry.as_ref()).unwrap_or(&plan.config.retry),
        hedge: in_force.setting(|of| of.hedge),
        key: plan.config.hash_on.as_ref().and_then(|on| keys::hash(serving, x, rule, on)),
        own: plan.config.sticky.as_ref().and_then(|sticky| {
            let bytes = x.request_bytes.bytes();
            plan.endpoint_of_cookie(keys::cookie(&x.request.fields, bytes, &sticky.cookie)?)
        }),
    }
}

/// The client's body. What no client may say in its head it may not say behind its body either.
fn client_body(serving: &Serving<'_>, body: Body) -> BodyReader {
    let reader = BodyReader::new(body);
    let withheld = &serving.adopted.plan.gathered.withheld;
    if body != Body::Chunked || withheld.is_empty() {
        return reader;
    }
    let withheld = withheld.clone();
    reader.withholding(Box::new(move |name| withheld.contains(name)))
}

/// The request's body on its way to the origin, of at most `bytes_max`.
fn upload(
    serving: &Serving<'_>,
    retry: &Retry,
    cluster: usize,
    x: &Exchange,
    bytes_max: u64,
    read: Option<Box<ReadBody>>,
) -> Pump {
    let encoding = if x.request.body == Body::Chunked { Encoding::Chunked } else { Encoding::Plain };
    let send_timeout = serving.adopted.plan.clusters[cluster].config.between_bytes_timeout;
    let recv_timeout = Some(serving.listener.config.body_timeout);
    if let Some(read) = read {
        return Pump::new(read.reader, encoding, recv_timeout, send_timeout).with_whole(read.bytes);
    }
    let pump = Pump::new(client_body(serving, x.request.body), encoding, recv_timeout, send_timeout).limited(bytes_max);
    // Nobody sends again what may not run twice, once any of its body was read.
    let again = retry.attempts_max > 1 && (retry.unsafe_methods || x.request.method.idempotent());
    pump.keeping(if again { retry.body_bytes_max } else { 0 })
}

fn write_head(out: &mut Vec<u8>, x: &Exchange, serving: &Serving<'_>, host: Option<&str>, filtered: &Filtered<'_>) {
    let bytes = x.request_bytes.bytes();
    let authority = x.request.authority.of(bytes);
    let peer = serving.connection.peer.ip();
    let trusted = serving.trusts_peer();
    let hop = Hop {
        mode: serving.listener.config.forwarded,
        peer,
        peer_text: &serving.connection.peer_text,
        local_port: serving.connection.local_port,
        scheme: client::SCHEME,
        host: authority,
        trusted,
    };
    let client = if trusted { client_of(serving, x) } else { peer };
    let forwarded = |out: &mut Vec<u8>| write_hop(out, &x.request, bytes, &hop, client);
    let withheld = &serving.adopted.plan.gathered.withheld;
    let say = Forwarding {
        path: x.rewritten.path().unwrap_or(&x.path.bytes[filtered.stripped..]),
        query: x.rewritten.query().unwrap_or_else(|| x.request.target.query.map(|query| query.of(bytes))),
        host: host.map_or(authority, str::as_bytes),
        via: serving.listener.config.via.as_bytes(),
        forwarded: &forwarded,
        drop_forwarding: !trusted,
        stripped: &x.path.bytes[..filtered.stripped],
        request_id: x.id.as_bytes(),
        withheld: &|name| withheld.contains(name),
        withholds: !withheld.is_empty(),
        edits: &filtered.request,
    };
    write_request_head(out, &x.request, bytes, &say);
}

/// Who the client is, through trusted proxies.
pub fn client_of(serving: &Serving<'_>, x: &Exchange) -> IpAddr {
    client_of_head(serving, &x.request, x.request_bytes.bytes())
}

#[inline]
fn client_of_head(serving: &Serving<'_>, request: &RequestHead, bytes: &[u8]) -> IpAddr {
    if serving.trusts_peer() { client_behind(serving, request, bytes) } else { serving.connection.peer.ip() }
}

/// Behind a trusted proxy.
#[inline(never)]
fn client_behind(serving: &Serving<'_>, request: &RequestHead, bytes: &[u8]) -> IpAddr {
    client_address(request, bytes, serving.connection.peer.ip(), |ip| serving.listener.trusts(ip))
}

/// The request's fields, for route conditions.
struct Fields<'a> {
    serving: &'a Serving<'a>,
    request: &'a RequestHead,
    bytes: &'a [u8],
}

impl FieldSource for Fields<'_> {
    fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let withheld = &self.serving.adopted.plan.gathered.withheld;
        if !withheld.is_empty() && withheld.contains(name.as_bytes()) {
            return false;
        }
        named(&self.request.fields, self.bytes, name)
            .any(|field| !field.twin && field.known != Known::Connection && test(field.value.of(self.bytes)))
    }

    fn client_ip(&self) -> IpAddr {
        client_of_head(self.serving, self.request, self.bytes)
    }

    fn is_https(&self) -> bool {
        let serving = self.serving;
        if !serving.trusts_peer() {
            return client::SCHEME == "https";
        }
        // Of several values that of the nearest proxy, which is the trusted one.
        let said = self.request.fields.iter().rfind(|field| field.known == Known::XForwardedProto && !field.twin);
        said.map_or(client::SCHEME == "https", |field| {
            let last = field.value.of(self.bytes).rsplit(|byte| *byte == b',').next().unwrap_or_default();
            last.trim_ascii().eq_ignore_ascii_case(b"https")
        })
    }
}
