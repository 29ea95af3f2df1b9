//! The event information of a report (PS3.4 table J.3-2), written in the transfer syntax of its presentation context.

use dicom_core::Tag;

use super::judge::Verdicts;
use super::request::{REFERENCED_SOP_CLASS_UID, REFERENCED_SOP_INSTANCE_UID, REFERENCED_SOP_SEQUENCE, TRANSACTION_UID};
use super::{Reference, Transaction};
use crate::dataset::tags;
use crate::dataset::transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN;
use crate::dataset::vr::Vr;
use crate::dataset::write::{Header, explicit_header, implicit_header};
use crate::model::Uid;

const FAILURE_REASON: Tag = Tag(0x0008, 0x1197);
const FAILED_SOP_SEQUENCE: Tag = Tag(0x0008, 0x1198);

/// Event type 1: all instances are committed.
const ALL_COMMITTED: u16 = 1;
/// Event type 2: there are some that are not.
const FAILURES_EXIST: u16 = 2;

/// What a report says, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// Instances that are committed.
    pub(super) committed: usize,
    /// Instances that are not.
    pub(super) failed: usize,
}

/// A report that can be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) event_type: u16,
    pub(super) information: Vec<u8>,
    pub(super) told: Told,
}

/// Writes the report of a transaction.
pub(super) fn write(transaction: &Transaction, verdicts: &Verdicts, transfer_syntax: &Uid) -> Report {
    let writer = Writer { implicit: transfer_syntax.as_str() == IMPLICIT_VR_LITTLE_ENDIAN };
    let (mut committed, mut failed) = (Vec::new(), Vec::new());
    let (mut count, mut failures) = (0, 0);
    for (reference, verdict) in transaction.references.iter().zip(verdicts) {
        match verdict {
            None => {
                count += 1;
                writer.item(&mut committed, reference, None);
            }
            Some(reason) => {
                failures += 1;
                writer.item(&mut failed, reference, Some(*reason));
            }
        }
    }
    let mut information = Vec::with_capacity(committed.len() + failed.len() + 128);
    writer.uid(&mut information, TRANSACTION_UID, &transaction.uid);
    if !failed.is_empty() {
        writer.sequence(&mut information, FAILED_SOP_SEQUENCE, &failed);
    }
    if !committed.is_empty() {
        writer.sequence(&mut information, REFERENCED_SOP_SEQUENCE, &committed);
    }
    let event_type = if failures == 0 { ALL_COMMITTED } else { FAILURES_EXIST };
    Report { event_type, information, told: Told { committed: count, failed: failures } }
}

struct Writer {
    implicit: bool,
}

impl Writer {
    fn header(&self, tag: Tag, vr: Vr, length: usize) -> Header {
        // Bounded by what a request may hold, which has 4 MiB.
        let length = Some(u32::try_from(length).unwrap_or(0));
        match self.implicit {
            true => implicit_header(tag, length),
            // A UI and a US are never too long for the short form.
            false => explicit_header(tag, vr, length).unwrap_or_else(|| implicit_header(tag, length)),
        }
    }

    fn uid(&self, out: &mut Vec<u8>, tag: Tag, uid: &Uid) {
        let value = uid.as_str().as_bytes();
        let padding = value.len() % 2;
        out.extend_from_slice(self.header(tag, Vr::UI, value.len() + padding).as_bytes());
        out.extend_from_slice(value);
        out.extend(std::iter::repeat_n(0, padding));
    }

    fn item(&self, out: &mut Vec<u8>, reference: &Reference, reason: Option<u16>) {
        let mut item = Vec::with_capacity(192);
        self.uid(&mut item, REFERENCED_SOP_CLASS_UID, &reference.class);
        self.uid(&mut item, REFERENCED_SOP_INSTANCE_UID, &reference.instance);
        if let Some(reason) = reason {
            item.extend_from_slice(self.header(FAILURE_REASON, Vr::US, 2).as_bytes());
            item.extend_from_slice(&reason.to_le_bytes());
        }
        let length = u32::try_from(item.len()).unwrap_or(0);
        out.extend_from_slice(implicit_header(tags::ITEM, Some(length)).as_bytes());
        out.extend_from_slice(&item);
    }

    fn sequence(&self, out: &mut Vec<u8>, tag: Tag, items: &[u8]) {
        out.extend_from_slice(self.header(tag, Vr::SQ, items.len()).as_bytes());
        out.extend_from_slice(items);
    }
}
