//! The services offered to modalities: Verification (C-ECHO, PS3.4 A), Storage (C-STORE, PS3.4 B) and storage commitment
//! (N-ACTION and N-EVENT-REPORT, PS3.4 J): see [`commitment`].
//!
//! # Promises
//!
//! - A C-STORE response with status 0000 is sent after the spool has said that the instance is on stable storage, and
//!   on no other path: see `store`.
//! - Every instance is answered: with 0000, or with the status that fits and an Error Comment that a person understands.
//!   An instance that is refused is read to its end, so that the association lives on and the next one can be kept.
//! - Memory per association is bounded by the largest PDU and the spool's small buffer, whatever the instance's size.
//!
//! # An association
//!
//! ```text
//! listener ── lobby ── first bytes ── TLS ── A-ASSOCIATE-RQ ── admitted? slot? room? ──▶ session: C-ECHO, C-STORE … ──▶ the end
//!               │            │                              │
//!               │            └─ A-ABORT: wrong port         └─ A-ASSOCIATE-RJ, see the table in `admission`
//!               └─ closed when it displaces itself
//! ```
//!
//! How each of them ends is entered in the door book, [`door`].
//!
//! Beside modalities, archives may come: to report what they were asked after a delivery, and for nothing else. See
//! `reports`.
//!
//! The limits on associations count associations. A connection that asks for none waits in the lobby, where nobody can
//! take the place of another address.
//!
//! # Deliberately absent
//!
//! The end of an association means nothing: what was acknowledged is kept, whatever follows. No attribute is read but
//! those that identify the instance, and none is changed.

mod admission;
pub mod commitment;
pub mod door;
mod first_words;
mod listener;
mod movable;
mod reports;
pub mod scan;
mod session;
mod slots;
mod standing;
mod store;
mod throttle;
mod visitor;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::association::AcceptorSettings;
use crate::clock;
use crate::config::{Admission, Limits, Modality, Source};
use crate::durable::Disk;
use crate::inquiry::Inquiries;
use crate::metrics::Metrics;
use crate::model::{AeTitle, DestinationName};
use crate::routing::Rules;
use crate::spool::Spool;
use crate::tls;

use commitment::Commitments;
use door::admit::AdmitError;
use door::keep::Keeper;
use door::{DoorView, PeerView};
pub use listener::{Door, serve};
use slots::{Lobby, Slots};
use throttle::Throttles;

/// Connections that may be on their way to an association at a time.
const LOBBY: usize = 256;

/// Bytes of requests that are not complete, in all, beyond what each may hold anyway. Ten of the widest requests can
/// come at the same time.
const LOBBY_RESERVE: usize = 2 * 1024 * 1024;

/// Who may send; replaced as a whole at a reload. Clones are the same.
#[derive(Debug, Clone)]
pub struct CurrentAdmission(watch::Sender<Arc<Admission>>);

impl CurrentAdmission {
    /// This one, until it is replaced.
    #[must_use]
    pub fn new(admission: Admission) -> Self {
        Self(watch::Sender::new(Arc::new(admission)))
    }

    /// The present one.
    #[must_use]
    pub fn get(&self) -> Arc<Admission> {
        Arc::clone(&self.0.borrow())
    }

    fn replace(&self, admission: Admission) {
        self.0.send_replace(Arc::new(admission));
    }

    fn changes(&self) -> watch::Receiver<Arc<Admission>> {
        self.0.subscribe()
    }
}

/// What all listeners and sessions share.
#[derive(Debug)]
pub struct Reception {
    aet: AeTitle,
    admission: CurrentAdmission,
    /// By what certificates are checked that were accepted before.
    clients: tls::Clients,
    /// Held by who changes it.
    changing: Mutex<()>,
    door: Arc<Keeper>,
    destinations: Vec<DestinationName>,
    /// Replaced as a whole at a reload.
    rules: watch::Sender<Arc<Rules>>,
    settings: AcceptorSettings,
    spool: Spool,
    commitments: Arc<Commitments>,
    /// What archives have been asked, who may come with a report.
    inquiries: Inquiries,
    metrics: Metrics,
    slots: Arc<Slots>,
    throttles: Throttles,
    lobby: Arc<Lobby>,
    sessions: TaskTracker,
    shutdown: CancellationToken,
    abandoned: CancellationToken,
}

/// The names of modalities. Those of whom the file is left out are theirs, too: their pages are kept for them.
fn names(admission: &Admission) -> Vec<DestinationName> {
    let listed = admission.modalities().iter().map(|modality| modality.name.clone());
    listed.chain(admission.left_out().iter().filter_map(|left_out| left_out.name.parse().ok())).collect()
}

impl Reception {
    /// Prepares the services of the application entity `aet`.
    ///
    /// Every instance goes to all of `destinations`, unless its modality has others or one of `rules` fits. After `shutdown`
    /// no association is accepted, and those that are open end at the next instance boundary.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "called once, by the daemon, with everything named there")]
    pub fn new(
        aet: AeTitle,
        (admission, clients): (CurrentAdmission, tls::Clients),
        (destinations, rules): (Vec<DestinationName>, Rules),
        settings: AcceptorSettings,
        limits: &Limits,
        spool: Spool,
        (commitments, inquiries): (Arc<Commitments>, Inquiries),
        metrics: Metrics,
        door: Arc<Keeper>,
        shutdown: CancellationToken,
    ) -> Self {
        door.with(|book| book.configured(names(&admission.get())));
        Self {
            aet,
            admission,
            clients,
            changing: Mutex::default(),
            door,
            destinations,
            rules: watch::Sender::new(Arc::new(rules)),
            settings,
            spool,
            commitments,
            inquiries,
            metrics,
            slots: Slots::new(limits.max_associations as usize, limits.max_associations_per_address as usize),
            throttles: Throttles::default(),
            lobby: Lobby::new(LOBBY, LOBBY_RESERVE),
            sessions: TaskTracker::new(),
            shutdown,
            abandoned: CancellationToken::new(),
        }
    }

    /// Changes who may send from now on. Associations that are open keep what they were given; who would not be let in
    /// any more ends at the next instance boundary. One change is made after
    /// the other: `change` sees what the last one has left. Blocking, as far as `change` is.
    ///
    /// # Errors
    /// Those of `change`; then everything is as before.
    pub fn change_admission<T, E>(&self, change: impl FnOnce(&Admission) -> Result<(T, Admission), E>) -> Result<T, E> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (outcome, admission) = change(&self.admission())?;
        self.door.with(|book| book.configured(names(&admission)));
        self.admission.replace(admission);
        self.commitments.admission_has_changed();
        Ok(outcome)
    }

    /// What decides where instances go, and what goes first.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.borrow())
    }

    /// Changes that for every instance that begins to come from now on; whether it is a change at all.
    pub fn change_rules(&self, rules: Rules) -> bool {
        let changes = *self.rules() != rules;
        if changes {
            self.rules.send_replace(Arc::new(rules));
        }
        changes
    }

    /// Admits the stranger that the book calls `knock`, as the modality `name` or as he is called there. He is let in
    /// from now on, and after a restart, which reads `source` and the data folder `data`. Blocking.
    ///
    /// # Errors
    /// Nobody was admitted; see [`AdmitError`].
    pub fn admit(
        &self,
        disk: &dyn Disk,
        (data, source): (&Path, &Source),
        knock: &str,
        name: Option<DestinationName>,
    ) -> Result<Arc<Modality>, AdmitError> {
        self.change_admission(|admission| {
            let request = (knock, name, clock::wall());
            door::admit::admit(disk, (data, source), &self.door, admission, &self.aet, request)
        })
    }

    /// The book of who comes.
    #[must_use]
    pub fn door(&self) -> &Keeper {
        &self.door
    }

    /// Everybody at the door.
    #[must_use]
    pub fn door_view(&self) -> DoorView {
        let admission = self.admission();
        self.door.with(|book| book.view(&admission, &self.aet, |name| self.slots.open_of(name)))
    }

    /// One peer with its visits.
    #[must_use]
    pub fn peer_view(&self, name: &str) -> Option<PeerView> {
        let admission = self.admission();
        self.door.with(|book| book.view_of(name, &admission, &self.aet, |name| self.slots.open_of(name)))
    }

    /// Who may send.
    #[must_use]
    pub fn admission(&self) -> Arc<Admission> {
        self.admission.get()
    }

    /// Associations that are open now.
    #[must_use]
    pub fn open_associations(&self) -> usize {
        self.slots.open()
    }

    /// Waits until every session has ended; call it after the shutdown has been asked for.
    pub async fn ended(&self) {
        self.sessions.close();
        self.sessions.wait().await;
    }

    /// Cuts off what is still open, and waits until every session has ended. One that waits for the disk ends when the
    /// disk has answered.
    pub async fn abandon(&self) {
        self.abandoned.cancel();
        self.ended().await;
    }
}
