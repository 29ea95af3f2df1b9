//! What is being made smaller at the moment: so many instances at a time as there are processors, as long as their frames
//! together are no more than one frame may be. Pure.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::cache::Key;

/// At the most, however many processors there are: each needs the memory of a frame or so.
const MOST: usize = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Benches {
    most: usize,
    /// Bytes of frames that may be worked on at a time.
    frames: usize,
    at_work: Vec<AtWork>,
}

#[derive(Debug)]
struct AtWork {
    key: Key,
    /// Bytes of a frame, and of the instance as it is stored: so many it writes at the most.
    frame: usize,
    length: u64,
    /// How to tell that it is to give way; nothing if it is wanted now.
    ahead: Option<Arc<AtomicBool>>,
}

impl AtWork {
    /// Whether it is made ahead and has been told to give way.
    fn is_told(&self) -> bool {
        self.ahead.as_ref().is_some_and(|gives_way| gives_way.load(Ordering::Relaxed))
    }
}

impl Benches {
    /// So many, of which all together may work on so many bytes of frames, or one alone on more.
    pub(super) fn new(count: usize, frames: usize) -> Self {
        Self { most: count.clamp(1, MOST), frames, at_work: Vec::new() }
    }

    /// How many may work at a time.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// How many instances with frames of so many bytes may be worked on at a time.
    pub(super) fn at_a_time(&self, frame: usize) -> u8 {
        let count = self.frames.checked_div(frame).unwrap_or(self.most).clamp(1, self.most);
        u8::try_from(count).unwrap_or(u8::MAX)
    }

    /// Whether nobody works at one of them.
    pub(super) fn has_place(&self) -> bool {
        self.at_work.len() < self.most
    }

    /// Whether one with frames of so many bytes may begin.
    pub(super) fn is_free_for(&self, frame: usize) -> bool {
        let taken: usize = self.at_work.iter().map(|other| other.frame).sum();
        self.has_place() && (self.at_work.is_empty() || taken.saturating_add(frame) <= self.frames)
    }

    /// Whether this is being made.
    pub(super) fn makes(&self, key: &Key) -> bool {
        self.at_work.iter().any(|at_work| at_work.key == *key)
    }

    /// Somebody begins with this; `ahead` tells him to give way, if it is not wanted now.
    pub(super) fn begin(&mut self, key: Key, (frame, length): (usize, u64), ahead: Option<Arc<AtomicBool>>) {
        self.at_work.push(AtWork { key, frame, length, ahead });
    }

    /// How many bytes those may still write that are being made.
    pub(super) fn bytes(&self) -> u64 {
        self.at_work.iter().fold(0, |sum, at_work| sum.saturating_add(at_work.length))
    }

    /// This is wanted now, and gives way no longer if it has not been told to.
    pub(super) fn keep(&mut self, key: &Key) {
        let at_work = self.at_work.iter_mut().find(|at_work| at_work.key == *key && !at_work.is_told());
        at_work.into_iter().for_each(|at_work| at_work.ahead = None);
    }

    /// Whoever made this has finished.
    pub(super) fn end(&mut self, key: &Key) {
        self.at_work.retain(|at_work| at_work.key != *key);
    }

    /// So many are wanted now: as many of those that are made ahead are to give way, the latest first.
    pub(super) fn make_room(&self, wanted: usize) {
        let others = self.at_work.iter().rev().filter(|at_work| !at_work.is_told());
        let ahead = others.filter_map(|at_work| at_work.ahead.as_ref());
        let more = wanted.saturating_sub(self.told());
        ahead.take(more).for_each(|gives_way| gives_way.store(true, Ordering::Relaxed));
    }

    /// How many have been told to give way.
    pub(super) fn told(&self) -> usize {
        self.at_work.iter().filter(|at_work| at_work.is_told()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContentHash, InstanceId};

    fn key(id: u64) -> Key {
        Key::new(InstanceId(id), &ContentHash([0; 32]), &"1.2".parse().unwrap())
    }

    #[test]
    fn small_frames_are_worked_on_beside_each_other_and_large_ones_alone() {
        let mut benches = Benches::new(3, 100);
        assert_eq!([0, 10, 50, 51, 1_000].map(|frame| benches.at_a_time(frame)), [3, 3, 2, 1, 1]);
        assert!(benches.is_free_for(1_000), "alone");
        benches.begin(key(1), (40, 1 << 20), None);
        assert!(benches.is_free_for(60) && !benches.is_free_for(61));
        benches.begin(key(2), (10, 1), None);
        benches.begin(key(3), (10, u64::MAX), None);
        assert_eq!(benches.bytes(), u64::MAX);
        assert!(!benches.is_free_for(0) && !benches.has_place() && benches.makes(&key(2)));
        benches.end(&key(2));
        assert!(benches.is_free_for(50) && !benches.makes(&key(2)));
        assert_eq!((Benches::new(0, 1).most(), Benches::new(64, 1).most()), (1, MOST));
    }

    #[test]
    fn as_many_give_way_as_are_wanted_and_none_that_is_wanted_itself() {
        let mut benches = Benches::new(4, 100);
        let ahead: Vec<Arc<AtomicBool>> = (0..3).map(|_| Arc::default()).collect();
        benches.begin(key(9), (1, 1), None);
        for (id, gives_way) in (0..).zip(&ahead) {
            benches.begin(key(id), (1, 1), Some(Arc::clone(gives_way)));
        }
        let told = || ahead.iter().map(|gives_way| gives_way.load(Ordering::Relaxed)).collect::<Vec<_>>();
        benches.make_room(1);
        benches.make_room(1);
        assert_eq!(told(), [false, false, true]);
        benches.make_room(2);
        assert_eq!(told(), [false, true, true]);
        benches.keep(&key(0));
        benches.keep(&key(1));
        benches.make_room(9);
        assert_eq!((told(), benches.told()), (vec![false, true, true], 2), "the first is wanted itself by now");
    }
}
