//! `X-Request-ID`: the client's if it is harmless, else one of our own. Unique, not secret.

use std::cell::Cell;

/// Longest id that is kept from a client.
const BYTES_MAX: usize = 128;

/// The id of one request.
pub struct RequestId {
    bytes: [u8; BYTES_MAX],
    length: u8,
}

/// Makes ids on one core: 64 random bits of this process and core, 64 bits that count, scrambled.
pub struct RequestIds {
    prefix: [u8; 16],
    count: Cell<u64>,
}

impl Default for RequestId {
    fn default() -> RequestId {
        RequestId { bytes: [0; BYTES_MAX], length: 0 }
    }
}

impl RequestId {
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// Takes the client's id if it has 1 to 128 characters of `A-Z a-z 0-9 . _ -`; says whether it did.
    pub fn accept(&mut self, theirs: &[u8]) -> bool {
        let harmless = theirs.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte));
        if !harmless || !(1..=BYTES_MAX).contains(&theirs.len()) {
            return false;
        }
        self.bytes[..theirs.len()].copy_from_slice(theirs);
        self.length = theirs.len() as u8;
        true
    }
}

impl RequestIds {
    /// `seed` is random and differs between cores.
    pub fn new(seed: u64) -> RequestIds {
        let mut prefix = [0; 16];
        hex(scramble(seed), &mut prefix);
        RequestIds { prefix, count: Cell::new(scramble(!seed)) }
    }

    pub fn fill(&self, id: &mut RequestId) {
        let count = self.count.get();
        self.count.set(count.wrapping_add(1));
        let mut counted = [0; 16];
        hex(scramble(count), &mut counted);
        id.bytes[..16].copy_from_slice(&self.prefix);
        id.bytes[16..32].copy_from_slice(&counted);
        id.length = 32;
    }
}

/// The finisher of splitmix64 (Steele, Lea, Flood 2014): a bijection, so that counting never repeats.
fn scramble(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Sixteen digits, lower case. Both halves are done eight digits at a time: a digit above 9 needs 39 more to become a
/// letter, and adding 6 to it carries into the bit that tells.
fn hex(number: u64, out: &mut [u8; 16]) {
    let (high, low) = ((number >> 32) as u32, number as u32);
    for (half, place) in [high, low].into_iter().zip(out.as_chunks_mut::<8>().0) {
        let digits = spread(half);
        let letters = (digits + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
        *place = (digits + 0x3030_3030_3030_3030 + letters * 39).to_be_bytes();
    }
}

/// The eight half bytes of `half`, a byte each, in the same order.
fn spread(half: u32) -> u64 {
    let x = u64::from(half);
    let x = (x | x << 16) & 0x0000_ffff_0000_ffff;
    let x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
    (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_ids_are_kept() {
        let mut id = RequestId::default();
        assert!(id.accept(b"Ab-9_.z") && id.as_str() == "Ab-9_.z");
        assert!(id.accept(&[b'a'; 128]));
        for bad in [&b""[..], b"a b", b"a\"b", b"a;b", &[b'a'; 129], "\u{e9}".as_bytes()] {
            assert!(!id.accept(bad), "{bad:?}");
        }
    }

    #[test]
    fn digits_are_those_of_the_standard_library() {
        for number in [0, 1, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, u64::MAX, 0x9a0f_a09f_0000_00ff] {
            let mut digits = [0; 16];
            hex(number, &mut digits);
            assert_eq!(str::from_utf8(&digits).unwrap(), format!("{number:016x}"));
        }
    }

    #[test]
    fn ids_differ_within_and_between_cores() {
        let cores = [RequestIds::new(1), RequestIds::new(2)];
        let mut seen = std::collections::HashSet::new();
        for round in 0..2000 {
            let mut id = RequestId::default();
            cores[round % 2].fill(&mut id);
            assert_eq!(id.as_bytes().len(), 32);
            assert!(seen.insert(id.as_str().to_string()));
        }
    }
}
