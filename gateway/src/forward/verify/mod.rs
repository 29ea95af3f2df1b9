//! Asks destinations, after a delivery, whether they have the instance for good: "delivered" becomes "confirmed".
//!
//! # Promises
//!
//! - Confirmed is only what the destination has said it has, by the SOP Instance UID and after the delivery. No answer, a
//!   broken association, an answer that cannot be read: then it is asked again, for as long as that takes.
//! - What it says that it lacks is delivered again at once. An archive that goes on taking and denying is not fed for ever:
//!   see [`Doubts`].
//! - A destination in trouble is not asked: while the circuit of its worker is open nothing is. The questions have a
//!   circuit of their own, of the same policy.
//! - No instance holds up the others: a question that is not answered, or refused as a whole, is asked about half as many
//!   the next time, down to one; that one is put off then, ever longer.
//! - Nothing but the questions that are under way is kept in memory; what is to be asked, and when, is in the spool.
//!
//! # The task
//!
//! ```text
//!            ┌───── circuit open, the worker's or our own: wait ◀──────┐
//!            ▼                                                         │ no association, not offered, no answer
//! wait for what is due ─▶ claim up to 500 ─▶ ask ─▶ record ─▶ pause, so that the next question is about many
//! ```
//!
//! - `commit`: storage commitment. A request is recorded as "later" as soon as it is taken: if no report comes before
//!   the patience is over, the archive is asked again. Reports go through the [`Inquiry`], wherever they come in.
//! - `find`: C-FIND at the level of instances, `qido`: QIDO-RS; `look`: many at once where the archive can do that.
//! - `batch`: which instances go into one question. Pure.
//!
//! An archive that does not offer the service is asked again after a day, and until then a sentence says so.

mod batch;
mod commit;
mod find;
mod look;
mod qido;
#[cfg(test)]
mod qido_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::circuit::{self, Circuit};
use super::courier::{Route, Settings};
use super::destination::Destination;
use super::open::{self, Dialer};
use super::stow::Search;
use super::worker::blocking;
use crate::association::{Association, RequestorSettings};
use crate::clock::{self, SpoolTime};
use crate::config::{DicomPeer, Verification as How, VerifyBy};
use crate::inquiry::{Doubts, Inquiries, Inquiry};
use crate::ledger::Method;
use crate::metrics::{Metrics, Verified};
use crate::model::{DestinationName, Uid};
use crate::spool::{Outcome, Spool, SpoolError, Unverified, Verification};
use crate::tls::Current;
use commit::Commit;
use find::Find;
use qido::Qido;

/// The most instances about which one request of storage commitment asks.
const AT_ONCE: usize = 500;

/// How long an instance about which no question is answered is left alone at most.
const DAY: Duration = Duration::from_secs(86_400);

/// Times that nobody has a reason to set.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// How long an association stays open for reports after the last request on it. Who reports on an association of his
    /// own does so whenever he likes.
    hold: Duration,
    /// The longest rest between two questions when there were not enough for a full one.
    gathering: Duration,
    /// When an archive that does not offer the service is asked again.
    not_offered: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let [hold, gathering] = [10, 10].map(Duration::from_secs);
        Self { hold, gathering, not_offered: DAY }
    }
}

/// Marks a delivery as one that the destination is to be asked about, after this time.
pub(super) fn to_be_verified(outcome: Outcome, verify: Option<Duration>) -> Outcome {
    match outcome {
        Outcome::Delivered { answer, .. } => Outcome::Delivered { answer, verify },
        other => other,
    }
}

/// Why nothing was learned.
#[derive(Debug)]
enum Trouble {
    /// The destination cannot be reached.
    Failed(String),
    /// The same, or it wants to be left in peace for so long.
    PutOff(String, Duration),
    /// It can be reached, and has not answered this question. What it said in words of its own is not for the log.
    Question { sentence: String, remark: Option<String> },
    /// It does not offer the service.
    NotOffered(String),
}

/// The destination and how to get an association with it.
struct Caller {
    peer: DicomPeer,
    tls: Option<Current<ClientConfig>>,
    dialer: Dialer,
    settings: Settings,
}

impl Caller {
    /// Opens an association that proposes this SOP class; also tells the address.
    async fn call(&self, class: &Uid) -> Result<(Association, std::net::IpAddr), Trouble> {
        let mut settings = RequestorSettings::new(self.settings.calling.clone(), self.peer.aet.clone());
        settings.timeouts = self.settings.timeouts.clone();
        let syntaxes = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"].into_iter().filter_map(|uid| uid.parse().ok());
        let settings = settings.propose(class, syntaxes);
        let connector = self.tls.as_ref().map(Current::connector);
        let reached = open::reach(&self.peer, connector.as_ref(), &self.dialer, &settings).await;
        reached.map_err(|error| Trouble::Failed(error.to_string()))
    }
}

/// What whoever asks works with.
struct Desk {
    destination: Arc<Destination>,
    spool: Spool,
    metrics: Metrics,
    /// How it is asked, for the ledger.
    method: Method,
    /// How long it is given after a delivery.
    after: Duration,
    /// How long a report may take.
    patience: Duration,
    /// About how many instances it is asked at once at the moment.
    most: usize,
}

impl Desk {
    /// What is due, if there is something.
    fn claim(&self) -> Result<Vec<Unverified>, SpoolError> {
        let (name, now) = (&self.destination.name, self.spool.time());
        blocking(|| self.spool.claim_unverified(name, now, self.most))
    }

    /// A question about these was not answered. Which of many is to blame nobody knows; one alone is asked about again
    /// later.
    fn not_answered(&self, mut claims: Vec<Unverified>, sentence: &str) {
        if let (Some(claim), true) = (claims.pop(), claims.is_empty()) {
            let after = self.after.saturating_mul(2 << claim.tries.min(20)).min(DAY);
            self.record(claim, Verification::Later { after, answer: sentence.to_owned() });
        }
    }

    fn record(&self, claim: Unverified, verification: Verification) {
        let name = &self.destination.name;
        let result = match &verification {
            Verification::Confirmed { .. } => Verified::Confirmed,
            Verification::Missing { answer } => {
                warn!(destination:% = name, id:% = claim.id; "delivered, and not there: it is delivered again: {answer}");
                Verified::Missing
            }
            Verification::Later { .. } | Verification::Waived => Verified::Later,
        };
        self.metrics.verified(name, result, 1);
        blocking(|| self.spool.verified(claim, self.method, verification));
    }
}

enum Asker {
    Commit(Box<Commit>),
    Find(Box<Find>),
    Qido(Box<Qido>),
}

struct Verifier {
    desk: Desk,
    asker: Asker,
    circuit: Circuit,
    pace: Pace,
    shutdown: CancellationToken,
}

/// Lets go of what was to be asked at a destination that the configuration does not ask any more: delivered is the last
/// state then, and copies need not wait for more. Gives how many deliveries that were. Blocking.
///
/// # Errors
/// The index of the spool cannot be read any more.
pub fn waive(destination: &DestinationName, spool: &Spool) -> Result<u64, SpoolError> {
    let mut waived = 0;
    loop {
        let claims = spool.claim_unverified(destination, SpoolTime(u64::MAX), AT_ONCE)?;
        if claims.is_empty() {
            return Ok(waived);
        }
        for claim in claims {
            spool.verified(claim, Method::Commitment, Verification::Waived);
            waived += 1;
        }
    }
}

/// Asks the destination until `shutdown`, if it is one that can be asked.
///
/// # Errors
/// The index of the spool cannot be read any more: the process cannot go on.
#[expect(clippy::too_many_arguments, reason = "called once, by the daemon, with everything named there")]
pub async fn run(
    destination: Arc<Destination>,
    route: Route,
    how: How,
    inquiries: Inquiries,
    settings: Settings,
    spool: Spool,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<(), SpoolError> {
    let pace = Pace::default();
    let pace = Pace { gathering: pace.gathering.min(how.after), ..pace };
    run_at(pace, destination, route, how, inquiries, settings, spool, metrics, shutdown).await
}

#[expect(clippy::too_many_arguments, reason = "those of `run`, and the times that a test makes short")]
async fn run_at(
    pace: Pace,
    destination: Arc<Destination>,
    route: Route,
    how: How,
    inquiries: Inquiries,
    settings: Settings,
    spool: Spool,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<(), SpoolError> {
    let circuit = Circuit::new(settings.backoff);
    let inquiry = inquiries.find(&destination.name).cloned().map(|inquiry| (inquiry, inquiries));
    let Some((asker, method)) = asker(route, how, inquiry, settings, pace) else {
        // The configuration does not let it come to this.
        shutdown.cancelled().await;
        return Ok(());
    };
    let desk = Desk { destination, spool, metrics, method, after: how.after, patience: how.patience, most: AT_ONCE };
    let mut verifier = Verifier { desk, asker, circuit, pace, shutdown };
    verifier.work().await
}

/// Who asks, and what the ledger calls that; nothing for a destination that cannot be asked like this.
fn asker(
    route: Route,
    how: How,
    inquiry: Option<(Arc<Inquiry>, Inquiries)>,
    settings: Settings,
    pace: Pace,
) -> Option<(Asker, Method)> {
    let doubts = Doubts::new(how.after);
    let (peer, tls) = match route {
        Route::Plain(peer) => (peer, None),
        Route::Tls(peer, tls) => (peer, Some(tls)),
        Route::Web(service) if how.by == VerifyBy::Query => {
            let search = Search::new(*service, &settings, how.patience);
            return Some((Asker::Qido(Box::new(Qido::new(search, doubts))), Method::Qidors));
        }
        Route::Web(_) | Route::Folder(_) => return None,
    };
    let caller = Caller { peer, tls, dialer: settings.dialer.clone(), settings };
    match (how.by, inquiry) {
        (VerifyBy::Commitment, Some((inquiry, inquiries))) => {
            let commit = Commit::new(caller, inquiry, inquiries, pace.hold);
            Some((Asker::Commit(Box::new(commit)), Method::Commitment))
        }
        (VerifyBy::Commitment, None) => None,
        (VerifyBy::Query, _) => Some((Asker::Find(Box::new(Find::new(caller, doubts))), Method::CFind)),
    }
}

impl Verifier {
    async fn work(&mut self) -> Result<(), SpoolError> {
        while !self.shutdown.is_cancelled() {
            if let Some(until) = self.closed_before() {
                self.rest_until(until).await;
                continue;
            }
            let claims = self.desk.claim()?;
            if claims.is_empty() {
                self.wait_for_work().await?;
                continue;
            }
            let is_full = claims.len() >= self.desk.most;
            let asked = match &mut self.asker {
                Asker::Commit(commit) => unless(&self.shutdown, commit.ask(claims, &self.desk)).await,
                Asker::Find(find) => unless(&self.shutdown, find.ask(claims, &self.desk)).await,
                Asker::Qido(qido) => unless(&self.shutdown, qido.ask(claims, &self.desk)).await,
            };
            match asked {
                // What was under way is asked about again after the next start.
                None => return Ok(()),
                Some(Ok(())) => {
                    self.succeed();
                    if !is_full {
                        self.rest_until(clock::of_runtime() + self.pace.gathering).await;
                    }
                }
                Some(Err(Trouble::Failed(sentence))) => self.fail(sentence, None),
                Some(Err(Trouble::PutOff(sentence, wait))) => {
                    self.fail(sentence, None);
                    self.circuit.hold_until(clock::of_runtime() + wait);
                }
                Some(Err(Trouble::Question { sentence, remark })) => {
                    self.desk.most = (self.desk.most / 2).max(1);
                    self.fail(sentence, remark);
                }
                Some(Err(Trouble::NotOffered(sentence))) => self.not_offered(sentence).await,
            }
        }
        Ok(())
    }

    /// Until when nothing may be asked: our own circuit, or the worker's.
    fn closed_before(&self) -> Option<Instant> {
        let now = clock::of_runtime();
        let worker = self.desk.destination.health().next_attempt.filter(|until| *until > now);
        self.circuit.closed_before(now).max(worker)
    }

    async fn rest_until(&mut self, until: Instant) {
        let hastened = self.desk.destination.hastened.subscribe();
        self.rest(until, hastened).await;
    }

    async fn rest(&mut self, until: Instant, mut hastened: watch::Receiver<u64>) {
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = tokio::time::sleep_until(until.into()) => {}
            _ = hastened.changed() => self.circuit.hasten(),
        }
    }

    async fn wait_for_work(&self) -> Result<(), SpoolError> {
        let spool = &self.desk.spool;
        let due = blocking(|| spool.next_unverified_due(&self.desk.destination.name))?;
        let due = due.map(|due| due.until(spool.time()));
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = self.desk.destination.delivered.notified() => {}
            () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => {}
        }
        Ok(())
    }

    fn succeed(&mut self) {
        if self.circuit.is_troubled() || self.desk.destination.health().verification.is_some() {
            info!(destination:% = self.desk.destination.name; "the destination can be asked again what it has");
        }
        self.circuit.succeeded();
        self.desk.most = (self.desk.most * 2).min(AT_ONCE);
        self.desk.destination.show(|health| health.verification = None);
    }

    fn fail(&mut self, mut sentence: String, remark: Option<String>) {
        // The first failure and then every tenth, as the worker does it.
        if self.circuit.failures().is_multiple_of(10) {
            warn!(
                destination:% = self.desk.destination.name, failures = self.circuit.failures() + 1;
                "the destination cannot be asked what it has: {sentence}"
            );
        }
        if let Some(remark) = remark {
            sentence = format!("{sentence}: {remark}");
        }
        let failure = circuit::Failure { at: clock::wall(), sentence };
        self.circuit.failed(clock::of_runtime(), fastrand::f64(), false, failure.clone());
        self.desk.destination.show(|health| health.verification = Some(failure));
    }

    /// Said once, and again after a day.
    async fn not_offered(&mut self, sentence: String) {
        warn!(destination:% = self.desk.destination.name; "{sentence}");
        let failure = circuit::Failure { at: clock::wall(), sentence };
        // Whoever reads the sentence may ask for another attempt at once.
        let hastened = self.desk.destination.hastened.subscribe();
        self.desk.destination.show(|health| health.verification = Some(failure));
        self.rest(clock::of_runtime() + self.pace.not_offered, hastened).await;
    }
}

/// Waits for what is not to outlive the gateway's wish to stop; nothing if it stops first.
async fn unless<T>(shutdown: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        () = shutdown.cancelled() => None,
        done = work => Some(done),
    }
}
