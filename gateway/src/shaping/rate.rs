//! A rate of a link.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

const UNITS: [(&str, u64); 4] = [("bit/s", 1), ("kbit/s", 1_000), ("Mbit/s", 1_000_000), ("Gbit/s", 1_000_000_000)];

/// Bits per second, as links are sold: kbit/s is a thousand of them. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(u64);

impl Rate {
    /// So many bits per second; one at least.
    #[must_use]
    pub const fn of_bits(bits_per_second: u64) -> Self {
        Self(if bits_per_second == 0 { 1 } else { bits_per_second })
    }

    /// So many bytes per second.
    #[must_use]
    pub const fn of_bytes(bytes_per_second: u64) -> Self {
        Self::of_bits(bytes_per_second.saturating_mul(8))
    }

    /// In bits per second.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// How long so many bytes take.
    #[must_use]
    pub fn time_for(self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(self.0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many bytes go in this time.
    #[must_use]
    pub fn bytes_in(self, time: Duration) -> u64 {
        u64::try_from(time.as_nanos() * u128::from(self.0) / 8_000_000_000).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, u64)| self.0.is_multiple_of(*factor);
        match UNITS.iter().rev().find(fits) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}bit/s", self.0),
        }
    }
}

/// No rate: [`fmt::Display`] says how one is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rate is written as \"512kbit/s\", \"2Mbit/s\" or \"1Gbit/s\"")]
pub struct NotARate;

impl FromStr for Rate {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Self, NotARate> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).ok_or(NotARate)?;
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim_start()).ok_or(NotARate)?;
        let bits = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
        bits.filter(|bits| *bits > 0).map(Self).ok_or(NotARate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_and_written_with_its_unit() {
        for text in ["1bit/s", "512kbit/s", "2Mbit/s", "1500kbit/s", "10Gbit/s"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!("2 Mbit/s".parse(), Ok(Rate::of_bits(2_000_000)));
        for bad in
            ["", "2", "0kbit/s", "2MB/s", "2Mb/s", "2mbit/s", "1.5Mbit/s", "-1kbit/s", "99999999999999999999kbit/s"]
        {
            assert_eq!(bad.parse::<Rate>(), Err(NotARate), "{bad:?}");
        }
    }

    #[test]
    fn bytes_and_times_go_together() {
        let rate = Rate::of_bits(2_000_000);
        assert_eq!(rate.time_for(250_000), Duration::from_secs(1));
        assert_eq!(rate.bytes_in(Duration::from_secs(1)), 250_000);
        assert_eq!(Rate::of_bits(0).time_for(u64::MAX), Duration::from_nanos(u64::MAX));
    }
}
