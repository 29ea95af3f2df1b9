//! The words that every part of the gateway shares, each a type that can only hold valid values.
//!
//! Whatever a peer sent is parsed at the door into one of these or refused; behind the door nothing is checked twice.
//! A [`Uid`] is safe as a file name, an [`AeTitle`] is safe on a terminal, a [`Timestamp`] has no subtraction that can
//! wrap. None of them carries patient data.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod network;

pub use network::{Network, NetworkError};

/// Why a text is not a valid value of one of the types of this module.
///
/// The message is written for the person who typed the value or looks at the peer that sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is not valid: {problem}")]
pub struct InvalidValue {
    what: &'static str,
    /// The offending text, cut to a length that fits a log line; shown escaped.
    value: String,
    problem: &'static str,
}

impl InvalidValue {
    fn new(what: &'static str, value: &str, problem: &'static str) -> Self {
        const SHOWN: usize = 80;
        Self { what, value: value.chars().take(SHOWN).collect(), problem }
    }
}

/// Text types that are validated once: display as they are, and (de)serialise through their parser.
macro_rules! validated_text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl $name {
            /// The value as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidValue;

            fn try_from(value: String) -> Result<Self, InvalidValue> {
                value.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                String::from(&*value.0)
            }
        }
    };
}

/// An application entity title (PS3.5 value representation AE, PS3.8 9.3.2): 1 to 16 printable ASCII characters other
/// than backslash, without leading or trailing space.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AeTitle(String);

validated_text!(AeTitle);

impl AeTitle {
    /// Reads the 16-byte field of an association PDU. Leading and trailing spaces are not significant; padding with NUL
    /// instead of space is wrong but common, and accepted.
    ///
    /// # Errors
    /// The field is empty, or holds a control character, a backslash or anything beyond ASCII.
    pub fn from_wire(field: &[u8]) -> Result<Self, InvalidValue> {
        String::from_utf8_lossy(field).trim_matches([' ', '\0']).parse()
    }
}

impl FromStr for AeTitle {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = |problem| Err(InvalidValue::new("AE title", text, problem));
        match text {
            "" => invalid("it is empty"),
            _ if text.len() > 16 => invalid("it has more than 16 characters"),
            _ if text.starts_with(' ') || text.ends_with(' ') => invalid("it starts or ends with a space"),
            _ if text.bytes().any(|b| !(0x20..0x7f).contains(&b)) => {
                invalid("only printable ASCII characters are allowed")
            }
            _ if text.contains('\\') => invalid("a backslash is not allowed"),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

/// A unique identifier (PS3.5 9): 1 to 64 digits and dots, no empty component. Safe as a file name.
///
/// Leading zeros of a component break PS3.5 but are met in the field, and are kept as received. Clones share their text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uid(Arc<str>);

validated_text!(Uid);

impl Uid {
    /// Reads a UI value from a data set, a command set or a PDU: trailing NUL padding is dropped, and so are the spaces
    /// that some devices pad with.
    ///
    /// # Errors
    /// The value is empty, longer than 64 characters, or holds anything but digits and single dots.
    pub fn from_wire(value: &[u8]) -> Result<Self, InvalidValue> {
        String::from_utf8_lossy(value).trim_matches([' ', '\0']).parse()
    }
}

impl FromStr for Uid {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = |problem| Err(InvalidValue::new("UID", text, problem));
        match text {
            "" => invalid("it is empty"),
            _ if text.len() > 64 => invalid("it has more than 64 characters"),
            _ if text.bytes().any(|b| !b.is_ascii_digit() && b != b'.') => invalid("only digits and dots are allowed"),
            _ if text.split('.').any(str::is_empty) => invalid("a component is empty"),
            _ => Ok(Self(text.into())),
        }
    }
}

/// The name that the configuration gives a destination: 1 to 32 lower-case letters, digits, `-` and `_`, starting with
/// a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DestinationName(String);

validated_text!(DestinationName);

impl FromStr for DestinationName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = |problem| Err(InvalidValue::new("name", text, problem));
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        match text.bytes().next() {
            None => invalid("it is empty"),
            _ if text.len() > 32 => invalid("it has more than 32 characters"),
            _ if !text.bytes().all(allowed) => invalid("only lower-case letters, digits, '-' and '_' are allowed"),
            Some(b'-' | b'_') => invalid("it must start with a letter or a digit"),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

/// The gateway's own number for one received instance: counts up from 1 in order of arrival and is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(pub u64);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What goes first. Ordered: the smaller goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Priority {
    /// Goes before everything else, at the next instance boundary.
    Stat = 0,
    /// The usual.
    Routine = 1,
    /// Goes when nothing else waits.
    Low = 2,
}

impl Priority {
    /// Reads DIMSE Priority (0000,0700), PS3.7 E.1: 1 is high, 2 is low, everything else counts as medium.
    #[must_use]
    pub fn from_dimse(value: u16) -> Self {
        match value {
            1 => Self::Stat,
            2 => Self::Low,
            _ => Self::Routine,
        }
    }

    /// The value for DIMSE Priority (0000,0700), PS3.7 E.1.
    #[must_use]
    pub fn to_dimse(self) -> u16 {
        match self {
            Self::Stat => 1,
            Self::Routine => 0,
            Self::Low => 2,
        }
    }
}

/// The SHA-256 of a data set, byte for byte as it was received.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentHash(pub [u8; 32]);

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<ContentHash> for String {
    fn from(hash: ContentHash) -> String {
        hash.to_string()
    }
}

impl TryFrom<String> for ContentHash {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        let invalid = || InvalidValue::new("content hash", &text, "64 hexadecimal digits are expected");
        if text.len() != 64 || !text.is_ascii() {
            return Err(invalid());
        }
        let mut hash = [0; 32];
        for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| invalid())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| invalid())?;
        }
        Ok(Self(hash))
    }
}

/// A moment of wall-clock time, for people and for records: milliseconds since 1970-01-01T00:00:00Z.
///
/// A box without a real-time clock steps its time, so nothing is ever scheduled by it and the only difference is
/// [`Timestamp::saturating_since`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is by the wall clock; zero if the clock was set back in between.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Timestamp {
    /// The same for a calendar; nothing if it is beyond every calendar.
    #[must_use]
    pub fn instant(self) -> Option<jiff::Timestamp> {
        i64::try_from(self.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, to the millisecond.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.instant() {
            Some(time) => write!(f, "{time:.3}"),
            None => write!(f, "{} ms after 1970", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ae_titles_of_the_field_are_read_and_dangerous_ones_refused() {
        assert_eq!(AeTitle::from_wire(b"CT1             ").unwrap().as_str(), "CT1");
        assert_eq!(AeTitle::from_wire(b"CT1\0\0\0\0\0\0\0\0\0\0\0\0\0").unwrap().as_str(), "CT1");
        assert_eq!(AeTitle::from_wire(b"  CT 1          ").unwrap().as_str(), "CT 1");
        for bad in [&b"                "[..], b"CT\x1b[31m", b"A\\B", b"\xff\xfe", b"CT\0X"] {
            assert!(AeTitle::from_wire(bad).is_err(), "{bad:?}");
        }
        assert!("SEVENTEEN-LETTERS".parse::<AeTitle>().is_err());
    }

    #[test]
    fn a_uid_is_safe_as_a_file_name() {
        assert_eq!(Uid::from_wire(b"1.2.840.10008.1.1\0").unwrap().as_str(), "1.2.840.10008.1.1");
        assert_eq!(Uid::from_wire(b"1.2.03 ").unwrap().as_str(), "1.2.03");
        for bad in ["", ".", "..", "1..2", "1.2.", ".1", "1/2", "../1", "1.2\u{1b}", "1.2a", "1\x002"] {
            assert!(bad.parse::<Uid>().is_err(), "{bad:?}");
        }
        assert!("1".repeat(64).parse::<Uid>().is_ok());
        assert!("1".repeat(65).parse::<Uid>().is_err());
    }

    #[test]
    fn an_invalid_value_is_shown_escaped_and_cut() {
        let error = "\u{1b}[31m".repeat(100).parse::<Uid>().unwrap_err().to_string();
        assert!(!error.contains('\u{1b}'));
        assert!(error.len() < 1_000);
    }

    #[test]
    fn destination_names() {
        assert!("central-2".parse::<DestinationName>().is_ok());
        for bad in ["", "Central", "a b", "-a", "a/b", "ä"] {
            assert!(bad.parse::<DestinationName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_clock_set_back_gives_zero_and_not_a_panic() {
        let (early, late) = (Timestamp::from_millis(1_000), Timestamp::from_millis(5_000));
        assert_eq!(late.saturating_since(early), Duration::from_secs(4));
        assert_eq!(early.saturating_since(late), Duration::ZERO);
    }

    #[test]
    fn timestamps_are_shown_in_utc() {
        assert_eq!(Timestamp::from_millis(1_700_000_000_123).to_string(), "2023-11-14T22:13:20.123Z");
        assert_eq!(Timestamp::from_millis(u64::MAX).to_string(), "18446744073709551615 ms after 1970");
    }

    #[test]
    fn a_content_hash_survives_its_text_form() {
        let hash = ContentHash(std::array::from_fn(|i| u8::try_from(i * 7).unwrap()));
        assert_eq!(ContentHash::try_from(hash.to_string()).unwrap(), hash);
        assert!(ContentHash::try_from("zz".repeat(32)).is_err());
    }
}
