//! The data sets of storage commitment (PS3.4 J.3), read and written: the action information of a request (table J.3-1)
//! and the event information of a report (table J.3-2). Both sides of the service are in the gateway, and both use this.
//!
//! Of a data set four things matter: Transaction UID, Referenced SOP Sequence, Failed SOP Sequence, and in its items the
//! Failure Reason. It is read as it streams in: the walk descends without recursion, holds one value of a UID's length at
//! a time, and stops looking when a bound is reached: its own, or the [`Budget`] of all that are being read. What follows
//! is read over.

mod budget;

use dicom_core::Tag;
use serde::{Deserialize, Serialize};

use super::Status;
use super::writer::Writer;
use crate::dataset::Defect;
use crate::dataset::transfer_syntax;
use crate::dataset::walker::{Event, Walker};
use crate::model::Uid;

pub use budget::{Budget, MOST_AT_ONCE, Share};

/// The one SOP instance of the push model (PS3.4 J.3.5).
pub const WELL_KNOWN_INSTANCE: &str = "1.2.840.10008.1.20.1.1";
/// Request Storage Commitment (PS3.4 J.3.2).
pub const REQUEST_COMMITMENT: u16 = 1;
/// Event type 1 (PS3.4 J.3.3): all instances are committed.
pub const ALL_COMMITTED: u16 = 1;
/// Event type 2: there are some that are not.
pub const FAILURES_EXIST: u16 = 2;

/// The most instances in one data set.
pub const MOST_REFERENCES: usize = 20_000;
/// The longest data set, in bytes.
pub const MOST_BYTES: u64 = 4 * 1024 * 1024;
/// A UID of 64 characters, and one more to see that a value is longer.
const LONGEST_VALUE: usize = 65;

const TRANSACTION_UID: Tag = Tag(0x0008, 0x1195);
const FAILURE_REASON: Tag = Tag(0x0008, 0x1197);
const FAILED_SOP_SEQUENCE: Tag = Tag(0x0008, 0x1198);
const REFERENCED_SOP_SEQUENCE: Tag = Tag(0x0008, 0x1199);
const REFERENCED_SOP_CLASS_UID: Tag = Tag(0x0008, 0x1150);
const REFERENCED_SOP_INSTANCE_UID: Tag = Tag(0x0008, 0x1155);

/// One instance that is asked for or reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Referenced SOP Class UID (0008,1150).
    pub class: Uid,
    /// Referenced SOP Instance UID (0008,1155).
    pub instance: Uid,
}

/// What a data set of storage commitment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Information {
    /// Transaction UID (0008,1195).
    pub transaction: Uid,
    /// Referenced SOP Sequence (0008,1199): what is asked for, or committed.
    pub references: Vec<Reference>,
    /// Failed SOP Sequence (0008,1198) of a report: each with its Failure Reason (0008,1197), 0110 where there is none.
    pub failed: Vec<(Reference, u16)>,
}

/// Why a data set says nothing. The sentences fit an Error Comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
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
    #[error("More than {MOST_REFERENCES} instances; use several transactions.")]
    TooManyReferences,
    /// Answered with 0213.
    #[error("More than 4 MiB; use several transactions.")]
    TooLong,
    /// Answered with 0213. It is not too much by itself.
    #[error("Too many instances are named at once; try again later.")]
    TooManyAtOnce,
}

impl Unusable {
    /// The status that it is answered with.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::TooManyReferences | Self::TooLong | Self::TooManyAtOnce => Status::RESOURCE_LIMITATION,
            _ => Status::INVALID_ARGUMENT_VALUE,
        }
    }
}

/// Reads a data set that is pushed.
#[derive(Debug)]
pub struct InformationReader {
    walker: Walker,
    found: Found,
    /// Of what all that are being read may hold.
    share: Share,
    length: u64,
    failed: Option<Unusable>,
}

/// In which sequence at the top an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Referenced,
    Failed,
}

#[derive(Debug, Default)]
struct Found {
    /// Sequences and items that are open.
    depth: u64,
    /// The open sequence at the top, if it is one that matters.
    place: Option<Place>,
    /// The element whose value passes, if it is wanted.
    wanted: Option<Tag>,
    value: Vec<u8>,
    uid: Option<Uid>,
    class: Option<Uid>,
    instance: Option<Uid>,
    reason: Option<u16>,
    references: Vec<Reference>,
    unfit: Vec<(Reference, u16)>,
    failed: Option<Unusable>,
}

impl InformationReader {
    /// A reader of a data set in this transfer syntax, which holds no more than it gets as its share.
    #[must_use]
    pub fn new(transfer_syntax: &Uid, share: Share) -> Self {
        let walker = Walker::descending(transfer_syntax::describe(transfer_syntax).encoding);
        Self { walker, share, found: Found::default(), length: 0, failed: None }
    }

    /// Takes the next bytes. After the first thing that is wrong they are only read over.
    pub fn feed(&mut self, bytes: &[u8]) {
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
        if let Some(failed) = walked.err().map(Unusable::Defect).or(self.found.failed) {
            self.fail(failed);
        } else if !self.share.cover(self.found.held()) {
            self.fail(Unusable::TooManyAtOnce);
        }
    }

    /// What was collected is of no use any more.
    fn fail(&mut self, failed: Unusable) {
        self.failed = Some(failed);
        self.found = Found::default();
        self.share.cover(0);
    }

    /// What the data set says, when there are no more bytes, and its share, which is to be held as long as that. It names
    /// one instance at least.
    ///
    /// # Errors
    /// It says nothing.
    pub fn finish(mut self) -> Result<(Information, Share), Unusable> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        if self.length == 0 {
            return Err(Defect::Empty.into());
        }
        let found = &mut self.found;
        self.walker.finish(&mut |event| found.take(event))?;
        let Found { uid, references, unfit, failed, .. } = self.found;
        match (failed, uid) {
            (Some(failed), _) => Err(failed),
            (None, None) => Err(Unusable::NoTransaction),
            (None, Some(_)) if references.is_empty() && unfit.is_empty() => Err(Unusable::NoReferences),
            (None, Some(transaction)) => Ok((Information { transaction, references, failed: unfit }, self.share)),
        }
    }
}

impl Found {
    fn held(&self) -> usize {
        self.references.len() + self.unfit.len()
    }

    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Element(element) => {
                let in_item = self.place.is_some() && self.depth == 2;
                let is_wanted = match element.tag {
                    TRANSACTION_UID => self.depth == 0,
                    REFERENCED_SOP_CLASS_UID | REFERENCED_SOP_INSTANCE_UID | FAILURE_REASON => in_item,
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
                if self.depth == 0 {
                    self.place = match element.tag {
                        REFERENCED_SOP_SEQUENCE => Some(Place::Referenced),
                        FAILED_SOP_SEQUENCE => Some(Place::Failed),
                        _ => None,
                    };
                }
                self.depth += 1;
            }
            Event::ItemStart { .. } => self.depth += 1,
            Event::ItemEnd { .. } => {
                if let Some(place) = self.place.filter(|_| self.depth == 2) {
                    self.refer(place);
                }
                self.depth = self.depth.saturating_sub(1);
            }
            Event::SequenceEnd { .. } => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    self.place = None;
                }
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
            Some(FAILURE_REASON) => {
                let reason = self.value.as_slice().try_into().ok().map(u16::from_le_bytes);
                self.reason = self.reason.or(reason);
                return;
            }
            _ => return,
        };
        if place.is_none() {
            *place = Uid::from_wire(&self.value).ok();
        }
    }

    fn refer(&mut self, place: Place) {
        let reason = self.reason.take().unwrap_or(Status::PROCESSING_FAILURE.0);
        match (self.class.take(), self.instance.take()) {
            _ if self.held() >= MOST_REFERENCES => self.failed = Some(Unusable::TooManyReferences),
            (Some(class), Some(instance)) => {
                let reference = Reference { class, instance };
                match place {
                    Place::Referenced => self.references.push(reference),
                    Place::Failed => self.unfit.push((reference, reason)),
                }
            }
            _ => self.failed = self.failed.or(Some(Unusable::BadReference)),
        }
    }
}

/// Writes a data set in this transfer syntax; `references` are what is asked for or committed.
pub fn write<'a>(
    transaction: &Uid,
    references: impl IntoIterator<Item = &'a Reference>,
    failed: impl IntoIterator<Item = (&'a Reference, u16)>,
    transfer_syntax: &Uid,
) -> Vec<u8> {
    let writer = Writer::new(transfer_syntax);
    let (mut held, mut unfit) = (Vec::new(), Vec::new());
    references.into_iter().for_each(|reference| item(writer, &mut held, reference, None));
    failed.into_iter().for_each(|(reference, reason)| item(writer, &mut unfit, reference, Some(reason)));
    let mut information = Vec::with_capacity(held.len() + unfit.len() + 128);
    writer.uid(&mut information, TRANSACTION_UID, transaction);
    if !unfit.is_empty() {
        writer.sequence(&mut information, FAILED_SOP_SEQUENCE, &unfit);
    }
    if !held.is_empty() {
        writer.sequence(&mut information, REFERENCED_SOP_SEQUENCE, &held);
    }
    information
}

fn item(writer: Writer, out: &mut Vec<u8>, reference: &Reference, reason: Option<u16>) {
    let mut item = Vec::with_capacity(192);
    writer.uid(&mut item, REFERENCED_SOP_CLASS_UID, &reference.class);
    writer.uid(&mut item, REFERENCED_SOP_INSTANCE_UID, &reference.instance);
    if let Some(reason) = reason {
        writer.number(&mut item, FAILURE_REASON, reason);
    }
    Writer::item(out, &item);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::transfer_syntax::{EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN};

    const SYNTAXES: [&str; 2] = [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN];

    fn uid(text: &str) -> Uid {
        text.parse().unwrap()
    }

    fn reference(instance: &str) -> Reference {
        Reference { class: uid("1.2.840.10008.5.1.4.1.1.2"), instance: uid(instance) }
    }

    fn read(bytes: &[u8], piece: usize, syntax: &str) -> Result<Information, Unusable> {
        let mut reader = InformationReader::new(&uid(syntax), Budget::new(MOST_AT_ONCE).share());
        bytes.chunks(piece).for_each(|piece| reader.feed(piece));
        reader.finish().map(|(information, _)| information)
    }

    #[test]
    fn a_report_with_failures_is_the_same_however_it_is_written_and_cut() {
        let committed = ["1.2.1", "1.2.2"].map(reference).to_vec();
        let failed = vec![(reference("1.2.3"), 0x0112), (reference("1.2.4"), 0x0119)];
        let transaction = uid("2.25.1");
        let expected = Information { transaction, references: committed, failed };
        for syntax in SYNTAXES {
            let failed = expected.failed.iter().map(|(reference, reason)| (reference, *reason));
            let bytes = write(&expected.transaction, &expected.references, failed, &uid(syntax));
            for piece in [1, 7, bytes.len()] {
                assert_eq!(read(&bytes, piece, syntax).unwrap(), expected);
            }
        }
    }

    #[test]
    fn a_failure_without_a_reason_is_one_of_processing_and_reasons_do_not_wander() {
        let transaction = uid("2.25.1");
        let syntax = uid(IMPLICIT_VR_LITTLE_ENDIAN);
        let both = [(&reference("1.1"), 0x0112), (&reference("1.2"), 0x0213)];
        let mut bytes = write(&transaction, [], both, &syntax);
        // The second reason becomes a private element.
        let at = bytes.windows(4).rposition(|tag| tag == b"\x08\x00\x97\x11").unwrap();
        bytes[at..at + 4].copy_from_slice(b"\x09\x00\x97\x11");
        let failed = read(&bytes, 9, IMPLICIT_VR_LITTLE_ENDIAN).unwrap().failed;
        assert_eq!(failed, [(reference("1.1"), 0x0112), (reference("1.2"), 0x0110)]);
    }

    #[test]
    fn the_limit_counts_both_sequences_and_beyond_it_nothing_is_held() {
        let all: Vec<_> = (0..=MOST_REFERENCES).map(|number| reference(&format!("1.2.{number}"))).collect();
        let (committed, failed) = all.split_at(10);
        let failed = failed.iter().map(|reference| (reference, 0x0112));
        let bytes = write(&uid("2.25.1"), committed, failed, &uid(EXPLICIT_VR_LITTLE_ENDIAN));
        let budget = Budget::new(MOST_AT_ONCE);
        let mut reader = InformationReader::new(&uid(EXPLICIT_VR_LITTLE_ENDIAN), budget.share());
        reader.feed(&bytes);
        assert!(budget.share().cover(MOST_AT_ONCE));
        let error = reader.finish().unwrap_err();
        assert_eq!((error, error.status()), (Unusable::TooManyReferences, Status::RESOURCE_LIMITATION));
    }
}
