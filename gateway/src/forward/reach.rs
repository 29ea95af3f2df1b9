//! Can it ever arrive? Size and measured speed against what a destination is known to take. Pure.
//!
//! Archives limit a request, in bytes or in minutes, and often something on the way does. An instance beyond such a limit
//! is sent again and again by those who do not look: for weeks, each time for an hour. So it is looked at beforehand, and
//! told together with the way out.

use std::fmt;
use std::time::{Duration, Instant};

use super::goodput::Goodput;

/// What a destination is known to take of one instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a data set.
    pub max_instance: Option<u64>,
    /// Time for one transfer.
    pub max_transfer: Option<Duration>,
}

/// Why an instance cannot arrive as things stand. Shown, it is a sentence with the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// The destination does not take instances of this size, whatever the link does.
    TooLarge {
        /// Bytes of the data set.
        length: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// At the speed of late it takes longer than a transfer may.
    TooSlow {
        /// Bytes of the data set.
        length: u64,
        /// How long it would take.
        needs: Duration,
        /// How long it may.
        limit: Duration,
        /// Bytes per second of late.
        goodput: u64,
    },
}

/// What stands between an instance of `length` bytes and its destination `now`.
#[must_use]
pub fn obstacle(length: u64, goodput: &Goodput, limits: &Limits, now: Instant) -> Option<Obstacle> {
    if let Some(limit) = limits.max_instance.filter(|limit| length > *limit) {
        return Some(Obstacle::TooLarge { length, limit });
    }
    let limit = limits.max_transfer?;
    let (needs, goodput) = (goodput.time_for(length, now)?, goodput.bytes_per_second(now)?);
    (needs > limit).then_some(Obstacle::TooSlow { length, needs, limit, goodput })
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { length, limit } => write!(
                f,
                "it has {} and the destination takes {} at most (max-instance): raise the limit there and here, send it to \
                 another destination by a rule, or carry it: waystation spool rescue",
                MiB(*length),
                MiB(*limit)
            ),
            Self::TooSlow { length, needs, limit, goodput } => write!(
                f,
                "{} take {} min at the present {} KiB/s, and a transfer is broken off after {} min (max-transfer): it can \
                 arrive when the link is faster, or when that limit is raised; otherwise send it to another destination by \
                 a rule, or carry it",
                MiB(*length),
                needs.as_secs().div_ceil(60),
                goodput >> 10,
                limit.as_secs() / 60
            ),
        }
    }
}

struct MiB(u64);

impl fmt::Display for MiB {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} MiB", self.0 >> 20, ((self.0 & 0xf_ffff) * 10) >> 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const MIB: u64 = 1 << 20;

    /// 384 kbit/s, and half an hour for a request: the case of the field.
    fn rural() -> (Goodput, Limits) {
        let mut goodput = Goodput::default();
        goodput.sent(48_000 * 60, Duration::from_secs(60), clock::now());
        (goodput, Limits { max_instance: Some(1 << 30), max_transfer: Some(Duration::from_secs(1_800)) })
    }

    #[test]
    fn what_fits_has_no_obstacle_and_what_does_not_has_a_way_out() {
        let (goodput, limits) = rural();
        let obstacle = |length| obstacle(length, &goodput, &limits, clock::now());
        assert_eq!(obstacle(80 * MIB), None);
        let slow = obstacle(100 * MIB).unwrap().to_string();
        assert!(
            slow.starts_with(
                "100.0 MiB take 37 min at the present 46 KiB/s, and a transfer is broken off after 30 min"
            ),
            "{slow}"
        );
        let large = obstacle(1_500 * MIB).unwrap().to_string();
        assert!(large.starts_with("it has 1500.0 MiB and the destination takes 1024.0 MiB at most"), "{large}");
    }

    #[test]
    fn without_a_limit_or_a_measurement_nothing_is_said() {
        let (goodput, limits) = rural();
        assert_eq!(obstacle(u64::MAX, &goodput, &Limits::default(), clock::now()), None);
        assert_eq!(obstacle(1 << 30, &Goodput::default(), &limits, clock::now()), None);
    }
}
