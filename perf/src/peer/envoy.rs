//! Envoy as a plain reverse proxy: one worker, statistics that nobody reads switched off, no access log.

use super::{Ports, local_body};

pub(super) fn config(ports: Ports) -> String {
    let Ports { gateway, origin, .. } = ports;
    let local = local_body();
    format!(
        r#"static_resources:
  listeners:
  - name: clients
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {gateway} }} }}
    enable_reuse_port: true
    tcp_backlog_size: 4096
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: clients
          codec_type: HTTP1
          generate_request_id: false
          use_remote_address: false
          skip_xff_append: true
          server_header_transformation: PASS_THROUGH
          stream_idle_timeout: 0s
          common_http_protocol_options: {{ idle_timeout: 600s }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              dynamic_stats: false
              suppress_envoy_headers: true
          route_config:
            name: routes
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{ path: /local }}
                direct_response: {{ status: 200, body: {{ inline_string: "{local}" }} }}
              - match: {{ prefix: / }}
                route: {{ cluster: origin, timeout: 0s }}
  clusters:
  - name: origin
    type: STATIC
    connect_timeout: 5s
    circuit_breakers:
      thresholds: [ {{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000, max_retries: 1000 }} ]
    load_assignment:
      cluster_name: origin
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {origin} }} }} }}
stats_config:
  stats_matcher: {{ reject_all: true }}
"#
    )
}
