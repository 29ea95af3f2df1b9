//! The requests of the normalized services that are used here (PS3.7 10.1 and 10.3): N-ACTION and N-EVENT-REPORT.
//!
//! They are read alike, because their command sets differ in the names of their elements only. What is missing or
//! unusable is told with the status that PS3.7 10.1.1.1.8 and 10.1.4.1.10 have for it.

use super::command::{Command, field};
use super::command_set::{CommandSet, Encoder, Tag, WITH_DATA_SET, element};
use super::{Response, Status};
use crate::model::Uid;

/// N-ACTION-RQ (PS3.7 10.3.5.1). Its action information follows as a data set; one that was announced as absent counts
/// as empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NAction {
    /// Message ID (0000,0110).
    pub message_id: u16,
    /// Requested SOP Class UID (0000,0003).
    pub sop_class_uid: Uid,
    /// Requested SOP Instance UID (0000,1001).
    pub sop_instance_uid: Uid,
    /// Action Type ID (0000,1008).
    pub action_type: u16,
}

/// N-EVENT-REPORT-RQ (PS3.7 10.3.1.1). Its event information follows as a data set; one that was announced as absent
/// counts as empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NEventReport {
    /// Message ID (0000,0110).
    pub message_id: u16,
    /// Affected SOP Class UID (0000,0002).
    pub sop_class_uid: Uid,
    /// Affected SOP Instance UID (0000,1000).
    pub sop_instance_uid: Uid,
    /// Event Type ID (0000,1002).
    pub event_type: u16,
}

/// What names the object and the type in a request of one of the two services.
struct Elements {
    field: u16,
    class: (u16, &'static str),
    instance: (u16, &'static str),
    kind: (u16, &'static str),
}

const ACTION: Elements = Elements {
    field: field::N_ACTION_RQ,
    class: (element::REQUESTED_SOP_CLASS_UID, "Requested SOP Class UID is missing or not a UID"),
    instance: (element::REQUESTED_SOP_INSTANCE_UID, "Requested SOP Instance UID is missing or not a UID"),
    kind: (element::ACTION_TYPE_ID, "Action Type ID is missing or not a number"),
};

const EVENT: Elements = Elements {
    field: field::N_EVENT_REPORT_RQ,
    class: (element::AFFECTED_SOP_CLASS_UID, "Affected SOP Class UID is missing or not a UID"),
    instance: (element::AFFECTED_SOP_INSTANCE_UID, "Affected SOP Instance UID is missing or not a UID"),
    kind: (element::EVENT_TYPE_ID, "Event Type ID is missing or not a number"),
};

impl Elements {
    /// Class, instance and type, or the request as an invalid one.
    fn read(&self, set: &CommandSet<'_>, message_id: u16) -> Result<(Uid, Uid, u16), Command> {
        let invalid = |status, (element, comment): (u16, &'static str)| Command::Invalid {
            field: self.field,
            message_id,
            status,
            comment,
            offending: Tag { group: 0, element },
        };
        let class = set.uid(self.class.0).ok_or_else(|| invalid(Status::MISTYPED_ARGUMENT, self.class))?;
        let instance = set.uid(self.instance.0).ok_or_else(|| invalid(Status::INVALID_SOP_INSTANCE, self.instance))?;
        let kind = set.number(self.kind.0).ok_or_else(|| invalid(Status::MISTYPED_ARGUMENT, self.kind))?;
        Ok((class, instance, kind))
    }
}

/// Why a request is not for what the service has.
struct Refused {
    status: Status,
    comment: &'static str,
    element: u16,
}

impl Refused {
    fn answer(self, command: &Command) -> Response {
        let offending = Tag { group: 0, element: self.element };
        Response::to(command, self.status).with_comment(self.comment).with_offending(offending)
    }
}

impl Elements {
    /// Whether class and instance, and then the type, are those of the service; `unknown` tells of a type that is not.
    fn check(
        &self,
        (is_class, is_instance): (bool, bool),
        is_kind: bool,
        unknown: (Status, &'static str),
    ) -> Result<(), Refused> {
        let refuse = |status, comment, element| Err(Refused { status, comment, element });
        match (is_class, is_instance) {
            (false, true) => {
                refuse(Status::CLASS_INSTANCE_CONFLICT, "the SOP instance is of another SOP class", self.class.0)
            }
            (false, false) => {
                let comment = "the SOP class is not that of the presentation context";
                refuse(Status::NO_SUCH_SOP_CLASS, comment, self.class.0)
            }
            (true, false) => {
                let comment = "only the well-known SOP instance takes part in it";
                refuse(Status::NO_SUCH_OBJECT_INSTANCE, comment, self.instance.0)
            }
            (true, true) if !is_kind => refuse(unknown.0, unknown.1, self.kind.0),
            (true, true) => Ok(()),
        }
    }
}

pub(super) fn action(set: &CommandSet<'_>, message_id: u16) -> Command {
    match ACTION.read(set, message_id) {
        Ok((sop_class_uid, sop_instance_uid, action_type)) => {
            Command::NAction(NAction { message_id, sop_class_uid, sop_instance_uid, action_type })
        }
        Err(invalid) => invalid,
    }
}

pub(super) fn event_report(set: &CommandSet<'_>, message_id: u16) -> Command {
    match EVENT.read(set, message_id) {
        Ok((sop_class_uid, sop_instance_uid, event_type)) => {
            Command::NEventReport(NEventReport { message_id, sop_class_uid, sop_instance_uid, event_type })
        }
        Err(invalid) => invalid,
    }
}

impl NAction {
    /// Whether this asks for `action_type` of the one instance that a service has, its well-known SOP instance.
    ///
    /// # Errors
    /// It does not: the answer, with the status that PS3.7 10.1.4.1.10 has for it.
    pub fn check(&self, class: &str, instance: &str, action_type: u16) -> Result<(), Response> {
        let names = (self.sop_class_uid.as_str() == class, self.sop_instance_uid.as_str() == instance);
        let unknown = (Status::NO_SUCH_ACTION, "the SOP class has no such action type");
        let checked = ACTION.check(names, self.action_type == action_type, unknown);
        checked.map_err(|refused| refused.answer(&Command::NAction(self.clone())))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        Encoder::default()
            .uid(element::REQUESTED_SOP_CLASS_UID, &self.sop_class_uid)
            .number(element::COMMAND_FIELD, field::N_ACTION_RQ)
            .number(element::MESSAGE_ID, self.message_id)
            .number(element::DATA_SET_TYPE, WITH_DATA_SET)
            .uid(element::REQUESTED_SOP_INSTANCE_UID, &self.sop_instance_uid)
            .number(element::ACTION_TYPE_ID, self.action_type)
            .finish()
    }
}

impl NEventReport {
    /// Whether this is a report of one of these types, of the one instance that a service has.
    ///
    /// # Errors
    /// It is not: the answer, with the status that PS3.7 10.1.1.1.8 has for it.
    pub fn check(&self, class: &str, instance: &str, event_types: &[u16]) -> Result<(), Response> {
        let names = (self.sop_class_uid.as_str() == class, self.sop_instance_uid.as_str() == instance);
        let unknown = (Status::NO_SUCH_EVENT_TYPE, "the SOP class has no such event type");
        let checked = EVENT.check(names, event_types.contains(&self.event_type), unknown);
        checked.map_err(|refused| refused.answer(&Command::NEventReport(self.clone())))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        Encoder::default()
            .uid(element::AFFECTED_SOP_CLASS_UID, &self.sop_class_uid)
            .number(element::COMMAND_FIELD, field::N_EVENT_REPORT_RQ)
            .number(element::MESSAGE_ID, self.message_id)
            .number(element::DATA_SET_TYPE, WITH_DATA_SET)
            .uid(element::AFFECTED_SOP_INSTANCE_UID, &self.sop_instance_uid)
            .number(element::EVENT_TYPE_ID, self.event_type)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUSH_MODEL: &str = "1.2.840.10008.1.20.1";
    const INSTANCE: &str = "1.2.840.10008.1.20.1.1";

    fn uid(text: &str) -> Uid {
        text.parse().unwrap()
    }

    fn an_action() -> NAction {
        NAction { message_id: 7, sop_class_uid: uid(PUSH_MODEL), sop_instance_uid: uid(INSTANCE), action_type: 1 }
    }

    fn read(bytes: &[u8]) -> (Command, bool) {
        Command::from_set(&CommandSet::parse(bytes).unwrap()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let action = Command::NAction(an_action());
        assert_eq!(read(&action.encode()), (action, true));
        let event = Command::NEventReport(NEventReport {
            message_id: 0xFFFF,
            sop_class_uid: uid(PUSH_MODEL),
            sop_instance_uid: uid(INSTANCE),
            event_type: 2,
        });
        assert_eq!(read(&event.encode()), (event, true));
    }

    #[test]
    fn a_request_with_an_unusable_field_is_refused_with_the_status_for_it() {
        for (command, names) in
            [(field::N_ACTION_RQ, [0x0003, 0x1001, 0x1008]), (field::N_EVENT_REPORT_RQ, [0x0002, 0x1000, 0x1002])]
        {
            let with = |class: &str, instance: &str, kind: Option<u16>| {
                let set = Encoder::default()
                    .text(names[0], class)
                    .number(element::COMMAND_FIELD, command)
                    .number(element::MESSAGE_ID, 3)
                    .number(element::DATA_SET_TYPE, 0)
                    .text(names[1], instance);
                match kind {
                    Some(kind) => set.number(names[2], kind).finish(),
                    None => set.finish(),
                }
            };
            for (class, instance, kind, status, offending) in [
                ("", INSTANCE, Some(1), 0x0212, names[0]),
                ("CT", INSTANCE, Some(1), 0x0212, names[0]),
                (PUSH_MODEL, "", Some(1), 0x0117, names[1]),
                (PUSH_MODEL, "../../etc/passwd", Some(1), 0x0117, names[1]),
                (PUSH_MODEL, INSTANCE, None, 0x0212, names[2]),
            ] {
                let (read, data_set) = read(&with(class, instance, kind));
                assert!(data_set);
                let refusal = read.refusal().unwrap();
                assert_eq!((refusal.field, refusal.status.0), (command | 0x8000, status), "{class:?} {instance:?}");
                assert_eq!(refusal.offending, [Tag { group: 0, element: offending }]);
            }
        }
    }

    #[test]
    fn an_action_that_the_service_does_not_have_is_refused_with_the_status_for_it() {
        let check = |action: NAction| action.check(PUSH_MODEL, INSTANCE, 1).map_err(|response| response.status.0);
        assert_eq!(check(an_action()), Ok(()));
        assert_eq!(check(NAction { action_type: 2, ..an_action() }), Err(0x0123));
        assert_eq!(check(NAction { sop_instance_uid: uid("1.2.3"), ..an_action() }), Err(0x0112));
        assert_eq!(check(NAction { sop_class_uid: uid("1.2.3"), ..an_action() }), Err(0x0119));
        let other = NAction { sop_class_uid: uid("1.2.3"), sop_instance_uid: uid("1.2.3"), ..an_action() };
        assert_eq!(check(other), Err(0x0118));
        let report = |event_type, instance: &str| {
            let (sop_class_uid, sop_instance_uid) = (uid(PUSH_MODEL), uid(instance));
            let report = NEventReport { message_id: 1, sop_class_uid, sop_instance_uid, event_type };
            report.check(PUSH_MODEL, INSTANCE, &[1, 2]).map_err(|response| (response.field, response.status.0))
        };
        assert_eq!((report(1, INSTANCE), report(2, INSTANCE)), (Ok(()), Ok(())));
        assert_eq!(report(3, INSTANCE), Err((0x8100, 0x0113)));
        assert_eq!(report(1, "1.2.3"), Err((0x8100, 0x0112)));
    }
}
