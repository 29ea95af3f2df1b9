//! The worker of one destination: waits for work, claims it, hands it to couriers, records what came of it.
//!
//! It owns the queue's policy: circuit, turns, width, and what was refused. Each courier has an association of its own and
//! works in a task; how many are at work is up to the [`Width`]. An association beyond the first is opened before anything
//! is claimed for it, so that no instance waits for a connection while another one could carry it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::benefit::Kind;
use super::circuit::{self, Circuit};
use super::compact::{self, Workshop};
use super::courier::{Attempt, Bench, Courier, Handed, Load, Route, Settings, StandIn};
use super::destination::{Activity, Destination};
use super::goodput;
use super::reach::{self, Obstacle};
use super::turns::Turns;
use super::verdict::{Tried, Verdict};
use super::verify;
use super::width::Width;
use crate::clock;
use crate::metrics::{Delivery, Metrics};
use crate::model::{DestinationName, InstanceId, Priority, Uid};
use crate::spool::{self, Claim, Classes, Outcome, Queue, Spool, SpoolError};

/// How long an association without work is kept warm.
const WARM: Duration = Duration::from_secs(5);

/// Instances whose refusals are remembered; one that is forgotten gets its few tries again.
const REMEMBERED: usize = 10_000;

/// Works the destination until `shutdown`; the instances in flight then are finished first.
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
    let most = if route.takes_several() { settings.associations } else { 1 };
    if let Some(workshop) = &settings.workshop {
        workshop.serve(&destination.name);
    }
    let mut worker = Worker {
        idle: vec![Idle { courier: Courier::new(route.clone(), &settings), since: clock::of_runtime() }],
        busy: JoinSet::new(),
        delivering: 0,
        proving: 0,
        opening: Vec::new(),
        circuit: Circuit::new(settings.backoff),
        width: Width::new(most),
        turns: Turns::default(),
        refusals: HashMap::new(),
        declined: BTreeMap::new(),
        route,
        bench: Arc::new(Bench { destination, settings, spool, shutdown }),
        metrics,
    };
    let ended = worker.work().await;
    while let Some(done) = worker.busy.join_next().await {
        worker.ended(done);
    }
    for idle in &mut worker.idle {
        idle.courier.rest().await;
    }
    ended
}

/// A courier without work.
struct Idle {
    courier: Courier,
    since: Instant,
}

/// A courier that comes back: what it was out for, whether it was to prove something, and what came of it.
type Back = (Courier, Errand, bool, Attempt);

/// What a courier is out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    /// To hand something over.
    Deliver,
    /// To have an association ready for more.
    Open,
    /// To ask whether the destination works.
    Probe,
    /// To let go of what it keeps open.
    Rest,
}

/// How an instance has been refused.
#[derive(Debug, Default)]
struct Refusals {
    times: u32,
    /// The smaller transfer syntax in which it was, if it was.
    smaller: Option<Uid>,
}

struct Worker {
    bench: Arc<Bench>,
    route: Route,
    idle: Vec<Idle>,
    busy: JoinSet<Back>,
    /// How many of the busy ones are out to deliver.
    delivering: usize,
    /// How many of them are out to prove that a destination in trouble works; one at most.
    proving: usize,
    /// Those that are out to open an association, or were.
    opening: Vec<AbortHandle>,
    circuit: Circuit,
    width: Width,
    turns: Turns,
    /// How often each instance of its own that is waiting has been refused, since the start of the process.
    refusals: HashMap<InstanceId, Refusals>,
    /// What it did not take from the one for which it stands in, and until when it is not offered that again.
    declined: BTreeMap<InstanceId, Instant>,
    metrics: Metrics,
}

impl Worker {
    async fn work(&mut self) -> Result<(), SpoolError> {
        while !self.bench.shutdown.is_cancelled() {
            self.send_out()?;
            self.look_ahead()?;
            self.wait().await?;
        }
        Ok(())
    }

    /// Sends couriers out as long as there is something for them to do.
    fn send_out(&mut self) -> Result<(), SpoolError> {
        while self.has_room() {
            let claims = blocking(|| self.claim())?;
            if claims.is_empty() {
                // Who stands in may have taken everything: nothing is left that would show that it works again.
                if self.busy.is_empty() && self.circuit.failures() > 0 {
                    let courier = self.courier(false);
                    self.send(courier, Errand::Probe, Load::default());
                }
                return Ok(());
            }
            let claims = self.set_aside(claims);
            let Some(first) = claims.first() else { continue };
            let ready = self.idle.iter().position(|idle| idle.courier.is_ready_for(first));
            let is_full = self.associations() >= self.width.wanted(clock::of_runtime());
            let (courier, errand) = match ready {
                Some(at) => (self.idle.swap_remove(at).courier, Errand::Deliver),
                // One that is open for something else makes room for it: one more might be one too many.
                None if self.delivering == 0 || self.circuit.is_troubled() => (self.courier(is_full), Errand::Deliver),
                None if !is_full || self.warm() > 0 => (self.courier(is_full), Errand::Open),
                None => return Ok(()),
            };
            let was_refused = self.refusals.contains_key(&first.id);
            let mut load = courier.load(claims);
            load.as_stored = was_refused;
            self.send(courier, errand, load);
        }
        Ok(())
    }

    /// Where instances are made smaller for the way, if they are, and the destination takes them so.
    fn workshop(&self) -> Option<&Workshop> {
        let Bench { destination, settings, .. } = &*self.bench;
        settings.workshop.as_ref().filter(|_| destination.accepts_smaller())
    }

    /// Has made smaller what comes next, while the present ones are on the wire.
    fn look_ahead(&self) -> Result<(), SpoolError> {
        let Bench { destination, spool, settings, .. } = &*self.bench;
        let Some(workshop) = self.workshop().filter(|workshop| !workshop.has_plans(&destination.name)) else {
            return Ok(());
        };
        let (instances, most) = compact::AHEAD;
        let upcoming = |queue| blocking(|| spool.upcoming(queue, spool.time(), instances));
        let (mut owed, mut next) = (&destination.name, upcoming(Queue::from(&destination.name))?);
        if let Some(other) = self.stands_in_for().filter(|_| next.is_empty()) {
            let declined = self.declined();
            (owed, next) = (other, upcoming(Queue { destination: other, except: Some(&declined) })?);
        }
        let mut bytes = 0_u64;
        let mut is_first = true;
        let within = next.into_iter().take_while(|next| {
            bytes = bytes.saturating_add(next.length);
            std::mem::take(&mut is_first) || bytes <= most
        });
        let accepted = within.map(|next| {
            let accepted = destination.accepts(&Kind::of(&next.header), clock::of_runtime());
            (next, accepted)
        });
        let ahead: Vec<_> =
            accepted.filter(|(next, accepted)| !accepted.is_empty() && !self.refusals.contains_key(&next.id)).collect();
        workshop.prepare(destination, owed, (spool, &settings.coercions), ahead);
        Ok(())
    }

    /// Whether one more courier may go out now.
    fn has_room(&self) -> bool {
        let now = clock::of_runtime();
        let has_room = match self.circuit.is_troubled() {
            // Those that were under way before go on: one of them may be for a long time.
            true => self.proving == 0,
            // One that is being opened has its place, unless another one is there already.
            false => {
                let taken = self.delivering + if self.warm() > 0 { 0 } else { self.opening() };
                taken < self.width.wanted(now)
            }
        };
        has_room && self.circuit.closed_before(now).is_none() && !self.bench.shutdown.is_cancelled()
    }

    /// A courier that is free, with an association or without one if there is such a one.
    fn courier(&mut self, warm: bool) -> Courier {
        let at = self.idle.iter().position(|idle| idle.courier.is_warm() == warm).or(self.idle.len().checked_sub(1));
        match at {
            Some(at) => self.idle.swap_remove(at).courier,
            None => Courier::new(self.route.clone(), &self.bench.settings),
        }
    }

    fn send(&mut self, mut courier: Courier, errand: Errand, load: Load) {
        let (bench, prove) = (Arc::clone(&self.bench), self.circuit.is_troubled());
        let prove = prove && matches!(errand, Errand::Deliver | Errand::Probe);
        self.delivering += usize::from(errand == Errand::Deliver);
        self.proving += usize::from(prove);
        let sent = self.busy.spawn(async move {
            let attempt = match errand {
                Errand::Deliver => courier.deliver(load, prove, &bench).await,
                Errand::Open => courier.open(load, &bench).await,
                Errand::Probe => courier.probe(&bench).await,
                Errand::Rest => {
                    courier.rest().await;
                    Attempt::Stopped
                }
            };
            (courier, errand, prove, attempt)
        });
        self.opening.retain(|opening| !opening.is_finished());
        if errand == Errand::Open {
            self.opening.push(sent);
        }
        self.show_associations();
    }

    /// Gives up the associations that are being opened. One that an archive keeps waiting would have its turn before the
    /// one that has to prove itself.
    fn open_no_more(&mut self) {
        self.opening.drain(..).for_each(|opening| opening.abort());
    }

    /// A courier is back.
    fn ended(&mut self, done: Result<Back, JoinError>) {
        let (courier, errand, proved, attempt) = match done {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // An association that was being opened was given up.
            Err(_) => return self.show_associations(),
        };
        self.proving -= usize::from(proved);
        let at_work = self.delivering;
        self.delivering -= usize::from(errand == Errand::Deliver);
        let now = clock::of_runtime();
        self.idle.push(Idle { courier, since: now });
        match (errand, attempt) {
            (Errand::Rest, _) | (_, Attempt::Stopped) => {}
            (Errand::Open, Attempt::Made(_)) => {}
            // One more is not to be had, for whatever reason; if there is none at all, whoever delivers will find out.
            (Errand::Open, _) => self.width.refused(self.delivering + self.warm(), now),
            (Errand::Probe, Attempt::Made(_)) => self.succeed(),
            (Errand::Deliver, Attempt::Made(handed)) => {
                for handed in &handed {
                    if matches!(handed.verdict, Verdict::Delivered { .. }) {
                        self.width.answered(handed.claim.length, at_work, now);
                    }
                }
                self.made(handed);
            }
            // Others are at work: this one more is not to be had.
            (_, Attempt::DestinationFailed(sentence) | Attempt::PutOff { sentence, .. }) if self.delivering > 0 => {
                debug!(destination:% = self.bench.destination.name, at_work = self.delivering; "no more associations: {sentence}");
                self.width.refused(self.delivering, now);
            }
            (_, Attempt::Dropped(handed)) => {
                self.apply(*handed);
                self.width.refused(self.delivering + self.warm(), now);
            }
            (_, Attempt::Broke { handed, .. }) if self.delivering > 0 => {
                self.apply(*handed);
                self.width.refused(self.delivering, now);
            }
            (_, other) => self.not_made(other),
        }
        self.show_associations();
    }

    fn show_associations(&self) {
        let associations = self.associations() as u64;
        self.bench.destination.show(|health| health.associations = associations);
    }

    /// How many associations are open or being opened.
    fn associations(&self) -> usize {
        self.delivering + self.opening() + self.warm()
    }

    fn opening(&self) -> usize {
        self.opening.iter().filter(|opening| !opening.is_finished()).count()
    }

    /// How many associations are open and without work.
    fn warm(&self) -> usize {
        self.idle.iter().filter(|idle| idle.courier.is_warm()).count()
    }

    /// Waits until there may be something to do.
    async fn wait(&mut self) -> Result<(), SpoolError> {
        let now = clock::of_runtime();
        let closed = self.circuit.closed_before(now);
        if self.busy.is_empty() {
            self.bench.destination.show(|health| {
                health.activity = if closed.is_some() { Activity::Waiting } else { Activity::Idle };
                health.next_attempt = closed;
            });
        }
        let has_room = self.has_room();
        let next = if has_room { self.next()? } else { Next::default() };
        let Next { due, mut other, turn } = next;
        // Also while others are at work: there are archives that take one association at a time and let the next one wait.
        let cold = self.idle.iter().filter(|idle| idle.courier.is_warm()).map(|idle| idle.since + WARM).min();
        // Only a request from now on counts: one that came during the attempt was about that attempt.
        let mut hastened = self.bench.destination.hastened.subscribe();
        let (destination, shutdown) = (&self.bench.destination, &self.bench.shutdown);
        let looks_ahead = self.workshop().is_some();
        tokio::select! {
            () = shutdown.cancelled() => {}
            Some(done) = self.busy.join_next() => self.ended(done),
            () = destination.queued.notified(), if has_room || looks_ahead => {}
            () = destination.moving.notified(), if self.bench.settings.workshop.is_some() => {}
            () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => {}
            () = changed(other.as_mut()) => {}
            () = until(turn) => {}
            () = until(closed) => {}
            _ = hastened.changed(), if closed.is_some() => self.circuit.hasten(),
            () = until(cold) => self.rest(),
        }
        self.bench.destination.show(|health| health.next_attempt = None);
        Ok(())
    }

    /// Lets go of the associations that had nothing to do for a while.
    fn rest(&mut self) {
        let now = clock::of_runtime();
        for idle in std::mem::take(&mut self.idle) {
            match idle.courier.is_warm() && idle.since + WARM <= now {
                true => self.send(idle.courier, Errand::Rest, Load::default()),
                false => self.idle.push(idle),
            }
        }
    }

    /// When there will be something to do next.
    fn next(&self) -> Result<Next, SpoolError> {
        let Bench { destination, spool, settings, .. } = &*self.bench;
        let mut due = blocking(|| spool.next_due(&destination.name))?;
        let (mut other, mut turn): (_, Option<Instant>) = (None, None);
        if let Some(StandIn { whom, after }) = &settings.stands_in {
            let mut failing = whom.failing();
            turn = (*failing.borrow_and_update()).map(|since| since + *after);
            turn = turn.filter(|turn| *turn > clock::of_runtime());
            other = Some(failing);
            if self.stands_in_for().is_some() {
                let declined = self.declined();
                let queue = Queue { destination: &whom.name, except: Some(&declined) };
                let its_due = blocking(|| spool.next_due(queue))?;
                turn = self.declined.values().min().copied();
                due = due.into_iter().chain(its_due).min();
            }
        }
        Ok(Next { due: due.map(|due| due.until(spool.time())), other, turn })
    }

    /// What goes next, of its own queue, or else of the one for which it stands in at the moment.
    fn claim(&mut self) -> Result<Vec<Claim>, SpoolError> {
        let whom = self.stands_in_for().cloned();
        let now = clock::of_runtime();
        self.declined.retain(|_, until| whom.is_some() && *until > now);
        let own = self.claim_from(Queue::from(&self.bench.destination.name.clone()))?;
        match &whom {
            // Of more than these it would forget what it has declined, and be offered it again and again.
            Some(destination) if own.is_empty() && self.declined.len() < REMEMBERED => {
                let declined = self.declined();
                self.claim_from(Queue { destination, except: Some(&declined) })
            }
            _ => Ok(own),
        }
    }

    /// The best of the class whose turn it is.
    fn claim_from(&mut self, queue: Queue<'_>) -> Result<Vec<Claim>, SpoolError> {
        let (spool, ahead) = (&self.bench.spool, self.route.ahead());
        let now = spool.time();
        let waiting = spool.waiting_classes(queue, now)?;
        let turn = self.turns.next(clock::of_runtime(), |class| waiting.contains(&class));
        match turn {
            None => Ok(Vec::new()),
            Some(Priority::Stat) => spool.claim(queue, now, ahead, Classes::All),
            Some(Priority::Routine) => spool.claim(queue, now, ahead, Classes::Below(Priority::Stat)),
            Some(Priority::Low) => spool.claim(queue, now, ahead, Classes::Below(Priority::Routine)),
        }
    }

    /// For whom it stands in at this moment.
    fn stands_in_for(&self) -> Option<&DestinationName> {
        let StandIn { whom, after } = self.bench.settings.stands_in.as_ref()?;
        let since = (*whom.failing().borrow())?;
        (clock::of_runtime().saturating_duration_since(since) >= *after).then_some(&whom.name)
    }

    /// Sets aside what cannot arrive as things stand, and puts off what would take too long and was tried before. What was
    /// not tried before is tried once: a measurement is an estimate.
    fn set_aside(&mut self, claims: Vec<Claim>) -> Vec<Claim> {
        let destination = Arc::clone(&self.bench.destination);
        let goodput = destination.goodput();
        let mut left = Vec::with_capacity(claims.len());
        for claim in claims {
            let obstacle = reach::obstacle(claim.length, &goodput, &self.bench.settings.limits, clock::of_runtime());
            destination.note_obstacle(claim.id, obstacle.as_ref().map(ToString::to_string));
            match obstacle {
                Some(obstacle @ Obstacle::TooLarge { .. }) => {
                    self.apply(Handed::nothing(claim, Verdict::Hopeless { reason: obstacle.to_string() }));
                }
                Some(obstacle @ Obstacle::TooSlow { .. }) if claim.attempts > 0 => {
                    let answer = obstacle.to_string();
                    self.apply(Handed::nothing(claim, Verdict::PutOff { after: goodput::STALE, answer }));
                }
                _ => left.push(claim),
            }
        }
        left
    }

    /// The destination is to blame.
    fn not_made(&mut self, attempt: Attempt) {
        match attempt {
            Attempt::DestinationFailed(sentence) => self.fail(sentence),
            Attempt::Broke { handed, sentence } => {
                self.apply(*handed);
                self.fail(sentence);
            }
            Attempt::PutOff { sentence, wait } => self.put_off(sentence, wait),
            Attempt::Made(_) | Attempt::Dropped(_) | Attempt::Stopped => {}
        }
    }

    /// The destination works if it has taken a position on anything that was handed over.
    fn made(&mut self, handed: Vec<Handed>) {
        let is_answer = |handed: &Handed| {
            matches!(handed.verdict, Verdict::Delivered { .. } | Verdict::Refused { .. } | Verdict::Hopeless { .. })
        };
        match handed.last().map(|handed| &handed.verdict) {
            _ if handed.iter().any(is_answer) => self.succeed(),
            Some(Verdict::Later { answer }) => self.stumble(answer),
            _ => {}
        }
        handed.into_iter().for_each(|handed| self.apply(handed));
    }

    /// Records what came of one delivery.
    fn apply(&mut self, Handed { claim, verdict, sent, remark, coerced, sent_as }: Handed) {
        let name = &claim.destination;
        let (id, attempts, length) = (claim.id, claim.attempts, claim.length);
        let through = (*name != self.bench.destination.name).then(|| self.bench.destination.name.clone());
        let verdict = match &through {
            None => verdict,
            Some(stand_in) => verdict.of_stand_in(stand_in),
        };
        let refusals = match &through {
            None => self.refusals.remove(&id).unwrap_or_default(),
            Some(_) => Refusals::default(),
        };
        let smaller = sent_as.as_ref().and_then(|sent_as| sent_as.smaller);
        let sent_as = sent_as.map(|sent_as| sent_as.syntax);
        match &verdict {
            Verdict::Refused { .. } if self.refusals.len() < REMEMBERED => {
                let smaller = sent_as.clone().filter(|_| smaller.is_some()).or(refusals.smaller.clone());
                self.refusals.insert(id, Refusals { times: refusals.times + 1, smaller });
            }
            Verdict::Delivered { .. } if smaller.is_none() => {
                if let Some(syntax) = refusals.smaller.clone() {
                    let kind = Kind::of(&claim.header);
                    info!(destination:% = name, syntax:%; "the archive takes instances of this kind only as they are stored");
                    self.bench.destination.shun(kind, syntax, clock::of_runtime());
                }
            }
            Verdict::Kept { .. } if through.is_some() => self.decline(id),
            _ => {}
        }
        let warned = matches!(verdict, Verdict::Delivered { warned: true, .. });
        let coercion = coerced.map(|coerced| spool::Coercion { sha256: coerced.proven.hash, rules: coerced.rules });
        // Who stands in cannot be asked for the other one, and the other one does not have it.
        let verify_after = self.bench.settings.verify_after.filter(|_| through.is_none());
        let attempt = spool::Attempt { bytes: sent, through, warned, remark, coercion, sent_as };
        let Settings { backoff, tries, .. } = &self.bench.settings;
        let outcome =
            verdict.outcome(name, Tried { attempts, refusals: refusals.times }, backoff, *tries, fastrand::f64());
        let outcome = verify::to_be_verified(outcome, verify_after);
        match &outcome {
            Outcome::Delivered { answer, .. } if warned => {
                self.metrics.delivery(name, Delivery::Warned, length);
                warn!(destination:% = name, id:%; "delivered with a warning: {answer}");
            }
            Outcome::Delivered { .. } => self.metrics.delivery(name, Delivery::Delivered, length),
            Outcome::Retry { answer, .. } => {
                self.metrics.delivery(name, Delivery::Retried, 0);
                info!(destination:% = name, id:%, attempts = attempts + 1; "instance not delivered, again later: {answer}");
            }
            Outcome::Kept { answer } => {
                self.metrics.delivery(name, Delivery::Retried, 0);
                info!(destination:% = name, id:%, attempts = attempts + 1; "instance not delivered, it keeps its place: {answer}");
            }
            Outcome::Parked { reason } => {
                self.refusals.remove(&id);
                self.metrics.delivery(name, Delivery::Parked, 0);
                warn!(destination:% = name, id:%, attempts = attempts + 1; "instance parked: {reason}");
            }
            Outcome::Released => {}
        }
        if let Some(workshop) = &self.bench.settings.workshop
            && matches!(outcome, Outcome::Delivered { .. } | Outcome::Parked { .. })
        {
            workshop.settled(id, name);
        }
        if matches!(outcome, Outcome::Delivered { .. }) {
            self.bench.destination.show(|health| {
                health.gain.stored = health.gain.stored.saturating_add(length);
                health.gain.sent = health.gain.sent.saturating_add(sent);
            });
            if let Some(smaller) = smaller {
                self.metrics.left_smaller(name, length, smaller);
            }
            self.bench.destination.note_obstacle(id, None);
            if let Some(StandIn { whom, .. }) = &self.bench.settings.stands_in {
                whom.note_obstacle(id, None);
            }
        }
        blocking(|| self.bench.spool.record(claim, attempt, outcome));
    }

    /// Does not take this instance for a while for the one for which it stands in.
    fn decline(&mut self, id: InstanceId) {
        self.declined.insert(id, clock::of_runtime() + self.bench.settings.backoff.cap);
    }

    fn declined(&self) -> BTreeSet<InstanceId> {
        self.declined.keys().copied().collect()
    }

    fn succeed(&mut self) {
        self.bench.destination.is_failing(None);
        if self.circuit.failures() > 0 {
            info!(destination:% = self.bench.destination.name; "the destination works again");
        }
        self.circuit.succeeded();
        self.show_circuit();
    }

    /// The destination cannot be reached, or lets us not in.
    fn fail(&mut self, sentence: String) {
        // The first failure and then every tenth: a month without an archive must not fill the journal.
        if self.circuit.failures().is_multiple_of(10) {
            warn!(destination:% = self.bench.destination.name, failures = self.circuit.failures() + 1; "{sentence}");
        }
        let failure = circuit::Failure { at: clock::wall(), sentence };
        self.bench.destination.is_failing(Some(clock::of_runtime()));
        self.width.failed();
        self.open_no_more();
        self.circuit.failed(clock::of_runtime(), fastrand::f64(), failure);
        self.show_circuit();
    }

    /// The same, and it has said how long it wants to be left in peace.
    fn put_off(&mut self, sentence: String, wait: Duration) {
        self.fail(sentence);
        self.circuit.hold_until(clock::of_runtime() + wait);
    }

    /// One instance could not be delivered this time.
    fn stumble(&mut self, answer: &str) {
        let sentence = format!("the latest attempt failed, others are made: {answer}");
        let failure = circuit::Failure { at: clock::wall(), sentence };
        self.open_no_more();
        self.circuit.stumbled(clock::of_runtime(), fastrand::f64(), failure);
        self.show_circuit();
    }

    fn show_circuit(&self) {
        self.bench.destination.show(|health| {
            health.failures = self.circuit.failures();
            health.troubled = self.circuit.is_troubled();
            health.last_failure = self.circuit.last_failure().cloned();
        });
    }
}

/// When there will be something to do.
#[derive(Default)]
struct Next {
    /// In the queue, from now on.
    due: Option<Duration>,
    /// The one for which it may have to stand in begins to fail, or works again.
    other: Option<watch::Receiver<Option<Instant>>>,
    /// It stands in from this moment on, or for more than before.
    turn: Option<Instant>,
}

/// Waits until a destination begins to fail or works again.
async fn changed(failing: Option<&mut watch::Receiver<Option<Instant>>>) {
    match failing {
        // Nobody is left to tell when the process ends.
        Some(failing) => drop(failing.changed().await),
        None => std::future::pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Does what may have to wait for the disk.
pub(super) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        // Virtual time has one thread only, which may wait.
        _ => work(),
    }
}
