//! What waits: one line for each transaction, with its state, and when what is due. Pure but for the lock; time and
//! chance are arguments.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::{CommitmentStatus, Party, Reference, Transaction};
use crate::clock::{self, SpoolTime};
use crate::model::{AeTitle, Timestamp, Uid};
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Its file is being written.
    Saving,
    /// Not every instance is judged.
    Judging,
    /// It can be reported since then.
    Ready { since: Instant },
    /// Somebody reports it.
    Reporting,
}

#[derive(Debug)]
struct Entry {
    uid: Uid,
    modality: Party,
    /// What it called us.
    called: AeTitle,
    accepted: SpoolTime,
    accepted_at: Timestamp,
    /// When it came to this run.
    entered: Instant,
    references: usize,
    /// Of its references, to tell the same request from another with the same transaction UID.
    fingerprint: u32,
    phase: Phase,
    /// Not before then.
    due: Instant,
    /// Reports that failed, in a row.
    failures: u32,
}

/// What is known of the way to a modality.
#[derive(Debug, Default)]
struct Line {
    /// Its associations that are open and offer the class.
    listening: usize,
    /// A report on one of those was not answered.
    is_shy: bool,
    /// A new association is being opened or is in use.
    calling: bool,
    /// Calls that came to nothing, in a row, and when the next is due.
    failures: u32,
    next_call: Option<Instant>,
    /// What went wrong last.
    failure: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    last_number: u64,
    entries: BTreeMap<u64, Entry>,
    references: usize,
    lines: HashMap<Party, Line>,
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

    /// Wakes everybody who waits.
    pub(super) fn nudge(&self) {
        self.changed.notify_waiters();
    }

    /// Takes up what an earlier run has left.
    pub(super) fn load(&self, number: u64, transaction: &Transaction, now: Instant) {
        let mut state = self.lock();
        state.last_number = state.last_number.max(number);
        state.references += transaction.references.len();
        state.entries.insert(number, Entry::new(transaction, Phase::Judging, now));
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
        let mut state = self.lock();
        let mut of_modality = 0;
        let mut in_use = false;
        for (number, other) in state.entries.iter().filter(|(_, other)| other.modality == entry.modality) {
            of_modality += 1;
            if other.uid == entry.uid {
                if other.is_same(&entry) {
                    let is_being_saved = other.phase == Phase::Saving;
                    return Ok(if is_being_saved { Newcomer::BeingSaved(*number) } else { Newcomer::Known });
                }
                in_use = true;
            }
        }
        if state.entries.len() >= self.limits.transactions {
            return Err(Full::InAll(self.limits.transactions));
        }
        if of_modality >= self.limits.of_modality {
            return Err(Full::OfModality(self.limits.of_modality));
        }
        if state.references + entry.references > self.limits.references {
            return Err(Full::References(self.limits.references));
        }
        state.last_number += 1;
        let number = state.last_number;
        state.references += entry.references;
        state.entries.insert(number, entry);
        let place = Place { desk: Arc::clone(self), number, saved: false };
        Ok(if in_use { Newcomer::Duplicate(place) } else { Newcomer::New(place) })
    }

    /// Waits until a request is saved, or has turned out not to be. Blocking.
    pub(super) fn wait_until_saved(&self, number: u64) {
        let is_being_saved = |state: &mut State| {
            let entry = state.entries.get(&number);
            entry.is_some_and(|entry| entry.phase == Phase::Saving)
        };
        drop(self.saved.wait_while(self.lock(), is_being_saved).unwrap_or_else(PoisonError::into_inner));
    }

    /// A transaction is gone from the disk without having been reported.
    pub(super) fn lost(&self, number: u64) {
        let mut state = self.lock();
        state.remove(number);
        state.damaged += 1;
    }

    // ---- Judging.

    /// Up to `limit` transactions that are due for judging, those first that have been for longest.
    pub(super) fn to_judge(&self, now: Instant, limit: usize) -> Vec<u64> {
        let state = self.lock();
        let due = state.entries.iter().filter(|(_, entry)| entry.phase == Phase::Judging && entry.due <= now);
        let mut due: Vec<_> = due.map(|(number, entry)| (entry.due, *number)).collect();
        due.sort_unstable();
        due.into_iter().take(limit).map(|(_, number)| number).collect()
    }

    /// A transaction was judged: it can be reported, or has to be judged again later.
    pub(super) fn judged(&self, number: u64, done: bool, now: Instant) {
        if let Some(entry) = self.lock().entries.get_mut(&number)
            && matches!(entry.phase, Phase::Judging | Phase::Reporting)
        {
            if done {
                entry.phase = Phase::Ready { since: now };
                entry.due = now;
            } else {
                let waited = now.saturating_duration_since(entry.entered);
                entry.phase = Phase::Judging;
                entry.due = now + (waited / 10).clamp(JUDGED_EVERY.0, JUDGED_EVERY.1);
            }
        }
        self.nudge();
    }

    /// What has been there for longer than `life` is given up, unless it is being reported.
    pub(super) fn expire(&self, now: SpoolTime, life: Duration) -> Vec<Claim> {
        let mut state = self.lock();
        let is_over = |entry: &Entry| {
            matches!(entry.phase, Phase::Judging | Phase::Ready { .. }) && entry.accepted.after(life) <= now
        };
        let over = state.entries.iter().filter(|(_, entry)| is_over(entry));
        let over: Vec<_> = over.map(|(number, entry)| entry.claim(*number)).collect();
        over.iter().for_each(|claim| state.remove(claim.number));
        over
    }

    // ---- Reporting.

    /// An association of the modality that offers the class is open from now on.
    pub(super) fn listens(&self, modality: &Party) {
        self.lock().lines.entry(modality.clone()).or_default().listening += 1;
    }

    /// It is over.
    pub(super) fn hangs_up(&self, modality: &Party) {
        let mut state = self.lock();
        if let Some(line) = state.lines.get_mut(modality) {
            line.listening = line.listening.saturating_sub(1);
            // Whoever never asked for anything is forgotten.
            if line.listening == 0 && !line.calling && !line.is_shy && line.failure.is_none() {
                state.lines.remove(modality);
            }
        }
        drop(state);
        self.nudge();
    }

    /// Waits until a transaction of the modality can be reported on an association of its own, and leases it.
    /// `is_reachable` says whether there is another way to it, which a reload may change: then [`Desk::nudge`].
    pub(super) async fn on_own_association(
        self: &Arc<Self>,
        modality: &Party,
        is_reachable: impl Fn() -> bool,
    ) -> Lease {
        loop {
            let changed = self.changed();
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
        let state = self.lock();
        if reachable && state.lines.get(modality).is_some_and(|line| line.is_shy) {
            return None;
        }
        state.ready(modality).map(|(_, entry)| entry.due).min()
    }

    /// By which AE title the modality called us for what has been due for a report longest.
    pub(super) fn called_by(&self, modality: &Party) -> Option<AeTitle> {
        let state = self.lock();
        let first = state.ready(modality).min_by_key(|(_, entry)| entry.due);
        first.map(|(_, entry)| entry.called.clone())
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
        let mut state = self.lock();
        let is_due = |entry: &Entry| entry.due <= now && called.is_none_or(|called| entry.called == *called);
        let due = state.ready(modality).filter(|(_, entry)| is_due(entry));
        let number = due.min_by_key(|(_, entry)| entry.due).map(|(number, _)| *number)?;
        let entry = state.entries.get_mut(&number)?;
        entry.phase = Phase::Reporting;
        Some(Lease { desk: Arc::clone(self), claim: entry.claim(number), own_association, over: false })
    }

    /// The modalities that are to be called now, of those that can be; each is marked as being called until
    /// [`Desk::called`].
    pub(super) fn to_call(&self, now: Instant, can_be_called: impl Fn(&Party) -> bool) -> Vec<Party> {
        let mut state = self.lock();
        let due: HashSet<Party> =
            state.calls().filter(|(_, at)| *at <= now).map(|(modality, _)| modality.clone()).collect();
        let due: Vec<_> = due.into_iter().filter(|modality| can_be_called(modality)).collect();
        for modality in &due {
            state.lines.entry(modality.clone()).or_default().calling = true;
        }
        due
    }

    /// A call is over; `failure` says why it came to nothing. `random` is in `0.0..1.0`.
    pub(super) fn called(&self, modality: &Party, now: Instant, failure: Option<String>, random: f64) {
        let mut state = self.lock();
        let line = state.lines.entry(modality.clone()).or_default();
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
        let state = self.lock();
        let judging = state.entries.values().filter(|entry| entry.phase == Phase::Judging).map(|entry| entry.due);
        let calls = state.calls().filter(|(modality, _)| can_be_called(modality)).map(|(_, at)| at);
        judging.chain(calls).min()
    }

    /// Ready when something has changed.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    pub(super) fn status(&self) -> CommitmentStatus {
        let state = self.lock();
        let waiting = || state.entries.values().filter(|entry| entry.phase != Phase::Saving);
        let judged = waiting().filter(|entry| entry.phase != Phase::Judging);
        let failures = state.lines.iter().filter_map(|(party, line)| Some((party.clone(), line.failure.clone()?)));
        CommitmentStatus {
            pending: waiting().count() as u64,
            to_report: judged.count() as u64,
            oldest: waiting().map(|entry| entry.accepted_at).min(),
            damaged: state.damaged,
            failures: failures.collect(),
        }
    }
}

impl State {
    fn remove(&mut self, number: u64) {
        if let Some(entry) = self.entries.remove(&number) {
            self.references = self.references.saturating_sub(entry.references);
            let is_of = |other: &Entry| other.modality == entry.modality;
            if !self.entries.values().any(is_of) {
                // Nothing waits for it, so nothing is wrong.
                if let Some(line) = self.lines.get_mut(&entry.modality) {
                    line.failure = None;
                }
            }
        }
    }

    fn ready<'a>(&'a self, modality: &'a Party) -> impl Iterator<Item = (&'a u64, &'a Entry)> {
        let is_ready = |entry: &Entry| matches!(entry.phase, Phase::Ready { .. });
        self.entries.iter().filter(move |(_, entry)| entry.modality == *modality && is_ready(entry))
    }

    /// When whom would be called, for each transaction that is ready.
    fn calls(&self) -> impl Iterator<Item = (&Party, Instant)> {
        self.entries.values().filter_map(|entry| {
            let Phase::Ready { since } = entry.phase else { return None };
            let Some(line) = self.lines.get(&entry.modality) else { return Some((&entry.modality, entry.due)) };
            if line.calling {
                return None;
            }
            let listens = line.listening > 0 && !line.is_shy;
            let head_start = if listens { since + HEAD_START } else { since };
            let at = [Some(entry.due), Some(head_start), line.next_call].into_iter().flatten().max()?;
            Some((&entry.modality, at))
        })
    }
}

impl Entry {
    fn new(transaction: &Transaction, phase: Phase, now: Instant) -> Self {
        Self {
            uid: transaction.uid.clone(),
            modality: transaction.modality.clone(),
            called: transaction.called.clone(),
            accepted: transaction.accepted,
            accepted_at: transaction.accepted_at,
            entered: now,
            references: transaction.references.len(),
            fingerprint: fingerprint(&transaction.references),
            phase,
            due: now,
            failures: 0,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.references, self.fingerprint) == (other.references, other.fingerprint)
    }

    fn claim(&self, number: u64) -> Claim {
        Claim { number, modality: self.modality.clone(), uid: self.uid.clone(), references: self.references }
    }
}

fn fingerprint(references: &[Reference]) -> u32 {
    references.iter().fold(0, |sum, Reference { class, instance }| {
        let sum = crc32c::crc32c_append(sum, class.as_str().as_bytes());
        crc32c::crc32c_append(crc32c::crc32c_append(sum, b"\\"), instance.as_str().as_bytes())
    })
}

impl Place {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// It is on stable storage.
    pub(super) fn saved(mut self, now: Instant) {
        self.saved = true;
        if let Some(entry) = self.desk.lock().entries.get_mut(&self.number) {
            (entry.phase, entry.due) = (Phase::Judging, now);
        }
        self.desk.saved.notify_all();
        self.desk.nudge();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.saved {
            self.desk.lock().remove(self.number);
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
        if let Some(entry) = self.desk.lock().entries.get_mut(&self.claim.number) {
            (entry.phase, entry.due) = (Phase::Ready { since: now }, now + TURN);
        }
        self.desk.nudge();
    }

    /// The modality has taken the report, and the file is gone.
    pub(super) fn done(mut self) {
        self.over = true;
        let mut state = self.desk.lock();
        if let Some(line) = state.lines.get_mut(&self.claim.modality) {
            (line.failure, line.failures, line.next_call) = (None, 0, None);
        }
        state.remove(self.claim.number);
    }

    /// It turned out not to be judged yet.
    pub(super) fn not_yet(mut self, now: Instant) {
        self.over = true;
        self.desk.judged(self.claim.number, false, now);
    }

    /// The report was not taken; it is tried again after a pause. `unheard` says that the modality has not answered it
    /// on an association of its own.
    pub(super) fn failed(mut self, now: Instant, unheard: bool, sentence: &str, random: f64) {
        self.over = true;
        self.give_back(now, unheard, sentence, random);
    }

    fn give_back(&self, now: Instant, unheard: bool, sentence: &str, random: f64) {
        let mut state = self.desk.lock();
        let line = state.lines.entry(self.claim.modality.clone()).or_default();
        line.is_shy |= unheard;
        line.failure = Some(sentence.to_owned());
        if let Some(entry) = state.entries.get_mut(&self.claim.number) {
            entry.failures = entry.failures.saturating_add(1);
            entry.phase = Phase::Ready { since: now };
            // Another way is tried at once.
            entry.due = if unheard && entry.failures == 1 {
                now
            } else {
                now + self.desk.backoff.delay(entry.failures, random)
            };
        }
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
