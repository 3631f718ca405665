//! Writes the fixtures as seeds for the fuzz targets, one file for each case, under `fuzz/corpus`.
//!
//!     cargo run -p ringway-proto --example fuzz_seeds

use std::path::Path;

#[path = "../tests/proto/cases.rs"]
mod cases;

/// Target and fixture files.
const TARGETS: [(&str, &[&str]); 4] = [
    ("request_head", &["request-ok.txt", "request-bad.txt"]),
    ("response_head", &["response-ok.txt", "response-bad.txt"]),
    ("chunked", &["chunked-ok.txt", "chunked-bad.txt"]),
    ("resp", &["resp-ok.txt", "resp-bad.txt"]),
];

fn main() -> std::io::Result<()> {
    for (target, files) in TARGETS {
        let inputs = files.iter().flat_map(|file| cases::read(file)).map(|case| {
            // The first byte says how the target cuts the rest.
            let cut = case.name.len() as u8;
            assert!(!case.want.is_empty());
            [&[cut], &case.input[..]].concat()
        });
        write(target, inputs)?;
    }
    write("path", cases::paths().into_iter().map(|(raw, _)| raw))?;
    write("token", cases::read("tokens.txt").into_iter().map(|case| case.input))?;
    write("credentials", cases::read("credentials.txt").into_iter().map(|case| case.input))?;
    write("expression", cases::lines("expressions.txt").into_iter().map(String::into_bytes))
}

fn write(target: &str, inputs: impl Iterator<Item = Vec<u8>>) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    std::fs::create_dir_all(&folder)?;
    let mut count = 0;
    for input in inputs {
        std::fs::write(folder.join(format!("fixture-{count:03}")), input)?;
        count += 1;
    }
    println!("{target}: {count} seeds");
    Ok(())
}
