//! Replies of a Redis server as values, commands as bytes, and the slot of a key. How long a reply is and how deep it goes
//! is known before it is decoded: `redis-protocol` decodes by recursion. Which command goes where is not here.

mod frame;
mod reply;
mod slot;

pub use frame::{ELEMENTS_MAX, FrameScan, LINE_BYTES_MAX, NESTING_MAX, REPLY_BYTES_MAX, RespError};
pub use reply::{Reply, RespVersion, decode};
pub use slot::{SLOTS, key_slot};

/// Appends a command as Redis reads it: an array of strings.
pub fn write_command(out: &mut Vec<u8>, args: &[&[u8]]) {
    write_length(out, b'*', args.len());
    for arg in args {
        write_length(out, b'$', arg.len());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

fn write_length(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    crate::write_decimal(out, length as u64);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_strings() {
        let mut out = Vec::new();
        write_command(&mut out, &[b"SET", b"k", b"", b"\r\n"]);
        assert_eq!(out, b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n$2\r\n\r\n\r\n");
    }
}
