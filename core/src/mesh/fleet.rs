//! What the node knows of the gateways that share a Redis with it, the same for all cores: how many there are, and which
//! part of that Redis does not answer. Asks nobody (`filter/rate_limit`).

use super::Word;

/// Keys of a Redis Cluster are looked after by the master of their slot; masters have rows of slots. So of what concerns
/// one key another one of the same part probably learns the same.
const PARTS: usize = 64;
const SLOTS: usize = 16_384;

#[derive(Debug)]
pub struct Fleet {
    /// Gateways by their heartbeats, this one with them; 0: not known yet.
    pub gateways: Word,
    /// By part of the slots: until when it is not worth asking, in the node's time.
    away_until_ns: [Word; PARTS],
    /// This gateway among them.
    id: String,
}

impl Fleet {
    /// `id` is no other gateway's, and of this process alone.
    pub fn new(id: String) -> Fleet {
        Fleet { gateways: Word::default(), away_until_ns: [const { Word::new(0) }; PARTS], id }
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// True if somebody has asked for a key of this part lately, and in vain.
    pub fn is_away(&self, slot: u16, now_ns: u64) -> bool {
        self.part(slot).get() > now_ns
    }

    pub fn note_away(&self, slot: u16, until_ns: u64) {
        self.part(slot).set(until_ns);
    }

    pub fn note_back(&self, slot: u16) {
        self.part(slot).zero();
    }

    fn part(&self, slot: u16) -> &Word {
        &self.away_until_ns[usize::from(slot) * PARTS / SLOTS % PARTS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_away_is_away_for_a_part_of_the_slots_and_a_time() {
        let fleet = Fleet::new("me".into());
        fleet.note_away(0, 10);
        assert!(fleet.is_away(255, 9) && !fleet.is_away(255, 10) && !fleet.is_away(256, 9));
        fleet.note_away(16_383, 10);
        assert!(fleet.is_away(16_383, 9));
        fleet.note_back(16_300);
        assert!(!fleet.is_away(16_383, 9));
    }
}
