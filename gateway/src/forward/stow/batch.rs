//! How much goes in one request. Pure.
//!
//! A request takes the best claims of the queue, in their order, as long as they have one priority: what is urgent never
//! waits behind what is not for longer than one request takes. How long that is, is watched: requests begin small, grow
//! while they take less than ten seconds, and shrink when they take more than twenty, or when the link is cut under one,
//! between a mebibyte and what the configuration allows. So the wait for an answer between two of them is a small part of
//! the time on any link, and what a cut costs is some seconds. An instance that is larger goes alone.
//!
//! No request holds two instances with one SOP Instance UID: its answer speaks of UIDs, and could not tell them apart.
//!
//! What the archive says is too large (413) halves the size of the requests. Archives and the proxies in front of them
//! change, so once a day a request may be twice as large again; if it still is too large, that has cost one request.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::model::Priority;

/// Bytes of a request beside its data sets, for each instance.
const HEAD: u64 = 1 << 10;

/// A request that takes longer makes the next one smaller.
const SLOW: Duration = Duration::from_secs(20);

/// A request that takes less lets the next one be larger.
const QUICK: Duration = Duration::from_secs(10);

/// The size from which requests are no longer made smaller because they are slow.
const LEAST: u64 = 1 << 20;

/// The size of the first requests.
const FIRST: u64 = 2 << 20;

/// How long what was too large is believed to be so.
const BELIEVED: Duration = Duration::from_secs(86_400);

/// What counts of a claim.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    /// SOP Instance UID.
    pub(super) instance: &'a str,
    pub(super) length: u64,
    pub(super) priority: Priority,
    /// It must be in no request with others.
    pub(super) alone: bool,
}

/// The sizes of requests to one destination.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    /// `max-instances`
    most: usize,
    /// `max-request`
    max_request: u64,
    /// The same, or half of what the archive has said is too large.
    limit: u64,
    /// When the limit was last found to be, or made, another one than `max-request`.
    limited: Option<Instant>,
    /// What takes neither much less than ten seconds nor more than twenty.
    aim: u64,
}

impl Sizes {
    pub(super) fn new(max_request: u64, max_instances: u32) -> Self {
        let most = usize::try_from(max_instances).unwrap_or(usize::MAX).max(1);
        Self { most, max_request, limit: max_request, limited: None, aim: FIRST }
    }

    /// How many of the claims, from the first on, go in the next request.
    pub(super) fn count<'a>(&self, claims: impl Iterator<Item = Candidate<'a>>) -> usize {
        let limit = self.limit.min(self.aim);
        let (mut count, mut total, mut first) = (0, 0_u64, None);
        let mut instances = HashSet::new();
        for claim in claims {
            total = total.saturating_add(claim.length).saturating_add(HEAD);
            let &mut Candidate { priority, alone, .. } = first.get_or_insert(claim);
            let is_new = instances.insert(claim.instance);
            let fits = is_new && total <= limit && claim.priority == priority && !alone && !claim.alone;
            if count > 0 && !fits {
                break;
            }
            count += 1;
            if count == self.most {
                break;
            }
        }
        count
    }

    /// A request with so many bytes of data sets was answered after this time.
    pub(super) fn took(&mut self, bytes: u64, time: Duration) {
        if time > SLOW {
            self.cut(bytes);
        } else if time < QUICK && bytes >= self.aim / 2 {
            self.aim = self.aim.saturating_mul(2).min(self.limit.max(LEAST));
        }
    }

    /// The link was cut under a request with so many bytes of data sets, all of which go again.
    pub(super) fn cut(&mut self, bytes: u64) {
        self.aim = (self.aim.min(bytes.max(LEAST)) / 2).max(LEAST);
    }

    /// A request with so many bytes of data sets was too large (413). Returns the limit that holds from now on.
    pub(super) fn too_large(&mut self, bytes: u64, now: Instant) -> u64 {
        self.limit = (bytes.min(self.limit) / 2).max(1);
        self.limited = Some(now);
        self.limit
    }

    /// Lets requests be twice as large again if nothing has been too large for a day. Returns the new limit then.
    pub(super) fn relent(&mut self, now: Instant) -> Option<u64> {
        self.limited.filter(|limited| now.saturating_duration_since(*limited) >= BELIEVED)?;
        self.limit = self.limit.saturating_mul(2).min(self.max_request);
        self.limited = (self.limit < self.max_request).then_some(now);
        Some(self.limit)
    }

    /// Whether requests are smaller than the configuration allows because the archive has said so.
    pub(super) fn is_limited(&self) -> bool {
        self.limited.is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    fn named(instance: &str, length: u64) -> Candidate<'_> {
        Candidate { instance, length, priority: Priority::Routine, alone: false }
    }

    /// So many different instances of one length.
    fn count(sizes: &Sizes, number: usize, length: u64) -> usize {
        let uids: Vec<String> = (0..number).map(|number| number.to_string()).collect();
        sizes.count(uids.iter().map(|uid| named(uid, length)))
    }

    #[test]
    fn a_request_ends_at_its_limits_and_at_a_change_of_priority() {
        let sizes = Sizes::new(10 * 1024, 4);
        let of = |claims: &[Candidate<'_>]| sizes.count(claims.iter().copied());
        assert_eq!(of(&[]), 0);
        assert_eq!(count(&sizes, 9, 1024), 4, "max-instances");
        assert_eq!(count(&sizes, 3, 4096), 2, "max-request, heads included");
        let (one, two, three) = (named("1", 1), named("2", 1), named("3", 1));
        assert_eq!(of(&[named("4", 1 << 30), one]), 1, "a large one goes alone");
        let urgent = |candidate| Candidate { priority: Priority::Stat, ..candidate };
        assert_eq!(of(&[urgent(one), urgent(two), three]), 2);
        assert_eq!(of(&[one, urgent(two)]), 1);
        let alone = Candidate { alone: true, ..three };
        assert_eq!((of(&[alone, one]), of(&[one, two, alone])), (1, 2));
    }

    /// Both would be judged by the one entry of the answer that names them, and one of them might never arrive.
    #[test]
    fn a_request_ends_before_a_uid_that_is_in_it_already() {
        let sizes = Sizes::new(1 << 20, 500);
        let (one, two) = (named("1.2", 10), named("1.3", 10));
        assert_eq!(sizes.count([one, two, Candidate { length: 11, ..one }, two].into_iter()), 2);
        assert_eq!(sizes.count([one, one].into_iter()), 1);
    }

    #[test]
    fn requests_grow_and_shrink_with_the_line() {
        let mut sizes = Sizes::new(100 << 20, 500);
        let mib = |sizes: &Sizes| count(sizes, 200, (1 << 20) - HEAD);
        assert_eq!(mib(&sizes), 2);
        for (bytes, expected) in [(2 << 20, 4), (4 << 20, 8), (8 << 20, 16), (16 << 20, 32)] {
            sizes.took(bytes, Duration::from_secs(2));
            assert_eq!(mib(&sizes), expected);
        }
        sizes.took(1 << 20, Duration::from_secs(1));
        assert_eq!(mib(&sizes), 32, "a small one proves nothing");
        for _ in 0..5 {
            sizes.took(100 << 20, Duration::from_secs(2));
        }
        assert_eq!(mib(&sizes), 100, "no more than max-request");
        sizes.took(100 << 20, Duration::from_secs(15));
        assert_eq!(mib(&sizes), 100);
        for expected in [50, 25, 12, 6, 3, 1, 1] {
            sizes.took(1 << 30, Duration::from_secs(40));
            assert_eq!(mib(&sizes), expected);
        }
    }

    #[test]
    fn a_cut_halves_what_goes_together_and_no_less_than_a_mebibyte() {
        let mut sizes = Sizes::new(100 << 20, 500);
        sizes.took(2 << 20, Duration::from_secs(1));
        sizes.took(4 << 20, Duration::from_secs(1));
        assert_eq!(sizes.aim, 8 << 20);
        for expected in [4, 2, 1, 1] {
            sizes.cut(sizes.aim);
            assert_eq!(sizes.aim, expected << 20);
        }
    }

    #[test]
    fn what_is_too_large_is_remembered_for_a_day_and_then_tried_again_step_by_step() {
        const MIB: u64 = 1 << 20;
        let mut sizes = Sizes::new(15 * MIB, 500);
        let mib = |sizes: &Sizes| count(sizes, 200, MIB - HEAD);
        let mut now = clock::now();
        assert_eq!((sizes.relent(now), sizes.is_limited()), (None, false));
        assert_eq!(sizes.too_large(8 * MIB, now), 4 * MIB);
        sizes.took(4 * MIB, Duration::from_secs(1));
        sizes.took(16 * MIB, Duration::from_secs(1));
        assert_eq!((mib(&sizes), sizes.is_limited()), (4, true));
        assert_eq!(sizes.relent(now + BELIEVED - Duration::from_secs(1)), None);
        for (expected, still) in [(8, true), (15, false)] {
            now += BELIEVED;
            assert_eq!(sizes.relent(now), Some(expected * MIB));
            assert_eq!((sizes.relent(now), sizes.is_limited()), (None, still), "one step a day");
            sizes.took(expected * MIB / 2, Duration::from_secs(1));
            assert_eq!(u64::try_from(mib(&sizes)).unwrap(), expected);
        }
        assert_eq!(sizes.relent(now + 100 * BELIEVED), None);
        // Still too large: one request, and back to half.
        sizes.too_large(8 * MIB, now);
        now += BELIEVED;
        assert_eq!((sizes.relent(now), sizes.too_large(8 * MIB, now)), (Some(8 * MIB), 4 * MIB));
        assert_eq!(sizes.relent(now + BELIEVED / 2), None, "and a whole day from then on");
    }

    proptest! {
        #[test]
        fn there_is_always_one_and_never_too_much(
            lengths in prop::collection::vec(0_u64..100_000, 1..80), limit in 1_u64..1_000_000, most in 1_u32..60,
        ) {
            let sizes = Sizes::new(limit, most);
            let uids: Vec<String> = (0..lengths.len()).map(|number| number.to_string()).collect();
            let count = sizes.count(uids.iter().zip(&lengths).map(|(uid, length)| named(uid, *length)));
            prop_assert!(count >= 1 && count <= usize::try_from(most).unwrap());
            let total: u64 = lengths[..count].iter().map(|length| length + HEAD).sum();
            prop_assert!(count == 1 || total <= limit);
        }
    }
}
