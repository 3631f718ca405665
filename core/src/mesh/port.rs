//! A thread's way out: one lane per receiver, each with its backlog. Does not receive (`inbox`).

use crate::mesh::inbox::{Full, Sender};
use crate::mesh::policy::{KindCounts, Message, Policy, Sent, Tally};
use std::cell::RefCell;
use std::collections::VecDeque;

/// Messages one lane keeps while its receiver's inbox is full. Beyond, they are refused and counted.
pub const BACKLOG_MESSAGES_MAX: usize = 64;

/// The way to one receiver. Messages that must arrive keep their order: none overtakes the backlog.
pub struct Lane<M: Message> {
    sender: Sender<M>,
    backlog: RefCell<VecDeque<M>>,
}

impl<M: Message> Lane<M> {
    pub fn new(sender: Sender<M>) -> Lane<M> {
        Lane { sender, backlog: RefCell::new(VecDeque::new()) }
    }

    fn send(&self, message: M, tally: &Tally) -> Sent<M> {
        self.flush(tally);
        let (kind, policy) = (message.kind(), message.policy());
        let refused = if self.backlog.borrow().is_empty() {
            match self.sender.try_send(message) {
                Ok(()) => {
                    tally.add(kind, |row| row.delivered += 1);
                    return Sent::Delivered;
                }
                Err(Full(message)) => message,
            }
        } else {
            message
        };
        let sent = self.keep(refused, policy, tally);
        match sent {
            Sent::Refused(_) => tally.add(kind, |row| row.refused += 1),
            _ => tally.add(kind, |row| row.kept += 1),
        }
        sent
    }

    fn keep(&self, message: M, policy: Policy, tally: &Tally) -> Sent<M> {
        let mut backlog = self.backlog.borrow_mut();
        if policy == Policy::Coalesce
            && let Some(older) = backlog.iter_mut().find(|older| older.kind() == message.kind())
        {
            tally.add(older.kind(), |row| row.replaced += 1);
            *older = message;
            return Sent::Kept;
        }
        if policy == Policy::DropAndCount || backlog.len() >= BACKLOG_MESSAGES_MAX {
            return Sent::Refused(message);
        }
        backlog.push_back(message);
        Sent::Kept
    }

    /// True when nothing waits any more.
    fn flush(&self, tally: &Tally) -> bool {
        let mut backlog = self.backlog.borrow_mut();
        while let Some(message) = backlog.pop_front() {
            let kind = message.kind();
            if let Err(Full(message)) = self.sender.try_send(message) {
                backlog.push_front(message);
                return false;
            }
            tally.add(kind, |row| row.delivered += 1);
        }
        true
    }
}

/// All lanes of one thread: to the shards (messages `S`) and, for a shard, to the control thread (messages `C`).
pub struct Port<S: Message, C: Message> {
    shards: Vec<Option<Lane<S>>>,
    control: Option<Lane<C>>,
    tally: Tally,
}

impl<S: Message, C: Message> Port<S, C> {
    /// The port of shard `core`: to every other shard and to control.
    pub fn of_shard(core: usize, shards: &[Sender<S>], control: Sender<C>) -> Port<S, C> {
        let shards = shards.iter().enumerate();
        let shards = shards.map(|(other, sender)| (other != core).then(|| Lane::new(sender.clone()))).collect();
        Port { shards, control: Some(Lane::new(control)), tally: Tally::default() }
    }

    /// The port of the control thread: to every shard.
    pub fn of_control(shards: &[Sender<S>]) -> Port<S, C> {
        let shards = shards.iter().map(|sender| Some(Lane::new(sender.clone()))).collect();
        Port { shards, control: None, tally: Tally::default() }
    }

    /// To itself or to a core that does not exist: refused.
    pub fn send(&self, core: usize, message: S) -> Sent<S> {
        send_on(self.shards.get(core).and_then(Option::as_ref), message, &self.tally)
    }

    /// From the control thread itself: refused.
    pub fn send_control(&self, message: C) -> Sent<C> {
        send_on(self.control.as_ref(), message, &self.tally)
    }

    /// Tries every backlog again; true when all are empty. The owner calls it on its tick: a full inbox is drained by
    /// its shard within one turn of its loop, so nobody needs to be told when there is room.
    pub fn flush(&self) -> bool {
        let shards = self.shards.iter().flatten().fold(true, |clear, lane| lane.flush(&self.tally) & clear);
        self.control.as_ref().is_none_or(|lane| lane.flush(&self.tally)) & shards
    }

    /// Messages that wait in all backlogs.
    pub fn waiting(&self) -> usize {
        let control = self.control.iter().map(|lane| lane.backlog.borrow().len());
        self.shards.iter().flatten().map(|lane| lane.backlog.borrow().len()).chain(control).sum()
    }

    /// One row per kind that was ever sent.
    pub fn counts(&self) -> Vec<KindCounts> {
        self.tally.rows()
    }
}

fn send_on<M: Message>(lane: Option<&Lane<M>>, message: M, tally: &Tally) -> Sent<M> {
    match lane {
        Some(lane) => lane.send(message, tally),
        None => {
            tally.add(message.kind(), |row| row.refused += 1);
            Sent::Refused(message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::inbox::{Receiver, inbox};

    #[derive(Debug, PartialEq, Eq)]
    enum Word {
        Must(u32),
        News(u32),
        Spare(u32),
    }

    impl Message for Word {
        fn policy(&self) -> Policy {
            match self {
                Word::Must(_) => Policy::RetryLater,
                Word::News(_) => Policy::Coalesce,
                Word::Spare(_) => Policy::DropAndCount,
            }
        }

        fn kind(&self) -> &'static str {
            match self {
                Word::Must(_) => "must",
                Word::News(_) => "news",
                Word::Spare(_) => "spare",
            }
        }
    }

    /// Core 0's port in a node of two, and core 1's inbox of one message.
    fn port() -> (Port<Word, Word>, Receiver<Word>, Receiver<Word>) {
        let (to_zero, _) = inbox(1).unwrap();
        let (to_one, one) = inbox(1).unwrap();
        let (to_control, control) = inbox(1).unwrap();
        (Port::of_shard(0, &[to_zero, to_one], to_control), one, control)
    }

    fn take(receiver: &mut Receiver<Word>) -> Vec<Word> {
        let mut got = Vec::new();
        receiver.drain(9, |word| got.push(word));
        got
    }

    fn counts(port: &Port<Word, Word>, kind: &'static str) -> KindCounts {
        port.counts().into_iter().find(|row| row.kind == kind).unwrap()
    }

    #[test]
    fn what_must_arrive_waits_in_order_and_is_never_overtaken() {
        let (port, mut one, _control) = port();
        assert_eq!(port.send(1, Word::Must(1)), Sent::Delivered);
        assert_eq!(port.send(1, Word::Must(2)), Sent::Kept);
        assert!(!port.flush());
        assert_eq!(take(&mut one), [Word::Must(1)]);
        assert_eq!(port.send(1, Word::Must(3)), Sent::Kept, "2 goes first, and fills the inbox");
        assert_eq!(take(&mut one), [Word::Must(2)]);
        assert!(port.flush());
        assert_eq!(take(&mut one), [Word::Must(3)]);
        assert_eq!(counts(&port, "must"), KindCounts { kind: "must", delivered: 3, kept: 2, replaced: 0, refused: 0 });
    }

    #[test]
    fn the_backlog_is_bounded() {
        let (port, mut one, _control) = port();
        assert_eq!(port.send(1, Word::Must(0)), Sent::Delivered);
        for n in 0..BACKLOG_MESSAGES_MAX {
            assert_eq!(port.send(1, Word::Must(n as u32)), Sent::Kept);
        }
        assert_eq!(port.send(1, Word::Must(999)), Sent::Refused(Word::Must(999)));
        assert_eq!(port.waiting(), BACKLOG_MESSAGES_MAX);
        assert_eq!(counts(&port, "must").refused, 1);
        take(&mut one);
        assert!(!port.flush(), "one fits, the rest waits on");
        assert_eq!(port.waiting(), BACKLOG_MESSAGES_MAX - 1);
    }

    #[test]
    fn of_news_only_the_last_waits() {
        let (port, mut one, _control) = port();
        assert_eq!(port.send(1, Word::News(1)), Sent::Delivered);
        assert_eq!(port.send(1, Word::News(2)), Sent::Kept);
        assert_eq!(port.send(1, Word::News(3)), Sent::Kept);
        assert_eq!(port.waiting(), 1);
        assert_eq!(take(&mut one), [Word::News(1)]);
        assert!(port.flush());
        assert_eq!(take(&mut one), [Word::News(3)]);
        assert_eq!(counts(&port, "news"), KindCounts { kind: "news", delivered: 2, kept: 2, replaced: 1, refused: 0 });
    }

    #[test]
    fn what_can_be_spared_comes_back_and_is_counted() {
        let (port, _one, _control) = port();
        assert_eq!(port.send(1, Word::Spare(1)), Sent::Delivered);
        assert_eq!(port.send(1, Word::Spare(2)).refused(), Some(Word::Spare(2)));
        assert_eq!(counts(&port, "spare").refused, 1);
        assert_eq!(port.waiting(), 0);
    }

    #[test]
    fn there_is_no_lane_to_oneself_or_to_nowhere() {
        let (port, _one, mut control) = port();
        assert_eq!(port.send(0, Word::Must(1)), Sent::Refused(Word::Must(1)));
        assert_eq!(port.send(7, Word::Must(1)), Sent::Refused(Word::Must(1)));
        assert_eq!(port.send_control(Word::Must(2)), Sent::Delivered);
        assert_eq!(take(&mut control), [Word::Must(2)]);
    }

    #[test]
    fn the_control_thread_reaches_every_shard() {
        let (to_zero, mut zero) = inbox(1).unwrap();
        let port: Port<Word, Word> = Port::of_control(&[to_zero]);
        assert_eq!(port.send(0, Word::Must(1)), Sent::Delivered);
        assert_eq!(take(&mut zero), [Word::Must(1)]);
        assert_eq!(port.send_control(Word::Must(2)), Sent::Refused(Word::Must(2)));
    }
}
