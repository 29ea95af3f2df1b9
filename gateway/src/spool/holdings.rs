//! What the spool has under a SOP Instance UID: for whoever answers for instances, such as storage commitment.

use std::sync::Arc;

use super::error::SpoolError;
use super::index::{Known, View, guarded};
use super::indexer::index_failed;
use super::shared::Shared;
use crate::model::Uid;

/// The most instances with one SOP Instance UID that are looked at. More than one is a contradiction already.
pub(super) const MOST: usize = 16;

/// One instance as whoever answers for it sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Its SOP class.
    pub sop_class_uid: Uid,
    /// Its payload is damaged on the disk and somebody still waits for it.
    pub damaged: bool,
    /// How many of its destinations do not have it yet, or have still to confirm it. When all have it, its payload may be gone.
    pub waiting: usize,
}

/// A look at the index; see [`super::Spool::holdings`].
pub struct Holdings {
    shared: Arc<Shared>,
    known: Known,
    view: View,
}

impl Holdings {
    pub(super) fn new(shared: Arc<Shared>, known: Known, view: View) -> Self {
        Self { shared, known, view }
    }

    /// Everything with this SOP Instance UID: nothing, one, or several that contradict each other.
    ///
    /// # Errors
    /// The spool has failed, possibly by this very call.
    pub fn of(&self, uid: &Uid) -> Result<Vec<Holding>, SpoolError> {
        let look = || {
            let found = self.known.all(uid, MOST)?;
            let holding = |found: super::index::Found| {
                let waiting = self.view.standing(found.instance, &found.row, &[])?.waiting_for.len();
                Ok(Holding { sop_class_uid: found.row.header.sop_class_uid, damaged: !found.usable, waiting })
            };
            found.into_iter().map(holding).collect()
        };
        guarded(look).map_err(|error| index_failed(&self.shared, &error))
    }
}
