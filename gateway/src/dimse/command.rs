//! Requests (PS3.7 9.3 and 10.3), typed.

use super::command_set::{CommandSet, CommandSetError, Encoder, NO_DATA_SET, Tag, WITH_DATA_SET, element};
use super::normalized::{self, NAction, NEventReport};
use super::{Response, Status};
use crate::model::{AeTitle, Priority, Uid};

/// Command Field (0000,0100), PS3.7 E.1.
pub(super) mod field {
    pub(in crate::dimse) const C_STORE_RQ: u16 = 0x0001;
    pub(in crate::dimse) const C_FIND_RQ: u16 = 0x0020;
    pub(in crate::dimse) const C_ECHO_RQ: u16 = 0x0030;
    pub(in crate::dimse) const N_EVENT_REPORT_RQ: u16 = 0x0100;
    pub(in crate::dimse) const N_ACTION_RQ: u16 = 0x0130;
    pub(in crate::dimse) const C_CANCEL_RQ: u16 = 0x0FFF;
    /// Set in every response, clear in every request.
    pub(in crate::dimse) const RESPONSE: u16 = 0x8000;
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// C-ECHO-RQ (PS3.7 9.3.5.1).
    CEcho(CEcho),
    /// C-STORE-RQ (PS3.7 9.3.1.1).
    CStore(CStore),
    /// C-FIND-RQ (PS3.7 9.3.2.1). It is asked here and never answered: [`Command::refusal`] does.
    CFind(CFind),
    /// N-ACTION-RQ (PS3.7 10.3.5.1).
    NAction(NAction),
    /// N-EVENT-REPORT-RQ (PS3.7 10.3.1.1).
    NEventReport(NEventReport),
    /// C-CANCEL-RQ (PS3.7 9.3.2.3): has no answer, and is ignored, because nothing here can be cancelled.
    CCancel {
        /// The request that is to be cancelled: Message ID Being Responded To (0000,0120).
        message_id: u16,
    },
    /// An operation that is not offered; [`Command::refusal`] answers it.
    Unknown {
        /// Command Field (0000,0100).
        field: u16,
        /// Message ID (0000,0110).
        message_id: u16,
    },
    /// A C-STORE-RQ, N-ACTION-RQ or N-EVENT-REPORT-RQ of which a field is missing or unusable; [`Command::refusal`]
    /// answers it.
    Invalid {
        /// Command Field (0000,0100).
        field: u16,
        /// Message ID (0000,0110).
        message_id: u16,
        /// The status to answer with.
        status: Status,
        /// What is wrong, in at most 64 characters.
        comment: &'static str,
        /// The element that is missing or unusable.
        offending: Tag,
    },
}

/// C-ECHO-RQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CEcho {
    /// Message ID (0000,0110).
    pub message_id: u16,
    /// Affected SOP Class UID (0000,0002), the Verification SOP class; some devices leave it out.
    pub sop_class_uid: Option<Uid>,
}

/// C-FIND-RQ. Its identifier follows as a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CFind {
    /// Message ID (0000,0110).
    pub message_id: u16,
    /// Affected SOP Class UID (0000,0002).
    pub sop_class_uid: Uid,
    /// Priority (0000,0700); medium where it is missing.
    pub priority: Priority,
}

/// C-STORE-RQ. A data set follows always; one that was announced as absent counts as empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CStore {
    /// Message ID (0000,0110).
    pub message_id: u16,
    /// Affected SOP Class UID (0000,0002).
    pub sop_class_uid: Uid,
    /// Affected SOP Instance UID (0000,1000).
    pub sop_instance_uid: Uid,
    /// Priority (0000,0700); medium where it is missing.
    pub priority: Priority,
    /// Who asked for this instance to be sent, where it is the sub-operation of a C-MOVE.
    pub move_originator: Option<MoveOriginator>,
}

/// The C-MOVE that a C-STORE is a sub-operation of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveOriginator {
    /// Move Originator Application Entity Title (0000,1030).
    pub ae_title: AeTitle,
    /// Move Originator Message ID (0000,1031); 0 where it is missing.
    pub message_id: u16,
}

impl Command {
    /// Reads a request, and whether a data set follows it on the wire.
    ///
    /// # Errors
    /// The command field or the message ID is missing: then nothing can be answered.
    pub(super) fn from_set(set: &CommandSet<'_>) -> Result<(Self, bool), CommandSetError> {
        let field = required(set, "Command Field", element::COMMAND_FIELD)?;
        // A C-ECHO never has a data set and the others always have one, so a missing element is read that way.
        let data_set = match set.number(element::DATA_SET_TYPE) {
            Some(kind) => kind != NO_DATA_SET,
            None => {
                matches!(field, field::C_STORE_RQ | field::C_FIND_RQ | field::N_ACTION_RQ | field::N_EVENT_REPORT_RQ)
            }
        };
        if field == field::C_CANCEL_RQ {
            let message_id = required(set, "Message ID Being Responded To", element::MESSAGE_ID_RESPONDED_TO)?;
            return Ok((Self::CCancel { message_id }, data_set));
        }
        let message_id = required(set, "Message ID", element::MESSAGE_ID)?;
        let command = match field {
            field::C_ECHO_RQ => {
                Self::CEcho(CEcho { message_id, sop_class_uid: set.uid(element::AFFECTED_SOP_CLASS_UID) })
            }
            field::C_STORE_RQ => store(set, message_id),
            field::C_FIND_RQ => find(set, message_id),
            field::N_ACTION_RQ => normalized::action(set, message_id),
            field::N_EVENT_REPORT_RQ => normalized::event_report(set, message_id),
            _ => Self::Unknown { field, message_id },
        };
        Ok((command, data_set))
    }

    /// Message ID (0000,0110); for C-CANCEL, that of the request to be cancelled.
    #[must_use]
    pub fn message_id(&self) -> u16 {
        match self {
            Self::CEcho(CEcho { message_id, .. })
            | Self::CStore(CStore { message_id, .. })
            | Self::CFind(CFind { message_id, .. })
            | Self::NAction(NAction { message_id, .. })
            | Self::NEventReport(NEventReport { message_id, .. })
            | Self::CCancel { message_id }
            | Self::Unknown { message_id, .. }
            | Self::Invalid { message_id, .. } => *message_id,
        }
    }

    /// Command Field (0000,0100).
    #[must_use]
    pub fn field(&self) -> u16 {
        match self {
            Self::CEcho(_) => field::C_ECHO_RQ,
            Self::CStore(_) => field::C_STORE_RQ,
            Self::CFind(_) => field::C_FIND_RQ,
            Self::NAction(_) => field::N_ACTION_RQ,
            Self::NEventReport(_) => field::N_EVENT_REPORT_RQ,
            Self::CCancel { .. } => field::C_CANCEL_RQ,
            Self::Unknown { field, .. } | Self::Invalid { field, .. } => *field,
        }
    }

    /// The name of the operation, for people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        name(self.field())
    }

    /// Whether its data set, if it has one, is handed on; of the others it is read over.
    #[must_use]
    pub fn has_content(&self) -> bool {
        matches!(self, Self::CStore(_) | Self::CFind(_) | Self::NAction(_) | Self::NEventReport(_))
    }

    /// Whether it is a C-STORE-RQ, valid or not.
    #[must_use]
    pub fn is_store(&self) -> bool {
        self.field() == field::C_STORE_RQ
    }

    /// The refusal of a request that cannot be served: 0211 for an operation that is not offered, the particular status
    /// for one with an unusable field. An N-EVENT-REPORT is for who asked for a report, which no modality's association
    /// did. `None` for the others.
    #[must_use]
    pub fn refusal(&self) -> Option<Response> {
        match self {
            Self::CEcho(_) | Self::CStore(_) | Self::NAction(_) | Self::CCancel { .. } => None,
            Self::Unknown { .. } | Self::CFind(_) | Self::NEventReport(_) => {
                let comment = "only C-ECHO, C-STORE and storage commitment are offered";
                Some(Response::to(self, Status::UNRECOGNIZED_OPERATION).with_comment(comment))
            }
            Self::Invalid { status, comment, offending, .. } => {
                Some(Response::to(self, *status).with_comment(comment).with_offending(*offending))
            }
        }
    }

    /// The command set, ready to be sent. C-STORE, C-FIND, N-ACTION and N-EVENT-REPORT announce a data set, all
    /// others none.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::CEcho(CEcho { message_id, sop_class_uid }) => with_sop_class(sop_class_uid.as_ref())
                .number(element::COMMAND_FIELD, field::C_ECHO_RQ)
                .number(element::MESSAGE_ID, *message_id)
                .number(element::DATA_SET_TYPE, NO_DATA_SET)
                .finish(),
            Self::CStore(store) => {
                let set = with_sop_class(Some(&store.sop_class_uid))
                    .number(element::COMMAND_FIELD, field::C_STORE_RQ)
                    .number(element::MESSAGE_ID, store.message_id)
                    .number(element::PRIORITY, store.priority.to_dimse())
                    .number(element::DATA_SET_TYPE, WITH_DATA_SET)
                    .uid(element::AFFECTED_SOP_INSTANCE_UID, &store.sop_instance_uid);
                match &store.move_originator {
                    None => set,
                    Some(originator) => set
                        .text(element::MOVE_ORIGINATOR_AE_TITLE, originator.ae_title.as_str())
                        .number(element::MOVE_ORIGINATOR_MESSAGE_ID, originator.message_id),
                }
                .finish()
            }
            Self::CFind(find) => with_sop_class(Some(&find.sop_class_uid))
                .number(element::COMMAND_FIELD, field::C_FIND_RQ)
                .number(element::MESSAGE_ID, find.message_id)
                .number(element::PRIORITY, find.priority.to_dimse())
                .number(element::DATA_SET_TYPE, WITH_DATA_SET)
                .finish(),
            Self::NAction(action) => action.encode(),
            Self::NEventReport(report) => report.encode(),
            Self::CCancel { message_id } => Encoder::default()
                .number(element::COMMAND_FIELD, field::C_CANCEL_RQ)
                .number(element::MESSAGE_ID_RESPONDED_TO, *message_id)
                .number(element::DATA_SET_TYPE, NO_DATA_SET)
                .finish(),
            Self::Unknown { field, message_id } | Self::Invalid { field, message_id, .. } => Encoder::default()
                .number(element::COMMAND_FIELD, *field)
                .number(element::MESSAGE_ID, *message_id)
                .number(element::DATA_SET_TYPE, NO_DATA_SET)
                .finish(),
        }
    }
}

/// The name of an operation by its command field, for people; requests and responses alike.
pub(super) fn name(field: u16) -> &'static str {
    match field & !field::RESPONSE {
        0x0001 => "C-STORE",
        0x0010 => "C-GET",
        0x0020 => "C-FIND",
        0x0021 => "C-MOVE",
        0x0030 => "C-ECHO",
        0x0100 => "N-EVENT-REPORT",
        0x0110 => "N-GET",
        0x0120 => "N-SET",
        0x0130 => "N-ACTION",
        0x0140 => "N-CREATE",
        0x0150 => "N-DELETE",
        0x0FFF => "C-CANCEL",
        _ => "an operation that does not exist",
    }
}

fn with_sop_class(uid: Option<&Uid>) -> Encoder {
    match uid {
        Some(uid) => Encoder::default().uid(element::AFFECTED_SOP_CLASS_UID, uid),
        None => Encoder::default(),
    }
}

pub(super) fn required(set: &CommandSet<'_>, name: &'static str, element: u16) -> Result<u16, CommandSetError> {
    set.number(element).ok_or(CommandSetError::Unusable { name, tag: Tag { group: 0, element } })
}

/// One that names no SOP class is an operation that is not offered, like every other.
fn find(set: &CommandSet<'_>, message_id: u16) -> Command {
    match set.uid(element::AFFECTED_SOP_CLASS_UID) {
        Some(sop_class_uid) => {
            let priority = Priority::from_dimse(set.number(element::PRIORITY).unwrap_or_default());
            Command::CFind(CFind { message_id, sop_class_uid, priority })
        }
        None => Command::Unknown { field: field::C_FIND_RQ, message_id },
    }
}

fn store(set: &CommandSet<'_>, message_id: u16) -> Command {
    let invalid = |status, comment, element| Command::Invalid {
        field: field::C_STORE_RQ,
        message_id,
        status,
        comment,
        offending: Tag { group: 0, element },
    };
    let Some(sop_class_uid) = set.uid(element::AFFECTED_SOP_CLASS_UID) else {
        let comment = "Affected SOP Class UID is missing or not a UID";
        return invalid(Status::MISTYPED_ARGUMENT, comment, element::AFFECTED_SOP_CLASS_UID);
    };
    let Some(sop_instance_uid) = set.uid(element::AFFECTED_SOP_INSTANCE_UID) else {
        let comment = "Affected SOP Instance UID is missing or not a UID";
        return invalid(Status::INVALID_SOP_INSTANCE, comment, element::AFFECTED_SOP_INSTANCE_UID);
    };
    let ae_title = set.value(element::MOVE_ORIGINATOR_AE_TITLE).and_then(|value| AeTitle::from_wire(value).ok());
    Command::CStore(CStore {
        message_id,
        sop_class_uid,
        sop_instance_uid,
        priority: Priority::from_dimse(set.number(element::PRIORITY).unwrap_or_default()),
        move_originator: ae_title.map(|ae_title| MoveOriginator {
            ae_title,
            message_id: set.number(element::MOVE_ORIGINATOR_MESSAGE_ID).unwrap_or_default(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(text: &str) -> Uid {
        text.parse().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<(Command, bool), CommandSetError> {
        Command::from_set(&CommandSet::parse(bytes)?)
    }

    fn a_store() -> CStore {
        CStore {
            message_id: 7,
            sop_class_uid: uid("1.2.840.10008.5.1.4.1.1.2"),
            sop_instance_uid: uid("1.2.3.4"),
            priority: Priority::Stat,
            move_originator: Some(MoveOriginator { ae_title: "PACS".parse().unwrap(), message_id: 99 }),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let store = Command::CStore(a_store());
        assert_eq!(read(&store.encode()).unwrap(), (store, true));
        let echo = Command::CEcho(CEcho { message_id: 1, sop_class_uid: Some(uid("1.2.840.10008.1.1")) });
        assert_eq!(read(&echo.encode()).unwrap(), (echo, false));
        let sop_class_uid = uid("1.2.840.10008.5.1.4.1.2.2.1");
        let find = Command::CFind(CFind { message_id: 2, sop_class_uid, priority: Priority::Low });
        assert_eq!(read(&find.encode()).unwrap(), (find, true));
        let cancel = Command::CCancel { message_id: 5 };
        assert_eq!(read(&cancel.encode()).unwrap(), (cancel, false));
    }

    #[test]
    fn a_c_echo_request_has_the_bytes_of_the_standard() {
        let echo = Command::CEcho(CEcho { message_id: 1, sop_class_uid: Some(uid("1.2.840.10008.1.1")) });
        let mut expected = vec![0, 0, 0, 0, 4, 0, 0, 0, 56, 0, 0, 0, 0, 0, 2, 0, 18, 0, 0, 0];
        expected.extend_from_slice(b"1.2.840.10008.1.1\0");
        expected.extend_from_slice(&[0, 0, 0, 1, 2, 0, 0, 0, 0x30, 0]);
        expected.extend_from_slice(&[0, 0, 0x10, 1, 2, 0, 0, 0, 1, 0]);
        expected.extend_from_slice(&[0, 0, 0, 8, 2, 0, 0, 0, 1, 1]);
        assert_eq!(echo.encode(), expected);
    }

    #[test]
    fn an_operation_that_is_not_offered_is_refused_with_0211() {
        for field in [0x0010, 0x0020, 0x0021, 0x0110, 0x0120, 0x0140, 0x7777] {
            let bytes = Encoder::default()
                .number(element::COMMAND_FIELD, field)
                .number(element::MESSAGE_ID, 3)
                .number(element::DATA_SET_TYPE, 0)
                .finish();
            let (command, data_set) = read(&bytes).unwrap();
            assert!(data_set);
            let refusal = command.refusal().unwrap();
            assert_eq!((refusal.field, refusal.message_id), (field | 0x8000, 3));
            assert_eq!(refusal.status, Status::UNRECOGNIZED_OPERATION);
        }
    }

    #[test]
    fn a_store_without_usable_uids_is_refused_and_never_a_store() {
        let with = |class: &str, instance: &str| {
            Encoder::default()
                .text(element::AFFECTED_SOP_CLASS_UID, class)
                .number(element::COMMAND_FIELD, field::C_STORE_RQ)
                .number(element::MESSAGE_ID, 3)
                .number(element::DATA_SET_TYPE, 0)
                .text(element::AFFECTED_SOP_INSTANCE_UID, instance)
                .finish()
        };
        for (class, instance, status) in [
            ("", "1.2.3", Status::MISTYPED_ARGUMENT),
            ("CT", "1.2.3", Status::MISTYPED_ARGUMENT),
            ("1.2", "", Status::INVALID_SOP_INSTANCE),
            ("1.2", "../../etc/passwd", Status::INVALID_SOP_INSTANCE),
            ("1.2", "1.2.\u{1b}[31m", Status::INVALID_SOP_INSTANCE),
            ("1.2", &"1".repeat(65), Status::INVALID_SOP_INSTANCE),
        ] {
            let (command, data_set) = read(&with(class, instance)).unwrap();
            assert!(data_set);
            assert!(matches!(command, Command::Invalid { .. }), "{instance:?}");
            assert_eq!(command.refusal().unwrap().status, status);
        }
    }

    #[test]
    fn a_command_set_that_cannot_be_answered_is_an_error() {
        use CommandSetError as E;
        assert_eq!(read(&[]).unwrap_err(), E::Empty);
        assert_eq!(read(&[1, 2, 3]).unwrap_err(), E::Truncated(3));
        assert_eq!(
            read(&[0; 8]).unwrap_err(),
            E::Unusable { name: "Command Group Length", tag: Tag { group: 0, element: 0 } }
        );
        assert!(matches!(read(&[8, 0, 0x18, 0, 0, 0, 0, 0]).unwrap_err(), E::NotACommandElement(_)));
        assert!(matches!(read(&vec![0; MAX + 1]).unwrap_err(), E::TooLong));
        let without_id = Encoder::default().number(element::COMMAND_FIELD, field::C_ECHO_RQ).finish();
        assert!(matches!(read(&without_id).unwrap_err(), E::Unusable { name: "Message ID", .. }));
        let twice = Encoder::default().number(element::MESSAGE_ID, 1).number(element::MESSAGE_ID, 2).finish();
        assert!(matches!(read(&twice).unwrap_err(), E::Repeated(_)));
        let mut lying = Command::CStore(a_store()).encode();
        lying[8] ^= 1;
        assert!(matches!(read(&lying).unwrap_err(), E::WrongGroupLength { .. }));
        let mut declared_huge = Command::CStore(a_store()).encode();
        declared_huge[16..20].fill(0xFF);
        assert!(matches!(read(&declared_huge).unwrap_err(), E::Truncated(_)));
        let many = (0x2000..0x2100).fold(Encoder::default(), |set, element| set.number(element, 0)).finish();
        assert_eq!(read(&many).unwrap_err(), E::TooManyElements);
    }

    const MAX: usize = super::super::MAX_COMMAND_SET;

    #[test]
    fn what_devices_leave_out_is_filled_in() {
        let bytes = Encoder::default()
            .uid(element::AFFECTED_SOP_CLASS_UID, &uid("1.2"))
            .number(element::COMMAND_FIELD, field::C_STORE_RQ)
            .number(element::MESSAGE_ID, 3)
            .uid(element::AFFECTED_SOP_INSTANCE_UID, &uid("1.2.3"))
            .finish();
        let (command, data_set) = read(bytes.get(12..).unwrap()).unwrap();
        assert!(data_set, "a C-STORE without Command Data Set Type has a data set");
        let Command::CStore(store) = command else { panic!("{command:?}") };
        assert_eq!((store.priority, store.move_originator), (Priority::Routine, None));
    }
}
