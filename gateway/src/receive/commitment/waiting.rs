//! What waits, in every order in which somebody asks for it: no look at it takes longer because more waits. Pure.
//!
//! Each transaction is in [`Waiting::entries`], and by its phase in these, which [`Waiting::move_to`] alone changes:
//!
//! | phase | to judge, by when it is due | by age | ready, by modality, by what it called us, by when it is due |
//! |---|---|---|---|
//! | saving | | | |
//! | judging | ✓ | ✓ | |
//! | ready | | ✓ | ✓, and once more by when a call is due if an association of the modality is open |
//! | reporting | | ✓ | |

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::desk::{Claim, HEAD_START};
use super::{Party, Transaction};
use crate::clock::SpoolTime;
use crate::dimse::commitment::Reference;
use crate::model::{AeTitle, Timestamp, Uid};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
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
pub(super) struct Entry {
    uid: Uid,
    pub(super) modality: Party,
    /// What it called us.
    pub(super) called: AeTitle,
    accepted: SpoolTime,
    accepted_at: Timestamp,
    /// When it came to this run.
    pub(super) entered: Instant,
    pub(super) references: usize,
    /// Of its references, to tell the same request from another with the same transaction UID.
    fingerprint: u32,
    pub(super) phase: Phase,
    /// Not before then.
    due: Instant,
    /// Reports that failed, in a row.
    pub(super) failures: u32,
}

/// What is known of one modality, and of the way to it.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Its transactions.
    pub(super) transactions: usize,
    /// Them by their transaction UID and what they ask for.
    known: HashMap<Uid, HashMap<(usize, u32), u64>>,
    /// Those that are ready, by what it called us then.
    ready: BTreeMap<AeTitle, Ready>,
    /// Its associations that are open and offer the class.
    pub(super) listening: usize,
    /// A report on one of those was not answered.
    pub(super) is_shy: bool,
    /// A new association is being opened or is in use.
    pub(super) calling: bool,
    /// Calls that came to nothing, in a row, and when the next is due.
    pub(super) failures: u32,
    pub(super) next_call: Option<Instant>,
    /// What went wrong last.
    pub(super) failure: Option<String>,
    /// Its associations that wait for something to report.
    pub(super) wake: Arc<Notify>,
}

/// Transactions that are ready, twice.
#[derive(Debug, Default)]
struct Ready {
    by_due: BTreeSet<(Instant, u64)>,
    /// By when a call is due that leaves an open association its head start.
    by_call: BTreeSet<(Instant, u64)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    last_number: u64,
    entries: HashMap<u64, Entry>,
    saving: usize,
    references: usize,
    to_judge: BTreeSet<(Instant, u64)>,
    by_age: BTreeSet<(SpoolTime, u64)>,
    /// Modalities before anybody: see [`Party`].
    lines: BTreeMap<Party, Line>,
}

impl Entry {
    pub(super) fn new(transaction: &Transaction, phase: Phase, now: Instant) -> Self {
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

    fn what_it_asks_for(&self) -> (usize, u32) {
        (self.references, self.fingerprint)
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

impl Waiting {
    /// All of them.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Instances in all of them.
    pub(super) fn references(&self) -> usize {
        self.references
    }

    /// Those that are on stable storage, and of these the ones that are judged.
    pub(super) fn counts(&self) -> (usize, usize) {
        let saved = self.entries.len().saturating_sub(self.saving);
        (saved, saved.saturating_sub(self.to_judge.len()))
    }

    /// When the one that has waited longest was accepted, of those on stable storage.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        let (_, number) = self.by_age.first()?;
        Some(self.entries.get(number)?.accepted_at)
    }

    pub(super) fn get(&self, number: u64) -> Option<&Entry> {
        self.entries.get(&number)
    }

    /// The number of the same request, if it is there; and whether its transaction UID is in use.
    pub(super) fn known(&self, entry: &Entry) -> (Option<u64>, bool) {
        let of_uid = self.lines.get(&entry.modality).and_then(|line| line.known.get(&entry.uid));
        (of_uid.and_then(|of_uid| of_uid.get(&entry.what_it_asks_for())).copied(), of_uid.is_some())
    }

    /// Enters one, and gives its number.
    pub(super) fn enter(&mut self, entry: Entry) -> u64 {
        let number = self.last_number + 1;
        self.enter_as(number, entry);
        number
    }

    /// Enters one that has a number.
    pub(super) fn enter_as(&mut self, number: u64, entry: Entry) {
        self.last_number = self.last_number.max(number);
        self.references += entry.references;
        let line = self.line(&entry.modality);
        line.transactions += 1;
        line.known.entry(entry.uid.clone()).or_default().insert(entry.what_it_asks_for(), number);
        let (phase, due) = (entry.phase, entry.due);
        self.entries.insert(number, Entry { phase: Phase::Saving, ..entry });
        self.saving += 1;
        self.move_to(number, phase, due);
    }

    /// Gives a transaction another phase, in which nothing is due before `due`.
    pub(super) fn move_to(&mut self, number: u64, phase: Phase, due: Instant) {
        self.file(number, false);
        if let Some(entry) = self.entries.get_mut(&number) {
            (entry.phase, entry.due) = (phase, due);
        }
        self.file(number, true);
    }

    /// Counts one more report that failed, and gives how many have in a row.
    pub(super) fn failed(&mut self, number: u64) -> u32 {
        let Some(entry) = self.entries.get_mut(&number) else { return 0 };
        entry.failures = entry.failures.saturating_add(1);
        entry.failures
    }

    /// Puts a transaction where its phase has it, or takes it away from there.
    fn file(&mut self, number: u64, there: bool) {
        let Some(entry) = self.entries.get(&number) else { return };
        let age = (entry.accepted, number);
        match (entry.phase, there) {
            (Phase::Saving, true) => self.saving += 1,
            (Phase::Saving, false) => self.saving = self.saving.saturating_sub(1),
            (_, true) => drop(self.by_age.insert(age)),
            (_, false) => drop(self.by_age.remove(&age)),
        }
        match entry.phase {
            Phase::Saving | Phase::Reporting => {}
            Phase::Judging if there => drop(self.to_judge.insert((entry.due, number))),
            Phase::Judging => drop(self.to_judge.remove(&(entry.due, number))),
            Phase::Ready { since } => {
                let (due, call) = ((entry.due, number), (entry.due.max(since + HEAD_START), number));
                let Some(line) = self.lines.get_mut(&entry.modality) else { return };
                if there {
                    let ready = line.ready.entry(entry.called.clone()).or_default();
                    ready.by_due.insert(due);
                    ready.by_call.insert(call);
                } else if let Some(ready) = line.ready.get_mut(&entry.called) {
                    ready.by_due.remove(&due);
                    ready.by_call.remove(&call);
                    if ready.by_due.is_empty() {
                        line.ready.remove(&entry.called);
                    }
                }
            }
        }
    }

    /// Strikes one out.
    pub(super) fn remove(&mut self, number: u64) {
        self.file(number, false);
        let Some(entry) = self.entries.remove(&number) else { return };
        self.references = self.references.saturating_sub(entry.references);
        let Some(line) = self.lines.get_mut(&entry.modality) else { return };
        line.transactions = line.transactions.saturating_sub(1);
        if let Some(of_uid) = line.known.get_mut(&entry.uid) {
            if of_uid.get(&entry.what_it_asks_for()) == Some(&number) {
                of_uid.remove(&entry.what_it_asks_for());
            }
            if of_uid.is_empty() {
                line.known.remove(&entry.uid);
            }
        }
        if line.transactions == 0 {
            // Nothing waits for it, so nothing is wrong.
            line.failure = None;
        }
        self.forget_if_idle(&entry.modality);
    }

    /// Up to `limit` that are due for judging, those first that have been for longest.
    pub(super) fn due_for_judging(&self, now: Instant, limit: usize) -> Vec<u64> {
        let due = self.to_judge.iter().take_while(|(due, _)| *due <= now);
        due.take(limit).map(|(_, number)| *number).collect()
    }

    /// When the next is due for judging.
    pub(super) fn next_judging(&self) -> Option<Instant> {
        self.to_judge.first().map(|(due, _)| *due)
    }

    /// Those that have been there for `life`, unless they are being reported.
    pub(super) fn older_than(&self, now: SpoolTime, life: Duration) -> Vec<Claim> {
        let old = self.by_age.iter().take_while(|(accepted, _)| accepted.after(life) <= now);
        let old = old.filter_map(|(_, number)| Some((*number, self.entries.get(number)?)));
        old.filter(|(_, entry)| entry.phase != Phase::Reporting).map(|(number, entry)| entry.claim(number)).collect()
    }

    /// The one of the modality that has been due for a report longest, or will be first: when, its number, and what the
    /// modality called us. `called` asks for those for which it called us by this title.
    pub(super) fn first_ready(&self, modality: &Party, called: Option<&AeTitle>) -> Option<(Instant, u64, &AeTitle)> {
        let line = self.lines.get(modality)?;
        let wanted = line.ready.iter().filter(|(title, _)| called.is_none_or(|called| called == *title));
        wanted.filter_map(|(title, ready)| ready.by_due.first().map(|(due, number)| (*due, *number, title))).min()
    }

    /// Leases one for a report.
    pub(super) fn lease(&mut self, number: u64) -> Option<Claim> {
        let due = self.entries.get(&number)?.due;
        self.move_to(number, Phase::Reporting, due);
        self.entries.get(&number).map(|entry| entry.claim(number))
    }

    /// When which modality would be called: those for which something is ready, and that are not being called.
    pub(super) fn calls(&self) -> impl Iterator<Item = (&Party, Instant)> {
        // Of anybody nothing is known but how he calls.
        let modalities = self.lines.iter().take_while(|(party, _)| matches!(party, Party::Modality(_)));
        modalities.filter(|(_, line)| !line.calling).filter_map(|(party, line)| {
            let listens = line.listening > 0 && !line.is_shy;
            let first = |ready: &Ready| (if listens { ready.by_call.first() } else { ready.by_due.first() }).copied();
            let (first, _) = line.ready.values().filter_map(first).min()?;
            Some((party, line.next_call.map_or(first, |next| next.max(first))))
        })
    }

    /// What is known of the modality.
    pub(super) fn line(&mut self, modality: &Party) -> &mut Line {
        self.lines.entry(modality.clone()).or_default()
    }

    /// The same, if it is known at all.
    pub(super) fn known_line(&self, modality: &Party) -> Option<&Line> {
        self.lines.get(modality)
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = (&Party, &Line)> {
        self.lines.iter()
    }

    /// Of modalities there are as many as the configuration has named; of anybody, as many as call.
    pub(super) fn forget_if_idle(&mut self, party: &Party) {
        let is_idle = |line: &Line| line.transactions == 0 && line.listening == 0 && !line.calling;
        if matches!(party, Party::Anybody(_)) && self.lines.get(party).is_some_and(is_idle) {
            self.lines.remove(party);
        }
    }
}
