//! Numbers as people read them, in sentences and tables.

use std::time::Duration;

use crate::model::Timestamp;

/// A number with thousands separated.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of a thing whose plural takes an s.
#[must_use]
pub fn many(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Bytes in decimal units, as links and disks are sold.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match UNITS.iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{}.{} {unit}", bytes / size, bytes % size * 10 / size),
        None => format!("{bytes} B"),
    }
}

/// A duration in its two largest units.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

/// A moment to the second, and how long ago it was.
#[must_use]
pub fn moment(at: Timestamp, now: Timestamp) -> String {
    format!("{} ({} ago)", second(at), duration(now.saturating_since(at)))
}

/// A moment to the second.
#[must_use]
pub fn second(at: Timestamp) -> String {
    let text = at.to_string();
    match (text.split_once('.'), text.ends_with('Z')) {
        (Some((second, _)), true) => format!("{second}Z"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_units_and_can_be_read() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(
            (bytes(999), bytes(1_500), bytes(80_460_000_000)),
            ("999 B".into(), "1.5 kB".into(), "80.4 GB".into())
        );
        assert_eq!(duration(Duration::from_secs(59)), "59 s");
        assert_eq!(duration(Duration::from_secs(3_700)), "1 h 1 min");
        assert_eq!(duration(Duration::from_secs(10 * 86_400 + 7_200)), "10 d 2 h");
        assert_eq!((many(1, "instance"), many(2_000, "instance")), ("1 instance".into(), "2,000 instances".into()));
    }

    #[test]
    fn moments_are_shown_to_the_second() {
        let at = Timestamp::from_millis(1_700_000_000_123);
        assert_eq!(second(at), "2023-11-14T22:13:20Z");
        assert_eq!(moment(at, Timestamp::from_millis(1_700_000_060_123)), "2023-11-14T22:13:20Z (1 min 0 s ago)");
        assert_eq!(second(Timestamp::from_millis(u64::MAX)), "18446744073709551615 ms after 1970");
    }
}
