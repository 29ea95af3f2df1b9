//! Couriers: how deliveries are handed to a destination, whatever it speaks.
//!
//! A courier gets the best claims of a queue and loads as many of them, from the first on, as it hands over in one go; the
//! others tell it what will come next, and are released. It says what came of those it tried, or that the destination is
//! to blame and nothing was tried. It does not wait, retry or record: that is the worker's, which has several of them
//! where a destination takes several associations.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio_util::sync::CancellationToken;

use super::archive::{Archive, Broken, Delivered};
use super::benefit::Kind;
use super::coerce::{Coerced, Coercions, Payload};
use super::compact::Workshop;
use super::cstore::StoreError;
use super::destination::{Activity, Destination};
use super::folder::{self, Filing, FilingError};
use super::open::{Dialer, OpenError};
use super::outgoing::SentAs;
use super::pipeline::{self, Several};
use super::reach::Limits;
use super::stow::{Service, Web};
use super::verdict::Verdict;
use crate::association::Timeouts;
use crate::clock;
use crate::config::DicomPeer;
use crate::dataset::part10::FileMeta;
use crate::model::{AeTitle, InstanceId, Priority};
use crate::retry::Backoff;
use crate::spool::{Claim, Spool};
use crate::tls::Current;

/// Deliveries to one archive or folder that are looked at together.
const AHEAD: usize = 16;

/// An instance that was tried so often, and whose connection is given up once more, lets others pass: there are firewalls
/// that drop a connection without a word for what is in an instance.
const CUTS: u32 = 3;

/// How a destination is reached. There is no way to have TLS in the address and none on the wire.
#[derive(Clone)]
pub enum Route {
    /// C-STORE in the clear.
    Plain(DicomPeer),
    /// C-STORE over TLS.
    Tls(DicomPeer, Current<ClientConfig>),
    /// STOW-RS, over TLS.
    Web(Box<Service>),
    /// Files below a folder.
    Folder(PathBuf),
}

impl Route {
    /// Whether several associations with it make sense. One folder is as fast as its disk; requests grow with the link.
    pub(super) fn takes_several(&self) -> bool {
        matches!(self, Self::Plain(_) | Self::Tls(..))
    }

    /// Whether several deliveries are one request, and what is said of one of them shows that it works.
    pub(super) fn is_judged_together(&self) -> bool {
        matches!(self, Self::Web(_))
    }

    /// How many deliveries are looked at together: what goes in one request, or what one association is to be good for.
    pub(super) fn ahead(&self) -> usize {
        match self {
            Self::Plain(_) | Self::Tls(..) | Self::Folder(_) => AHEAD,
            Self::Web(service) => usize::try_from(service.settings.max_instances).unwrap_or(usize::MAX),
        }
    }
}

/// How a destination is worked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The AE title under which the gateway calls.
    pub calling: AeTitle,
    /// How connections to it are made.
    pub dialer: Dialer,
    /// The pace of retries.
    pub backoff: Backoff,
    /// Time-outs of the association.
    pub timeouts: Timeouts,
    /// How many associations there are with it at most at the same time.
    pub associations: usize,
    /// How often an instance that the destination refuses is offered before it is parked.
    pub tries: u32,
    /// How long an archive may take for its answer to one instance.
    pub patience: Duration,
    /// After which time the destination is asked whether it has for good what was delivered; nothing if it is not asked.
    pub verify_after: Option<Duration>,
    /// What the destination is known to take.
    pub limits: Limits,
    /// Whose work it does while that one is away.
    pub stands_in: Option<StandIn>,
    /// What is changed in the instances on the way.
    pub coercions: Coercions,
    /// Where instances are made smaller for the way, if they are.
    pub workshop: Option<Workshop>,
}

/// The destination for which another one stands in.
#[derive(Debug, Clone)]
pub struct StandIn {
    /// Whose queue it takes from.
    pub whom: Arc<Destination>,
    /// For how long that one must have failed without a success.
    pub after: Duration,
}

/// What came of handing claims to a courier.
pub(super) enum Attempt {
    /// The destination could be reached: what it means for each delivery that was tried.
    Made(Vec<Handed>),
    /// The destination could not be reached, or takes nothing from us: nothing was tried with an instance.
    DestinationFailed(String),
    /// The connection did not move and was given up, because a new one gets through: nobody's failure. What was on it, if
    /// something was.
    Cut { handed: Vec<Handed>, sentence: String },
    /// An association that had been opened in advance was gone when these deliveries were to go over it.
    Dropped(Vec<Handed>),
    /// The association broke while this delivery was on it, and then the destination could not be reached.
    Broke { handed: Box<Handed>, sentence: String },
    /// The destination could be reached, and that is what it means for some deliveries; then came this for others.
    Partly { made: Vec<Handed>, then: Box<Attempt> },
    /// The destination could not be reached, and it wants to be left in peace for this long.
    PutOff { sentence: String, wait: Duration },
    /// The gateway stops: nothing was tried.
    Stopped,
}

/// A delivery that was tried.
pub(super) struct Handed {
    pub(super) claim: Claim,
    /// What came of it.
    pub(super) verdict: Verdict,
    /// Bytes of the data set that have left.
    pub(super) sent: u64,
    /// What the destination said in words of its own.
    pub(super) remark: Option<String>,
    /// What has left in place of the stored data set, if it did.
    pub(super) coerced: Option<Coerced>,
    /// In what it has left, if that is not what is stored.
    pub(super) sent_as: Option<SentAs>,
}

impl Handed {
    /// A delivery of which nothing has left.
    pub(super) fn nothing(claim: Claim, verdict: Verdict) -> Self {
        Self { claim, verdict, sent: 0, remark: None, coerced: None, sent_as: None }
    }
}

/// What a courier works with, beside the way to its destination.
pub(super) struct Bench {
    pub(super) destination: Arc<Destination>,
    pub(super) settings: Settings,
    pub(super) spool: Spool,
    pub(super) shutdown: CancellationToken,
}

impl Bench {
    /// Waits for what is not to outlive the gateway's wish to stop; nothing if it stops first.
    pub(super) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.shutdown.cancelled() => None,
            done = work => Some(done),
        }
    }

    /// Shows that these many deliveries with so many bytes together are on their way, until that is
    /// [told](Sending::ended).
    pub(super) fn sending(&self, deliveries: u64, bytes: u64) -> Sending<'_> {
        self.destination.show(|health| {
            health.activity = Activity::Sending;
            health.sending += deliveries;
            health.sending_bytes += bytes;
        });
        let meter = self.destination.meter(bytes);
        Sending { destination: &self.destination, meter, deliveries, bytes, moving: None }
    }
}

/// Deliveries on their way.
pub(super) struct Sending<'a> {
    destination: &'a Destination,
    meter: Arc<AtomicU64>,
    deliveries: u64,
    bytes: u64,
    moving: Option<Moving>,
}

/// Bytes are on the wire.
#[derive(Clone, Copy)]
struct Moving {
    since: Instant,
    /// From when on it had the association for itself.
    alone: Instant,
    as_stored: bool,
}

impl Sending<'_> {
    /// Where the bytes are counted that leave.
    pub(super) fn meter(&self) -> &Arc<AtomicU64> {
        &self.meter
    }

    /// All is ready: from now on it is measured how fast it gets there. If something was made `smaller`, so many bytes leave,
    /// otherwise as many as are stored.
    pub(super) fn begins(&mut self, smaller: Option<u64>) {
        let (now, as_stored) = (clock::of_runtime(), smaller.is_none());
        self.destination.expect(&self.meter, smaller.unwrap_or(self.bytes));
        self.moving = Some(Moving { since: now, alone: now, as_stored });
        self.destination.show(|health| {
            health.flow.began(now);
            if as_stored {
                health.flow_as_stored.began(now);
            }
        });
        self.destination.moving.notify_one();
    }

    /// Until then one that left before it on the same association was not answered.
    pub(super) fn was_behind_another(&mut self, until: Instant) {
        if let Some(moving) = &mut self.moving {
            moving.alone = moving.alone.max(until);
        }
    }

    /// There was an answer that says whether it has arrived, or an end. Gives the number of bytes that have left.
    pub(super) fn ended(mut self, arrived: bool) -> u64 {
        self.measure(arrived)
    }

    fn measure(&mut self, arrived: bool) -> u64 {
        let sent = self.meter.load(Ordering::Relaxed);
        let Some(Moving { since, alone, as_stored }) = self.moving.take() else { return sent };
        let ended = clock::of_runtime();
        let took = ended.saturating_duration_since(since);
        let stored = if arrived { self.bytes } else { 0 };
        self.destination.show(|health| {
            health.goodput.sent(sent, ended.saturating_duration_since(alone), ended);
            health.flow.ended(sent, stored, took, ended);
            if as_stored {
                health.flow_as_stored.ended(sent, stored, took, ended);
            }
        });
        sent
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.measure(false);
        self.destination.show(|health| {
            health.sending = health.sending.saturating_sub(self.deliveries);
            health.sending_bytes = health.sending_bytes.saturating_sub(self.bytes);
        });
    }
}

/// What a courier takes along.
#[derive(Default)]
pub(super) struct Load {
    /// What it hands over.
    claims: Vec<Claim>,
    /// What an association is to be good for: the kind of the first, and of those that come next.
    kinds: Vec<Kind>,
    /// What of it was refused before: it is to leave as it is stored.
    refused: HashSet<InstanceId>,
}

impl Load {
    /// Hands nothing over: the deliveries wait again.
    pub(super) fn release(&mut self) {
        self.claims.clear();
    }

    /// Whether something in it is urgent.
    pub(super) fn is_urgent(&self) -> bool {
        self.claims.iter().any(|claim| claim.priority == Priority::Stat)
    }
}

/// See the module.
pub(super) enum Courier {
    Archive(Box<Archive>),
    Web(Box<Web>),
    Folder(PathBuf),
}

impl Courier {
    pub(super) fn new(route: Route, settings: &Settings) -> Self {
        let settings = Settings { dialer: settings.dialer.apart(), ..settings.clone() };
        let archive = |peer: DicomPeer, tls| Self::Archive(Box::new(Archive::new(peer, tls, settings.clone())));
        match route {
            Route::Plain(peer) => archive(peer, None),
            Route::Tls(peer, tls) => archive(peer, Some(tls)),
            Route::Web(service) => Self::Web(Box::new(Web::new(*service, settings))),
            Route::Folder(folder) => Self::Folder(folder),
        }
    }

    /// What of these claims it takes along when it goes, several of them only if there may be so many and none
    /// `was_refused` before. The others were only looked at.
    pub(super) fn load(&self, mut claims: Vec<Claim>, most: usize, was_refused: impl Fn(&Claim) -> bool) -> Load {
        let refused = claims.iter().filter(|claim| was_refused(claim)).map(|claim| claim.id).collect();
        let mut load = Load { refused, ..Load::default() };
        match self {
            Self::Archive(archive) => {
                load.kinds = distinct(claims.iter().map(|claim| Kind::of(&claim.header)));
                let fits = |claim: &Claim| archive.knows(&Kind::of(&claim.header)) && !load.refused.contains(&claim.id);
                claims.truncate(pipeline::together(&claims, most.min(archive.operations()), fits));
            }
            Self::Folder(_) => claims.truncate(1),
            Self::Web(_) => {}
        }
        Load { claims, ..load }
    }

    /// Whether it can hand this over without having to open anything first.
    pub(super) fn is_ready_for(&self, claim: &Claim) -> bool {
        match self {
            Self::Archive(archive) => archive.knows(&Kind::of(&claim.header)),
            Self::Web(_) | Self::Folder(_) => true,
        }
    }

    /// Whether something is kept open that costs the destination something.
    pub(super) fn is_warm(&self) -> bool {
        match self {
            Self::Archive(archive) => archive.is_open(),
            Self::Web(web) => web.is_open(),
            Self::Folder(_) => false,
        }
    }

    /// Tries what it has loaded. With `prove`, the destination has been in trouble, and must answer a cheap question before
    /// data moves.
    pub(super) async fn deliver(&mut self, load: Load, prove: bool, bench: &Bench) -> Attempt {
        if let Some(dialer) = self.dialer() {
            dialer.is_urgent(load.is_urgent());
        }
        let Load { mut claims, kinds, refused } = load;
        match self {
            Self::Folder(root) => file(root, claims, bench).await,
            Self::Archive(archive) if claims.len() > 1 => send_several(archive, claims, bench).await,
            Self::Archive(archive) => match claims.pop() {
                Some(claim) => {
                    let as_stored = refused.contains(&claim.id);
                    send(archive, claim, &kinds, (prove, as_stored), bench).await
                }
                None => Attempt::Made(Vec::new()),
            },
            Self::Web(web) => web.deliver(claims, &refused, prove, bench).await,
        }
    }

    fn dialer(&self) -> Option<&Dialer> {
        match self {
            Self::Archive(archive) => Some(archive.dialer()),
            Self::Web(web) => Some(web.dialer()),
            Self::Folder(_) => None,
        }
    }

    /// Opens an association for what it would load, and hands nothing over.
    pub(super) async fn open(&mut self, load: Load, bench: &Bench) -> Attempt {
        let Load { kinds, .. } = load;
        match self {
            Self::Archive(archive) => match bench.unless_stopped(archive.open(&kinds, false, bench)).await {
                None => Attempt::Stopped,
                Some(Ok(())) => {
                    archive.note_ahead();
                    Attempt::Made(Vec::new())
                }
                Some(Err(error)) => not_opened(&error),
            },
            Self::Web(_) | Self::Folder(_) => Attempt::Made(Vec::new()),
        }
    }

    /// Asks whether the destination works, without anything to send.
    pub(super) async fn probe(&mut self, bench: &Bench) -> Attempt {
        bench.destination.show(|health| health.activity = Activity::Connecting);
        match self {
            Self::Folder(root) => match tokio::fs::metadata(&*root).await {
                Ok(metadata) if metadata.is_dir() => Attempt::Made(Vec::new()),
                _ => Attempt::DestinationFailed(FilingError::FolderMissing(root.clone()).to_string()),
            },
            Self::Archive(archive) => {
                let opened = bench.unless_stopped(archive.open(&[], true, bench)).await;
                archive.close().await;
                match opened {
                    None => Attempt::Stopped,
                    Some(Ok(())) => Attempt::Made(Vec::new()),
                    Some(Err(error)) => not_opened(&error),
                }
            }
            Self::Web(web) => web.probe(bench).await,
        }
    }

    /// Lets go of what is kept open.
    pub(super) async fn rest(&mut self) {
        match self {
            Self::Archive(archive) => archive.close().await,
            Self::Web(web) => web.close(),
            Self::Folder(_) => {}
        }
    }
}

/// Sends one instance. If there is no association for it, one is opened for these kinds, its own first.
async fn send(
    archive: &mut Archive,
    claim: Claim,
    kinds: &[Kind],
    (prove, as_stored): (bool, bool),
    bench: &Bench,
) -> Attempt {
    let kind = Kind::of(&claim.header);
    // What broke on an association that the archive may have ended while nothing was on it: the next one tells.
    let (mut broke, mut sent) = (None, 0);
    loop {
        if !archive.knows(&kind) {
            bench.destination.show(|health| health.activity = Activity::Connecting);
            let failure = match (bench.unless_stopped(archive.open(kinds, prove, bench)).await, broke.take()) {
                (Some(Ok(())), _) => {
                    bench.destination.answers.store(true, Ordering::Relaxed);
                    None
                }
                // What left before the gateway was to stop has to be told, too.
                (None, None) => return Attempt::Stopped,
                (None, Some(answer)) => {
                    let verdict = Verdict::Kept { answer };
                    return Attempt::Made(vec![Handed { sent, ..Handed::nothing(claim, verdict) }]);
                }
                (Some(Err(error)), None) => return not_opened(&error),
                (Some(Err(error)), Some(answer)) => Some((error, answer)),
            };
            if let Some((error, answer)) = failure {
                let handed = Box::new(Handed { sent, ..Handed::nothing(claim, Verdict::Kept { answer }) });
                return match not_opened(&error) {
                    Attempt::Cut { sentence, .. } => Attempt::Cut { handed: vec![*handed], sentence },
                    _ => Attempt::Broke { handed, sentence: error.to_string() },
                };
            }
        }
        let mut sending = bench.sending(1, claim.length);
        let (was_proven, was_ahead) = (archive.is_proven(), archive.is_ahead());
        let delivered = archive.deliver(&claim, bench, as_stored, &mut sending).await;
        let is_delivered = |delivered: &Delivered| matches!(delivered.verdict, Verdict::Delivered { .. });
        sent += sending.ended(delivered.as_ref().is_ok_and(is_delivered));
        let Delivered { verdict, remark, coerced, sent_as } = match delivered {
            Ok(delivered) => delivered,
            Err(Broken { answer, is_given_up: true }) => {
                return Attempt::Cut { handed: vec![given_up(claim, sent, &answer)], sentence: answer };
            }
            Err(Broken { answer, .. }) if was_ahead => {
                return Attempt::Dropped(vec![kept(claim, sent, &answer)]);
            }
            Err(Broken { answer, .. }) if was_proven => {
                broke = Some(answer);
                continue;
            }
            Err(Broken { answer, .. }) => Delivered::nothing(Verdict::Later { answer }),
        };
        return Attempt::Made(vec![Handed { claim, verdict, sent, remark, coerced, sent_as }]);
    }
}

/// Sends several instances one behind the other over the association that there is.
async fn send_several(archive: &mut Archive, claims: Vec<Claim>, bench: &Bench) -> Attempt {
    let Several { handed: mut made, unanswered, end, was_proven, was_ahead, .. } =
        archive.deliver_several(claims, bench).await;
    let Broken { answer, is_given_up } = match end {
        None => return Attempt::Made(made),
        Some(StoreError::Payload(_)) => {
            let answer = "the association was ended, because another instance on it could not be read";
            made.extend(unanswered.into_iter().map(|(claim, sent)| kept(claim, sent, answer)));
            return Attempt::Made(made);
        }
        Some(StoreError::Association(error)) => Broken::by(&error),
    };
    let unanswered = unanswered.into_iter();
    if is_given_up {
        let handed = unanswered.map(|(claim, sent)| given_up(claim, sent, &answer)).collect();
        return Attempt::Partly { made, then: Box::new(Attempt::Cut { handed, sentence: answer }) };
    }
    if was_ahead {
        let dropped = Attempt::Dropped(unanswered.map(|(claim, sent)| kept(claim, sent, &answer)).collect());
        return Attempt::Partly { made, then: Box::new(dropped) };
    }
    // Each goes again at once, and alone: if one of them is to blame, the others are not blamed for it.
    made.extend(unanswered.map(|(claim, sent)| match was_proven {
        true => kept(claim, sent, &answer),
        false => Handed { sent, ..Handed::nothing(claim, Verdict::Later { answer: answer.clone() }) },
    }));
    Attempt::Made(made)
}

/// An instance whose association has ended for nothing that it is to blame for.
fn kept(claim: Claim, sent: u64, answer: &str) -> Handed {
    Handed { sent, ..Handed::nothing(claim, Verdict::Kept { answer: answer.to_owned() }) }
}

/// An instance whose connection was given up.
fn given_up(claim: Claim, sent: u64, answer: &str) -> Handed {
    let verdict = verdict_of_cut(&claim, answer);
    Handed { sent, ..Handed::nothing(claim, verdict) }
}

/// What it means for an instance that its connection was given up.
pub(super) fn verdict_of_cut(claim: &Claim, answer: &str) -> Verdict {
    let answer = answer.to_owned();
    if claim.attempts < CUTS { Verdict::Kept { answer } } else { Verdict::Later { answer } }
}

/// What it means that there is no association.
fn not_opened(error: &OpenError) -> Attempt {
    let sentence = error.to_string();
    match error {
        OpenError::GivenUp { .. } => Attempt::Cut { handed: Vec::new(), sentence },
        _ => Attempt::DestinationFailed(sentence),
    }
}

/// The distinct kinds, in the order in which they are due.
fn distinct(kinds: impl Iterator<Item = Kind>) -> Vec<Kind> {
    let mut seen = HashSet::new();
    kinds.filter(|kind| seen.insert(kind.clone())).collect()
}

/// Why an instance was not filed.
enum Unfiled {
    /// It could not be read, or not be changed as wanted.
    Unread(Verdict),
    /// The folder did not take it.
    NotFiled(FilingError),
}

async fn file(root: &Path, mut claims: Vec<Claim>, bench: &Bench) -> Attempt {
    let Some(claim) = claims.pop() else { return Attempt::Made(Vec::new()) };
    let mut sending = bench.sending(1, claim.length);
    sending.begins(None);
    let (id, header, hash) = (claim.id, claim.header.clone(), claim.hash);
    let (root, spool, settings) = (root.to_owned(), bench.spool.clone(), bench.settings.clone());
    let filed = tokio::task::spawn_blocking(move || {
        let payload = Payload::prepare(&spool, id, &header, &settings.coercions).map_err(Unfiled::Unread)?;
        let meta = FileMeta {
            sop_class_uid: header.sop_class_uid,
            sop_instance_uid: header.sop_instance_uid,
            transfer_syntax: header.transfer_syntax,
            source_ae: Some(settings.calling),
        };
        let filing = Filing {
            meta: &meta,
            study: header.study_instance_uid.as_ref(),
            series: header.series_instance_uid.as_ref(),
            hash: payload.coerced.as_ref().map_or(hash, |coerced| coerced.proven.hash),
        };
        let opened = payload.open().map_err(|error| Unfiled::Unread(Verdict::of_spool(&error)))?;
        let path = folder::file(&root, &filing, opened).map_err(Unfiled::NotFiled)?;
        Ok((path, payload.coerced))
    });
    let filed = filed.await;
    if let Ok(Ok(_)) = &filed {
        sending.meter().store(claim.length, Ordering::Relaxed);
    }
    let sent = sending.ended(matches!(filed, Ok(Ok(_))));
    let verdict = match filed {
        Ok(Ok((path, coerced))) => {
            let verdict = Verdict::Delivered { answer: format!("filed as {}", path.display()), warned: false };
            return Attempt::Made(vec![Handed { claim, verdict, sent, remark: None, coerced, sent_as: None }]);
        }
        Ok(Err(Unfiled::Unread(verdict))) => verdict,
        Ok(Err(Unfiled::NotFiled(error))) => match error {
            FilingError::Payload(error) => Verdict::of_payload(&error),
            FilingError::Io { .. } => Verdict::Refused { answer: error.to_string() },
            FilingError::FolderMissing(_) | FilingError::Volume { .. } => {
                return Attempt::DestinationFailed(error.to_string());
            }
        },
        Err(_) => Verdict::Later { answer: "the filing ended unexpectedly".into() },
    };
    Attempt::Made(vec![Handed { claim, verdict, sent, remark: None, coerced: None, sent_as: None }])
}
