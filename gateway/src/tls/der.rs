//! The little of DER (X.690) that is needed to tell people what is in a certificate or a revocation list: elements in
//! their order, and moments in time. Nothing is allocated, nothing recurses, and a length is only believed if the bytes
//! are there.
//!
//! Whether a certificate may be trusted is decided by the TLS library alone.

use crate::model::Timestamp;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// The version of a certificate.
pub(super) const EXPLICIT_0: u8 = 0xa0;

/// Splits off one element: its content, and what follows it. `None` if the tag is another one or bytes are missing.
pub(super) fn element(input: &[u8], tag: Option<u8>) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = input.split_first()?;
    if tag.is_some_and(|tag| tag != found) {
        return None;
    }
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let octets = usize::from(first & 0x7f);
        if !(1..=4).contains(&octets) {
            return None;
        }
        let (digits, after) = rest.split_at_checked(octets)?;
        length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
        rest = after;
    }
    rest.split_at_checked(length)
}

/// Reads a UTCTime or a GeneralizedTime, in the one form that RFC 5280 allows for each.
pub(super) fn time(input: &[u8]) -> Option<(Timestamp, &[u8])> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;

    let (century_given, (text, rest)) = match input.first()? {
        &UTC_TIME => (false, element(input, Some(UTC_TIME))?),
        _ => (true, element(input, Some(GENERALIZED_TIME))?),
    };
    let digits = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, digits) = digits.split_at_checked(if century_given { 4 } else { 2 })?;
    let mut year = year.parse::<i16>().ok()?;
    if !century_given {
        year += if year < 50 { 2000 } else { 1900 };
    }
    if digits.len() != 10 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok()?.parse::<i8>().ok());
    let mut next = || pairs.next().flatten();
    let (month, day, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?);
    let civil = jiff::civil::DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    let moment = jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()?;
    Some((Timestamp::from_millis(u64::try_from(moment.as_millisecond()).unwrap_or(0)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_time_are_read() {
        let utc = time(b"\x17\x0d261121194453Z").unwrap().0;
        assert_eq!(utc.to_string(), "2026-11-21T19:44:53.000Z");
        assert_eq!(time(b"\x17\x0d500101000000Z").unwrap().0, Timestamp::from_millis(0));
        let far = time(b"\x18\x0f20500101000000Z").unwrap().0;
        assert_eq!(far.to_string(), "2050-01-01T00:00:00.000Z");
        for bad in [
            &b"\x17\x0d261321194453Z"[..],
            b"\x17\x0d26112119445+Z",
            b"\x17\x0d2611",
            b"\x18\x01Z",
            b"",
            b"\x02\x01\x00",
        ] {
            assert!(time(bad).is_none(), "{bad:?}");
        }
    }
}
