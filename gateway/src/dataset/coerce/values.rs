//! What a text may be, by its VR (PS3.5 6.2), and which attributes may be changed at all.

use dicom_core::Tag;

use super::super::dictionary::{self, Entry};
use super::super::tags;
use super::super::vr::{Kind, Vr};

/// Whether the VR knows one character set only, so that a backslash in it is always a separator.
#[must_use]
pub fn is_plain(vr: Vr) -> bool {
    matches!(&vr.to_wire(), b"AE" | b"AS" | b"CS" | b"DA" | b"DS" | b"DT" | b"IS" | b"TM")
}

/// Whether the VR has one value only, in which a backslash is a letter.
fn is_single(vr: Vr) -> bool {
    matches!(&vr.to_wire(), b"LT" | b"ST" | b"UT" | b"UR")
}

/// The VR of an attribute that may be changed.
///
/// # Errors
/// It may not; the sentence says why.
pub fn changeable(tag: Tag) -> Result<Vr, String> {
    if let Some(why) = refusal(tag) {
        return Err(why.to_owned());
    }
    match dictionary::look_up(tag) {
        Entry::Exactly(vr) if vr == Vr::UI => Err("is a UID, by which instances and studies are told apart".into()),
        Entry::Exactly(vr) if vr.kind() == Kind::Text => Ok(vr),
        Entry::Exactly(vr) => Err(format!("is {vr}, and only texts can be changed")),
        Entry::Unknown => Err("is not in the dictionary of the standard (PS3.6)".into()),
        _ => Err("is no text, and only texts can be changed".into()),
    }
}

/// Why an attribute is never changed.
fn refusal(tag: Tag) -> Option<&'static str> {
    match tag {
        _ if tag.group() % 2 == 1 => Some("is private: what it means only its maker knows"),
        _ if dictionary::is_group_length(tag) => Some("is the length of its group"),
        Tag(0x0008, 0x0005) => Some("says how all texts are to be read"),
        tags::TIMEZONE_OFFSET_FROM_UTC => Some("says what all times mean"),
        Tag(..=0x0007, _) => Some("does not belong to the data set itself"),
        Tag(0x0028, _) | Tag(0x5000.., _) => Some("describes pixels, or is some"),
        Tag(0x0400, _) => Some("is about signatures and changes themselves"),
        _ => None,
    }
}

/// Whether a text is one that this VR allows; `length` counts as the character set does.
///
/// # Errors
/// It is not; the sentence says why, without the text.
pub fn check(vr: Vr, text: &[u8], length: impl Fn(&[u8]) -> usize) -> Result<(), String> {
    let (most, allowed): (usize, fn(u8) -> bool) = match &vr.to_wire() {
        b"AE" => (16, |b| (0x20..0x7f).contains(&b)),
        b"AS" => (4, |b| b.is_ascii_digit() || matches!(b, b'D' | b'W' | b'M' | b'Y')),
        b"CS" => (16, |b| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b' ' | b'_')),
        b"DA" => (8, |b| b.is_ascii_digit()),
        b"DS" => (16, |b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E' | b' ')),
        b"DT" => (26, |b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b' ')),
        b"IS" => (12, |b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b' ')),
        b"TM" => (16, |b| b.is_ascii_digit() || matches!(b, b'.' | b' ')),
        b"SH" => (16, is_letter),
        b"LO" | b"PN" => (64, is_letter),
        b"UC" => (0xffff, is_letter),
        b"ST" => (1_024, is_text),
        b"LT" => (10_240, is_text),
        b"UT" => (0xffff, is_text),
        b"UR" => (0xffff, |b| (0x21..0x7f).contains(&b)),
        _ => return Err(format!("{vr} is no text")),
    };
    let separator = if vr == Vr::PN { b'=' } else { b'\\' };
    let splits = vr == Vr::PN || is_plain(vr);
    for value in text.split(|byte| splits && *byte == separator) {
        let letters = length(value);
        if letters > most {
            return Err(format!("{letters} characters, of which {vr} can have {most}"));
        }
        if !value.iter().copied().all(allowed) {
            return Err(format!("characters that {vr} does not have"));
        }
        let whole = match &vr.to_wire() {
            b"DA" => value.is_empty() || value.len() == 8,
            b"AS" => value.is_empty() || value.len() == 4,
            _ => true,
        };
        if !whole {
            return Err(format!("fewer characters than {vr} has"));
        }
    }
    Ok(())
}

/// No control characters but the escapes of ISO 2022. A backslash separates values, or is half of a letter.
fn is_letter(byte: u8) -> bool {
    byte >= 0x20 && byte != 0x7f || byte == 0x1b
}

fn is_text(byte: u8) -> bool {
    is_letter(byte) || matches!(byte, b'\t' | b'\n' | 0x0c | b'\r')
}

/// Whether a configured text can be a value of this VR.
///
/// # Errors
/// It cannot; the sentence says why.
pub fn check_configured(vr: Vr, text: &str) -> Result<(), String> {
    if !text.is_ascii() {
        return Err("characters beyond ASCII, which are not the same in all character sets of DICOM".into());
    }
    if text.contains('\\') && !is_plain(vr) && !is_single(vr) {
        return text.split('\\').try_for_each(|value| check(vr, value.as_bytes(), <[u8]>::len));
    }
    check(vr, text.as_bytes(), <[u8]>::len)
}

/// A value without the padding at its end, which says nothing.
pub(super) fn unpadded(value: &[u8]) -> &[u8] {
    let padding = value.iter().rev().take_while(|byte| matches!(byte, b' ' | 0)).count();
    value.get(..value.len().saturating_sub(padding)).unwrap_or_default()
}

/// Whether it may hold several values that cannot be told apart.
pub(super) fn is_unclear(vr: Vr, value: &[u8]) -> bool {
    !is_plain(vr) && !is_single(vr) && value.contains(&b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_identifies_or_describes_is_never_changed() {
        for tag in [
            Tag(0x0002, 0x0016),
            Tag(0x0008, 0x0005),
            Tag(0x0008, 0x0016),
            Tag(0x0008, 0x0018),
            Tag(0x0008, 0x0000),
            Tag(0x0008, 0x0201),
            Tag(0x0009, 0x0010),
            Tag(0x0020, 0x000d),
            Tag(0x0020, 0x000e),
            Tag(0x0008, 0x1140),
            Tag(0x0028, 0x0004),
            Tag(0x0028, 0x0008),
            Tag(0x0028, 0x0010),
            Tag(0x0400, 0x0563),
            Tag(0x7fe0, 0x0010),
            Tag(0x0008, 0x9ffe),
        ] {
            assert!(changeable(tag).is_err(), "{tag}");
        }
        assert_eq!(changeable(Tag(0x0008, 0x0050)), Ok(Vr::SH));
        assert_eq!(changeable(Tag(0x0010, 0x0020)), Ok(Vr::LO));
    }

    #[test]
    fn texts_are_checked_against_their_vr() {
        for (vr, good) in [
            (Vr::SH, "1234567890123456"),
            (Vr::CS, "DX_1 A"),
            (Vr::DA, "20261121"),
            (Vr::DA, ""),
            (Vr::PN, "Doe^Jane"),
            (Vr::LO, "Clinic 7"),
            (Vr::CS, "CR\\DX"),
            (Vr::IS, "-12"),
            (Vr::SH, "a\\b"),
        ] {
            assert_eq!(check_configured(vr, good), Ok(()), "{vr} {good}");
        }
        for (vr, bad) in [
            (Vr::SH, "12345678901234567"),
            (Vr::CS, "dx"),
            (Vr::DA, "2026"),
            (Vr::DA, "2026-1-1"),
            (Vr::LO, "Klinik Süd"),
            (Vr::LO, "a\nb"),
            (Vr::SH, "a\\12345678901234567"),
        ] {
            assert!(check_configured(vr, bad).is_err(), "{vr} {bad}");
        }
    }
}
