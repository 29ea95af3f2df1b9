//! Whose turn it is: what is urgent goes first, and the rest does not starve. Pure.
//!
//! The most urgent class that waits gets every turn, as long as that does not go on for too long: a class that waits and
//! has been passed over for [`PATIENCE`] without a pause gets one turn in [`SHARE`]. A study that is sent as urgent is
//! therefore complete before anything else is begun, unless it takes more than an hour (the worker counts an urgent instance
//! as waiting until it has been answered, also where several are on their way at a time); and a clinic that calls everything
//! urgent still gets its routine images away.

use std::time::{Duration, Instant};

use crate::model::Priority;

/// How long a class is passed over before it has a share.
pub const PATIENCE: Duration = Duration::from_secs(3_600);
/// One turn in so many.
pub const SHARE: u32 = 10;

/// What was passed over for how long.
#[derive(Debug, Clone, Default)]
pub struct Turns {
    passed_over: [Option<PassedOver>; CLASSES.len()],
}

/// Most urgent first.
const CLASSES: [Priority; 3] = [Priority::Stat, Priority::Routine, Priority::Low];

#[derive(Debug, Clone, Copy)]
struct PassedOver {
    since: Instant,
    /// Turns that others have had since its last one.
    turns: u32,
}

impl Turns {
    /// The class whose turn it is, of those that have something to send at the moment `now`; nothing if none has.
    #[must_use]
    pub fn next(&mut self, now: Instant, waits: impl Fn(Priority) -> bool) -> Option<Priority> {
        let first = CLASSES.into_iter().find(|class| waits(*class))?;
        let is_overdue =
            |over: &PassedOver| now.saturating_duration_since(over.since) >= PATIENCE && over.turns + 1 >= SHARE;
        let overdue = CLASSES
            .into_iter()
            .zip(&self.passed_over)
            .filter(|(class, over)| waits(*class) && over.as_ref().is_some_and(is_overdue));
        // Of several it is the one that has waited for most turns.
        let turn = overdue.max_by_key(|(_, over)| over.map(|over| over.turns)).map_or(first, |(class, _)| class);
        for (class, over) in CLASSES.into_iter().zip(&mut self.passed_over) {
            *over = match over {
                _ if !waits(class) || class == first => None,
                Some(over) if class == turn => Some(PassedOver { turns: 0, ..*over }),
                Some(over) => Some(PassedOver { turns: over.turns.saturating_add(1), ..*over }),
                None => Some(PassedOver { since: now, turns: 1 }),
            };
        }
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Priority::{Low, Routine, Stat};

    /// Whose turns they are, a second after the other, as long as these classes wait.
    fn turns(turns: &mut Turns, from: Instant, seconds: u64, waiting: &[Priority]) -> Vec<Priority> {
        let at = |second| from + Duration::from_secs(second);
        (0..seconds).filter_map(|second| turns.next(at(second), |class| waiting.contains(&class))).collect()
    }

    fn count(turns: &[Priority], class: Priority) -> usize {
        turns.iter().filter(|turn| **turn == class).count()
    }

    #[test]
    fn what_is_urgent_has_every_turn_for_an_hour() {
        let mine = turns(&mut Turns::default(), crate::clock::now(), 3_600, &[Stat, Routine, Low]);
        assert_eq!(count(&mine, Stat), 3_600);
    }

    #[test]
    fn after_an_hour_each_of_the_others_has_a_share_and_what_is_urgent_keeps_most() {
        let now = crate::clock::now();
        let mut all = Turns::default();
        let _ = turns(&mut all, now, 3_600, &[Stat, Routine, Low]);
        let later = turns(&mut all, now + PATIENCE, 1_000, &[Stat, Routine, Low]);
        let share = usize::try_from(1_000 / SHARE).unwrap();
        assert!(count(&later, Routine).abs_diff(share) <= share / 10, "{}", count(&later, Routine));
        assert!(count(&later, Low).abs_diff(share) <= share / 10, "{}", count(&later, Low));
    }

    #[test]
    fn a_pause_of_what_is_urgent_begins_the_hour_anew() {
        let now = crate::clock::now();
        let mut all = Turns::default();
        let _ = turns(&mut all, now, 3_500, &[Stat, Routine]);
        assert_eq!(turns(&mut all, now + Duration::from_secs(3_500), 1, &[Routine]), [Routine]);
        let later = turns(&mut all, now + Duration::from_secs(3_501), 3_500, &[Stat, Routine]);
        assert_eq!(count(&later, Routine), 0);
    }

    #[test]
    fn whoever_waits_alone_has_every_turn_and_nobody_has_none() {
        let mut all = Turns::default();
        for class in CLASSES {
            assert_eq!(turns(&mut all, crate::clock::now(), 3, &[class]), [class; 3]);
        }
        assert_eq!(all.next(crate::clock::now(), |_| false), None);
    }
}
