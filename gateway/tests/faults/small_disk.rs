//! A small disk, filled and emptied again and again.

use std::path::PathBuf;
use std::time::Duration;

use super::disk::{Mounted, make};
use super::janitor::Place;
use super::sent::Sent;
use super::support::dcmtk::{Outcome, storescu};
use super::support::gateway::Setup;
use super::support::{PATIENCE, phantom, until};

const DISK: u64 = 64 << 20;
const ROUNDS: u32 = 10;
/// Half a mebibyte each, about half of it noise.
const SIDE: u16 = 512;
const SENT_AT_ONCE: u32 = 25;
/// More than the disk could hold, if every instance were stored as it comes.
const MOST: usize = 1_000;
const RECOVERY: Duration = Duration::from_secs(30);

/// Promises 2 and 10. The archive is away and instances come until the gateway refuses, politely; the archive comes back,
/// everything is delivered, and there is room again because what was delivered makes it. Nobody starts or deletes
/// anything.
#[test]
fn a_disk_that_is_filled_and_emptied_ten_times_loses_nothing_and_needs_nobody() {
    let mut place = Place::new();
    let image = place.path().join("image");
    make(&image, DISK);
    let disk = Mounted::new(&mut place, &image, "disk", "defaults").unwrap();
    let (filed, archive) = (place.folder("filed"), place.path().join("archive"));
    let setup = Setup::new(disk.path().join("data")).with_folder("archive", &archive).configured(
        &place.path().join("settings.toml"),
        "[spool]\nsegment-size = \"16MiB\"\nreserve = \"16MiB\"\n[retry]\nfirst-delay = \"100ms\"\nmax-delay = \"1s\"\n",
    );
    let mut gateway = setup.begin();
    let killed = place.janitor.promise_to_kill(gateway.process().id());
    assert!(gateway.is_ready(), "{}", gateway.log());

    let (mut all, mut refusals) = (0, 0);
    for round in 1..=ROUNDS {
        let mut sent = Sent::default();
        let mut batches = 0;
        while sent.waiting().is_empty() {
            batches += 1;
            let files: Vec<PathBuf> =
                phantom::ct_series(&place.folder(&format!("series-{round}-{batches}")), SENT_AT_ONCE, SIDE);
            sent.add(files.clone());
            let outcomes = storescu(&gateway.target(), &files);
            sent.saw(&outcomes);
            // Politely: A700, or no association; never something that a modality takes for its own fault.
            for outcome in outcomes.values() {
                match outcome {
                    Outcome::Success => {}
                    Outcome::Answered(answer) => assert!(answer.contains("OutOfResources"), "round {round}: {answer}"),
                    Outcome::NotSent(why) => assert!(!why.contains("Abort"), "round {round}: {why}"),
                }
            }
            assert!(gateway.process().is_running(), "round {round}: it ended:\n{}", gateway.log());
            assert!(sent.acknowledged() < MOST, "round {round}: the disk is never full");
        }
        refusals += sent.waiting().len();
        assert!(sent.acknowledged() > 0, "round {round}: nothing was taken; its log:\n{}", gateway.log());

        std::os::unix::fs::symlink(&filed, &archive).unwrap();
        until(&format!("round {round}: everything to be delivered"), PATIENCE, || {
            assert!(gateway.process().is_running(), "round {round}: it ended:\n{}", gateway.log());
            match sent.missing(&archive).len() {
                0 => Ok(()),
                missing => Err(format!("{missing} of {} are missing; log:\n{}", sent.acknowledged(), gateway.log())),
            }
        });
        // The modality sends again what was refused, and this time it is taken.
        until(&format!("round {round}: room again"), RECOVERY, || {
            assert!(gateway.process().is_running(), "round {round}: it ended:\n{}", gateway.log());
            let waiting = sent.waiting();
            sent.saw(&storescu(&gateway.target(), &waiting));
            match sent.waiting().len() {
                0 => Ok(()),
                refused => Err(format!("{refused} are still refused; status:\n{}", gateway.status_text())),
            }
        });
        until(&format!("round {round}: the rest to be delivered"), PATIENCE, || match sent.missing(&archive).len() {
            0 => Ok(()),
            missing => Err(format!("{missing} are missing; log:\n{}", gateway.log())),
        });
        let corrupt = sent.corrupt(&archive);
        assert!(corrupt.is_empty(), "round {round}: not what was sent: {corrupt:?}");
        all += sent.acknowledged();

        // The next study, the next archive: this machine's disk is not the one that is to be filled.
        std::fs::remove_file(&archive).unwrap();
        std::fs::remove_dir_all(&filed).unwrap();
        std::fs::create_dir(&filed).unwrap();
        (1..=batches).for_each(|batch| {
            std::fs::remove_dir_all(place.path().join(format!("series-{round}-{batch}"))).unwrap();
        });
    }
    println!("{ROUNDS} times full: {all} instances acknowledged and delivered, {refusals} refused at first, 0 lost");
    gateway.kill();
    place.janitor.forget(&killed);
    disk.take_away(&mut place);
}
