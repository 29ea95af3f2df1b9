//! What is held back on its way out: by the volume of the month, and by hours.

use jiff::civil::{DateTime, date};

use super::*;
use crate::durable::memory::MemoryDisk;
use crate::forward::pace::{Closed, Pace};
use crate::forward::pacer::Pacer;
use crate::shaping::{Monthly, Shaping};

const NOVEMBER: DateTime = date(2026, 11, 28).at(12, 0, 0, 0);
const DECEMBER: DateTime = date(2026, 12, 1).at(0, 0, 0, 0);

/// A destination that may take nothing more once an instance has gone, and who looks after it. Acknowledgements that come
/// in the next month do not use up that one.
fn with_little_a_month(urgent_overrules: bool) -> (Arc<Destination>, Pacer) {
    let monthly = Some(Monthly { volume: 1_000, begins: 1 });
    let link = Pace::of_box(Shaping::default());
    let pace = Pace::of_destination(Shaping { monthly, urgent_overrules, ..Shaping::default() }, &link);
    let destination = Arc::new(Destination::paced(name("central"), pace));
    let pacer = Pacer::open(link, &[Arc::clone(&destination)], &MemoryDisk::new(), Path::new("/data"));
    (destination, pacer)
}

/// A station whose first instance has used up the volume of the month.
struct Spent {
    archive: Archive,
    destination: Arc<Destination>,
    pacer: Pacer,
    station: Station,
}

impl Spent {
    async fn new(urgent_overrules: bool) -> Self {
        let archive = Archive::start([], &[]).await;
        let (destination, mut pacer) = with_little_a_month(urgent_overrules);
        let mut station = Station::new();
        let (first, _) = station.keep(0, EXPLICIT, &["central"]).await;
        let dialer = Dialer::new(&[], Arc::clone(destination.wires()));
        station.work(&destination, archive.route(), Settings { dialer, ..settings() });
        assert!(is_delivered(&station.settled(first, "central").await));
        pacer.tick(NOVEMBER, clock::of_runtime());
        Self { archive, destination, pacer, station }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_volume_is_used_up_only_what_is_urgent_goes_until_the_month_ends() {
    let Spent { archive: _archive, destination, mut pacer, station } = Spent::new(true).await;
    assert_eq!(destination.pace().closed(false), Some(Closed::Volume { until: DECEMBER.date() }));
    assert!(destination.pace().standing(NOVEMBER).used > 1_000);

    let (waits, _) = station.keep(1, EXPLICIT, &["central"]).await;
    let urgent = station.keep_as(b"urgent", uid("1.2.9.1"), ("1.2.9", Priority::Stat), EXPLICIT, &["central"]).await;
    assert!(is_delivered(&station.settled(urgent, "central").await));
    assert!(matches!(station.state(waits, "central"), Some(DeliveryState::Queued { .. })));

    pacer.tick(NOVEMBER, clock::of_runtime());
    pacer.tick(DECEMBER, clock::of_runtime());
    assert!(is_delivered(&station.settled(waits, "central").await));
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_overrules_unless_it_may() {
    let Spent { archive, destination, mut pacer, station } = Spent::new(false).await;
    let urgent = station.keep_as(b"urgent", uid("1.2.9.1"), ("1.2.9", Priority::Stat), EXPLICIT, &["central"]).await;
    assert!(destination.pace().closed(true).is_some());
    pacer.tick(DECEMBER, clock::of_runtime());
    assert!(is_delivered(&station.settled(urgent, "central").await));
    assert_eq!(archive.arrived().len(), 2);
    station.stop().await;
}
