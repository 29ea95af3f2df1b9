//! Writing element headers, and small data sets of our own: file meta information and phantoms.

use std::io::{self, Write};

use dicom_core::Tag;

use super::transfer_syntax::Encoding;
use super::vr::{HeaderForm, Vr};
use super::walker::UNDEFINED_LENGTH;

/// A header of at most 12 bytes.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    bytes: [u8; 12],
    length: usize,
}

impl Header {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
}

/// The header of an element in Implicit VR Little Endian, or of an item or delimiter in any little-endian syntax.
#[must_use]
pub fn implicit_header(tag: Tag, length: Option<u32>) -> Header {
    let [g0, g1] = tag.group().to_le_bytes();
    let [e0, e1] = tag.element().to_le_bytes();
    let [l0, l1, l2, l3] = length.unwrap_or(UNDEFINED_LENGTH).to_le_bytes();
    Header { bytes: [g0, g1, e0, e1, l0, l1, l2, l3, 0, 0, 0, 0], length: 8 }
}

/// The header of an element in Explicit VR Little Endian; `None` if the VR has a 16-bit length and this one does not
/// fit.
#[must_use]
pub fn explicit_header(tag: Tag, vr: Vr, length: Option<u32>) -> Option<Header> {
    let [g0, g1] = tag.group().to_le_bytes();
    let [e0, e1] = tag.element().to_le_bytes();
    let [v0, v1] = vr.to_wire();
    let length = length.unwrap_or(UNDEFINED_LENGTH);
    Some(match vr.header_form() {
        HeaderForm::Short => {
            let [l0, l1] = u16::try_from(length).ok()?.to_le_bytes();
            Header { bytes: [g0, g1, e0, e1, v0, v1, l0, l1, 0, 0, 0, 0], length: 8 }
        }
        HeaderForm::Long => {
            let [l0, l1, l2, l3] = length.to_le_bytes();
            Header { bytes: [g0, g1, e0, e1, v0, v1, 0, 0, l0, l1, l2, l3], length: 12 }
        }
    })
}

/// The header of an element in any encoding; of an item or delimiter without `vr`. `None` if the VR has a 16-bit length and
/// this one does not fit.
#[must_use]
pub fn header_in(encoding: Encoding, tag: Tag, vr: Option<Vr>, length: Option<u32>) -> Option<Header> {
    let vr = vr.filter(|_| encoding != Encoding::ImplicitLe);
    let header = match vr {
        None => implicit_header(tag, length),
        Some(vr) => explicit_header(tag, vr, length)?,
    };
    if encoding != Encoding::ExplicitBe {
        return Some(header);
    }
    let [g0, g1, e0, e1, a, b, c, d, l0, l1, l2, l3] = header.bytes;
    let bytes = match vr.map(Vr::header_form) {
        None => [g1, g0, e1, e0, d, c, b, a, 0, 0, 0, 0],
        Some(HeaderForm::Short) => [g1, g0, e1, e0, a, b, d, c, 0, 0, 0, 0],
        Some(HeaderForm::Long) => [g1, g0, e1, e0, a, b, 0, 0, l3, l2, l1, l0],
    };
    Some(Header { bytes, length: header.length })
}

/// Writes one element of a small data set of our own in Explicit VR Little Endian, padded to an even length.
///
/// # Errors
/// The value is longer than its VR allows, or writing fails.
pub fn element(out: &mut impl Write, tag: Tag, vr: Vr, value: &[u8]) -> io::Result<()> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, format!("the value of {tag} is too long for {vr}"));
    let padding: &[u8] = match vr {
        _ if value.len().is_multiple_of(2) => &[],
        Vr::UI | Vr::OB | Vr::UN => &[0],
        _ => b" ",
    };
    let length = u32::try_from(value.len() + padding.len()).map_err(|_| too_long())?;
    let header = explicit_header(tag, vr, Some(length)).ok_or_else(too_long)?;
    out.write_all(header.as_bytes())?;
    out.write_all(value)?;
    out.write_all(padding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_form_of_their_vr() {
        let tag = Tag(0x0008, 0x0018);
        assert_eq!(implicit_header(tag, Some(2)).as_bytes(), b"\x08\0\x18\0\x02\0\0\0");
        assert_eq!(explicit_header(tag, Vr::UI, Some(2)).unwrap().as_bytes(), b"\x08\0\x18\0UI\x02\0");
        assert_eq!(explicit_header(tag, Vr::OB, Some(2)).unwrap().as_bytes(), b"\x08\0\x18\0OB\0\0\x02\0\0\0");
        assert!(explicit_header(tag, Vr::UI, Some(65_536)).is_none());
        assert!(explicit_header(tag, Vr::UI, None).is_none());
    }

    #[test]
    fn headers_are_turned_round_in_big_endian() {
        let tag = Tag(0x0008, 0x0018);
        let header = |vr, length| header_in(Encoding::ExplicitBe, tag, vr, length).unwrap().as_bytes().to_vec();
        assert_eq!(header(Some(Vr::UI), Some(2)), b"\0\x08\0\x18UI\0\x02");
        assert_eq!(header(Some(Vr::SQ), Some(2)), b"\0\x08\0\x18SQ\0\0\0\0\0\x02");
        assert_eq!(header(None, Some(2)), b"\0\x08\0\x18\0\0\0\x02");
        let implicit = header_in(Encoding::ImplicitLe, tag, Some(Vr::UI), Some(2)).unwrap();
        assert_eq!(implicit.as_bytes(), b"\x08\0\x18\0\x02\0\0\0");
    }

    #[test]
    fn values_are_padded_as_their_vr_asks() {
        let mut out = Vec::new();
        element(&mut out, Tag(0x0008, 0x0018), Vr::UI, b"1.2").unwrap();
        element(&mut out, Tag(0x0008, 0x0060), Vr::CS, b"CTX").unwrap();
        assert_eq!(out, b"\x08\0\x18\0UI\x04\x001.2\0\x08\0\x60\0CS\x04\0CTX ");
        assert!(element(&mut out, Tag(0x0008, 0x0018), Vr::UI, &[b'1'; 70_000]).is_err());
    }
}
