//! Ringway as it ships: forwarded headers, request id, limits, timeouts and meters stay on.

use std::path::Path;

use super::{Ports, local_body};

pub(super) fn config(ports: Ports, dir: &Path, access_log: bool, shards: usize) -> String {
    let Ports { gateway, origin, telemetry } = ports;
    let (dir, local) = (dir.display(), local_body());
    let cores = vec!["0"; shards].join(", ");
    let access = if access_log { format!("{dir}/access.log") } else { "off".to_owned() };
    format!(
        r#"[cores]
count = [{cores}]
[telemetry]
bind = "127.0.0.1:{telemetry}"
[control]
socket = "{dir}/control.sock"
[log]
access = "{access}"
[listeners.bench]
bind = "127.0.0.1:{gateway}"
[clusters.origin]
endpoints = ["127.0.0.1:{origin}"]
[[routes]]
name = "fixed"
path = "/local"
respond = {{ status = 200, body = "{local}" }}
[[routes]]
name = "all"
path_prefix = "/"
cluster = "origin"
"#
    )
}
