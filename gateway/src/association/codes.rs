//! The codes by which one side tells the other why not (PS3.8 9.3.3.2, 9.3.4, 9.3.8), kept as they came.

use std::fmt;

/// The source and reason of an A-ABORT (PS3.8 9.3.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    /// 0: service-user, 2: service-provider.
    pub source: u8,
    /// Meaningful only if the source is 2.
    pub reason: u8,
}

impl Abort {
    /// The application itself gives up.
    pub const BY_USER: Self = Self { source: 0, reason: 0 };
    /// The upper layer gives up for a reason that has no code, such as a time-out.
    pub const NOT_SPECIFIED: Self = Self { source: 2, reason: 0 };
    /// A PDU type that does not exist.
    pub const UNRECOGNIZED_PDU: Self = Self { source: 2, reason: 1 };
    /// A PDU that may not come in this state.
    pub const UNEXPECTED_PDU: Self = Self { source: 2, reason: 2 };
    /// A PDU with a field that is out of range or does not fit.
    pub const INVALID_PARAMETER: Self = Self { source: 2, reason: 6 };
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.source, self.reason) {
            (0, _) => f.write_str("by the application there"),
            (2, 0) => f.write_str("by the upper layer there, which gives no reason"),
            (2, 1) => f.write_str("by the upper layer there: it does not know a PDU that it was sent"),
            (2, 2) => f.write_str("by the upper layer there: it did not expect a PDU that it was sent"),
            (2, 4) => f.write_str("by the upper layer there: it does not know a parameter that it was sent"),
            (2, 5) => f.write_str("by the upper layer there: it did not expect a parameter that it was sent"),
            (2, 6) => f.write_str("by the upper layer there: it found the value of a parameter invalid"),
            (source, reason) => write!(f, "with codes that mean nothing: source {source}, reason {reason}"),
        }
    }
}

/// The result, source and reason of an A-ASSOCIATE-RJ (PS3.8 9.3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// 1: permanent, 2: transient.
    pub result: u8,
    /// 1: service-user, 2: service-provider (ACSE), 3: service-provider (presentation).
    pub source: u8,
    /// Its meaning depends on the source.
    pub reason: u8,
}

impl Rejection {
    /// Permanent, no reason given.
    pub const NO_REASON: Self = Self { result: 1, source: 1, reason: 1 };
    /// Permanent: the application context is not that of DICOM.
    pub const APPLICATION_CONTEXT_NOT_SUPPORTED: Self = Self { result: 1, source: 1, reason: 2 };
    /// Permanent: the caller is not known here.
    pub const CALLING_AE_NOT_RECOGNIZED: Self = Self { result: 1, source: 1, reason: 3 };
    /// Permanent: nobody of that name is here.
    pub const CALLED_AE_NOT_RECOGNIZED: Self = Self { result: 1, source: 1, reason: 7 };
    /// Permanent: the user identity is not accepted (PS3.7 D.3.3.7: rejected by the service-provider, ACSE).
    pub const USER_IDENTITY_NOT_ACCEPTED: Self = Self { result: 1, source: 2, reason: 1 };
    /// Permanent: not version 1 of the protocol.
    pub const PROTOCOL_VERSION_NOT_SUPPORTED: Self = Self { result: 1, source: 2, reason: 2 };
    /// Transient: too much at the moment.
    pub const TEMPORARY_CONGESTION: Self = Self { result: 2, source: 3, reason: 1 };
    /// Transient: a limit is reached, such as that of associations.
    pub const LOCAL_LIMIT_EXCEEDED: Self = Self { result: 2, source: 3, reason: 2 };

    /// Whether the peer says that it may be otherwise later. Everything that is not "permanent" counts as that.
    #[must_use]
    pub fn is_transient(self) -> bool {
        self.result != 1
    }

    /// What a person can do about it on the side that was rejected.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match (self.source, self.reason) {
            (1, 2) => "the peer speaks no DICOM that we know; check the port",
            (1, 3) => "add our calling AE title at the peer, or set `aet` to one that it knows",
            (1, 7) => "correct the called AE title, which must be the peer's own",
            (2, 1) => "the peer may want, or not want, a user identity; its log may say why",
            (2, 2) => "the peer speaks no DICOM that we know; check the port",
            (3, 1 | 2) => "nothing has to be done if it passes; otherwise raise the limit of associations at the peer",
            _ => "the log of the peer may say why",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_transient() { "for the moment: " } else { "for good: " })?;
        match (self.source, self.reason) {
            (1 | 2, 1) => f.write_str("no reason given"),
            (1, 2) => f.write_str("application context not supported"),
            (1, 3) => f.write_str("calling AE title not recognised"),
            (1, 7) => f.write_str("called AE title not recognised"),
            (2, 2) => f.write_str("protocol version not supported"),
            (3, 1) => f.write_str("temporary congestion"),
            (3, 2) => f.write_str("local limit exceeded"),
            (source, reason) => write!(f, "codes that mean nothing (source {source}, reason {reason})"),
        }
    }
}

/// Why a presentation context was not accepted (PS3.8 9.3.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextRefusal {
    /// 1: the application does not want it.
    ByUser,
    /// 2, or a code that does not exist, or no answer at all.
    NoReason,
    /// 3: the service is not offered.
    AbstractSyntaxNotSupported,
    /// 4: none of the transfer syntaxes is.
    TransferSyntaxesNotSupported,
}

impl ContextRefusal {
    pub(super) fn from_wire(result: u8) -> Self {
        match result {
            1 => Self::ByUser,
            3 => Self::AbstractSyntaxNotSupported,
            4 => Self::TransferSyntaxesNotSupported,
            _ => Self::NoReason,
        }
    }
}

impl fmt::Display for ContextRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ByUser => "refused by the application",
            Self::NoReason => "refused without a reason",
            Self::AbstractSyntaxNotSupported => "the SOP class is not supported",
            Self::TransferSyntaxesNotSupported => "none of the transfer syntaxes is supported",
        })
    }
}
