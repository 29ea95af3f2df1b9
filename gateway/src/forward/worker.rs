//! The worker of one destination: waits for work, claims it, delivers it, records what came of it.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::{info, warn};
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::archive::{Archive, Kind};
use super::circuit::{self, Circuit};
use super::folder::{self, Filing, FilingError};
use super::verdict::{Tried, Verdict};
use crate::association::Timeouts;
use crate::clock;
use crate::config::DicomPeer;
use crate::dataset::part10::FileMeta;
use crate::metrics::{Delivery, Metrics};
use crate::model::{AeTitle, DestinationName, InstanceId};
use crate::retry::Backoff;
use crate::spool::{Claim, Outcome, Spool, SpoolError};
use crate::tls::Current;

/// Deliveries that are looked at together, to propose all their kinds in one association.
const AHEAD: usize = 16;

/// How long an association without work is kept warm.
const WARM: Duration = Duration::from_secs(5);

/// Instances whose refusals are remembered; one that is forgotten gets its few tries again.
const REMEMBERED: usize = 10_000;

/// How a destination is reached. There is no way to have TLS in the address and none on the wire.
#[derive(Clone)]
pub enum Route {
    /// C-STORE in the clear.
    Plain(DicomPeer),
    /// C-STORE over TLS.
    Tls(DicomPeer, Current<ClientConfig>),
    /// Files below a folder.
    Folder(PathBuf),
}

/// How a destination is worked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The AE title under which the gateway calls.
    pub calling: AeTitle,
    /// Where the gateway itself listens: nothing is ever delivered there.
    pub own: Vec<SocketAddr>,
    /// The pace of retries.
    pub backoff: Backoff,
    /// Time-outs of the association.
    pub timeouts: Timeouts,
    /// How often an instance that the destination refuses is offered before it is parked.
    pub tries: u32,
    /// How long an archive may take for its answer to one instance.
    pub patience: Duration,
}

/// What a destination is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// Nothing waits, or nothing is due yet.
    Idle,
    /// Building the connection or the association.
    Connecting,
    /// Sending.
    Sending,
    /// The last attempt failed; waiting for the next.
    Waiting,
    /// Deliveries are kept for it, but the configuration does not name it.
    NotConfigured,
}

/// One destination: what others may ask of it and tell it.
#[derive(Debug)]
pub struct Destination {
    /// Its name in the configuration.
    pub name: DestinationName,
    health: Mutex<Health>,
    queued: Notify,
    /// How often somebody has asked for an attempt at once.
    hastened: watch::Sender<u64>,
}

/// What a destination is doing, as far as others may see.
#[derive(Debug, Clone)]
pub struct Health {
    /// What its worker is doing.
    pub activity: Activity,
    /// Failures of the destination in a row.
    pub failures: u32,
    /// Whether the latest attempt went wrong.
    pub troubled: bool,
    /// The latest failure.
    pub last_failure: Option<circuit::Failure>,
    /// When the next attempt is made, while the circuit is open.
    pub next_attempt: Option<Instant>,
    /// Deliveries being sent.
    pub sending: u64,
}

impl Destination {
    /// A destination that has not been tried yet.
    #[must_use]
    pub fn new(name: DestinationName) -> Self {
        let health = Health {
            activity: Activity::Idle,
            failures: 0,
            troubled: false,
            last_failure: None,
            next_attempt: None,
            sending: 0,
        };
        Self { name, health: Mutex::new(health), queued: Notify::new(), hastened: watch::Sender::new(0) }
    }

    /// What it is doing now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells it that something may be due.
    pub fn queued(&self) {
        self.queued.notify_one();
    }

    /// Asks for the next attempt now instead of after the delay.
    pub fn hasten(&self) {
        self.hastened.send_modify(|times| *times += 1);
    }

    fn show(&self, change: impl FnOnce(&mut Health)) {
        change(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Works the destination until `shutdown`; the instance in flight then is finished first.
///
/// # Errors
/// The index of the spool cannot be read any more: the process cannot go on.
pub async fn run(
    destination: Arc<Destination>,
    route: Route,
    settings: Settings,
    spool: Spool,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<(), SpoolError> {
    let archive = |peer: DicomPeer, tls| Courier::Archive(Box::new(Archive::new(peer, tls, settings.clone())));
    let courier = match route {
        Route::Plain(peer) => archive(peer, None),
        Route::Tls(peer, tls) => archive(peer, Some(tls)),
        Route::Folder(folder) => Courier::Folder(folder),
    };
    let circuit = Circuit::new(settings.backoff);
    let refusals = HashMap::new();
    let mut worker = Worker { destination, settings, courier, circuit, refusals, spool, metrics, shutdown };
    let ended = worker.work().await;
    worker.rest().await;
    ended
}

/// What came of one claim.
enum Attempt {
    /// The destination could be reached; this is what it means for the instance.
    Made(Verdict),
    /// The destination could not be reached: nothing was tried with the instance.
    DestinationFailed(String),
    /// The gateway stops: nothing was tried.
    Stopped,
}

enum Courier {
    Archive(Box<Archive>),
    Folder(PathBuf),
}

struct Worker {
    destination: Arc<Destination>,
    settings: Settings,
    courier: Courier,
    circuit: Circuit,
    /// How often each instance that is waiting has been refused, since the start of the process.
    refusals: HashMap<InstanceId, u32>,
    spool: Spool,
    metrics: Metrics,
    shutdown: CancellationToken,
}

impl Worker {
    async fn work(&mut self) -> Result<(), SpoolError> {
        while !self.shutdown.is_cancelled() {
            if let Some(until) = self.circuit.closed_before(clock::now()) {
                self.wait_for_circuit(until).await;
                continue;
            }
            let claims =
                tokio::task::block_in_place(|| self.spool.claim(&self.destination.name, self.spool.time(), AHEAD))?;
            match claims.is_empty() {
                true => self.wait_for_work().await?,
                false => self.deliver(claims).await,
            }
        }
        Ok(())
    }

    async fn wait_for_circuit(&mut self, until: Instant) {
        self.destination.show(|health| {
            health.activity = Activity::Waiting;
            health.next_attempt = Some(until);
        });
        // Only a request from now on counts: one that came during the attempt was about that attempt.
        let mut hastened = self.destination.hastened.subscribe();
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = tokio::time::sleep_until(until.into()) => {}
            _ = hastened.changed() => self.circuit.hasten(),
        }
        self.destination.show(|health| health.next_attempt = None);
    }

    async fn wait_for_work(&mut self) -> Result<(), SpoolError> {
        self.destination.show(|health| health.activity = Activity::Idle);
        let due = tokio::task::block_in_place(|| self.spool.next_due(&self.destination.name))?;
        let due = due.map(|due| due.until(self.spool.time()));
        let warm = matches!(&self.courier, Courier::Archive(archive) if archive.is_open());
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = self.destination.queued.notified() => {}
            () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => {}
            () = tokio::time::sleep(WARM), if warm => self.rest().await,
        }
        Ok(())
    }

    /// Delivers the first claim; the others were only looked at, and are released.
    async fn deliver(&mut self, mut claims: Vec<Claim>) {
        let kinds: Vec<Kind> = distinct(claims.iter().map(Kind::of));
        let claim = claims.swap_remove(0);
        drop(claims);
        let attempt = self.attempt(&claim, &kinds).await;
        self.destination.show(|health| health.sending = 0);
        let verdict = match attempt {
            Attempt::Made(verdict) => verdict,
            Attempt::DestinationFailed(sentence) => return self.fail(sentence),
            Attempt::Stopped => return,
        };
        self.apply(claim, verdict);
    }

    async fn attempt(&mut self, claim: &Claim, kinds: &[Kind]) -> Attempt {
        let archive = match &mut self.courier {
            Courier::Folder(root) => {
                self.destination.show(sending);
                return file(root.clone(), claim, self.spool.clone(), self.settings.calling.clone()).await;
            }
            Courier::Archive(archive) => archive,
        };
        loop {
            if !archive.knows(&kinds[0]) {
                self.destination.show(|health| health.activity = Activity::Connecting);
                tokio::select! {
                    () = self.shutdown.cancelled() => return Attempt::Stopped,
                    opened = archive.open(kinds) => match opened {
                        Ok(()) => {}
                        Err(error) => return Attempt::DestinationFailed(error.to_string()),
                    },
                }
            }
            self.destination.show(sending);
            let once_more = archive.is_proven();
            match archive.deliver(claim, &self.spool).await {
                Ok(verdict) => return Attempt::Made(verdict),
                // The archive may have ended the association while nothing was on it.
                Err(_) if once_more => {}
                Err(broken) => return Attempt::Made(Verdict::Later { answer: broken.0 }),
            }
        }
    }

    /// Records what came of the attempt.
    fn apply(&mut self, claim: Claim, verdict: Verdict) {
        match &verdict {
            Verdict::Later { answer } => self.stumble(answer),
            _ => self.succeed(),
        }
        let name = &self.destination.name;
        let (id, attempts, length) = (claim.id, claim.attempts, claim.length);
        let refusals = self.refusals.remove(&id).unwrap_or(0);
        if matches!(verdict, Verdict::Refused { .. }) && self.refusals.len() < REMEMBERED {
            self.refusals.insert(id, refusals + 1);
        }
        let warned = matches!(verdict, Verdict::Delivered { warned: true, .. });
        let Settings { backoff, tries, .. } = &self.settings;
        let outcome = verdict.outcome(name, Tried { attempts, refusals }, backoff, *tries, fastrand::f64());
        match &outcome {
            Outcome::Delivered { answer } if warned => {
                self.metrics.delivery(name, Delivery::Warned, length);
                warn!(destination:% = name, id:%; "delivered with a warning: {answer}");
            }
            Outcome::Delivered { .. } => self.metrics.delivery(name, Delivery::Delivered, length),
            Outcome::Retry { answer, .. } => {
                self.metrics.delivery(name, Delivery::Retried, 0);
                info!(destination:% = name, id:%, attempts = attempts + 1; "instance not delivered, again later: {answer}");
            }
            Outcome::Parked { reason } => {
                self.refusals.remove(&id);
                self.metrics.delivery(name, Delivery::Parked, 0);
                warn!(destination:% = name, id:%, attempts = attempts + 1; "instance parked: {reason}");
            }
            Outcome::Released => {}
        }
        tokio::task::block_in_place(|| self.spool.record(claim, outcome));
    }

    fn succeed(&mut self) {
        if self.circuit.failures() > 0 {
            info!(destination:% = self.destination.name; "the destination works again");
        }
        self.circuit.succeeded();
        self.show_circuit();
    }

    /// The destination cannot be reached, or lets us not in.
    fn fail(&mut self, sentence: String) {
        // The first failure and then every tenth: a month without an archive must not fill the journal.
        if self.circuit.failures().is_multiple_of(10) {
            warn!(destination:% = self.destination.name, failures = self.circuit.failures() + 1; "{sentence}");
        }
        let failure = circuit::Failure { at: clock::wall(), sentence };
        self.circuit.failed(clock::now(), fastrand::f64(), failure);
        self.show_circuit();
    }

    /// One instance could not be delivered this time.
    fn stumble(&mut self, answer: &str) {
        let sentence = format!("the latest attempt failed, others are made: {answer}");
        let failure = circuit::Failure { at: clock::wall(), sentence };
        self.circuit.stumbled(clock::now(), fastrand::f64(), failure);
        self.show_circuit();
    }

    fn show_circuit(&self) {
        self.destination.show(|health| {
            health.failures = self.circuit.failures();
            health.troubled = self.circuit.is_troubled();
            health.last_failure = self.circuit.last_failure().cloned();
        });
    }

    async fn rest(&mut self) {
        if let Courier::Archive(archive) = &mut self.courier {
            archive.close().await;
        }
    }
}

fn sending(health: &mut Health) {
    health.activity = Activity::Sending;
    health.sending = 1;
}

/// The distinct kinds, in the order in which they are due.
fn distinct(kinds: impl Iterator<Item = Kind>) -> Vec<Kind> {
    let mut seen = HashSet::new();
    kinds.filter(|kind| seen.insert(kind.clone())).collect()
}

async fn file(root: PathBuf, claim: &Claim, spool: Spool, calling: AeTitle) -> Attempt {
    let (id, header, hash) = (claim.id, claim.header.clone(), claim.hash);
    let filed = tokio::task::spawn_blocking(move || {
        let meta = FileMeta {
            sop_class_uid: header.sop_class_uid,
            sop_instance_uid: header.sop_instance_uid,
            transfer_syntax: header.transfer_syntax,
            source_ae: Some(calling),
        };
        let filing = Filing {
            meta: &meta,
            study: header.study_instance_uid.as_ref(),
            series: header.series_instance_uid.as_ref(),
            hash,
        };
        folder::file(&root, &filing, spool.read(id)?)
    });
    let verdict = match filed.await {
        Ok(Ok(path)) => Verdict::Delivered { answer: format!("filed as {}", path.display()), warned: false },
        Ok(Err(FilingError::Spool(error))) => Verdict::of_spool(&error),
        Ok(Err(FilingError::Payload(error))) => Verdict::of_payload(&error),
        Ok(Err(error @ FilingError::Io { .. })) => Verdict::Refused { answer: error.to_string() },
        Ok(Err(error @ (FilingError::FolderMissing(_) | FilingError::Volume { .. }))) => {
            return Attempt::DestinationFailed(error.to_string());
        }
        Err(_) => Verdict::Later { answer: "the filing ended unexpectedly".into() },
    };
    Attempt::Made(verdict)
}
