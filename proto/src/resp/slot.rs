//! Which of a cluster's slots a key belongs to.

/// Slots of a cluster, fixed by its protocol.
pub const SLOTS: u16 = 16384;

/// CRC16 (XMODEM) of the key, or of what stands in its first `{...}` unless that is empty: keys with the same tag are on
/// the same node, so that one command or function may use them together.
pub fn key_slot(key: &[u8]) -> u16 {
    redis_protocol::redis_keyslot(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_a_real_cluster() {
        // The checksum of the specification is 0x31c3 for "123456789".
        let known: [(&str, u16); 9] = [
            ("123456789", 0x31c3 % SLOTS),
            ("a", 15495),
            ("b", 3300),
            ("foo", 12182),
            ("{u1}:x", 4574),
            ("{u1}:y", 4574),
            ("u1", 4574),
            ("", 0),
            ("user:{u1}:{b}", 4574),
        ];
        for (key, slot) in known {
            assert_eq!(key_slot(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn a_tag_that_is_empty_or_open_is_no_tag() {
        let tagged: [(&str, &str); 5] = [("{}a", "a"), ("{a", "a"), ("a{", "a"), ("}{", ""), ("x{}{a}", "a")];
        for (key, tag) in tagged {
            assert_ne!(key_slot(key.as_bytes()), key_slot(tag.as_bytes()), "{key}");
        }
    }
}
