//! The report of a transaction, from the verdicts.

use super::Transaction;
use super::judge::Verdicts;
use crate::dimse::commitment::{self, ALL_COMMITTED, FAILURES_EXIST};
use crate::model::Uid;

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
    let judged = || transaction.references.iter().zip(verdicts);
    let committed = judged().filter(|(_, verdict)| verdict.is_none()).map(|(reference, _)| reference);
    let failed = judged().filter_map(|(reference, verdict)| verdict.map(|reason| (reference, reason)));
    let information = commitment::write(&transaction.uid, committed, failed, transfer_syntax);
    let failures = verdicts.iter().flatten().count();
    let event_type = if failures == 0 { ALL_COMMITTED } else { FAILURES_EXIST };
    Report { event_type, information, told: Told { committed: judged().count() - failures, failed: failures } }
}
