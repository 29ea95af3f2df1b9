//! Storage commitment (PS3.4 Annex J), push model, as SCP: a modality asks whether it may delete its instances.
//!
//! # What it promises
//!
//! - **Asked is remembered.** The N-ACTION response 0000 is sent after the transaction is on stable storage, and on no
//!   other path (`Commitments::accept`). From then on it is reported, at least once, whatever happens to the process.
//! - **A committed instance is what the level of the modality said when it asked**: safe in this box, or confirmed by every
//!   destination. An instance that was acknowledged before it was asked for is never reported as missing.
//! - **A report is tried for days**, on whatever association of the modality is open and idle, or on a new one; with a
//!   pause that grows, and per modality, so that one that is away holds up no other.
//! - **Bounded**: a request by 20,000 instances and 4 MiB (`dimse::commitment`), what waits in all and per modality by the limits in
//!   `desk`, what is being read or reported at once, over all associations, by `budget`. Beyond that the answer is 0213,
//!   and a report waits its turn. What waits is in files; memory holds a line for each.
//!
//! # The states of a transaction
//!
//! ```text
//!  N-ACTION-RQ ─▶ read ─▶ Saving ─▶ file durable ─▶ 0000, Judging ─▶ Ready ─▶ Reporting ─▶ answered: the file goes
//!                   │        │                         │    ▲          ▲          │
//!                   │        └ no room, too many: 0213  └────┘          └──────────┘ not answered, refused: again later
//!                   └ unreadable: 0115; too long: 0213  not delivered yet: again later, until `patience`
//! ```
//!
//! After `patience` + `report-for` a transaction is given up, with a line in the log.
//!
//! # How an instance is judged (`judge`)
//!
//! By SOP Class and SOP Instance UID, through the spool's index, whoever sent it: a workstation may ask for what the
//! scanner has sent, as it would ask a PACS. The first match decides (reasons: PS3.3 C.14.1.1):
//!
//! | found | verdict |
//! |---|---|
//! | the transaction UID is in use for another request of this modality | failed, 0131 |
//! | the SOP class is none of storage | failed, 0122 |
//! | no instance with this UID | failed, 0112 |
//! | instances with this UID, none of this class | failed, 0119 |
//! | one of them is damaged on the disk and somebody waits for it | failed, 0110 |
//! | "safe"; or every destination has it, though its payload may be gone | committed |
//! | "delivered", and a destination does not have it | not yet; after `patience` failed, 0110 |
//!
//! Nothing of a verdict is kept: it is made again when the report is written, so a report says what holds then.
//!
//! # Which association a report takes
//!
//! One of the modality that is open, offers the class, and has been silent for `QUIET`: on which nothing but the report
//! is under way. If `commitment-to` is set, a new one is opened when there is none such within `desk::HEAD_START`; a
//! modality that has not answered a report on its own association is then not told there again in this run. On a new
//! association we call by the AE title that the modality called us by, propose to be SCP alone (PS3.7 D.3.3.4), and
//! report only if that is granted.
//!
//! A modality is known by its name in the configuration. A request of one whose name is not there any more waits until it
//! is given up.
//!
//! # The same request twice
//!
//! A modality that has lost our answer asks again with the same transaction UID and the same instances: it is answered
//! 0000 when the first is safe, and reported once. With other instances it has used a transaction UID twice: that request is reported as failed
//! with 0131. A transaction UID that has been reported is free again.
//!
//! # The file of a transaction
//!
//! `DATA/commitment/NUMBER.transaction`; the layout is in `file`. A file that cannot be read is renamed to `*.damaged`
//! and told; the modality asks again when it misses the report.
//!
//! # Deliberately absent
//!
//! No retrieve AE title in reports, because nothing can be retrieved here. No storage media file-sets. No N-EVENT-REPORT
//! is received here: what archives report to us is for `super::reports`.

mod call;
mod desk;
#[cfg(test)]
mod desk_tests;
mod file;
mod judge;
mod report;
mod service;
#[cfg(test)]
mod task_tests;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use log::{error, info, warn};
use serde::{Deserialize, Serialize};

use crate::association::{Association, RequestorSettings, Timeouts};
use crate::clock::{self, SpoolTime};
use crate::config::{CommitmentLevel, CommitmentSettings, DestinationUrl, Modality};
use crate::dimse::commitment::{Budget, MOST_AT_ONCE, Reference};
use crate::durable::Disk;
use crate::metrics::{CommitmentReport, Metrics};
use crate::model::{AeTitle, DestinationName, Timestamp, Uid};
use crate::retry::Backoff;
use crate::spool::{Spool, SpoolError};

use super::CurrentAdmission;
use desk::{Claim, Desk, Lease, Limits, Newcomer};
pub use file::FileError;
use file::{Files, SaveError, Unreadable};
use judge::Judgement;
pub(super) use service::{Action, Reporting};

/// How long an association must have been silent before a report is sent on it: most modalities that mean to release
/// it after their request have done so by then.
const QUIET: Duration = Duration::from_millis(500);
/// How long the answer to a report is waited for.
const ANSWER: Duration = Duration::from_secs(60);

/// Opens an association with a modality; the error is a sentence with cause and remedy.
pub type Dial = Arc<dyn Fn(DestinationUrl, RequestorSettings) -> Dialling + Send + Sync>;
/// What a [`Dial`] gives.
pub type Dialling = Pin<Box<dyn Future<Output = Result<Association, String>> + Send>>;

/// A request for storage commitment, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Transaction {
    /// Transaction UID (0008,1195).
    uid: Uid,
    /// Whose it is.
    modality: Party,
    /// What it called us: by that name we report.
    called: AeTitle,
    /// When it was accepted, on the spool's timeline.
    accepted: SpoolTime,
    /// When it was accepted, for people.
    accepted_at: Timestamp,
    /// What is answered for.
    level: CommitmentLevel,
    /// Its transaction UID was in use for another request.
    duplicate: bool,
    references: Vec<Reference>,
}

/// Whose a transaction is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Party {
    /// A modality of the configuration, by its name there: AE titles need not be unique.
    Modality(DestinationName),
    /// Whoever calls by this AE title, where anybody is admitted.
    Anybody(AeTitle),
}

impl Party {
    /// Who calls by this AE title, and was admitted as this modality.
    #[must_use]
    pub fn of(modality: Option<&Modality>, calling: &AeTitle) -> Self {
        match modality {
            Some(modality) => Self::Modality(modality.name.clone()),
            None => Self::Anybody(calling.clone()),
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Modality(name) => name.fmt(f),
            Self::Anybody(aet) => aet.fmt(f),
        }
    }
}

/// Who asks.
struct Asker {
    party: Party,
    called: AeTitle,
    level: CommitmentLevel,
}

/// What the daemon sets.
#[derive(Clone)]
pub struct Settings {
    /// Patience.
    pub commitment: CommitmentSettings,
    /// The pauses between tries.
    pub backoff: Backoff,
    /// Of associations that we open.
    pub timeouts: Timeouts,
}

/// What waits, for people and for the metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitmentStatus {
    /// Requests that are not reported yet.
    pub pending: u64,
    /// Those of them whose instances are all judged: the modality does not take the report, or has no association open.
    pub to_report: u64,
    /// When the oldest was accepted.
    pub oldest: Option<Timestamp>,
    /// Files that could not be read and were set aside since the start.
    pub damaged: u64,
    /// What went wrong with the last report of each modality that has failed since its last success.
    pub failures: BTreeMap<Party, String>,
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    /// Too many wait, in all or of this modality.
    #[error("{0}")]
    Full(#[from] desk::Full),
    /// No room on the disk.
    #[error("the disk is full")]
    NoRoom,
    /// The disk, or the program.
    #[error("the request could not be kept: {0}")]
    Failed(String),
}

/// Everything about storage commitment; shared by all sessions and its own task.
pub struct Commitments {
    desk: Arc<Desk>,
    files: Files,
    /// Of requests that are not on stable storage yet.
    reading: Arc<Budget>,
    /// Of reports that are not answered yet.
    reporting: Arc<Budget>,
    spool: Spool,
    admission: CurrentAdmission,
    settings: Settings,
    metrics: Metrics,
    dial: Dial,
    /// Why nothing may be accepted any more: an error of the disk after which nothing is known about it.
    failed: Mutex<Option<String>>,
}

impl fmt::Debug for Commitments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commitments").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Commitments {
    /// Opens `DATA/commitment`, makes it if need be, and takes up what waits there. Call it when the spool is open: its
    /// lock covers this folder, too. Blocking.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn open(
        disk: Arc<dyn Disk>,
        data: &Path,
        spool: Spool,
        admission: CurrentAdmission,
        settings: Settings,
        metrics: Metrics,
        dial: Dial,
    ) -> Result<Arc<Self>, FileError> {
        let desk = Arc::new(Desk::new(Limits::default(), settings.backoff));
        let mut waiting = 0_u64;
        // What they ask for is read again when they are judged: of many there is a line each in memory.
        let (files, damaged) = Files::open(disk, data, |number, transaction| {
            desk.load(number, transaction, clock::now());
            waiting += 1;
        })?;
        desk.damaged(damaged);
        if waiting > 0 {
            info!(waiting; "requests for storage commitment are taken up again");
        }
        let failed = Mutex::new(None);
        let (reading, reporting) = (Budget::new(MOST_AT_ONCE), Budget::new(MOST_AT_ONCE));
        Ok(Arc::new(Self { desk, files, reading, reporting, spool, admission, settings, metrics, dial, failed }))
    }

    /// Who may send has changed, and with it perhaps where reports go.
    pub(super) fn admission_has_changed(&self) {
        self.desk.nudge_everybody();
    }

    /// What waits.
    #[must_use]
    pub fn status(&self) -> CommitmentStatus {
        self.desk.status()
    }

    /// Accepts a request: when this returns `Ok`, it is on stable storage. Blocking.
    fn accept(&self, asker: Asker, uid: Uid, references: Vec<Reference>) -> Result<(), Refused> {
        if !self.spool.has_room() {
            return Err(Refused::NoRoom);
        }
        let mut transaction = Transaction {
            uid,
            modality: asker.party,
            called: asker.called,
            accepted: self.spool.time(),
            accepted_at: clock::wall(),
            level: asker.level,
            duplicate: false,
            references,
        };
        let place = loop {
            if let Some(reason) = self.failure() {
                return Err(Refused::Failed(reason));
            }
            match self.desk.enter(&transaction)? {
                Newcomer::Known => return Ok(()),
                // It may turn out not to be saved: then this one is.
                Newcomer::BeingSaved(number) => self.desk.wait_until_saved(number),
                Newcomer::New(place) => break place,
                Newcomer::Duplicate(place) => {
                    transaction.duplicate = true;
                    break place;
                }
            }
        };
        match self.files.save(place.number(), &transaction) {
            Ok(()) => {}
            Err(SaveError::NoRoom) => return Err(Refused::NoRoom),
            Err(SaveError::Failed(error)) => return Err(Refused::Failed(self.fail(&error))),
        }
        place.saved(clock::now());
        let (modality, instances) = (&transaction.modality, transaction.references.len());
        info!(modality:%, transaction:% = transaction.uid, instances; "storage commitment requested");
        Ok(())
    }

    fn failure(&self) -> Option<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// After an error of a flush nothing is known about the disk: the task ends, and the process with it.
    fn fail(&self, error: &FileError) -> String {
        let reason = error.to_string();
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| reason.clone());
        self.desk.nudge();
        reason
    }

    /// Reads a transaction and judges it, by what is in the index. One that is damaged is set aside and told. Nothing if
    /// it cannot be judged now. Blocking.
    fn judge(&self, number: u64) -> Result<Option<(Transaction, Judgement)>, SpoolError> {
        let transaction = match self.files.read(number) {
            Ok(transaction) => transaction,
            Err(Unreadable::Now(problem)) => {
                warn!("{problem}; it is tried again");
                return Ok(None);
            }
            Err(Unreadable::Damaged(problem)) => {
                error!("{problem}; it is set aside, and the modality must ask again");
                self.files.set_aside(number);
                self.desk.lost(number);
                return Ok(None);
            }
        };
        let late = self.spool.time() >= transaction.accepted.after(self.settings.commitment.patience);
        let judgement = judge::judge(&transaction, late, &self.spool.holdings()?)?;
        Ok(Some((transaction, judgement)))
    }

    /// The modality has answered a report: the file goes. If the power goes before that is durable, the modality is told
    /// again. Blocking.
    fn reported(&self, lease: Lease, report: &report::Told) {
        let (modality, transaction) = (lease.modality().clone(), lease.uid().clone());
        self.files.remove(lease.number());
        lease.done();
        self.metrics.commitment_reported(CommitmentReport::Reported);
        let (committed, failed) = (report.committed, report.failed);
        info!(modality:%, transaction:%, committed, failed; "storage commitment reported");
    }

    /// A report was not taken; it is tried again later.
    fn not_reported(&self, lease: Lease, own_association: bool, sentence: &str) {
        let (modality, transaction) = (lease.modality().clone(), lease.uid().clone());
        self.metrics.commitment_reported(CommitmentReport::Retried);
        warn!(modality:%, transaction:%; "the report of storage commitment was not taken: {sentence}; it is tried again");
        lease.failed(clock::now(), own_association, sentence, fastrand::f64());
    }

    /// Gives up what is too old. Blocking.
    fn give_up(&self) {
        let CommitmentSettings { patience, report_for } = self.settings.commitment;
        for Claim { number, modality, uid: transaction, .. } in
            self.desk.expire(self.spool.time(), patience.saturating_add(report_for))
        {
            self.files.remove(number);
            self.metrics.commitment_reported(CommitmentReport::GivenUp);
            warn!(
                modality:%, transaction:%;
                "storage commitment could not be reported for too long and is given up: the modality keeps its instances \
                 or asks again; set commitment-to of the modality, or have it keep its association open"
            );
        }
    }
}
