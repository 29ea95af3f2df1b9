//! The action information of a request (PS3.4 table J.3-1), read as it streams in.
//!
//! Two attributes matter: Transaction UID and Referenced SOP Sequence. The walk descends without recursion, holds one
//! value of a UID's length at a time, and stops looking when either bound is reached; what follows is read over.

use dicom_core::Tag;

use super::Reference;
use super::budget::Share;
use crate::dataset::Defect;
use crate::dataset::transfer_syntax;
use crate::dataset::walker::{Event, Walker};
use crate::model::Uid;

/// The most instances in one request.
pub(super) const MOST_REFERENCES: usize = 20_000;
/// The longest action information, in bytes.
pub(super) const MOST_BYTES: u64 = 4 * 1024 * 1024;
/// A UID of 64 characters, and one more to see that a value is longer.
const LONGEST_VALUE: usize = 65;

pub(super) const TRANSACTION_UID: Tag = Tag(0x0008, 0x1195);
pub(super) const REFERENCED_SOP_SEQUENCE: Tag = Tag(0x0008, 0x1199);
pub(super) const REFERENCED_SOP_CLASS_UID: Tag = Tag(0x0008, 0x1150);
pub(super) const REFERENCED_SOP_INSTANCE_UID: Tag = Tag(0x0008, 0x1155);

/// What a modality asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) uid: Uid,
    pub(super) references: Vec<Reference>,
}

/// Why action information is no request. The sentences fit an Error Comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    /// Answered with 0115.
    #[error("{0}")]
    Defect(#[from] Defect),
    /// Answered with 0115.
    #[error("Transaction UID (0008,1195) is missing or not a UID.")]
    NoTransaction,
    /// Answered with 0115.
    #[error("Referenced SOP Sequence (0008,1199) is missing or empty.")]
    NoReferences,
    /// Answered with 0115.
    #[error("An item of (0008,1199) lacks a valid class or instance UID.")]
    BadReference,
    /// Answered with 0213.
    #[error("More than {MOST_REFERENCES} instances; ask in several transactions.")]
    TooManyReferences,
    /// Answered with 0213.
    #[error("More than 4 MiB; ask in several transactions.")]
    TooLong,
    /// Answered with 0213. It is not too much by itself.
    #[error("Too many instances are asked for at once; ask again later.")]
    TooManyAtOnce,
}

impl Unusable {
    /// Whether less, or the same at another time, would be taken.
    pub(super) fn is_too_much(self) -> bool {
        matches!(self, Self::TooManyReferences | Self::TooLong | Self::TooManyAtOnce)
    }
}

/// Reads action information that is pushed.
#[derive(Debug)]
pub(super) struct RequestReader {
    walker: Walker,
    found: Found,
    /// Of what all requests that are being read may hold.
    share: Share,
    length: u64,
    failed: Option<Unusable>,
}

#[derive(Debug, Default)]
struct Found {
    /// Sequences and items that are open.
    depth: u64,
    /// The open sequence at the top is the one that matters.
    in_references: bool,
    /// The element whose value passes, if it is wanted.
    wanted: Option<Tag>,
    value: Vec<u8>,
    uid: Option<Uid>,
    class: Option<Uid>,
    instance: Option<Uid>,
    references: Vec<Reference>,
    failed: Option<Unusable>,
}

impl RequestReader {
    /// A reader of action information in this transfer syntax, which holds no more than it gets as its share.
    pub(super) fn new(transfer_syntax: &Uid, share: Share) -> Self {
        let walker = Walker::descending(transfer_syntax::describe(transfer_syntax).encoding);
        Self { walker, share, found: Found::default(), length: 0, failed: None }
    }

    /// Takes the next bytes. After the first thing that is wrong they are only read over.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        self.length += bytes.len() as u64;
        if self.length > MOST_BYTES {
            self.fail(Unusable::TooLong);
            return;
        }
        let found = &mut self.found;
        let walked = self.walker.feed(bytes, &mut |event| found.take(event));
        let failed = walked.err().map(Unusable::Defect).or(self.found.failed);
        if let Some(failed) = failed {
            self.fail(failed);
        } else if !self.share.cover(self.found.references.len()) {
            self.fail(Unusable::TooManyAtOnce);
        }
    }

    /// What was collected is of no use any more.
    fn fail(&mut self, failed: Unusable) {
        self.failed = Some(failed);
        self.found = Found::default();
        self.share.cover(0);
    }

    /// The request, when there are no more bytes, and its share, which is to be held as long as the request.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn finish(mut self) -> Result<(Request, Share), Unusable> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        if self.length == 0 {
            return Err(Defect::Empty.into());
        }
        let found = &mut self.found;
        self.walker.finish(&mut |event| found.take(event))?;
        let Found { uid, references, failed, .. } = self.found;
        match (failed, uid) {
            (Some(failed), _) => Err(failed),
            (None, None) => Err(Unusable::NoTransaction),
            (None, Some(_)) if references.is_empty() => Err(Unusable::NoReferences),
            (None, Some(uid)) => Ok((Request { uid, references }, self.share)),
        }
    }
}

impl Found {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Element(element) => {
                let is_wanted = match element.tag {
                    TRANSACTION_UID => self.depth == 0,
                    REFERENCED_SOP_CLASS_UID | REFERENCED_SOP_INSTANCE_UID => self.in_references && self.depth == 2,
                    _ => false,
                };
                self.wanted = is_wanted.then_some(element.tag);
                self.value.clear();
            }
            Event::Value(piece) if self.wanted.is_some() => {
                let room = LONGEST_VALUE.saturating_sub(self.value.len());
                self.value.extend(piece.iter().take(room));
            }
            Event::ValueEnd => self.keep(),
            Event::SequenceStart(element) => {
                self.in_references |= self.depth == 0 && element.tag == REFERENCED_SOP_SEQUENCE;
                self.depth += 1;
            }
            Event::ItemStart { .. } => self.depth += 1,
            Event::ItemEnd { .. } => {
                if self.in_references && self.depth == 2 {
                    self.refer();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            Event::SequenceEnd { .. } => {
                self.depth = self.depth.saturating_sub(1);
                self.in_references &= self.depth > 0;
            }
            _ => {}
        }
    }

    /// A wanted value is complete. An attribute that occurs twice is the first one.
    fn keep(&mut self) {
        let place = match self.wanted.take() {
            Some(TRANSACTION_UID) => &mut self.uid,
            Some(REFERENCED_SOP_CLASS_UID) => &mut self.class,
            Some(REFERENCED_SOP_INSTANCE_UID) => &mut self.instance,
            _ => return,
        };
        if place.is_none() {
            *place = Uid::from_wire(&self.value).ok();
        }
    }

    fn refer(&mut self) {
        match (self.class.take(), self.instance.take()) {
            _ if self.references.len() >= MOST_REFERENCES => self.failed = Some(Unusable::TooManyReferences),
            (Some(class), Some(instance)) => self.references.push(Reference { class, instance }),
            _ => self.failed = self.failed.or(Some(Unusable::BadReference)),
        }
    }
}
