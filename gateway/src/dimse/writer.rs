//! Writes the small data sets of messages, in one of the two uncompressed little-endian transfer syntaxes.

use dicom_core::Tag;

use crate::dataset::tags;
use crate::dataset::transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN;
use crate::dataset::vr::Vr;
use crate::dataset::write::{Header, explicit_header, implicit_header};
use crate::model::Uid;

/// Writes elements in the order of the calls, which must be ascending.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer {
    implicit: bool,
}

impl Writer {
    /// A writer in this transfer syntax: Implicit VR Little Endian, or else Explicit.
    pub(super) fn new(transfer_syntax: &Uid) -> Self {
        Self { implicit: transfer_syntax.as_str() == IMPLICIT_VR_LITTLE_ENDIAN }
    }

    fn header(self, tag: Tag, vr: Vr, length: usize) -> Header {
        // What is written here has a few MiB at most.
        let length = Some(u32::try_from(length).unwrap_or(0));
        match self.implicit {
            true => implicit_header(tag, length),
            // A UI, CS or US here is never too long for the short form.
            false => explicit_header(tag, vr, length).unwrap_or_else(|| implicit_header(tag, length)),
        }
    }

    /// An element of value representation UI, padded with NUL to even length.
    pub(super) fn uid(self, out: &mut Vec<u8>, tag: Tag, uid: &Uid) {
        self.uids(out, tag, &[uid]);
    }

    /// An element of value representation UI with several values. They must not have more than 64 KiB together.
    pub(super) fn uids(self, out: &mut Vec<u8>, tag: Tag, uids: &[&Uid]) {
        let texts: Vec<&str> = uids.iter().map(|uid| uid.as_str()).collect();
        let value = texts.join("\\");
        let padding = value.len() % 2;
        out.extend_from_slice(self.header(tag, Vr::UI, value.len() + padding).as_bytes());
        out.extend_from_slice(value.as_bytes());
        out.extend(std::iter::repeat_n(0, padding));
    }

    /// An element of value representation CS, padded with a space to even length.
    pub(super) fn code(self, out: &mut Vec<u8>, tag: Tag, code: &str) {
        let padding = code.len() % 2;
        out.extend_from_slice(self.header(tag, Vr::CS, code.len() + padding).as_bytes());
        out.extend_from_slice(code.as_bytes());
        out.extend(std::iter::repeat_n(b' ', padding));
    }

    /// An element of value representation US.
    pub(super) fn number(self, out: &mut Vec<u8>, tag: Tag, number: u16) {
        out.extend_from_slice(self.header(tag, Vr::US, 2).as_bytes());
        out.extend_from_slice(&number.to_le_bytes());
    }

    /// An item of a sequence.
    pub(super) fn item(out: &mut Vec<u8>, content: &[u8]) {
        let length = u32::try_from(content.len()).unwrap_or(0);
        out.extend_from_slice(implicit_header(tags::ITEM, Some(length)).as_bytes());
        out.extend_from_slice(content);
    }

    /// A sequence of these items.
    pub(super) fn sequence(self, out: &mut Vec<u8>, tag: Tag, items: &[u8]) {
        out.extend_from_slice(self.header(tag, Vr::SQ, items.len()).as_bytes());
        out.extend_from_slice(items);
    }
}
