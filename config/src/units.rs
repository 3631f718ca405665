//! The one parser for `"250ms"`, `"64KiB"`, `"12.5%"` and `"1000/s"`, for the document and for every filter's table.
//! Does not know which values make sense where (`bounded`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Far beyond any timeout, and far below what would overflow a timer's arithmetic.
pub const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// The largest integer that TOML can write.
pub const SIZE_MAX: u64 = i64::MAX as u64;

/// Milliseconds of each unit, smallest first.
const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60 * 1000), ("h", 3600 * 1000), ("d", 24 * 3600 * 1000)];

const SIZE_UNITS: [(&str, u64); 5] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// Why a text is not the quantity it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitError {
    /// Not of the form at all; what it should look like.
    Form { wanted: &'static str },
    /// A unit that means something else elsewhere, and how to write it here.
    Unit { written: String, cure: String },
    /// Well formed, and too large.
    TooLarge { most: String },
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form { wanted } => write!(f, "expected {wanted}"),
            Self::Unit { written, cure } => write!(f, "no unit {written:?}; {cure}"),
            Self::TooLarge { most } => write!(f, "too large; the most is {most}"),
        }
    }
}

impl std::error::Error for UnitError {}

/// `"250ms"`, `"10s"`, `"5m"`, `"1h"`, `"7d"`: one whole number and one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurationText(pub Duration);

/// `"64KiB"`, `"10MiB"`, `"1024"` or the integer 1024: bytes. Units are powers of 1024 and say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SizeText(pub u64);

/// `"10%"`, `"12.5%"` or the integer 10: 0 to 100, kept in hundredths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent {
    pub hundredths: u16,
}

impl Percent {
    /// 0.0 to 1.0.
    pub fn fraction(self) -> f64 {
        f64::from(self.hundredths) / 10_000.0
    }
}

/// `"1000/s"`, `"30/m"`, `"5/10s"`: so many per so long, both above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub count: u64,
    pub per: Duration,
}

impl Rate {
    pub fn per_second(self) -> f64 {
        self.count as f64 / self.per.as_secs_f64()
    }
}

const DURATION_WANTED: &str = "a duration: a whole number and ms, s, m, h or d, such as \"250ms\" or \"30s\"";
const SIZE_WANTED: &str = "a size: a whole number of bytes, or one with KiB, MiB or GiB, such as \"64KiB\"";
const PERCENT_WANTED: &str = "a percentage from 0 to 100, at most two decimals, such as \"10%\" or \"12.5%\"";
const RATE_WANTED: &str = "a rate above zero, such as \"1000/s\", \"30/m\" or \"5/10s\"";

impl FromStr for DurationText {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = number_and_unit(text).ok_or(UnitError::Form { wanted: DURATION_WANTED })?;
        if unit.is_empty() || !unit.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err(UnitError::Form { wanted: DURATION_WANTED });
        }
        let Some((_, millis)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) else {
            let cure = "the units are ms, s, m, h and d".to_owned();
            return Err(UnitError::Unit { written: unit.to_owned(), cure });
        };
        let total = number.parse().ok().and_then(|number: u64| number.checked_mul(*millis)).map(Duration::from_millis);
        match total {
            Some(total) if total <= DURATION_MAX => Ok(Self(total)),
            _ => Err(UnitError::TooLarge { most: duration_text(DURATION_MAX) }),
        }
    }
}

impl FromStr for SizeText {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = number_and_unit(text).ok_or(UnitError::Form { wanted: SIZE_WANTED })?;
        let unit = if unit.is_empty() { "B" } else { unit };
        let Some((_, bytes)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(size_unit_error(number, unit));
        };
        match number.parse().ok().and_then(|number: u64| number.checked_mul(*bytes)) {
            Some(total) if total <= SIZE_MAX => Ok(Self(total)),
            _ => Err(UnitError::TooLarge { most: format!("{SIZE_MAX} bytes") }),
        }
    }
}

/// `64k`, `64KB` and `64kib` are guesses at `64KiB`.
fn size_unit_error(number: &str, unit: &str) -> UnitError {
    let meant = match unit.to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        "t" | "tb" | "tib" => "TiB",
        "b" => "B",
        _ => return UnitError::Form { wanted: SIZE_WANTED },
    };
    UnitError::Unit { written: unit.to_owned(), cure: format!("write \"{number}{meant}\" (powers of 1024)") }
}

impl FromStr for Percent {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let form = UnitError::Form { wanted: PERCENT_WANTED };
        let Some(number) = text.strip_suffix('%') else { return Err(form) };
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let digits =
            |part: &str, most: usize| (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole, 3) || !digits(decimals, 2) {
            return Err(form);
        }
        let padded = format!("{whole}{decimals:0<2}");
        match padded.parse() {
            Ok(hundredths) if hundredths <= 10_000 => Ok(Self { hundredths }),
            _ => Err(form),
        }
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let form = UnitError::Form { wanted: RATE_WANTED };
        let Some((count, per)) = text.split_once('/') else { return Err(form) };
        let Some((count, "")) = number_and_unit(count) else { return Err(form) };
        let per = if per.starts_with(|c: char| c.is_ascii_digit()) { per.to_owned() } else { format!("1{per}") };
        let (Ok(count), Ok(DurationText(per))) = (count.parse(), per.parse()) else { return Err(form) };
        if count == 0 || per.is_zero() { Err(form) } else { Ok(Self { count, per }) }
    }
}

/// Leading digits, and the rest. `None` if there is no digit or a sign, a space or a point among it.
fn number_and_unit(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// The shortest exact spelling: `90s`, not `90000ms`.
pub fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    let exact = DURATION_UNITS.iter().rev().find(|(_, unit)| millis > 0 && millis.is_multiple_of(u128::from(*unit)));
    exact.map_or_else(|| format!("{}s", millis / 1000), |(name, unit)| format!("{}{name}", millis / u128::from(*unit)))
}

/// The shortest exact spelling: `64KiB`, not `65536`.
pub fn size_text(bytes: u64) -> String {
    let exact = SIZE_UNITS.iter().skip(1).rev().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    exact.map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// Reads a text through [`FromStr`], and an integer where the quantity has an unambiguous one.
struct Quantity<T> {
    wanted: &'static str,
    integer: fn(u64) -> Option<T>,
}

impl<T: FromStr<Err = UnitError>> Visitor<'_> for Quantity<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.wanted)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|error: UnitError| E::custom(format!("{}: {error}", crate::problem::quoted(text))))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        (self.integer)(number).ok_or_else(|| E::custom(format!("{number}: expected {}", self.wanted)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::custom(format!("{number}: expected {}", self.wanted))),
        }
    }
}

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Quantity { wanted: DURATION_WANTED, integer: |_| None })
    }
}

impl<'de> Deserialize<'de> for SizeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let integer = |bytes| (bytes <= SIZE_MAX).then_some(Self(bytes));
        deserializer.deserialize_any(Quantity { wanted: SIZE_WANTED, integer })
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let integer = |percent: u64| {
            let hundredths = u16::try_from(percent.checked_mul(100)?).ok()?;
            (hundredths <= 10_000).then_some(Self { hundredths })
        };
        deserializer.deserialize_any(Quantity { wanted: PERCENT_WANTED, integer })
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Quantity { wanted: RATE_WANTED, integer: |_| None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let parse = |text: &str| text.parse::<DurationText>().map(|text| text.0);
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(parse("365d"), Ok(DURATION_MAX));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        for text in ["", "10", "ms", "-1s", "1.5s", "1 s", "1h30m", " 1s", "1s ", "+1s"] {
            assert_eq!(parse(text), Err(UnitError::Form { wanted: DURATION_WANTED }), "{text:?}");
        }
        assert!(matches!(parse("10sec"), Err(UnitError::Unit { .. })));
        assert!(matches!(parse("10S"), Err(UnitError::Unit { .. })));
        assert!(matches!(parse("366d"), Err(UnitError::TooLarge { .. })));
        assert!(matches!(parse("99999999999999999999999d"), Err(UnitError::TooLarge { .. })));
    }

    #[test]
    fn sizes() {
        let parse = |text: &str| text.parse::<SizeText>().map(|text| text.0);
        assert_eq!(parse("1024"), Ok(1024));
        assert_eq!(parse("64KiB"), Ok(65536));
        assert_eq!(parse("10MiB"), Ok(10 << 20));
        assert_eq!(parse("1B"), Ok(1));
        let unit = UnitError::Unit { written: "kb".to_owned(), cure: "write \"64KiB\" (powers of 1024)".to_owned() };
        assert_eq!(parse("64kb"), Err(unit));
        assert_eq!(parse("64 KiB"), Err(UnitError::Form { wanted: SIZE_WANTED }));
        assert_eq!(parse("KiB"), Err(UnitError::Form { wanted: SIZE_WANTED }));
        assert!(matches!(parse("99999999TiB"), Err(UnitError::TooLarge { .. })));
    }

    #[test]
    fn percentages() {
        let parse = |text: &str| text.parse::<Percent>().map(|percent| percent.hundredths);
        assert_eq!(parse("10%"), Ok(1000));
        assert_eq!(parse("12.5%"), Ok(1250));
        assert_eq!(parse("0.05%"), Ok(5));
        assert_eq!(parse("100%"), Ok(10_000));
        for text in ["100.01%", "101%", "10", "%", ".5%", "5.%", "1.234%", "-1%", "1e1%"] {
            assert_eq!(parse(text), Err(UnitError::Form { wanted: PERCENT_WANTED }), "{text:?}");
        }
        assert_eq!(Percent { hundredths: 1250 }.fraction(), 0.125);
    }

    #[test]
    fn rates() {
        let parse = |text: &str| text.parse::<Rate>().map(|rate| (rate.count, rate.per));
        assert_eq!(parse("1000/s"), Ok((1000, Duration::from_secs(1))));
        assert_eq!(parse("30/m"), Ok((30, Duration::from_secs(60))));
        assert_eq!(parse("5/10s"), Ok((5, Duration::from_secs(10))));
        for text in ["1000", "/s", "0/s", "5/0s", "5/", "5/s/s", "1.5/s", "5/fortnight"] {
            assert_eq!(parse(text), Err(UnitError::Form { wanted: RATE_WANTED }), "{text:?}");
        }
        assert_eq!("30/m".parse::<Rate>().map(Rate::per_second), Ok(0.5));
    }

    #[test]
    fn spells_back() {
        assert_eq!(duration_text(Duration::from_secs(90)), "90s");
        assert_eq!(duration_text(Duration::from_millis(1500)), "1500ms");
        assert_eq!(duration_text(Duration::from_secs(7200)), "2h");
        assert_eq!(duration_text(Duration::ZERO), "0s");
        assert_eq!(size_text(65536), "64KiB");
        assert_eq!(size_text(1500), "1500");
        assert_eq!(size_text(0), "0");
    }

    #[test]
    fn integers_where_they_have_one_meaning() {
        #[derive(Debug, serde::Deserialize)]
        struct Quantities {
            size: SizeText,
            percent: Percent,
        }
        let read = toml::from_str::<Quantities>("size = 1024\npercent = 50").expect("both have one meaning");
        assert_eq!((read.size, read.percent), (SizeText(1024), Percent { hundredths: 5000 }));
        let wrong = |text: &str| toml::from_str::<Quantities>(text).expect_err(text).to_string();
        assert!(wrong("size = -1\npercent = 50").contains("expected a size"));
        assert!(wrong("size = 1\npercent = 101").contains("expected a percentage"));
        assert!(wrong("size = 1\npercent = 0.5").contains("expected a percentage"));
    }
}
