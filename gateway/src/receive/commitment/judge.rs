//! Whether an instance is committed; the table is on the module's first page. Pure but for the looks at the index.

use super::Transaction;
use crate::association::negotiation::{Service, service};
use crate::config::CommitmentLevel;
use crate::dimse::commitment::Reference;
use crate::model::Uid;
use crate::spool::{Holding, Holdings, SpoolError};

/// Failure reasons (PS3.3 C.14.1.1).
const PROCESSING_FAILURE: u16 = 0x0110;
const NO_SUCH_OBJECT_INSTANCE: u16 = 0x0112;
const CLASS_INSTANCE_CONFLICT: u16 = 0x0119;
const CLASS_NOT_SUPPORTED: u16 = 0x0122;
const DUPLICATE_TRANSACTION_UID: u16 = 0x0131;

/// For each instance of a request, in its order, why it failed, or nothing if it is committed.
pub(super) type Verdicts = Vec<Option<u16>>;

/// What came of judging a transaction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Done(Verdicts),
    /// An instance has not been delivered to all its destinations.
    NotYet,
}

/// The verdict on one instance.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Committed,
    Failed(u16),
    NotYet,
}

/// Judges a transaction; `late` says that nothing is waited for any longer.
pub(super) fn judge(transaction: &Transaction, late: bool, holdings: &Holdings) -> Result<Judgement, SpoolError> {
    judge_with(transaction, late, |uid| holdings.of(uid))
}

fn judge_with(
    transaction: &Transaction,
    late: bool,
    mut holdings: impl FnMut(&Uid) -> Result<Vec<Holding>, SpoolError>,
) -> Result<Judgement, SpoolError> {
    let mut verdicts = Vec::with_capacity(transaction.references.len());
    for reference in &transaction.references {
        let verdict = if transaction.duplicate {
            Verdict::Failed(DUPLICATE_TRANSACTION_UID)
        } else {
            verdict(reference, transaction.level, &holdings(&reference.instance)?)
        };
        match verdict {
            Verdict::Committed => verdicts.push(None),
            Verdict::Failed(reason) => verdicts.push(Some(reason)),
            Verdict::NotYet if late => verdicts.push(Some(PROCESSING_FAILURE)),
            Verdict::NotYet => return Ok(Judgement::NotYet),
        }
    }
    Ok(Judgement::Done(verdicts))
}

fn verdict(reference: &Reference, level: CommitmentLevel, holdings: &[Holding]) -> Verdict {
    if service(&reference.class) != Service::Storage {
        return Verdict::Failed(CLASS_NOT_SUPPORTED);
    }
    if holdings.is_empty() {
        return Verdict::Failed(NO_SUCH_OBJECT_INSTANCE);
    }
    let meant: Vec<_> = holdings.iter().filter(|holding| holding.sop_class_uid == reference.class).collect();
    if meant.is_empty() {
        Verdict::Failed(CLASS_INSTANCE_CONFLICT)
    } else if meant.iter().any(|holding| holding.damaged) {
        // Of several that contradict each other nobody knows which one is meant: all must be in order.
        Verdict::Failed(PROCESSING_FAILURE)
    } else if level == CommitmentLevel::Safe || meant.iter().all(|holding| holding.waiting == 0) {
        Verdict::Committed
    } else {
        Verdict::NotYet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SpoolTime;
    use crate::model::Timestamp;

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
    const MR: &str = "1.2.840.10008.5.1.4.1.1.4";

    fn held(class: &str, damaged: bool, waiting: usize) -> Holding {
        Holding { sop_class_uid: class.parse().unwrap(), damaged, waiting }
    }

    #[test]
    fn each_instance_has_the_verdict_of_the_table() {
        use CommitmentLevel::{Delivered, Safe};
        let judged = |class: &str, level, held: &[Holding]| {
            let reference = Reference { class: class.parse().unwrap(), instance: "1.2.3".parse().unwrap() };
            verdict(&reference, level, held)
        };
        for level in [Safe, Delivered] {
            assert_eq!(judged(CT, level, &[]), Verdict::Failed(0x0112));
            assert_eq!(judged(CT, level, &[held(MR, false, 0)]), Verdict::Failed(0x0119));
            assert_eq!(judged("1.2.840.10008.1.1", level, &[held(CT, false, 0)]), Verdict::Failed(0x0122));
            assert_eq!(judged(CT, level, &[held(CT, true, 1)]), Verdict::Failed(0x0110));
            assert_eq!(judged(CT, level, &[held(CT, false, 0)]), Verdict::Committed);
            assert_eq!(judged(CT, level, &[held(CT, false, 0), held(CT, true, 1)]), Verdict::Failed(0x0110));
            assert_eq!(judged("1.2.3.4.5", level, &[held("1.2.3.4.5", false, 0)]), Verdict::Committed, "private");
        }
        assert_eq!(judged(CT, Safe, &[held(CT, false, 2)]), Verdict::Committed);
        assert_eq!(judged(CT, Delivered, &[held(CT, false, 2)]), Verdict::NotYet);
        assert_eq!(judged(CT, Delivered, &[held(CT, false, 0), held(CT, false, 1)]), Verdict::NotYet);
        assert_eq!(judged(CT, Delivered, &[held(CT, false, 0), held(MR, false, 1)]), Verdict::Committed);
    }

    #[test]
    fn what_is_not_delivered_when_the_patience_is_over_has_failed_and_the_rest_has_not() {
        let references = ["1.1", "1.2"]
            .map(|instance| Reference { class: CT.parse().unwrap(), instance: instance.parse().unwrap() });
        let mut transaction = Transaction {
            uid: "1.2.3".parse().unwrap(),
            modality: super::super::Party::Anybody("CT1".parse().unwrap()),
            called: "GATE".parse().unwrap(),
            accepted: SpoolTime(0),
            accepted_at: Timestamp::from_millis(0),
            level: CommitmentLevel::Delivered,
            duplicate: false,
            references: references.to_vec(),
        };
        let look = |uid: &Uid| Ok(vec![held(CT, false, usize::from(uid.as_str() == "1.2"))]);
        assert_eq!(judge_with(&transaction, false, look).unwrap(), Judgement::NotYet);
        assert_eq!(judge_with(&transaction, true, look).unwrap(), Judgement::Done(vec![None, Some(0x0110)]));
        transaction.level = CommitmentLevel::Safe;
        assert_eq!(judge_with(&transaction, false, look).unwrap(), Judgement::Done(vec![None, None]));
        transaction.duplicate = true;
        assert_eq!(judge_with(&transaction, false, look).unwrap(), Judgement::Done(vec![Some(0x0131); 2]));
    }
}
