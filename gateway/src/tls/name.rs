//! Distinguished names as text (RFC 4514), the way an engineer sees them elsewhere: like
//! `openssl x509 -noout -subject -nameopt RFC2253,-esc_msb`.
//!
//! The last part of the name comes first, as in `CN=ct1,OU=Radiology,O=Clinic,C=DE`. What would be mistaken for a part of
//! the notation is escaped; so is every character that cannot be seen. So a name has one text, one that is safe to show,
//! and two names that look alike are the same.

use std::fmt::Write as _;

use super::der::{OBJECT_IDENTIFIER, SEQUENCE, SET, element};
use crate::logging::escaped;

/// A longer text is none that anybody could compare.
const MOST: usize = 1_024;

/// The subject of a certificate in DER. `None` if it has none, or one that is longer than 1,024 bytes as text.
pub(super) fn subject(certificate: &[u8]) -> Option<String> {
    text(subject_of(certificate)?).filter(|text| !text.is_empty())
}

fn subject_of(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = element(certificate, Some(SEQUENCE))?;
    let (mut fields, _) = element(certificate, Some(SEQUENCE))?;
    if let Some((_, rest)) = element(fields, Some(super::der::EXPLICIT_0)) {
        fields = rest;
    }
    for _serial_algorithm_issuer_validity in 0..4 {
        (_, fields) = element(fields, None)?;
    }
    Some(element(fields, Some(SEQUENCE))?.0)
}

/// A name, given as the content of its sequence. `None` if it is broken or longer than 1,024 bytes as text.
pub(super) fn text(name: &[u8]) -> Option<String> {
    // A part has nearly always one attribute.
    backwards(name, SET, ',', |relative| backwards(relative, SEQUENCE, '+', attribute))
}

/// The elements of `content`, which all have this tag, as text: the last one first. `None` if that is longer than
/// [`MOST`].
fn backwards(
    mut content: &[u8],
    tag: u8,
    separator: char,
    as_text: impl Fn(&[u8]) -> Option<String>,
) -> Option<String> {
    let mut text = String::new();
    while !content.is_empty() {
        let (next, rest) = element(content, Some(tag))?;
        let mut part = as_text(next)?;
        if !text.is_empty() {
            part.push(separator);
        }
        text.insert_str(0, &part);
        if text.len() > MOST {
            return None;
        }
        content = rest;
    }
    Some(text)
}

fn attribute(attribute: &[u8]) -> Option<String> {
    let (kind, value) = element(attribute, Some(OBJECT_IDENTIFIER))?;
    Some(match (short_name(kind), string(value)) {
        (Some(name), Some(value)) => format!("{name}={}", in_notation(&value)),
        (Some(name), None) => format!("{name}={}", hexadecimal(value)),
        (None, _) => format!("{}={}", dotted(kind)?, hexadecimal(value)),
    })
}

/// The names that are in use for the kinds of attributes (X.520, RFC 4519, PKCS #9), as OpenSSL writes them.
fn short_name(kind: &[u8]) -> Option<&'static str> {
    Some(match kind {
        [0x55, 4, 3] => "CN",
        [0x55, 4, 4] => "SN",
        [0x55, 4, 5] => "serialNumber",
        [0x55, 4, 6] => "C",
        [0x55, 4, 7] => "L",
        [0x55, 4, 8] => "ST",
        [0x55, 4, 9] => "street",
        [0x55, 4, 10] => "O",
        [0x55, 4, 11] => "OU",
        [0x55, 4, 12] => "title",
        [0x55, 4, 42] => "GN",
        [0x55, 4, 46] => "dnQualifier",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1] => "UID",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25] => "DC",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1] => "emailAddress",
        _ => return None,
    })
}

/// An object identifier with its numbers (X.690 8.19).
fn dotted(identifier: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut number = 0_u64;
    for byte in identifier {
        number = number.checked_mul(128)?.checked_add(u64::from(byte & 0x7f))?;
        if byte & 0x80 != 0 {
            continue;
        }
        if text.is_empty() {
            let first = (number / 40).min(2);
            write!(text, "{first}.{}", number - first * 40).ok()?;
        } else {
            write!(text, ".{number}").ok()?;
        }
        number = 0;
        if text.len() > MOST {
            return None;
        }
    }
    Some(text)
}

/// The value of an attribute, if it is one of the string types.
fn string(value: &[u8]) -> Option<String> {
    const NUMERIC: u8 = 0x12;
    const PRINTABLE: u8 = 0x13;
    const TELETEX: u8 = 0x14;
    const IA5: u8 = 0x16;
    const VISIBLE: u8 = 0x1a;
    const BMP: u8 = 0x1e;
    const UTF8: u8 = 0x0c;

    let (content, _) = element(value, None)?;
    if content.len() > MOST {
        return None;
    }
    match *value.first()? {
        UTF8 | NUMERIC | PRINTABLE | IA5 | VISIBLE => std::str::from_utf8(content).ok().map(str::to_owned),
        // Latin-1 in practice.
        TELETEX => Some(content.iter().map(|byte| char::from(*byte)).collect()),
        BMP => {
            let (units, []) = content.as_chunks::<2>() else { return None };
            let units: Vec<u16> = units.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

/// A value with everything escaped that is part of the notation (RFC 4514 2.4), or that cannot be seen.
fn in_notation(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 8);
    let last = value.chars().count().saturating_sub(1);
    for (at, letter) in value.chars().enumerate() {
        let mut buffer = [0; 4];
        let encoded = letter.encode_utf8(&mut buffer);
        match letter {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', letter]),
            ' ' if at == 0 || at == last => text.push_str("\\ "),
            '#' if at == 0 => text.push_str("\\#"),
            _ if escaped(encoded) != *encoded => text.extend(encoded.bytes().map(|byte| format!("\\{byte:02X}"))),
            letter => text.push(letter),
        }
    }
    text
}

fn hexadecimal(value: &[u8]) -> String {
    let shown = value.get(..MOST).unwrap_or(value);
    std::iter::once("#".to_owned()).chain(shown.iter().map(|byte| format!("{byte:02X}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82][..], &length, content].concat()
    }

    fn attribute(kind: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        wrapped(SEQUENCE, &[wrapped(OBJECT_IDENTIFIER, kind), wrapped(tag, value)].concat())
    }

    fn part(attributes: &[Vec<u8>]) -> Vec<u8> {
        wrapped(SET, &attributes.concat())
    }

    const CN: &[u8] = &[0x55, 4, 3];

    fn common_name(tag: u8, value: &[u8]) -> String {
        text(&part(&[attribute(CN, tag, value)])).unwrap()
    }

    #[test]
    fn the_last_part_of_a_name_comes_first() {
        let name = [
            part(&[attribute(&[0x55, 4, 6], 0x13, b"DE")]),
            part(&[attribute(&[0x55, 4, 10], 0x0c, "Praxis Müller".as_bytes())]),
            part(&[attribute(CN, 0x0c, b"ct1"), attribute(&[0x55, 4, 5], 0x13, b"47")]),
        ];
        assert_eq!(text(&name.concat()).unwrap(), "serialNumber=47+CN=ct1,O=Praxis Müller,C=DE");
        assert_eq!(text(b"").unwrap(), "");
    }

    #[test]
    fn what_could_be_mistaken_for_notation_is_escaped() {
        assert_eq!(common_name(0x0c, b"a,O=b+c\\\"<>;="), "CN=a\\,O=b\\+c\\\\\\\"\\<\\>\\;=");
        assert_eq!(common_name(0x0c, b" x y "), "CN=\\ x y\\ ");
        assert_eq!(common_name(0x0c, b"#1#"), "CN=\\#1#");
        assert_eq!(common_name(0x0c, b" "), "CN=\\ ");
    }

    #[test]
    fn what_cannot_be_seen_is_escaped() {
        assert_eq!(common_name(0x0c, "ct1\0\n\u{202e}".as_bytes()), "CN=ct1\\00\\0A\\E2\\80\\AE");
        assert_eq!(common_name(0x16, b"\x1b[2J"), "CN=\\1B[2J");
    }

    #[test]
    fn every_type_of_string_is_read_and_others_are_shown_in_hexadecimal() {
        assert_eq!(common_name(0x14, b"M\xfcller"), "CN=Müller");
        assert_eq!(common_name(0x1e, &[0, b'C', 0, b'T']), "CN=CT");
        assert_eq!(common_name(0x1e, &[0, b'C', 0]), "CN=#1E820003004300");
        assert_eq!(common_name(0x0c, b"\xff"), "CN=#0C820001FF");
        let private = part(&[attribute(&[0x2b, 6, 1, 4, 1, 0x82, 0x37, 20], 0x0c, b"x")]);
        assert_eq!(text(&private).unwrap(), "1.3.6.1.4.1.311.20=#0C82000178");
    }

    #[test]
    fn what_is_broken_or_endless_has_no_text() {
        for bad in [&b"\x31"[..], b"\x31\x05\x30", b"\x30\x00", &part(&[vec![0x30, 0]]), &[0x31; 300]] {
            assert_eq!(text(bad), None, "{bad:x?}");
        }
        let long = attribute(CN, 0x0c, &[b'x'; 300]);
        assert!(text(&part(std::slice::from_ref(&long)).repeat(3)).is_some());
        assert_eq!(text(&part(std::slice::from_ref(&long)).repeat(4)), None);
        assert_eq!(text(&part(&vec![long; 4])), None);
        let huge = part(&[attribute(CN, 0x0c, &[b'x'; 40_000])]);
        assert_eq!(text(&huge), None);
        assert_eq!(subject(b"\x30\x03\x30\x01\xa0"), None);
    }
}
