//! Who shares a flush: everybody who waits, and on a disk with a slow flush also those who are about to come.
//!
//! A flush that begins as soon as one reception waits leaves out those that were acknowledged a moment ago and are
//! sending their next instance: with several associations two parties form, each waiting for the other's flush. So
//! after a flush that took long, the next one waits for as many receptions as have taken part lately, those of the last
//! group and those that waited when it was flushed, but never longer than half of what the last group took, or
//! [`LONGEST_WAIT`]. One association alone never waits for anybody, and where a flush is short nobody does.

use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use super::writer::{Append, LogJob};
use crate::clock;

/// At most this many receptions share a flush: it bounds what one flush has to write.
const LARGEST_GROUP: usize = 64;
/// A group that took less is not worth waiting for company.
const SHORT: Duration = Duration::from_millis(1);
/// The longest wait for company.
const LONGEST_WAIT: Duration = Duration::from_millis(10);

/// Receptions that are written and flushed together.
pub(super) struct Group {
    pub(super) appends: Vec<Append>,
    /// Whoever wants to know when everything up to here is in the index.
    pub(super) settling: Vec<SyncSender<()>>,
    /// The log is to be closed after them.
    pub(super) closing: bool,
}

/// Who took part in the last flush.
#[derive(Debug, Default)]
pub(super) struct Company {
    last: usize,
    took: Duration,
}

impl Company {
    /// The last group had so many receptions, and it took so long until they were acknowledged.
    pub(super) fn flushed(&mut self, size: usize, took: Duration) {
        *self = Self { last: size, took };
    }

    /// How many receptions are worth waiting for, if `waiting` were there when the last group was done, and how long.
    fn wait_for(&self, waiting: usize) -> (usize, Duration) {
        let patience = if self.took < SHORT { Duration::ZERO } else { (self.took / 2).min(LONGEST_WAIT) };
        ((self.last + waiting).min(LARGEST_GROUP), patience)
    }

    /// Waits for the next group; nothing if nobody is left who could ask for anything.
    pub(super) fn next_group(&self, jobs: &Receiver<LogJob>) -> Option<Group> {
        let mut group = Group { appends: Vec::new(), settling: Vec::new(), closing: false };
        let mut waiting = 0;
        while !group.is_complete()
            && let Ok(job) = jobs.try_recv()
        {
            group.take(job);
            waiting += 1;
        }
        if waiting == 0 {
            group.take(jobs.recv().ok()?);
        }
        let (enough, patience) = self.wait_for(waiting);
        let deadline: Instant = clock::now() + patience;
        while !group.is_complete() {
            let left = deadline.saturating_duration_since(clock::now());
            let next = match jobs.try_recv() {
                Err(_) if group.appends.len() < enough && !left.is_zero() => jobs.recv_timeout(left).ok(),
                job => job.ok(),
            };
            let Some(job) = next else { break };
            group.take(job);
        }
        Some(group)
    }
}

impl Group {
    fn take(&mut self, job: LogJob) {
        match job {
            LogJob::Append(append) => self.appends.push(*append),
            LogJob::Settle(answer) => self.settling.push(answer),
            LogJob::Close => self.closing = true,
        }
    }

    fn is_complete(&self) -> bool {
        self.closing || self.appends.len() == LARGEST_GROUP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alone_waits_for_nobody_and_nobody_waits_for_a_short_flush() {
        let mut company = Company::default();
        assert_eq!(company.wait_for(0).1, Duration::ZERO);
        company.flushed(1, 20 * SHORT);
        assert_eq!(company.wait_for(0).0, 1, "the one that has just been acknowledged, and it is there");
        company.flushed(3, SHORT / 2);
        assert_eq!(company.wait_for(2).1, Duration::ZERO);
    }

    #[test]
    fn two_parties_become_one_after_a_slow_flush() {
        let mut company = Company::default();
        company.flushed(2, 4 * SHORT);
        assert_eq!(company.wait_for(2), (4, 2 * SHORT));
        company.flushed(4, 100 * LONGEST_WAIT);
        assert_eq!(company.wait_for(0), (4, LONGEST_WAIT));
        company.flushed(LARGEST_GROUP, 4 * SHORT);
        assert_eq!(company.wait_for(1).0, LARGEST_GROUP);
    }
}
