//! What can be wrong with a data set.

use dicom_core::Tag;

/// Why a data set cannot be followed to its end. The first one found is the one that counts.
///
/// The message is a plain sentence of at most 64 characters, so that it fits Error Comment (0000,0902) and the console.
/// It holds tags and numbers, never a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// Not a single element.
    #[error("The data set is empty.")]
    Empty,
    /// The data ends inside the header of an element, an item or a fragment.
    #[error("The data set is cut off in the middle of an element header.")]
    CutInHeader,
    /// The data ends before the value does: cut off on the way, or the length is wrong.
    #[error("The data set ends inside the value of {0}.")]
    CutInValue(Tag),
    /// The data ends while a sequence of undefined length is open.
    #[error("The data set ends inside a sequence that is not closed.")]
    Unclosed,
    /// The data ends before the delimiter behind the last fragment.
    #[error("The data set ends inside the fragments of {0}.")]
    FragmentsUnclosed(Tag),
    /// The two bytes behind a tag cannot be a value representation.
    #[error("{0} has no readable value representation.")]
    BadVr(Tag),
    /// Undefined length on a value representation that does not allow it.
    #[error("{0} must not have an undefined length.")]
    UndefinedLength(Tag),
    /// A fragment of undefined length.
    #[error("A fragment of {0} has an undefined length.")]
    UndefinedFragment(Tag),
    /// An item or delimiter where an element must be.
    #[error("{0} stands where a data element is expected.")]
    Stray(Tag),
    /// Something else where an item or a delimiter must be.
    #[error("{0} stands where an item is expected.")]
    NotAnItem(Tag),
    /// Something inside a sequence or item of defined length reaches beyond its end.
    #[error("{0} is longer than the sequence that it is in.")]
    BeyondSequence(Tag),
    /// Deeper than [`super::walker::MAX_DEPTH`]; conversions only.
    #[error("{0} is nested too deeply to be converted.")]
    TooDeep(Tag),
    /// The zero bytes behind the last element are followed by something else.
    #[error("There is garbage behind the last element.")]
    AfterPadding,
    /// The deflated stream is damaged.
    #[error("The deflated data set cannot be inflated.")]
    BadDeflate,
    /// The deflated stream ends before its last block does.
    #[error("The deflated data set is cut off.")]
    CutDeflate,
    /// The deflated stream is followed by more than zero bytes.
    #[error("There is garbage behind the deflated data set.")]
    AfterDeflate,
    /// A UID that the gateway needs is not one (PS3.5 9).
    #[error("{0} is not a valid UID.")]
    InvalidUid(Tag),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sentence_fits_an_error_comment() {
        let tag = Tag(0x7fe0, 0x0010);
        for defect in [
            Defect::Empty,
            Defect::CutInHeader,
            Defect::CutInValue(tag),
            Defect::Unclosed,
            Defect::FragmentsUnclosed(tag),
            Defect::BadVr(tag),
            Defect::UndefinedLength(tag),
            Defect::UndefinedFragment(tag),
            Defect::Stray(tag),
            Defect::NotAnItem(tag),
            Defect::BeyondSequence(tag),
            Defect::TooDeep(tag),
            Defect::AfterPadding,
            Defect::BadDeflate,
            Defect::CutDeflate,
            Defect::AfterDeflate,
            Defect::InvalidUid(tag),
        ] {
            let sentence = defect.to_string();
            assert!(sentence.len() <= 64 && sentence.is_ascii() && sentence.ends_with('.'), "{sentence}");
        }
    }
}
