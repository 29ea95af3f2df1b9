//! How much of the link may be used: the same keys in each `[to.NAME]` and, for the box as a whole, in `[link]`.

use std::time::Duration;

use super::reader::Reader;
use super::units::{Bytes, Quantity};
use crate::shaping::{Hours, Monthly, Rate, Shaping};

impl Quantity for Rate {
    const FORM: &'static str = r#"a rate such as "512kbit/s", "2Mbit/s" or "1Gbit/s", in quotes and with its unit"#;

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn written(self) -> String {
        format!("\"{self}\"")
    }
}

/// The keys.
pub(super) const KEYS: [&str; 6] =
    ["max-send-rate", "hours", "monthly-volume", "month-begins", "courteous", "urgent-overrules"];

/// `max-send-rate`, `hours`, `monthly-volume`, `month-begins`, `courteous`, `urgent-overrules` of a table.
pub(super) fn read(reader: &mut Reader, (table, name): (&str, &str)) -> Shaping {
    let rates = (Rate::of_bits(16_000), Rate::of_bits(100_000_000_000));
    let most = reader.optional_quantity((table, name, "max-send-rate"), rates, "leave the key out for no limit");
    let delays = (Duration::from_millis(10), Duration::from_secs(1));
    let courteous =
        reader.optional_quantity((table, name, "courteous"), delays, "leave the key out to take what there is");
    let overrules = reader.switch(table, name, "urgent-overrules");
    let shaping = Shaping {
        most,
        hours: hours(reader, (table, name)),
        monthly: monthly(reader, (table, name)),
        courteous,
        urgent_overrules: overrules.as_ref().is_some_and(|given| given.value),
    };
    if let Some(given) = overrules.filter(|given| given.value)
        && !shaping.holds_back()
    {
        let remedy = "Remove it, or say in the same table what is to be overruled.";
        reader.refuse(&given, "means nothing where nothing is held back", remedy);
    }
    shaping
}

fn hours(reader: &mut Reader, (table, name): (&str, &str)) -> Vec<Hours> {
    let mut all = Vec::new();
    for given in reader.list(table, name, "hours").unwrap_or_default() {
        match given.value.parse::<Hours>() {
            Ok(hours) => all.push(hours),
            Err(problem) => {
                let remedy =
                    r#"Write it like "mon-fri 07:00-18:00 512kbit/s", "daily 22:00-06:00 unlimited" or "sun closed"."#;
                reader.refuse(&given, format!("{:?}: {problem}", given.value), remedy);
            }
        }
    }
    all
}

fn monthly(reader: &mut Reader, (table, name): (&str, &str)) -> Option<Monthly> {
    let volumes = (Bytes(1 << 20), Bytes(1 << 50));
    let volume =
        reader.optional_quantity((table, name, "monthly-volume"), volumes, "leave the key out for as much as there is");
    let begins = reader.optional_quantity((table, name, "month-begins"), (1_u32, 28), "leave the key out for 1");
    if volume.is_none()
        && let Some(entry) = reader.document.get(table, name, "month-begins")
        && reader.document.get(table, name, "monthly-volume").is_none()
    {
        let remedy = r#"Add monthly-volume = "…", or remove it."#;
        reader.add(entry.place, entry.label, "means nothing without monthly-volume", remedy);
    }
    let begins = begins.and_then(|day| i8::try_from(day).ok()).unwrap_or(1);
    volume.map(|volume| Monthly { volume: volume.0, begins })
}
