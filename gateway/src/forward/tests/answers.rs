//! Every answer that an archive may give, and every way to give none, a hundred times each and all at once: whatever one
//! archive does, every instance ends as it should there, and nobody else notices.

use super::*;

const EACH: u32 = 100;

/// What must become of the deliveries to one archive.
enum Ends {
    Delivered,
    /// Delivered, after each was offered more than once.
    DeliveredLater,
    Parked,
}

/// (what the archive does, with how many offers of each instance, what becomes of it)
const ARCHIVES: [(&str, Act, u32, Ends); 23] = [
    ("success", Act::Answer(0x0000), u32::MAX, Ends::Delivered),
    ("coerced", Act::Answer(0xB000), u32::MAX, Ends::Delivered),
    ("discarded", Act::Answer(0xB006), u32::MAX, Ends::Delivered),
    ("other-class", Act::Answer(0xB007), u32::MAX, Ends::Delivered),
    ("odd-attribute", Act::Answer(0x0107), u32::MAX, Ends::Delivered),
    ("leaves", Act::AnswerAndLeave, u32::MAX, Ends::Delivered),
    ("full", Act::Answer(0xA700), 2, Ends::DeliveredLater),
    ("full-too", Act::Answer(0xA7FF), 2, Ends::DeliveredLater),
    ("limited", Act::Answer(0x0213), 2, Ends::DeliveredLater),
    ("aborts", Act::AbortMidway, 1, Ends::DeliveredLater),
    ("dies", Act::Forget, 1, Ends::DeliveredLater),
    ("hangs", Act::Hang, 1, Ends::DeliveredLater),
    ("refuses-twice", Act::Answer(0xC000), 2, Ends::DeliveredLater),
    ("mismatch", Act::Answer(0xA900), u32::MAX, Ends::Parked),
    ("mismatch-too", Act::Answer(0xA9FF), u32::MAX, Ends::Parked),
    ("puzzled", Act::Answer(0xC000), u32::MAX, Ends::Parked),
    ("puzzled-too", Act::Answer(0xCFFF), u32::MAX, Ends::Parked),
    ("fails", Act::Answer(0x0110), u32::MAX, Ends::Parked),
    ("no-class", Act::Answer(0x0122), u32::MAX, Ends::Parked),
    ("not-allowed", Act::Answer(0x0124), u32::MAX, Ends::Parked),
    ("cancels", Act::Answer(0xFE00), u32::MAX, Ends::Parked),
    ("pending", Act::Answer(0xFF00), u32::MAX, Ends::Parked),
    ("nonsense", Act::Answer(0xFFFF), u32::MAX, Ends::Parked),
];

impl Station {
    /// Waits until nothing is queued for anybody.
    pub(super) async fn nothing_queued(&self) {
        let changed = Arc::new(Notify::new());
        let listener = Arc::clone(&changed);
        self.spool.on_queued(move |_| listener.notify_one());
        while self.spool.status().unwrap().destinations.iter().any(|to| to.queued.instances > 0) {
            changed.notified().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_a_hundred_times_and_all_at_once() {
    let mut station = Station::new();
    let names: Vec<&str> = ARCHIVES.iter().map(|(name, ..)| *name).collect();
    let mut kept = HashMap::new();
    for slice in 0..EACH {
        let (id, data) = station.keep(slice, EXPLICIT, &names).await;
        kept.insert(id, data);
    }
    let mut archives = Vec::new();
    for (name, act, times, _) in &ARCHIVES {
        let archive = Archive::at_first(act.clone(), *times).await;
        // Where nobody answers, nobody is waited for.
        let patience = if matches!(act, Act::Hang) { Duration::from_millis(50) } else { Duration::from_secs(20) };
        station.deliver_with(name, archive.route(), |settings| settings.patience = patience);
        archives.push(archive);
    }
    station.nothing_queued().await;

    let views = station.spool.instances(None, kept.len()).unwrap();
    assert_eq!(views.len(), kept.len());
    for view in views {
        for delivery in view.deliveries {
            let (name, act, _, ends) =
                ARCHIVES.iter().find(|(name, ..)| delivery.destination.as_str() == *name).unwrap();
            let code = if let Act::Answer(code) = act { format!("{code:04X}") } else { String::new() };
            match (ends, delivery.state) {
                (Ends::Delivered, DeliveryState::Delivered { attempts: 1, answer, .. }) => {
                    assert!(answer.starts_with(&code), "{name}: {answer}");
                }
                (Ends::DeliveredLater, DeliveryState::Delivered { attempts, .. }) => assert!(attempts > 1, "{name}"),
                (Ends::Parked, DeliveryState::Parked { attempts: 3, reason, .. }) => {
                    let remedy = format!("waystation retry {name}");
                    assert!(reason.contains(&code) && reason.contains(&remedy), "{name}: {reason}");
                }
                (_, state) => panic!("{name}: {state:?}"),
            }
        }
    }
    for (archive, (name, ..)) in archives.iter().zip(&ARCHIVES) {
        let arrived = archive.arrived();
        let distinct: std::collections::BTreeSet<&Uid> = arrived.iter().map(|(uid, ..)| uid).collect();
        assert_eq!(distinct.len(), kept.len(), "{name}");
        assert!(arrived.iter().all(|(_, _, data)| kept.values().any(|kept| kept == data)), "{name}: not whole");
    }
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_hangs_holds_up_nobody_else() {
    let (hangs, works) = (Archive::at_first(Act::Hang, u32::MAX).await, Archive::start([], &[]).await);
    let mut station = Station::new();
    for slice in 0..EACH {
        station.keep(slice, EXPLICIT, &["hangs", "works"]).await;
    }
    // It has the first instance, and will never answer, before the other one is offered anything.
    station.deliver_to("hangs", hangs.route());
    while hangs.arrived().is_empty() {
        tokio::task::yield_now().await;
    }
    station.deliver_to("works", works.route());
    let waits = |to: &str| {
        let status = station.spool.status().unwrap();
        status.destinations.into_iter().find(|status| status.name == name(to)).unwrap().queued.instances
    };
    let changed = Arc::new(Notify::new());
    let listener = Arc::clone(&changed);
    station.spool.on_queued(move |_| listener.notify_one());
    while waits("works") > 0 {
        changed.notified().await;
    }
    assert_eq!((waits("hangs"), hangs.arrived().len()), (u64::from(EACH), 1));
    station.workers.iter().for_each(JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn warnings_are_deliveries() {
    for status in [0xB000, 0xB006, 0xB007] {
        let archive = Archive::start([Act::Answer(status)], &[]).await;
        let mut station = Station::new();
        let (id, _) = station.keep(0, EXPLICIT, &["central"]).await;
        station.deliver_to("central", archive.route());
        let state = station.settled(id, "central").await;
        let DeliveryState::Delivered { answer, attempts: 1, .. } = state else { panic!("{state:?}") };
        assert!(answer.starts_with(&format!("{status:04X}")), "{answer}");
        station.stop().await;
    }
}
