//! Command sets as bytes (PS3.7 6.3.1 and E): Implicit VR Little Endian, group 0000, bounded, in one loop.

use std::fmt;

use crate::model::Uid;

/// The longest command set that is accepted, in bytes. Real ones have 60 to 400.
pub const MAX_COMMAND_SET: usize = 64 * 1024;

/// The most elements that a command set may have. PS3.7 E.1 defines 35 in all.
pub const MAX_ELEMENTS: usize = 64;

/// The elements of group 0000 that this gateway reads or writes (PS3.7 E.1).
pub(super) mod element {
    pub(in crate::dimse) const GROUP_LENGTH: u16 = 0x0000;
    pub(in crate::dimse) const AFFECTED_SOP_CLASS_UID: u16 = 0x0002;
    pub(in crate::dimse) const REQUESTED_SOP_CLASS_UID: u16 = 0x0003;
    pub(in crate::dimse) const COMMAND_FIELD: u16 = 0x0100;
    pub(in crate::dimse) const MESSAGE_ID: u16 = 0x0110;
    pub(in crate::dimse) const MESSAGE_ID_RESPONDED_TO: u16 = 0x0120;
    pub(in crate::dimse) const PRIORITY: u16 = 0x0700;
    pub(in crate::dimse) const DATA_SET_TYPE: u16 = 0x0800;
    pub(in crate::dimse) const STATUS: u16 = 0x0900;
    pub(in crate::dimse) const OFFENDING_ELEMENT: u16 = 0x0901;
    pub(in crate::dimse) const ERROR_COMMENT: u16 = 0x0902;
    pub(in crate::dimse) const AFFECTED_SOP_INSTANCE_UID: u16 = 0x1000;
    pub(in crate::dimse) const REQUESTED_SOP_INSTANCE_UID: u16 = 0x1001;
    pub(in crate::dimse) const EVENT_TYPE_ID: u16 = 0x1002;
    pub(in crate::dimse) const ACTION_TYPE_ID: u16 = 0x1008;
    pub(in crate::dimse) const MOVE_ORIGINATOR_AE_TITLE: u16 = 0x1030;
    pub(in crate::dimse) const MOVE_ORIGINATOR_MESSAGE_ID: u16 = 0x1031;
}

/// Command Data Set Type (0000,0800): this value says that no data set follows, every other that one does.
pub(super) const NO_DATA_SET: u16 = 0x0101;
/// One of the values that say that a data set follows.
pub(super) const WITH_DATA_SET: u16 = 0x0000;

/// The tag of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag {
    /// The group number.
    pub group: u16,
    /// The element number.
    pub element: u16,
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({:04X},{:04X})", self.group, self.element)
    }
}

/// Why bytes are not a command set that can be answered. The sender breaks PS3.7; the remedy is with its vendor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandSetError {
    /// It has no element at all.
    #[error("the command set is empty")]
    Empty,
    /// It grew beyond [`MAX_COMMAND_SET`].
    #[error("the command set is longer than {MAX_COMMAND_SET} bytes")]
    TooLong,
    /// It has more than [`MAX_ELEMENTS`].
    #[error("the command set has more than {MAX_ELEMENTS} elements")]
    TooManyElements,
    /// An element reaches beyond the end, or the last bytes are no element.
    #[error("the command set ends within an element (after {0} bytes)")]
    Truncated(usize),
    /// An element is of another group: a data set was sent as a command set, perhaps.
    #[error("the command set holds {0}, which is not of group 0000")]
    NotACommandElement(Tag),
    /// An element occurs twice, so its value is ambiguous.
    #[error("the command set holds {0} twice")]
    Repeated(Tag),
    /// Command Group Length (0000,0000) is not the number of bytes that follow it.
    #[error("the command group length is {declared}, but {actual} bytes follow it")]
    WrongGroupLength {
        /// What the element says.
        declared: u32,
        /// What is there.
        actual: usize,
    },
    /// An element without which not even a refusal can be sent is missing or not of its type.
    #[error("the command set lacks a usable {name} {tag}")]
    Unusable {
        /// The name of the element in PS3.7 E.1.
        name: &'static str,
        /// Its tag.
        tag: Tag,
    },
}

/// The elements of one command set, borrowed from its bytes.
#[derive(Debug)]
pub(super) struct CommandSet<'a> {
    elements: Vec<(u16, &'a [u8])>,
}

impl<'a> CommandSet<'a> {
    /// Reads a whole command set. The order of the elements is not checked: PS3.5 asks for ascending tags, some devices
    /// do not, and nothing depends on it.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, CommandSetError> {
        if bytes.len() > MAX_COMMAND_SET {
            return Err(CommandSetError::TooLong);
        }
        let mut elements: Vec<(u16, &[u8])> = Vec::with_capacity(16);
        let mut rest = bytes;
        while !rest.is_empty() {
            let truncated = || CommandSetError::Truncated(bytes.len());
            let ([g0, g1, e0, e1, l0, l1, l2, l3], after) = rest.split_first_chunk().ok_or_else(truncated)?;
            let tag = Tag { group: u16::from_le_bytes([*g0, *g1]), element: u16::from_le_bytes([*e0, *e1]) };
            if tag.group != 0 {
                return Err(CommandSetError::NotACommandElement(tag));
            }
            let length = usize::try_from(u32::from_le_bytes([*l0, *l1, *l2, *l3])).unwrap_or(usize::MAX);
            let (value, after) = after.split_at_checked(length).ok_or_else(truncated)?;
            if elements.iter().any(|(element, _)| *element == tag.element) {
                return Err(CommandSetError::Repeated(tag));
            }
            if elements.len() == MAX_ELEMENTS {
                return Err(CommandSetError::TooManyElements);
            }
            if tag.element == element::GROUP_LENGTH {
                check_group_length(value, after.len())?;
            }
            elements.push((tag.element, value));
            rest = after;
        }
        if elements.is_empty() { Err(CommandSetError::Empty) } else { Ok(Self { elements }) }
    }

    /// The value of an element; `None` if it is absent or empty.
    pub(super) fn value(&self, element: u16) -> Option<&'a [u8]> {
        self.elements.iter().find(|(e, value)| *e == element && !value.is_empty()).map(|(_, value)| *value)
    }

    /// The value of an element of value representation US and value multiplicity 1.
    pub(super) fn number(&self, element: u16) -> Option<u16> {
        self.value(element)?.try_into().ok().map(u16::from_le_bytes)
    }

    /// The value of an element of value representation UI, if it is a valid UID.
    pub(super) fn uid(&self, element: u16) -> Option<Uid> {
        Uid::from_wire(self.value(element)?).ok()
    }

    /// The values of an element of value representation AT.
    pub(super) fn tags(&self, element: u16) -> Vec<Tag> {
        let tag = |c: &[u8]| match *c {
            [g0, g1, e0, e1] => {
                Some(Tag { group: u16::from_le_bytes([g0, g1]), element: u16::from_le_bytes([e0, e1]) })
            }
            _ => None,
        };
        self.value(element).unwrap_or_default().chunks(4).filter_map(tag).take(MAX_ELEMENTS).collect()
    }
}

/// Some devices leave the group length out, so it is checked only where it is; one that lies makes the end of the
/// command set a matter of opinion.
fn check_group_length(value: &[u8], actual: usize) -> Result<(), CommandSetError> {
    let Ok(declared) = value.try_into().map(u32::from_le_bytes) else {
        let tag = Tag { group: 0, element: element::GROUP_LENGTH };
        return Err(CommandSetError::Unusable { name: "Command Group Length", tag });
    };
    if usize::try_from(declared) == Ok(actual) {
        Ok(())
    } else {
        Err(CommandSetError::WrongGroupLength { declared, actual })
    }
}

/// Writes a command set: elements in the order of the calls, which must be ascending, the group length in front.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    body: Vec<u8>,
}

impl Encoder {
    /// An element of value representation US.
    pub(super) fn number(self, element: u16, value: u16) -> Self {
        self.raw(element, &value.to_le_bytes())
    }

    /// An element of value representation UI, padded with NUL to even length.
    pub(super) fn uid(self, element: u16, uid: &Uid) -> Self {
        self.padded(element, uid.as_str(), 0)
    }

    /// An element of value representation AE or LO, padded with a space to even length.
    pub(super) fn text(self, element: u16, text: &str) -> Self {
        self.padded(element, text, b' ')
    }

    /// An element of value representation AT.
    pub(super) fn tags(self, element: u16, tags: &[Tag]) -> Self {
        let value: Vec<u8> =
            tags.iter().flat_map(|tag| [tag.group.to_le_bytes(), tag.element.to_le_bytes()].concat()).collect();
        self.raw(element, &value)
    }

    fn padded(self, element: u16, text: &str, padding: u8) -> Self {
        let mut value = text.as_bytes().to_vec();
        if value.len() % 2 == 1 {
            value.push(padding);
        }
        self.raw(element, &value)
    }

    fn raw(mut self, element: u16, value: &[u8]) -> Self {
        // Nothing that is written here comes near 4 GiB; a value that did would be cut, and not lie about its length.
        let length = u32::try_from(value.len()).unwrap_or(0);
        self.body.extend_from_slice(&[0, 0]);
        self.body.extend_from_slice(&element.to_le_bytes());
        self.body.extend_from_slice(&length.to_le_bytes());
        if length != 0 {
            self.body.extend_from_slice(value);
        }
        self
    }

    /// The whole command set.
    pub(super) fn finish(self) -> Vec<u8> {
        let length = u32::try_from(self.body.len()).unwrap_or(0);
        let mut set = Self::default().raw(element::GROUP_LENGTH, &length.to_le_bytes()).body;
        set.extend_from_slice(&self.body);
        set
    }
}
