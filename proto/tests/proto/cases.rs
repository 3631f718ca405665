//! Reads the fixture files: what their escapes and sections mean. Judges nothing.

use std::path::PathBuf;

/// One section of a fixture file.
pub(crate) struct Case {
    pub(crate) name: String,
    /// The lines after `>`, joined by one space.
    pub(crate) want: String,
    /// The rest: lines joined without their ends, escapes resolved.
    pub(crate) input: Vec<u8>,
}

/// `== name`, then `> what is wanted`, then the input. `#` starts a comment line.
pub(crate) fn read(file: &str) -> Vec<Case> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")) {
        if let Some(name) = line.strip_prefix("== ") {
            cases.push(Case { name: name.to_owned(), want: String::new(), input: Vec::new() });
            continue;
        }
        let case = cases.last_mut().unwrap_or_else(|| panic!("{file}: text before the first section"));
        if let Some(want) = line.strip_prefix("> ") {
            if !case.want.is_empty() {
                case.want.push(' ');
            }
            case.want.push_str(want);
        } else {
            unescape(line, &mut case.input);
        }
    }
    assert!(!cases.is_empty(), "{file} has no cases");
    cases
}

/// `\r`, `\n`, `\t`, `\0`, `\\`, `\xHH`; anything else stands for itself.
pub(crate) fn unescape(line: &str, out: &mut Vec<u8>) {
    let mut rest = line.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let (&kind, tail) = tail.split_first().unwrap_or_else(|| panic!("{line}: a lone backslash"));
        rest = tail;
        out.push(match kind {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'0' => 0,
            b'\\' => b'\\',
            b'x' => {
                let digits = str::from_utf8(&tail[..2]).expect("two digits");
                rest = &tail[2..];
                u8::from_str_radix(digits, 16).expect("hexadecimal digits")
            }
            _ => panic!("{line}: unknown escape"),
        });
    }
}

/// The other way, for messages and expectations.
#[allow(dead_code, reason = "the seeds of the fuzzer need no text")]
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        match byte {
            b'\r' => out.push_str("\\r"),
            b'\n' => out.push_str("\\n"),
            b'\t' => out.push_str("\\t"),
            0 => out.push_str("\\0"),
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out
}

/// The lines of a file, without those that begin with `# `.
#[allow(dead_code, reason = "the tests of proto read none of them")]
pub(crate) fn lines(file: &str) -> Vec<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")).map(str::to_owned).collect()
}

/// The path table: raw path and what is wanted of it.
pub(crate) fn paths() -> Vec<(Vec<u8>, String)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/paths.txt");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with("# "));
    let rows = lines.map(|line| {
        let (raw, want) = line.split_once(" => ").unwrap_or_else(|| panic!("{line}: no arrow"));
        let mut bytes = Vec::new();
        unescape(raw.trim(), &mut bytes);
        (bytes, want.trim().to_owned())
    });
    rows.collect()
}
