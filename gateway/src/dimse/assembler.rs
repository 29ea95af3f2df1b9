//! Puts messages together from the fragments of presentation data values (PS3.8 E.2). The module's first page has the
//! states.

use std::fmt;

use bytes::Bytes;

use super::Response;
use super::command::{Command, field};
use super::command_set::{CommandSet, CommandSetError, MAX_COMMAND_SET, Tag, element};

/// What has been put together. Shown without the bytes of a data set, which name the patient.
#[derive(Clone, PartialEq, Eq)]
pub enum Message {
    /// A request.
    Command {
        /// The presentation context that it came on.
        context: u8,
        /// The request.
        command: Command,
    },
    /// A response.
    Response {
        /// The presentation context that it came on.
        context: u8,
        /// The response.
        response: Response,
    },
    /// A piece of the data set of the last request, or of the last response of a query; never empty.
    Data(Bytes),
    /// That data set is complete.
    DataEnd,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command { context, command } => write!(f, "{command:?} on context {context}"),
            Self::Response { context, response } => write!(f, "{response:?} on context {context}"),
            Self::Data(data) => write!(f, "{} bytes of data", data.len()),
            Self::DataEnd => f.write_str("the end of the data set"),
        }
    }
}

/// Why fragments do not make a message. Each means an A-ABORT: the two sides no longer agree on what is being sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssemblyError {
    /// A data fragment came while no command announced a data set.
    #[error("data were sent that no command had announced")]
    DataWithoutCommand,
    /// A command fragment came before the last data fragment.
    #[error("a command was sent in the middle of a data set")]
    CommandWithinData,
    /// A data fragment came before the last command fragment.
    #[error("data were sent in the middle of a command")]
    DataWithinCommand,
    /// A fragment came on another presentation context than the one that its message began on.
    #[error("a message that began on presentation context {began} went on with context {came}")]
    ContextChanged {
        /// Where the message began.
        began: u8,
        /// Where the fragment came.
        came: u8,
    },
    /// The command set itself.
    #[error(transparent)]
    CommandSet(#[from] CommandSetError),
}

#[derive(Debug)]
enum State {
    Idle,
    Command { context: u8, set: Vec<u8> },
    Data { context: u8, use_of: DataSet },
}

/// What becomes of the fragments of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DataSet {
    PassOn,
    /// The data set of a request that is refused or has no use for one: read over, so that nobody else has to.
    Drop,
}

/// The assembler of one association and one direction.
#[derive(Debug)]
pub struct Assembler {
    state: State,
    /// The end of a data set that is to be told with the next call of [`Assembler::poll`].
    end: bool,
}

impl Default for Assembler {
    fn default() -> Self {
        Self { state: State::Idle, end: false }
    }
}

impl Assembler {
    /// Takes one fragment. A fragment can complete two messages ("data" and "end of data"): [`Assembler::poll`] returns
    /// the second and must be called until it returns `None` before the next fragment.
    ///
    /// # Errors
    /// The fragment does not fit. The assembler is of no use any more.
    pub fn push(
        &mut self,
        context: u8,
        is_command: bool,
        is_last: bool,
        fragment: Bytes,
    ) -> Result<Option<Message>, AssemblyError> {
        if let State::Command { context: began, .. } | State::Data { context: began, .. } = self.state
            && began != context
        {
            return Err(AssemblyError::ContextChanged { began, came: context });
        }
        match (&mut self.state, is_command) {
            (State::Idle, true) if is_last => self.complete(context, &fragment).map(Some),
            (State::Idle, true) => {
                self.state = State::Command { context, set: fragment.to_vec() };
                Ok(None)
            }
            (State::Idle, false) => Err(AssemblyError::DataWithoutCommand),
            (State::Command { .. }, false) => Err(AssemblyError::DataWithinCommand),
            (State::Command { set, .. }, true) => {
                if set.len() + fragment.len() > MAX_COMMAND_SET {
                    return Err(CommandSetError::TooLong.into());
                }
                set.extend_from_slice(&fragment);
                if !is_last {
                    return Ok(None);
                }
                let set = std::mem::take(set);
                self.complete(context, &set).map(Some)
            }
            (State::Data { .. }, true) => Err(AssemblyError::CommandWithinData),
            (State::Data { use_of, .. }, false) => {
                let pass_on = *use_of == DataSet::PassOn;
                if is_last {
                    self.state = State::Idle;
                    self.end = pass_on;
                }
                Ok(if pass_on && !fragment.is_empty() { Some(Message::Data(fragment)) } else { self.poll() })
            }
        }
    }

    /// The message that the last fragment completed beside the one that [`Assembler::push`] returned.
    pub fn poll(&mut self) -> Option<Message> {
        std::mem::take(&mut self.end).then_some(Message::DataEnd)
    }

    /// Whether a message has begun and is not complete.
    #[must_use]
    pub fn is_within_message(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    fn complete(&mut self, context: u8, set: &[u8]) -> Result<Message, AssemblyError> {
        let set = CommandSet::parse(set)?;
        let tag = Tag { group: 0, element: element::COMMAND_FIELD };
        let unusable = CommandSetError::Unusable { name: "Command Field", tag };
        self.state = State::Idle;
        if set.number(element::COMMAND_FIELD).ok_or(unusable)? & field::RESPONSE != 0 {
            let (response, data_set) = Response::from_set(&set)?;
            if data_set {
                self.state = State::Data { context, use_of: DataSet::PassOn };
            }
            return Ok(Message::Response { context, response });
        }
        let (command, data_set) = Command::from_set(&set)?;
        let has_content = command.has_content();
        if data_set {
            self.state = State::Data { context, use_of: if has_content { DataSet::PassOn } else { DataSet::Drop } };
        } else {
            // A C-STORE that announces no data set stores an empty one, which is then refused for what it is.
            self.end = has_content;
        }
        Ok(Message::Command { context, command })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::command_set::{Encoder, NO_DATA_SET};
    use super::super::{CEcho, CFind, CStore, Status};
    use super::*;
    use crate::model::Priority;

    fn a_store() -> Command {
        Command::CStore(CStore {
            message_id: 7,
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
            sop_instance_uid: "1.2.3".parse().unwrap(),
            priority: Priority::Routine,
            move_originator: None,
        })
    }

    fn push(assembler: &mut Assembler, fragment: (u8, bool, bool, &[u8])) -> Result<Vec<Message>, AssemblyError> {
        let (context, is_command, is_last, bytes) = fragment;
        let mut messages: Vec<_> =
            assembler.push(context, is_command, is_last, Bytes::copy_from_slice(bytes))?.into_iter().collect();
        messages.extend(assembler.poll());
        Ok(messages)
    }

    /// All messages of a sequence of fragments, adjacent data joined.
    fn assemble(fragments: &[(u8, bool, bool, &[u8])]) -> Result<Vec<Message>, AssemblyError> {
        let mut assembler = Assembler::default();
        let mut messages: Vec<Message> = Vec::new();
        for fragment in fragments {
            for message in push(&mut assembler, *fragment)? {
                match (messages.last_mut(), message) {
                    (Some(Message::Data(before)), Message::Data(more)) => {
                        *before = [&before[..], &more].concat().into()
                    }
                    (_, message) => messages.push(message),
                }
            }
        }
        Ok(messages)
    }

    #[test]
    fn a_message_is_the_same_however_it_is_cut() {
        let set = a_store().encode();
        let whole = assemble(&[(1, true, true, &set), (1, false, true, b"data")]).unwrap();
        let expected = [
            Message::Command { context: 1, command: a_store() },
            Message::Data(Bytes::from_static(b"data")),
            Message::DataEnd,
        ];
        assert_eq!(whole, expected);
        let mut pieces: Vec<(u8, bool, bool, &[u8])> = set.chunks(1).map(|byte| (1, true, false, byte)).collect();
        pieces.push((1, true, true, b""));
        pieces.extend(b"data".chunks(1).map(|byte| (1, false, false, byte)));
        pieces.push((1, false, true, b""));
        assert_eq!(assemble(&pieces).unwrap(), expected);
    }

    #[test]
    fn a_store_without_a_data_set_stores_an_empty_one() {
        let mut set = a_store().encode();
        let no_data_set = NO_DATA_SET.to_le_bytes();
        let position = set.windows(8).position(|bytes| bytes == [0, 0, 0, 8, 2, 0, 0, 0]).unwrap() + 8;
        set[position..position + 2].copy_from_slice(&no_data_set);
        let messages = assemble(&[(1, true, true, &set)]).unwrap();
        assert_eq!(messages, [Message::Command { context: 1, command: a_store() }, Message::DataEnd]);
        assert_eq!(assemble(&[(1, true, true, &a_store().encode()), (1, false, true, b"")]).unwrap(), messages);
    }

    #[test]
    fn the_data_set_of_a_request_that_is_refused_is_read_over() {
        let find = Encoder::default()
            .number(element::COMMAND_FIELD, 0x0020)
            .number(element::MESSAGE_ID, 3)
            .number(element::DATA_SET_TYPE, 1)
            .finish();
        let echo = Command::CEcho(CEcho { message_id: 4, sop_class_uid: None });
        let messages = assemble(&[
            (1, true, true, &find),
            (1, false, false, b"x"),
            (1, false, true, b"y"),
            (3, true, true, &echo.encode()),
        ]);
        let unknown = Command::Unknown { field: 0x0020, message_id: 3 };
        let expected =
            [Message::Command { context: 1, command: unknown }, Message::Command { context: 3, command: echo }];
        assert_eq!(messages.unwrap(), expected);
    }

    #[test]
    fn a_response_is_followed_by_nothing() {
        let response = Response::to(&a_store(), Status::SUCCESS);
        let set = response.encode();
        let messages = assemble(&[(5, true, true, &set), (1, true, true, &a_store().encode())]).unwrap();
        assert_eq!(messages[0], Message::Response { context: 5, response });
        assert_eq!(messages.len(), 2);
    }

    #[test]
    fn a_match_has_a_data_set_and_no_other_response_has() {
        let find = Command::CFind(CFind {
            message_id: 7,
            sop_class_uid: "1.2.840.10008.5.1.4.1.2.2.1".parse().unwrap(),
            priority: Priority::Routine,
        });
        for (status, expected) in [(0xFF00, true), (0xFF01, true), (0x0000, false), (0xFE00, false), (0xA700, false)] {
            let response = Response::to(&find, Status(status));
            let set = response.encode();
            let messages = assemble(&[(1, true, true, &set), (1, false, false, b"ma"), (1, false, true, b"tch")]);
            let response = Message::Response { context: 1, response };
            match expected {
                true => {
                    let matched = Message::Data(Bytes::from_static(b"match"));
                    assert_eq!(messages.unwrap(), [response, matched, Message::DataEnd]);
                }
                false => assert_eq!(messages.unwrap_err(), AssemblyError::DataWithoutCommand),
            }
        }
        // The answer to a C-STORE is over, whatever it says.
        let set = Response::to(&a_store(), Status(0xFF00)).encode();
        let error = assemble(&[(1, true, true, &set), (1, false, true, b"x")]).unwrap_err();
        assert_eq!(error, AssemblyError::DataWithoutCommand);
    }

    #[test]
    fn fragments_out_of_order_are_errors() {
        let set = a_store().encode();
        let (begin, command) = ((1, true, false, &set[..]), (1, true, true, &set[..]));
        let error = |fragments: &[_]| assemble(fragments).unwrap_err();
        assert_eq!(error(&[(1, false, true, b"x")]), AssemblyError::DataWithoutCommand);
        assert_eq!(error(&[command, (1, false, false, b"x"), command]), AssemblyError::CommandWithinData);
        assert_eq!(error(&[begin, (1, false, true, b"x")]), AssemblyError::DataWithinCommand);
        let changed = AssemblyError::ContextChanged { began: 1, came: 3 };
        assert_eq!(error(&[command, (3, false, true, b"x")]), changed);
        assert_eq!(error(&[begin, (3, true, true, b"x")]), changed);
        assert_eq!(error(&[(1, true, true, b"")]), CommandSetError::Empty.into());
        assert!(matches!(error(&[(1, true, true, b"garbage, no command set")]), AssemblyError::CommandSet(_)));
    }

    #[test]
    fn a_command_set_that_never_ends_is_cut_at_the_limit() {
        let mut assembler = Assembler::default();
        let mut pushed = 0;
        let error = loop {
            match push(&mut assembler, (1, true, false, &[0; 1000])) {
                Ok(messages) => assert!(messages.is_empty()),
                Err(error) => break error,
            }
            pushed += 1000;
        };
        assert_eq!(error, CommandSetError::TooLong.into());
        assert!(pushed <= MAX_COMMAND_SET);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(fragments: Vec<(u8, bool, bool, Vec<u8>)>) {
            let mut assembler = Assembler::default();
            for (context, is_command, is_last, bytes) in &fragments {
                if push(&mut assembler, (context % 2, *is_command, *is_last, bytes)).is_err() {
                    break;
                }
            }
        }

        #[test]
        fn a_damaged_command_set_never_panics(position in 0_usize..200, value: u8, cut in 0_usize..200) {
            let mut set = a_store().encode();
            if let Some(byte) = set.get_mut(position) {
                *byte = value;
            }
            set.truncate(cut);
            let _ = assemble(&[(1, true, true, &set)]);
        }
    }
}
