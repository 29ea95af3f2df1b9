//! One line: how it is written, what makes it follow on another, and how the files are named. Pure: bytes in, bytes out.

use std::fmt;
use std::io;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::entry::Entry;
use crate::model::Timestamp;

/// How every line begins.
const START: &[u8] = b"{\"prev\":\"";

/// SHA-256 of a line without its newline.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LineHash(pub [u8; 32]);

impl LineHash {
    /// What stands in the very first line.
    pub const NOTHING: Self = Self([0; 32]);

    /// The hash of a line.
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        Self::from_digest(&digest(&SHA256, text))
    }

    pub(super) fn from_digest(digest: &aws_lc_rs::digest::Digest) -> Self {
        let mut hash = [0; 32];
        for (to, from) in hash.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Self(hash)
    }
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A file of the ledger: the number YYYYMM of a month in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Month(u32);

impl Month {
    /// The month of a moment.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        let date = TimeZone::UTC.to_datetime(moment(at));
        // Between 1970 and 9999: neither is negative.
        Self(u32::from(date.year().unsigned_abs()) * 100 + u32::from(date.month().unsigned_abs()))
    }

    /// The number YYYYMM.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// The month with the number YYYYMM; nothing if it has none.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        let is_month = (1..=12).contains(&(number % 100)) && number / 100 <= 9_999;
        is_month.then_some(Self(number))
    }

    /// The name of its file.
    #[must_use]
    pub fn file_name(self) -> String {
        format!("{self}.log")
    }

    pub(super) fn from_file_name(name: &str) -> Option<Self> {
        name.strip_suffix(".log")?.parse().ok()
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0 / 100, self.0 % 100)
    }
}

/// A text is not the name of a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a month is written as YYYY-MM")]
pub struct NotAMonth;

impl FromStr for Month {
    type Err = NotAMonth;

    fn from_str(text: &str) -> Result<Self, NotAMonth> {
        let (year, month) = text.split_once('-').ok_or(NotAMonth)?;
        if year.len() != 4 || month.len() != 2 || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
            return Err(NotAMonth);
        }
        let number = |text: &str| text.parse::<u32>().map_err(|_| NotAMonth);
        Self::from_number(number(year)? * 100 + number(month)?).ok_or(NotAMonth)
    }
}

impl TryFrom<String> for Month {
    type Error = NotAMonth;

    fn try_from(text: String) -> Result<Self, NotAMonth> {
        text.parse()
    }
}

impl From<Month> for String {
    fn from(month: Month) -> Self {
        month.to_string()
    }
}

/// Where a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The file.
    pub file: Month,
    /// Where in it the line begins, in bytes.
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, offset {}", self.file.file_name(), self.offset)
    }
}

/// A line, and enough about it to notice that it is another: what the chain goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Where it is.
    pub place: Place,
    /// Its number.
    pub n: u64,
    /// Its hash.
    pub hash: LineHash,
}

/// The last moment that a line can tell.
const LATEST: i64 = 253_402_207_200_999;

fn moment(at: Timestamp) -> jiff::Timestamp {
    let millis = i64::try_from(at.as_millis()).map_or(LATEST, |millis| millis.min(LATEST));
    jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX)
}

/// Writes JSON in printable ASCII only, whatever peers have said: a ledger can be shown on any terminal.
struct Printable;

impl serde_json::ser::Formatter for Printable {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let is_printable = |byte: u8| (b' '..=b'~').contains(&byte);
        if fragment.bytes().all(is_printable) {
            return writer.write_all(fragment.as_bytes());
        }
        for letter in fragment.chars() {
            match u8::try_from(letter) {
                Ok(byte) if is_printable(byte) => writer.write_all(&[byte])?,
                _ => {
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        write!(writer, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Written<'a> {
    prev: String,
    n: u64,
    at: String,
    #[serde(flatten)]
    entry: &'a Entry,
}

/// The text of a line, without its newline.
///
/// # Errors
/// None that could come up: neither the types nor the memory that is written to can fail.
pub(super) fn encode(prev: LineHash, n: u64, at: Timestamp, entry: &Entry) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(1_024);
    let written = Written { prev: prev.to_string(), n, at: format!("{:.3}", moment(at)), entry };
    written.serialize(&mut serde_json::Serializer::with_formatter(&mut text, Printable))?;
    Ok(text)
}

/// What every line has, whatever it tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) prev: LineHash,
    pub(super) n: u64,
    pub(super) at: Timestamp,
    pub(super) is_gap: bool,
}

#[derive(Deserialize)]
struct RawFrame {
    prev: String,
    n: u64,
    at: String,
    what: String,
}

/// Why a text is not a line of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotALine {
    #[error("it does not begin with the hash of the line before it")]
    Start,
    #[error("it is not JSON with \"prev\", \"n\", \"at\" and \"what\"")]
    Json,
    #[error("its \"prev\" is not a SHA-256")]
    Prev,
    #[error("its \"at\" is not a time")]
    At,
    #[error("it is longer than any line that a gateway writes")]
    TooLong,
}

/// Reads what every line has.
pub(super) fn decode_frame(text: &[u8]) -> Result<Frame, NotALine> {
    if !text.starts_with(START) {
        return Err(NotALine::Start);
    }
    let text = std::str::from_utf8(text).map_err(|_| NotALine::Json)?;
    let raw: RawFrame = serde_json::from_str(text).map_err(|_| NotALine::Json)?;
    let at: jiff::Timestamp = raw.at.parse().map_err(|_| NotALine::At)?;
    let at = Timestamp::from_millis(u64::try_from(at.as_millisecond()).map_err(|_| NotALine::At)?);
    Ok(Frame { prev: hash(&raw.prev).ok_or(NotALine::Prev)?, n: raw.n, at, is_gap: raw.what == "gap" })
}

/// Reads what a line tells; nothing if it is of a kind or form that this version does not know.
pub(super) fn decode_entry(text: &[u8]) -> Option<Entry> {
    serde_json::from_slice(text).ok()
}

fn hash(text: &str) -> Option<LineHash> {
    if text.len() != 64 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(LineHash(hash))
}

/// The end of a chain: what the next line has to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    /// Of the last line.
    pub(super) hash: LineHash,
    /// Its number.
    pub(super) n: u64,
}

/// Why a line does not follow the one before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misfit {
    #[error("this is no line of a ledger: {0}")]
    NotALine(#[from] NotALine),
    #[error(
        "its \"prev\" is not the SHA-256 of the line before it: that line was changed, or one between them is gone"
    )]
    Hash,
    #[error("its number is {found}, and {expected} was to come")]
    Number { expected: u64, found: u64 },
}

impl Chain {
    /// Before the very first line.
    pub(super) const BEGINNING: Self = Self { hash: LineHash::NOTHING, n: 0 };

    /// Goes on to a line with the text `text`, if it follows.
    pub(super) fn follow(&mut self, text: &[u8]) -> Result<Frame, Misfit> {
        let frame = decode_frame(text)?;
        if frame.prev != self.hash {
            return Err(Misfit::Hash);
        }
        let expected = self.n.saturating_add(1);
        if frame.n != expected {
            return Err(Misfit::Number { expected, found: frame.n });
        }
        *self = Self { hash: LineHash::of(text), n: frame.n };
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_those_of_utc_and_have_one_name() {
        let month = |text: &str| Month::of(at(text));
        assert_eq!(month("2026-11-30T23:59:59.999Z").file_name(), "2026-11.log");
        assert_eq!(month("2026-12-01T00:00:00Z").number(), 202_612);
        assert_eq!(Month::of(Timestamp::from_millis(0)).to_string(), "1970-01");
        assert_eq!(Month::of(Timestamp::from_millis(u64::MAX)).to_string(), "9999-12");
        assert_eq!(Month::from_file_name("2026-11.log"), Some(Month(202_611)));
        for bad in ["2026-13.log", "2026-00.log", "2026-1.log", "2026-11.lo", "2026-11", "+026-11.log", "x.log"] {
            assert_eq!(Month::from_file_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn any_moment_is_written_as_a_time_that_can_be_read() {
        for millis in [0, 1, 1_700_000_000_123, u64::MAX] {
            let entry = Entry::Started { version: "1".into() };
            let text = encode(LineHash::NOTHING, 1, Timestamp::from_millis(millis), &entry).unwrap();
            let read = decode_frame(&text).unwrap().at.as_millis();
            assert_eq!(read, millis.min(u64::try_from(LATEST).unwrap()), "{}", String::from_utf8_lossy(&text));
        }
    }

    fn at(text: &str) -> Timestamp {
        let at: jiff::Timestamp = text.parse().unwrap();
        Timestamp::from_millis(u64::try_from(at.as_millisecond()).unwrap())
    }
}
