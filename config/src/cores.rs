//! How `[cores]` is written: a count, CPUs or a range of them, and tables whose names are numbers beside its own keys.
//! Does not ask the machine what it has.

use toml::de::{DeTable, DeValue};

use crate::bounded::Int;
use crate::decode::{Decode, Keys, List, Section, Table, wrong_type};
use crate::document::{CoreKeys, CoreOverride};
use crate::place::Place;
use crate::problem::{Fault, Problems, quoted};
use crate::snapshot::CoreCount;

/// CPU_SETSIZE of sched_setaffinity(2).
const CORES_MAX: usize = 1024;

/// `[cores]`, and in it `[cores.0]`, `[cores.1]`, ...
#[derive(Debug)]
pub(crate) struct Cores {
    pub(crate) keys: CoreKeys,
    pub(crate) overrides: Vec<(usize, CoreOverride)>,
}

impl Decode for Cores {
    fn shape() -> String {
        "table".to_owned()
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let DeValue::Table(table) = value else {
            problems.error(place, wrong_type("a table { count = ... }", value));
            return None;
        };
        let numbered = |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_digit());
        let mut shared = DeTable::new();
        let mut overrides = Vec::new();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            if !numbered(name) {
                shared.insert(key.clone(), value.clone());
                continue;
            }
            let here = place.key(name);
            let number = name.parse().ok().filter(|n: &usize| *n < CORES_MAX && n.to_string() == name);
            if number.is_none() {
                let cure = format!("write 0 to {}, without leading zeros", CORES_MAX - 1);
                problems.error(&here, Fault::new(format!("{} is no core's number", quoted(name))).cure(cure));
            }
            let read = Table::<CoreOverride>::decode(value.get_ref(), &here, problems);
            overrides.extend(number.zip(read).map(|(number, Table(keys))| (number, keys)));
        }
        overrides.sort_by_key(|(number, _)| *number);
        CoreKeys::from_table(&shared, place, problems).map(|keys| Self { keys, overrides })
    }

    fn sections(place: &str, sections: &mut Vec<Section>) {
        sections.push(CoreKeys::section(place));
        sections.push(CoreOverride::section(&format!("{place}.N")));
    }
}

impl Decode for CoreCount {
    fn shape() -> String {
        "\"auto\" | integer | \"0-7\" | [0, 2]".to_owned()
    }

    fn range() -> String {
        format!("1 to {CORES_MAX} cores")
    }

    fn decode(value: &DeValue<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let cpus = match value {
            DeValue::String(text) if text == "auto" => return Some(Self::Auto),
            DeValue::Integer(_) => {
                return Int::<1, { CORES_MAX as i64 }>::decode(value, place, problems)
                    .map(|count| Self::Exactly(count.usize()));
            }
            DeValue::String(text) => cpu_ranges(text).map_err(|fault| problems.error(place, fault)).ok()?,
            DeValue::Array(_) => {
                let List(cpus) = List::<Int<0, { CORES_MAX as i64 - 1 }>, CORES_MAX>::decode(value, place, problems)?;
                cpus.into_iter().map(Int::usize).collect()
            }
            _ => {
                problems.error(place, wrong_type(&Self::shape(), value));
                return None;
            }
        };
        if cpus.is_empty() {
            problems.error(place, Fault::new("is empty").cure("name at least one CPU"));
            return None;
        }
        // A CPU that is named twice runs two cores, which the start warns of: some measure that.
        Some(Self::List(cpus))
    }
}

/// `0-7` and `0,2,4-6`, the notation of taskset(1). A number alone could be meant as a count.
fn cpu_ranges(text: &str) -> Result<Vec<usize>, Fault> {
    if let Ok(number) = text.parse::<u32>() {
        let cure = format!("write {number} for so many cores, [{number}] for CPU {number}");
        return Err(Fault::new(format!("{text:?} could mean two things")).cure(cure));
    }
    let wrong = || {
        let fault = Fault::new(format!("{} names no CPUs", quoted(text)));
        fault.cure(format!("write \"auto\", 4, \"0-7\", \"0,2,4-6\" or [0, 2], CPUs from 0 to {}", CORES_MAX - 1))
    };
    let cpu = |text: &str| text.trim().parse::<usize>().ok().filter(|cpu| *cpu < CORES_MAX).ok_or_else(wrong);
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (cpu(first)?, cpu(last)?);
        if first > last {
            return Err(Fault::new(format!("{first}-{last} runs backwards")).cure(format!("write {last}-{first}")));
        }
        cpus.extend(first..=last);
        if cpus.len() > CORES_MAX {
            return Err(wrong());
        }
    }
    Ok(cpus)
}
