//! The links, and what is to be reached over each (the goals stand in the report beside the figures).

use std::time::Duration;

use super::link::Settings;
use super::link::outages::Outages;

/// A link, and what is sent over it.
pub(crate) struct Case {
    /// For `--only`.
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) settings: Settings,
    /// Instances of the series.
    pub(crate) instances: usize,
    pub(crate) goal: Goal,
}

/// What the gateway is to reach.
#[derive(Default, Clone, Copy)]
pub(crate) struct Goal {
    /// Share of the link, or of the time that it is there.
    pub(crate) share: f64,
    /// Or of what the processors allow, where that is less.
    pub(crate) or_busy: bool,
    /// Seconds for 50 CT slices from a cold start.
    pub(crate) seconds: Option<f64>,
    /// Times faster than dcmsend in the same round.
    pub(crate) ratio: Option<f64>,
    /// Instances sent twice for each cut.
    pub(crate) twice: Option<f64>,
}

pub(crate) fn all() -> Vec<Case> {
    let link =
        |rate: u64, round_trip: u64, loss: f64| Settings::symmetric(rate, Duration::from_millis(round_trip), loss);
    let cut = |forget| Settings {
        outages: Some(Outages { up: Duration::from_secs(40), down: Duration::from_secs(20), forget }),
        ..link(2_000_000, 600, 0.0)
    };
    let goal = Goal { share: 0.9, ..Goal::default() };
    let case = |name, what, settings, instances, goal| Case { name, what, settings, instances, goal };
    vec![
        case("10m", "10 Mbit/s, 300 ms, no loss", link(10_000_000, 300, 0.0), 50, goal),
        case(
            "10m-loss",
            "10 Mbit/s, 300 ms, 1 % loss",
            link(10_000_000, 300, 0.01),
            50,
            Goal { seconds: Some(12.0), ratio: Some(25.0), ..goal },
        ),
        case("2m", "2 Mbit/s, 600 ms, no loss", link(2_000_000, 600, 0.0), 50, Goal { seconds: Some(36.0), ..goal }),
        case(
            "2m-loss",
            "2 Mbit/s, 600 ms, 0.5 % loss",
            link(2_000_000, 600, 0.005),
            50,
            Goal { seconds: Some(36.0), ..goal },
        ),
        case("384k", "0.384 Mbit/s, 715 ms, no loss", link(384_000, 715, 0.0), 10, goal),
        case("100m", "100 Mbit/s, 20 ms, no loss", link(100_000_000, 20, 0.0), 100, Goal { or_busy: true, ..goal }),
        case("2m-cuts", "2 Mbit/s, 600 ms, down 20 s of every 60 s", cut(false), 50, Goal { twice: Some(1.0), ..goal }),
        case(
            "2m-nat",
            "2 Mbit/s, 600 ms, down 20 s of every 60 s, connections forgotten by the NAT at each outage",
            cut(true),
            50,
            Goal { share: 0.8, ..goal },
        ),
    ]
}

/// The link of the scenarios with a limit and beside a call.
pub(crate) fn shared() -> Settings {
    Settings::symmetric(10_000_000, Duration::from_millis(300), 0.0)
}
