//! nginx as its experts run it for this job: one worker, epoll, upstream keep-alive, no buffering of uploads to disk, no
//! access log.

use std::path::Path;

use super::{Ports, local_body};

pub(super) fn config(ports: Ports, dir: &Path) -> String {
    let Ports { gateway, origin, .. } = ports;
    let (dir, local) = (dir.display(), local_body());
    // Run as root it would drop to `nobody`, who cannot write below `dir`; run as anyone else the directive is void.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        r#"{user}
daemon off;
pid {dir}/nginx.pid;
error_log {dir}/error.log crit;
worker_processes 1;
worker_rlimit_nofile 32768;
pcre_jit on;
events {{
    use epoll;
    worker_connections 16384;
    multi_accept on;
    accept_mutex off;
}}
http {{
    access_log off;
    server_tokens off;
    sendfile off;
    tcp_nodelay on;
    reset_timedout_connection on;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_buffer_size 64k;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    upstream origin {{
        server 127.0.0.1:{origin} max_fails=0;
        keepalive 1024;
        keepalive_requests 1000000000;
        keepalive_timeout 300s;
    }}
    server {{
        listen 127.0.0.1:{gateway} reuseport backlog=4096;
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_buffer_size 16k;
            proxy_buffers 8 16k;
            proxy_busy_buffers_size 32k;
            proxy_max_temp_file_size 0;
            proxy_request_buffering off;
        }}
        location = /local {{
            default_type text/plain;
            return 200 "{local}";
        }}
    }}
}}
"#
    )
}
