//! Secrets that the configuration points to. What they are for is the business of those who ask.

use std::fs;

use ringway_config::snapshot::Secret;

/// A secret or a key file is not larger.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// The secret, wherever it is. One line end behind a file's text is no part of it.
///
/// # Errors
/// Why it cannot be had; never the secret.
pub fn read(secret: &Secret) -> Result<Vec<u8>, String> {
    match secret {
        Secret::Text(text) => Ok(text.clone().into_bytes()),
        Secret::Env(name) => match std::env::var(name) {
            Ok(text) if !text.is_empty() => Ok(text.into_bytes()),
            _ => Err(format!("the environment has no {name}")),
        },
        Secret::File(path) => {
            let cannot = |why: String| format!("{} cannot be read: {why}", path.display());
            let size = fs::metadata(path).map_err(|error| cannot(error.to_string()))?.len();
            if size > SECRET_BYTES_MAX {
                return Err(cannot(format!("{size} bytes; the most is {SECRET_BYTES_MAX}")));
            }
            let mut bytes = fs::read(path).map_err(|error| cannot(error.to_string()))?;
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
                bytes.pop_if(|byte| *byte == b'\r');
            }
            match bytes.is_empty() {
                true => Err(format!("{} is empty", path.display())),
                false => Ok(bytes),
            }
        }
    }
}
