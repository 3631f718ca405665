//! Text for log lines: JSON strings and nginx strings from hostile bytes, and times. Appends to a buffer of the
//! caller's; allocates nothing itself.
//!
//! What reaches a log ends in a terminal or a parser sooner or later, hence no control character (C0, DEL, C1) goes
//! through as it is: an ESC or a CSI in a path would run in the operator's terminal.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Bytes that stand for themselves in JSON: printable ASCII but `"` and `\`.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

/// The inside of a JSON string, from at most `bytes_max` bytes of `text`. A cut is marked with an ellipsis, what is not
/// UTF-8 becomes U+FFFD. At most `ESCAPED_GROWTH` times `bytes_max` plus `CUT_MARK` bytes come out.
pub fn json_text(out: &mut Vec<u8>, text: &[u8], bytes_max: usize) {
    let kept = &text[..text.len().min(bytes_max)];
    let is_cut = kept.len() < text.len();
    let plain = plain_prefix(kept);
    out.extend_from_slice(&kept[..plain]);
    if plain < kept.len() {
        json_hostile(out, &kept[plain..], is_cut);
    }
    if is_cut {
        out.extend_from_slice(CUT_MARK.as_bytes());
    }
}

pub const CUT_MARK: &str = "\u{2026}";
/// One byte that becomes `\u00xx` or `\ufffd`.
pub const ESCAPED_GROWTH: usize = 6;

#[cold]
fn json_hostile(out: &mut Vec<u8>, text: &[u8], is_cut: bool) {
    let mut rest = text.len();
    for chunk in text.utf8_chunks() {
        rest -= chunk.valid().len() + chunk.invalid().len();
        chunk.valid().chars().for_each(|c| json_char(out, c));
        // Our cut may have gone through a character: an unfinished one at the very end is no fault of the client.
        let is_ours = is_cut && rest == 0 && str::from_utf8(chunk.invalid()).is_err_and(|e| e.error_len().is_none());
        if !chunk.invalid().is_empty() && !is_ours {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn json_char(out: &mut Vec<u8>, c: char) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        _ if c.is_control() => {
            // C0, DEL and C1 lie below U+00A0.
            let [high, low] = hex(c as u8);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
        _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// nginx's own escaping: `"`, `\` and whatever is not printable ASCII as `\xHH`.
pub fn nginx_text(out: &mut Vec<u8>, text: &[u8], bytes_max: usize) {
    for byte in &text[..text.len().min(bytes_max)] {
        if PLAIN[*byte as usize] {
            out.push(*byte);
        } else {
            let [high, low] = hex(*byte).map(|digit| digit.to_ascii_uppercase());
            out.extend_from_slice(&[b'\\', b'x', high, low]);
        }
    }
}

pub fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn plain_prefix(text: &[u8]) -> usize {
    text.iter().position(|byte| !PLAIN[*byte as usize]).unwrap_or(text.len())
}

fn hex(byte: u8) -> [u8; 2] {
    [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]
}

/// Renders wall times of one thread; the part down to the second is kept from line to line.
#[derive(Debug, Default)]
pub struct Times {
    unix_s: Option<u64>,
    /// `2026-11-23T22:40:43`
    rfc3339: Vec<u8>,
    /// `23/Nov/2026:22:40:43 +0000`
    common: Vec<u8>,
}

impl Times {
    /// RFC 3339 in UTC with microseconds: `2026-11-23T22:40:43.000001Z`.
    pub fn rfc3339(&mut self, out: &mut Vec<u8>, unix_ns: u64) {
        self.at(unix_ns / 1_000_000_000);
        out.extend_from_slice(&self.rfc3339);
        out.push(b'.');
        padded(out, unix_ns / 1_000 % 1_000_000, 6);
        out.push(b'Z');
    }

    /// The common log format's, in UTC.
    pub fn common(&mut self, out: &mut Vec<u8>, unix_ns: u64) {
        self.at(unix_ns / 1_000_000_000);
        out.extend_from_slice(&self.common);
    }

    fn at(&mut self, unix_s: u64) {
        if self.unix_s == Some(unix_s) {
            return;
        }
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        self.unix_s = Some(unix_s);
        let (year, month, day) = civil(unix_s / 86_400);
        let clock = [unix_s / 3_600 % 24, unix_s / 60 % 60, unix_s % 60];

        self.rfc3339.clear();
        padded(&mut self.rfc3339, year, 4);
        for (separator, value) in [(b'-', month), (b'-', day), (b'T', clock[0]), (b':', clock[1]), (b':', clock[2])] {
            self.rfc3339.push(separator);
            padded(&mut self.rfc3339, value, 2);
        }

        self.common.clear();
        padded(&mut self.common, day, 2);
        self.common.push(b'/');
        self.common.extend_from_slice(MONTHS[month as usize - 1].as_bytes());
        self.common.push(b'/');
        padded(&mut self.common, year, 4);
        for value in clock {
            self.common.push(b':');
            padded(&mut self.common, value, 2);
        }
        self.common.extend_from_slice(b" +0000");
    }
}

/// Year, month and day of a day since 1970-01-01: Howard Hinnant's `civil_from_days`, for days that are not negative.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // since 0000-03-01: leap days come last in a year
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn padded(out: &mut Vec<u8>, value: u64, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value).as_bytes();
    out.resize(out.len() + width.saturating_sub(digits.len()), b'0');
    out.extend_from_slice(digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &[u8], bytes_max: usize) -> String {
        let mut out = Vec::new();
        json_text(&mut out, text, bytes_max);
        String::from_utf8(out).unwrap()
    }

    /// What a JSON reader makes of it.
    fn read_back(text: &[u8], bytes_max: usize) -> String {
        serde_json::from_str(&format!("\"{}\"", json(text, bytes_max))).unwrap()
    }

    #[test]
    fn plain_text_stays_and_hostile_text_reads_back() {
        assert_eq!(json(b"/a/b?c=d e", 99), "/a/b?c=d e");
        let hostile = "line\nfeed \r\t \"quote\" back\\slash \u{1b}[31m \u{7f} \u{9b}2J \u{0} \u{2028} 中 \u{1f980}";
        assert_eq!(read_back(hostile.as_bytes(), 999), hostile);
    }

    #[test]
    fn no_control_character_goes_through() {
        for code in (0..0x20).chain(0x7f..0xa0) {
            let text = char::from_u32(code).unwrap().to_string();
            let out = json(text.as_bytes(), 9);
            assert!(out.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "U+{code:04X} as {out:?}");
        }
    }

    #[test]
    fn what_is_not_utf8_becomes_the_replacement_character() {
        assert_eq!(json(b"a\xffb\xc0\xafc", 99), "a\\ufffdb\\ufffd\\ufffdc");
        assert_eq!(read_back(b"\xed\xa0\x80", 99), "\u{fffd}\u{fffd}\u{fffd}", "a surrogate half");
    }

    #[test]
    fn a_cut_is_marked_and_never_splits_a_character() {
        assert_eq!(read_back(b"0123456789", 10), "0123456789");
        assert_eq!(read_back(b"0123456789", 4), "0123\u{2026}");
        assert_eq!(read_back("ab中".as_bytes(), 4), "ab\u{2026}");
        assert_eq!(read_back("ab\"\u{e9}".as_bytes(), 4), "ab\"\u{2026}");
        assert_eq!(read_back(b"a\xff", 2), "a\u{fffd}", "not cut: the client's");
    }

    #[test]
    fn growth_is_within_its_bound() {
        for byte in 0..=255u8 {
            assert!(json(&[byte; 100], 50).len() <= 50 * ESCAPED_GROWTH + CUT_MARK.len(), "{byte:#x}");
        }
    }

    #[test]
    fn nginx_strings_are_escaped_as_nginx_does() {
        let mut out = Vec::new();
        nginx_text(&mut out, b"a\"b\\c\n\x7f\xffd tail", 10);
        assert_eq!(String::from_utf8(out).unwrap(), "a\\x22b\\x5Cc\\x0A\\x7F\\xFFd ");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let shown = |unix_s: u64| {
            let (mut times, mut out) = (Times::default(), Vec::new());
            times.rfc3339(&mut out, unix_s * 1_000_000_000 + 1_999);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(0), "1970-01-01T00:00:00.000001Z");
        assert_eq!(shown(951_782_399), "2000-02-28T23:59:59.000001Z");
        assert_eq!(shown(951_782_400), "2000-02-29T00:00:00.000001Z");
        assert_eq!(shown(1_709_251_199), "2024-02-29T23:59:59.000001Z");
        assert_eq!(shown(1_735_689_600), "2025-01-01T00:00:00.000001Z");
        assert_eq!(shown(4_107_542_400), "2100-03-01T00:00:00.000001Z");
    }

    #[test]
    fn the_kept_second_is_let_go_when_it_is_over() {
        let mut times = Times::default();
        let mut common = |unix_s: u64| {
            let mut out = Vec::new();
            times.common(&mut out, unix_s * 1_000_000_000);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(common(1_795_473_643), "23/Nov/2026:22:40:43 +0000");
        assert_eq!(common(1_795_473_643), "23/Nov/2026:22:40:43 +0000");
        assert_eq!(common(1_795_473_642), "23/Nov/2026:22:40:42 +0000", "clocks go back too");
    }
}
