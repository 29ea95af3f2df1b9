//! Which value representation a tag has where the data set does not say: Implicit VR, and UN.
//!
//! The dictionary is PS3.6. Private elements are unknown (UN) but for private creators and group lengths: a private
//! dictionary can be wrong for the software version that wrote the data set, UN never is.

use dicom_core::Tag;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, TagRange, UidDictionary, VirtualVr};
use dicom_dictionary_std::{StandardDataDictionary, StandardSopClassDictionary};

use super::vr::Vr;
use crate::model::Uid;

/// What the dictionary says of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// This one.
    Exactly(Vr),
    /// US or SS, as Pixel Representation (0028,0103) says.
    UsOrSs,
    /// OB or OW: pixel data.
    PixelData,
    /// OB or OW: waveforms, overlays, curves and the like.
    ObOrOw,
    /// US or OW: lookup tables.
    UsOrOw,
    /// Nothing.
    Unknown,
}

/// Looks up a tag.
#[must_use]
pub fn look_up(tag: Tag) -> Entry {
    if is_group_length(tag) {
        return Entry::Exactly(Vr::UL);
    }
    if tag.group() % 2 == 1 {
        let is_creator = (0x0010..=0x00ff).contains(&tag.element());
        return if is_creator { Entry::Exactly(Vr::LO) } else { Entry::Unknown };
    }
    match StandardDataDictionary.by_tag(tag).map(DataDictionaryEntry::vr) {
        Some(VirtualVr::Exact(vr)) => Entry::Exactly(vr.into()),
        Some(VirtualVr::Xs) => Entry::UsOrSs,
        Some(VirtualVr::Px) => Entry::PixelData,
        Some(VirtualVr::Ox) => Entry::ObOrOw,
        Some(VirtualVr::Lt) => Entry::UsOrOw,
        _ => Entry::Unknown,
    }
}

/// The tag of an attribute of the standard by its keyword in PS3.6, such as `PatientID`.
#[must_use]
pub fn tag_by_keyword(keyword: &str) -> Option<Tag> {
    match StandardDataDictionary.by_name(keyword).map(DataDictionaryEntry::tag_range) {
        Some(TagRange::Single(tag)) => Some(tag),
        _ => None,
    }
}

/// The name of a SOP class of the standard, as PS3.6 has it.
#[must_use]
pub fn sop_class_name(uid: &Uid) -> Option<&'static str> {
    StandardSopClassDictionary.by_uid(uid.as_str()).map(|entry| entry.name)
}

/// The UID of a SOP class of the standard by its keyword in PS3.6, such as `CTImageStorage`.
#[must_use]
pub fn sop_class_by_keyword(keyword: &str) -> Option<Uid> {
    StandardSopClassDictionary.by_keyword(keyword).and_then(|entry| entry.uid.parse().ok())
}

/// Whether the standard makes the tag a sequence.
#[must_use]
pub fn is_sequence(tag: Tag) -> bool {
    look_up(tag) == Entry::Exactly(Vr::SQ)
}

/// Whether the tag is the length of its group (gggg,0000): retired, and wrong as soon as a length in the group changes.
#[must_use]
pub fn is_group_length(tag: Tag) -> bool {
    tag.element() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_looked_up_with_their_ranges() {
        assert_eq!(look_up(Tag(0x0010, 0x0010)), Entry::Exactly(Vr::PN));
        assert_eq!(look_up(Tag(0x7fe0, 0x0010)), Entry::PixelData);
        assert_eq!(look_up(Tag(0x6002, 0x3000)), Entry::ObOrOw);
        assert_eq!(look_up(Tag(0x5004, 0x3000)), Entry::ObOrOw);
        assert_eq!(look_up(Tag(0x0028, 0x0106)), Entry::UsOrSs);
        assert_eq!(look_up(Tag(0x0028, 0x3006)), Entry::UsOrOw);
        assert_eq!(look_up(Tag(0x0008, 0x0000)), Entry::Exactly(Vr::UL));
        assert!(is_sequence(Tag(0x0008, 0x1140)));
    }

    #[test]
    fn sop_classes_and_attributes_are_known_by_keyword() {
        assert_eq!(tag_by_keyword("PatientID"), Some(Tag(0x0010, 0x0020)));
        assert_eq!(tag_by_keyword("OverlayData"), None, "it has many tags");
        assert_eq!(sop_class_by_keyword("CTImageStorage").unwrap().as_str(), "1.2.840.10008.5.1.4.1.1.2");
        assert_eq!(sop_class_by_keyword("CtImageStorage"), None);
    }

    #[test]
    fn private_elements_are_unknown_but_for_their_creators() {
        assert_eq!(look_up(Tag(0x0009, 0x0010)), Entry::Exactly(Vr::LO));
        assert_eq!(look_up(Tag(0x0009, 0x1001)), Entry::Unknown);
        assert_eq!(look_up(Tag(0x0009, 0x0000)), Entry::Exactly(Vr::UL));
        assert_eq!(look_up(Tag(0x0008, 0x9ffe)), Entry::Unknown);
    }
}
