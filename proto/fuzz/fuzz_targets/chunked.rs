//! Any bytes as a chunked body: no panic, bounded memory, the same body however it is cut, and what we write of it is read
//! as the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_proto::{CHUNK_END, ChunkedDecoder, ChunkedError, Step, Trailers, write_chunk_head, write_last_chunk};

/// Data, bytes used, and the trailers once the end is reached.
type Decoded = Result<(Vec<u8>, usize, Option<Trailers>), ChunkedError>;

fn decode(input: &[u8], piece: usize) -> Decoded {
    let mut decoder = ChunkedDecoder::new();
    let (mut data, mut at, mut end) = (Vec::new(), 0, 0);
    loop {
        let (used, step) = decoder.step(&input[at..end])?;
        assert!(used <= end - at);
        match step {
            Step::Data(range) => {
                assert!(!range.is_empty() && range.end == used);
                data.extend_from_slice(&input[at..end][range]);
            }
            Step::End => return Ok((data, at + used, Some(std::mem::take(decoder.trailers())))),
            Step::NeedMore => {
                assert_eq!(at + used, end);
                if end == input.len() {
                    return Ok((data, end, None));
                }
                end = input.len().min(end + piece);
            }
        }
        at += used;
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((cut, input)) = input.split_first() else { return };
    let whole = decode(input, input.len());
    let pieces = decode(input, usize::from(*cut % 16) + 1);
    let (data, used, trailers) = match (whole, pieces) {
        (Ok(whole), Ok(pieces)) => {
            assert_eq!((&whole.0, whole.1), (&pieces.0, pieces.1));
            assert_eq!(whole.2.as_ref().map(Trailers::wire), pieces.2.as_ref().map(Trailers::wire));
            whole
        }
        (Err(whole), Err(pieces)) => return assert_eq!(whole, pieces),
        (whole, pieces) => panic!("{whole:?} or {pieces:?}"),
    };
    assert!(used <= input.len());
    let Some(trailers) = trailers else { return };
    assert!(trailers.wire().len() <= 8 * 1024 && trailers.fields().len() <= 64);
    let mut written = Vec::new();
    if !data.is_empty() {
        write_chunk_head(&mut written, data.len());
        written.extend_from_slice(&data);
        written.extend_from_slice(CHUNK_END);
    }
    write_last_chunk(&mut written, Some(&trailers));
    let (again, all, kept) = decode(&written, 7).expect("what is written is valid");
    assert_eq!((again, all), (data, written.len()));
    assert_eq!(kept.as_ref().map(Trailers::wire), Some(trailers.wire()));
});
