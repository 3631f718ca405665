//! Seats on machines that this one is not.

use super::*;

fn machine(cpus: &[usize], quota: Option<f64>) -> Machine {
    Machine { cpus: cpus.to_vec(), quota }
}

fn seats(count: &CoreCount, machine: &Machine) -> Vec<Option<usize>> {
    choose(count, machine, false).unwrap().cpus
}

#[test]
fn auto_takes_the_mask() {
    let auto = CoreCount::Auto;
    assert_eq!(seats(&auto, &machine(&[2, 3, 5], None)), [Some(2), Some(3), Some(5)]);
    assert_eq!(seats(&auto, &machine(&[2, 3], Some(2.5))), [Some(2), Some(3)]);
}

#[test]
fn auto_under_a_quota_runs_fewer_and_unpinned() {
    let auto = CoreCount::Auto;
    assert_eq!(seats(&auto, &machine(&[0, 1, 2, 3], Some(2.9))), [None, None]);
    assert_eq!(seats(&auto, &machine(&[0, 1], Some(0.3))), [None]);
    assert_eq!(seats(&auto, &machine(&[0], Some(0.3))), [Some(0)], "there is but one place to be");
}

#[test]
fn the_demo_leaves_one_core_free_where_there_are_two() {
    let free = |cpus: &[usize]| choose(&CoreCount::Auto, &machine(cpus, None), true).unwrap().cpus;
    assert_eq!(free(&[0, 1]), [Some(0)]);
    assert_eq!(free(&[0]), [Some(0)]);
    assert_eq!(free(&[0, 1, 2, 3]), [Some(0), Some(1), Some(2)]);
}

#[test]
fn a_count_is_pinned_up_to_the_mask_and_unpinned_beyond() {
    let machine = machine(&[4, 5], None);
    assert_eq!(seats(&CoreCount::Exactly(1), &machine), [Some(4)]);
    assert_eq!(seats(&CoreCount::Exactly(2), &machine), [Some(4), Some(5)]);
    let many = choose(&CoreCount::Exactly(3), &machine, false).unwrap();
    assert_eq!(many.cpus, [None, None, None]);
    assert_eq!(many.warning.as_deref(), Some("cores.count: 3 cores on 2 CPUs run unpinned"));
}

#[test]
fn a_list_is_taken_as_it_is() {
    let machine = machine(&[0, 1, 2], None);
    assert_eq!(seats(&CoreCount::List(vec![2, 0]), &machine), [Some(2), Some(0)]);
    let twice = choose(&CoreCount::List(vec![1, 1]), &machine, false).unwrap();
    assert_eq!(twice.cpus, [Some(1), Some(1)]);
    assert_eq!(twice.warning.as_deref(), Some("cores.count: CPU 1 is named twice; its cores share it"));
    let fault = choose(&CoreCount::List(vec![0, 9]), &machine, false).unwrap_err();
    assert_eq!((fault.place.as_str(), fault.cure.as_deref()), ("cores.count", Some("there are 0-2")));
    assert_eq!(fault.message, "CPU 9 is not one that this process may use");
}

#[test]
fn ranges_are_joined() {
    assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
    assert_eq!(ranges(&[3]), "3");
}

#[test]
fn quotas_are_read() {
    assert_eq!(quota_v2("max 100000\n"), None);
    assert_eq!(quota_v2("150000 100000\n"), Some(1.5));
    assert_eq!(quota_v2("garbage"), None);
    assert_eq!(quota_v1("-1\n", "100000\n"), None);
    assert_eq!(quota_v1("50000\n", "100000\n"), Some(0.5));
    assert_eq!(quota_v1("50000", "0"), None);
}

/// A tree of files below a fresh directory.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str, files: &[(&str, &str)]) -> Tree {
        let root = std::env::temp_dir().join(format!("ringway-cgroup-{name}-{}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Tree(root)
    }

    fn quota(&self) -> Option<f64> {
        cgroup_quota(&self.0.join("self"), &self.0.join("fs"))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn the_smallest_quota_on_the_way_up_counts() {
    let files = [
        ("self", "0::/slice/unit\n"),
        ("fs/slice/cpu.max", "200000 100000\n"),
        ("fs/slice/unit/cpu.max", "400000 100000\n"),
    ];
    assert_eq!(Tree::new("v2", &files).quota(), Some(2.0));
    assert_eq!(Tree::new("none", &[("self", "0::/slice\n"), ("fs/slice/cpu.max", "max 100000\n")]).quota(), None);
}

#[test]
fn the_old_hierarchy_is_read_too() {
    let files = [
        ("self", "12:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n0::/\n"),
        // Inside a container: the group's own path is not there, the mount is the group.
        ("fs/cpu,cpuacct/cpu.cfs_quota_us", "150000\n"),
        ("fs/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
    ];
    assert_eq!(Tree::new("v1", &files).quota(), Some(1.5));
}

#[test]
fn a_thread_is_pinned_where_it_asks() {
    let all = affinity();
    let last = *all.last().unwrap();
    let pinned = std::thread::spawn(move || {
        pin(last).unwrap();
        affinity()
    });
    assert_eq!(pinned.join().unwrap(), [last]);
    assert!(pin(CPUS_MAX).is_err());
    assert_eq!(affinity(), all, "other threads are where they were");
}
