//! Status codes by name and by what they mean (PS3.7 Annex C, PS3.4 B.2.3).
//!
//! A code is kept as the peer sent it. What it means for a person is [`Status::sentence`], what it means for a sender
//! of instances is [`Status::store_outcome`]; both are total: an unknown code has a class and an outcome, too.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A DIMSE status, (0000,0900), as the peer sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Status(pub u16);

/// The kind of a status (PS3.7 C.1 to C.5; the failures of storage apart, as PS3.4 B.2.3 does).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusClass {
    /// 0000.
    Success,
    /// FF00 and FF01: more answers follow. No answer to C-ECHO or C-STORE.
    Pending,
    /// FE00.
    Cancelled,
    /// 0001, 0107, 0116 and Bxxx: done, with a remark.
    Warning,
    /// A7xx: the peer has no room at the moment.
    OutOfResources,
    /// A9xx: the data set is not of the SOP class that the command names.
    DataSetDoesNotMatch,
    /// Cxxx: the peer could not make sense of the data set.
    CannotUnderstand,
    /// Everything else.
    Failure,
}

/// What an answer to C-STORE means for the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOutcome {
    /// The peer has stored the instance.
    Delivered,
    /// The peer has stored the instance and remarks something, such as a coerced attribute; worth a line in the log.
    DeliveredWithWarning,
    /// The peer lacks room at the moment: the instance itself is in order, so retry with backoff, for ever.
    RetryLater,
    /// The peer does not take this instance. A few tries, then park it with the sentence; others flow on.
    FewTriesThenPark,
}

impl Status {
    /// Done, without remark.
    pub const SUCCESS: Self = Self(0x0000);
    /// PS3.7 C.5.22: a failure in processing, of no other kind.
    pub const PROCESSING_FAILURE: Self = Self(0x0110);
    /// PS3.7 C.5.12: there is no such SOP instance.
    pub const NO_SUCH_OBJECT_INSTANCE: Self = Self(0x0112);
    /// PS3.7 C.5.9: there is no such type of event.
    pub const NO_SUCH_EVENT_TYPE: Self = Self(0x0113);
    /// PS3.7 C.5.5: the value of an argument is not allowed.
    pub const INVALID_ARGUMENT_VALUE: Self = Self(0x0115);
    /// PS3.7 C.5.6: there is an instance with this UID already.
    pub const DUPLICATE_INSTANCE: Self = Self(0x0111);
    /// PS3.7 C.5.7: the SOP instance UID breaks the rules for UIDs.
    pub const INVALID_SOP_INSTANCE: Self = Self(0x0117);
    /// PS3.7 C.5.11: there is no such SOP class.
    pub const NO_SUCH_SOP_CLASS: Self = Self(0x0118);
    /// PS3.7 C.5.3: the SOP instance is not of the SOP class.
    pub const CLASS_INSTANCE_CONFLICT: Self = Self(0x0119);
    /// PS3.7 C.5.21.
    pub const SOP_CLASS_NOT_SUPPORTED: Self = Self(0x0122);
    /// PS3.7 C.5.8: there is no such type of action.
    pub const NO_SUCH_ACTION: Self = Self(0x0123);
    /// PS3.7 C.5.25.
    pub const NOT_AUTHORIZED: Self = Self(0x0124);
    /// PS3.3 C.14.1.1: the transaction UID of storage commitment is in use already.
    pub const DUPLICATE_TRANSACTION: Self = Self(0x0131);
    /// PS3.7 C.5.23: the operation is not one that was agreed on.
    pub const UNRECOGNIZED_OPERATION: Self = Self(0x0211);
    /// PS3.7 C.5.15: a parameter is missing or not of its type.
    pub const MISTYPED_ARGUMENT: Self = Self(0x0212);
    /// PS3.7 C.5.26: a limit of resources is reached.
    pub const RESOURCE_LIMITATION: Self = Self(0x0213);
    /// PS3.4 B.2.3, A700: no room.
    pub const OUT_OF_RESOURCES: Self = Self(0xA700);
    /// PS3.4 B.2.3, A900: the data set is not what the command announced.
    pub const DATA_SET_DOES_NOT_MATCH: Self = Self(0xA900);
    /// PS3.4 B.2.3, C000.
    pub const CANNOT_UNDERSTAND: Self = Self(0xC000);

    /// The kind of this status.
    #[must_use]
    pub fn class(self) -> StatusClass {
        match self.0 {
            0x0000 => StatusClass::Success,
            0xFF00 | 0xFF01 => StatusClass::Pending,
            0xFE00 => StatusClass::Cancelled,
            0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF => StatusClass::Warning,
            0xA700..=0xA7FF => StatusClass::OutOfResources,
            0xA900..=0xA9FF => StatusClass::DataSetDoesNotMatch,
            0xC000..=0xCFFF => StatusClass::CannotUnderstand,
            _ => StatusClass::Failure,
        }
    }

    /// What this status says, for a person.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self.0 {
            0x0000 => "success",
            0x0001 => "done, but an optional parameter is not supported",
            0x0105 => "the attribute is not known there",
            0x0106 => "the value of an attribute is not allowed there",
            0x0107 => "done, but an attribute is not known there",
            0x0110 => "processing failed there for a reason that it does not name; its own log may",
            0x0111 => "an instance with this UID is there already",
            0x0112 => "the SOP instance is not known there",
            0x0113 => "the type of event is not known there",
            0x0114 => "an argument is not known there",
            0x0115 => "the value of an argument is not allowed there",
            0x0116 => "done, but the value of an attribute is out of range",
            0x0117 => "the SOP instance UID breaks the rules for UIDs",
            0x0118 => "the SOP class is not known there",
            0x0119 => "the SOP instance is of another SOP class than the command says",
            0x0120 => "an attribute is missing",
            0x0121 => "the value of an attribute is missing",
            0x0122 => "the SOP class is not supported there, or not for us",
            0x0123 => "the type of action is not known there",
            0x0131 => "the transaction UID is in use already",
            0x0124 => "refused: not authorized; the peer does not allow us this operation",
            0x0210 => "the message ID is in use already",
            0x0211 => "the operation is not one that was agreed on",
            0x0212 => "a parameter is missing or not of its type",
            0x0213 => "refused: a limit of resources is reached there",
            0xA700 => "refused: out of resources; no room there at the moment",
            0xA701 => "refused: out of resources to count the matches",
            0xA702 => "refused: out of resources to do the transfers",
            0xA801 => "refused: the move destination is not known there",
            0xA900 => "the data set is not of the SOP class that the command names",
            0xB000 => "stored, with data elements coerced to other values",
            0xB006 => "stored, with elements discarded",
            0xB007 => "stored, though the data set is not of the SOP class that the command names",
            0xC000 => "the data set could not be understood there",
            0xFE00 => "the operation was cancelled",
            0xFF00 | 0xFF01 => "not finished: more answers follow",
            0xFFFF => "failed, with a code that means nothing",
            _ => match self.class() {
                StatusClass::Success => "success",
                StatusClass::Pending => "not finished: more answers follow",
                StatusClass::Cancelled => "the operation was cancelled",
                StatusClass::Warning => "done, with a warning that is particular to the peer",
                StatusClass::OutOfResources => "refused: out of resources, for a reason that is particular to the peer",
                StatusClass::DataSetDoesNotMatch => "the data set is not of the SOP class that the command names",
                StatusClass::CannotUnderstand => "the data set could not be understood there",
                StatusClass::Failure => {
                    "failed, with a code that is particular to the peer; its documentation says why"
                }
            },
        }
    }

    /// What this answer to C-STORE means for the sender.
    #[must_use]
    pub fn store_outcome(self) -> StoreOutcome {
        // 0213 is resource limitation by another name (PS3.7 C.5.26): passing, like A7xx.
        if self.0 == 0x0213 {
            return StoreOutcome::RetryLater;
        }
        match self.class() {
            StatusClass::Success => StoreOutcome::Delivered,
            StatusClass::Warning => StoreOutcome::DeliveredWithWarning,
            StatusClass::OutOfResources => StoreOutcome::RetryLater,
            StatusClass::Pending
            | StatusClass::Cancelled
            | StatusClass::DataSetDoesNotMatch
            | StatusClass::CannotUnderstand
            | StatusClass::Failure => StoreOutcome::FewTriesThenPark,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X} ({})", self.0, self.sentence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_to_c_store_means() {
        let outcome = |code| Status(code).store_outcome();
        assert_eq!(outcome(0x0000), StoreOutcome::Delivered);
        for code in [0x0001, 0x0107, 0x0116, 0xB000, 0xB006, 0xB007, 0xB123] {
            assert_eq!(outcome(code), StoreOutcome::DeliveredWithWarning, "{code:04X}");
        }
        for code in [0xA700, 0xA701, 0xA7FF, 0x0213] {
            assert_eq!(outcome(code), StoreOutcome::RetryLater, "{code:04X}");
        }
        for code in [0xA900, 0xA9FF, 0xC000, 0xCFFF, 0x0122, 0x0124, 0x0110, 0x0111, 0xFFFF, 0xFF00, 0xFE00, 0xA800] {
            assert_eq!(outcome(code), StoreOutcome::FewTriesThenPark, "{code:04X}");
        }
    }

    #[test]
    fn every_code_has_a_sentence_and_only_what_was_stored_counts_as_delivered() {
        for code in 0..=u16::MAX {
            let status = Status(code);
            assert!(!status.sentence().is_empty());
            let delivered =
                matches!(status.store_outcome(), StoreOutcome::Delivered | StoreOutcome::DeliveredWithWarning);
            let stored = matches!(code, 0 | 1 | 0x0107 | 0x0116 | 0xB000..=0xBFFF);
            assert_eq!(delivered, stored, "{code:04X}");
        }
    }

    #[test]
    fn a_status_is_shown_with_its_code_and_its_sentence() {
        let shown = Status::OUT_OF_RESOURCES.to_string();
        assert_eq!(shown, "A700 (refused: out of resources; no room there at the moment)");
    }
}
