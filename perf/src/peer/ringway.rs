//! Ringway as it ships: forwarded headers, request id, limits, timeouts and meters stay on.

use std::path::Path;

use super::{Ports, local_body};

pub(super) fn config(ports: Ports, dir: &Path, access_log: bool, shards: usize) -> String {
    let Ports { gateway, origin, telemetry } = ports;
    let (dir, local) = (dir.display(), local_body());
    // No CPU can be named twice; more shards than the one CPU that the process may use run on it all the same.
    let cores = if shards == 1 { "[0]".to_owned() } else { shards.to_string() };
    let access = if access_log { format!("{dir}/access.log") } else { "off".to_owned() };
    format!(
        r#"[cores]
count = {cores}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_accepts_its_configurations() {
        let ports = Ports { gateway: 24_100, origin: 24_101, telemetry: 24_102 };
        for (access_log, shards) in [(false, 1), (true, 1), (false, 2)] {
            let text = config(ports, Path::new("/tmp/ringway-bench"), access_log, shards);
            let loaded = ringway_config::load(&ringway_config::Source { name: "bench".to_owned(), text });
            let loaded = loaded.unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(loaded.snapshot.routes.len(), 2);
        }
    }
}
