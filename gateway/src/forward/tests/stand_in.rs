//! A destination that stands in for another one, in virtual time.

use super::*;

/// `central` has a port on which nobody answers, `backup` stands in for it after ten minutes.
struct Group {
    station: Station,
    central: Arc<Destination>,
    port: u16,
}

impl Group {
    async fn new(backup: &Archive) -> Self {
        in_small_steps();
        let mut station = Station::new();
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let route = Route::Plain(DicomPeer { aet: "ARCHIVE".parse().unwrap(), host: "127.0.0.1".into(), port });
        let backoff = Backoff { first: Duration::from_secs(5), cap: Duration::from_secs(60) };
        let central = station.deliver_with("central", route, |settings| {
            settings.backoff = backoff;
            settings.patience = Duration::from_secs(3_600);
        });
        let stand_in = StandIn { whom: Arc::clone(&central), after: Duration::from_secs(600) };
        let destination = station.deliver_with("backup", backup.route(), |settings| {
            settings.patience = Duration::from_secs(3_600);
            settings.stands_in = Some(stand_in.clone());
        });
        station.spool.on_queued(move |_| destination.queued());
        Self { station, central, port }
    }
}

#[tokio::test(start_paused = true)]
async fn who_stands_in_waits_until_the_other_has_failed_for_long_and_leaves_it_alone_when_it_is_back() {
    let backup = Archive::start([], &[]).await;
    let group = Group::new(&backup).await;
    let began = clock::of_runtime();
    let (first, data) = group.station.keep(0, EXPLICIT, &["central"]).await;
    let state = group.station.settled(first, "central").await;
    let waited = clock::of_runtime() - began;
    // How much later is up to the disk, which virtual time does not wait for.
    assert!(waited >= Duration::from_secs(600), "{waited:?}");
    let DeliveryState::Delivered { answer, .. } = state else { panic!("{state:?}") };
    assert!(answer.ends_with("from backup, which stands in"), "{answer}");
    assert_eq!(backup.arrived().into_iter().map(|(_, _, data)| data).collect::<Vec<_>>(), [data]);

    let central = Archive::on(TcpListener::bind(("127.0.0.1", group.port)).await.unwrap(), Script::default(), &[]);
    // Nothing waits for it that would show that it is back; it is asked.
    let mut failing = group.central.failing();
    while failing.borrow_and_update().is_some() {
        failing.changed().await.unwrap();
    }
    let taken = backup.arrived().len();
    for slice in 1..8 {
        let (id, _) = group.station.keep(slice, EXPLICIT, &["central"]).await;
        let DeliveryState::Delivered { answer, .. } = group.station.settled(id, "central").await else { panic!() };
        assert!(!answer.contains("stands in"), "{answer}");
    }
    assert_eq!(backup.arrived().len(), taken);
    assert_eq!(central.arrived().len(), 7);
    group.station.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_stand_in_refuses_stays_in_the_queue_of_the_one_it_stands_in_for() {
    let backup = Archive::at_first(Act::Answer(0xC000), u32::MAX).await;
    let group = Group::new(&backup).await;
    let (id, _) = group.station.keep(0, EXPLICIT, &["central"]).await;
    let refused = |state: &Option<DeliveryState>| matches!(state, Some(DeliveryState::Queued { last_answer: Some(answer), .. }) if answer.contains("backup, which stands in, does not take it: C000"));
    let changed = Arc::new(Notify::new());
    let listener = Arc::clone(&changed);
    group.station.spool.on_queued(move |_| listener.notify_one());
    while !refused(&group.station.state(id, "central")) {
        changed.notified().await;
    }
    // What another one says of it costs it neither its place nor a try at the one that it is for.
    let lines = group.station.spool.ledger(id).unwrap();
    let told = lines.iter().find_map(|line| match &line.entry {
        Some(Entry::Attempted(attempted)) if attempted.through == Some(name("backup")) => Some(attempted.next_after),
        _ => None,
    });
    assert_eq!(told, Some(None));
    let _central = Archive::on(TcpListener::bind(("127.0.0.1", group.port)).await.unwrap(), Script::default(), &[]);
    let DeliveryState::Delivered { answer, .. } = group.station.settled(id, "central").await else { panic!() };
    assert!(!answer.contains("stands in"), "{answer}");
    group.station.stop().await;
}
