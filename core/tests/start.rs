//! The command line, the exit codes, and what a start says of itself. Reload and drain have files of their own.

mod support;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use support::gateway::{ChildLimits, Dir, launch};
use support::ports::Port;
use support::{Client, Gateway, SOON, cli, ms, odd, ringway, wait_until};

const FIXED: &str = "[[routes]]\nname = \"fixed\"\npath_prefix = \"/\"\nrespond = { status = 200, body = \"fixed\" }\n";

/// A whole document on a port of its own.
fn document(port: &Port) -> String {
    format!("[listeners.main]\nbind = \"{}\"\n\n{FIXED}", port.address())
}

#[test]
fn version_and_help_exit_0() {
    let version = ringway(["version"]).expect(0);
    assert!(version.out.contains(env!("CARGO_PKG_VERSION")), "{}", version.out);
    let help = ringway(["--help"]).expect(0);
    for command in ["run", "check", "explain", "init", "version", "reload", "drain"] {
        assert!(help.all().contains(command), "{command} is not in the help");
    }
}

#[test]
fn wrong_usage_exits_2() {
    let wrong: [&[&str]; 7] = [
        &["frobnicate"],
        &["run", "--frob"],
        &["check"],
        &["run", "-c"],
        &["explain", "GET"],
        &["explain", "GET", "not a url", "-c", "x"],
        &["check", "a", "b"],
    ];
    for args in wrong {
        let ran = ringway(args);
        assert_eq!(ran.code, Some(2), "{args:?}: {}", ran.all());
        assert!(!ran.err.is_empty(), "{args:?} says nothing");
    }
}

#[test]
fn check_passes_a_good_file() {
    let (dir, port) = (Dir::new(), Port::lease());
    let file = dir.file("good.toml", &document(&port));
    ringway(["check".as_ref(), file.as_os_str()]).expect(0);
}

#[test]
fn check_names_the_place_and_the_cure() {
    let (dir, port) = (Dir::new(), Port::lease());
    let text = document(&port).replace("path_prefix", "path_prefx");
    let file = dir.file("bad.toml", &text);
    let ran = ringway(["check".as_ref(), file.as_os_str()]).expect(1);
    assert!(ran.all().contains("bad.toml:6"), "{}", ran.all());
    assert!(ran.all().contains("path_prefix"), "the nearest valid key: {}", ran.all());
}

#[test]
fn check_names_a_cluster_that_is_not_there() {
    let (dir, port) = (Dir::new(), Port::lease());
    let text = format!(
        "[listeners.main]\nbind = \"{}\"\n\n[[routes]]\nname = \"a\"\npath = \"/\"\ncluster = \"nowhere\"\n",
        port.address()
    );
    let file = dir.file("bad.toml", &text);
    let ran = ringway(["check".as_ref(), file.as_os_str()]).expect(1);
    assert!(ran.all().contains("bad.toml:7") && ran.all().contains("nowhere"), "{}", ran.all());
}

#[test]
fn a_bad_or_missing_file_ends_run_with_1() {
    let dir = Dir::new();
    let bad = dir.file("bad.toml", "[listeners.main]\nbind = \"not an address\"\n");
    let ran = ringway(["run".as_ref(), "-c".as_ref(), bad.as_os_str()]).expect(1);
    assert!(ran.err.contains("bad.toml:2"), "{}", ran.err);
    let missing = dir.path().join("missing.toml");
    let ran = ringway(["run".as_ref(), "-c".as_ref(), missing.as_os_str()]).expect(1);
    assert!(ran.err.contains("missing.toml"), "{}", ran.err);
    ringway(["check".as_ref(), missing.as_os_str()]).expect(1);
}

#[test]
fn init_prints_a_file_that_passes_check() {
    let dir = Dir::new();
    let ran = cli::run(Command::new(cli::binary()).arg("init").current_dir(dir.path())).expect(0);
    let file = dir.path().join("ringway.toml");
    if !file.exists() {
        dir.file("ringway.toml", &ran.out);
    }
    let text = std::fs::read_to_string(&file).expect("the starter file");
    assert!(text.contains('#') && text.contains("[[routes]]"), "a commented file with a route: {text}");
    ringway(["check".as_ref(), file.as_os_str()]).expect(0);
}

#[test]
fn explain_says_which_route_and_why_not_the_others() {
    let (dir, port) = (Dir::new(), Port::lease());
    let text = format!(
        "[listeners.main]\nbind = \"{}\"\n\n[clusters.app]\nendpoints = [\"127.0.0.1:1\"]\n\n\
         [[routes]]\nname = \"item\"\npath = \"/items/{{id}}\"\nmethods = [\"GET\"]\nfilters = [{{ strip_prefix = \"/items\" }}]\n\
         cluster = \"app\"\n\n[[routes]]\nname = \"writes\"\npath = \"/items/{{id}}\"\nmethods = [\"POST\"]\ncluster = \"app\"\n\n\
         [[routes]]\nname = \"other-host\"\nhosts = [\"other.test\"]\npath = \"/items/{{id}}\"\ncluster = \"app\"\n",
        port.address()
    );
    let file = dir.file("f.toml", &text);
    let file = file.to_str().expect("a plain path");
    let ran = ringway(["explain", "GET", "http://shop.test/items/7", "-c", file]).expect(0);
    for word in ["item", "app", "strip_prefix", "writes", "other-host"] {
        assert!(ran.out.contains(word), "{word} is not in: {}", ran.out);
    }
    let none = ringway(["explain", "GET", "http://shop.test/nowhere", "-c", file]);
    assert!(none.all().contains("404"), "{}", none.all());
}

#[test]
fn reload_and_drain_without_a_gateway_exit_3() {
    let (dir, port) = (Dir::new(), Port::lease());
    let socket = dir.path().join("control.sock");
    let file = dir.file("f.toml", &format!("[control]\nsocket = \"{}\"\n\n{}", socket.display(), document(&port)));
    let file = file.to_str().expect("a plain path");
    for command in ["reload", "drain"] {
        let ran = ringway([command, "-c", file]).expect(3);
        assert!(!ran.err.is_empty(), "{command} says nothing");
    }
    // A socket file that a dead process left is no running gateway either.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a stale socket"));
    ringway(["reload", "-c", file]).expect(3);
}

#[test]
fn a_stale_control_socket_does_not_stop_a_start() {
    let dir = Dir::new();
    let socket = dir.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a stale socket"));
    let gateway = Gateway::start(&format!("[control]\nsocket = \"{}\"\n\n{FIXED}", socket.display()));
    gateway.get("/").expect(200);
}

#[test]
fn the_control_socket_is_its_owners_alone() {
    let gateway = Gateway::start(FIXED);
    let meta = std::fs::metadata(gateway.dir.path().join("control.sock")).expect("the socket");
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_busy_port_names_who_holds_it() {
    let port = Port::lease();
    // A process that another test is starting may still have the lease's own socket for a moment.
    let mut holder = None;
    wait_until("the port to be held", SOON, || {
        holder = TcpListener::bind(port.address()).ok();
        holder.is_some()
    });
    let mut gateway = Gateway::with(&document(&port)).spawn();
    let status = gateway.wait_exit(SOON).expect("an end");
    assert_eq!(status.code(), Some(1), "{}", gateway.output());
    wait_until("the message", SOON, || gateway.output().contains(&port.address()));
    let holder = std::process::id().to_string();
    assert!(gateway.output().contains(&holder), "who ({holder}) is not in: {}", gateway.output());
}

#[test]
fn a_busy_telemetry_port_is_reported_too() {
    let (port, busy) = (Port::lease(), Port::lease());
    let _holder = TcpListener::bind(busy.address()).expect("hold the port");
    let toml = format!("[telemetry]\nbind = \"{}\"\n\n{}", busy.address(), document(&port));
    let mut gateway = Gateway::with(&toml).spawn();
    assert_eq!(gateway.wait_exit(SOON).expect("an end").code(), Some(1));
    wait_until("the message", SOON, || gateway.output().contains(&busy.address()));
}

#[test]
fn the_start_says_what_runs_where() {
    let gateway = Gateway::with(FIXED).shards(2).start();
    gateway.wait_output(&gateway.addr().to_string());
    gateway.wait_output(&gateway.telemetry_addr().to_string());
    let said = gateway.output();
    assert!(said.contains("io_uring") || said.contains("epoll"), "the engine: {said}");
    assert!(said.to_lowercase().contains("core"), "the cores: {said}");
}

#[test]
fn the_soft_file_limit_is_raised_to_the_hard_one() {
    let gateway = Gateway::with(FIXED).files(256, 8192).start();
    assert_eq!(gateway.files_limit(), 8192);
    gateway.get("/").expect(200);
}

#[test]
fn a_cap_that_cannot_fit_is_lowered_or_refused_in_one_line() {
    let mut gateway =
        Gateway::with(&format!("[cores]\ncount = 2\nconnections_max = 60000\n\n{FIXED}")).files(512, 512).spawn();
    wait_until("a start or an end", SOON, || {
        !gateway.running() || gateway.try_telemetry("/readyz").is_some_and(|r| r.status == 200)
    });
    if let Some(status) = gateway.wait_exit(ms(0)) {
        assert_eq!(status.code(), Some(1));
    }
    let said = gateway.output();
    let about: Vec<&str> = said.lines().filter(|l| l.contains("connections_max")).collect();
    assert_eq!(about.len(), 1, "{said}");
    assert!(about[0].contains("512"), "the limit it cannot fit in: {}", about[0]);
}

#[test]
fn descriptors_do_not_leak_into_the_limit_line_when_all_fits() {
    let gateway = Gateway::with(&format!("[cores]\ncount = 1\nconnections_max = 100\n\n{FIXED}")).start();
    assert!(!gateway.output().contains("connections_max"), "{}", gateway.output());
}

#[test]
fn without_a_file_the_demo_runs() {
    // The demo's ports are fixed; in a network of its own nobody else has them.
    odd::in_own_network(|| {
        let dir = Dir::new();
        let mut command = Command::new(cli::binary());
        command.arg("run").current_dir(dir.path()).env("XDG_RUNTIME_DIR", dir.path());
        let (mut child, output) = launch(command, ChildLimits::default());
        let telemetry = "127.0.0.1:9901".parse().expect("an address");
        let front = "127.0.0.1:8080".parse().expect("an address");
        let metrics = support::wait_for("the demo's telemetry", SOON, || {
            assert!(child.try_wait().expect("wait").is_none(), "{}", output.lock().expect("output"));
            let mut client = Client::try_to(telemetry, SOON).ok()?;
            client.try_send(support::client::request("GET", "/readyz", "", b"")).ok()?;
            client.try_response("GET").ok().filter(|r| r.status == 200)?;
            Some(Client::to(telemetry).get("/metrics").expect(200).text())
        });
        let mut client = Client::to(front);
        client.get("/").expect(200);
        client.get("/api/hello").expect(200);
        client.get("/users/7").expect(200);
        client.get("/fixed").expect(200);
        client.get("/old").expect(308);
        let said = output.lock().expect("output").clone();
        for word in ["curl", "wrk", "127.0.0.1:8080", "127.0.0.1:9901"] {
            assert!(said.contains(word), "{word} is not in: {said}");
        }
        let machine = std::thread::available_parallelism().expect("cores").get();
        let cores = support::Metrics::parse(&metrics).values(support::names::CORE_REQUESTS, "core").len();
        if machine == 2 {
            assert_eq!(cores, 1, "one core is left for the load");
        }
        child.kill().expect("kill");
        child.wait().expect("wait");
    });
}
