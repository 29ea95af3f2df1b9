//! What was made and is still wanted: results by instance, content and transfer syntax. Pure: its bounds are arguments.
//!
//! A result stays until every destination for which it was kept has the instance, or has it parked, or until room is needed:
//! then the one goes that was wanted least recently. Who reads it meanwhile keeps it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{ContentHash, DestinationName, InstanceId, Uid};

/// Which result.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Of which instance.
    pub(super) id: InstanceId,
    /// SHA-256 of the data set that it was made from: the stored one, or the one with attributes changed.
    pub(super) content: ContentHash,
    /// What it is written in.
    pub(super) syntax: Uid,
}

impl Key {
    pub(super) fn new(id: InstanceId, content: &ContentHash, syntax: &Uid) -> Self {
        Self { id, content: *content, syntax: syntax.clone() }
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) bytes: u64,
    pub(super) results: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cache<T> {
    kept: BTreeMap<Key, Kept<T>>,
    bytes: u64,
    /// Counts up with everything that is wanted.
    time: u64,
}

#[derive(Debug)]
struct Kept<T> {
    result: T,
    bytes: u64,
    wanted: u64,
    /// Who has still to get the instance.
    destinations: BTreeSet<DestinationName>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self { kept: BTreeMap::new(), bytes: 0, time: 0 }
    }
}

impl<T: Clone> Cache<T> {
    /// The bytes of all results.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The bytes of the results of these instances.
    pub(super) fn bytes_of(&self, ids: &BTreeSet<InstanceId>) -> u64 {
        self.kept.iter().filter(|(key, _)| ids.contains(&key.id)).map(|(_, kept)| kept.bytes).sum()
    }

    /// Takes a result, which stays here.
    pub(super) fn get(&mut self, key: &Key) -> Option<T> {
        self.time += 1;
        let kept = self.kept.get_mut(key)?;
        kept.wanted = self.time;
        Some(kept.result.clone())
    }

    /// The results of this instance are wanted soon.
    pub(super) fn want(&mut self, id: InstanceId) {
        self.time += 1;
        for (_, kept) in self.kept.iter_mut().filter(|(key, _)| key.id == id) {
            kept.wanted = self.time;
        }
    }

    /// Keeps a result for these destinations, within the bounds.
    pub(super) fn put(
        &mut self,
        key: Key,
        (result, bytes): (T, u64),
        destinations: BTreeSet<DestinationName>,
        bounds: Bounds,
    ) {
        if destinations.is_empty() || bytes > bounds.bytes || bounds.results == 0 {
            return;
        }
        self.remove(&key);
        let left = Bounds { bytes: bounds.bytes - bytes, results: bounds.results - 1 };
        self.trim(left);
        self.time += 1;
        self.bytes += bytes;
        self.kept.insert(key, Kept { result, bytes, wanted: self.time, destinations });
    }

    /// Lets go of what is beyond the bounds, the least recently wanted first.
    pub(super) fn trim(&mut self, bounds: Bounds) {
        while self.bytes > bounds.bytes || self.kept.len() > bounds.results {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.wanted).map(|(key, _)| key.clone());
            match oldest {
                Some(oldest) => self.remove(&oldest),
                None => return,
            }
        }
    }

    /// This destination has the instance, or it is parked for it.
    pub(super) fn settled(&mut self, id: InstanceId, destination: &DestinationName) {
        let mut over = Vec::new();
        for (key, kept) in self.kept.iter_mut().filter(|(key, _)| key.id == id) {
            kept.destinations.remove(destination);
            if kept.destinations.is_empty() {
                over.push(key.clone());
            }
        }
        over.iter().for_each(|key| self.remove(key));
    }

    fn remove(&mut self, key: &Key) {
        if let Some(kept) = self.kept.remove(key) {
            self.bytes -= kept.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::{JPEG_LS, RLE};

    const WIDE: Bounds = Bounds { bytes: u64::MAX, results: usize::MAX };

    fn key(id: u64) -> Key {
        key_in(id, 0, JPEG_LS)
    }

    fn key_in(id: u64, content: u8, syntax: &str) -> Key {
        Key { id: InstanceId(id), content: ContentHash([content; 32]), syntax: syntax.parse().unwrap() }
    }

    fn names(names: &[&str]) -> BTreeSet<DestinationName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn filled(bounds: Bounds) -> Cache<u64> {
        let mut cache = Cache::default();
        for id in 1..=4 {
            cache.put(key(id), (id, 10), names(&["central"]), bounds);
        }
        cache
    }

    fn kept(cache: &Cache<u64>) -> Vec<u64> {
        cache.kept.values().map(|kept| kept.result).collect()
    }

    #[test]
    fn the_least_recently_wanted_goes_first_when_bytes_or_files_are_too_many() {
        for bounds in [Bounds { bytes: 40, ..WIDE }, Bounds { results: 4, ..WIDE }] {
            let mut cache = filled(bounds);
            assert_eq!(cache.get(&key(1)), Some(1));
            cache.want(InstanceId(2));
            cache.put(key(5), (5, 10), names(&["central"]), bounds);
            assert_eq!((kept(&cache), cache.bytes()), (vec![1, 2, 4, 5], 40));
        }
        let mut cache = filled(WIDE);
        cache.trim(Bounds { bytes: 25, ..WIDE });
        assert_eq!((kept(&cache), cache.bytes()), (vec![3, 4], 20));
        cache.trim(Bounds { bytes: 0, ..WIDE });
        assert_eq!((kept(&cache), cache.bytes()), (vec![], 0));
    }

    #[test]
    fn what_is_larger_than_all_room_moves_nothing_and_what_is_put_again_counts_once() {
        let bounds = Bounds { bytes: 40, ..WIDE };
        let mut cache = filled(bounds);
        cache.put(key(5), (5, 41), names(&["central"]), bounds);
        cache.put(key(1), (6, 10), names(&["central"]), bounds);
        assert_eq!((kept(&cache), cache.bytes()), (vec![6, 2, 3, 4], 40));
    }

    #[test]
    fn a_result_stays_until_the_last_of_its_destinations_has_the_instance() {
        let mut cache = Cache::default();
        cache.put(key(1), (1, 10), names(&["central", "second"]), WIDE);
        cache.put(key_in(1, 0, RLE), (2, 10), names(&["second"]), WIDE);
        cache.put(key(2), (3, 10), names(&["central"]), WIDE);
        cache.settled(InstanceId(1), &"central".parse().unwrap());
        assert_eq!(cache.bytes_of(&BTreeSet::from([InstanceId(1)])), 20);
        cache.settled(InstanceId(1), &"second".parse().unwrap());
        assert_eq!((kept(&cache), cache.bytes()), (vec![3], 10));
        cache.put(key(4), (4, 10), names(&[]), WIDE);
        assert_eq!(kept(&cache), [3], "nobody would ask for it");
    }

    #[test]
    fn another_content_and_another_transfer_syntax_are_other_results() {
        let mut cache = filled(WIDE);
        assert_eq!((cache.get(&key_in(1, 1, JPEG_LS)), cache.get(&key_in(1, 0, RLE))), (None, None));
    }
}
