//! The worker of one destination: waits for work, claims it, hands it to couriers, records what came of it.
//!
//! It owns the queue's policy: circuit, turns, width, and what was refused. Each courier has an association of its own and
//! works in a task; how many are at work is up to the [`Width`]. An association beyond the first is opened before anything
//! is claimed for it, so that no instance waits for a connection while another one could carry it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::benefit::Kind;
use super::beside;
use super::circuit::{self, Circuit};
use super::compact::{self, Workshop};
use super::courier::{Attempt, Bench, Courier, Handed, Load, Route, Settings, StandIn};
use super::destination::{Activity, Destination};
use super::goodput;
use super::out::{Back, Errand, Out, Trip};
use super::reach::{self, Obstacle};
use super::records::{REMEMBERED, Records};
use super::turns::Turns;
use super::verdict::Verdict;
use super::width::{self, Width};
use crate::clock;
use crate::metrics::Metrics;
use crate::model::{DestinationName, Priority};
use crate::spool::{Claim, Classes, Queue, Spool, SpoolError};

/// How long an association without work is kept warm.
const WARM: Duration = Duration::from_secs(5);

/// What is under way may fill the link for so long, and for as many round trips as it takes until another association has
/// begun to send, before one more instance is begun: see [`Worker::filled_for`].
const FILLED: (Duration, u32) = (Duration::from_secs(2), 4);

/// How often it is looked whether something urgent has become due while the link is closed for everything else.
const WHILE_CLOSED: Duration = Duration::from_secs(1);

/// Connections that may be given up for each association one after the other, without an answer in between, before the
/// destination rests: there are ways that let new connections through and nothing else.
const CUTS: usize = 3;

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
    let bench = Arc::new(Bench { destination, settings, spool, shutdown });
    let most = if route.takes_several() { bench.settings.associations } else { 1 };
    if let Some(workshop) = &bench.settings.workshop {
        workshop.serve(&bench.destination.name);
    }
    let mut worker = Worker {
        idle: vec![Idle { courier: Courier::new(route.clone(), &bench.settings), since: clock::of_runtime() }],
        out: Out::default(),
        circuit: Circuit::new(bench.settings.backoff),
        width: Width::new(most),
        turns: Turns::default(),
        is_held: false,
        filled_until: None,
        is_enough: false,
        cuts: 0,
        interruptions: 0,
        records: Records::new(Arc::clone(&bench), metrics),
        route,
        bench,
    };
    let dialer = worker.bench.settings.dialer.clone();
    let mut beside = JoinSet::new();
    beside.spawn(beside::watch(Arc::clone(&worker.bench.destination), dialer));
    let ended = worker.work().await;
    worker.rest(|_| true);
    while let Some(back) = worker.out.back().await {
        worker.ended(back);
        worker.rest(|_| true);
    }
    ended
}

/// A courier without work.
struct Idle {
    courier: Courier,
    since: Instant,
}

struct Worker {
    bench: Arc<Bench>,
    route: Route,
    idle: Vec<Idle>,
    out: Out,
    circuit: Circuit,
    width: Width,
    turns: Turns,
    records: Records,
    /// Whether something waits that may not begin before what is urgent has been answered, or before less is under way.
    is_held: bool,
    /// When less will be under way, if that is what is waited for.
    filled_until: Option<Instant>,
    /// Whether as many associations are being opened as instances wait; until one of the couriers is back.
    is_enough: bool,
    /// Connections that were given up since the last answer.
    cuts: usize,
    /// How often the link had been interrupted when that was looked at last.
    interruptions: u64,
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
        (self.is_held, self.filled_until) = (false, None);
        while self.has_room() {
            let claims = blocking(|| self.claim())?;
            if claims.is_empty() {
                // Who stands in may have taken everything: nothing is left that would show that it works again.
                if self.out.is_quiet() && self.circuit.failures() > 0 {
                    let courier = self.courier(false);
                    self.send(courier, Errand::Probe, Load::default());
                }
                return Ok(());
            }
            let claims = self.set_aside(claims);
            let Some(first) = claims.first() else { continue };
            let ready = self.idle.iter().position(|idle| idle.courier.is_ready_for(first));
            let is_full = self.associations() >= self.wanted(clock::of_runtime());
            let (courier, errand) = match ready {
                Some(at) => (self.idle.swap_remove(at).courier, Errand::Deliver),
                // One that is open for something else makes room for it: one more might be one too many.
                None if self.out.delivering() == 0 || self.circuit.is_to_be_proven() => {
                    (self.courier(is_full), Errand::Deliver)
                }
                None if (!is_full || self.warm() > 0) && self.out.count(Errand::Open) < claims.len() => {
                    (self.courier(is_full), Errand::Open)
                }
                None => {
                    self.is_enough = true;
                    return Ok(());
                }
            };
            let share = self.share(claims.len());
            let mut load = courier.load(claims, share, |claim| self.records.was_refused(claim.id));
            if errand == Errand::Open {
                // Whoever is ready before may have them, and what is urgent must be seen to wait.
                load.release();
            }
            self.send(courier, errand, load);
        }
        Ok(())
    }

    /// For how long nothing more is begun, because what is under way fills the link. Instances that leave together share the
    /// link and are all there late; what a cut costs is all of them, and large ones that share a slow link might never be
    /// there between two cuts.
    fn filled_for(&self) -> Option<Duration> {
        let destination = &self.bench.destination;
        let round_trip = destination.wires().round_trip().unwrap_or_default();
        let (enough, round_trips) = FILLED;
        destination.filled_beyond(enough + round_trip * round_trips).filter(|_| self.out.delivering() > 0)
    }

    /// How many of so many that wait one courier may take at once: where little is left, each has its share of it.
    fn share(&self, waiting: usize) -> usize {
        if self.circuit.is_troubled() {
            return 1;
        }
        let free = self.wanted(clock::of_runtime()).saturating_sub(self.out.delivering());
        if waiting < self.route.ahead() { waiting.div_ceil(free.max(1)) } else { waiting }
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
            let declined = self.records.declined(clock::of_runtime());
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
            accepted.filter(|(next, accepted)| !accepted.is_empty() && !self.records.was_refused(next.id)).collect();
        workshop.prepare(destination, owed, (spool, &settings.coercions), ahead);
        Ok(())
    }

    /// Whether one more courier may go out now.
    fn has_room(&self) -> bool {
        let now = clock::of_runtime();
        let has_room = match self.circuit.is_to_be_proven() {
            // Those that were under way before go on: one of them may be for a long time.
            true => !self.out.is_proving(),
            // One that is being opened has its place, unless another one is there already.
            false => {
                let opening = if self.warm() > 0 { 0 } else { self.out.count(Errand::Open) };
                let taken = self.out.delivering() + opening;
                taken < self.wanted(now)
            }
        };
        let is_enough = self.is_enough && self.out.count(Errand::Open) > 0;
        has_room && !is_enough && self.circuit.closed_before(now).is_none() && !self.bench.shutdown.is_cancelled()
    }

    /// How many associations are wanted, besides those that do not move although the link is there.
    fn wanted(&self, now: Instant) -> usize {
        self.width.wanted_beside(self.bench.destination.in_grace(), now)
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
        let proves = self.circuit.is_to_be_proven() && matches!(errand, Errand::Deliver | Errand::Probe);
        let is_urgent = errand == Errand::Deliver && load.is_urgent();
        let bench = Arc::clone(&self.bench);
        let asks = proves && !self.circuit.is_only_away();
        self.out.send(Trip { errand, proves, is_urgent }, async move {
            let attempt = match errand {
                Errand::Deliver => courier.deliver(load, asks, &bench).await,
                Errand::Open => courier.open(load, &bench).await,
                Errand::Probe => courier.probe(&bench).await,
                Errand::Rest => {
                    courier.rest().await;
                    Attempt::Stopped
                }
            };
            (courier, attempt)
        });
        self.show_associations();
    }

    /// A courier is back, or the opening of an association was called off.
    fn ended(&mut self, back: Option<Back>) {
        self.is_enough = false;
        let Some(Back { trip, courier, attempt }) = back else { return self.show_associations() };
        let (errand, delivering) = (trip.errand, self.out.delivering());
        let at_work = delivering + usize::from(errand == Errand::Deliver);
        let now = clock::of_runtime();
        self.idle.push(Idle { courier, since: now });
        let attempt = match attempt {
            Attempt::Partly { made, then } => {
                self.delivered(made, at_work);
                *then
            }
            attempt => attempt,
        };
        match (errand, attempt) {
            (Errand::Rest, _) | (_, Attempt::Stopped) => {}
            (Errand::Open, Attempt::Made(_)) => {}
            (_, Attempt::Cut { handed, sentence }) => self.cut(handed, &sentence),
            // One more is not to be had, for whatever reason; if there is none at all, whoever delivers will find out.
            (Errand::Open, _) => self.no_more(delivering + self.warm()),
            (Errand::Probe, Attempt::Made(_)) => self.succeed(),
            (Errand::Deliver, Attempt::Made(handed)) => self.delivered(handed, at_work),
            // Others are at work: this one more is not to be had.
            (_, Attempt::DestinationFailed(sentence) | Attempt::PutOff { sentence, .. }) if delivering > 0 => {
                debug!(destination:% = self.bench.destination.name, at_work = delivering; "no more associations: {sentence}");
                self.no_more(delivering);
            }
            (_, Attempt::Dropped(handed)) => {
                handed.into_iter().for_each(|handed| self.records.apply(handed));
                self.no_more(delivering + self.warm());
            }
            (_, Attempt::Broke { handed, .. }) if delivering > 0 => {
                self.records.apply(*handed);
                self.no_more(delivering);
            }
            (_, other) => self.not_made(other),
        }
        self.show_associations();
    }

    /// A courier has handed these over while so many were at work, it included.
    fn delivered(&mut self, handed: Vec<Handed>, at_work: usize) {
        self.look_for_interruptions();
        // However many it had: what is measured is how often each of them came back.
        if handed.iter().any(|handed| matches!(handed.verdict, Verdict::Delivered { .. })) {
            let destination = &self.bench.destination;
            let seen =
                || width::Seen { through: destination.wires().volume().arrived, is_full: destination.pace().is_full() };
            self.width.answered(at_work, seen, clock::of_runtime());
        }
        match self.route.is_judged_together() {
            true => self.made(handed),
            // Each is an answer of its own: the last one tells how it stands with the archive.
            false => handed.into_iter().for_each(|handed| self.made(vec![handed])),
        }
    }

    /// Something has begun to leave.
    fn begun(&mut self) {
        let destination = &self.bench.destination;
        if destination.answers.swap(false, Ordering::Relaxed) {
            self.circuit.associated();
        }
        self.width.begun(|| destination.wires().round_trip());
    }

    /// One more association is not to be had while so many are at work: the archive takes no more, unless the link is away.
    fn no_more(&mut self, at_work: usize) {
        let now = clock::of_runtime();
        match self.bench.destination.health().stalled {
            0 => self.width.refused(at_work, now),
            _ => self.width.not_reached(at_work, now),
        }
    }

    fn look_for_interruptions(&mut self) {
        let interruptions = self.bench.destination.health().interruptions;
        if std::mem::replace(&mut self.interruptions, interruptions) != interruptions {
            self.width.interrupted(clock::of_runtime());
        }
    }

    /// A connection was given up: what was on it goes again at once.
    fn cut(&mut self, handed: Vec<Handed>, sentence: &str) {
        self.width.interrupted(clock::of_runtime());
        handed.into_iter().for_each(|handed| self.records.apply(handed));
        self.cuts += 1;
        if self.cuts > CUTS * self.width.wanted(clock::of_runtime()) {
            self.stumble(sentence);
        }
    }

    fn show_associations(&self) {
        let associations = self.associations() as u64;
        self.bench.destination.show(|health| health.associations = associations);
    }

    /// How many associations are open or being opened.
    fn associations(&self) -> usize {
        self.out.delivering() + self.out.count(Errand::Open) + self.warm()
    }

    /// How many associations are open and without work.
    fn warm(&self) -> usize {
        self.idle.iter().filter(|idle| idle.courier.is_warm()).count()
    }

    /// Waits until there may be something to do.
    async fn wait(&mut self) -> Result<(), SpoolError> {
        let now = clock::of_runtime();
        let closed = self.circuit.closed_before(now);
        if self.out.is_quiet() {
            self.bench.destination.show(|health| {
                health.activity = if closed.is_some() { Activity::Waiting } else { Activity::Idle };
                health.next_attempt = closed;
            });
        }
        let has_room = self.has_room();
        // What is held back waits for whoever is out.
        let next = if has_room && !self.is_held { self.next()? } else { Next::default() };
        let Next { due, mut other, turn } = next;
        let filled = self.filled_until;
        // Also while others are at work: there are archives that take one association at a time and let the next one wait.
        let cold = self.idle.iter().filter(|idle| idle.courier.is_warm()).map(|idle| idle.since + WARM).min();
        // Only a request from now on counts: one that came during the attempt was about that attempt.
        let mut hastened = self.bench.destination.hastened.subscribe();
        let mut back = self.bench.destination.back.subscribe();
        let is_away = closed.is_some() && self.bench.destination.away.borrow().is_some();
        let (destination, shutdown) = (&self.bench.destination, &self.bench.shutdown);
        tokio::select! {
            () = shutdown.cancelled() => {}
            Some(back) = self.out.back() => self.ended(back),
            () = destination.queued.notified() => {}
            () = destination.moving.notified() => self.begun(),
            () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => {}
            () = changed(other.as_mut()) => {}
            () = until(turn) => {}
            () = until(filled) => {}
            () = until(closed) => {}
            _ = hastened.changed(), if closed.is_some() => self.circuit.hasten(),
            _ = back.changed(), if is_away => self.circuit.hasten(),
            () = until(cold) => {
                let now = clock::of_runtime();
                self.rest(|idle| idle.since + WARM <= now);
            }
        }
        self.bench.destination.show(|health| health.next_attempt = None);
        Ok(())
    }

    /// Lets go of those open associations without work that are like this.
    fn rest(&mut self, lets_go: impl Fn(&Idle) -> bool) {
        for idle in std::mem::take(&mut self.idle) {
            match idle.courier.is_warm() && lets_go(&idle) {
                true => self.send(idle.courier, Errand::Rest, Load::default()),
                false => self.idle.push(idle),
            }
        }
    }

    /// When there will be something to do next.
    fn next(&self) -> Result<Next, SpoolError> {
        let Bench { destination, spool, settings, .. } = &*self.bench;
        let mut due = match destination.pace().closed(false) {
            None => blocking(|| spool.next_due(&destination.name))?,
            // Whoever opens the link again tells. What is urgent may become due meanwhile.
            Some(_) if self.is_closed() => None,
            Some(_) => {
                let later = spool.time().after(WHILE_CLOSED);
                blocking(|| spool.next_due(&destination.name))?.map(|due| due.max(later))
            }
        };
        let (mut other, mut turn): (_, Option<Instant>) = (None, None);
        if let Some(StandIn { whom, after }) = &settings.stands_in {
            let mut failing = whom.failing();
            turn = (*failing.borrow_and_update()).map(|since| since + *after);
            turn = turn.filter(|turn| *turn > clock::of_runtime());
            other = Some(failing);
            if self.stands_in_for().is_some() {
                let declined = self.records.declined(clock::of_runtime());
                let queue = Queue { destination: &whom.name, except: Some(&declined) };
                let its_due = blocking(|| spool.next_due(queue))?;
                turn = self.records.first_offered_again();
                due = due.into_iter().chain(its_due).min();
            }
        }
        Ok(Next { due: due.map(|due| due.until(spool.time())), other, turn })
    }

    /// What goes next, of its own queue, or else of the one for which it stands in at the moment.
    fn claim(&mut self) -> Result<Vec<Claim>, SpoolError> {
        let whom = self.stands_in_for().cloned();
        let now = clock::of_runtime();
        self.records.forget_declined(now, whom.is_some());
        let declined = self.records.declined(now);
        let own = self.claim_from(Queue::from(&self.bench.destination.name.clone()))?;
        match &whom {
            // Of more than these it would forget what it has declined, and be offered it again and again.
            Some(destination) if own.is_empty() && declined.len() < REMEMBERED => {
                self.claim_from(Queue { destination, except: Some(&declined) })
            }
            _ => Ok(own),
        }
    }

    /// The best of the class whose turn it is.
    fn claim_from(&mut self, queue: Queue<'_>) -> Result<Vec<Claim>, SpoolError> {
        let (spool, ahead) = (&self.bench.spool, self.route.ahead());
        let now = spool.time();
        let is_closed = self.bench.destination.pace().closed(false).is_some();
        let mut waiting = spool.waiting_classes(queue, now)?;
        if is_closed {
            waiting.retain(|class| *class == Priority::Stat && !self.is_closed());
        }
        // Before anything is claimed: what is released again is told of as if it had come.
        if let Some(filled) = self.filled_for()
            && !waiting.is_empty()
            && !waiting.contains(&Priority::Stat)
        {
            (self.is_held, self.filled_until) = (true, Some(clock::of_runtime() + filled));
            return Ok(Vec::new());
        }
        let has_urgent = self.out.has_urgent();
        let is_there = |class| waiting.contains(&class) || (class == Priority::Stat && has_urgent);
        let turn = self.turns.next(clock::of_runtime(), is_there);
        match turn {
            None => Ok(Vec::new()),
            // The last of them are still on their way: nothing else begins before they are answered.
            Some(Priority::Stat) if !waiting.contains(&Priority::Stat) => {
                self.is_held = true;
                Ok(Vec::new())
            }
            Some(Priority::Stat) => {
                let mut claims = spool.claim(queue, now, ahead, Classes::All)?;
                claims.retain(|claim| !is_closed || claim.priority == Priority::Stat);
                Ok(claims)
            }
            Some(Priority::Routine) => spool.claim(queue, now, ahead, Classes::Below(Priority::Stat)),
            Some(Priority::Low) => spool.claim(queue, now, ahead, Classes::Below(Priority::Routine)),
        }
    }

    /// Whether nothing at all is begun at the moment, however urgent.
    fn is_closed(&self) -> bool {
        self.bench.destination.pace().closed(true).is_some()
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
                    self.records.apply(Handed::nothing(claim, Verdict::Hopeless { reason: obstacle.to_string() }));
                }
                Some(obstacle @ Obstacle::TooSlow { .. }) if claim.attempts > 0 => {
                    let answer = obstacle.to_string();
                    self.records.apply(Handed::nothing(claim, Verdict::PutOff { after: goodput::STALE, answer }));
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
                self.records.apply(*handed);
                self.fail(sentence);
            }
            Attempt::PutOff { sentence, wait } => self.put_off(sentence, wait),
            Attempt::Made(_)
            | Attempt::Cut { .. }
            | Attempt::Dropped(_)
            | Attempt::Partly { .. }
            | Attempt::Stopped => {}
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
        handed.into_iter().for_each(|handed| self.records.apply(handed));
    }

    fn succeed(&mut self) {
        self.cuts = 0;
        self.bench.destination.is_failing(None);
        self.bench.destination.is_away(None);
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
        self.bench.destination.answers.store(false, Ordering::Relaxed);
        self.width.failed();
        self.out.open_no_more();
        // What stood before is no proof that it works now.
        self.rest(|_| true);
        let is_unreachable = self.bench.settings.dialer.wires.is_unreachable();
        self.circuit.failed(clock::of_runtime(), fastrand::f64(), is_unreachable, failure);
        self.bench.destination.is_away(is_unreachable.then_some(self.circuit.failures()));
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
        self.out.open_no_more();
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
