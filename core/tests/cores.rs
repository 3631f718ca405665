//! One thread and one ring per core: how many, where, with which engine, and what each shows of itself.

mod inside;
mod support;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use inside::Core;
use ringway::net::EngineKind;
use support::{Client, Gateway, Origin, SOON, ms, names, proxy_to, wait_until};

const FIXED: &str = "[[routes]]\nname = \"fixed\"\npath_prefix = \"/\"\nrespond = { status = 200, body = \"fixed\" }\n";

fn machine() -> usize {
    std::thread::available_parallelism().expect("cores").get()
}

/// Numbers of the cores that report.
fn cores(gateway: &Gateway) -> Vec<String> {
    gateway.metrics().values(names::CORE_REQUESTS, "core")
}

/// Threads bound to exactly one CPU, as CPU numbers.
fn pinned(gateway: &Gateway) -> Vec<String> {
    let mut cpus: Vec<String> =
        gateway.thread_cpus().into_iter().map(|(_, cpus)| cpus).filter(|c| c.parse::<usize>().is_ok()).collect();
    cpus.sort();
    cpus
}

#[test]
fn a_count_a_range_and_a_list_are_taken() {
    for (count, wanted) in [("1", 1), ("[0]", 1), ("\"0-1\"", 2), ("[0, 1]", 2), ("\"0,1\"", 2)] {
        if wanted > machine() {
            continue;
        }
        let gateway = Gateway::start(&format!("[cores]\ncount = {count}\n\n{FIXED}"));
        assert_eq!(cores(&gateway).len(), wanted, "count = {count}");
        gateway.get("/").expect(200);
    }
}

#[test]
fn cores_are_pinned_where_the_machine_has_them() {
    let gateway = Gateway::start(&format!("[cores]\ncount = [0]\n\n{FIXED}"));
    if machine() > 1 {
        assert_eq!(pinned(&gateway), ["0"], "{:?}", gateway.thread_cpus());
    }
    let all = Gateway::with(FIXED).shards(machine()).start();
    if machine() > 1 {
        assert_eq!(pinned(&all).len(), machine(), "{:?}", all.thread_cpus());
    }
}

#[test]
fn auto_respects_the_affinity_mask() {
    let gateway =
        Gateway::with(&format!("[cores]\ncount = \"auto\"\n\n{FIXED}")).under(&["taskset", "-c", "0"]).start();
    assert_eq!(cores(&gateway).len(), 1);
}

/// A group that may use one CPU's time, in whichever version of cgroups the machine has.
fn one_cpu_group() -> std::io::Result<PathBuf> {
    let name = format!("ringway-test-{}", std::process::id());
    let (root, file, quota) = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        ("/sys/fs/cgroup", "cpu.max", "100000 100000")
    } else {
        ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "100000")
    };
    let group = Path::new(root).join(name);
    std::fs::create_dir(&group)?;
    // The file is the kernel's; if it is not there it must not be made.
    let written = OpenOptions::new().write(true).open(group.join(file)).and_then(|mut f| f.write_all(quota.as_bytes()));
    if let Err(error) = written {
        std::fs::remove_dir(&group)?;
        return Err(error);
    }
    Ok(group)
}

#[test]
fn auto_respects_the_cgroup_quota() {
    let group = match one_cpu_group() {
        Ok(group) => group,
        Err(error) => return eprintln!("not run: a cgroup with a CPU quota: {error}"),
    };
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", group.display());
    let gateway = Gateway::with(&format!("[cores]\ncount = \"auto\"\n\n{FIXED}")).under(&["sh", "-c", &enter]).start();
    let count = cores(&gateway).len();
    drop(gateway);
    wait_until("the group is empty", SOON, || std::fs::remove_dir(&group).is_ok());
    assert_eq!(count, 1);
}

#[test]
fn more_cores_than_the_machine_has_run_unpinned_with_one_warning() {
    let count = machine() + 3;
    let gateway = Gateway::with(FIXED).shards(count).start();
    assert_eq!(cores(&gateway).len(), count);
    assert_eq!(pinned(&gateway), Vec::<String>::new(), "{:?}", gateway.thread_cpus());
    let said = gateway.output();
    let warnings: Vec<&str> =
        said.lines().filter(|l| l.to_lowercase().contains("unpinned") || l.contains("not pinned")).collect();
    assert_eq!(warnings.len(), 1, "{said}");
    for _ in 0..20 {
        gateway.get("/").expect(200);
    }
}

#[test]
fn every_number_of_shards_serves() {
    let origin = Origin::saying("x");
    for shards in [1, 2, 4, 7] {
        let gateway = Gateway::with(&proxy_to(&origin)).shards(shards).start();
        for _ in 0..30 {
            gateway.get("/").expect(200);
        }
        let served = gateway.wait_metrics("all requests", |m| m.count(names::CORE_REQUESTS, &[]) == 30);
        assert_eq!(served.of(names::CORE_REQUESTS, &[]).count(), shards);
    }
}

#[test]
fn one_core_can_be_tuned_alone() {
    let toml = format!(
        "[cores]\ncount = 1\nkeepalive_timeout = \"60s\"\n\n[cores.0]\nkeepalive_timeout = \"200ms\"\nconnections_max = 2\n\n{FIXED}"
    );
    let gateway = Gateway::start(&toml);
    let mut client = gateway.client();
    client.get("/").expect(200);
    client.assert_closed();
    let _held: Vec<Client> = (0..2)
        .map(|_| {
            let mut client = gateway.client();
            client.get("/").expect(200);
            client
        })
        .collect();
    let mut third = gateway.client().patience(ms(150));
    let sent = third.try_send(support::client::request("GET", "/", "", b""));
    assert!(sent.is_err() || !third.try_response("GET").is_ok_and(|r| r.status == 200), "core 0 has room for two");
}

#[test]
fn an_override_for_a_core_that_is_not_there_is_an_error_or_a_warning() {
    let dir = support::gateway::Dir::new();
    let file = dir.file("f.toml", &format!("[cores]\ncount = 1\n\n[cores.5]\nconnections_max = 2\n\n[listeners.main]\nbind = \"127.0.0.1:18080\"\n\n{FIXED}"));
    let ran = support::ringway(["check".as_ref(), file.as_os_str()]);
    assert!(ran.all().contains("f.toml:4"), "{:?} {}", ran.code, ran.all());
}

#[test]
fn every_kind_of_steering_serves() {
    let origin = Origin::saying("x");
    for steering in ["kernel", "cpu", "least_loaded"] {
        let toml = format!("[listeners.main]\nsteering = \"{steering}\"\n\n{}", proxy_to(&origin));
        for shards in [1, 3] {
            let gateway = Gateway::with(&toml).shards(shards).start();
            let mut held: Vec<Client> = (0..24).map(|_| gateway.client()).collect();
            for client in &mut held {
                client.request("POST", "/", "", b"body").expect(200);
                client.get("/").expect(200);
            }
        }
    }
}

#[test]
fn least_loaded_gives_every_core_its_share() {
    let gateway = Gateway::with(&format!("[listeners.main]\nsteering = \"least_loaded\"\n\n{FIXED}")).shards(4).start();
    let mut held = Vec::new();
    for _ in 0..40 {
        let mut client = gateway.client();
        client.get("/").expect(200);
        held.push(client);
    }
    let metrics = gateway.wait_metrics("40 connections", |m| m.count(names::CORE_CONNECTIONS, &[]) == 40);
    let each: Vec<u64> = metrics.of(names::CORE_CONNECTIONS, &[]).map(|s| s.value as u64).collect();
    assert!(each.iter().all(|n| (8..=12).contains(n)), "{each:?}");
}

#[test]
fn kernel_steering_uses_every_core() {
    let gateway = Gateway::with(&format!("[listeners.main]\nsteering = \"kernel\"\n\n{FIXED}")).shards(2).start();
    for _ in 0..60 {
        gateway.get("/").expect(200);
    }
    let metrics = gateway.wait_metrics("60 requests", |m| m.count(names::CORE_REQUESTS, &[]) == 60);
    assert!(metrics.of(names::CORE_REQUESTS, &[]).all(|s| s.value > 0.0), "a core without work in 60 connections");
}

#[test]
fn each_core_shows_connections_requests_and_loop_lag() {
    let gateway = Gateway::with(FIXED).shards(2).start();
    let mut held: Vec<Client> = (0..10).map(|_| gateway.client()).collect();
    for client in &mut held {
        client.get("/").expect(200);
    }
    let metrics = gateway.wait_metrics("10 of each", |m| {
        m.sum(names::CORE_CONNECTIONS, &[]) == 10.0 && m.sum(names::CORE_REQUESTS, &[]) == 10.0
    });
    for core in ["0", "1"] {
        for name in [names::CORE_CONNECTIONS, names::CORE_REQUESTS, names::CORE_ACCEPTED] {
            assert_eq!(metrics.of(name, &[("core", core)]).count(), 1, "{name} of core {core}");
        }
        let lag = format!("{}_count", names::CORE_LOOP_LAG);
        assert_eq!(metrics.of(&lag, &[("core", core)]).count(), 1, "loop lag of core {core}");
    }
    assert_eq!(metrics.types[names::CORE_LOOP_LAG], "histogram");
    assert!(metrics.of(names::CORE_IMBALANCE, &[]).all(|s| (1.0..=2.0).contains(&s.value)));
    assert!(metrics.has(names::CORE_IMBALANCE));
    drop(held);
    gateway.wait_metrics("closed ones leave the gauge", |m| m.sum(names::CORE_CONNECTIONS, &[]) == 0.0);
}

#[test]
fn a_stalled_loop_is_reported_and_shows_in_its_lag() {
    let toml = "[telemetry]\nbind = 'off'\n[listeners.l]\nbind = '127.0.0.1:0'\n\
                [[routes]]\nname = 'all'\nrespond = { body = 'x' }\n";
    for engine in [EngineKind::IoUring, EngineKind::Epoll] {
        let mut core = Core::start(toml, engine, || {
            ringway::net::spawn(async { std::thread::sleep(ms(80)) });
        });
        let mut stalls = Vec::new();
        wait_until("the report", SOON, || {
            stalls.extend(core.stalls());
            !stalls.is_empty()
        });
        assert!(stalls[0] >= 80_000_000, "{engine:?}: {stalls:?}");
        let lag = core.meters().own.loop_lag.sum_ns();
        assert!(lag >= 80_000_000, "{engine:?}: {lag} ns");
    }
}

#[test]
fn both_engines_run_and_say_so() {
    let origin = Origin::saying("x");
    for engine in ["io_uring", "epoll"] {
        let gateway = Gateway::with(&proxy_to(&origin)).io(engine).start();
        let mut client = gateway.client();
        client.request("POST", "/", "", &vec![b'x'; 200_000]).expect(200);
        client.get("/").expect(200);
        assert_eq!(gateway.metrics().values(names::BUILD_INFO, "io"), [engine]);
    }
}

#[test]
fn auto_falls_back_where_io_uring_is_forbidden() {
    let gateway = Gateway::with(FIXED).io("auto").without_io_uring().start();
    gateway.get("/").expect(200);
    assert_eq!(gateway.metrics().values(names::BUILD_INFO, "io"), ["epoll"]);
    let said = gateway.output();
    let lines: Vec<&str> = said.lines().filter(|l| l.contains("io_uring")).collect();
    assert_eq!(lines.len(), 1, "one clear line, not {lines:?}");
    assert!(lines[0].contains("epoll"), "{}", lines[0]);
}

#[test]
fn io_uring_asked_for_and_forbidden_is_an_error() {
    let mut gateway = Gateway::with(FIXED).io("io_uring").without_io_uring().spawn();
    let status = gateway.wait_exit(SOON).expect("an end");
    assert_eq!(status.code(), Some(1));
    wait_until("the reason", SOON, || gateway.output().contains("io_uring"));
}

#[test]
fn an_idle_gateway_uses_no_cpu() {
    let gateway = Gateway::with(FIXED).shards(2).start();
    let _idle: Vec<Client> = (0..20).map(|_| gateway.client()).collect();
    std::thread::sleep(ms(200));
    let before = gateway.cpu_time();
    std::thread::sleep(ms(1000));
    let used = gateway.cpu_time().saturating_sub(before);
    assert!(used <= ms(30), "{used:?} in a second of idling");
}
