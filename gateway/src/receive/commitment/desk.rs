//! What waits, for all who ask at once: whoever holds the lock does so for a look that does not depend on how much waits
//! (`waiting`). Pure but for the lock; time and chance are arguments.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::waiting::{Entry, Phase, Waiting};
use super::{CommitmentStatus, Party, Transaction};
use crate::clock::{self, SpoolTime};
use crate::model::{AeTitle, Uid};
use crate::retry::Backoff;

/// How long a report waits for an association of the modality that offers the class before a new one is opened.
pub(super) const HEAD_START: Duration = Duration::from_secs(5);
/// How long a report waits for others when there are too many at once.
const TURN: Duration = Duration::from_secs(1);
/// How often what is not delivered yet is judged again, by how long it has waited: a tenth of that, within these bounds.
const JUDGED_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Transactions in all.
    pub(super) transactions: usize,
    /// Transactions of one modality.
    pub(super) of_modality: usize,
    /// Instances in all of them.
    pub(super) references: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // A modality that asks for each instance on its own has as many as a day brings; a reference takes 130 bytes
        // on the disk.
        Self { transactions: 20_000, of_modality: 10_000, references: 2_000_000 }
    }
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("{0} requests for storage commitment wait, which is the limit")]
    InAll(usize),
    #[error("{0} requests for storage commitment of this modality wait, which is the limit")]
    OfModality(usize),
    #[error("{0} instances wait for storage commitment, which is the limit")]
    References(usize),
}

#[derive(Debug, Default)]
struct State {
    waiting: Waiting,
    damaged: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Desk {
    limits: Limits,
    backoff: Backoff,
    state: Mutex<State>,
    /// A request is saved, or is not.
    saved: Condvar,
    changed: Notify,
}

/// What came of entering a request.
pub(super) enum Newcomer {
    /// It is new.
    New(Place),
    /// Its transaction UID is in use for another.
    Duplicate(Place),
    /// It is there already, and durable.
    Known,
    /// It is there already under this number, and being saved: see [`Desk::wait_until_saved`].
    BeingSaved(u64),
}

/// A transaction by what people know it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) number: u64,
    pub(super) modality: Party,
    pub(super) uid: Uid,
    pub(super) references: usize,
}

/// The place of a request that is being saved; without [`Place::saved`] it is given back.
pub(super) struct Place {
    desk: Arc<Desk>,
    number: u64,
    saved: bool,
}

/// The right to report a transaction; what is dropped without a word has failed.
pub(in crate::receive) struct Lease {
    desk: Arc<Desk>,
    claim: Claim,
    own_association: bool,
    over: bool,
}

impl Desk {
    pub(super) fn new(limits: Limits, backoff: Backoff) -> Self {
        Self { limits, backoff, state: Mutex::default(), saved: Condvar::new(), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the task.
    pub(super) fn nudge(&self) {
        self.changed.notify_waiters();
    }

    /// Wakes the task, and every association that waits: who can be called has changed.
    pub(super) fn nudge_everybody(&self) {
        let wakes: Vec<_> = self.lock().waiting.lines().map(|(_, line)| Arc::clone(&line.wake)).collect();
        wakes.iter().for_each(|wake| wake.notify_waiters());
        self.nudge();
    }

    /// Takes up what an earlier run has left.
    pub(super) fn load(&self, number: u64, transaction: &Transaction, now: Instant) {
        self.lock().waiting.enter_as(number, Entry::new(transaction, Phase::Judging, now));
    }

    /// So many files were set aside.
    pub(super) fn damaged(&self, files: u64) {
        self.lock().damaged += files;
    }

    /// Enters a request.
    ///
    /// # Errors
    /// A limit is reached.
    pub(super) fn enter(self: &Arc<Self>, transaction: &Transaction) -> Result<Newcomer, Full> {
        let entry = Entry::new(transaction, Phase::Saving, clock::now());
        let waiting = &mut self.lock().waiting;
        let (known, in_use) = waiting.known(&entry);
        if let Some(number) = known {
            let is_being_saved = waiting.get(number).is_some_and(|entry| entry.phase == Phase::Saving);
            return Ok(if is_being_saved { Newcomer::BeingSaved(number) } else { Newcomer::Known });
        }
        if waiting.len() >= self.limits.transactions {
            return Err(Full::InAll(self.limits.transactions));
        }
        if waiting.known_line(&entry.modality).is_some_and(|line| line.transactions >= self.limits.of_modality) {
            return Err(Full::OfModality(self.limits.of_modality));
        }
        if waiting.references() + entry.references > self.limits.references {
            return Err(Full::References(self.limits.references));
        }
        let place = Place { desk: Arc::clone(self), number: waiting.enter(entry), saved: false };
        Ok(if in_use { Newcomer::Duplicate(place) } else { Newcomer::New(place) })
    }

    /// Waits until a request is saved, or has turned out not to be. Blocking.
    pub(super) fn wait_until_saved(&self, number: u64) {
        let is_being_saved =
            |state: &mut State| state.waiting.get(number).is_some_and(|entry| entry.phase == Phase::Saving);
        drop(self.saved.wait_while(self.lock(), is_being_saved).unwrap_or_else(PoisonError::into_inner));
    }

    /// A transaction is gone from the disk without having been reported.
    pub(super) fn lost(&self, number: u64) {
        let mut state = self.lock();
        state.waiting.remove(number);
        state.damaged += 1;
    }

    // ---- Judging.

    /// Up to `limit` transactions that are due for judging, those first that have been for longest.
    pub(super) fn to_judge(&self, now: Instant, limit: usize) -> Vec<u64> {
        self.lock().waiting.due_for_judging(now, limit)
    }

    /// A transaction was judged: it can be reported, or has to be judged again later.
    pub(super) fn judged(&self, number: u64, done: bool, now: Instant) {
        let waiting = &mut self.lock().waiting;
        let Some(entry) = waiting.get(number) else { return };
        if !matches!(entry.phase, Phase::Judging | Phase::Reporting) {
            return;
        }
        if done {
            let modality = entry.modality.clone();
            waiting.move_to(number, Phase::Ready { since: now }, now);
            waiting.line(&modality).wake.notify_waiters();
        } else {
            let waited = now.saturating_duration_since(entry.entered);
            waiting.move_to(number, Phase::Judging, now + (waited / 10).clamp(JUDGED_EVERY.0, JUDGED_EVERY.1));
        }
    }

    /// What has been there for longer than `life` is given up, unless it is being reported.
    pub(super) fn expire(&self, now: SpoolTime, life: Duration) -> Vec<Claim> {
        let waiting = &mut self.lock().waiting;
        let over = waiting.older_than(now, life);
        over.iter().for_each(|claim| waiting.remove(claim.number));
        over
    }

    // ---- Reporting.

    /// An association of the modality that offers the class is open from now on.
    pub(super) fn listens(&self, modality: &Party) {
        self.lock().waiting.line(modality).listening += 1;
    }

    /// It is over.
    pub(super) fn hangs_up(&self, modality: &Party) {
        let mut state = self.lock();
        let line = state.waiting.line(modality);
        line.listening = line.listening.saturating_sub(1);
        state.waiting.forget_if_idle(modality);
        drop(state);
        self.nudge();
    }

    /// Waits until a transaction of the modality can be reported on an association of its own, and leases it.
    /// `is_reachable` says whether there is another way to it, which a reload may change: then
    /// [`Desk::nudge_everybody`].
    pub(super) async fn on_own_association(
        self: &Arc<Self>,
        modality: &Party,
        is_reachable: impl Fn() -> bool,
    ) -> Lease {
        let wake = Arc::clone(&self.lock().waiting.line(modality).wake);
        loop {
            let changed = wake.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let now = clock::now();
            match self.next_due(modality, is_reachable()) {
                Some(due) if due <= now => {
                    // Another association may have been faster: then the next one counts.
                    if let Some(lease) = self.lease(modality, None, now, true) {
                        return lease;
                    }
                }
                Some(due) => drop(tokio::time::timeout_at(due.into(), changed).await),
                None => changed.await,
            }
        }
    }

    fn next_due(&self, modality: &Party, reachable: bool) -> Option<Instant> {
        let waiting = &self.lock().waiting;
        if reachable && waiting.known_line(modality).is_some_and(|line| line.is_shy) {
            return None;
        }
        waiting.first_ready(modality, None).map(|(due, ..)| due)
    }

    /// By which AE title the modality called us for what has been due for a report longest.
    pub(super) fn called_by(&self, modality: &Party) -> Option<AeTitle> {
        self.lock().waiting.first_ready(modality, None).map(|(_, _, called)| called.clone())
    }

    /// Leases the transaction of the modality that has been due for a report longest, of those for which it called us by
    /// this AE title.
    pub(super) fn lease(
        self: &Arc<Self>,
        modality: &Party,
        called: Option<&AeTitle>,
        now: Instant,
        own_association: bool,
    ) -> Option<Lease> {
        let waiting = &mut self.lock().waiting;
        let (_, number, _) = waiting.first_ready(modality, called).filter(|(due, ..)| *due <= now)?;
        let claim = waiting.lease(number)?;
        Some(Lease { desk: Arc::clone(self), claim, own_association, over: false })
    }

    /// The modalities that are to be called now, of those that can be; each is marked as being called until
    /// [`Desk::called`].
    pub(super) fn to_call(&self, now: Instant, can_be_called: impl Fn(&Party) -> bool) -> Vec<Party> {
        let mut due: Vec<_> = self.calls().into_iter().filter(|(_, at)| *at <= now).map(|(party, _)| party).collect();
        // What takes a look at the configuration holds up nobody here.
        due.retain(can_be_called);
        let waiting = &mut self.lock().waiting;
        due.iter().for_each(|modality| waiting.line(modality).calling = true);
        due
    }

    fn calls(&self) -> Vec<(Party, Instant)> {
        self.lock().waiting.calls().map(|(modality, at)| (modality.clone(), at)).collect()
    }

    /// A call is over; `failure` says why it came to nothing. `random` is in `0.0..1.0`.
    pub(super) fn called(&self, modality: &Party, now: Instant, failure: Option<String>, random: f64) {
        let mut state = self.lock();
        let line = state.waiting.line(modality);
        line.calling = false;
        match failure {
            None => (line.failures, line.next_call) = (0, None),
            Some(sentence) => {
                line.failures = line.failures.saturating_add(1);
                line.next_call = Some(now + self.backoff.delay(line.failures, random));
                line.failure = Some(sentence);
            }
        }
        drop(state);
        self.nudge();
    }

    /// When the task has to look again, if nothing happens before; of calls only those to whom can be called.
    pub(super) fn next_look(&self, can_be_called: impl Fn(&Party) -> bool) -> Option<Instant> {
        let judging = self.lock().waiting.next_judging();
        let calls = self.calls().into_iter().filter(|(modality, _)| can_be_called(modality)).map(|(_, at)| at);
        calls.chain(judging).min()
    }

    /// Ready when the task has something new to look at.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    pub(super) fn status(&self) -> CommitmentStatus {
        let state = self.lock();
        let (pending, to_report) = state.waiting.counts();
        let failures = state.waiting.lines().filter_map(|(party, line)| Some((party.clone(), line.failure.clone()?)));
        CommitmentStatus {
            pending: pending as u64,
            to_report: to_report as u64,
            oldest: state.waiting.oldest(),
            damaged: state.damaged,
            failures: failures.collect(),
        }
    }
}

impl State {
    /// What was being reported can be again after `pause`.
    fn ready_again(&mut self, claim: &Claim, now: Instant, pause: Duration) {
        self.waiting.move_to(claim.number, Phase::Ready { since: now }, now + pause);
        self.waiting.line(&claim.modality).wake.notify_waiters();
    }
}

impl Place {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// It is on stable storage.
    pub(super) fn saved(mut self, now: Instant) {
        self.saved = true;
        self.desk.lock().waiting.move_to(self.number, Phase::Judging, now);
        self.desk.saved.notify_all();
        self.desk.nudge();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.saved {
            self.desk.lock().waiting.remove(self.number);
            self.desk.saved.notify_all();
        }
    }
}

impl Lease {
    pub(super) fn number(&self) -> u64 {
        self.claim.number
    }

    pub(super) fn modality(&self) -> &Party {
        &self.claim.modality
    }

    pub(super) fn uid(&self) -> &Uid {
        &self.claim.uid
    }

    /// How many instances its report names.
    pub(super) fn references(&self) -> usize {
        self.claim.references
    }

    /// There are too many reports at once: it has its turn a little later.
    pub(super) fn not_now(mut self, now: Instant) {
        self.over = true;
        self.desk.lock().ready_again(&self.claim, now, TURN);
        self.desk.nudge();
    }

    /// The modality has taken the report, and the file is gone.
    pub(super) fn done(mut self) {
        self.over = true;
        let waiting = &mut self.desk.lock().waiting;
        let line = waiting.line(&self.claim.modality);
        (line.failure, line.failures, line.next_call) = (None, 0, None);
        waiting.remove(self.claim.number);
    }

    /// It turned out not to be judged yet.
    pub(super) fn not_yet(mut self, now: Instant) {
        self.over = true;
        self.desk.judged(self.claim.number, false, now);
        self.desk.nudge();
    }

    /// The report was not taken; it is tried again after a pause. `unheard` says that the modality has not answered it
    /// on an association of its own.
    pub(super) fn failed(mut self, now: Instant, unheard: bool, sentence: &str, random: f64) {
        self.over = true;
        self.give_back(now, unheard, sentence, random);
    }

    fn give_back(&self, now: Instant, unheard: bool, sentence: &str, random: f64) {
        let mut state = self.desk.lock();
        let line = state.waiting.line(&self.claim.modality);
        line.is_shy |= unheard;
        line.failure = Some(sentence.to_owned());
        let failures = state.waiting.failed(self.claim.number);
        // Another way is tried at once.
        let another = unheard && failures == 1;
        let pause = if another { Duration::ZERO } else { self.desk.backoff.delay(failures, random) };
        state.ready_again(&self.claim, now, pause);
        drop(state);
        self.desk.nudge();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.over {
            let sentence = "the association ended before the report was answered";
            self.give_back(clock::now(), self.own_association, sentence, fastrand::f64());
        }
    }
}
