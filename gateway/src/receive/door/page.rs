//! One page: a peer and its last visits.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::skew::{self, Clock, Lateness};
use super::visit::{Outcome, Visit};
use super::{STRANGERS_VISITS, VISITS, Who};
use crate::model::{AeTitle, Timestamp};

/// What is known of one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Page {
    /// Whose page it is.
    pub who: Who,
    /// By which it is shown and asked for; unique in the book.
    pub name: String,
    /// When it came first, as far as this page knows.
    pub first_seen: Timestamp,
    /// When its last visit ended.
    pub last_seen: Timestamp,
    /// Associations that were accepted.
    pub associations: u64,
    /// Visits that came to no association.
    pub refusals: u64,
    /// Instances that were acknowledged.
    pub instances: u64,
    /// Bytes of their data sets.
    pub bytes: u64,
    /// The last visits, the latest at the end.
    pub visits: VecDeque<Visit>,
    /// How late the last instances were by their own account, the latest at the end.
    pub lateness: VecDeque<Lateness>,
}

impl Page {
    pub(super) fn new(who: Who, name: String, at: Timestamp) -> Self {
        Self {
            who,
            name,
            first_seen: at,
            last_seen: at,
            associations: 0,
            refusals: 0,
            instances: 0,
            bytes: 0,
            visits: VecDeque::new(),
            lateness: VecDeque::new(),
        }
    }

    pub(super) fn enter(&mut self, visit: Visit, lateness: impl IntoIterator<Item = Lateness>) {
        self.last_seen = visit.ended_at;
        match visit.outcome {
            Outcome::Released | Outcome::EndedEarly => self.associations = self.associations.saturating_add(1),
            Outcome::Refused | Outcome::Failed => self.refusals = self.refusals.saturating_add(1),
        }
        self.instances = self.instances.saturating_add(visit.tally.stored);
        self.bytes = self.bytes.saturating_add(visit.tally.bytes);
        self.visits.push_back(visit.within_bounds());
        self.lateness.extend(lateness);
        self.keep_within_bounds();
    }

    /// Adds what a page of the same peer has, which was begun later.
    pub(super) fn go_on_with(&mut self, later: Self) {
        self.name = later.name;
        self.last_seen = later.last_seen;
        self.associations = self.associations.saturating_add(later.associations);
        self.refusals = self.refusals.saturating_add(later.refusals);
        self.instances = self.instances.saturating_add(later.instances);
        self.bytes = self.bytes.saturating_add(later.bytes);
        self.visits.extend(later.visits);
        self.lateness.extend(later.lateness);
        self.keep_within_bounds();
    }

    pub(super) fn keep_within_bounds(&mut self) {
        let most = if self.is_stranger() { STRANGERS_VISITS } else { VISITS };
        let beyond = self.visits.len().saturating_sub(most);
        self.visits.drain(..beyond);
        let beyond = self.lateness.len().saturating_sub(skew::INSTANCES);
        self.lateness.drain(..beyond);
    }

    /// Whether it is nobody of the configuration.
    #[must_use]
    pub fn is_stranger(&self) -> bool {
        matches!(self.who, Who::Stranger { .. })
    }

    /// The last visit.
    #[must_use]
    pub fn last(&self) -> Option<&Visit> {
        self.visits.back()
    }

    /// The calling AE title by which a stranger could be admitted.
    #[must_use]
    pub fn calling(&self) -> Option<AeTitle> {
        match &self.who {
            Who::Stranger { calling, .. } => calling.as_deref().and_then(|title| title.parse().ok()),
            Who::Modality(_) => None,
        }
    }

    /// What can be said of its clock.
    #[must_use]
    pub fn clock(&self) -> Option<Clock> {
        skew::estimate(&self.lateness)
    }
}
