//! Names over time, with a resolver that says what the test wants.

use super::*;
use crate::plan::Names as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::task::LocalSet;

fn snapshot(endpoints: &str) -> Snapshot {
    let text = format!(
        "[listeners.main]\nbind = \"127.0.0.1:0\"\n[clusters.a]\nendpoints = [{endpoints}]\ndns_refresh = \"10s\"\n\
         [[routes]]\nname = \"a\"\ncluster = \"a\"\n"
    );
    ringway_config::load(&ringway_config::Source { name: "test".into(), text }).unwrap().snapshot
}

fn addresses(names: &Names, host: &str) -> Vec<String> {
    names.known().addresses(host).iter().map(ToString::to_string).collect()
}

async fn within(names: &Rc<Names>, test: impl Future<Output = ()>) {
    let local = LocalSet::new();
    local.spawn_local(names.clone().refresh());
    local.run_until(test).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_name_is_known_before_the_first_plan() {
    let lookup: Lookup = |host| match host {
        "app.test" => Ok(vec!["10.0.0.2".parse().unwrap(), "10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()]),
        _ => Err("no such name".to_owned()),
    };
    let names = Rc::new(Names::new(lookup, 1));
    within(&names, async {
        names.learn(&snapshot("\"app.test:80\", \"gone.test:80\"")).await;
        assert_eq!(addresses(&names, "app.test"), ["10.0.0.1", "10.0.0.2"], "sorted, none twice");
        assert!(addresses(&names, "gone.test").is_empty(), "a failure does not hold up the start");
        names.keep_only(&snapshot("\"other.test:80\""));
        assert!(addresses(&names, "app.test").is_empty());
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn the_last_good_answer_stays_and_a_new_one_is_told() {
    static ANSWER: Mutex<&str> = Mutex::new("10.0.0.1");
    let lookup: Lookup = |_| ANSWER.lock().unwrap().parse().map(|ip| vec![ip]).map_err(|_| "down".to_owned());
    let names = Rc::new(Names::new(lookup, 1));
    within(&names, async {
        names.learn(&snapshot("\"app.test:80\"")).await;
        names.changed.notified().await;
        let ask_again = async |answer| {
            *ANSWER.lock().unwrap() = answer;
            names.hosts.borrow_mut().values_mut().for_each(|host| host.due = Instant::now());
            names.news.notify_waiters();
            while names.hosts.borrow().values().any(|host| host.is_asked || host.due <= Instant::now()) {
                tokio::task::yield_now().await;
            }
        };
        ask_again("not an address").await;
        assert_eq!(addresses(&names, "app.test"), ["10.0.0.1"]);
        ask_again("10.0.0.9").await;
        assert_eq!(addresses(&names, "app.test"), ["10.0.0.9"]);
        names.changed.notified().await;
    })
    .await;
}

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn a_resolver_that_hangs_is_waited_for_but_not_long() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let names = Rc::new(Names::new(|_| Err(ASKED.fetch_add(1, Ordering::Relaxed).to_string()), 1));
    // Nobody runs `refresh`, so no answer ever comes.
    let begun = Instant::now();
    names.learn(&snapshot("\"app.test:80\"")).await;
    assert_eq!(begun.elapsed(), FIRST_ANSWER_TIME_MAX);
    assert_eq!(ASKED.load(Ordering::Relaxed), 0);
}

#[test]
fn jitter_spreads_around_the_interval() {
    let names = Names::new(system_lookup, 7);
    let times: Vec<Duration> = (0..100).map(|_| names.jittered(Duration::from_secs(10))).collect();
    assert!(times.iter().all(|time| (9_500..10_500).contains(&time.as_millis())), "{times:?}");
    assert!(times.iter().any(|time| *time != times[0]));
}
