//! DICOM as bytes, made by hand after PS3.8, PS3.7 and PS3.5, so that any of it can be made wrong.

pub(crate) const VERIFICATION: &str = "1.2.840.10008.1.1";
pub(crate) const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
pub(crate) const IMPLICIT: &str = "1.2.840.10008.1.2";
pub(crate) const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub(crate) const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
pub(crate) const JPEG_LOSSLESS: &str = "1.2.840.10008.1.2.4.70";

/// The message control header of a PDV (PS3.8 E.2).
pub(crate) const COMMAND: u8 = 1;
pub(crate) const LAST: u8 = 2;

pub(crate) fn pdu(kind: u8, content: &[u8]) -> Vec<u8> {
    [&head(kind, u32::try_from(content.len()).unwrap())[..], content].concat()
}

/// The head of a PDU that declares this length.
pub(crate) fn head(kind: u8, length: u32) -> Vec<u8> {
    [&[kind, 0][..], &length.to_be_bytes()].concat()
}

/// An item or sub-item of an A-ASSOCIATE-RQ.
pub(crate) fn item(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind, 0][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

/// A proposed presentation context.
pub(crate) fn context(id: u8, abstract_syntax: &str, transfer_syntaxes: &[&str]) -> Vec<u8> {
    let mut value = vec![id, 0, 0, 0];
    value.extend(item(0x30, abstract_syntax.as_bytes()));
    value.extend(transfer_syntaxes.iter().flat_map(|uid| item(0x40, uid.as_bytes())));
    item(0x20, &value)
}

/// An A-ASSOCIATE-RQ that can be spoiled. Proposed are context 1 for verification, and for CT contexts 3 (explicit),
/// 5 (implicit), 7 (deflated), 9 (JPEG lossless) and 11, which is for C-FIND and refused.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) version: u16,
    pub(crate) called: [u8; 16],
    pub(crate) calling: [u8; 16],
    pub(crate) application_context: Vec<u8>,
    pub(crate) contexts: Vec<u8>,
    pub(crate) user: Vec<u8>,
    pub(crate) tail: Vec<u8>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            version: 1,
            called: *b"WAYSTATION      ",
            calling: *b"CT1             ",
            application_context: item(0x10, b"1.2.840.10008.3.1.1.1"),
            contexts: [
                context(1, VERIFICATION, &[IMPLICIT]),
                context(3, CT, &[EXPLICIT]),
                context(5, CT, &[IMPLICIT]),
                context(7, CT, &[DEFLATED]),
                context(9, CT, &[JPEG_LOSSLESS]),
                context(11, "1.2.840.10008.5.1.4.1.2.2.1", &[IMPLICIT]),
            ]
            .concat(),
            user: item(0x51, &16384_u32.to_be_bytes()),
            tail: Vec::new(),
        }
    }
}

impl Request {
    pub(crate) fn content(&self) -> Vec<u8> {
        let fixed = [&self.version.to_be_bytes()[..], &[0, 0], &self.called, &self.calling, &[0; 32]].concat();
        let user = item(0x50, &self.user);
        [&fixed[..], &self.application_context, &self.contexts, &user, &self.tail].concat()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        pdu(1, &self.content())
    }
}

/// A presentation data value.
pub(crate) fn pdv(context: u8, header: u8, data: &[u8]) -> Vec<u8> {
    [&u32::try_from(data.len() + 2).unwrap().to_be_bytes()[..], &[context, header], data].concat()
}

/// A P-DATA-TF with one PDV.
pub(crate) fn p_data(context: u8, header: u8, data: &[u8]) -> Vec<u8> {
    pdu(4, &pdv(context, header, data))
}

/// An element of a command set, or of an implicit data set.
pub(crate) fn implicit(group: u16, element: u16, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap();
    [&group.to_le_bytes()[..], &element.to_le_bytes(), &length.to_le_bytes(), value].concat()
}

/// Elements of group 0000, by number and value.
pub(crate) type Elements = Vec<(u16, Vec<u8>)>;

/// A command set of these elements, with its group length.
pub(crate) fn command_set(elements: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let body: Vec<u8> = elements.iter().flat_map(|(element, value)| implicit(0, *element, value)).collect();
    let length = u32::try_from(body.len()).unwrap();
    [implicit(0, 0, &length.to_le_bytes()), body].concat()
}

/// The value of an element of value representation US.
pub(crate) fn number(value: u16) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

/// The value of an element of value representation UI.
pub(crate) fn uid(text: &str) -> Vec<u8> {
    let mut value = text.as_bytes().to_vec();
    if value.len() % 2 == 1 {
        value.push(0);
    }
    value
}

/// The elements of a C-ECHO-RQ.
pub(crate) fn echo_elements(message_id: u16) -> Elements {
    vec![(0x02, uid(VERIFICATION)), (0x100, number(0x30)), (0x110, number(message_id)), (0x800, number(0x101))]
}

/// The elements of a C-STORE-RQ.
pub(crate) fn store_elements(message_id: u16, sop_instance: &str) -> Elements {
    vec![
        (0x02, uid(CT)),
        (0x100, number(0x01)),
        (0x110, number(message_id)),
        (0x700, number(0)),
        (0x800, number(0)),
        (0x1000, uid(sop_instance)),
    ]
}

/// A C-ECHO-RQ on context 1.
pub(crate) fn echo(message_id: u16) -> Vec<u8> {
    p_data(1, COMMAND | LAST, &command_set(&echo_elements(message_id)))
}

/// A C-STORE-RQ on this context, without its data set.
pub(crate) fn store_command(context: u8, message_id: u16, sop_instance: &str) -> Vec<u8> {
    p_data(context, COMMAND | LAST, &command_set(&store_elements(message_id, sop_instance)))
}

/// A data set as P-DATA-TF of at most 16 KiB each.
pub(crate) fn data_pdus(context: u8, data_set: &[u8]) -> Vec<u8> {
    const PIECE: usize = 16_000;
    let count = data_set.len().div_ceil(PIECE).max(1);
    let piece = |n: usize| &data_set[n * PIECE..data_set.len().min((n + 1) * PIECE)];
    (0..count).flat_map(|n| p_data(context, if n + 1 == count { LAST } else { 0 }, piece(n))).collect()
}

/// A C-STORE-RQ with its data set.
pub(crate) fn store(context: u8, message_id: u16, sop_instance: &str, data_set: &[u8]) -> Vec<u8> {
    [store_command(context, message_id, sop_instance), data_pdus(context, data_set)].concat()
}

/// An element in Explicit VR Little Endian, as long as its value, padded to even length.
pub(crate) fn explicit(group: u16, element: u16, vr: &str, value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(if vr == "UI" { 0 } else { b' ' });
    }
    let length = u32::try_from(value.len()).unwrap();
    [explicit_head(group, element, vr, length), value].concat()
}

/// The header of an element that declares this length.
pub(crate) fn explicit_head(group: u16, element: u16, vr: &str, length: u32) -> Vec<u8> {
    let mut head = [&group.to_le_bytes()[..], &element.to_le_bytes(), vr.as_bytes()].concat();
    if matches!(vr, "OB" | "OW" | "OF" | "UN" | "SQ" | "UT" | "UC" | "UR") {
        head.extend_from_slice(&[0, 0]);
        head.extend_from_slice(&length.to_le_bytes());
    } else {
        head.extend_from_slice(&u16::try_from(length & 0xFFFF).unwrap().to_le_bytes());
    }
    head
}

/// A tag with a length of four bytes: an item or a delimiter.
pub(crate) fn tagged(element: u16, length: u32) -> Vec<u8> {
    [&0xFFFE_u16.to_le_bytes()[..], &element.to_le_bytes(), &length.to_le_bytes()].concat()
}

/// The identifying attributes of a small image, in Explicit VR Little Endian.
pub(crate) fn identity(sop_instance: &str) -> Vec<u8> {
    [
        explicit(0x0008, 0x0016, "UI", CT.as_bytes()),
        explicit(0x0008, 0x0018, "UI", sop_instance.as_bytes()),
        explicit(0x0008, 0x0060, "CS", b"CT"),
        explicit(0x0010, 0x0010, "PN", b"Phantom^Battery"),
        explicit(0x0020, 0x000D, "UI", b"2.25.1000"),
        explicit(0x0020, 0x000E, "UI", b"2.25.1001"),
    ]
    .concat()
}

/// A whole small image, in Explicit VR Little Endian.
pub(crate) fn image(sop_instance: &str, pixels: &[u8]) -> Vec<u8> {
    [
        identity(sop_instance),
        explicit(0x0028, 0x0010, "US", &number(16)),
        explicit(0x0028, 0x0011, "US", &number(16)),
        explicit(0x0028, 0x0100, "US", &number(16)),
        explicit(0x7FE0, 0x0010, "OW", pixels),
    ]
    .concat()
}
