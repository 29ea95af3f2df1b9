//! A-ASSOCIATE-RQ and A-ASSOCIATE-AC (PS3.8 9.3.2 and 9.3.3, PS3.7 D.3).
//!
//! Written with dicom-ul, read by ourselves (the module's first page says why). The reader takes the field's bad habits:
//! NUL padding of AE titles and UIDs, unknown items and sub-items, zeros behind the last item, a version with extra
//! bits, contexts whose UIDs cannot be read (those contexts are then refused, not the association). It does not take
//! items that overrun, and everything that it keeps is bounded by the 256 KiB of the PDU and the limits below.

use std::collections::HashSet;

use dicom_ul::pdu as ul;

use super::codes::{ContextRefusal, Rejection};
use super::error::Violation;
use super::identity::{self, UserIdentity};
use super::negotiation::ContextAnswer;
use super::pdu::PduKind;
use super::settings::RequestorSettings;
use crate::model::{AeTitle, Uid};

/// The only application context name (PS3.7 A.2.1).
const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";
/// This implementation (PS3.7 D.3.3.2), a UID made from a UUID.
const IMPLEMENTATION_CLASS_UID: &str = "2.25.305361012378501196464551397168897336900";
/// Its version: at most 16 characters.
const IMPLEMENTATION_VERSION: &str = concat!("WAYSTATION_", env!("CARGO_PKG_VERSION"));
/// The one bit of the version that is tested (PS3.8 9.3.2).
const VERSION_1: u16 = 1;
/// PS3.8 9.3.2.2: odd ids from 1 to 255.
const MAX_CONTEXTS: usize = 128;
/// More are read over: the standard has some 60.
const MAX_TRANSFER_SYNTAXES: usize = 128;
/// More different ones in all contexts together are read over, too.
const MAX_DIFFERENT_TRANSFER_SYNTAXES: usize = 256;
/// More role selections than contexts make no sense, and are read over.
const MAX_ROLES: usize = MAX_CONTEXTS;

/// A request for an association, as `decide` sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociateRequest {
    /// Whom the peer calls.
    pub called_ae: AeTitle,
    /// Who the peer says it is.
    pub calling_ae: AeTitle,
    /// What it proposes: 1 to 128 contexts with odd, distinct ids.
    pub contexts: Vec<ProposedContext>,
    /// The longest P-DATA-TF that it takes, in bytes after the head; 0 for any.
    pub max_pdu: u32,
    /// Its implementation.
    pub implementation_class_uid: Option<Uid>,
    /// Its version: at most 16 printable characters.
    pub implementation_version: Option<String>,
    /// Asynchronous operations window (PS3.7 D.3.3.3): how many operations the requestor wants to invoke and to perform at
    /// the same time; 0 for any number.
    pub async_operations: Option<(u16, u16)>,
    /// Roles that it proposes (PS3.7 D.3.3.4), at most one for each SOP class; `negotiation` answers them.
    pub roles: Vec<RoleSelection>,
    /// Who uses the modality (PS3.7 D.3.3.7).
    pub user_identity: Option<UserIdentity>,
    /// Bytes 11 to 74 of the PDU, which the A-ASSOCIATE-AC repeats (PS3.8 9.3.3).
    echoed: [u8; 64],
}

/// A proposed presentation context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposedContext {
    /// Odd, 1 to 255.
    pub id: u8,
    /// The SOP class; `None` if there is not exactly one, or it is not a UID.
    pub abstract_syntax: Option<Uid>,
    /// The transfer syntaxes in the order proposed; what is not a UID is left out.
    pub transfer_syntaxes: Vec<Uid>,
}

/// SCP/SCU role selection (PS3.7 D.3.3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSelection {
    /// For which SOP class.
    pub sop_class_uid: Uid,
    /// In a request, whether the requestor wants to be SCU; in an answer, whether it may.
    pub scu: bool,
    /// In a request, whether the requestor wants to be SCP; in an answer, whether it may.
    pub scp: bool,
}

/// Why a request does not get as far as `decide`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unacceptable {
    Violation(Violation),
    Rejected { rejection: Rejection, calling: String, called: String },
}

impl From<Violation> for Unacceptable {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl AssociateRequest {
    /// Reads the content of an A-ASSOCIATE-RQ.
    pub(super) fn read(content: &[u8]) -> Result<Self, Unacceptable> {
        const RQ: PduKind = PduKind::AssociateRq;
        let (version, echoed, items) = fixed_fields(content, RQ)?;
        let (called, calling) = (title_field(&echoed, 0), title_field(&echoed, 16));
        let reject = |rejection| Unacceptable::Rejected {
            rejection,
            calling: String::from_utf8_lossy(calling).trim_matches([' ', '\0']).to_owned(),
            called: String::from_utf8_lossy(called).trim_matches([' ', '\0']).to_owned(),
        };
        if version & VERSION_1 == 0 {
            return Err(reject(Rejection::PROTOCOL_VERSION_NOT_SUPPORTED));
        }
        let mut application_context: &[u8] = &[];
        let mut contexts: Vec<ProposedContext> = Vec::new();
        let mut transfer_syntaxes = TransferSyntaxes::default();
        let mut user = UserInformation::default();
        for item in (Items { rest: items, pdu: RQ }) {
            match item? {
                (0x10, value) => application_context = value,
                (0x20, value) => {
                    let context = read_proposed(value, &mut transfer_syntaxes)?;
                    check_id(&context, &contexts)?;
                    contexts.push(context);
                }
                (0x50, value) => user.read(value, RQ)?,
                _ => {}
            }
        }
        if trimmed(application_context) != APPLICATION_CONTEXT.as_bytes() {
            return Err(reject(Rejection::APPLICATION_CONTEXT_NOT_SUPPORTED));
        }
        if contexts.is_empty() {
            return Err(Violation::Malformed { pdu: RQ, what: "no presentation context is proposed" }.into());
        }
        Ok(Self {
            called_ae: AeTitle::from_wire(called).map_err(|_| reject(Rejection::CALLED_AE_NOT_RECOGNIZED))?,
            calling_ae: AeTitle::from_wire(calling).map_err(|_| reject(Rejection::CALLING_AE_NOT_RECOGNIZED))?,
            contexts,
            max_pdu: user.max_pdu,
            implementation_class_uid: user.implementation_class_uid,
            implementation_version: user.implementation_version,
            async_operations: user.async_operations,
            roles: user.roles,
            user_identity: user.user_identity,
            echoed,
        })
    }

    /// The request that these settings stand for.
    pub(super) fn from_settings(settings: &RequestorSettings, max_pdu: u32) -> Self {
        Self {
            called_ae: settings.called_ae.clone(),
            calling_ae: settings.calling_ae.clone(),
            contexts: settings.contexts.clone(),
            max_pdu,
            implementation_class_uid: IMPLEMENTATION_CLASS_UID.parse().ok(),
            implementation_version: Some(IMPLEMENTATION_VERSION.to_owned()),
            // What we are asked to perform, as for a report on commitment, we perform one by one.
            async_operations: (settings.operations > 1).then_some((settings.operations, 1)),
            roles: settings.roles.clone(),
            user_identity: None,
            echoed: [0; 64],
        }
    }

    /// The A-ASSOCIATE-RQ of this request.
    pub(super) fn encode(&self) -> Vec<u8> {
        let proposed = |context: &ProposedContext| {
            Some(ul::PresentationContextProposed {
                id: context.id,
                abstract_syntax: context.abstract_syntax.as_ref()?.to_string(),
                transfer_syntaxes: context.transfer_syntaxes.iter().map(Uid::to_string).collect(),
            })
        };
        write(&ul::Pdu::AssociationRQ(ul::AssociationRQ {
            protocol_version: VERSION_1,
            calling_ae_title: self.calling_ae.to_string(),
            called_ae_title: self.called_ae.to_string(),
            application_context_name: APPLICATION_CONTEXT.to_owned(),
            presentation_contexts: self.contexts.iter().filter_map(proposed).collect(),
            user_variables: user_variables(self.max_pdu, self.async_operations, &self.roles),
        }))
    }

    /// The A-ASSOCIATE-AC that answers this request. A context without an answer is refused without a reason.
    pub(super) fn accept(&self, answers: &[ContextAnswer], roles: &[RoleSelection], terms: &Terms) -> Vec<u8> {
        let result = |context: &ProposedContext| {
            let answer = answers.iter().find(|answer| answer.id == context.id);
            let result = answer.map_or(&Err(ContextRefusal::NoReason), |answer| &answer.result);
            // The transfer syntax of a refused context means nothing, but has to be there.
            let syntax = result.as_ref().ok().or(context.transfer_syntaxes.first());
            ul::PresentationContextResult {
                id: context.id,
                reason: match result {
                    Ok(_) => ul::PresentationContextResultReason::Acceptance,
                    Err(ContextRefusal::ByUser) => ul::PresentationContextResultReason::UserRejection,
                    Err(ContextRefusal::NoReason) => ul::PresentationContextResultReason::NoReason,
                    Err(ContextRefusal::AbstractSyntaxNotSupported) => {
                        ul::PresentationContextResultReason::AbstractSyntaxNotSupported
                    }
                    Err(ContextRefusal::TransferSyntaxesNotSupported) => {
                        ul::PresentationContextResultReason::TransferSyntaxesNotSupported
                    }
                },
                transfer_syntax: syntax.map_or("1.2.840.10008.1.2", Uid::as_str).to_owned(),
            }
        };
        let mut bytes = write(&ul::Pdu::AssociationAC(ul::AssociationAC {
            protocol_version: VERSION_1,
            calling_ae_title: String::new(),
            called_ae_title: String::new(),
            application_context_name: APPLICATION_CONTEXT.to_owned(),
            presentation_contexts: self.contexts.iter().map(result).collect(),
            user_variables: self.answered_variables(roles, terms),
        }));
        if let Some(echoed) = bytes.get_mut(10..74) {
            echoed.copy_from_slice(&self.echoed);
        }
        bytes
    }

    fn answered_variables(&self, roles: &[RoleSelection], terms: &Terms) -> Vec<ul::UserVariableItem> {
        let window = self.async_operations.map(|(invoked, _)| (agreed(invoked, terms.operations), 1));
        let mut items = user_variables(terms.max_pdu, window, roles);
        if terms.knows_users && self.user_identity.as_ref().is_some_and(|identity| identity.response_requested) {
            let (kind, value) = identity::RESPONSE;
            items.push(ul::UserVariableItem::Unknown(kind, value.to_vec()));
        }
        items
    }
}

/// What an acceptor says of itself, whatever is requested.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) max_pdu: u32,
    /// Whether a user identity is answered, if the peer has asked for that.
    pub(super) knows_users: bool,
    /// How many operations a requestor may have outstanding.
    pub(super) operations: u16,
}

/// How many operations may be outstanding where one side has said a number (0 for any) and the other has a limit.
fn agreed(said: u16, limit: u16) -> u16 {
    let said = if said == 0 { limit } else { said };
    said.min(limit).max(1)
}

/// What a peer accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AssociateAccept {
    /// Id and answer of each context, in the order sent; an accepted one without a readable transfer syntax counts as
    /// refused.
    pub(super) contexts: Vec<ContextAnswer>,
    pub(super) max_pdu: u32,
    /// The answers to role selections.
    pub(super) roles: Vec<RoleSelection>,
    /// How many operations we may invoke at the same time, 0 for any number, if it says so (PS3.7 D.3.3.3).
    invoked: Option<u16>,
}

impl AssociateAccept {
    /// Reads the content of an A-ASSOCIATE-AC. Neither its version nor its AE titles nor its application context are
    /// tested: the peer has accepted.
    pub(super) fn read(content: &[u8]) -> Result<Self, Violation> {
        const AC: PduKind = PduKind::AssociateAc;
        let (_, _, items) = fixed_fields(content, AC)?;
        let mut contexts: Vec<ContextAnswer> = Vec::new();
        let mut user = UserInformation::default();
        for item in (Items { rest: items, pdu: AC }) {
            match item? {
                (0x21, value) if contexts.len() < MAX_CONTEXTS => contexts.push(read_answer(value)?),
                (0x50, value) => user.read(value, AC)?,
                _ => {}
            }
        }
        let invoked = user.async_operations.map(|(invoked, _)| invoked);
        Ok(Self { contexts, max_pdu: user.max_pdu, roles: user.roles, invoked })
    }

    /// How many operations may be outstanding after this answer to `request`: never more than were proposed, and one if
    /// nothing was agreed upon (PS3.7 D.3.3.3).
    pub(super) fn operations(&self, request: &AssociateRequest) -> u16 {
        match (request.async_operations, self.invoked) {
            (Some((proposed, _)), Some(invoked)) => agreed(invoked, proposed),
            _ => 1,
        }
    }
}

/// Version, the 64 bytes of AE titles and reserved bytes, and the items.
fn fixed_fields(content: &[u8], pdu: PduKind) -> Result<(u16, [u8; 64], &[u8]), Violation> {
    let short = Violation::Malformed { pdu, what: "the fixed fields are cut off" };
    let Some(([v0, v1, _, _], rest)) = content.split_first_chunk() else { return Err(short) };
    let Some((echoed, items)) = rest.split_first_chunk() else { return Err(short) };
    Ok((u16::from_be_bytes([*v0, *v1]), *echoed, items))
}

fn title_field(echoed: &[u8; 64], from: usize) -> &[u8] {
    echoed.get(from..from + 16).unwrap_or_default()
}

fn check_id(context: &ProposedContext, before: &[ProposedContext]) -> Result<(), Violation> {
    let malformed = |what| Err(Violation::Malformed { pdu: PduKind::AssociateRq, what });
    if context.id.is_multiple_of(2) {
        malformed("a presentation context id is even")
    } else if before.iter().any(|other| other.id == context.id) {
        malformed("a presentation context id occurs twice")
    } else {
        Ok(())
    }
}

/// A sequence of items or sub-items: type, reserved, length (2 bytes), value.
struct Items<'a> {
    rest: &'a [u8],
    pdu: PduKind,
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<(u8, &'a [u8]), Violation>;

    fn next(&mut self) -> Option<Self::Item> {
        // Some peers pad the PDU with zeros; four or more read as unknown items of length 0.
        if self.rest.len() < 4 && self.rest.iter().all(|byte| *byte == 0) {
            return None;
        }
        let item = self.rest.split_first_chunk().and_then(|([kind, _, l0, l1], rest)| {
            let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*l0, *l1])))?;
            Some((*kind, value, rest))
        });
        match item {
            Some((kind, value, rest)) => {
                self.rest = rest;
                Some(Ok((kind, value)))
            }
            None => {
                self.rest = &[];
                Some(Err(Violation::Malformed { pdu: self.pdu, what: "an item is longer than what it is in" }))
            }
        }
    }
}

/// The transfer syntaxes of one request. Most come again in every context, thousands in all: each is kept once.
#[derive(Default)]
struct TransferSyntaxes(HashSet<Uid>);

impl TransferSyntaxes {
    fn read(&mut self, value: &[u8]) -> Option<Uid> {
        let uid = Uid::from_wire(value).ok()?;
        if let Some(known) = self.0.get(&uid) {
            return Some(known.clone());
        }
        let has_room = self.0.len() < MAX_DIFFERENT_TRANSFER_SYNTAXES;
        (has_room && self.0.insert(uid.clone())).then_some(uid)
    }
}

fn read_proposed(value: &[u8], transfer_syntaxes: &mut TransferSyntaxes) -> Result<ProposedContext, Violation> {
    const RQ: PduKind = PduKind::AssociateRq;
    let Some(([id, _, _, _], rest)) = value.split_first_chunk() else {
        return Err(Violation::Malformed { pdu: RQ, what: "a presentation context has no id" });
    };
    let mut abstract_syntaxes = 0;
    let mut context = ProposedContext { id: *id, abstract_syntax: None, transfer_syntaxes: Vec::new() };
    for item in (Items { rest, pdu: RQ }) {
        match item? {
            (0x30, value) => {
                abstract_syntaxes += 1;
                context.abstract_syntax = Uid::from_wire(value).ok().filter(|_| abstract_syntaxes == 1);
            }
            (0x40, value) if context.transfer_syntaxes.len() < MAX_TRANSFER_SYNTAXES => {
                context.transfer_syntaxes.extend(transfer_syntaxes.read(value));
            }
            _ => {}
        }
    }
    Ok(context)
}

fn read_answer(value: &[u8]) -> Result<ContextAnswer, Violation> {
    const AC: PduKind = PduKind::AssociateAc;
    let Some(([id, _, result, _], rest)) = value.split_first_chunk() else {
        return Err(Violation::Malformed { pdu: AC, what: "a presentation context has no result" });
    };
    if *result != 0 {
        // What follows means nothing (PS3.8 9.3.3.2), and is not always well-formed.
        return Ok(ContextAnswer { id: *id, result: Err(ContextRefusal::from_wire(*result)) });
    }
    let mut transfer_syntax = None;
    for item in (Items { rest, pdu: AC }) {
        if let (0x40, value) = item? {
            transfer_syntax = transfer_syntax.or(Uid::from_wire(value).ok());
        }
    }
    Ok(ContextAnswer { id: *id, result: transfer_syntax.ok_or(ContextRefusal::NoReason) })
}

/// The user information item (PS3.8 9.3.2.3, PS3.7 D.3.3).
#[derive(Default)]
struct UserInformation {
    max_pdu: u32,
    implementation_class_uid: Option<Uid>,
    implementation_version: Option<String>,
    async_operations: Option<(u16, u16)>,
    roles: Vec<RoleSelection>,
    user_identity: Option<UserIdentity>,
}

impl UserInformation {
    fn read(&mut self, value: &[u8], pdu: PduKind) -> Result<(), Violation> {
        for item in (Items { rest: value, pdu }) {
            match item? {
                (0x51, value) => {
                    let length: [u8; 4] = value.try_into().map_err(|_| Violation::Malformed {
                        pdu,
                        what: "the maximum length is not a number of four bytes",
                    })?;
                    self.max_pdu = u32::from_be_bytes(length);
                }
                (0x52, value) => self.implementation_class_uid = Uid::from_wire(value).ok(),
                (0x53, [a, b, c, d]) => {
                    self.async_operations = Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])));
                }
                (0x54, value) if self.roles.len() < MAX_ROLES => {
                    // PS3.7 D.3.3.4: one for each SOP class. The first one counts.
                    let known = |role: &RoleSelection| self.roles.iter().any(|r| r.sop_class_uid == role.sop_class_uid);
                    let role = read_role(value).filter(|role| !known(role));
                    self.roles.extend(role);
                }
                (0x55, value) => self.implementation_version = read_version(value),
                (0x58, value) => self.user_identity = Some(UserIdentity::read(value)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Splits a field that is preceded by its length in two bytes off the front.
fn counted(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let ([l0, l1], rest) = value.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes([*l0, *l1])))
}

fn read_role(value: &[u8]) -> Option<RoleSelection> {
    let (uid, roles) = counted(value)?;
    let [scu, scp, ..] = roles else { return None };
    Some(RoleSelection { sop_class_uid: Uid::from_wire(uid).ok()?, scu: *scu == 1, scp: *scp == 1 })
}

fn read_version(value: &[u8]) -> Option<String> {
    let printable = |byte: &u8| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '?' };
    let version: String = trimmed(value).iter().take(16).map(printable).collect();
    (!version.is_empty()).then_some(version)
}

/// Without the padding on both sides, be it space or NUL.
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | 0, rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | 0] = value {
        value = rest;
    }
    value
}

/// The sub-item of a role selection without its head (PS3.7 D.3.3.4).
fn role_item(role: &RoleSelection) -> Vec<u8> {
    let uid = role.sop_class_uid.as_str().as_bytes();
    // A UID has at most 64 characters.
    let length = u16::try_from(uid.len()).unwrap_or(0).to_be_bytes();
    [&length[..], uid, &[u8::from(role.scu), u8::from(role.scp)]].concat()
}

fn user_variables(
    max_pdu: u32,
    async_operations: Option<(u16, u16)>,
    roles: &[RoleSelection],
) -> Vec<ul::UserVariableItem> {
    let mut items = vec![
        ul::UserVariableItem::MaxLength(max_pdu),
        ul::UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS_UID.to_owned()),
    ];
    // dicom-ul has neither asynchronous operations window nor role selection, but writes what it does not know as it is
    // given.
    items.extend(async_operations.map(|(invoked, performed)| {
        ul::UserVariableItem::Unknown(0x53, [invoked.to_be_bytes(), performed.to_be_bytes()].concat())
    }));
    items.extend(roles.iter().map(|role| ul::UserVariableItem::Unknown(0x54, role_item(role))));
    items.push(ul::UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION.to_owned()));
    items
}

/// Writes a PDU to memory. That can fail only for text that is not ASCII or too long, and all text here is an `AeTitle`,
/// a `Uid` or a constant; should it fail all the same, an empty PDU leads to an A-ABORT by the peer and not to a panic.
fn write(pdu: &ul::Pdu) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Err(error) = ul::write_pdu(&mut bytes, pdu) {
        log::error!("an association PDU could not be encoded: {error}");
    }
    bytes
}
