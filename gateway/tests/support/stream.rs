//! A modality that sends one instance of any size without having it: the data set is made while it is sent.
//!
//! Written from PS3.8 and PS3.7 with nothing of the gateway's. Pixel Data of an explicit length ends at 4 GiB; what is
//! larger is encapsulated, in fragments (PS3.5 A.4).

use std::io::{Read, Write};
use std::net::TcpStream;

use aws_lc_rs::digest::{Context, SHA256};

const SOP_CLASS: &str = "1.2.840.10008.5.1.4.1.1.7.4";
const JPEG_BASELINE: &str = "1.2.840.10008.1.2.4.50";
const APPLICATION: &str = "1.2.840.10008.3.1.1.1";
/// The bytes of a fragment of pixel data, and those of a data set in one P-DATA-TF PDU.
const FRAGMENT: usize = 1 << 20;
const PDV: usize = 64 << 10;

/// What was sent: as long and with the SHA-256 (hexadecimal) as the archive must have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) sop_instance: String,
    pub(crate) length: u64,
    pub(crate) sha256: String,
}

/// Sends an instance of so many mebibytes over an association of its own, and waits for the answer.
///
/// # Panics
/// The gateway does not answer 0000, or speaks another protocol.
pub(crate) fn send(port: u16, mebibytes: u64) -> Sent {
    let sop_instance = format!("2.25.{}", fastrand::u128(..));
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    connection.set_nodelay(true).unwrap();
    connection.write_all(&association_request()).unwrap();
    let (kind, answer) = read_pdu(&mut connection);
    assert_eq!(kind, 2, "A-ASSOCIATE-AC is expected, not {answer:?}");
    connection.write_all(&p_data(3, &store_request(&sop_instance))).unwrap();

    let mut stream = Stream { connection, context: Context::new(&SHA256), length: 0, pending: Vec::new() };
    stream.put(&head(&sop_instance));
    let mut random = fastrand::Rng::new();
    let mut fragment = vec![0; FRAGMENT];
    random.fill(&mut fragment);
    for number in 0..mebibytes {
        // No two fragments are the same, and none is worth compressing.
        fragment[..8].copy_from_slice(&number.to_le_bytes());
        fragment.rotate_left(8);
        stream.put(&item(0xe000, u32::try_from(FRAGMENT).unwrap()));
        stream.put(&fragment);
    }
    stream.put(&item(0xe0dd, 0));
    let (mut connection, sha256, length) = stream.end();

    let (kind, response) = read_pdu(&mut connection);
    assert_eq!(kind, 4, "P-DATA-TF is expected");
    assert_eq!(status(&response), Some(0), "the answer to the C-STORE");
    connection.write_all(&pdu(5, &[0; 4])).unwrap();
    assert_eq!(read_pdu(&mut connection).0, 6, "A-RELEASE-RP is expected");
    Sent { sop_instance, length, sha256 }
}

/// The data set on its way, PDV by PDV.
struct Stream {
    connection: TcpStream,
    context: Context,
    length: u64,
    pending: Vec<u8>,
}

impl Stream {
    fn put(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.length += u64::try_from(bytes.len()).unwrap();
        self.pending.extend_from_slice(bytes);
        while self.pending.len() > PDV {
            self.connection.write_all(&p_data(0, &self.pending[..PDV])).unwrap();
            self.pending.drain(..PDV);
        }
    }

    fn end(mut self) -> (TcpStream, String, u64) {
        self.connection.write_all(&p_data(2, &self.pending)).unwrap();
        let digest = self.context.finish();
        (self.connection, digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(), self.length)
    }
}

fn pdu(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 0];
    out.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// One PDV; bit 0 of the control header says command, bit 1 last (PS3.8 E.2).
fn p_data(control: u8, bytes: &[u8]) -> Vec<u8> {
    let mut body = u32::try_from(bytes.len() + 2).unwrap().to_be_bytes().to_vec();
    body.extend_from_slice(&[1, control]);
    body.extend_from_slice(bytes);
    pdu(4, &body)
}

fn association_item(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 0];
    out.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn association_request() -> Vec<u8> {
    let mut body = vec![0, 1, 0, 0];
    body.extend_from_slice(format!("{:<16}{:<16}", "WAYSTATION", "MODALITY").as_bytes());
    body.extend_from_slice(&[0; 32]);
    body.extend(association_item(0x10, APPLICATION.as_bytes()));
    let context = [
        vec![1, 0, 0, 0],
        association_item(0x30, SOP_CLASS.as_bytes()),
        association_item(0x40, JPEG_BASELINE.as_bytes()),
    ];
    body.extend(association_item(0x20, &context.concat()));
    let user = [association_item(0x51, &16_384_u32.to_be_bytes()), association_item(0x52, b"2.25.1542")];
    body.extend(association_item(0x50, &user.concat()));
    pdu(1, &body)
}

fn read_pdu(connection: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 6];
    connection.read_exact(&mut head).unwrap();
    let length = u32::from_be_bytes([head[2], head[3], head[4], head[5]]);
    let mut body = vec![0; usize::try_from(length).unwrap()];
    connection.read_exact(&mut body).unwrap();
    (head[0], body)
}

/// An element of a command set: Implicit VR Little Endian (PS3.7 6.3.1).
fn command_element(number: u16, value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    if !value.len().is_multiple_of(2) {
        value.push(0);
    }
    let mut out = vec![0, 0];
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
    out.extend(value);
    out
}

fn store_request(sop_instance: &str) -> Vec<u8> {
    let elements = [
        command_element(0x0002, SOP_CLASS.as_bytes()),
        command_element(0x0100, &1_u16.to_le_bytes()),
        command_element(0x0110, &1_u16.to_le_bytes()),
        command_element(0x0700, &0_u16.to_le_bytes()),
        command_element(0x0800, &1_u16.to_le_bytes()),
        command_element(0x1000, sop_instance.as_bytes()),
    ]
    .concat();
    let mut out = command_element(0, &u32::try_from(elements.len()).unwrap().to_le_bytes());
    out.extend(elements);
    out
}

/// The status of a response (0000,0900), wherever it is in the PDU.
fn status(response: &[u8]) -> Option<u16> {
    let mark = [0, 0, 0, 9, 2, 0, 0, 0];
    let at = response.windows(mark.len()).position(|window| window == mark)? + mark.len();
    Some(u16::from_le_bytes([*response.get(at)?, *response.get(at + 1)?]))
}

/// An element in Explicit VR Little Endian with a short length (PS3.5 7.1.2).
fn element(group: u16, number: u16, vr: &str, value: &str) -> Vec<u8> {
    let mut value = value.as_bytes().to_vec();
    if !value.len().is_multiple_of(2) {
        value.push(if vr == "UI" { 0 } else { b' ' });
    }
    let mut out = [group.to_le_bytes(), number.to_le_bytes()].concat();
    out.extend_from_slice(vr.as_bytes());
    out.extend_from_slice(&u16::try_from(value.len()).unwrap().to_le_bytes());
    out.extend(value);
    out
}

fn item(number: u16, length: u32) -> Vec<u8> {
    let mut out = [0xfffe_u16.to_le_bytes(), number.to_le_bytes()].concat();
    out.extend_from_slice(&length.to_le_bytes());
    out
}

/// Everything in front of the first fragment.
fn head(sop_instance: &str) -> Vec<u8> {
    let mut out = [
        element(8, 0x16, "UI", SOP_CLASS),
        element(8, 0x18, "UI", sop_instance),
        element(8, 0x60, "CS", "XC"),
        element(0x10, 0x10, "PN", "Phantom^Test"),
        element(0x10, 0x20, "LO", "PHANTOM-1"),
        element(0x20, 0x0d, "UI", &format!("{sop_instance}.1")),
        element(0x20, 0x0e, "UI", &format!("{sop_instance}.2")),
    ]
    .concat();
    out.extend_from_slice(&[0xe0, 0x7f, 0x10, 0, b'O', b'B', 0, 0, 0xff, 0xff, 0xff, 0xff]);
    out.extend(item(0xe000, 0));
    out
}
