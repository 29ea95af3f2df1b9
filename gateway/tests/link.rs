//! The link emulator: its decisions in virtual time (beside the code, in `support/link`), one link that is there, and
//! deliveries over links that are cut (`cuts`). Links need root.

#[path = "link/cuts.rs"]
mod cuts;
#[path = "support/link/mod.rs"]
#[allow(dead_code, reason = "the benchmark uses the rest of it")]
mod link;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use link::counted::float;
use link::outages::Outages;
use link::{Link, Settings, flows};

/// Links are there one at a time: they are to be punctual.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_link_keeps_to_what_was_said() {
    let _alone = alone();
    assert!(nix::unistd::geteuid().is_root(), "network namespaces and devices are made: run it as root");
    let outages = Outages { up: Duration::from_secs(11), down: Duration::from_secs(60), forget: false };
    let mut settings = Settings::symmetric(10_000_000, Duration::from_millis(40), 0.0);
    settings.outages = Some(outages);
    let link = Link::new(settings).unwrap();
    assert!(flows::round_trips(&link, 1).unwrap().is_empty(), "it is closed");
    let opened = link.open();

    let times = flows::round_trips(&link, 20).unwrap();
    let (least, median) = (flows::quantile(times.iter().copied(), 0.0), flows::quantile(times, 0.5));
    assert!(least >= Duration::from_millis(40), "{least:?}");
    // A busy machine wakes nobody in time; the bound is generous.
    assert!(median < Duration::from_millis(60), "{median:?}");

    let flood = flows::flood(&link, 20_000_000, Duration::from_secs(3)).unwrap();
    assert!((flood - 10e6).abs() < 0.1e6, "{flood}");

    let before = link.now();
    flows::stream(&link, "cubic", Some(2_000_000), Duration::from_secs(4)).unwrap();
    let (bytes, time) = link.up().between(before + Duration::from_secs(1), link.now(), |sample| sample.fresh);
    let rate = float(bytes) * 8.0 / time.as_secs_f64();
    assert!((1.7e6..2.1e6).contains(&rate), "{rate}");

    std::thread::sleep((opened + outages.up).saturating_sub(link.now()) + Duration::from_millis(100));
    assert!(flows::round_trips(&link, 1).unwrap().is_empty(), "there is an outage");
    assert!(link.up().cut.packets > 0);
}
