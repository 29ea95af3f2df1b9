//! A destination that takes C-STORE: one association, kept warm between instances.
//!
//! For each kind of instance (SOP class, transfer syntax) that is waiting, the association proposes one presentation
//! context with the stored transfer syntax alone and one for each lossless conversion, so that the archive's answer says
//! exactly what it takes. A kind that was not proposed yet asks for a new association.

use std::collections::HashSet;
use std::io::Read;
use std::time::Duration;

use log::{debug, warn};
use tokio_rustls::TlsConnector;

use super::cstore::{self, StoreError};
use super::open::{self, OpenError};
use super::pump;
use super::transcode::{self, Converter};
use super::verdict::Verdict;
use crate::association::{Abort, Association, RequestorSettings, Timeouts};
use crate::config::DicomPeer;
use crate::dataset::transfer_syntax;
use crate::dimse::CStore;
use crate::model::{AeTitle, Uid};
use crate::spool::{Claim, Spool};

/// Presentation contexts in one A-ASSOCIATE-RQ (PS3.8 9.3.2.2: odd ids from 1 to 255).
const MOST_CONTEXTS: usize = 128;

/// What the negotiation of a presentation context is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    sop_class: Uid,
    transfer_syntax: Uid,
}

impl Kind {
    pub(super) fn of(claim: &Claim) -> Self {
        Self { sop_class: claim.header.sop_class_uid.clone(), transfer_syntax: claim.header.transfer_syntax.clone() }
    }
}

/// Why the destination as a whole failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// Cause and remedy.
    pub(super) sentence: String,
    /// What it means for the instance that was being sent; `None` if not a byte of it had left.
    pub(super) instance: Option<Verdict>,
}

impl Failure {
    fn before_sending(error: &OpenError) -> Self {
        Self { sentence: error.to_string(), instance: None }
    }
}

/// How an instance can leave on the present association.
enum Way {
    AsStored { context: u8 },
    Converted { context: u8, to: Uid },
    Refused,
}

/// The archive and the association with it, if there is one.
pub(super) struct Archive {
    peer: DicomPeer,
    tls: Option<TlsConnector>,
    calling: AeTitle,
    timeouts: Timeouts,
    patience: Duration,
    association: Option<Association>,
    offered: HashSet<Kind>,
}

impl Archive {
    pub(super) fn new(
        peer: DicomPeer,
        tls: Option<TlsConnector>,
        calling: AeTitle,
        timeouts: Timeouts,
        patience: Duration,
    ) -> Self {
        Self { peer, tls, calling, timeouts, patience, association: None, offered: HashSet::new() }
    }

    /// Whether an association is open.
    pub(super) fn is_open(&self) -> bool {
        self.association.is_some()
    }

    /// Whether the present association can carry this kind, or has been told that it cannot.
    pub(super) fn knows(&self, kind: &Kind) -> bool {
        self.association.is_some() && self.offered.contains(kind)
    }

    /// Opens an association for these kinds; the first is in it for certain, the others as far as contexts last.
    pub(super) async fn open(&mut self, kinds: &[Kind]) -> Result<(), Failure> {
        self.close().await;
        let mut settings = RequestorSettings::new(self.calling.clone(), self.peer.aet.clone());
        settings.timeouts = self.timeouts.clone();
        self.offered.clear();
        let mut proposed = HashSet::new();
        for kind in kinds {
            let conversions = transcode::conversions(&kind.transfer_syntax).iter().filter_map(|uid| uid.parse().ok());
            let wanted: Vec<Uid> = std::iter::once(kind.transfer_syntax.clone())
                .chain(conversions)
                .filter(|syntax| !proposed.contains(&(kind.sop_class.clone(), syntax.clone())))
                .collect();
            if proposed.len() + wanted.len() > MOST_CONTEXTS {
                break;
            }
            for syntax in wanted {
                settings = settings.propose(&kind.sop_class, [syntax.clone()]);
                proposed.insert((kind.sop_class.clone(), syntax));
            }
            self.offered.insert(kind.clone());
        }
        let association = open::associate(&self.peer, self.tls.as_ref(), &settings)
            .await
            .map_err(|error| Failure::before_sending(&error))?;
        debug!(
            destination:% = self.peer.host, proposed = proposed.len(), accepted = association.accepted_contexts().len();
            "association established"
        );
        self.association = Some(association);
        Ok(())
    }

    /// Sends one instance whose kind the association [knows](Self::knows).
    pub(super) async fn deliver(&mut self, claim: &Claim, spool: &Spool) -> Result<Verdict, Failure> {
        let Some(association) = &mut self.association else {
            return Ok(Verdict::Later { answer: "there is no association".into() });
        };
        let header = &claim.header;
        let (context, to) = match way(association, &Kind::of(claim)) {
            Way::AsStored { context } => (context, None),
            Way::Converted { context, to } => (context, Some(to)),
            Way::Refused => {
                return Ok(Verdict::Hopeless { reason: not_accepted(&header.sop_class_uid, &header.transfer_syntax) });
            }
        };
        let size = pump::piece_size(association);
        let opened = open_payload(spool, claim, to).await;
        let payload = match opened {
            Ok(payload) => payload,
            Err(verdict) => return Ok(verdict),
        };
        let request = CStore {
            message_id: u16::try_from(claim.id.0 & 0x7fff).unwrap_or(1),
            sop_class_uid: header.sop_class_uid.clone(),
            sop_instance_uid: header.sop_instance_uid.clone(),
            priority: header.priority,
            move_originator: None,
        };
        let pieces = pump::pump(payload, size);
        match cstore::store(association, context, request, pieces, self.patience).await {
            Ok(response) => Ok(Verdict::of(&response)),
            Err(StoreError::Payload(error)) => {
                self.abort().await;
                warn!(destination:% = self.peer.host, id:% = claim.id; "sending stopped, the archive was sent an A-ABORT: {error}");
                Ok(unreadable(&error))
            }
            Err(error) => {
                self.abort().await;
                let sentence = format!("the association broke while an instance was being sent: {error}");
                Err(Failure { instance: Some(Verdict::Later { answer: sentence.clone() }), sentence })
            }
        }
    }

    /// Releases the association, if there is one.
    pub(super) async fn close(&mut self) {
        if let Some(association) = self.association.take()
            && let Err(error) = association.release().await
        {
            debug!(destination:% = self.peer.host; "the release was not answered: {error}");
        }
    }

    async fn abort(&mut self) {
        if let Some(association) = self.association.take() {
            association.abort(Abort::BY_USER).await;
        }
    }
}

fn way(association: &Association, kind: &Kind) -> Way {
    let accepted = |syntax: &str| {
        association
            .accepted_contexts()
            .iter()
            .find(|c| c.abstract_syntax == kind.sop_class && c.transfer_syntax.as_str() == syntax)
    };
    if let Some(context) = accepted(kind.transfer_syntax.as_str()) {
        return Way::AsStored { context: context.id };
    }
    transcode::conversions(&kind.transfer_syntax)
        .iter()
        .find_map(|syntax| accepted(syntax))
        .map_or(Way::Refused, |context| Way::Converted { context: context.id, to: context.transfer_syntax.clone() })
}

fn not_accepted(sop_class: &Uid, syntax: &Uid) -> String {
    let name = transfer_syntax::name(syntax).unwrap_or("a private transfer syntax");
    format!(
        "the archive accepts SOP class {sop_class} neither in {name} ({syntax}), in which it was received, nor in a \
         lossless conversion; enable it at the archive, then: waystation retry"
    )
}

/// The payload, read back and if necessary converted; a conversion is tried and compared before a byte may leave.
async fn open_payload(spool: &Spool, claim: &Claim, to: Option<Uid>) -> Result<Box<dyn Read + Send>, Verdict> {
    let (spool, id, from) = (spool.clone(), claim.id, claim.header.transfer_syntax.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let open = || spool.read(id).map_err(|error| unreadable(&std::io::Error::other(error)));
        let Some(to) = to else { return Ok(Box::new(open()?) as Box<dyn Read + Send>) };
        transcode::verify(open()?, &from, &to).map_err(|error| Verdict::Hopeless {
            reason: format!(
                "the archive does not take the transfer syntax {from}, and the conversion to {to} is not sound: {error}; \
                 enable {from} at the archive, then: waystation retry"
            ),
        })?;
        let converter =
            Converter::new(open()?, &from, &to).map_err(|error| Verdict::Hopeless { reason: error.to_string() })?;
        Ok(Box::new(converter) as Box<dyn Read + Send>)
    });
    opened.await.unwrap_or_else(|_| Err(Verdict::Later { answer: "reading the instance failed".into() }))
}

/// The instance is damaged on this disk, or the disk does not answer.
fn unreadable(error: &std::io::Error) -> Verdict {
    Verdict::Hopeless {
        reason: format!("it cannot be read back from this disk: {error}; send it again from the modality"),
    }
}
