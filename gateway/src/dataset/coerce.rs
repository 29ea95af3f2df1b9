//! Coercion (PS3.4 B.4.1.3): a data set with a few attributes changed for one destination, and an item that says so in
//! Original Attributes Sequence (PS3.3 C.12.1.1.9).
//!
//! What is stored stays as it is; the changed data set is another stream, made whenever it is sent. Three passes over the
//! stored one, each with memory that does not depend on it:
//!
//! ```text
//! 1. plan     walk ─▶ the original values, where things are, a digest of everything else ─▶ Plan: a few Edits
//! 2. verify   rewrite ─▶ walk again: are the values as planned, and is everything else the same? ─▶ length, SHA-256
//! 3. Rewriter rewrite, for the wire
//! ```
//!
//! A plan is a list of places in the (inflated) bytes at which some are taken out and others put in, so every byte that no
//! plan mentions leaves as it came, whatever it is. A plan is made again for every attempt, of the same bytes and with the
//! same words, so the same instance leaves with the same bytes however often it is tried.
//!
//! # What is changed
//!
//! Texts at the top level, by [`Change`]: never what identifies an instance, describes its pixels or its encoding
//! ([`values::changeable`]). With them change: Original Attributes Sequence (0400,0561), which gets one more item behind those
//! that it has; and group lengths (gggg,0000) of the groups that became longer or shorter, if the data set has them.
//!
//! The item holds what PS3.3 asks for; Modified Attributes Sequence (0400,0550) has the values byte for byte as they
//! were. An attribute that was not there is in it without a value, so that it shows what was added. A data set in which
//! everything is as wanted already is not touched at all.
//!
//! # What is refused
//!
//! Whatever could not be undone or understood by a reader of the result ([`CoerceError`]): nothing is cut to fit, nothing is
//! guessed. Where a text has several values, a change applies to each of them if its VR is one without other character sets;
//! otherwise a backslash may be half of a letter, and the change is refused. Configured texts are ASCII, which is the same
//! in all character sets of DICOM.

mod outline;
mod plan;
mod rewrite;
#[cfg(test)]
mod tests;
pub mod values;

use std::io;

use dicom_core::Tag;

pub use self::plan::{Plan, plan};
pub use self::rewrite::{Proven, Rewriter, verify};

use super::defect::Defect;
use super::vr::Vr;

/// One attribute, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The attribute: a text at the top level.
    pub tag: Tag,
    /// Its VR in the dictionary.
    pub vr: Vr,
    /// What becomes of it.
    pub action: Action,
}

/// What becomes of an attribute. Texts are ASCII, without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is this, whether it was there or not.
    Set(String),
    /// It is not there.
    Remove,
    /// This is put in front of its value, unless it begins so already. A value that is missing or empty stays so.
    Prefix(String),
    /// This is put behind its value, unless it ends so already. A value that is missing or empty stays so.
    Suffix(String),
    /// A value that is the first of a pair becomes the second.
    Map(Vec<(String, String)>),
}

/// What is to be changed, and what the item says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coercing {
    /// Each attribute once.
    pub changes: Vec<Change>,
    /// Attribute Modification DateTime (0400,0562), a DT.
    pub when: String,
    /// Modifying System (0400,0563), an LO.
    pub by: String,
}

/// Why a data set cannot be coerced. The message is for the person who finds the delivery parked; it holds tags and
/// lengths, never a value.
#[derive(Debug, thiserror::Error)]
pub enum CoerceError {
    /// It cannot be followed.
    #[error(transparent)]
    Defect(#[from] Defect),
    /// The new value does not fit its VR.
    #[error("{tag} would become what {vr} does not allow: {problem}")]
    Value {
        /// The attribute.
        tag: Tag,
        /// Its VR.
        vr: Vr,
        /// What is wrong.
        problem: String,
    },
    /// A text with other character sets that has several values.
    #[error("{0} has several values, of which it is not sure where they begin")]
    SeveralValues(Tag),
    /// The data set has it in a VR that is no text.
    #[error("{tag} is {vr} in this data set, which is no text")]
    NoText {
        /// The attribute.
        tag: Tag,
        /// Its VR in the data set.
        vr: Vr,
    },
    /// A value that is too long to be kept.
    #[error("{0} is longer than an original value may be")]
    TooLong(Tag),
    /// An attribute that stands there twice.
    #[error("{0} stands in the data set twice")]
    Twice(Tag),
    /// Original Attributes Sequence is there, and no sequence.
    #[error("Original Attributes Sequence (0400,0561) is there in a form to which no item can be added")]
    Originals,
    /// A signature would not verify any more.
    #[error("the data set carries a digital signature (FFFA,FFFA), which a change could break")]
    Signed,
    /// The offsets of a DICOMDIR would be wrong.
    #[error("{0} holds byte offsets that a change would make wrong")]
    Directory(Tag),
    /// The result is not what it is to be; nothing of it has been sent. A bug of ours.
    #[error("the changed data set is not what it is to be, so it was not sent")]
    Different,
    /// The source could not be read.
    #[error("the stored data set cannot be read: {0}")]
    Read(#[source] io::Error),
}
