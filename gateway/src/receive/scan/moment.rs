//! When an instance was made, by the clock of the device that made it.
//!
//! Of all the times that an instance carries the latest is the closest to its sending. Dates without a time say too
//! little and are left out, as is what cannot be read.

use jiff::civil::{self, DateTime};
use jiff::tz::Offset;

/// A time on a modality's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The time as the clock showed it.
    pub civil: DateTime,
    /// Its offset from UTC, if the data set says it.
    pub offset: Option<Offset>,
}

/// The dates and times of one data set, as they come by.
#[derive(Debug, Default)]
pub(super) struct Moments {
    instance_creation: Pair,
    acquisition: Pair,
    content: Pair,
    acquisition_date_time: Option<Moment>,
    offset: Option<Offset>,
}

/// A DA and the TM that belongs to it. The first of each counts.
#[derive(Debug, Default)]
struct Pair {
    date: Option<civil::Date>,
    time: Option<civil::Time>,
}

/// Which of the attributes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    InstanceCreation,
    Acquisition,
    Content,
}

impl Moments {
    fn pair(&mut self, part: Part) -> &mut Pair {
        match part {
            Part::InstanceCreation => &mut self.instance_creation,
            Part::Acquisition => &mut self.acquisition,
            Part::Content => &mut self.content,
        }
    }

    /// A value of representation DA.
    pub(super) fn date(&mut self, part: Part, value: &[u8]) {
        let pair = self.pair(part);
        pair.date = pair.date.or_else(|| date(text(value)?));
    }

    /// A value of representation TM.
    pub(super) fn time(&mut self, part: Part, value: &[u8]) {
        let pair = self.pair(part);
        pair.time = pair.time.or_else(|| time(text(value)?));
    }

    /// Acquisition DateTime (0008,002A).
    pub(super) fn acquisition_date_time(&mut self, value: &[u8]) {
        self.acquisition_date_time = self.acquisition_date_time.or_else(|| date_time(text(value)?));
    }

    /// Timezone Offset From UTC (0008,0201).
    pub(super) fn offset(&mut self, value: &[u8]) {
        self.offset = self.offset.or_else(|| offset(text(value)?));
    }

    /// The latest of them.
    pub(super) fn latest(&self) -> Option<Moment> {
        let pairs = [&self.instance_creation, &self.acquisition, &self.content];
        let pairs = pairs.into_iter().filter_map(|pair| Some(pair.date?.to_datetime(pair.time?)));
        let pairs = pairs.map(|civil| Moment { civil, offset: self.offset });
        // A DT may carry an offset of its own, which stands in place of the data set's.
        let date_time = self.acquisition_date_time.map(|m| Moment { civil: m.civil, offset: m.offset.or(self.offset) });
        pairs.chain(date_time).max_by_key(in_utc)
    }
}

/// For the comparison within one data set: what has no offset counts as if it had the one of the others.
fn in_utc(moment: &Moment) -> (DateTime, bool) {
    let offset = moment.offset.unwrap_or(Offset::UTC);
    let utc = offset.to_timestamp(moment.civil).map(|timestamp| Offset::UTC.to_datetime(timestamp));
    (utc.unwrap_or(moment.civil), moment.offset.is_some())
}

/// The first value, without padding.
fn text(value: &[u8]) -> Option<&str> {
    let first = value.split(|byte| *byte == b'\\').next()?;
    let text = std::str::from_utf8(first).ok()?.trim_matches([' ', '\0']);
    (text.is_ascii() && !text.is_empty()).then_some(text)
}

/// YYYYMMDD, or YYYY.MM.DD as before DICOM (PS3.5 6.2).
fn date(text: &str) -> Option<civil::Date> {
    let digits = match text.len() {
        8 => text.to_owned(),
        10 => text.replace('.', ""),
        _ => return None,
    };
    if digits.len() != 8 {
        return None;
    }
    let number = |from: usize, to: usize| digits.get(from..to).filter(|part| all_digits(part))?.parse().ok();
    let year: u16 = number(0, 4)?;
    let (month, day): (u16, u16) = (number(4, 6)?, number(6, 8)?);
    let small = |value: u16| i8::try_from(value).ok();
    civil::Date::new(i16::try_from(year).ok()?, small(month)?, small(day)?).ok()
}

/// HHMM, HHMMSS and HHMMSS.FFFFFF, also with colons as before DICOM. Fractions are cut off.
fn time(text: &str) -> Option<civil::Time> {
    let whole = text.split('.').next()?.replace(':', "");
    if !all_digits(&whole) || !matches!(whole.len(), 4 | 6) {
        return None;
    }
    let number = |from: usize, to: usize| whole.get(from..to).map_or(Some(0), |part| part.parse::<i8>().ok());
    // A leap second is one too many for most clocks.
    civil::Time::new(number(0, 2)?, number(2, 4)?, number(4, 6)?.min(59), 0).ok()
}

/// `YYYYMMDDHHMM[SS[.FFFFFF]][&ZZXX]`.
fn date_time(text: &str) -> Option<Moment> {
    let zone = text.find(['+', '-']).unwrap_or(text.len());
    let (moment, zone) = text.split_at_checked(zone)?;
    let (day, clock) = moment.split_at_checked(8)?;
    let zone = if zone.is_empty() { None } else { Some(offset(zone)?) };
    Some(Moment { civil: date(day)?.to_datetime(time(clock)?), offset: zone })
}

/// +HHMM or -HHMM, from -1200 to +1400 (PS3.3 C.12.1.1.8).
fn offset(text: &str) -> Option<Offset> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = text.get(1..).filter(|digits| digits.len() == 4 && all_digits(digits))?;
    let (hours, minutes): (i32, i32) = (digits.get(..2)?.parse().ok()?, digits.get(2..)?.parse().ok()?);
    if minutes > 59 {
        return None;
    }
    let seconds = sign * (hours * 3_600 + minutes * 60);
    if (-12 * 3_600..=14 * 3_600).contains(&seconds) { Offset::from_seconds(seconds).ok() } else { None }
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i8, minute: i8, second: i8) -> DateTime {
        civil::date(2026, 11, 21).at(hour, minute, second, 0)
    }

    #[test]
    fn dates_and_times_of_the_field_are_read() {
        assert_eq!(date("20261121"), Some(civil::date(2026, 11, 21)));
        assert_eq!(date("2026.11.21"), Some(civil::date(2026, 11, 21)));
        for (text, expected) in
            [("1234", (12, 34, 0)), ("123456", (12, 34, 56)), ("123456.789", (12, 34, 56)), ("12:34:56", (12, 34, 56))]
        {
            assert_eq!(time(text), Some(civil::time(expected.0, expected.1, expected.2, 0)), "{text}");
        }
        assert_eq!(time("235960"), Some(civil::time(23, 59, 59, 0)));
        let moment = date_time("20261121123456.1+0530").unwrap();
        assert_eq!(moment.civil, at(12, 34, 56));
        assert_eq!(moment.offset, Offset::from_seconds(19_800).ok());
        assert_eq!(date_time("20261121123456").unwrap().offset, None);
    }

    #[test]
    fn what_is_no_date_and_no_time_is_left_out() {
        for bad in ["", "2026", "20261321", "20260230", "2026112a", "+0261121", "20261121 ", "\u{1b}[31m2026"] {
            assert_eq!(date(bad), None, "{bad:?}");
        }
        for bad in ["", "12", "123", "2400", "1260", "12345", "-1234", "1a34"] {
            assert_eq!(time(bad), None, "{bad:?}");
        }
        for bad in ["", "2026", "20261121", "20261121123456+", "20261121123456+9999", "2026112112+0100"] {
            assert_eq!(date_time(bad), None, "{bad:?}");
        }
        for bad in ["", "+", "+01", "+1500", "-1300", "+0160", "0100", "+ 100", "++100"] {
            assert_eq!(offset(bad), None, "{bad:?}");
        }
        assert_eq!(text(b"\xff\xfe"), None);
        assert_eq!(text(b"20261121\\20250101 "), Some("20261121"));
    }

    #[test]
    fn the_latest_time_counts_and_a_date_alone_does_not() {
        let mut moments = Moments::default();
        moments.date(Part::InstanceCreation, b"20261122");
        moments.date(Part::Acquisition, b"20261121");
        moments.time(Part::Acquisition, b"1200");
        moments.date(Part::Content, b"20261121");
        moments.time(Part::Content, b"121500 ");
        assert_eq!(moments.latest(), Some(Moment { civil: at(12, 15, 0), offset: None }));
        moments.offset(b"+0100");
        assert_eq!(moments.latest().unwrap().offset, Offset::from_seconds(3_600).ok());
        moments.acquisition_date_time(b"20261121122000+0200");
        assert_eq!(moments.latest().unwrap().civil, at(12, 15, 0), "12:20 two hours east of Greenwich was before");
        assert_eq!(Moments::default().latest(), None);
    }
}
