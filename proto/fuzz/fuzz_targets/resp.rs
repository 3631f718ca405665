//! Any bytes as replies of Redis: no panic, no deep recursion, the same replies however the bytes are cut; the decoder ends
//! where the scan does; a command that we write is one array of its arguments.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ringway_proto::resp::{FrameScan, Reply, RespError, RespVersion, decode, key_slot, write_command};

/// The ends of all whole replies, and why there is no further one.
fn ends(input: &[u8], piece: usize) -> (Vec<usize>, Result<(), RespError>) {
    let (mut scan, mut ends, mut from, mut shown) = (FrameScan::default(), Vec::new(), 0, 0);
    loop {
        match scan.find_end(&input[from..shown]) {
            Err(error) => return (ends, Err(error)),
            Ok(Some(length)) => {
                assert!(length > 0 && length <= shown - from);
                from += length;
                ends.push(from);
            }
            Ok(None) if shown == input.len() => return (ends, Ok(())),
            Ok(None) => shown = input.len().min(shown + piece),
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((cut, input)) = input.split_first() else { return };
    let whole = ends(input, input.len().max(1));
    assert_eq!(whole, ends(input, usize::from(*cut % 16) + 1));
    let bytes = Bytes::copy_from_slice(input);
    let mut from = 0;
    for end in whole.0 {
        let frame = bytes.slice(from..end);
        from = end;
        for version in [RespVersion::Resp2, RespVersion::Resp3] {
            assert!(decode(&frame, version) != Err(RespError::BadEnd), "the decoder ends elsewhere");
        }
    }
    assert!(key_slot(input) < 16384);
    let args: Vec<&[u8]> = input.split(|byte| byte == cut).collect();
    let mut written = Vec::new();
    write_command(&mut written, &args);
    let frame = Bytes::from(written);
    assert_eq!(FrameScan::default().find_end(&frame), Ok(Some(frame.len())));
    let read = decode(&frame, RespVersion::Resp2).expect("what is written is valid");
    let args = args.iter().map(|arg| Reply::Text(Bytes::copy_from_slice(arg)));
    assert_eq!(read, Reply::List(args.collect()));
});
