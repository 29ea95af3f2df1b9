//! Why an association did not come about, or ended: one enum per question that a caller asks, each variant with its
//! cause and, where there is one, its remedy.

use std::io;
use std::time::Duration;

use super::codes::{Abort, Rejection};
use super::pdu::PduKind;
use crate::dimse::{AssemblyError, Status};
use crate::model::{AeTitle, Uid};

/// What a peer did that the standard forbids. It is answered with an A-ABORT.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A TLS hello or alert on a connection without TLS.
    #[error("it speaks TLS on a connection without: switch TLS on or off on both sides, each with its own port")]
    Tls,
    /// Some other protocol.
    #[error("it does not speak DICOM (it looks like {0}): check which address and port it is set to")]
    OtherProtocol(&'static str),
    /// A PDU type that does not exist.
    #[error("it sent a PDU of type {0:02X}H, which does not exist")]
    UnknownPdu(u8),
    /// A PDU that may not come now.
    #[error("it sent {pdu} {when}")]
    UnexpectedPdu {
        /// Which.
        pdu: PduKind,
        /// When it came.
        when: &'static str,
    },
    /// A PDU that is longer or shorter than it may be.
    #[error("it sent {pdu} of {length} bytes, which must have {least} to {most}")]
    PduLength {
        /// Which.
        pdu: PduKind,
        /// The length that its head declares.
        length: u32,
        /// The least that is allowed.
        least: u32,
        /// The most that is allowed.
        most: u32,
    },
    /// A PDU whose content breaks its own rules.
    #[error("it sent {pdu} in which {what}")]
    Malformed {
        /// Which.
        pdu: PduKind,
        /// What is wrong.
        what: &'static str,
    },
    /// A fragment on a presentation context that was not accepted.
    #[error("it used presentation context {0}, which was not accepted")]
    ContextNotAccepted(u8),
    /// A maximum PDU length in which not one fragment has room.
    #[error("it takes PDUs of at most {0} bytes, in which no data have room")]
    MaxPduTooSmall(u32),
    /// Fragments that do not make a message.
    #[error("its messages are broken: {0}")]
    Message(#[from] AssemblyError),
    /// An operation on a presentation context of another service.
    #[error("it sent {operation} on a presentation context for {abstract_syntax}, which is not meant for it")]
    WrongService {
        /// The operation.
        operation: &'static str,
        /// What the context was negotiated for.
        abstract_syntax: Uid,
    },
    /// A response that answers nothing.
    #[error("it sent a response that nobody had asked for")]
    UnaskedResponse,
    /// A response to another message than those that are outstanding.
    #[error("it answered message {came}, which was not outstanding, instead of message {expected}, which was")]
    WrongMessageId {
        /// The message that is outstanding, or the first of them.
        expected: u16,
        /// The message that was answered.
        came: u16,
    },
    /// A request while an answer is awaited.
    #[error("it sent {0} while its answer was awaited")]
    UnexpectedRequest(&'static str),
    /// A-RELEASE-RQ while a message was incomplete.
    #[error("it released the association in the middle of a message")]
    ReleaseWithinMessage,
}

impl Violation {
    /// How it is answered. What only the DIMSE layer can see wrong is the application's abort, the rest the upper
    /// layer's.
    #[must_use]
    pub fn abort(&self) -> Abort {
        match self {
            Self::Tls | Self::OtherProtocol(_) | Self::UnknownPdu(_) => Abort::UNRECOGNIZED_PDU,
            Self::UnexpectedPdu { .. } | Self::ReleaseWithinMessage => Abort::UNEXPECTED_PDU,
            Self::PduLength { .. } | Self::Malformed { .. } | Self::ContextNotAccepted(_) | Self::MaxPduTooSmall(_) => {
                Abort::INVALID_PARAMETER
            }
            Self::Message(_)
            | Self::WrongService { .. }
            | Self::UnaskedResponse
            | Self::WrongMessageId { .. }
            | Self::UnexpectedRequest(_) => Abort::BY_USER,
        }
    }
}

/// Why no association came of a connection that was accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// We rejected the request.
    #[error("the association that {calling:?} requested with {called:?} was rejected {rejection}")]
    Rejected {
        /// What the peer was told.
        rejection: Rejection,
        /// The calling AE title as sent, without padding.
        calling: String,
        /// The called AE title as sent, without padding.
        called: String,
    },
    /// The peer broke the protocol, and we aborted.
    #[error("the peer broke the protocol: {0}")]
    Violation(Violation),
    /// ARTIM expired.
    #[error("the peer requested no association within {0:?}; the connection was closed")]
    TimedOut(Duration),
    /// The peer closed the connection before its request was complete.
    #[error("the peer closed the connection {}", if *.received_anything { "within its request" } else { "without a word, as a port scan or a health check does" })]
    Closed {
        /// Whether any byte came.
        received_anything: bool,
    },
    /// The peer aborted.
    #[error("the peer aborted before the association came about, {0}")]
    Aborted(Abort),
    /// The connection failed.
    #[error("the connection failed while the association was negotiated: {0}")]
    Io(#[source] io::Error),
}

/// Why a peer gave us no association.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The peer rejected it.
    #[error("{called} rejected the association that {calling} requested, {rejection}: {}", .rejection.remedy())]
    Rejected {
        /// What the peer said.
        rejection: Rejection,
        /// Our AE title.
        calling: AeTitle,
        /// The AE title that we called.
        called: AeTitle,
    },
    /// The peer aborted instead of answering.
    #[error(
        "the peer aborted instead of answering the request for an association, {0}; its log may say why, and some \
         archives do this to an AE title or address that they do not know"
    )]
    Aborted(Abort),
    /// No answer came in time.
    #[error(
        "the peer took the connection but did not answer the request for an association within {0:?}: is it a DICOM \
         port, and is TLS on or off on both sides?"
    )]
    TimedOut(Duration),
    /// The peer closed the connection instead of answering.
    #[error(
        "the peer closed the connection instead of answering the request for an association: is it a DICOM port, is \
         TLS on or off on both sides, and does it know our address?"
    )]
    Closed,
    /// The peer answered with something else than DICOM allows.
    #[error("the peer broke the protocol: {0}")]
    Violation(Violation),
    /// The request did not leave in time.
    #[error("the request for an association could not be written within {0:?}")]
    WriteStalled(Duration),
    /// The connection failed.
    #[error("the connection failed while the association was negotiated: {0}")]
    Io(#[source] io::Error),
}

/// Why an established association ended.
#[derive(Debug, thiserror::Error)]
pub enum AssociationError {
    /// The peer aborted.
    #[error("the peer aborted the association, {0}")]
    Aborted(Abort),
    /// The peer closed the connection without releasing the association.
    #[error("the peer closed the connection without releasing the association")]
    Closed,
    /// The peer released the association while something was still expected of it.
    #[error("the peer released the association although an answer or data were outstanding")]
    Released,
    /// The peer broke the protocol, and we aborted.
    #[error("the peer broke the protocol, so the association was aborted: {0}")]
    Violation(Violation),
    /// Nothing came for too long.
    #[error("the peer sent nothing for {0:?}, so the association was aborted")]
    Idle(Duration),
    /// The data came too slowly.
    #[error(
        "within a message the peer sent {received} bytes in {window:?}, less than {minimum_rate} a second, so the association was aborted"
    )]
    TooSlow {
        /// What came.
        received: usize,
        /// Within which time of waiting.
        window: Duration,
        /// The least rate, in bytes per second.
        minimum_rate: u32,
    },
    /// A request was not answered in time.
    #[error("the peer did not answer within {0:?}, so the association was aborted")]
    NoResponse(Duration),
    /// A PDU did not leave in time.
    #[error("the peer took no data for {0:?}, so the connection was closed")]
    WriteStalled(Duration),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[source] io::Error),
    /// An earlier call that sent data was dropped half-way, so nobody knows how much was sent; the association was
    /// aborted.
    #[error("sending was interrupted half-way, so the association was aborted")]
    Interrupted,
    /// A call that makes no sense in this state; a mistake of the caller, and nothing was sent.
    #[error("out of turn: {0}")]
    OutOfTurn(&'static str),
    /// The association ended earlier.
    #[error("the association is over")]
    Over,
}

/// Why a C-ECHO did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum EchoError {
    /// No association came about.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The peer accepted the association but not the Verification SOP class.
    #[error("the peer accepted the association but offers no verification; that alone does not keep it from storing")]
    NotSupported,
    /// The association ended before the answer.
    #[error(transparent)]
    Association(#[from] AssociationError),
    /// The peer answered with a failure.
    #[error("the peer answered the C-ECHO with {0}")]
    Status(Status),
}
