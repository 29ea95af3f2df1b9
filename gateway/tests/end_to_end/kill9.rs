//! SIGKILL at random, again and again, while a study comes in and goes out and the archive comes and goes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::dcmtk::Storescp;
use crate::support::gateway::Setup;
use crate::support::part10::DataSet;
use crate::support::pki::Pki;
use crate::support::pynetdicom::ResendingScu;
use crate::support::{Scratch, phantom, until};

/// How often, unless `WAYSTATION_KILLS` says otherwise.
const KILLS: u32 = 100;
const INSTANCES_PER_KILL: u32 = 10;
/// The gateway lives this long on average between ready and the next kill; the sender rests so long after each instance
/// that the transfer lasts about as long as the kills do.
const LIFE_MILLIS: u64 = 250;
const PACE: Duration = Duration::from_millis(15);
/// For the whole of it, for each kill.
const LIMIT_PER_KILL: Duration = Duration::from_millis(2_400);
/// For the end of it.
const LIMIT: Duration = Duration::from_secs(240);

/// The promise itself: a modality deletes what it has an answer 0000 for.
#[test]
fn whatever_was_answered_0000_arrives_whole_however_often_the_gateway_is_killed() {
    let kills = std::env::var("WAYSTATION_KILLS").map_or(KILLS, |text| text.parse().expect("a number of kills"));
    let instances = kills * INSTANCES_PER_KILL;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let mut archive = Storescp::start(scratch.folder("archive"), Some(&pki.identity("archive")));
    let files = phantom::ct_series(&scratch.folder("series"), instances, 64);
    let setup = Setup::new(scratch.folder("data"))
        .with_destination("archive", &archive.url("localhost"))
        .tls(&pki.identity("gateway"))
        .quick_retries()
        .without_compression("archive");
    let mut gateway = setup.start();
    let mut sender = ResendingScu::start(&gateway.target(), &files, PACE, LIMIT_PER_KILL * kills);

    let (mut while_sending, mut archive_is_there) = (0, true);
    for _ in 0..kills {
        std::thread::sleep(Duration::from_millis(random.u64(0..2 * LIFE_MILLIS)));
        gateway.kill();
        while_sending += u32::from(sender.is_running());
        if random.u8(0..4) == 0 {
            archive_is_there = !archive_is_there;
            if archive_is_there { archive.come_back() } else { archive.go_away() }
        }
        gateway.start_again();
    }
    if !archive_is_there {
        archive.come_back();
    }
    let seen = sender.finish(LIMIT);
    let acknowledged: Vec<PathBuf> =
        seen.iter().filter(|sent| sent.status == Some(0)).map(|sent| sent.path.clone()).collect();
    println!(
        "{kills} kills, {while_sending} of them while instances came in; {} of {instances} acknowledged, {} tries",
        acknowledged.len(),
        seen.len()
    );
    assert_eq!(acknowledged.len(), files.len(), "seed {seed}: a resending sender gets everything through");
    assert!(while_sending >= kills / 2, "seed {seed}: the transfer was over too early for the test to mean much");

    let counters = gateway.drained("archive", LIMIT);
    assert_eq!(counters.parked, 0, "seed {seed}: {}", gateway.status_text());
    until("the archive to have written everything", Duration::from_secs(10), || {
        let arrived: HashMap<String, DataSet> = archive
            .files()
            .iter()
            .map(|path| DataSet::of_file(path))
            .map(|data_set| (data_set.sop_instance.clone(), data_set))
            .collect();
        let wrong = |path: &&PathBuf| {
            let sent = DataSet::of_file(path);
            arrived.get(&sent.sop_instance) != Some(&sent)
        };
        let wrong: Vec<_> = acknowledged.iter().filter(wrong).collect();
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!("seed {seed}: acknowledged, but not there or not whole: {wrong:?}"))
        }
    });
    assert_eq!(archive.files().len(), files.len(), "seed {seed}");
}
