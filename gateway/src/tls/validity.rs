//! From when to when a certificate holds, read from its DER form (RFC 5280 4.1.2.5).
//!
//! Only this is read; whether a certificate may be trusted is decided by the TLS library alone.

use std::path::Path;

use crate::model::Timestamp;

/// The time in which a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Not before this moment.
    pub not_before: Timestamp,
    /// Not after this moment.
    pub not_after: Timestamp,
}

impl Validity {
    /// Whole days until the certificate ends, counted down: 0 on the last day, negative once it has ended.
    #[must_use]
    pub fn days_left(&self, now: Timestamp) -> i64 {
        const DAY: i64 = 86_400_000;
        let millis = |time: Timestamp| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        millis(self.not_after).saturating_sub(millis(now)).div_euclid(DAY)
    }

    /// What somebody should know about the certificate in `file`, in a sentence: it does not hold yet, not any more, or
    /// not for long.
    #[must_use]
    pub fn concern(&self, file: &Path, now: Timestamp) -> Option<String> {
        /// Time enough to get another one.
        const WARNING_DAYS: i64 = 30;
        let file = file.display();
        let (from, until) = (self.not_before, self.not_after);
        if now < from {
            return Some(format!("the certificate in {file} holds only from {from} on; here it is {now}"));
        }
        match self.days_left(now) {
            ..0 => Some(format!("the certificate in {file} ended on {until}; here it is {now}")),
            left @ 0..WARNING_DAYS => Some(format!("the certificate in {file} ends in {left} days, on {until}")),
            _ => None,
        }
    }

    /// Reads the two moments. `None` if this is no certificate.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        const SEQUENCE: u8 = 0x30;
        const EXPLICIT_VERSION: u8 = 0xa0;
        let (certificate, _) = element(certificate, Some(SEQUENCE))?;
        let (mut fields, _) = element(certificate, Some(SEQUENCE))?;
        if let Some((_, rest)) = element(fields, Some(EXPLICIT_VERSION)) {
            fields = rest;
        }
        for _serial_algorithm_issuer in 0..3 {
            (_, fields) = element(fields, None)?;
        }
        let (validity, _) = element(fields, Some(SEQUENCE))?;
        let (not_before, rest) = time(validity)?;
        let (not_after, _) = time(rest)?;
        Some(Self { not_before, not_after })
    }
}

/// Splits off one DER element: its content, and what follows it. `None` if the tag is another one or bytes are missing.
fn element(input: &[u8], tag: Option<u8>) -> Option<(&[u8], &[u8])> {
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
fn time(input: &[u8]) -> Option<(Timestamp, &[u8])> {
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

    #[test]
    fn bytes_that_are_no_certificate_give_nothing() {
        for bad in [&b""[..], b"\x30", b"\x30\x84\xff\xff\xff\xff", b"\x30\x03\x30\x01\xa0", b"\x30\x80", &[0x30; 300]]
        {
            assert!(Validity::of(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn days_are_counted_down_through_the_last_one() {
        let day = 86_400_000;
        let validity = Validity { not_before: Timestamp::from_millis(0), not_after: Timestamp::from_millis(10 * day) };
        assert_eq!(validity.days_left(Timestamp::from_millis(0)), 10);
        assert_eq!(validity.days_left(Timestamp::from_millis(10 * day - 1)), 0);
        assert_eq!(validity.days_left(Timestamp::from_millis(10 * day + 1)), -1);
    }
}
