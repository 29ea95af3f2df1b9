//! Quantities of the configuration: durations (`"30s"`), sizes (`"64MiB"`) and plain numbers (`100`).
//!
//! A unit is always written. Sizes are binary; `MB` is refused, because half of the readers take it for `MiB`.

use std::fmt;
use std::time::Duration;

/// A kind of quantity that the configuration can hold, with its written form.
pub(super) trait Quantity: Copy + PartialOrd {
    /// How the value is written in the file, for remedies.
    const FORM: &'static str;
    /// Reads the written form.
    fn parse(text: &str) -> Option<Self>;
    /// Writes the value as it would be written in the file.
    fn written(self) -> String;
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bytes(pub(super) u64);

const DURATION_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: [(&str, u64); 5] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

impl Quantity for Duration {
    const FORM: &'static str = r#"a duration such as "500ms", "30s", "5m", "1h" or "2d", in quotes and with its unit"#;

    fn parse(text: &str) -> Option<Self> {
        in_units(text, &DURATION_UNITS).map(Self::from_millis)
    }

    fn written(self) -> String {
        let millis = u64::try_from(self.as_millis()).unwrap_or(u64::MAX);
        format!("\"{}\"", WithUnit(millis, &DURATION_UNITS))
    }
}

impl Quantity for Bytes {
    const FORM: &'static str = r#"a size such as "128KiB", "64MiB" or "2GiB", in quotes and with its unit"#;

    fn parse(text: &str) -> Option<Self> {
        in_units(text, &SIZE_UNITS).map(Self)
    }

    fn written(self) -> String {
        format!("\"{}\"", WithUnit(self.0, &SIZE_UNITS))
    }
}

impl Quantity for u32 {
    const FORM: &'static str = "a whole number, without quotes";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn written(self) -> String {
        self.to_string()
    }
}

/// Reads `digits unit`, a space between them allowed.
fn in_units(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Shows a value in the largest unit that divides it.
struct WithUnit<'a>(u64, &'a [(&'static str, u64)]);

impl fmt::Display for WithUnit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, units) = self;
        let fits = |(_, factor): &&(&str, u64)| *value > 0 && value.is_multiple_of(*factor);
        match units.iter().rev().find(fits).or(units.first()) {
            Some((name, factor)) => write!(f, "{}{name}", value / factor),
            None => write!(f, "{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_with_their_unit_and_never_without() {
        assert_eq!(Duration::parse("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(Duration::parse("30s"), Some(Duration::from_secs(30)));
        assert_eq!(Duration::parse("1 h"), Some(Duration::from_secs(3_600)));
        assert_eq!(Bytes::parse("64MiB"), Some(Bytes(64 << 20)));
        assert_eq!(Bytes::parse("0B"), Some(Bytes(0)));
        for bad in ["", "30", "s", "-1s", "1.5s", "30 sec", "99999999999999999d", "3ß"] {
            assert_eq!(Duration::parse(bad), None, "{bad:?}");
        }
        for bad in ["64MB", "64M", "64mib", "MiB", "99999999TiB"] {
            assert_eq!(Bytes::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_quantity_is_written_as_it_would_be_read() {
        for (duration, text) in [(90, "\"90s\""), (3_600, "\"1h\""), (86_400, "\"1d\"")] {
            assert_eq!(Duration::from_secs(duration).written(), text);
        }
        assert_eq!(Duration::ZERO.written(), "\"0ms\"");
        assert_eq!(Bytes(128 << 10).written(), "\"128KiB\"");
        assert_eq!(Bytes(1_000).written(), "\"1000B\"");
    }
}
