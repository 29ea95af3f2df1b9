//! Value representations (PS3.5 6.2): the two letters, the form of the header, and what the bytes of a value are.

use std::fmt;

/// A value representation as it stands in an explicit header: two bytes, known to the standard or not.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vr([u8; 2]);

/// How the length of a value is written in an explicit header (PS3.5 7.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderForm {
    /// 16-bit length behind the VR: 8 bytes in all.
    Short,
    /// Two reserved bytes and a 32-bit length behind the VR: 12 bytes in all.
    Long,
}

/// What the bytes of a value are, as far as a conversion has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Single bytes, text or not, without byte order; text of one VR stays text when read as another.
    Text,
    /// Whole numbers, or words, of this many bytes each, with a byte order.
    Integers(usize),
    /// Floating-point numbers of this many bytes each, with a byte order.
    Floats(usize),
    /// Bytes without byte order that are not text (OB).
    Bytes,
    /// Items.
    Sequence,
    /// Not known: UN, and VRs that the standard does not list.
    Unknown,
}

/// Every VR of PS3.5 table 6.2-1, with what has to be known about it.
const KNOWN: [(&[u8; 2], HeaderForm, Kind); 34] = [
    (b"AE", HeaderForm::Short, Kind::Text),
    (b"AS", HeaderForm::Short, Kind::Text),
    (b"AT", HeaderForm::Short, Kind::Integers(2)),
    (b"CS", HeaderForm::Short, Kind::Text),
    (b"DA", HeaderForm::Short, Kind::Text),
    (b"DS", HeaderForm::Short, Kind::Text),
    (b"DT", HeaderForm::Short, Kind::Text),
    (b"FD", HeaderForm::Short, Kind::Floats(8)),
    (b"FL", HeaderForm::Short, Kind::Floats(4)),
    (b"IS", HeaderForm::Short, Kind::Text),
    (b"LO", HeaderForm::Short, Kind::Text),
    (b"LT", HeaderForm::Short, Kind::Text),
    (b"OB", HeaderForm::Long, Kind::Bytes),
    (b"OD", HeaderForm::Long, Kind::Floats(8)),
    (b"OF", HeaderForm::Long, Kind::Floats(4)),
    (b"OL", HeaderForm::Long, Kind::Integers(4)),
    (b"OV", HeaderForm::Long, Kind::Integers(8)),
    (b"OW", HeaderForm::Long, Kind::Integers(2)),
    (b"PN", HeaderForm::Short, Kind::Text),
    (b"SH", HeaderForm::Short, Kind::Text),
    (b"SL", HeaderForm::Short, Kind::Integers(4)),
    (b"SQ", HeaderForm::Long, Kind::Sequence),
    (b"SS", HeaderForm::Short, Kind::Integers(2)),
    (b"ST", HeaderForm::Short, Kind::Text),
    (b"SV", HeaderForm::Long, Kind::Integers(8)),
    (b"TM", HeaderForm::Short, Kind::Text),
    (b"UC", HeaderForm::Long, Kind::Text),
    (b"UI", HeaderForm::Short, Kind::Text),
    (b"UL", HeaderForm::Short, Kind::Integers(4)),
    (b"UN", HeaderForm::Long, Kind::Unknown),
    (b"UR", HeaderForm::Long, Kind::Text),
    (b"US", HeaderForm::Short, Kind::Integers(2)),
    (b"UT", HeaderForm::Long, Kind::Text),
    (b"UV", HeaderForm::Long, Kind::Integers(8)),
];

impl Vr {
    /// Code String.
    pub const CS: Self = Self(*b"CS");
    /// Decimal String.
    pub const DS: Self = Self(*b"DS");
    /// Integer String.
    pub const IS: Self = Self(*b"IS");
    /// Long String.
    pub const LO: Self = Self(*b"LO");
    /// Person Name.
    pub const PN: Self = Self(*b"PN");
    /// Date.
    pub const DA: Self = Self(*b"DA");
    /// Date Time.
    pub const DT: Self = Self(*b"DT");
    /// Time.
    pub const TM: Self = Self(*b"TM");
    /// Short String.
    pub const SH: Self = Self(*b"SH");
    /// Application Entity.
    pub const AE: Self = Self(*b"AE");
    /// Unique Identifier.
    pub const UI: Self = Self(*b"UI");
    /// Unsigned Long.
    pub const UL: Self = Self(*b"UL");
    /// Unsigned Short.
    pub const US: Self = Self(*b"US");
    /// Signed Short.
    pub const SS: Self = Self(*b"SS");
    /// Signed Long.
    pub const SL: Self = Self(*b"SL");
    /// Signed 64-bit Very Long.
    pub const SV: Self = Self(*b"SV");
    /// Other Byte.
    pub const OB: Self = Self(*b"OB");
    /// Other Word.
    pub const OW: Self = Self(*b"OW");
    /// Sequence of Items.
    pub const SQ: Self = Self(*b"SQ");
    /// Unknown.
    pub const UN: Self = Self(*b"UN");

    /// Reads the two bytes behind the tag of an explicit header. `None` if they cannot be a value representation: not
    /// printable, so that the header is most likely none at all.
    #[must_use]
    pub fn from_wire(bytes: [u8; 2]) -> Option<Self> {
        bytes.iter().all(|b| (0x20..0x7f).contains(b)).then_some(Self(bytes))
    }

    /// The form of the header. A VR that the standard does not list has the long form if it is written in capital
    /// letters, because all that were ever added have it, and the short form otherwise ("??", "--"), because the
    /// devices that write such things do.
    #[must_use]
    pub fn header_form(self) -> HeaderForm {
        match self.known() {
            Some((_, form, _)) => *form,
            None if self.0.iter().all(u8::is_ascii_uppercase) => HeaderForm::Long,
            None => HeaderForm::Short,
        }
    }

    /// What the bytes of a value are.
    #[must_use]
    pub fn kind(self) -> Kind {
        self.known().map_or(Kind::Unknown, |(_, _, kind)| *kind)
    }

    /// How many bytes have a byte order together; 1 if there is none.
    #[must_use]
    pub fn word(self) -> usize {
        match self.kind() {
            Kind::Integers(bytes) | Kind::Floats(bytes) => bytes,
            Kind::Text | Kind::Bytes | Kind::Sequence | Kind::Unknown => 1,
        }
    }

    /// Whether PS3.5 lists it.
    #[must_use]
    pub fn is_standard(self) -> bool {
        self.known().is_some()
    }

    /// The two bytes as they stand in a header.
    #[must_use]
    pub fn to_wire(self) -> [u8; 2] {
        self.0
    }

    fn known(self) -> Option<&'static (&'static [u8; 2], HeaderForm, Kind)> {
        KNOWN.iter().find(|(letters, _, _)| **letters == self.0)
    }
}

impl From<dicom_core::VR> for Vr {
    fn from(vr: dicom_core::VR) -> Self {
        Self(vr.to_bytes())
    }
}

impl fmt::Display for Vr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for Vr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_without_doubles() {
        assert!(KNOWN.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn unknown_capital_letters_have_the_long_form_and_odd_characters_the_short_one() {
        assert_eq!(Vr::from_wire(*b"ZZ").unwrap().header_form(), HeaderForm::Long);
        assert_eq!(Vr::from_wire(*b"??").unwrap().header_form(), HeaderForm::Short);
        assert_eq!(Vr::from_wire([0, 0]), None);
        assert_eq!(Vr::from_wire([0x0a, 0]), None);
        assert!(!Vr::from_wire(*b"ox").unwrap().is_standard());
    }

    #[test]
    fn the_forms_are_those_of_the_standard() {
        for long in [b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"] {
            assert_eq!(Vr(*long).header_form(), HeaderForm::Long, "{long:?}");
        }
        assert_eq!(KNOWN.iter().filter(|(_, form, _)| *form == HeaderForm::Long).count(), 13);
    }
}
