//! What is accepted (PS3.8 7.1.1.13 to 7.1.1.14): a pure function of the request and our preference.
//!
//! # Services
//!
//! The gateway stores bytes, so every storage SOP class is accepted, known or not, and private ones, too. The table:
//!
//! | abstract syntax | service |
//! |---|---|
//! | 1.2.840.10008.1.1 | Verification |
//! | below 1.2.840.10008.5.1.4.1.1, except [`NOT_STORAGE`] | Storage |
//! | [`STORAGE_ELSEWHERE`] | Storage |
//! | 1.2.840.10008.1.20.1 | Storage commitment, push model |
//! | everything else below 1.2.840.10008: query, retrieve, worklist, MPPS, print, … | not offered |
//! | everything outside 1.2.840.10008 | Storage: a private SOP class |
//!
//! A private SOP class that is not one of storage cannot be told by its UID; its operations are refused with 0211.
//!
//! # Transfer syntaxes
//!
//! The choice is the acceptor's, and it decides what the modality does to its pixels. So the order is: what keeps
//! everything (Explicit VR Little Endian), what keeps every pixel (the lossless compressions and deflate), what keeps
//! every pixel but loses the value representations of private elements (Implicit VR), what is retired (Big Endian), and
//! only then what may have been or may be made lossy, and what we do not know. Within a class the requestor's order
//! holds, because it tends to name its own syntax first. Nothing is refused for its transfer syntax, but for storage
//! commitment, whose data sets are ours to read and write: there it is one of the two uncompressed little-endian ones.
//!
//! # Roles (PS3.7 D.3.3.4)
//!
//! The gateway is the SCP of all that it accepts, so who associates with it must be the SCU.
//!
//! | proposed for an accepted context | answer |
//! |---|---|
//! | nothing | nothing: the requestor is SCU, the acceptor SCP |
//! | SCU, or SCU and SCP | SCU; that it be SCP is declined |
//! | SCP alone, or neither | both are declined, and so are the contexts of the SOP class: there is nothing that it could do |
//!
//! The one exception are reports of storage commitment that an archive brings ([`Decision::accept_reports`]): there who
//! associates is the SCP, must have proposed to be, and is granted nothing else.
//!
//! No role is answered that was not proposed, and none for a SOP class of which no context is accepted. As requestor, a
//! role that the peer leaves unanswered is the default one, and one that it grants without having been asked is not
//! believed.

use std::sync::LazyLock;

use super::associate::{AssociateRequest, ProposedContext, RoleSelection};
use super::codes::{ContextRefusal, Rejection};
use crate::model::Uid;

/// The Verification SOP class.
pub(super) const VERIFICATION: &str = "1.2.840.10008.1.1";
/// The Storage Commitment Push Model SOP class (PS3.4 J.3).
pub const COMMITMENT: &str = "1.2.840.10008.1.20.1";
pub(super) const IMPLICIT_LE: &str = "1.2.840.10008.1.2";
pub(super) const EXPLICIT_LE: &str = "1.2.840.10008.1.2.1";
const EXPLICIT_BE: &str = "1.2.840.10008.1.2.2";

/// What is not storage below 1.2.840.10008.5.1.4.1.1, although its UID looks like it.
pub const NOT_STORAGE: [&str; 8] = [
    "1.2.840.10008.5.1.4.1.1.200.4", // Protocol Approval: FIND, MOVE, GET
    "1.2.840.10008.5.1.4.1.1.200.5",
    "1.2.840.10008.5.1.4.1.1.200.6",
    "1.2.840.10008.5.1.4.1.1.201.2", // Inventory: FIND, MOVE, GET, creation
    "1.2.840.10008.5.1.4.1.1.201.3",
    "1.2.840.10008.5.1.4.1.1.201.4",
    "1.2.840.10008.5.1.4.1.1.201.5",
    "1.2.840.10008.5.1.4.1.1.201.6", // Repository Query
];

/// The storage SOP classes of the standard that lie elsewhere.
pub const STORAGE_ELSEWHERE: [&str; 11] = [
    "1.2.840.10008.5.1.1.27",    // Stored Print (retired)
    "1.2.840.10008.5.1.1.29",    // Hardcopy Grayscale Image (retired)
    "1.2.840.10008.5.1.1.30",    // Hardcopy Color Image (retired)
    "1.2.840.10008.5.1.4.34.1",  // RT Beams Delivery Instruction, trial (retired)
    "1.2.840.10008.5.1.4.34.7",  // RT Beams Delivery Instruction
    "1.2.840.10008.5.1.4.34.10", // RT Brachy Application Setup Delivery Instruction
    "1.2.840.10008.5.1.4.38.1",  // Hanging Protocol
    "1.2.840.10008.5.1.4.39.1",  // Color Palette
    "1.2.840.10008.5.1.4.43.1",  // Generic Implant Template
    "1.2.840.10008.5.1.4.44.1",  // Implant Assembly Template
    "1.2.840.10008.5.1.4.45.1",  // Implant Template Group
];

/// Transfer syntaxes that keep every pixel, beside the uncompressed ones.
const LOSSLESS: [&str; 16] = [
    "1.2.840.10008.1.2.1.98", // encapsulated uncompressed
    "1.2.840.10008.1.2.1.99", // deflated
    "1.2.840.10008.1.2.8.1",  // deflated image frames
    "1.2.840.10008.1.2.5",    // RLE
    "1.2.840.10008.1.2.4.57", // JPEG lossless, processes 14 and 15, and their hierarchical kin
    "1.2.840.10008.1.2.4.58",
    "1.2.840.10008.1.2.4.65",
    "1.2.840.10008.1.2.4.66",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80", // JPEG-LS
    "1.2.840.10008.1.2.4.90", // JPEG 2000
    "1.2.840.10008.1.2.4.92",
    "1.2.840.10008.1.2.4.110", // JPEG XL
    "1.2.840.10008.1.2.4.111", // JPEG XL, JPEG recompression: exactly the JPEG that it was made from
    "1.2.840.10008.1.2.4.201", // HTJ2K
    "1.2.840.10008.1.2.4.202",
];

/// What an abstract syntax stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// C-ECHO.
    Verification,
    /// C-STORE.
    Storage,
    /// N-ACTION and N-EVENT-REPORT of storage commitment.
    Commitment,
    /// Not offered here.
    Other,
}

/// Which service an abstract syntax stands for; the table is on the module's first page.
#[must_use]
pub fn service(abstract_syntax: &Uid) -> Service {
    let uid = abstract_syntax.as_str();
    let private = !uid.starts_with("1.2.840.10008.");
    let looks_like_storage = uid.starts_with("1.2.840.10008.5.1.4.1.1.") && !NOT_STORAGE.contains(&uid);
    if uid == VERIFICATION {
        Service::Verification
    } else if uid == COMMITMENT {
        Service::Commitment
    } else if private || looks_like_storage || STORAGE_ELSEWHERE.contains(&uid) {
        Service::Storage
    } else {
        Service::Other
    }
}

/// An accepted presentation context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Odd, 1 to 255.
    pub id: u8,
    /// The SOP class.
    pub abstract_syntax: Uid,
    /// In which transfer syntax its data sets are sent.
    pub transfer_syntax: Uid,
}

/// The answer to one proposed presentation context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextAnswer {
    /// Whose answer it is.
    pub id: u8,
    /// The transfer syntax that was chosen, or why none was.
    pub result: Result<Uid, ContextRefusal>,
}

/// The answer to a request for an association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Accept the association, with an answer for each context; we are the SCP.
    Accept(Vec<ContextAnswer>),
    /// Accept it, with an answer for each context; the requestor is the SCP where it has proposed to be.
    AcceptScp(Vec<ContextAnswer>),
    /// Reject the association.
    Reject(Rejection),
}

impl Decision {
    /// Accepts verification, storage commitment and all storage, with transfer syntaxes by `preference`.
    ///
    /// An association of which no context can be accepted is accepted all the same, as PS3.8 has it: so the peer learns
    /// why from the result of each context.
    #[must_use]
    pub fn accept_storage(request: &AssociateRequest, preference: &Preference) -> Self {
        Self::Accept(answer(request, preference))
    }

    /// Accepts reports of storage commitment from a requestor that is its SCP, and verification; nothing else.
    #[must_use]
    pub fn accept_reports(request: &AssociateRequest) -> Self {
        let choose = |context: &ProposedContext| match context.abstract_syntax.as_ref().map(service) {
            Some(Service::Commitment) if proposes_to_report(request) => for_commitment(context),
            Some(Service::Verification) => choose(context, &request.roles, &FOR_VERIFICATION),
            _ => Err(ContextRefusal::AbstractSyntaxNotSupported),
        };
        let contexts = request.contexts.iter();
        Self::AcceptScp(contexts.map(|context| ContextAnswer { id: context.id, result: choose(context) }).collect())
    }
}

/// Whether the requestor has reports to bring: it proposes to be the SCP of storage commitment, and to store nothing. A
/// device that stores may propose both roles without meaning it.
#[must_use]
pub fn brings_reports(request: &AssociateRequest) -> bool {
    let stores = |context: &ProposedContext| {
        context.abstract_syntax.as_ref().is_some_and(|class| service(class) == Service::Storage)
    };
    proposes_to_report(request) && !request.contexts.iter().any(stores)
}

fn proposes_to_report(request: &AssociateRequest) -> bool {
    request.roles.iter().any(|role| role.scp && role.sop_class_uid.as_str() == COMMITMENT)
}

/// Which part we have in an association that we accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Scp,
    /// Of storage commitment.
    Scu,
}

/// Which transfer syntax is preferred. The default is on the module's first page; some can be put in front of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preference {
    first: Vec<Uid>,
}

impl Preference {
    /// Prefers these, in this order, to everything else.
    #[must_use]
    pub fn first(first: Vec<Uid>) -> Self {
        Self { first }
    }

    /// The smaller, the better.
    fn rank(&self, transfer_syntax: &Uid) -> usize {
        let classes = self.first.len();
        let uid = transfer_syntax.as_str();
        match self.first.iter().position(|first| first == transfer_syntax) {
            Some(position) => position,
            None if uid == EXPLICIT_LE => classes,
            None if LOSSLESS.contains(&uid) => classes + 1,
            None if uid == IMPLICIT_LE => classes + 2,
            None if uid == EXPLICIT_BE => classes + 3,
            // Lossy, or of unknown quality, but something that the standard defines for stored images.
            None if uid.starts_with("1.2.840.10008.1.2.4.") => classes + 4,
            None => classes + 5,
        }
    }

    fn choose<'a>(&self, proposed: &'a [Uid]) -> Option<&'a Uid> {
        // `min_by_key` returns the first of equals, which is the requestor's own order.
        proposed.iter().min_by_key(|uid| self.rank(uid))
    }
}

/// For verification: the default transfer syntax of DICOM, because there is no data set to keep.
static FOR_VERIFICATION: LazyLock<Preference> = LazyLock::new(|| Preference {
    first: [IMPLICIT_LE, EXPLICIT_LE].iter().filter_map(|uid| uid.parse().ok()).collect(),
});

/// For storage commitment: what its data sets are read and written in.
const FOR_COMMITMENT: [&str; 2] = [EXPLICIT_LE, IMPLICIT_LE];

/// The answer to each proposed context.
#[must_use]
pub fn answer(request: &AssociateRequest, preference: &Preference) -> Vec<ContextAnswer> {
    request
        .contexts
        .iter()
        .map(|context| ContextAnswer { id: context.id, result: choose(context, &request.roles, preference) })
        .collect()
}

/// The answers to the role selections of a request whose contexts are answered like this.
pub(super) fn roles(request: &AssociateRequest, answers: &[ContextAnswer], part: Part) -> Vec<RoleSelection> {
    let is_accepted = |id: u8| answers.iter().any(|answer| answer.id == id && answer.result.is_ok());
    let has_context = |class: &Uid| {
        request
            .contexts
            .iter()
            .any(|context| context.abstract_syntax.as_ref() == Some(class) && is_accepted(context.id))
    };
    let proposed = request.roles.iter().filter(|role| has_context(&role.sop_class_uid));
    let agreed = |role: &RoleSelection| match part {
        Part::Scu if role.sop_class_uid.as_str() == COMMITMENT => RoleSelection { scu: false, ..role.clone() },
        _ => RoleSelection { scp: false, ..role.clone() },
    };
    proposed.map(agreed).collect()
}

/// What a requestor may believe of the answers to its role selections: no more than it has proposed. What is not
/// answered has the default roles.
#[must_use]
pub fn credible_roles(proposed: &[RoleSelection], answered: &[RoleSelection]) -> Vec<RoleSelection> {
    let agreed = |role: &RoleSelection| {
        let answer = answered.iter().find(|answer| answer.sop_class_uid == role.sop_class_uid)?;
        Some(RoleSelection { scu: role.scu && answer.scu, scp: role.scp && answer.scp, ..role.clone() })
    };
    proposed.iter().filter_map(agreed).collect()
}

fn choose(context: &ProposedContext, roles: &[RoleSelection], preference: &Preference) -> Result<Uid, ContextRefusal> {
    let is_scu = |class: &Uid| roles.iter().find(|role| role.sop_class_uid == *class).is_none_or(|role| role.scu);
    let offered = context.abstract_syntax.as_ref().map(|class| (service(class), is_scu(class)));
    let preference = match offered {
        Some((Service::Other, _)) | None => return Err(ContextRefusal::AbstractSyntaxNotSupported),
        Some((_, false)) => return Err(ContextRefusal::ByUser),
        Some((Service::Commitment, true)) => return for_commitment(context),
        Some((Service::Verification, true)) => &*FOR_VERIFICATION,
        Some((Service::Storage, true)) => preference,
    };
    preference.choose(&context.transfer_syntaxes).cloned().ok_or(ContextRefusal::TransferSyntaxesNotSupported)
}

fn for_commitment(context: &ProposedContext) -> Result<Uid, ContextRefusal> {
    let proposed = |known: &str| context.transfer_syntaxes.iter().find(|uid| uid.as_str() == known);
    let chosen = FOR_COMMITMENT.iter().find_map(|known| proposed(known));
    chosen.cloned().ok_or(ContextRefusal::TransferSyntaxesNotSupported)
}
