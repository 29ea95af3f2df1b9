//! What a data set says of itself that a rule may ask for.

use std::fmt;

use dicom_core::Tag;

/// The longest value that is looked at, in bytes: 64 characters (PS3.5 6.2: LO) in UTF-8, or 15 values of a CS.
pub const LONGEST_VALUE: usize = 256;

/// How many values of one attribute count.
const MOST_VALUES: usize = 16;

/// Specific Character Set.
const SPECIFIC_CHARACTER_SET: Tag = Tag(0x0008, 0x0005);

/// A text attribute that a rule may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    /// Image Type (0008,0008), any of its values.
    ImageType,
    /// Modality (0008,0060).
    Modality,
    /// Institution Name (0008,0080).
    Institution,
    /// Station Name (0008,1010).
    Station,
    /// Study Description (0008,1030).
    StudyDescription,
    /// Series Description (0008,103E).
    SeriesDescription,
    /// Body Part Examined (0018,0015).
    BodyPart,
    /// Protocol Name (0018,1030).
    Protocol,
    /// Requesting Service (0032,1033).
    RequestingService,
}

impl Attribute {
    /// All of them, in the order of their tags.
    pub const ALL: [Self; 9] = [
        Self::ImageType,
        Self::Modality,
        Self::Institution,
        Self::Station,
        Self::StudyDescription,
        Self::SeriesDescription,
        Self::BodyPart,
        Self::Protocol,
        Self::RequestingService,
    ];

    /// Its name in a rule.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::ImageType => "image-type",
            Self::Modality => "modality",
            Self::Institution => "institution",
            Self::Station => "station",
            Self::StudyDescription => "study-description",
            Self::SeriesDescription => "series-description",
            Self::BodyPart => "body-part",
            Self::Protocol => "protocol",
            Self::RequestingService => "requesting-service",
        }
    }

    /// Where it is in a data set.
    #[must_use]
    pub fn tag(self) -> Tag {
        match self {
            Self::ImageType => Tag(0x0008, 0x0008),
            Self::Modality => Tag(0x0008, 0x0060),
            Self::Institution => Tag(0x0008, 0x0080),
            Self::Station => Tag(0x0008, 0x1010),
            Self::StudyDescription => Tag(0x0008, 0x1030),
            Self::SeriesDescription => Tag(0x0008, 0x103e),
            Self::BodyPart => Tag(0x0018, 0x0015),
            Self::Protocol => Tag(0x0018, 0x1030),
            Self::RequestingService => Tag(0x0032, 0x1033),
        }
    }

    fn at(tag: Tag) -> Option<Self> {
        Self::ALL.into_iter().find(|attribute| attribute.tag() == tag)
    }
}

/// The attributes of one data set, picked up as they pass. They live as long as the decision takes: descriptions may
/// hold names, so they are in no log, no record, and not in what `{:?}` shows of this.
///
/// Texts are decoded as UTF-8 where Specific Character Set (0008,0005) is ISO_IR 192, and as ISO 8859-1 otherwise. That is
/// right for ISO_IR 100 and for the default repertoire; of the others the letters beyond ASCII are not to be relied on.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    utf8: bool,
    values: Vec<(Attribute, String)>,
}

impl Attributes {
    /// Whether a rule may ask for it, or needs it to read others.
    #[must_use]
    pub fn wants(tag: Tag) -> bool {
        tag == SPECIFIC_CHARACTER_SET || Attribute::at(tag).is_some()
    }

    /// Takes the value of a top-level element. Of an attribute that occurs twice the first counts.
    pub fn note(&mut self, tag: Tag, value: &[u8]) {
        if tag == SPECIFIC_CHARACTER_SET {
            let first = value.split(|byte| *byte == b'\\').next().unwrap_or_default();
            self.utf8 = first.trim_ascii() == b"ISO_IR 192";
            return;
        }
        let Some(attribute) = Attribute::at(tag) else { return };
        if self.of(attribute).next().is_some() {
            return;
        }
        let text = match self.utf8 {
            true => String::from_utf8_lossy(value).into_owned(),
            false => value.iter().map(|byte| char::from(*byte)).collect(),
        };
        let values = text.split('\\').map(|value| value.trim_matches([' ', '\0'])).filter(|value| !value.is_empty());
        self.values.extend(values.take(MOST_VALUES).map(|value| (attribute, value.to_owned())));
    }

    /// The values of an attribute; none if it is missing or empty.
    pub fn of(&self, attribute: Attribute) -> impl Iterator<Item = &str> {
        self.values.iter().filter(move |(has, _)| *has == attribute).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.values.iter().map(|(attribute, _)| attribute.key()).collect();
        f.debug_tuple("Attributes").field(&names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(attributes: &Attributes, attribute: Attribute) -> Vec<&str> {
        attributes.of(attribute).collect()
    }

    #[test]
    fn values_are_read_without_padding_and_the_first_element_counts() {
        let mut attributes = Attributes::default();
        attributes.note(Tag(0x0008, 0x0008), b"ORIGINAL\\PRIMARY \\\\AXIAL ");
        attributes.note(Tag(0x0018, 0x0015), b"CHEST\0");
        attributes.note(Tag(0x0018, 0x0015), b"HEAD");
        attributes.note(Tag(0x0010, 0x0010), b"Doe^Jane");
        attributes.note(Tag(0x0018, 0x1030), b"  ");
        assert_eq!(values(&attributes, Attribute::ImageType), ["ORIGINAL", "PRIMARY", "AXIAL"]);
        assert_eq!(values(&attributes, Attribute::BodyPart), ["CHEST"]);
        assert!(values(&attributes, Attribute::Protocol).is_empty());
        assert!(!Attributes::wants(Tag(0x0010, 0x0010)));
    }

    #[test]
    fn texts_are_utf_8_where_the_data_set_says_so_and_latin_1_otherwise() {
        let description = Attribute::StudyDescription;
        let read = |character_set: Option<&[u8]>, value: &[u8]| {
            let mut attributes = Attributes::default();
            if let Some(character_set) = character_set {
                attributes.note(SPECIFIC_CHARACTER_SET, character_set);
            }
            attributes.note(description.tag(), value);
            values(&attributes, description).join("|")
        };
        assert_eq!(read(Some(b"ISO_IR 192"), "Schädel".as_bytes()), "Schädel");
        assert_eq!(read(Some(b"ISO_IR 100"), b"Sch\xe4del "), "Schädel");
        assert_eq!(read(None, b"Sch\xe4del "), "Schädel");
        assert_eq!(read(Some(b"ISO_IR 192 \\ISO 2022 IR 87"), "ä".as_bytes()), "ä");
        assert_eq!(read(Some(b"ISO_IR 192"), b"a\xff"), "a\u{fffd}", "what is cut is no reason to stop");
    }

    #[test]
    fn what_is_shown_for_debugging_names_attributes_and_never_their_values() {
        let mut attributes = Attributes::default();
        attributes.note(Tag(0x0008, 0x1030), b"Doe, Jane: control");
        assert_eq!(format!("{attributes:?}"), r#"Attributes(["study-description"])"#);
    }
}
