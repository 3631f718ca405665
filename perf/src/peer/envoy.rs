//! Envoy as a plain reverse proxy: one worker, no access log, no timers per request, and no statistics, which it would
//! otherwise count for nobody.

use serde_json::{Value, json};

use super::{Ports, local_body};

const MANAGER: &str = "network.http_connection_manager";
const ROUTER: &str = "http.router";
/// No breaker is to open under load.
const UNLIMITED: u32 = 1_000_000;

pub(super) fn config(ports: Ports) -> String {
    let listener = json!({
        "name": "gateway",
        "address": loopback(ports.gateway),
        "tcp_backlog_size": 4096,
        "filter_chains": [{ "filters": [extension(MANAGER, "HttpConnectionManager", connection_manager())] }],
    });
    let cluster = json!({
        "name": "origin",
        "connect_timeout": "5s",
        "circuit_breakers": { "thresholds": [{
            "max_connections": UNLIMITED,
            "max_pending_requests": UNLIMITED,
            "max_requests": UNLIMITED,
        }] },
        "load_assignment": {
            "cluster_name": "origin",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": loopback(ports.origin) } }] }],
        },
    });
    let whole = json!({
        "static_resources": { "listeners": [listener], "clusters": [cluster] },
        "stats_config": { "stats_matcher": { "reject_all": true } },
    });
    whole.to_string()
}

fn connection_manager() -> Value {
    let fixed = json!({ "status": 200, "body": { "inline_string": local_body() } });
    let routes = json!([
        { "match": { "path": "/local" }, "direct_response": fixed },
        { "match": { "prefix": "/" }, "route": { "cluster": "origin", "timeout": "0s" } },
    ]);
    let router = json!({ "dynamic_stats": false, "suppress_envoy_headers": true });
    json!({
        "stat_prefix": "gateway",
        "codec_type": "HTTP1",
        "route_config": { "virtual_hosts": [{ "name": "any", "domains": ["*"], "routes": routes }] },
        "http_filters": [extension(ROUTER, "Router", router)],
        // What it does for each request unless told otherwise.
        "generate_request_id": false,
        "skip_xff_append": true,
        "server_header_transformation": "PASS_THROUGH",
        "stream_idle_timeout": "0s",
    })
}

/// An extension's configuration under the name of its type.
fn extension(name: &str, message: &str, mut config: Value) -> Value {
    config["@type"] = format!("type.googleapis.com/envoy.extensions.filters.{name}.v3.{message}").into();
    json!({ "name": format!("envoy.filters.{name}"), "typed_config": config })
}

fn loopback(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}
