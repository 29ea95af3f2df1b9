//! The worker of one destination: waits for work, claims it, delivers it, records what came of it.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::{info, warn};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::archive::{Archive, Failure, Kind};
use super::circuit::{self, Circuit};
use super::folder::{self, Filing, FilingError};
use super::retry::Backoff;
use super::verdict::Verdict;
use crate::association::Timeouts;
use crate::clock;
use crate::config::DestinationUrl;
use crate::dataset::part10::FileMeta;
use crate::metrics::{Delivery, Metrics};
use crate::model::{AeTitle, DestinationName};
use crate::spool::{Claim, Outcome, Spool};

/// Deliveries that are looked at together, to propose all their kinds in one association.
const AHEAD: usize = 16;

/// How long an association without work is kept warm.
const WARM: Duration = Duration::from_secs(5);

/// How a destination is worked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The AE title under which the gateway calls.
    pub calling: AeTitle,
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
    /// Where it is.
    pub url: DestinationUrl,
    health: Mutex<Health>,
    queued: Notify,
    hastened: Notify,
}

/// What a destination is doing, as far as others may see.
#[derive(Debug, Clone)]
pub struct Health {
    /// What its worker is doing.
    pub activity: Activity,
    /// Failures of the destination in a row.
    pub failures: u32,
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
    pub fn new(name: DestinationName, url: DestinationUrl) -> Self {
        let health =
            Health { activity: Activity::Idle, failures: 0, last_failure: None, next_attempt: None, sending: 0 };
        Self { name, url, health: Mutex::new(health), queued: Notify::new(), hastened: Notify::new() }
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
        self.hastened.notify_one();
    }

    fn show(&self, change: impl FnOnce(&mut Health)) {
        change(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Works the destination until `shutdown`; what is in flight then is finished first.
///
/// # Errors
/// The index of the spool cannot be read any more: the process cannot go on.
pub async fn run(
    destination: Arc<Destination>,
    settings: Settings,
    tls: Option<TlsConnector>,
    spool: Spool,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<(), crate::spool::SpoolError> {
    let courier = match &destination.url {
        DestinationUrl::Dicom(peer) => Courier::Archive(Box::new(archive(peer, None, &settings))),
        DestinationUrl::Dicoms(peer) => Courier::Archive(Box::new(archive(peer, tls, &settings))),
        DestinationUrl::Folder(folder) => Courier::Folder(folder.clone()),
    };
    let circuit = Circuit::new(settings.backoff);
    let mut worker = Worker { destination, settings, courier, circuit, spool, metrics, shutdown };
    let ended = worker.work().await;
    worker.rest().await;
    ended
}

fn archive(peer: &crate::config::DicomPeer, tls: Option<TlsConnector>, settings: &Settings) -> Archive {
    Archive::new(peer.clone(), tls, settings.calling.clone(), settings.timeouts.clone(), settings.patience)
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
    spool: Spool,
    metrics: Metrics,
    shutdown: CancellationToken,
}

impl Worker {
    async fn work(&mut self) -> Result<(), crate::spool::SpoolError> {
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
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = tokio::time::sleep_until(until.into()) => {}
            () = self.destination.hastened.notified() => self.circuit.hasten(),
        }
        self.destination.show(|health| health.next_attempt = None);
    }

    async fn wait_for_work(&mut self) -> Result<(), crate::spool::SpoolError> {
        self.destination.show(|health| health.activity = Activity::Idle);
        let due = tokio::task::block_in_place(|| self.spool.next_due(&self.destination.name))?;
        let due = due.map(|due| due.until(self.spool.time()));
        let warm = matches!(&self.courier, Courier::Archive(archive) if archive.is_open());
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = self.destination.queued.notified() => {}
            () = self.destination.hastened.notified() => {}
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
        let outcome = match &mut self.courier {
            Courier::Archive(archive) => {
                let opened = if archive.knows(&kinds[0]) {
                    Ok(())
                } else {
                    self.destination.show(|health| health.activity = Activity::Connecting);
                    archive.open(&kinds).await
                };
                match opened {
                    Ok(()) => {
                        self.destination.show(sending);
                        archive.deliver(&claim, &self.spool).await
                    }
                    Err(failure) => Err(failure),
                }
            }
            Courier::Folder(root) => {
                self.destination.show(sending);
                file(root.clone(), &claim, self.spool.clone(), self.settings.calling.clone()).await
            }
        };
        self.destination.show(|health| health.sending = 0);
        self.apply(claim, outcome);
    }

    /// Records what came of the attempt.
    fn apply(&mut self, claim: Claim, outcome: Result<Verdict, Failure>) {
        let verdict = match outcome {
            Ok(verdict) => {
                if let Verdict::Later { answer } = &verdict {
                    self.fail(format!("it cannot take instances now: {answer}"));
                } else {
                    self.succeed();
                }
                verdict
            }
            Err(failure) => {
                let verdict = failure.instance;
                self.fail(failure.sentence);
                match verdict {
                    Some(verdict) => verdict,
                    None => return self.spool.record(claim, Outcome::Released),
                }
            }
        };
        let name = &self.destination.name;
        let (id, attempts, length) = (claim.id, claim.attempts, claim.length);
        let warned = matches!(verdict, Verdict::Delivered { warned: true, .. });
        let outcome = verdict.outcome(attempts, &self.settings.backoff, self.settings.tries, fastrand::f64());
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
                self.metrics.delivery(name, Delivery::Parked, 0);
                warn!(destination:% = name, id:%, attempts = attempts + 1; "instance parked: {reason}");
            }
            Outcome::Released => {}
        }
        self.spool.record(claim, outcome);
    }

    fn succeed(&mut self) {
        if self.circuit.failures() > 0 {
            info!(destination:% = self.destination.name; "the destination works again");
        }
        self.circuit.succeeded();
        self.destination.show(|health| health.failures = 0);
    }

    fn fail(&mut self, sentence: String) {
        // The first failure and then every tenth: a month without an archive must not fill the journal.
        if self.circuit.failures().is_multiple_of(10) {
            warn!(destination:% = self.destination.name, failures = self.circuit.failures() + 1; "{sentence}");
        }
        let failure = circuit::Failure { at: clock::wall(), sentence };
        self.circuit.failed(clock::now(), fastrand::f64(), failure.clone());
        self.destination.show(|health| {
            health.failures = self.circuit.failures();
            health.last_failure = Some(failure);
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

async fn file(root: PathBuf, claim: &Claim, spool: Spool, calling: AeTitle) -> Result<Verdict, Failure> {
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
        let payload = spool.read(id).map_err(|error| FilingError::Payload(std::io::Error::other(error)))?;
        folder::file(&root, &filing, payload)
    });
    match filed.await {
        Ok(Ok(path)) => Ok(Verdict::Delivered { answer: format!("filed as {}", path.display()), warned: false }),
        Ok(Err(FilingError::Payload(error))) => Ok(Verdict::Hopeless {
            reason: format!("it cannot be read back from this disk: {error}; send it again from the modality"),
        }),
        Ok(Err(error)) => {
            let sentence = error.to_string();
            Err(Failure { instance: None, sentence })
        }
        Err(_) => Err(Failure { instance: None, sentence: "the filing ended unexpectedly".into() }),
    }
}
