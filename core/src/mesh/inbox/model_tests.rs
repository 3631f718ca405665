//! Loom explores the interleavings of the wake protocol:
//! `cargo test -p ringway-model`.

use super::*;
use loom::thread;

/// Preemptions per execution. Published experience (CHESS) and our own breakage runs find the bugs of such protocols
/// with two; three keeps a run within seconds.
const PREEMPTIONS_MAX: usize = 3;

fn explore(body: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS_MAX);
    model.check(body);
}

/// The consumer's loop as a shard runs it. A lost wake leaves it waiting for ever, which loom reports as a deadlock.
fn receive(receiver: &mut Receiver<u32>, count: usize) -> Vec<u32> {
    let mut got = Vec::new();
    loop {
        while receiver.drain(8, |message| got.push(message)) > 0 {}
        if got.len() >= count {
            return got;
        }
        if receiver.prepare_sleep() {
            receiver.shared.bell.wait();
            receiver.woken();
        }
    }
}

#[test]
fn no_wake_is_lost_with_one_producer() {
    explore(|| {
        let (sender, mut receiver) = inbox(2).unwrap();
        let producer = thread::spawn(move || {
            sender.try_send(1).unwrap();
            sender.try_send(2).unwrap();
        });
        assert_eq!(receive(&mut receiver, 2), [1, 2]);
        producer.join().unwrap();
    });
}

#[test]
fn no_wake_is_lost_with_two_producers_and_each_message_comes_once() {
    explore(|| {
        let (sender, mut receiver) = inbox(4).unwrap();
        let other = sender.clone();
        let first = thread::spawn(move || sender.try_send(1).unwrap());
        let second = thread::spawn(move || other.try_send(2).unwrap());
        let mut got = receive(&mut receiver, 2);
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        assert_eq!(receiver.drain(8, |_| ()), 0, "nothing comes twice");
        first.join().unwrap();
        second.join().unwrap();
    });
}

#[test]
fn a_full_inbox_hands_the_message_back_and_loses_none() {
    explore(|| {
        let (sender, mut receiver) = inbox(1).unwrap();
        let other = sender.clone();
        let first = thread::spawn(move || sender.try_send(1).is_ok());
        let second = thread::spawn(move || other.try_send(2).is_ok());
        let mut got = receive(&mut receiver, 1);
        let accepted = [first.join().unwrap(), second.join().unwrap()].iter().filter(|ok| **ok).count();
        receiver.drain(8, |message| got.push(message));
        assert_eq!(got.len(), accepted, "accepted is delivered, refused is not");
    });
}
