//! Data sets (PS3.5) and the Part 10 file format (PS3.10), read without trusting a single byte of them.
//!
//! # What it promises
//!
//! - **Iterative and bounded.** Everything here is a state machine that is fed bytes: no recursion, no allocation by a
//!   declared length, no value held whole. Fed byte by byte it says exactly what it says when fed all at once.
//! - **Any nesting.** A header scan counts levels instead of remembering them, so 100,000 nested sequences cost what
//!   one costs. A conversion has to remember them and stops at [`walker::MAX_DEPTH`].
//! - **A definite verdict.** Either the bytes can be followed to their end, or there is one [`Defect`], with a sentence
//!   for the peer. No panic on any input.
//! - **As received is as kept.** Nothing here changes a byte of what is stored. Conversion and coercion make another
//!   stream, for the wire; [`crate::forward::transcode`] and [`coerce`] prove it equal, or equal in the rest, before it may
//!   leave.
//!
//! # The parts
//!
//! ```text
//!                       ┌─ receive::scan       the few attributes that the gateway needs, and the verdict
//! bytes ─▶ inflate ─▶ walker ─▶ recode         the same elements in another uncompressed transfer syntax
//!        (if deflated)          └─ digest      what two encodings of one data set have in common
//! ```
//!
//! - [`transfer_syntax`]: what a transfer syntax UID says about the bytes;
//! - [`vr`], [`dictionary`]: value representations, and which one a tag has where the data set does not say;
//! - [`walker`]: the push-based tokenizer that everything else is built on;
//! - [`inflate`]: deflated data sets (PS3.5 A.5), streamed and limited;
//! - [`digest`]: the canonical digest;
//! - [`recode`]: re-encoding between the uncompressed transfer syntaxes;
//! - [`coerce`]: a few attributes changed, and everything else as it was;
//! - [`write`](mod@write): element headers, and small data sets of our own;
//! - [`part10`]: file meta information.
//!
//! # How tolerant it is
//!
//! What can be followed is accepted, as other toolkits accept it: odd lengths, elements out of order, unknown value
//! representations (two capital letters have the long form of the header, as every VR added to the standard since
//! 1993; two other printable characters the short one), UN of undefined length (its content is Implicit VR Little
//! Endian, PS3.5 6.2.2), delimiters with a length, zero bytes after the last element, and for storing (not for
//! converting) a data set whose first header shows that it was announced in the wrong transfer syntax. What cannot be followed is a
//! [`Defect`]: data that ends early, lengths that lead beyond the end, an undefined length where none is allowed, an
//! item where an element must be, an element where an item must be, bytes that are no value representation.
//!
//! # What it deliberately does not do
//!
//! It does not check values against their value representation, nor modules for completeness: the archive decides
//! that. It builds no object model; who needs one attribute listens for it. It does not look into compressed frames.

pub mod coerce;
pub mod defect;
pub mod dictionary;
pub mod digest;
pub mod inflate;
pub mod part10;
pub mod recode;
#[cfg(test)]
pub(crate) mod sample;
pub(crate) mod stream;
pub mod transfer_syntax;
pub mod vr;
pub mod walker;
pub mod write;

pub use defect::Defect;

/// Identifies this implementation in file meta information (0002,0012) and in associations (PS3.7 D.3.3.2). Made once
/// from a random UUID (PS3.5 B.2); it changes only when the implementation becomes another one.
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.66339462406593140659010881313374952439";

/// The version of the implementation, at most 16 characters: (0002,0013) and PS3.7 D.3.3.2.4.
pub const IMPLEMENTATION_VERSION_NAME: &str = "WAYSTATION_01";

/// The tags that more than one part looks for.
pub mod tags {
    use dicom_core::Tag;

    /// An item of a sequence, or a fragment.
    pub const ITEM: Tag = Tag(0xfffe, 0xe000);
    /// Ends an item of undefined length.
    pub const ITEM_DELIMITATION: Tag = Tag(0xfffe, 0xe00d);
    /// Ends a sequence of undefined length.
    pub const SEQUENCE_DELIMITATION: Tag = Tag(0xfffe, 0xe0dd);
    /// Instance Creation Date.
    pub const INSTANCE_CREATION_DATE: Tag = Tag(0x0008, 0x0012);
    /// Instance Creation Time.
    pub const INSTANCE_CREATION_TIME: Tag = Tag(0x0008, 0x0013);
    /// SOP Class UID.
    pub const SOP_CLASS_UID: Tag = Tag(0x0008, 0x0016);
    /// SOP Instance UID.
    pub const SOP_INSTANCE_UID: Tag = Tag(0x0008, 0x0018);
    /// Acquisition Date.
    pub const ACQUISITION_DATE: Tag = Tag(0x0008, 0x0022);
    /// Content Date.
    pub const CONTENT_DATE: Tag = Tag(0x0008, 0x0023);
    /// Acquisition DateTime.
    pub const ACQUISITION_DATE_TIME: Tag = Tag(0x0008, 0x002a);
    /// Acquisition Time.
    pub const ACQUISITION_TIME: Tag = Tag(0x0008, 0x0032);
    /// Content Time.
    pub const CONTENT_TIME: Tag = Tag(0x0008, 0x0033);
    /// Modality.
    pub const MODALITY: Tag = Tag(0x0008, 0x0060);
    /// Timezone Offset From UTC.
    pub const TIMEZONE_OFFSET_FROM_UTC: Tag = Tag(0x0008, 0x0201);
    /// Study Instance UID.
    pub const STUDY_INSTANCE_UID: Tag = Tag(0x0020, 0x000d);
    /// Series Instance UID.
    pub const SERIES_INSTANCE_UID: Tag = Tag(0x0020, 0x000e);
    /// Samples per Pixel.
    pub const SAMPLES_PER_PIXEL: Tag = Tag(0x0028, 0x0002);
    /// Planar Configuration.
    pub const PLANAR_CONFIGURATION: Tag = Tag(0x0028, 0x0006);
    /// Number of Frames.
    pub const NUMBER_OF_FRAMES: Tag = Tag(0x0028, 0x0008);
    /// Rows.
    pub const ROWS: Tag = Tag(0x0028, 0x0010);
    /// Columns.
    pub const COLUMNS: Tag = Tag(0x0028, 0x0011);
    /// Bits Allocated.
    pub const BITS_ALLOCATED: Tag = Tag(0x0028, 0x0100);
    /// Pixel Representation.
    pub const PIXEL_REPRESENTATION: Tag = Tag(0x0028, 0x0103);
    /// Waveform Bits Allocated.
    pub const WAVEFORM_BITS_ALLOCATED: Tag = Tag(0x5400, 0x1004);
    /// Pixel Data.
    pub const PIXEL_DATA: Tag = Tag(0x7fe0, 0x0010);
}
