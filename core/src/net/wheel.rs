//! The timer wheel of one core: deadlines in milliseconds, kept lazily. Knows nothing of sockets or tasks.
//!
//! Three levels of 256 slots (4 ms, 1 s, 262 s), nodes in one arena linked by index, so that arming a timer never
//! allocates once the arena has grown. A deadline that moves is not moved in the wheel: the node fires at its old
//! time and its owner arms it again (most timeouts of a proxy never happen). Varghese and Lauck, 1987.

/// Resolution: a timer fires at most this late.
pub const TICK_MS: u64 = 4;
const SLOTS: usize = 256;
const LEVELS: usize = 3;
const NONE: u32 = u32::MAX;
/// Room for the timers of a quiet core.
const NODES_AT_FIRST: usize = 1024;

/// What a node stands for; opaque to the wheel.
pub type Token = u64;

pub struct Wheel {
    /// The tick up to which everything has fired.
    now: u64,
    heads: [[u32; SLOTS]; LEVELS],
    nodes: Vec<Node>,
    free: u32,
    armed: usize,
}

#[derive(Clone, Copy)]
struct Node {
    /// In ticks.
    due: u64,
    token: Token,
    next: u32,
}

impl Wheel {
    pub fn new(now_ms: u64) -> Self {
        Wheel {
            now: now_ms / TICK_MS,
            heads: [[NONE; SLOTS]; LEVELS],
            nodes: Vec::with_capacity(NODES_AT_FIRST),
            free: NONE,
            armed: 0,
        }
    }

    /// Arms a timer; it fires once, by [`Wheel::advance`], not before `deadline_ms`.
    pub fn arm(&mut self, deadline_ms: u64, token: Token) {
        let due = deadline_ms.div_ceil(TICK_MS).max(self.now + 1);
        let node = Node { due, token, next: NONE };
        let index = if self.free == NONE {
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        } else {
            let index = self.free;
            self.free = self.nodes[index as usize].next;
            self.nodes[index as usize] = node;
            index
        };
        self.armed += 1;
        self.link(index);
    }

    /// Milliseconds until something may be due; `None` when nothing is armed. Never too late, at times too early.
    pub fn wait_ms(&self, now_ms: u64) -> Option<u64> {
        if self.armed == 0 {
            return None;
        }
        let here = (self.now % SLOTS as u64) as usize;
        // The next used slot of the finest level, or the border where the next level comes down.
        let ticks = (1..=SLOTS - here)
            .find(|step| here + step == SLOTS || self.heads[0][here + step] != NONE)
            .expect("the border is always found") as u64;
        Some(((self.now + ticks) * TICK_MS).saturating_sub(now_ms))
    }

    /// Fires what is due at `now_ms`. `fire` gets each token once.
    pub fn advance(&mut self, now_ms: u64, mut fire: impl FnMut(Token)) {
        let target = now_ms / TICK_MS;
        while self.now < target {
            if self.armed == 0 {
                self.now = target;
                return;
            }
            self.now += 1;
            if self.now.is_multiple_of(SLOTS as u64) {
                if self.now.is_multiple_of((SLOTS * SLOTS) as u64) {
                    self.cascade(2);
                }
                self.cascade(1);
            }
            let mut index = self.unlink_slot(0);
            while index != NONE {
                let node = self.nodes[index as usize];
                self.nodes[index as usize].next = self.free;
                self.free = index;
                self.armed -= 1;
                fire(node.token);
                index = node.next;
            }
        }
    }

    fn link(&mut self, index: u32) {
        let due = self.nodes[index as usize].due;
        let span = |level: usize| (SLOTS as u64).pow(level as u32);
        // A slot may be used only while it cannot be confused with the one a whole turn earlier.
        let level = (0..LEVELS).find(|&level| due / span(level) - self.now / span(level) < SLOTS as u64);
        let (level, due) = level.map_or((LEVELS - 1, self.now + span(LEVELS) - span(LEVELS - 1)), |level| (level, due));
        let head = &mut self.heads[level][(due / span(level)) as usize % SLOTS];
        self.nodes[index as usize].next = *head;
        *head = index;
    }

    fn unlink_slot(&mut self, level: usize) -> u32 {
        let slot = (self.now / (SLOTS as u64).pow(level as u32)) as usize % SLOTS;
        std::mem::replace(&mut self.heads[level][slot], NONE)
    }

    fn cascade(&mut self, level: usize) {
        let mut index = self.unlink_slot(level);
        while index != NONE {
            let next = self.nodes[index as usize].next;
            self.link(index);
            index = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn fired(wheel: &mut Wheel, now: u64) -> Vec<Token> {
        let mut tokens = Vec::new();
        wheel.advance(now, |token| tokens.push(token));
        tokens.sort_unstable();
        tokens
    }

    #[test]
    fn fires_once_not_early_and_at_most_a_tick_late() {
        let mut wheel = Wheel::new(1000);
        wheel.arm(1010, 7);
        assert_eq!(fired(&mut wheel, 1009), [0; 0]);
        assert_eq!(fired(&mut wheel, 1010 + TICK_MS), [7]);
        assert_eq!(wheel.wait_ms(1014), None);
        assert_eq!(fired(&mut wheel, 999_999), [0; 0]);
    }

    #[test]
    fn agrees_with_a_sorted_list_over_all_levels() {
        let mut wheel = Wheel::new(0);
        let mut list: BTreeMap<(u64, u64), ()> = BTreeMap::new();
        let mut seed = 42_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut now = 0;
        for token in 0..20_000 {
            let reach = [50, 2_000, 90_000, 4_000_000][random(4) as usize];
            let deadline = now + random(reach);
            wheel.arm(deadline, token);
            list.insert((deadline, token), ());
            now += random(400);
            let mut late = Vec::new();
            wheel.advance(now, |token| late.push(token));
            for token in late {
                let key = *list.keys().find(|key| key.1 == token).expect("fired once");
                assert!(key.0 <= now, "fired early: {key:?} at {now}");
                list.remove(&key);
            }
            if let Some((key, ())) = list.first_key_value() {
                assert!(key.0 + TICK_MS > now, "overdue: {key:?} at {now}");
                let wait = wheel.wait_ms(now).expect("something is armed");
                assert!(now + wait <= key.0 + TICK_MS, "would sleep past {key:?}");
            }
        }
    }

    #[test]
    fn what_lies_beyond_the_last_level_comes_down_again() {
        let mut wheel = Wheel::new(0);
        let far = TICK_MS * (SLOTS * SLOTS * SLOTS) as u64 * 2;
        wheel.arm(far, 1);
        assert_eq!(fired(&mut wheel, far - 10 * TICK_MS), [0; 0]);
        assert_eq!(fired(&mut wheel, far + TICK_MS), [1]);
    }
}
