//! The promises of this room, on both engines, over real loopback sockets.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::*;

const ENGINES: [EngineKind; 2] = [EngineKind::IoUring, EngineKind::Epoll];

fn limits() -> NetLimits {
    NetLimits { ring_entries: 256, buffer_bytes: 4096, buffers_max: 512 }
}

/// Runs `task` on a fresh core until it ends.
fn on_core<F: Future<Output = ()> + 'static>(kind: EngineKind, task: impl FnOnce(Rc<Net>) -> F + Send + 'static) {
    std::thread::spawn(move || {
        let net = Net::new(kind, &limits()).unwrap();
        let (done, ended) = (net.clone(), Rc::new(Cell::new(false)));
        let seen = ended.clone();
        let task = task(net.clone());
        spawn(async move {
            task.await;
            seen.set(true);
            done.stop();
        });
        let watchdog = net.clone();
        spawn(async move {
            watchdog.sleep(Duration::from_secs(20)).await;
            watchdog.stop();
        });
        net.run(|_| {
            if panics() > 0 {
                panic!("the task panicked");
            }
        })
        .unwrap();
        assert!(ended.get(), "{kind:?}: the task did not end");
    })
    .join()
    .unwrap();
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A connected pair: a stream of ours, and the peer's blocking socket.
async fn pair(net: &Rc<Net>) -> (Stream, TcpStream) {
    let (listener, address) = listener();
    let acceptor = net.listen(listener.into()).unwrap();
    let peer = TcpStream::connect(address).unwrap();
    peer.set_nodelay(true).unwrap();
    let stream = net.adopt(acceptor.accept().await.unwrap()).unwrap();
    (stream, peer)
}

fn buffer_of(net: &Net, bytes: &[u8]) -> Vec<u8> {
    let mut buffer = net.buffers().send_buffer();
    buffer.extend_from_slice(bytes);
    buffer
}

#[test]
fn bytes_arrive_in_order_and_the_end_is_seen() {
    for kind in ENGINES {
        on_core(kind, async |net| {
            let (stream, mut peer) = pair(&net).await;
            peer.write_all(b"hello").unwrap();
            assert_eq!(&stream.recv().await.unwrap().unwrap()[..], b"hello");
            stream.queue_buffer(buffer_of(&net, b"one "));
            stream.queue_static(b"two ");
            stream.queue_buffer(buffer_of(&net, b"three"));
            stream.flush().await.unwrap();
            let mut answer = [0; 13];
            peer.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"one two three");
            drop(peer);
            assert!(stream.recv().await.unwrap().is_none());
            assert!(!stream.is_quiet());
        });
    }
}

#[test]
fn a_dropped_read_loses_nothing() {
    for kind in ENGINES {
        on_core(kind, async |net| {
            let (stream, mut peer) = pair(&net).await;
            for round in 0..50_u8 {
                let mut read = Box::pin(stream.recv());
                assert!(futures_pending(&mut read).await);
                peer.write_all(&[round]).unwrap();
                drop(read);
                net.sleep(Duration::from_millis(1)).await;
                assert_eq!(&stream.recv().await.unwrap().unwrap()[..], [round]);
            }
        });
    }
}

async fn futures_pending<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())).await
}

#[test]
fn a_large_transfer_is_whole_and_reading_pauses_when_nobody_takes_it() {
    for kind in ENGINES {
        on_core(kind, async move |net| {
            let (stream, mut peer) = pair(&net).await;
            let total = 8 << 20;
            let writer = std::thread::spawn(move || {
                let bytes: Vec<u8> = (0..total).map(|at| (at % 251) as u8).collect();
                let mut reading = peer.try_clone().unwrap();
                let reader = std::thread::spawn(move || {
                    let mut back = Vec::new();
                    reading.read_to_end(&mut back).unwrap();
                    back
                });
                peer.write_all(&bytes).unwrap();
                peer.shutdown(std::net::Shutdown::Write).unwrap();
                assert!(reader.join().unwrap() == bytes, "the echo differs");
            });
            stream.keep_watch();
            net.sleep(Duration::from_millis(100)).await;
            assert!(net.buffers().lent() < 512, "a socket that nobody reads took every buffer");
            while let Some(chunk) = stream.recv().await.unwrap() {
                stream.queue_chunk(chunk);
                std::future::poll_fn(|cx| stream.poll_room(cx, 256 * 1024)).await.unwrap();
            }
            stream.flush().await.unwrap();
            stream.end_sending();
            while !writer.is_finished() {
                net.sleep(Duration::from_millis(5)).await;
            }
            writer.join().unwrap();
        });
    }
}

#[test]
fn more_sockets_than_buffers_all_get_their_turn() {
    for kind in ENGINES {
        on_core(kind, async move |net| {
            // 600 connections, 512 buffers: those who find none wait and are served when one is free.
            let mut pairs = Vec::new();
            for _ in 0..600 {
                pairs.push(pair(&net).await);
            }
            for (stream, peer) in &mut pairs {
                stream.keep_watch();
                peer.write_all(b"x").unwrap();
            }
            net.sleep(Duration::from_millis(50)).await;
            for (stream, _) in &pairs {
                assert_eq!(stream.recv().await.unwrap().unwrap().len(), 1);
            }
        });
    }
}

#[test]
fn deadlines_of_reads_and_writes_are_kept() {
    for kind in ENGINES {
        on_core(kind, async |net| {
            let (stream, _peer) = pair(&net).await;
            let start = Instant::now();
            stream.set_recv_deadline(Some(Duration::from_secs(60)));
            stream.set_recv_deadline(Some(Duration::from_millis(50)));
            assert_eq!(stream.recv().await.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
            assert!((45..500).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
            stream.set_send_deadline(Some(Duration::from_millis(50)));
            for _ in 0..64 {
                stream.queue_buffer(vec![0; 256 * 1024]);
            }
            assert_eq!(stream.flush().await.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        });
    }
}

#[test]
fn a_reset_is_told_from_an_end() {
    for kind in ENGINES {
        on_core(kind, async |net| {
            let (ended, peer) = pair(&net).await;
            peer.shutdown(std::net::Shutdown::Write).unwrap();
            let (reset, other) = pair(&net).await;
            let watched = Rc::new(RefCell::new(Vec::new()));
            for (name, stream) in [("ended", ended), ("reset", reset)] {
                let seen = watched.clone();
                spawn(async move {
                    std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
                    seen.borrow_mut().push(name);
                });
            }
            net.sleep(Duration::from_millis(20)).await;
            socket2::SockRef::from(&other).set_linger(Some(Duration::ZERO)).unwrap();
            drop(other);
            net.sleep(Duration::from_millis(50)).await;
            assert_eq!(*watched.borrow(), ["reset"]);
        });
    }
}

#[test]
fn an_idle_connection_notices_its_peer() {
    for kind in ENGINES {
        on_core(kind, async |net| {
            let (stream, mut peer) = pair(&net).await;
            assert!(stream.is_quiet());
            peer.write_all(b"unasked").unwrap();
            net.sleep(Duration::from_millis(20)).await;
            assert!(!stream.is_quiet());
            let (stream, peer) = pair(&net).await;
            assert!(stream.is_quiet());
            drop(peer);
            net.sleep(Duration::from_millis(20)).await;
            assert!(!stream.is_quiet());
        });
    }
}

#[test]
fn a_connect_works_or_says_why_not() {
    for kind in ENGINES {
        on_core(kind, async |net| {
            let (listener, address) = listener();
            let stream = net.connect(&Address::Ip(address)).unwrap();
            stream.queue_static(b"early");
            stream.connected().await.unwrap();
            stream.flush().await.unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            let mut five = [0; 5];
            peer.read_exact(&mut five).unwrap();
            assert_eq!(&five, b"early");
            peer.write_all(b"late").unwrap();
            assert_eq!(&stream.recv().await.unwrap().unwrap()[..], b"late");
            drop(listener);
            let refused = net.connect(&Address::Ip(address)).unwrap();
            let error = refused.connected().await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
            let missing = net.connect(&Address::Unix("/nonexistent/socket".into())).unwrap();
            assert_eq!(missing.connected().await.unwrap_err().kind(), std::io::ErrorKind::NotFound);
        });
    }
}

#[test]
fn unix_sockets_work_too() {
    for kind in ENGINES {
        on_core(kind, async |net| {
            let path = std::env::temp_dir().join(format!("ringway-net-{}-{}", std::process::id(), net.kind().as_str()));
            let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
            let stream = net.connect(&Address::Unix(path.clone())).unwrap();
            stream.connected().await.unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            stream.queue_static(b"over unix");
            stream.flush().await.unwrap();
            let mut nine = [0; 9];
            peer.read_exact(&mut nine).unwrap();
            std::fs::remove_file(path).unwrap();
        });
    }
}

#[test]
fn dropped_streams_leave_nothing_behind() {
    for kind in ENGINES {
        on_core(kind, async |net| {
            let before = net.descriptors();
            for round in 0..200 {
                let (stream, mut peer) = pair(&net).await;
                stream.keep_watch();
                if round % 2 == 0 {
                    peer.write_all(b"unread").unwrap();
                }
                if round % 3 == 0 {
                    stream.queue_buffer(vec![7; 1 << 20]);
                    stream.start();
                }
            }
            net.sleep(Duration::from_millis(50)).await;
            assert_eq!(net.descriptors(), before);
        });
    }
}

#[test]
fn an_eventfd_wakes_a_task_each_time() {
    for kind in ENGINES {
        on_core(kind, async |net| {
            // SAFETY: no pointers; checked below.
            let raw = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
            assert!(raw >= 0);
            // SAFETY: just made, ours.
            let file = unsafe { <std::fs::File as std::os::fd::FromRawFd>::from_raw_fd(raw) };
            let watch = net.watch(raw).unwrap();
            for _ in 0..3 {
                let other = file.try_clone().unwrap();
                std::thread::spawn(move || (&other).write_all(&1_u64.to_ne_bytes()).unwrap());
                watch.ready().await;
                let mut count = [0; 8];
                (&file).read_exact(&mut count).unwrap();
            }
        });
    }
}

/// More comes at once than there are buffers: sockets wait for theirs, each has its turn, and nothing is lost.
#[test]
fn many_large_bodies_share_few_buffers() {
    const PEERS: usize = 48;
    const BYTES: usize = 300_000;
    for kind in ENGINES {
        on_core(kind, |net| async move {
            let read = Rc::new(Cell::new(0));
            let mut writers = Vec::new();
            for number in 0..PEERS {
                let (stream, mut peer) = pair(&net).await;
                writers.push(std::thread::spawn(move || peer.write_all(&vec![number as u8; BYTES]).unwrap()));
                let read = read.clone();
                spawn(async move {
                    let mut bytes = 0;
                    while let Some(chunk) = stream.recv().await.unwrap() {
                        assert!(chunk.iter().all(|byte| *byte == number as u8));
                        bytes += chunk.len();
                    }
                    assert_eq!(bytes, BYTES);
                    read.set(read.get() + 1);
                });
            }
            while read.get() < PEERS {
                net.sleep(Duration::from_millis(5)).await;
            }
            writers.into_iter().for_each(|writer| writer.join().unwrap());
        });
    }
}

#[test]
fn a_time_in_which_the_core_did_not_run_ends_no_wait() {
    for kind in ENGINES {
        on_core(kind, move |net| async move {
            let (stream, mut peer) = pair(&net).await;
            stream.set_recv_deadline(Some(Duration::from_millis(500)));
            // What a stopped process or a stolen CPU is to the loop: a turn that takes long.
            std::thread::sleep(Duration::from_millis(1500));
            let sender = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(200));
                peer.write_all(b"late, but not its fault").unwrap();
                peer
            });
            let received = stream.recv().await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
            assert_eq!(received.as_deref(), Some(&b"late, but not its fault"[..]));
            let began = Instant::now();
            stream.set_recv_deadline(Some(Duration::from_millis(100)));
            assert!(stream.recv().await.is_err() && began.elapsed() < Duration::from_millis(900), "{kind:?}");
            drop(sender.join().unwrap());
        });
    }
}
