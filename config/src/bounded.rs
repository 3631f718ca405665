//! Numbers, sizes and durations within a range that the type itself states. Does not parse units (`units`).

use std::time::Duration;

use toml::de::DeValue;

use crate::decode::{Decode, wrong_type};
use crate::place::Place;
use crate::problem::{Fault, Problems, quoted};
use crate::units::{DurationText, Percent, SizeText, UnitError, duration_text, size_text};

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const TIB: u64 = 1 << 40;

/// A whole number, both ends included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Int<const MIN: i64, const MAX: i64>(i64);

impl<const MIN: i64, const MAX: i64> Int<MIN, MAX> {
    pub(crate) fn i32(self) -> i32 {
        const { assert!(MIN >= i32::MIN as i64 && MAX <= i32::MAX as i64) }
        self.0 as i32
    }

    pub(crate) fn u16(self) -> u16 {
        const { assert!(MIN >= 0 && MAX <= u16::MAX as i64) }
        self.0 as u16
    }

    pub(crate) fn u32(self) -> u32 {
        const { assert!(MIN >= 0 && MAX <= u32::MAX as i64) }
        self.0 as u32
    }

    pub(crate) fn u64(self) -> u64 {
        const { assert!(MIN >= 0) }
        self.0 as u64
    }

    pub(crate) fn usize(self) -> usize {
        const { assert!(MIN >= 0) }
        self.0 as usize
    }
}

impl<const MIN: i64, const MAX: i64> Decode for Int<MIN, MAX> {
    fn shape() -> String {
        "integer".to_owned()
    }

    fn range() -> String {
        format!("{MIN} to {MAX}")
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let written = integer(value, &format!("an integer from {MIN} to {MAX}"), place, problems)?;
        in_range(written, (MIN, MAX), |number| number.to_string(), place, problems).map(Self)
    }
}

impl Decode for Percent {
    fn shape() -> String {
        "percent".to_owned()
    }

    fn range() -> String {
        "0 to 100, or as \"0.1%\"".to_owned()
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        if let DeValue::String(text) = value {
            return text.parse().map_err(|error| problems.error(place, unit_fault(text, &error))).ok();
        }
        let written = integer(value, "a share such as 10 or \"0.1%\"", place, problems)?;
        let whole = in_range(written, (0, 100), |number| number.to_string(), place, problems)?;
        Some(Self { hundredths: whole as u16 * 100 })
    }
}

/// A power of two, both ends included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PowerOfTwo<const MIN: i64, const MAX: i64>(i64);

impl<const MIN: i64, const MAX: i64> PowerOfTwo<MIN, MAX> {
    pub(crate) fn u32(self) -> u32 {
        const { assert!(MIN > 0 && MAX <= u32::MAX as i64) }
        self.0 as u32
    }
}

impl<const MIN: i64, const MAX: i64> Decode for PowerOfTwo<MIN, MAX> {
    fn shape() -> String {
        "integer".to_owned()
    }

    fn range() -> String {
        format!("a power of two, {MIN} to {MAX}")
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let Int(number) = Int::<MIN, MAX>::decode(value, place, problems)?;
        let up = number.unsigned_abs().next_power_of_two();
        if up != number.unsigned_abs() {
            let fault = Fault::new(format!("{number} is no power of two")).cure(format!("{} or {up} is", up / 2));
            problems.error(place, fault);
            return None;
        }
        Some(Self(number))
    }
}

/// Bytes, both ends included, in whole steps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size<const MIN: u64, const MAX: u64, const STEP: u64 = 1>(u64);

impl<const MIN: u64, const MAX: u64, const STEP: u64> Size<MIN, MAX, STEP> {
    pub(crate) fn u64(self) -> u64 {
        self.0
    }

    /// Lossless: the targets have 64 bits.
    pub(crate) fn usize(self) -> usize {
        self.0 as usize
    }
}

impl<const MIN: u64, const MAX: u64, const STEP: u64> Decode for Size<MIN, MAX, STEP> {
    fn shape() -> String {
        "size".to_owned()
    }

    fn range() -> String {
        let multiple = if STEP > 1 { format!(", a multiple of {}", size_text(STEP)) } else { String::new() };
        format!("{} to {}{multiple}", size_text(MIN), size_text(MAX))
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let bytes = match value {
            DeValue::String(text) => text.parse().map_err(|error| problems.error(place, unit_fault(text, &error))).ok(),
            _ => integer(value, "a size such as \"64KiB\"", place, problems)
                .and_then(|number| u64::try_from(number).map_err(|_| problems.error(place, negative(number))).ok())
                .map(SizeText),
        };
        let SizeText(bytes) = bytes?;
        let bytes = in_range(bytes, (MIN, MAX), |bytes| size_text(*bytes), place, problems)?;
        if bytes % STEP != 0 {
            let (down, up) = (bytes - bytes % STEP, bytes - bytes % STEP + STEP);
            let fault = Fault::new(format!("{bytes} bytes are no multiple of {}", size_text(STEP))).cure(format!(
                "{:?} and {:?} are",
                size_text(down),
                size_text(up)
            ));
            problems.error(place, fault);
            return None;
        }
        Some(Self(bytes))
    }
}

/// A duration of at least and at most so many milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time<const MIN_MS: u64, const MAX_MS: u64>(Duration);

impl<const MIN_MS: u64, const MAX_MS: u64> Time<MIN_MS, MAX_MS> {
    pub(crate) fn duration(self) -> Duration {
        self.0
    }
}

impl<const MIN_MS: u64, const MAX_MS: u64> Decode for Time<MIN_MS, MAX_MS> {
    fn shape() -> String {
        "duration".to_owned()
    }

    fn range() -> String {
        let text = |millis| duration_text(Duration::from_millis(millis));
        format!("{} to {}", text(MIN_MS), text(MAX_MS))
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let text = match value {
            DeValue::String(text) => text,
            DeValue::Integer(number) => {
                let cure = format!("say of what: \"{number}s\", \"{number}ms\"");
                problems.error(place, wrong_type("a duration", value).cure(cure));
                return None;
            }
            _ => {
                problems.error(place, wrong_type("a duration such as \"30s\"", value));
                return None;
            }
        };
        let parsed = text.parse().map_err(|error| problems.error(place, unit_fault(text, &error))).ok();
        let DurationText(duration) = parsed?;
        let ends = (Duration::from_millis(MIN_MS), Duration::from_millis(MAX_MS));
        in_range(duration, ends, |duration| duration_text(*duration), place, problems).map(Self)
    }
}

fn unit_fault(text: &str, error: &UnitError) -> Fault {
    match error {
        UnitError::Form { wanted } => Fault::new(format!("{} is not {wanted}", quoted(text))),
        UnitError::Unit { written, cure } => {
            Fault::new(format!("{} has no unit we know: {}", quoted(text), quoted(written))).cure(cure.clone())
        }
        UnitError::TooLarge { most } => {
            Fault::new(format!("{} is too large", quoted(text))).cure(format!("at most {most}"))
        }
    }
}

fn negative(number: i64) -> Fault {
    Fault::new(format!("{number} is below zero"))
}

/// An integer of TOML; text that only looks like one is told so.
fn integer(value: &DeValue<'_>, wanted: &str, place: &Place<'_>, problems: &mut Problems) -> Option<i64> {
    let fault = match value {
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => return Some(number),
            Err(_) => Fault::new(format!("{} does not fit 64 bits", quoted(&number.to_string()))),
        },
        DeValue::String(text) if text.parse::<i64>().is_ok() => {
            wrong_type(wanted, value).cure(format!("write {text} without the quotes"))
        }
        _ => wrong_type(wanted, value),
    };
    problems.error(place, fault);
    None
}

fn in_range<T: PartialOrd>(
    number: T,
    (least, most): (T, T),
    text: fn(&T) -> String,
    place: &Place<'_>,
    problems: &mut Problems,
) -> Option<T> {
    if number < least || number > most {
        let (number, least, most) = (text(&number), text(&least), text(&most));
        problems.error(place, Fault::new(format!("{number} is out of range")).cure(format!("from {least} to {most}")));
        return None;
    }
    Some(number)
}
