//! Answers the questions of [`super`] from the running gateway.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{ConnectInfo, Path as UrlPath, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::operator::Operator;
use super::{
    Activity, Amount, Commitment, DeliveryState, PAGE, Receipt, Released, SOCKET, ScrubState, SpoolUse, Status,
};
use super::{door, link, studies};
use crate::clock;
use crate::config::{self, Admission, DestinationUrl, Source};
use crate::forward;
use crate::forward::pace::Pace;
use crate::forward::wire::{Cuts, Volume};
use crate::metrics::Metrics;
use crate::model::{AeTitle, DestinationName, InstanceId, Timestamp};
use crate::receive::Reception;
use crate::receive::commitment::Commitments;
use crate::spool::{self, DeliveryView, Parked, Spool, SpoolError};
use crate::tls;

/// What the answers are made of.
pub struct Gateway {
    /// The gateway's AE title.
    pub aet: AeTitle,
    /// When the process started.
    pub started_at: Timestamp,
    /// Addresses bound for plain DICOM.
    pub listen: Vec<SocketAddr>,
    /// Addresses bound for DICOM over TLS.
    pub listen_tls: Vec<SocketAddr>,
    /// The data folder.
    pub data: PathBuf,
    /// Where the configuration came from.
    pub source: Source,
    /// Sentences about the configuration that stand as long as it does, the ends of certificates apart.
    pub warnings: Arc<Mutex<Vec<String>>>,
    /// The certificates in use, whose end is looked at whenever somebody asks.
    pub tls: Arc<tls::Live>,
    /// The spool.
    pub spool: Spool,
    /// The side of the modalities.
    pub reception: Arc<Reception>,
    /// Storage commitment.
    pub commitments: Arc<Commitments>,
    /// The configured destinations, in order.
    pub destinations: Vec<(DestinationUrl, Arc<forward::Destination>)>,
    /// What holds back everything that leaves.
    pub link: Arc<Pace>,
    /// The figures.
    pub metrics: Metrics,
}

/// Why the control socket cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the control socket {path}: {source}; check the permissions of the data directory")]
pub struct SocketError {
    path: PathBuf,
    source: io::Error,
}

/// Opens the control socket in `data`, for the owner alone. A socket that a dead process left is replaced; the lock of
/// the spool, taken before, makes sure that it is dead.
///
/// # Errors
/// The socket cannot be created.
pub fn bind(data: &Path) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError { path: data.join(SOCKET), source };
    let folder = File::open(data).map_err(failed)?;
    let path = super::client::socket_path(data, &folder);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Serves the socket until `shutdown`.
///
/// # Errors
/// The socket failed.
pub async fn serve(listener: UnixListener, gateway: Arc<Gateway>, shutdown: CancellationToken) -> io::Result<()> {
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/link", get(link::link))
        .route("/v1/receipts", get(receipts))
        .route("/v1/studies", get(studies::newest))
        .route("/v1/studies/{uid}", get(studies::one))
        .route("/v1/studies/{uid}/expedite", post(studies::expedite))
        .route("/v1/studies/{uid}/retry", post(studies::retry_study))
        .route("/v1/instances/{uid}", get(studies::instances))
        .route("/v1/instances/{uid}/retry", post(studies::retry_instance))
        .route("/v1/why/{uid}", get(studies::why))
        .route("/v1/receipt/{uid}", get(studies::receipt))
        .route("/v1/destinations/{name}/retry", post(retry))
        .route("/v1/door", get(door::everybody))
        .route("/v1/door/admit", post(door::admit))
        .route("/v1/door/{name}", get(door::one))
        .route("/v1/door/{name}/forget", post(door::forget))
        .route("/metrics", get(metrics))
        .with_state(gateway);
    let service = router.into_make_service_with_connect_info::<Operator>();
    axum::serve(listener, service).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// A question that could not be answered: the status and a sentence.
pub(super) struct Failed(pub(super) StatusCode, pub(super) String);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

impl From<SpoolError> for Failed {
    fn from(error: SpoolError) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

async fn status(State(gateway): State<Arc<Gateway>>) -> Result<Json<Status>, Failed> {
    Ok(Json(tokio::task::block_in_place(|| gateway.status())?))
}

async fn metrics(State(gateway): State<Arc<Gateway>>) -> Result<Response, Failed> {
    let spool = tokio::task::block_in_place(|| gateway.spool.status())?;
    gateway.metrics.spool_counts(spool.log.bytes_stored, spool.log.flushes);
    gateway.metrics.free_bytes(spool.free);
    gateway.metrics.resends(spool.log.duplicates, spool.log.conflicts, spool.log.freed);
    gateway.metrics.damaged(spool.damaged);
    gateway.metrics.knocking(gateway.reception.door().with(|book| book.strangers().len()));
    let now = clock::wall();
    for queue in &spool.destinations {
        let waiting = queue.queued.instances + queue.parked.instances;
        gateway.metrics.unverified(&queue.name, queue.unverified.instances);
        gateway.metrics.queue(&queue.name, waiting, queue.oldest_received_at.map(|since| now.saturating_since(since)));
    }
    for (_, destination) in &gateway.destinations {
        let Cuts { broken, given_up, bytes } = destination.wires().cuts();
        gateway.metrics.cuts(&destination.name, broken, given_up, bytes);
        let Volume { sent, repeated, received, .. } = destination.wires().volume();
        gateway.metrics.link(&destination.name, sent, repeated, received);
    }
    let commitment = gateway.commitments.status();
    gateway.metrics.commitments(commitment.pending, commitment.oldest.map(|since| now.saturating_since(since)));
    let text = gateway.metrics.encode();
    Ok(([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response())
}

#[derive(Deserialize)]
struct Page {
    after: Option<InstanceId>,
    limit: Option<usize>,
}

async fn receipts(State(gateway): State<Arc<Gateway>>, Query(page): Query<Page>) -> Result<Json<Vec<Receipt>>, Failed> {
    let limit = page.limit.unwrap_or(PAGE).min(PAGE);
    let instances = tokio::task::block_in_place(|| gateway.spool.instances(page.after, limit))?;
    Ok(Json(instances.iter().flat_map(receipts_of).collect()))
}

async fn retry(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(operator): ConnectInfo<Operator>,
    UrlPath(name): UrlPath<String>,
) -> Result<Json<Released>, Failed> {
    let by = operator.to_string();
    let name: DestinationName = name.parse().map_err(|error| Failed(StatusCode::BAD_REQUEST, format!("{error}")))?;
    let configured = gateway.destinations.iter().map(|(_, destination)| destination).find(|d| d.name == name);
    let known = || gateway.spool.status().map(|status| status.destinations.iter().any(|queue| queue.name == name));
    if configured.is_none() && !tokio::task::block_in_place(known)? {
        return Err(Failed(StatusCode::NOT_FOUND, format!("no destination is called {name}; see waystation status")));
    }
    let released = tokio::task::block_in_place(|| gateway.spool.retry(Some(&name), Parked::All, &by))?;
    log::info!(destination:% = name, released, by; "an operator asked for a retry");
    if let Some(destination) = configured {
        destination.hasten();
    }
    Ok(Json(Released { released }))
}

impl Gateway {
    /// One entry for each destination: those of the configuration, then those that still have something waiting.
    pub(super) fn destinations(&self, spool: &spool::SpoolStatus) -> Vec<super::Destination> {
        let configured = self.destinations.iter().map(|(url, destination)| {
            let queue = spool.destinations.iter().find(|queue| queue.name == destination.name);
            describe(url, destination, queue)
        });
        let is_configured = |name: &DestinationName| self.destinations.iter().any(|(_, d)| d.name == *name);
        let has_work = |queue: &&spool::DestinationStatus| {
            [queue.queued, queue.parked, queue.unverified].iter().any(|tally| tally.instances > 0)
        };
        let forgotten = spool.destinations.iter().filter(has_work).filter(|queue| !is_configured(&queue.name));
        configured.chain(forgotten.map(not_configured)).collect()
    }

    fn status(&self) -> Result<Status, SpoolError> {
        let spool = self.spool.status()?;
        let destinations = self.destinations(&spool);
        let addresses = |bound: &[SocketAddr]| bound.iter().map(ToString::to_string).collect();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            aet: self.aet.clone(),
            started_at: self.started_at,
            listen: addresses(&self.listen),
            listen_tls: addresses(&self.listen_tls),
            associations: self.reception.open_associations(),
            spool: SpoolUse {
                instances: spool.instances.instances,
                bytes: spool.instances.bytes,
                stored_bytes: spool.stored_bytes,
                free_bytes: spool.free,
                reserve_bytes: spool.reserve,
                delivered_copies: spool.cache.instances,
                delivered_copies_bytes: spool.cache.bytes,
                evict_below_bytes: spool.evict_below,
                warn_below_bytes: spool.warn_below,
                ballast_bytes: spool.ballast,
                stored_per_day_bytes: spool.stored_per_day,
                days_left: spool.days_left,
                conflicts: spool.conflicts,
                damaged: spool.damaged,
                scrub: ScrubState {
                    checked: spool.scrub.checked.instances,
                    checked_bytes: spool.scrub.checked.bytes,
                    last_complete_at: spool.scrub.last.map(|pass| pass.at),
                    last_damaged: spool.scrub.last.map_or(0, |pass| pass.damaged),
                },
                duplicates: spool.log.duplicates,
                flushes: spool.log.flushes,
                records: spool.log.records,
            },
            commitment: self.commitment(),
            destinations,
            warnings: self.warnings(&spool),
        })
    }

    fn commitment(&self) -> Commitment {
        let status = self.commitments.status();
        Commitment {
            pending: status.pending,
            to_report: status.to_report,
            oldest_at: status.oldest,
            damaged: status.damaged,
            failures: status.failures.into_iter().map(|(party, sentence)| (party.to_string(), sentence)).collect(),
        }
    }

    /// What somebody should look at, now.
    fn warnings(&self, spool: &spool::SpoolStatus) -> Vec<String> {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if matches!(&*self.reception.admission(), Admission::Named(modalities, _) if modalities.is_empty()) {
            warnings.push(format!("{}; waystation door shows how to admit who knocks", config::NOBODY));
        }
        warnings.extend(self.reception.admission().left_out().iter().map(ToString::to_string));
        warnings.extend(super::warnings::of(spool));
        warnings.extend(self.tls.concerns(clock::wall()));
        warnings
    }
}

fn describe(
    url: &DestinationUrl,
    destination: &forward::Destination,
    queue: Option<&spool::DestinationStatus>,
) -> super::Destination {
    let health = destination.health();
    let mut described = super::Destination {
        url: Some(url.to_string()),
        activity: health.activity,
        troubled: health.troubled,
        failures: health.failures,
        sending: health.sending,
        associations: health.associations,
        stalled: health.stalled,
        cuts: health.cuts,
        sending_bytes: health.sending_bytes,
        sent_bytes: destination.sent_bytes().min(health.sending_bytes),
        goodput_bytes_per_second: health.goodput.bytes_per_second(clock::now()),
        obstacles: health.obstacles,
        verification: health.verification.map(|failure| failure.sentence),
        ..blank(&destination.name)
    };
    if let Some(queue) = queue {
        fill(&mut described, queue);
    }
    if health.troubled
        && let Some(failure) = health.last_failure
    {
        described.sentence = failure.sentence;
        described.next_attempt_seconds =
            health.next_attempt.map(|at| at.saturating_duration_since(clock::now()).as_secs());
    } else if let Some(closed) = destination.pace().closed(false) {
        described.sentence = format!("{closed}; nothing more is begun until then");
    } else if described.parked.instances > 0 {
        described.sentence = format!(
            "{} are parked: waystation studies --undelivered names the studies, waystation why STUDY says why and what \
             to do",
            described.parked.instances
        );
    } else if matches!(url, DestinationUrl::Dicom(_)) && described.activity == Activity::Sending {
        described.sentence = "sending in the clear".into();
    } else if let Some(note) = health.note {
        described.sentence = note;
    }
    described
}

fn not_configured(queue: &spool::DestinationStatus) -> super::Destination {
    let mut described = blank(&queue.name);
    described.sentence =
        "instances wait for a destination that the configuration does not name any more; add it again".into();
    fill(&mut described, queue);
    described
}

fn blank(name: &DestinationName) -> super::Destination {
    super::Destination {
        name: name.clone(),
        url: None,
        activity: Activity::NotConfigured,
        sentence: String::new(),
        next_attempt_seconds: None,
        troubled: false,
        failures: 0,
        queued: Amount::default(),
        sending: 0,
        delivered: Amount::default(),
        unverified: Amount::default(),
        confirmed: Amount::default(),
        verification: None,
        parked: Amount::default(),
        oldest_queued_at: None,
        associations: 0,
        stalled: 0,
        cuts: Cuts::default(),
        sending_bytes: 0,
        sent_bytes: 0,
        goodput_bytes_per_second: None,
        obstacles: BTreeMap::new(),
    }
}

fn fill(described: &mut super::Destination, queue: &spool::DestinationStatus) {
    described.queued = queue.queued.into();
    described.delivered = queue.delivered.into();
    described.unverified = queue.unverified.into();
    described.confirmed = queue.confirmed.into();
    described.parked = queue.parked.into();
    described.oldest_queued_at = queue.oldest_received_at;
}

/// One receipt per destination.
fn receipts_of(instance: &spool::InstanceView) -> Vec<Receipt> {
    let receipt = |delivery: &DeliveryView| {
        let mut confirmed_at = None;
        let (state, attempts, at, answer) = match &delivery.state {
            spool::DeliveryState::Queued { attempts, last_at, last_answer, .. } => {
                (DeliveryState::Queued, *attempts, *last_at, last_answer.clone())
            }
            spool::DeliveryState::Delivered { attempts, at, answer, .. } => {
                (DeliveryState::Delivered, *attempts, Some(*at), Some(answer.clone()))
            }
            spool::DeliveryState::Confirmed { attempts, at, answer, confirmed_at: when, confirmation, .. } => {
                confirmed_at = Some(*when);
                (DeliveryState::Confirmed, *attempts, Some(*at), Some(format!("{answer}; {confirmation}")))
            }
            spool::DeliveryState::Parked { attempts, at, reason } => {
                (DeliveryState::Parked, *attempts, Some(*at), Some(reason.clone()))
            }
        };
        let header = &instance.header;
        Receipt {
            id: instance.id,
            sop_class_uid: header.sop_class_uid.clone(),
            sop_instance_uid: header.sop_instance_uid.clone(),
            study_instance_uid: header.study_instance_uid.clone(),
            transfer_syntax: header.transfer_syntax.clone(),
            calling_ae: header.calling_ae.clone(),
            received_at: header.received_at,
            bytes: instance.length,
            sha256: instance.hash,
            destination: delivery.destination.clone(),
            state,
            attempts,
            last_attempt_at: at,
            confirmed_at,
            answer,
        }
    };
    instance.deliveries.iter().map(receipt).collect()
}
