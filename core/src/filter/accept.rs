//! What a client accepts, with its weights (RFC 9110 12.5). Chooses nothing.

use smallvec::SmallVec;

/// Entries of one request that are read; the rest counts as not said.
const ENTRIES_MAX: usize = 64;
/// Entries that cost no allocation.
const ENTRIES_INLINE: usize = 8;

/// The entries of `Accept` or `Accept-Encoding`.
pub(super) struct Accept<'a> {
    /// What, in any case, and its weight in thousandths.
    entries: SmallVec<[(&'a [u8], u16); ENTRIES_INLINE]>,
    /// The field is there, empty or not.
    pub(super) said: bool,
}

impl<'a> Accept<'a> {
    /// Of the values of all its lines.
    pub(super) fn new(lines: impl Iterator<Item = &'a [u8]>) -> Accept<'a> {
        let mut accept = Accept { entries: SmallVec::new(), said: false };
        for line in lines {
            accept.said = true;
            for entry in line.split(|byte| *byte == b',').take(ENTRIES_MAX - accept.entries.len()) {
                let mut parts = entry.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
                let what = parts.next().unwrap_or_default();
                let weight = parts.find_map(|part| {
                    let value = part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q="))?;
                    Some(weight(value))
                });
                if !what.is_empty() {
                    accept.entries.push((what, weight.unwrap_or(1000)));
                }
            }
        }
        accept
    }

    /// The weight of exactly this entry.
    pub(super) fn exact(&self, what: &str) -> Option<u16> {
        let found = self.entries.iter().find(|(said, _)| said.eq_ignore_ascii_case(what.as_bytes()));
        found.map(|(_, weight)| *weight)
    }

    /// The weight of a content coding; 0: not acceptable.
    pub(super) fn coding(&self, name: &str) -> u16 {
        self.exact(name).or_else(|| self.exact("*")).unwrap_or(0)
    }

    /// The weight of a media type; the most specific entry counts. Without an `Accept` everything is acceptable.
    pub(super) fn media(&self, name: &str) -> u16 {
        if !self.said {
            return 1000;
        }
        let main = name.split('/').next().unwrap_or_default();
        let any_of_main = || {
            let found = self.entries.iter().find(|(said, _)| {
                said.strip_suffix(b"/*").is_some_and(|said| said.eq_ignore_ascii_case(main.as_bytes()))
            });
            found.map(|(_, weight)| *weight)
        };
        self.exact(name).or_else(any_of_main).or_else(|| self.exact("*/*")).unwrap_or(0)
    }
}

/// `0`, `0.5`, `1.000`: in thousandths. What is no weight counts as 0, so that nobody gets what they may not want.
fn weight(text: &[u8]) -> u16 {
    let (whole, fraction) = match text {
        [whole, b'.', fraction @ ..] => (*whole, fraction),
        [whole] => (*whole, &[][..]),
        _ => return 0,
    };
    if fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let digit = |at: usize| u16::from(fraction.get(at).map_or(0, |digit| digit - b'0'));
    let thousandths = digit(0) * 100 + digit(1) * 10 + digit(2);
    match (whole, thousandths) {
        (b'0', thousandths) => thousandths,
        (b'1', 0) => 1000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &'static str) -> Accept<'static> {
        Accept::new(std::iter::once(text.as_bytes()))
    }

    #[test]
    fn weights_are_read() {
        let said = accept("gzip;q=0.5, BR ; q=1.000 ,zstd;q=0, x;q=2, y;q=.5, z;q=0.1234,, w;Q=0.25");
        for (name, wanted) in [("gzip", 500), ("br", 1000), ("zstd", 0), ("x", 0), ("y", 0), ("z", 0), ("w", 250)] {
            assert_eq!(said.coding(name), wanted, "{name}");
        }
        assert_eq!(said.coding("other"), 0);
        assert_eq!(accept("*;q=0.3, gzip;q=0").coding("br"), 300);
        assert_eq!(accept("*;q=0.3, gzip;q=0").coding("gzip"), 0);
        assert_eq!(accept("").coding("gzip"), 0);
    }

    #[test]
    fn of_media_types_the_most_specific_counts() {
        let said = accept("text/html;level=1;q=0.7, text/*;q=0.3, */*;q=0.1");
        assert_eq!((said.media("text/html"), said.media("text/plain"), said.media("image/png")), (700, 300, 100));
        assert_eq!(accept("text/html").media("application/json"), 0);
        assert_eq!(Accept::new(std::iter::empty()).media("application/json"), 1000);
    }

    #[test]
    fn a_long_list_is_cut() {
        let long: String = (0..1000).map(|number| format!("a{number},")).collect();
        let accept = Accept::new([long.as_bytes(), b"gzip".as_slice()].into_iter());
        assert_eq!((accept.entries.len(), accept.coding("gzip")), (ENTRIES_MAX, 0));
    }
}
