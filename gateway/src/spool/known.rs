//! What the log thread knows about instances that it has already: a resend must not be kept and delivered twice.
//!
//! The index knows everything that was committed to it. What is in the log and not yet in the index is remembered here;
//! that is bounded by what may wait for the index. The order of the two looks matters: first the memory is freed of what
//! the index has, then the index is opened, so nothing can fall in between.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::index::{self, Index, IndexError};
use super::record::InstanceHeader;
use super::shared::Shared;
use crate::model::{ContentHash, DestinationName, InstanceId, Uid};

/// What a finished reception is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing with this UID and content is known.
    New,
    /// It is there, and goes everywhere where it should; `durable` unless it is in the group that is being written.
    Duplicate { instance: InstanceId, durable: bool },
    /// It is known under this number, but another record is needed: for a payload that is gone, or for destinations that
    /// are new. The destinations are those of both.
    Again { instance: InstanceId, destinations: Vec<DestinationName> },
}

#[derive(Debug)]
struct Recent {
    instance: InstanceId,
    record: InstanceId,
    destinations: Vec<DestinationName>,
    group: u64,
}

type Content = (Uid, ContentHash);

/// See the module.
pub(super) struct KnownInstances {
    shared: Arc<Shared>,
    index: Arc<Index>,
    recent: HashMap<Content, Recent>,
    /// The same by the id of the record, oldest first.
    order: VecDeque<(InstanceId, Content)>,
    group: u64,
    view: Option<index::Known>,
}

impl KnownInstances {
    pub(super) fn new(shared: Arc<Shared>, index: Arc<Index>) -> Self {
        Self { shared, index, recent: HashMap::new(), order: VecDeque::new(), group: 0, view: None }
    }

    /// To be called before each group of receptions.
    pub(super) fn begin_group(&mut self) -> Result<(), IndexError> {
        self.group += 1;
        let indexed_to = InstanceId(self.shared.indexed_to.load(Ordering::Acquire));
        while self.order.front().is_some_and(|(record, _)| *record <= indexed_to) {
            let Some((_, content)) = self.order.pop_front() else { break };
            if self.recent.get(&content).is_some_and(|recent| recent.record <= indexed_to) {
                self.recent.remove(&content);
            }
        }
        self.view = None;
        self.view = Some(index::guarded(|| self.index.known())?);
        Ok(())
    }

    /// Lets go of the index until the next group: an open view keeps old pages from being used again.
    pub(super) fn end_group(&mut self) {
        self.view = None;
    }

    /// What a finished reception is.
    pub(super) fn judge(&self, header: &InstanceHeader, hash: ContentHash) -> Result<Verdict, IndexError> {
        let content = (header.sop_instance_uid.clone(), hash);
        if let Some(recent) = self.recent.get(&content) {
            let durable = recent.group != self.group;
            return Ok(verdict(recent.instance, &recent.destinations, true, durable, header));
        }
        let Some(view) = &self.view else { return Ok(Verdict::New) };
        let found = index::guarded(|| view.find(&content.0, hash))?;
        Ok(found.map_or(Verdict::New, |found| {
            verdict(found.instance, &found.row.header.destinations, found.usable, true, header)
        }))
    }

    /// A record with this content was written and is on its way to the index.
    pub(super) fn note(
        &mut self,
        instance: InstanceId,
        record: InstanceId,
        header: &InstanceHeader,
        hash: ContentHash,
    ) {
        let content = (header.sop_instance_uid.clone(), hash);
        self.order.push_back((record, content.clone()));
        let destinations = header.destinations.clone();
        self.recent.insert(content, Recent { instance, record, destinations, group: self.group });
    }
}

fn verdict(
    instance: InstanceId,
    known: &[DestinationName],
    usable: bool,
    durable: bool,
    header: &InstanceHeader,
) -> Verdict {
    let mut new = header.destinations.iter().filter(|name| !known.contains(name)).peekable();
    if usable && new.peek().is_none() {
        return Verdict::Duplicate { instance, durable };
    }
    Verdict::Again { instance, destinations: known.iter().chain(new).cloned().collect() }
}
