//! The inbox with its real queue and its real eventfd.

use super::*;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

fn readable(fd: RawFd, timeout_ms: i32) -> bool {
    let mut wanted = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd, alive for the call.
    unsafe { libc::poll(&mut wanted, 1, timeout_ms) == 1 }
}

fn assert_send<T: Send>() {}

#[test]
fn both_ends_can_move_to_a_thread() {
    assert_send::<Sender<Box<u8>>>();
    assert_send::<Receiver<Box<u8>>>();
}

#[test]
fn messages_come_in_order_and_at_most_max_at_a_time() {
    let (sender, mut receiver) = inbox(8).unwrap();
    (0..5).for_each(|n| sender.try_send(n).unwrap());
    let mut got = Vec::new();
    assert_eq!(receiver.drain(3, |n| got.push(n)), 3);
    assert_eq!(receiver.drain(3, |n| got.push(n)), 2);
    assert_eq!(receiver.drain(3, |n| got.push(n)), 0);
    assert_eq!(got, [0, 1, 2, 3, 4]);
}

#[test]
fn a_full_inbox_hands_the_message_back() {
    let (sender, mut receiver) = inbox(2).unwrap();
    sender.try_send("a").unwrap();
    sender.try_send("b").unwrap();
    assert_eq!(sender.try_send("c"), Err(Full("c")));
    receiver.drain(1, |_| ());
    assert_eq!(sender.try_send("c"), Ok(()));
}

#[test]
fn only_a_sleeper_is_rung_and_only_once() {
    let (sender, mut receiver) = inbox(8).unwrap();
    sender.try_send(1).unwrap();
    assert!(!readable(receiver.fd(), 0), "awake: no system call");
    assert!(!receiver.prepare_sleep(), "there is work");
    sender.try_send(2).unwrap();
    assert!(!readable(receiver.fd(), 0), "prepare_sleep that said no took the flag back");

    receiver.drain(8, |_| ());
    assert!(receiver.prepare_sleep());
    sender.try_send(3).unwrap();
    assert!(readable(receiver.fd(), 0));
    receiver.woken();
    assert!(!readable(receiver.fd(), 0), "woken reads the bell");
    sender.try_send(4).unwrap();
    assert!(!readable(receiver.fd(), 0), "woken: awake again");
    assert_eq!(receiver.drain(8, |_| ()), 2);
}

#[test]
fn the_doorbell_is_closed_on_exec_and_does_not_block() {
    let (_sender, mut receiver) = inbox::<u8>(1).unwrap();
    // SAFETY: fcntl with F_GETFD and F_GETFL takes no pointers.
    let (on_exec, status) =
        unsafe { (libc::fcntl(receiver.fd(), libc::F_GETFD), libc::fcntl(receiver.fd(), libc::F_GETFL)) };
    assert_ne!(on_exec & libc::FD_CLOEXEC, 0);
    assert_ne!(status & libc::O_NONBLOCK, 0);
    receiver.woken(); // nobody rang: returns
}

/// Breaks (by time-out) when a wake is lost on the real queue; loom covers the interleavings, this the real parts.
#[test]
fn a_sleeping_consumer_gets_every_message_of_four_producers() {
    const EACH: u64 = 20_000;
    let (sender, mut receiver) = inbox(64).unwrap();
    let (done, finished) = mpsc::channel();
    let producers: Vec<_> = (0..4u64)
        .map(|producer| {
            let sender = sender.clone();
            thread::spawn(move || {
                for n in 0..EACH {
                    let mut message = producer * EACH + n;
                    while let Err(Full(back)) = sender.try_send(message) {
                        message = back;
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    thread::spawn(move || {
        let (mut count, mut sum) = (0, 0);
        loop {
            while receiver.drain(16, |n| (count, sum) = (count + 1, sum + n)) > 0 {}
            if count == 4 * EACH {
                break;
            }
            if receiver.prepare_sleep() {
                assert!(readable(receiver.fd(), 5_000), "a wake was lost");
                receiver.woken();
            }
        }
        done.send(sum).unwrap();
    });
    producers.into_iter().for_each(|producer| producer.join().unwrap());
    assert_eq!(finished.recv_timeout(Duration::from_secs(20)), Ok((0..4 * EACH).sum()));
}
