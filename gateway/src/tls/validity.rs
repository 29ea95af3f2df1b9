//! From when to when a certificate holds, read from its DER form (RFC 5280 4.1.2.5).
//!
//! Only this is read; whether a certificate may be trusted is decided by the TLS library alone.

use std::path::Path;

use super::der::{EXPLICIT_0, SEQUENCE, element, time};
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
        let (certificate, _) = element(certificate, Some(SEQUENCE))?;
        let (mut fields, _) = element(certificate, Some(SEQUENCE))?;
        if let Some((_, rest)) = element(fields, Some(EXPLICIT_0)) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
