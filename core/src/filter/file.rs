//! Files that a filter's table names: read whole when a configuration is loaded, and again at each reload. Nothing reads
//! them while requests are served.

use std::fs::File;
use std::io::Read;

use ringway_config::Fault;
use ringway_config::snapshot::FilterConfig;
use ringway_config::units::size_text;

/// The text of the file that `key` names, of at most `bytes_max`.
///
/// # Errors
/// It cannot be read, is no regular file, too large or no text.
pub(super) fn read(config: &FilterConfig, key: &str, path: &str, bytes_max: u64) -> Result<String, Fault> {
    let wrong = |why: String| Fault::new(format!("{path:?} {why}")).at(format!("{}.{key}", config.place));
    let unreadable = |error: std::io::Error| {
        let cure = "a path that does not begin with \"/\" starts where the gateway was started";
        wrong(format!("cannot be read: {error}")).cure(cure)
    };
    // Asked before it is opened: to open a pipe would wait for whoever writes it.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(wrong("is no regular file".to_owned()));
    }
    let mut text = String::new();
    let mut limited = File::open(path).map_err(unreadable)?.take(bytes_max + 1);
    limited.read_to_string(&mut text).map_err(unreadable)?;
    match text.len() as u64 > bytes_max {
        true => Err(wrong(format!("is larger than {}", size_text(bytes_max)))),
        false => Ok(text),
    }
}
