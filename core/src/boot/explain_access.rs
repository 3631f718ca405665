//! What `explain` says of a token that is brought to a route: filter by filter, and whether the request would pass.

use std::fmt::Write;
use std::io::Read;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ringway_config::units::size_text;

use super::explain::{Row, place_text};
use crate::control::document::Document;
use crate::control::issuers;
use crate::filter::{Filter, Outlook, Trial};
use crate::plan::Plan;

/// More is no token.
const TOKEN_FILE_BYTES_MAX: u64 = 64 * 1024;

/// A token, or what somebody takes for one. No message shows it, nor the name of its file: that may be the token itself,
/// in the wrong place.
pub struct TokenText(Vec<u8>);

impl TokenText {
    /// `-`: the standard input. White space around the token is no part of it.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn read(file: &Path) -> Result<TokenText, String> {
        let cannot = |error: std::io::Error| format!("the file of --token-file cannot be read: {}", error.kind());
        let mut bytes = Vec::new();
        let mut take = |from: &mut dyn Read| from.take(TOKEN_FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
        match file == Path::new("-") {
            true => take(&mut std::io::stdin()),
            false => std::fs::File::open(file).and_then(|mut file| take(&mut file)),
        }
        .map_err(cannot)?;
        match bytes.len() as u64 > TOKEN_FILE_BYTES_MAX {
            true => Err(format!("the file of --token-file has more than {}", size_text(TOKEN_FILE_BYTES_MAX))),
            false => Ok(TokenText(bytes.trim_ascii().to_vec())),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// For a [`Trial`].
pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Reads the sets of keys that stand in files, as a gateway does when it starts. Those that have an address are not read.
pub fn read_keys(out: &mut String, plan: &Plan) {
    for issuer in &plan.gathered.issuers {
        if let Err(why) = issuers::read_kept(issuer) {
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(out, "issuer {:?} has no keys: {why}", issuer.config.name);
        }
    }
}

/// What came of the filters so far.
#[derive(Default)]
struct Course {
    /// One needs more than is at hand.
    unknown: Option<String>,
    /// By whom, and the status, if what was supposed is not so.
    supposed: Option<(String, u16)>,
    not_tried: Vec<String>,
}

/// Says what each filter of the row would decide. The last line says what comes of it.
pub fn describe<'p>(
    out: &mut String,
    document: &Document,
    row: &[Row<'_>],
    filters: impl Iterator<Item = &'p dyn Filter>,
    mut trial: Trial<'p>,
) {
    let mut course = Course::default();
    out.push_str("\nwith this token:\n");
    for (row, filter) in std::iter::zip(row, filters) {
        let Some(outlook) = filter.try_out(&mut trial) else {
            course.not_tried.push(row.name().to_owned());
            continue;
        };
        let name = format!("{} ({})", row.name(), row.place(document));
        let _ = writeln!(out, "  {name}");
        for said in trial.take_said() {
            let place = said.place.map(|place| format!(" ({})", place_text(document, &place))).unwrap_or_default();
            let _ = writeln!(out, "    {:<10} {}{place}", said.what, said.text);
        }
        let (verdict, end) = course.go_on(&name, outlook);
        let _ = writeln!(out, "    {:<10} {verdict}", "verdict");
        if let Some(end) = end {
            let _ = writeln!(out, "\naccess: {end}");
            return;
        }
    }
    let _ = writeln!(out, "\naccess: {}", course.end());
}

impl Course {
    /// What a filter does, and, if the request goes no further, what comes of it.
    fn go_on(&mut self, name: &str, outlook: Outlook) -> (String, Option<String>) {
        match outlook {
            Outlook::Passes => ("passes".to_owned(), None),
            Outlook::Supposed { why, status } => {
                let verdict = format!("not known: {why}; otherwise {status}");
                self.unknown.get_or_insert(format!("{name}: {why}"));
                self.supposed.get_or_insert((name.to_owned(), status));
                (verdict, None)
            }
            Outlook::Unknown(why) => {
                let verdict = format!("not known: {why}");
                self.unknown.get_or_insert(format!("{name}: {why}"));
                (verdict, None)
            }
            Outlook::Refused(refusal) => {
                let (status, reason) = (refusal.status, refusal.reason);
                let end = match (&self.supposed, &self.unknown) {
                    (Some((other, before)), _) => {
                        format!("refused with {before} or {status} by {other} or {name}: {reason}")
                    }
                    (None, Some(_)) => format!("refused with {status} by {name}, if it gets so far: {reason}"),
                    (None, None) => format!("refused with {status} by {name}: {reason}"),
                };
                (format!("refused with {status}: {reason}"), Some(end))
            }
        }
    }

    fn end(self) -> String {
        let not_tried = match self.not_tried.is_empty() {
            true => String::new(),
            false => format!("; not tried: {}", self.not_tried.join(", ")),
        };
        match self.unknown {
            None => format!("passes{not_tried}"),
            Some(why) => format!("not known: {why}{not_tried}"),
        }
    }
}
