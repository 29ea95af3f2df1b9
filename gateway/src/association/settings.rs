//! What a caller sets for an association.

use std::time::Duration;

use super::associate::{ProposedContext, RoleSelection};
use super::identity::IdentityForm;
use super::negotiation::{EXPLICIT_LE, IMPLICIT_LE, VERIFICATION};
use crate::model::{AeTitle, Uid};

/// The maximum PDU length that we announce unless told otherwise, in bytes. DCMTK's own maximum.
const MAX_PDU: u32 = 128 * 1024;

/// The bounds between which an announced maximum PDU length is kept, in bytes.
const MAX_PDU_BOUNDS: (u32, u32) = (4 * 1024, 16 * 1024 * 1024);

/// How many operations a requestor may have outstanding with us unless told otherwise. They are performed one after the
/// other: what is not read yet waits in the network.
const OPERATIONS: u16 = 4;

/// How long what may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// ARTIM (PS3.8 9.1.4): from the connection to the end of the negotiation, TLS handshake included; also for the
    /// answer to A-RELEASE-RQ.
    pub association: Duration,
    /// The longest silence between two messages.
    pub idle: Duration,
    /// The longest time in which nothing more of a PDU leaves.
    pub write: Duration,
    /// How long after A-ABORT, A-ASSOCIATE-RJ or A-RELEASE-RP the peer's end of the connection is waited for.
    pub linger: Duration,
    /// Over which span of waiting the data rate is measured within a message.
    pub rate_window: Duration,
    /// The least rate within a message, in bytes per second of waiting; 0 for none.
    pub minimum_rate: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            association: Duration::from_secs(30),
            idle: Duration::from_secs(600),
            write: Duration::from_secs(60),
            linger: Duration::from_secs(2),
            rate_window: Duration::from_secs(30),
            minimum_rate: 1024,
        }
    }
}

/// What the acceptor of associations is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptorSettings {
    /// The longest P-DATA-TF that we take and send, in bytes after the head; kept between 4 KiB and 16 MiB.
    pub max_pdu: u32,
    /// How long what may take.
    pub timeouts: Timeouts,
    /// In which forms a user may be identified (PS3.7 D.3.3.7); what is asked for is then answered. `None`: not
    /// negotiated, every user identity is ignored and none is answered.
    pub user_identity: Option<Vec<IdentityForm>>,
    /// How many operations a requestor that asks for it may have outstanding (PS3.7 D.3.3.3); one at least. They are
    /// performed one after the other.
    pub operations: u16,
}

impl AcceptorSettings {
    /// Whether a user may be identified like that.
    #[must_use]
    pub fn takes(&self, form: IdentityForm) -> bool {
        self.user_identity.as_ref().is_none_or(|forms| forms.contains(&form))
    }
}

impl Default for AcceptorSettings {
    fn default() -> Self {
        Self { max_pdu: MAX_PDU, timeouts: Timeouts::default(), user_identity: None, operations: OPERATIONS }
    }
}

/// What the requestor of one association is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestorSettings {
    /// Our AE title.
    pub calling_ae: AeTitle,
    /// The peer's AE title.
    pub called_ae: AeTitle,
    /// What is proposed; at most 128, with the ids 1, 3, 5, ….
    pub contexts: Vec<ProposedContext>,
    /// The roles that we propose (PS3.7 D.3.3.4); for a SOP class that is not in it we are SCU.
    pub roles: Vec<RoleSelection>,
    /// The longest P-DATA-TF that we take and send, in bytes after the head; kept between 4 KiB and 16 MiB.
    pub max_pdu: u32,
    /// How many C-STORE may be outstanding, if the peer agrees (PS3.7 D.3.3.3); with one, nothing is proposed.
    pub operations: u16,
    /// How long what may take.
    pub timeouts: Timeouts,
}

impl RequestorSettings {
    /// Settings that propose nothing yet.
    #[must_use]
    pub fn new(calling_ae: AeTitle, called_ae: AeTitle) -> Self {
        let AcceptorSettings { max_pdu, timeouts, .. } = AcceptorSettings::default();
        Self { calling_ae, called_ae, contexts: Vec::new(), roles: Vec::new(), max_pdu, operations: 1, timeouts }
    }

    /// Proposes one more presentation context, with the next free id. An association has room for 128; what comes after
    /// that is not proposed.
    ///
    /// The acceptor picks one transfer syntax per context: what the data are encoded in and what they could be converted
    /// to belong in contexts of their own, or the peer may pick what we do not want to send.
    #[must_use]
    pub fn propose(mut self, abstract_syntax: &Uid, transfer_syntaxes: impl IntoIterator<Item = Uid>) -> Self {
        let id = self.contexts.last().map_or(Some(1), |context| context.id.checked_add(2));
        if let Some(id) = id {
            self.contexts.push(ProposedContext {
                id,
                abstract_syntax: Some(abstract_syntax.clone()),
                transfer_syntaxes: transfer_syntaxes.into_iter().collect(),
            });
        }
        self
    }

    /// Proposes a presentation context for C-ECHO (PS3.4 A).
    #[must_use]
    pub fn propose_verification(self) -> Self {
        let uid = |text: &str| text.parse::<Uid>().ok();
        match uid(VERIFICATION) {
            Some(verification) => self.propose(&verification, [IMPLICIT_LE, EXPLICIT_LE].into_iter().filter_map(uid)),
            None => self,
        }
    }

    /// Proposes to be SCP of a SOP class, and not its SCU (PS3.7 D.3.3.4). Whether the peer agrees is told by
    /// [`super::Association::role`].
    #[must_use]
    pub fn as_scp(mut self, sop_class: &Uid) -> Self {
        self.roles.push(RoleSelection { sop_class_uid: sop_class.clone(), scu: false, scp: true });
        self
    }
}

/// A maximum PDU length within the bounds.
pub(super) fn bounded(max_pdu: u32) -> u32 {
    max_pdu.clamp(MAX_PDU_BOUNDS.0, MAX_PDU_BOUNDS.1)
}
