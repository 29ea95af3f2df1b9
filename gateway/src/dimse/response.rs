//! Responses (PS3.7 9.3 and 10.3): of every operation alike, because their command sets differ little.

use std::fmt;

use super::command::{field, name, required};
use super::command_set::{CommandSet, CommandSetError, Encoder, NO_DATA_SET, Tag, WITH_DATA_SET, element};
use super::{CEcho, CFind, CStore, Command, NAction, NEventReport, Status, StatusClass};
use crate::model::Uid;

/// The longest Error Comment (0000,0902), in characters: value representation LO.
const MAX_COMMENT: usize = 64;

/// A response. Shown without its comment.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// Command Field (0000,0100), such as 8001 for C-STORE-RSP.
    pub field: u16,
    /// Message ID Being Responded To (0000,0120).
    pub message_id: u16,
    /// Status (0000,0900).
    pub status: Status,
    /// Affected SOP Class UID (0000,0002).
    pub sop_class_uid: Option<Uid>,
    /// Affected SOP Instance UID (0000,1000).
    pub sop_instance_uid: Option<Uid>,
    /// Action Type ID (0000,1008) of an N-ACTION-RSP, Event Type ID (0000,1002) of an N-EVENT-REPORT-RSP.
    pub type_id: Option<u16>,
    /// Error Comment (0000,0902): at most 64 printable ASCII characters. The peer's words: they may name a patient, so
    /// they belong in the record of the delivery, and not in the log.
    pub comment: Option<String>,
    /// Offending Element (0000,0901).
    pub offending: Vec<Tag>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.name())
            .field("message_id", &self.message_id)
            .field("status", &self.status)
            .field("sop_instance_uid", &self.sop_instance_uid)
            .field("offending", &self.offending)
            .finish_non_exhaustive()
    }
}

impl Response {
    /// The answer to a request, with the UIDs and the type of action or event that it named.
    #[must_use]
    pub fn to(command: &Command, status: Status) -> Self {
        let (sop_class_uid, sop_instance_uid) = match command {
            Command::CEcho(CEcho { sop_class_uid, .. }) => (sop_class_uid.clone(), None),
            Command::CFind(CFind { sop_class_uid, .. }) => (Some(sop_class_uid.clone()), None),
            Command::CStore(CStore { sop_class_uid, sop_instance_uid, .. }) => {
                (Some(sop_class_uid.clone()), Some(sop_instance_uid.clone()))
            }
            Command::NAction(NAction { sop_class_uid, sop_instance_uid, .. })
            | Command::NEventReport(NEventReport { sop_class_uid, sop_instance_uid, .. }) => {
                (Some(sop_class_uid.clone()), Some(sop_instance_uid.clone()))
            }
            Command::CCancel { .. } | Command::Unknown { .. } | Command::Invalid { .. } => (None, None),
        };
        let type_id = match command {
            Command::NAction(action) => Some(action.action_type),
            Command::NEventReport(report) => Some(report.event_type),
            _ => None,
        };
        Self {
            field: command.field() | field::RESPONSE,
            message_id: command.message_id(),
            status,
            sop_class_uid,
            sop_instance_uid,
            type_id,
            comment: None,
            offending: Vec::new(),
        }
    }

    /// With an Error Comment: made printable ASCII and cut to 64 characters.
    #[must_use]
    pub fn with_comment(self, comment: &str) -> Self {
        Self { comment: printable(comment.chars()), ..self }
    }

    /// With one more Offending Element.
    #[must_use]
    pub fn with_offending(mut self, tag: Tag) -> Self {
        self.offending.push(tag);
        self
    }

    /// The name of the operation that is answered, for people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        name(self.field)
    }

    /// Whether a data set belongs to it: the match of a C-FIND-RSP of which more follow (PS3.7 9.1.2.1.5).
    #[must_use]
    pub fn has_content(&self) -> bool {
        self.field == field::C_FIND_RQ | field::RESPONSE && self.status.class() == StatusClass::Pending
    }

    /// Reads a response, and whether a data set follows it on the wire. What other responses than those with
    /// [content](Self::has_content) announce is not looked at: they have none, and some peers announce one all the same.
    ///
    /// # Errors
    /// The command field, the message ID or the status is missing: then it answers nothing.
    pub(super) fn from_set(set: &CommandSet<'_>) -> Result<(Self, bool), CommandSetError> {
        let comment = set.value(element::ERROR_COMMENT).unwrap_or_default();
        let field = required(set, "Command Field", element::COMMAND_FIELD)?;
        let response = Self {
            field,
            message_id: required(set, "Message ID Being Responded To", element::MESSAGE_ID_RESPONDED_TO)?,
            status: Status(required(set, "Status", element::STATUS)?),
            sop_class_uid: set.uid(element::AFFECTED_SOP_CLASS_UID),
            sop_instance_uid: set.uid(element::AFFECTED_SOP_INSTANCE_UID),
            type_id: type_element(field).and_then(|element| set.number(element)),
            comment: printable(comment.iter().map(|byte| char::from(*byte))),
            offending: set.tags(element::OFFENDING_ELEMENT),
        };
        let data_set = response.has_content() && set.number(element::DATA_SET_TYPE) != Some(NO_DATA_SET);
        Ok((response, data_set))
    }

    /// The command set, ready to be sent; it announces a data set if it has [content](Self::has_content).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut set = Encoder::default();
        if let Some(uid) = &self.sop_class_uid {
            set = set.uid(element::AFFECTED_SOP_CLASS_UID, uid);
        }
        set = set
            .number(element::COMMAND_FIELD, self.field)
            .number(element::MESSAGE_ID_RESPONDED_TO, self.message_id)
            .number(element::DATA_SET_TYPE, if self.has_content() { WITH_DATA_SET } else { NO_DATA_SET })
            .number(element::STATUS, self.status.0);
        if !self.offending.is_empty() {
            set = set.tags(element::OFFENDING_ELEMENT, &self.offending);
        }
        if let Some(comment) = self.comment.as_ref().and_then(|comment| printable(comment.chars())) {
            set = set.text(element::ERROR_COMMENT, &comment);
        }
        if let Some(uid) = &self.sop_instance_uid {
            set = set.uid(element::AFFECTED_SOP_INSTANCE_UID, uid);
        }
        if let (Some(element), Some(type_id)) = (type_element(self.field), self.type_id) {
            set = set.number(element, type_id);
        }
        set.finish()
    }
}

/// Where a response has the type of the action or event that it answers.
fn type_element(command_field: u16) -> Option<u16> {
    match command_field & !field::RESPONSE {
        field::N_ACTION_RQ => Some(element::ACTION_TYPE_ID),
        field::N_EVENT_REPORT_RQ => Some(element::EVENT_TYPE_ID),
        _ => None,
    }
}

/// At most 64 characters of printable ASCII without the backslash, which separates values; `None` if nothing is left.
fn printable(text: impl Iterator<Item = char>) -> Option<String> {
    let safe = |c: char| if c == '\\' || !(' '..='~').contains(&c) { '?' } else { c };
    let cut: String = text.take_while(|c| *c != '\0').take(MAX_COMMENT).map(safe).collect();
    let trimmed = cut.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Priority;

    fn a_store() -> Command {
        Command::CStore(CStore {
            message_id: 0xFFFF,
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
            sop_instance_uid: "1.2.3".parse().unwrap(),
            priority: Priority::Routine,
            move_originator: None,
        })
    }

    fn read(bytes: &[u8]) -> Result<Response, CommandSetError> {
        Response::from_set(&CommandSet::parse(bytes)?).map(|(response, _)| response)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let plain = Response::to(&a_store(), Status::SUCCESS);
        assert_eq!(plain.field, 0x8001);
        assert_eq!(read(&plain.encode()).unwrap(), plain);
        let action = NAction {
            message_id: 3,
            sop_class_uid: "1.2.840.10008.1.20.1".parse().unwrap(),
            sop_instance_uid: "1.2.840.10008.1.20.1.1".parse().unwrap(),
            action_type: 1,
        };
        let action = Response::to(&Command::NAction(action), Status::SUCCESS);
        assert_eq!((action.field, action.type_id), (0x8130, Some(1)));
        assert_eq!(read(&action.encode()).unwrap(), action);
        let full = Response::to(&a_store(), Status::CANNOT_UNDERSTAND)
            .with_comment("the data set ends within an element")
            .with_offending(Tag { group: 0x7FE0, element: 0x0010 })
            .with_offending(Tag { group: 0x0008, element: 0x0018 });
        assert_eq!(read(&full.encode()).unwrap(), full);
    }

    #[test]
    fn a_comment_is_cut_to_64_characters_and_made_printable() {
        let response = Response::to(&a_store(), Status::CANNOT_UNDERSTAND).with_comment(&"\u{1b}\\ä".repeat(40));
        let comment = response.comment.clone().unwrap();
        assert_eq!(comment, "?".repeat(64));
        assert_eq!(read(&response.encode()).unwrap().comment.unwrap(), comment);
        let by_hand = Response { comment: Some("x".repeat(1000)), ..response };
        assert_eq!(read(&by_hand.encode()).unwrap().comment.unwrap().len(), 64);
    }

    #[test]
    fn a_response_without_status_or_message_id_answers_nothing() {
        for missing in [element::STATUS, element::MESSAGE_ID_RESPONDED_TO] {
            let with = |set: Encoder, element| if element == missing { set } else { set.number(element, 0) };
            let set = Encoder::default().number(element::COMMAND_FIELD, 0x8001);
            let set = with(with(set, element::MESSAGE_ID_RESPONDED_TO), element::STATUS);
            assert!(matches!(read(&set.finish()).unwrap_err(), CommandSetError::Unusable { .. }));
        }
    }
}
