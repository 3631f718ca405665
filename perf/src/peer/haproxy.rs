//! HAProxy as its experts run it for this job: one thread, every origin connection reused and kept, no log.

use super::{Ports, local_body};

/// `rules`: lines of the frontend.
pub(super) fn config(ports: Ports, rules: &str) -> String {
    let Ports { gateway, origin, .. } = ports;
    let local = local_body();
    format!(
        r#"global
    nbthread 1
    maxconn 8000
    tune.bufsize 16384
    tune.pool-high-fd-ratio 90
    tune.pool-low-fd-ratio 80

defaults
    mode http
    no log
    maxconn 8000
    option http-keep-alive
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    timeout http-keep-alive 300s

frontend clients
    bind 127.0.0.1:{gateway} backlog 4096
    http-request return status 200 content-type text/plain string "{local}" if {{ path /local }}
    option forwardfor
{rules}    default_backend origins

backend origins
    http-reuse always
    server origin 127.0.0.1:{origin} pool-max-conn -1 pool-purge-delay 300s
"#
    )
}
