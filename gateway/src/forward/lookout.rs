//! When to look whether a destination that could not be reached can be reached again. Pure: time is an argument.
//!
//! While the circuit of a destination is open, associations wait for minutes; a link that was down for a moment would be
//! used again only then. So a plain TCP connection is tried meanwhile, which costs a packet or two: every second at first,
//! and every quarter of a minute in the end, for ever. One that gets through ends the wait of the circuit.
//!
//! Something on the way may accept connections although the destination is away. An attempt that was hastened and failed in
//! the same way makes the next one wait, for twice as long each time. So both are bounded, whatever the network does: the
//! looks, one a second and four a minute in the long run, and the attempts that they bring about beyond those of the circuit.

use std::time::{Duration, Instant};

/// So many looks a second apart; then each waits twice as long as the one before.
const SOON: u32 = 10;
const APART: Duration = Duration::from_secs(1);
const RARELY: Duration = Duration::from_secs(15);
/// After an attempt was hastened in vain, the next one is not hastened for so long at first, and at most.
const IN_VAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// See the module. Made anew when the destination has answered as it should.
#[derive(Debug, Clone, Default)]
pub struct Lookout {
    looks: u32,
    hastened: u32,
    not_before: Option<Instant>,
}

impl Lookout {
    /// How long to wait before the next look.
    #[must_use]
    pub fn pause(&self, now: Instant) -> Duration {
        let doublings = self.looks.saturating_sub(SOON).min(8);
        let pause = APART.saturating_mul(1 << doublings).min(RARELY);
        self.not_before.map_or(pause, |moment| pause.max(moment.saturating_duration_since(now)))
    }

    /// The destination could not be reached by a look.
    pub fn not_connected(&mut self) {
        self.looks = self.looks.saturating_add(1);
    }

    /// It could, at the moment `now`: an attempt is made at once.
    pub fn connected(&mut self, now: Instant) {
        self.looks = self.looks.saturating_add(1);
        let wait = IN_VAIN.0.saturating_mul(1 << self.hastened.min(16)).min(IN_VAIN.1);
        self.hastened = self.hastened.saturating_add(1);
        self.not_before = Some(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONTH: Duration = Duration::from_secs(30 * 86_400);

    #[test]
    fn a_link_that_is_back_soon_is_noticed_soon_and_a_month_without_one_costs_little() {
        let (mut lookout, began) = (Lookout::default(), crate::clock::now());
        let (mut now, mut looks) = (began, 0u32);
        while now - began < MONTH {
            let pause = lookout.pause(now);
            assert!(pause >= APART && pause <= RARELY, "{pause:?}");
            assert!(looks > SOON || pause == APART);
            now += pause;
            looks += 1;
            lookout.not_connected();
        }
        assert!((172_000..173_000).contains(&looks), "{looks} looks in a month");
    }

    #[test]
    fn something_that_accepts_everything_brings_about_few_attempts() {
        let (mut lookout, began) = (Lookout::default(), crate::clock::now());
        let (mut now, mut attempts) = (began, 0u32);
        while now - began < MONTH {
            now += lookout.pause(now);
            lookout.connected(now);
            attempts += 1;
        }
        assert!((8_000..9_000).contains(&attempts), "{attempts} attempts in a month");
    }
}
