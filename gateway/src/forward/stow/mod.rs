//! A destination that speaks STOW-RS (PS3.18 10.5): several instances in one request over TLS.
//!
//! # Promises
//!
//! - What was received leaves as it is: each part is a Part 10 file with the payload behind its file meta information.
//!   Another, lossless transfer syntax is taken only after the archive has refused the stored one, or where the
//!   configuration says that it takes smaller ones ([`mod@smaller`]).
//! - A request ends as a whole one only after every payload in it has been read back and has matched its hash. Otherwise
//!   it is broken off.
//! - What the answer says counts for each instance by itself. Where it says nothing of one, the status does; where that
//!   says nothing either, the instance goes alone, and then a query tells.
//! - No instance holds up the others for long: one that a request with others failed over goes alone from then on.
//! - Secrets are in files, and in no error, log or status. Nothing goes in the clear, nothing is redirected.
//!
//! # The parts
//!
//! - Pure: [`multipart`] (the body), [`answer`] and [`native`] (what an answer lists), [`judgement`] (what that means for each
//!   instance), [`batch`] (how much goes in one request), [`retry_after`];
//! - [`mod@feed`] and [`body`]: from the disk into a request; [`client`], [`wire`] and [`frames`]: HTTP over TLS; [`proxy`]:
//!   CONNECT; [`credentials`]: who we are; [`session`]: connection, credentials and the proof that the service is there;
//! - [`search`]: which instances the service has;
//! - here: the courier.
//!
//! Deliberately absent: redirects, cookies, `Expect: 100-continue` (too many servers have their own idea of it; the proof
//! of each new connection does what it is for), metadata and bulk data apart from each other.

mod answer;
mod batch;
mod body;
mod client;
mod credentials;
mod feed;
mod frames;
mod judgement;
mod multipart;
mod native;
mod proxy;
mod retry_after;
mod search;
mod session;
mod smaller;
mod wire;

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::rand;
use hyper::{Method, StatusCode};
use log::{debug, info, warn};
use rustls::ClientConfig;
use tokio::sync::mpsc;

use self::batch::{Candidate, Sizes};
use self::body::Body;
use self::client::{Broken, Line};
use self::credentials::Keyring;
use self::feed::{Parcel, Part, Stopped, feed};
use self::judgement::{About, Answer, Fate, Judgement};
use self::multipart::Boundary;
pub(super) use self::search::{Found, MOST_INSTANCES as MOST_SEARCHED, Search, Silence};
use self::session::{Session, Trouble};
use self::smaller::Doubts;
use super::archive::is_ambiguous;
use super::benefit::Kind;
use super::compact;
use super::courier::{self, Attempt, Bench, Handed, Settings};
use super::destination::Activity;
use super::open::Dialer;
use super::outgoing::{self, Smaller, Wanted};
use super::transcode;
use super::verdict::Verdict;
use super::wire::EndedBy;
use crate::clock;
use crate::config::{WebSettings, WebUrl};
use crate::dataset::transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN as EXPLICIT;
use crate::model::{InstanceId, Uid};
use crate::spool::{Claim, Spool};
use crate::tls::Current;

/// Where a DICOMweb service is, and how it is to be treated.
#[derive(Debug, Clone)]
pub struct Service {
    /// The base of the service.
    pub url: WebUrl,
    /// Credentials, proxy and sizes.
    pub settings: WebSettings,
    /// Whom we trust, and our certificate.
    pub tls: Current<ClientConfig>,
}

/// Asks a service for a sign of life, as before data goes there: connection, TLS, credentials, OPTIONS or a query. Each
/// step may take as long as `patience`.
///
/// # Errors
/// There is none, and the sentence says what to do.
pub async fn probe(service: Service, patience: Duration) -> Result<(), String> {
    let WebSettings { credentials, proxy, .. } = service.settings;
    let line =
        Line { tls: service.tls, proxy, dialer: Dialer::default(), connect: patience, stall: patience, patience };
    let mut session = Session::new(service.url, line, Keyring::new(credentials));
    session.ready(true).await.map_err(|trouble| trouble.sentence)
}

/// So many instances of a request are looked at, and made smaller, at a time.
const AT_A_TIME: usize = 4;

/// Instances, and kinds of instances, of which something is remembered; forgetting costs a request or two.
const REMEMBERED: usize = 10_000;

/// See the module.
pub(super) struct Web {
    session: Session,
    sizes: Sizes,
    settings: Settings,
    /// Instances that a request with others has failed over.
    alone: HashSet<InstanceId>,
    /// What the archive takes, if at all, only in Explicit VR Little Endian.
    converted: HashSet<Kind>,
    doubts: Doubts,
}

/// Why there is no answer to a request with instances.
enum Failure {
    Destination(Trouble),
    /// The instance at this place cannot be read.
    Unreadable(usize, Verdict),
    Broken(Broken),
}

impl Web {
    pub(super) fn new(service: Service, settings: Settings) -> Self {
        let WebSettings { credentials, proxy, max_request, max_instances } = service.settings;
        let line = Line {
            tls: service.tls,
            proxy,
            dialer: settings.dialer.clone(),
            connect: settings.timeouts.association,
            stall: settings.timeouts.write,
            patience: settings.patience,
        };
        Self {
            session: Session::new(service.url, line, Keyring::new(credentials)),
            sizes: Sizes::new(max_request, max_instances),
            settings,
            alone: HashSet::new(),
            converted: HashSet::new(),
            doubts: Doubts::default(),
        }
    }

    /// How its connections are made.
    pub(super) fn dialer(&self) -> &Dialer {
        &self.settings.dialer
    }

    /// Whether a connection is open.
    pub(super) fn is_open(&self) -> bool {
        self.session.is_open()
    }

    /// Lets go of the connection.
    pub(super) fn close(&mut self) {
        self.session.close();
    }

    /// Sends the first of `claims` and those that go with it; what was `refused` before leaves as it is stored.
    pub(super) async fn deliver(
        &mut self,
        mut claims: Vec<Claim>,
        refused: &HashSet<InstanceId>,
        prove: bool,
        bench: &Bench,
    ) -> Attempt {
        if let Some(limit) = self.sizes.relent(clock::of_runtime()) {
            self.note_limit(limit, bench);
        }
        let candidates = claims.iter().map(|claim| Candidate {
            instance: claim.header.sop_instance_uid.as_str(),
            length: claim.length,
            priority: claim.priority,
            alone: self.alone.contains(&claim.id),
        });
        let count = self.sizes.count(candidates);
        claims.truncate(count);
        let mut again = true;
        loop {
            bench.destination.show(|health| health.activity = Activity::Connecting);
            match bench.unless_stopped(self.session.ready(prove)).await {
                None => return Attempt::Stopped,
                Some(Ok(())) => bench.destination.answers.store(true, Ordering::Relaxed),
                Some(Err(trouble)) => return failed(trouble),
            }
            let mut sending = bench.sending(claims.len() as u64, total(&claims));
            let (parcels, parts) = match self.prepare(&claims, refused, bench).await {
                Ok(prepared) => prepared,
                Err((place, verdict)) => return not_readable(claims, place, verdict),
            };
            let is_smaller = parts.iter().any(|part| outgoing::smaller(part.sent_as.as_ref()).is_some());
            sending.begins(is_smaller.then(|| parts.iter().map(|part| part.length).sum()));
            let answered = self.send(parcels, &claims, Arc::clone(sending.meter())).await;
            let sent = sending.ended(answered.as_ref().is_ok_and(|answer| answer.status.is_success()));
            match answered {
                // The archive may have ended the connection while nothing was on it.
                Err(Failure::Broken(Broken { stale: true, ended_by: EndedBy::Peer, .. })) if again => again = false,
                Ok(answer) if answer.status == StatusCode::UNAUTHORIZED && again && self.session.renew() => {
                    again = false;
                }
                Ok(answer) => {
                    // What it really is, the answer tells.
                    let sent_so_far = Verdict::Later { answer: "it was sent".to_owned() };
                    return self.made(handed(claims, parts, sent, &sent_so_far), &answer, bench).await;
                }
                Err(Failure::Destination(trouble)) => return failed(trouble),
                Err(Failure::Unreadable(place, verdict)) => return not_readable(claims, place, verdict),
                Err(Failure::Broken(broken)) => {
                    let later = Verdict::Later { answer: broken.sentence.clone() };
                    let bytes = total(&claims);
                    return self.broken(handed(claims, parts, sent, &later), bytes, broken, bench);
                }
            }
        }
    }

    /// Asks whether the service works, without anything to send.
    pub(super) async fn probe(&mut self, bench: &Bench) -> Attempt {
        match bench.unless_stopped(self.session.ready(true)).await {
            None => Attempt::Stopped,
            Some(Ok(())) => Attempt::Made(Vec::new()),
            Some(Err(trouble)) => failed(trouble),
        }
    }

    /// Makes one request with these instances.
    async fn send(&mut self, parcels: Vec<Parcel>, claims: &[Claim], meter: Arc<AtomicU64>) -> Result<Answer, Failure> {
        let boundary = boundary().map_err(Failure::Destination)?;
        let lengths = parcels.iter().map(|parcel| (&parcel.meta, parcel.length));
        let length =
            multipart::length(&boundary, lengths).map_err(|error| Failure::Destination(of_this_box(&error)))?;
        let content_type = boundary.content_type();
        let (sender, pieces) = mpsc::channel(feed::AHEAD);
        let feeding = tokio::spawn(feed(parcels, boundary, meter, sender));
        let began = clock::of_runtime();
        let answered = self
            .session
            .send(|draft, progress| {
                let body = Body::fed(pieces, length, progress);
                draft.method(Method::POST).path("/studies").with_content(&content_type, body)
            })
            .await;
        // The other end of the feed is gone by now: it has ended, or it ends with its next piece.
        let fed = feeding.await;
        let answer = answered.map_err(Failure::Destination)?;
        if let Ok(Err(Stopped::Unreadable(place, verdict))) = fed {
            return Err(Failure::Unreadable(place, verdict));
        }
        let answer = answer.map_err(Failure::Broken)?;
        if answer.status.is_success() {
            self.sizes.took(total(claims), clock::of_runtime().saturating_duration_since(began));
        }
        Ok(answer)
    }

    /// Looks what is to be read of each instance, and makes smaller what may leave so, before the first byte of the request
    /// leaves. One that cannot be read is told of by its place.
    async fn prepare(
        &self,
        claims: &[Claim],
        refused: &HashSet<InstanceId>,
        bench: &Bench,
    ) -> Result<(Vec<Parcel>, Vec<Part>), (usize, Verdict)> {
        let (mut prepared, mut at_work) = (Vec::with_capacity(claims.len()), VecDeque::new());
        let mut waiting = claims.iter();
        loop {
            while at_work.len() < AT_A_TIME
                && let Some(claim) = waiting.next()
            {
                let smaller = if refused.contains(&claim.id) { None } else { self.smaller(claim, bench) };
                let (wanted, attempts) = (Wanted::of(claim, smaller, Ok(self.conversion(claim))), claim.attempts);
                let (spool, settings) = (bench.spool.clone(), self.settings.clone());
                let prepare = move || Parcel::prepare(&wanted, attempts, &spool, &settings);
                at_work.push_back(tokio::task::spawn_blocking(prepare));
            }
            let Some(preparing) = at_work.pop_front() else { return Ok(prepared.into_iter().unzip()) };
            let later = || Err(Verdict::Later { answer: "reading the instance failed".to_owned() });
            let one = preparing.await.unwrap_or_else(|_| later());
            prepared.push(one.map_err(|verdict| (prepared.len(), verdict))?);
        }
    }

    /// In what an instance may leave to be smaller, if it may.
    fn smaller(&self, claim: &Claim, bench: &Bench) -> Option<Smaller> {
        let workshop = self.settings.workshop.clone().filter(|_| !self.doubts.are_about(claim.id))?;
        let (kind, destination) = (Kind::of(&claim.header), &bench.destination);
        let all: Vec<Uid> =
            compact::smaller(&kind.transfer_syntax).iter().filter_map(|syntax| syntax.parse().ok()).collect();
        // Nobody can be asked: what the configuration says counts until an answer says otherwise.
        destination.note_accepted(kind.clone(), all.clone());
        let accepted = destination.taken(&kind, all, clock::of_runtime());
        Some(Smaller { workshop, through: Arc::clone(destination), accepted })
    }

    /// What another transfer syntax is needed for, as far as that is known.
    fn conversion(&self, claim: &Claim) -> Option<Uid> {
        self.converted.contains(&Kind::of(&claim.header)).then(|| EXPLICIT.parse().ok()).flatten()
    }

    /// The answer came.
    async fn made(&mut self, handed: Vec<Handed>, answer: &Answer, bench: &Bench) -> Attempt {
        let (url, credentials) = (self.session.url.to_string(), self.session.credentials());
        let uids: Vec<&str> = handed.iter().map(|handed| handed.claim.header.sop_instance_uid.as_str()).collect();
        let judgement = judgement::judge(answer, &uids, About { url: &url, credentials: &credentials });
        debug!(
            destination:% = bench.destination.name, instances = handed.len(), status = answer.status.as_u16();
            "request answered"
        );
        match judgement {
            Judgement::Destination { sentence, wait } if judgement::may_be_about_a_body(answer) => {
                self.suspicious(handed, answer, Trouble { wait, ..Trouble::new(sentence) }, bench).await
            }
            Judgement::Destination { sentence, wait } => failed(Trouble { wait, ..Trouble::new(sentence) }),
            Judgement::TooLarge => self.too_large(handed, bench),
            Judgement::Each(fates) => {
                let mut settled = Vec::with_capacity(handed.len());
                for (handed, fate) in handed.into_iter().zip(fates) {
                    if let Some(verdict) = self.settle(bench, &handed, fate).await {
                        self.learn(bench, &handed, &verdict);
                        settled.push(Handed { verdict, ..handed });
                    }
                }
                Attempt::Made(settled)
            }
        }
    }

    /// The answer blames the destination, and may have been caused by what is in one instance. If the service is well
    /// otherwise, each goes alone, and one that gets such an answer alone is refused.
    async fn suspicious(&mut self, handed: Vec<Handed>, answer: &Answer, trouble: Trouble, bench: &Bench) -> Attempt {
        let is_well = match boundary() {
            Ok(boundary) => bench.unless_stopped(self.session.is_well(&boundary)).await,
            Err(trouble) => return failed(trouble),
        };
        match is_well {
            None => Attempt::Stopped,
            Some(false) => failed(trouble),
            Some(true) if handed.len() > 1 => {
                for handed in &handed {
                    remember(&mut self.alone, handed.claim.id);
                }
                Attempt::Made(Vec::new())
            }
            Some(true) => {
                let refused = Verdict::Refused { answer: judgement::about_a_body(answer) };
                let refused = |handed| Handed { verdict: refused.clone(), ..handed };
                Attempt::Made(handed.into_iter().map(refused).collect())
            }
        }
    }

    /// What is recorded of an instance; nothing if it is tried again at once.
    async fn settle(&mut self, bench: &Bench, handed: &Handed, fate: Fate) -> Option<Verdict> {
        let (spool, claim) = (&bench.spool, &handed.claim);
        match fate {
            Fate::Settled(verdict) => {
                if matches!(verdict, Verdict::Delivered { .. }) {
                    self.alone.remove(&claim.id);
                }
                Some(verdict)
            }
            Fate::Alone => {
                remember(&mut self.alone, claim.id);
                None
            }
            Fate::Duplicate(answer) => {
                self.alone.remove(&claim.id);
                Some(Verdict::of_duplicate(answer, is_ambiguous(spool, claim)))
            }
            Fate::Unclear(answer) => Some(self.look_for(spool, claim, answer).await),
            Fate::Syntax(answer) => {
                if let Some(syntax) = smaller_syntax(handed) {
                    note_refused(bench, claim, syntax.clone());
                    remember(&mut self.alone, claim.id);
                    return None;
                }
                let (kind, stored) = (Kind::of(&claim.header), &claim.header.transfer_syntax);
                let is_offered = transcode::conversions(stored).contains(&EXPLICIT);
                if is_offered && remember(&mut self.converted, kind) {
                    remember(&mut self.alone, claim.id);
                    return None;
                }
                let tried =
                    if is_offered { "nor in Explicit VR Little Endian" } else { "and there is no lossless conversion" };
                let class = &claim.header.sop_class_uid;
                Some(Verdict::Refused {
                    answer: format!(
                        "{answer}: SOP class {class} is not taken in transfer syntax {stored} {tried}; enable it at the archive"
                    ),
                })
            }
        }
    }

    /// What the archive makes of smaller transfer syntaxes.
    fn learn(&mut self, bench: &Bench, handed: &Handed, verdict: &Verdict) {
        let (claim, smaller) = (&handed.claim, smaller_syntax(handed));
        match (verdict, smaller) {
            (Verdict::Later { .. }, Some(syntax)) => self.doubts.stumbled(claim.id, syntax),
            (Verdict::Delivered { .. }, _) => {
                if let Some(syntax) = self.doubts.arrived(claim.id, &Kind::of(&claim.header), smaller) {
                    note_refused(bench, claim, syntax);
                }
            }
            _ => {}
        }
    }

    /// Asks the archive whether it has an instance of which its answer said nothing (QIDO-RS, PS3.18 10.6).
    async fn look_for(&mut self, spool: &Spool, claim: &Claim, answer: String) -> Verdict {
        let uid = claim.header.sop_instance_uid.as_str();
        let query = match &claim.header.study_instance_uid {
            Some(study) => format!("/studies/{study}/instances?SOPInstanceUID={uid}&limit=1"),
            None => format!("/instances?SOPInstanceUID={uid}&limit=1"),
        };
        match self.session.ask(Method::GET, &query).await {
            Ok(found) if found.status.is_success() && answer::finds(&found.body, uid) => {
                let ambiguous = is_ambiguous(spool, claim);
                Verdict::of_duplicate(format!("{answer}; a query finds it there"), ambiguous)
            }
            Ok(found) if found.status.is_success() => {
                Verdict::Refused { answer: format!("{answer}, and a query does not find it") }
            }
            Ok(found) if found.status.is_client_error() => Verdict::Refused {
                answer: format!("{answer}, and a query does not tell ({})", judgement::shown(found.status)),
            },
            Ok(found) => Verdict::Later { answer: format!("{answer}; {}", judgement::shown(found.status)) },
            Err(trouble) => Verdict::Later { answer: format!("{answer}; {}", trouble.sentence) },
        }
    }

    fn too_large(&mut self, mut handed: Vec<Handed>, bench: &Bench) -> Attempt {
        let bytes = handed.iter().map(|handed| handed.claim.length).fold(0, u64::saturating_add);
        if handed.len() > 1 {
            let limit = self.sizes.too_large(bytes, clock::of_runtime());
            info!(destination:% = bench.destination.name, bytes, limit; "the request was too large, the next are smaller");
            self.note_limit(limit, bench);
            return Attempt::Made(Vec::new());
        }
        let reason = format!(
            "the archive takes no request of {bytes} bytes, and this is one instance (HTTP 413): raise the limit of the \
             archive, or of the proxy in front of it (nginx: client_max_body_size)"
        );
        let refused = |handed| Handed { verdict: Verdict::Hopeless { reason: reason.clone() }, ..handed };
        Attempt::Made(handed.pop().map(refused).into_iter().collect())
    }

    /// Tells how large requests may be, as long as that is less than the configuration allows.
    fn note_limit(&self, limit: u64, bench: &Bench) {
        let note = self.sizes.is_limited().then(|| {
            format!("the archive has taken no larger requests (HTTP 413): they have {limit} bytes at most now, and more again after a day")
        });
        bench.destination.show(|health| health.note = note);
    }

    /// No answer came to these, which have so many bytes together.
    fn broken(&mut self, mut handed: Vec<Handed>, bytes: u64, broken: Broken, bench: &Bench) -> Attempt {
        let (Broken { sentence, ended_by, .. }, is_alone) = (broken, handed.len() <= 1);
        match ended_by {
            EndedBy::Us => {
                self.sizes.cut(bytes);
                for handed in &mut handed {
                    handed.verdict = courier::verdict_of_cut(&handed.claim, &sentence);
                    // A way that drops a connection without a word again and again may do so for what is in one of them.
                    if !is_alone && matches!(handed.verdict, Verdict::Later { .. }) {
                        remember(&mut self.alone, handed.claim.id);
                    }
                }
                Attempt::Cut { handed, sentence }
            }
            EndedBy::Link => {
                self.sizes.cut(bytes);
                for handed in &mut handed {
                    handed.verdict = Verdict::Kept { answer: sentence.clone() };
                }
                Attempt::Partly { made: handed, then: Box::new(Attempt::DestinationFailed(sentence)) }
            }
            EndedBy::Peer => {
                for handed in &handed {
                    self.learn(bench, handed, &handed.verdict);
                    if !is_alone {
                        remember(&mut self.alone, handed.claim.id);
                    }
                }
                Attempt::Made(handed)
            }
        }
    }
}

/// An instance of the request cannot be read: it was broken off, or not begun.
fn not_readable(mut claims: Vec<Claim>, place: usize, verdict: Verdict) -> Attempt {
    if place >= claims.len() {
        return Attempt::Made(Vec::new());
    }
    let claim = claims.swap_remove(place);
    warn!(id:% = claim.id; "no request is made, or it was broken off: an instance in it cannot be read");
    Attempt::Made(vec![Handed::nothing(claim, verdict)])
}

/// The transfer syntax in which an instance has left smaller, if it has.
fn smaller_syntax(handed: &Handed) -> Option<&Uid> {
    handed.sent_as.as_ref().filter(|sent_as| sent_as.smaller.is_some()).map(|sent_as| &sent_as.syntax)
}

/// Instances of this kind are not offered in this transfer syntax any more, for a while.
fn note_refused(bench: &Bench, claim: &Claim, syntax: Uid) {
    let destination = &bench.destination;
    info!(destination:% = destination.name, syntax:%; "the archive does not take instances of this kind in this smaller transfer syntax");
    destination.shun(Kind::of(&claim.header), syntax, clock::of_runtime());
}

/// A boundary that nobody knows.
fn boundary() -> Result<Boundary, Trouble> {
    let mut random = [0; multipart::RANDOM];
    rand::fill(&mut random).map_err(|_| of_this_box(&"the system gives no random numbers"))?;
    Ok(Boundary::new(random))
}

fn of_this_box(what: &dyn std::fmt::Display) -> Trouble {
    Trouble::new(format!("no request could be made on this box: {what}"))
}

/// Bytes of the data sets of all of them.
fn total(claims: &[Claim]) -> u64 {
    claims.iter().map(|claim| claim.length).fold(0, u64::saturating_add)
}

/// What was handed over together, all with this verdict. The bytes that have left belong to one behind the other.
fn handed(claims: Vec<Claim>, parts: Vec<Part>, sent: u64, verdict: &Verdict) -> Vec<Handed> {
    let mut left = sent;
    let each = claims.into_iter().zip(parts).map(|(claim, Part { length, coerced, sent_as })| {
        let sent = length.min(left);
        left -= sent;
        Handed { claim, verdict: verdict.clone(), sent, remark: None, coerced, sent_as }
    });
    each.collect()
}

fn failed(trouble: Trouble) -> Attempt {
    match trouble {
        Trouble { sentence, is_given_up: true, .. } => Attempt::Cut { handed: Vec::new(), sentence },
        Trouble { sentence, wait: Some(wait), .. } => Attempt::PutOff { sentence, wait },
        Trouble { sentence, .. } => Attempt::DestinationFailed(sentence),
    }
}

/// Remembers one more; whether it was not known before.
fn remember<T: Eq + Hash>(known: &mut HashSet<T>, one: T) -> bool {
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(one)
}
