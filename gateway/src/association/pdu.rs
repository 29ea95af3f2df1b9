//! Framing (PS3.8 9.3.1): the head of a PDU, the short PDUs, and the PDVs of a P-DATA-TF.

use std::fmt;

use bytes::{Buf, Bytes};

use super::codes::{Abort, Rejection};
use super::error::Violation;
use super::spoken::{Spoken, recognise};

/// The bytes of a PDU before its content: type, reserved, length.
pub(super) const HEAD: usize = 6;

/// The bytes of a PDV before its data: length, presentation context id, message control header.
pub(super) const PDV_HEAD: usize = 6;

/// The longest A-ASSOCIATE-RQ or -AC that is taken, in bytes after the head.
///
/// The most that a real one has are 128 contexts with every transfer syntax that its maker knows: 130 KB from DCMTK, 158 KB
/// from pynetdicom, and 216 KB with all of the standard. Each connection that has not come to an association could hold on
/// to so much by keeping back its last byte; a caller who cannot afford that says how much there is room for
/// (`transport::accept_within`).
pub(super) const MAX_ASSOCIATE: u32 = 256 * 1024;

/// The fixed fields of A-ASSOCIATE-RQ and -AC after the head: version, AE titles, reserved.
pub(super) const ASSOCIATE_FIXED: u32 = 68;

/// A-RELEASE, A-ABORT and A-ASSOCIATE-RJ have 4 bytes after the head; some peers add a few.
const SHORT: (u32, u32) = (4, 64);

/// The types of PDU (PS3.8 9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PduKind {
    /// A-ASSOCIATE-RQ.
    AssociateRq,
    /// A-ASSOCIATE-AC.
    AssociateAc,
    /// A-ASSOCIATE-RJ.
    AssociateRj,
    /// P-DATA-TF.
    Data,
    /// A-RELEASE-RQ.
    ReleaseRq,
    /// A-RELEASE-RP.
    ReleaseRp,
    /// A-ABORT.
    Abort,
}

impl PduKind {
    pub(super) fn from_wire(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::AssociateRq,
            2 => Self::AssociateAc,
            3 => Self::AssociateRj,
            4 => Self::Data,
            5 => Self::ReleaseRq,
            6 => Self::ReleaseRp,
            7 => Self::Abort,
            _ => return None,
        })
    }

    /// The least and the most bytes after the head, given the longest P-DATA-TF that we announced.
    fn bounds(self, max_pdu: u32) -> (u32, u32) {
        match self {
            Self::AssociateRq | Self::AssociateAc => (ASSOCIATE_FIXED, MAX_ASSOCIATE),
            Self::Data => (6, max_pdu),
            Self::AssociateRj | Self::ReleaseRq | Self::ReleaseRp | Self::Abort => SHORT,
        }
    }
}

impl fmt::Display for PduKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AssociateRq => "an A-ASSOCIATE-RQ",
            Self::AssociateAc => "an A-ASSOCIATE-AC",
            Self::AssociateRj => "an A-ASSOCIATE-RJ",
            Self::Data => "a P-DATA-TF",
            Self::ReleaseRq => "an A-RELEASE-RQ",
            Self::ReleaseRp => "an A-RELEASE-RP",
            Self::Abort => "an A-ABORT",
        })
    }
}

/// The head of a PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: PduKind,
    /// The bytes that follow.
    pub(super) length: usize,
}

impl Head {
    /// Reads the head at the front of `input`; `None` while it is incomplete. The length is within the bounds of its
    /// type; whether the type may come now is the state machine's to say.
    pub(super) fn read(input: &[u8], max_pdu: u32) -> Result<Option<Self>, Violation> {
        let Some([code, _, l0, l1, l2, l3]) = input.first_chunk() else { return Ok(None) };
        let kind = PduKind::from_wire(*code).ok_or(Violation::UnknownPdu(*code))?;
        let length = u32::from_be_bytes([*l0, *l1, *l2, *l3]);
        let (least, most) = kind.bounds(max_pdu);
        match usize::try_from(length) {
            Ok(bytes) if (least..=most).contains(&length) => Ok(Some(Self { kind, length: bytes })),
            _ => Err(Violation::PduLength { pdu: kind, length, least, most }),
        }
    }
}

/// What it may be that speaks on our port instead of DICOM, by its first bytes.
pub(super) fn other_protocol(input: &[u8]) -> Option<Violation> {
    match recognise(input) {
        Spoken::Dicom => None,
        Spoken::Tls => Some(Violation::Tls),
        Spoken::Http => Some(Violation::OtherProtocol("HTTP")),
        Spoken::Ssh => Some(Violation::OtherProtocol("SSH")),
        Spoken::Unknown => Some(Violation::OtherProtocol("nothing that we know")),
    }
}

/// One presentation data value (PS3.8 9.3.5.1 and E.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pdv {
    pub(super) context: u8,
    pub(super) is_command: bool,
    pub(super) is_last: bool,
    pub(super) data: Bytes,
}

/// Takes the next PDV off the front of the content of a P-DATA-TF, without a copy; `None` at its end.
pub(super) fn next_pdv(content: &mut Bytes) -> Result<Option<Pdv>, Violation> {
    if content.is_empty() {
        return Ok(None);
    }
    let malformed = |what| Violation::Malformed { pdu: PduKind::Data, what };
    let Some([l0, l1, l2, l3, context, header]) = content.first_chunk::<PDV_HEAD>().copied() else {
        return Err(malformed("the last bytes are no presentation data value"));
    };
    let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    // The length counts the context id and the message control header.
    let Some(data_length) = length.checked_sub(2) else {
        return Err(malformed("a presentation data value has a length below 2"));
    };
    content.advance(PDV_HEAD);
    if data_length > content.len() {
        return Err(malformed("a presentation data value is longer than its PDU"));
    }
    // The other six bits of the message control header are reserved and not tested (PS3.8 E.2).
    let (is_command, is_last) = (header & 1 != 0, header & 2 != 0);
    Ok(Some(Pdv { context, is_command, is_last, data: content.split_to(data_length) }))
}

/// The last four bytes of A-ASSOCIATE-RJ and A-ABORT; every code is taken, known or not.
fn last_codes(content: &[u8]) -> [u8; 3] {
    match content {
        [_, a, b, c, ..] => [*a, *b, *c],
        _ => [0; 3],
    }
}

pub(super) fn read_rejection(content: &[u8]) -> Rejection {
    let [result, source, reason] = last_codes(content);
    Rejection { result, source, reason }
}

pub(super) fn read_abort(content: &[u8]) -> Abort {
    let [_, source, reason] = last_codes(content);
    Abort { source, reason }
}

pub(super) fn rejection(rejection: Rejection) -> [u8; 10] {
    [3, 0, 0, 0, 0, 4, 0, rejection.result, rejection.source, rejection.reason]
}

pub(super) fn abort(abort: Abort) -> [u8; 10] {
    [7, 0, 0, 0, 0, 4, 0, 0, abort.source, abort.reason]
}

pub(super) const RELEASE_RQ: [u8; 10] = [5, 0, 0, 0, 0, 4, 0, 0, 0, 0];
pub(super) const RELEASE_RP: [u8; 10] = [6, 0, 0, 0, 0, 4, 0, 0, 0, 0];

#[cfg(test)]
mod tests {
    use dicom_ul::pdu as ul;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_short_pdus_are_those_of_the_standard() {
        let read = |bytes: &[u8]| ul::read_pdu(bytes, 16384, true).unwrap().unwrap();
        assert_eq!(read(&RELEASE_RQ), ul::Pdu::ReleaseRQ);
        assert_eq!(read(&RELEASE_RP), ul::Pdu::ReleaseRP);
        let reason = ul::AbortRQServiceProviderReason::UnexpectedPdu;
        let expected = ul::Pdu::AbortRQ { source: ul::AbortRQSource::ServiceProvider(reason) };
        assert_eq!(read(&abort(Abort::UNEXPECTED_PDU)), expected);
        let expected = ul::Pdu::AssociationRJ(ul::AssociationRJ {
            result: ul::AssociationRJResult::Transient,
            source: ul::AssociationRJSource::ServiceProviderPresentation(
                ul::AssociationRJServiceProviderPresentationReason::LocalLimitExceeded,
            ),
        });
        assert_eq!(read(&rejection(Rejection::LOCAL_LIMIT_EXCEEDED)), expected);
        assert_eq!(read_rejection(&rejection(Rejection::LOCAL_LIMIT_EXCEEDED)[6..]), Rejection::LOCAL_LIMIT_EXCEEDED);
        assert_eq!(read_abort(&abort(Abort::UNEXPECTED_PDU)[6..]), Abort::UNEXPECTED_PDU);
    }

    #[test]
    fn a_head_is_judged_at_its_sixth_byte() {
        assert_eq!(Head::read(&[4, 0, 0, 0, 0], 4096), Ok(None));
        let length = |kind: u8, length: u32| {
            let [a, b, c, d] = length.to_be_bytes();
            Head::read(&[kind, 0, a, b, c, d], 4096).is_ok()
        };
        assert!(length(1, 68) && length(1, MAX_ASSOCIATE) && !length(1, 67) && !length(1, MAX_ASSOCIATE + 1));
        assert!(length(4, 6) && length(4, 4096) && !length(4, 0) && !length(4, 5) && !length(4, 4097));
        assert!(length(5, 4) && length(5, 10) && !length(5, 3) && !length(5, 65));
        for kind in 0..=255 {
            assert!(!length(kind, u32::MAX), "{kind}");
        }
    }

    #[test]
    fn other_protocols_are_told_by_their_first_bytes() {
        assert_eq!(other_protocol(&[0x16, 3, 1, 2, 0, 1]), Some(Violation::Tls));
        assert_eq!(other_protocol(b"GET / "), Some(Violation::OtherProtocol("HTTP")));
        assert_eq!(other_protocol(b"OPTION"), Some(Violation::OtherProtocol("HTTP")));
        assert_eq!(other_protocol(b"SSH-2."), Some(Violation::OtherProtocol("SSH")));
        assert!(other_protocol(&[0x99, 0, 0, 0, 0, 4]).is_some());
        assert_eq!(other_protocol(&[4, 0, 0, 0, 0, 4]), None);
    }

    /// The PDVs as our reader sees them.
    fn ours(content: &[u8]) -> Option<Vec<Pdv>> {
        let mut content = Bytes::copy_from_slice(content);
        let mut pdvs = Vec::new();
        while let Some(pdv) = next_pdv(&mut content).ok()? {
            pdvs.push(pdv);
        }
        Some(pdvs)
    }

    /// The PDVs as the reader of dicom-ul sees them.
    fn theirs(content: &[u8]) -> Option<Vec<Pdv>> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        let pdu = [&[4, 0][..], &length, content].concat();
        let Some(ul::Pdu::PData { data }) = ul::read_pdu(&pdu[..], 1 << 20, true).ok()? else { return None };
        let convert = |value: ul::PDataValue| Pdv {
            context: value.presentation_context_id,
            is_command: value.value_type == ul::PDataValueType::Command,
            is_last: value.is_last,
            data: value.data.into(),
        };
        Some(data.into_iter().map(convert).collect())
    }

    proptest! {
        #[test]
        fn pdvs_are_read_as_dicom_ul_reads_them(
            values in prop::collection::vec((any::<u8>(), 0_u8..4, prop::collection::vec(any::<u8>(), 0..20)), 0..5),
            damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let mut content: Vec<u8> = Vec::new();
            for (context, header, data) in &values {
                content.extend_from_slice(&u32::try_from(data.len() + 2).unwrap().to_be_bytes());
                content.extend_from_slice(&[*context, *header]);
                content.extend_from_slice(data);
            }
            if let Some((at, value)) = damage.filter(|_| !content.is_empty()) {
                let at = at.index(content.len());
                content[at] = value;
            }
            prop_assert_eq!(ours(&content), theirs(&content));
        }
    }
}
