//! How much goes in one request. Pure.
//!
//! A request takes the best claims of the queue, in their order, as long as they have one priority: what is urgent never
//! waits behind what is not for longer than one request takes. How long that is, is watched: requests grow while they
//! take less than a quarter of a minute, and shrink when they take more than half a minute, between a mebibyte and what
//! the configuration allows. An instance that is larger goes alone.

use std::time::Duration;

use crate::model::Priority;

/// Bytes of a request beside its data sets, for each instance.
const HEAD: u64 = 1 << 10;

/// A request that takes longer makes the next one smaller.
const SLOW: Duration = Duration::from_secs(30);

/// A request that takes less lets the next one be larger.
const QUICK: Duration = Duration::from_secs(15);

/// The size from which requests are no longer made smaller because they are slow.
const LEAST: u64 = 1 << 20;

/// The size of the first requests.
const FIRST: u64 = 16 << 20;

/// What counts of a claim.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
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
    /// `max-request`, and half of what the archive has said is too large.
    limit: u64,
    /// What takes half a minute at most.
    aim: u64,
}

impl Sizes {
    pub(super) fn new(max_request: u64, max_instances: u32) -> Self {
        let most = usize::try_from(max_instances).unwrap_or(usize::MAX).max(1);
        Self { most, limit: max_request, aim: FIRST }
    }

    /// How many of the claims, from the first on, go in the next request.
    pub(super) fn count(&self, claims: impl Iterator<Item = Candidate>) -> usize {
        let limit = self.limit.min(self.aim);
        let (mut count, mut total, mut first) = (0, 0_u64, None);
        for claim in claims {
            total = total.saturating_add(claim.length).saturating_add(HEAD);
            let &mut Candidate { priority, alone, .. } = first.get_or_insert(claim);
            let fits = total <= limit && claim.priority == priority && !alone && !claim.alone;
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
            self.aim = (self.aim.min(bytes.max(LEAST)) / 2).max(LEAST);
        } else if time < QUICK && bytes >= self.aim / 2 {
            self.aim = self.aim.saturating_mul(2).min(self.limit.max(LEAST));
        }
    }

    /// A request with so many bytes of data sets was too large (413). Returns the limit that holds from now on.
    pub(super) fn too_large(&mut self, bytes: u64) -> u64 {
        self.limit = (bytes.min(self.limit) / 2).max(1);
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(length: u64) -> Candidate {
        Candidate { length, priority: Priority::Routine, alone: false }
    }

    #[test]
    fn a_request_ends_at_its_limits_and_at_a_change_of_priority() {
        let sizes = Sizes::new(10 * 1024, 4);
        let count = |claims: &[Candidate]| sizes.count(claims.iter().copied());
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&[claim(1024); 9]), 4, "max-instances");
        assert_eq!(count(&[claim(4096); 3]), 2, "max-request, heads included");
        assert_eq!(count(&[claim(1 << 30), claim(1)]), 1, "a large one goes alone");
        let urgent = Candidate { priority: Priority::Stat, ..claim(1) };
        assert_eq!(count(&[urgent, urgent, claim(1)]), 2);
        assert_eq!(count(&[claim(1), urgent]), 1);
        let alone = Candidate { alone: true, ..claim(1) };
        assert_eq!((count(&[alone, claim(1)]), count(&[claim(1), claim(1), alone])), (1, 2));
    }

    #[test]
    fn requests_grow_and_shrink_with_the_line() {
        let mut sizes = Sizes::new(100 << 20, 500);
        let mib = |sizes: &Sizes| sizes.count([claim((1 << 20) - HEAD); 200].into_iter());
        assert_eq!(mib(&sizes), 16);
        sizes.took(16 << 20, Duration::from_secs(2));
        assert_eq!(mib(&sizes), 32);
        sizes.took(1 << 20, Duration::from_secs(1));
        assert_eq!(mib(&sizes), 32, "a small one proves nothing");
        for _ in 0..5 {
            sizes.took(100 << 20, Duration::from_secs(2));
        }
        assert_eq!(mib(&sizes), 100, "no more than max-request");
        sizes.took(100 << 20, Duration::from_secs(20));
        assert_eq!(mib(&sizes), 100);
        for expected in [50, 25, 12, 6, 3, 1, 1] {
            sizes.took(1 << 30, Duration::from_secs(40));
            assert_eq!(mib(&sizes), expected);
        }
    }

    #[test]
    fn what_is_too_large_is_remembered() {
        let mut sizes = Sizes::new(100 << 20, 500);
        assert_eq!(sizes.too_large(8 << 20), 4 << 20);
        sizes.took(4 << 20, Duration::from_secs(1));
        sizes.took(16 << 20, Duration::from_secs(1));
        assert_eq!(sizes.count([claim((1 << 20) - HEAD); 200].into_iter()), 4);
    }

    proptest! {
        #[test]
        fn there_is_always_one_and_never_too_much(
            lengths in prop::collection::vec(0_u64..100_000, 1..80), limit in 1_u64..1_000_000, most in 1_u32..60,
        ) {
            let sizes = Sizes::new(limit, most);
            let count = sizes.count(lengths.iter().map(|length| claim(*length)));
            prop_assert!(count >= 1 && count <= usize::try_from(most).unwrap());
            let total: u64 = lengths[..count].iter().map(|length| length + HEAD).sum();
            prop_assert!(count == 1 || total <= limit);
        }
    }
}
