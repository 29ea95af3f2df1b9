//! The power goes, again and again, while a study comes in and goes out.

use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::amount;
use super::disk;
use super::janitor::{Duty, Place};
use super::sent::Sent;
use super::support::dcmtk::{Outcomes, storescu};
use super::support::gateway::{Gateway, Setup};
use super::support::{PATIENCE, phantom, until};
use super::volatile::{Survivors, VolatileDisk};

/// Cuts that one disk and one archive go through; then both are new.
const CUTS_PER_DISK: u32 = 25;
const DISK: u64 = 512 << 20;
const INSTANCES_PER_LIFE: u32 = 16;
/// Frames of half a mebibyte each: more than fits into a shared segment.
const LARGE_FRAMES: u32 = 24;
/// A life in which instances come in lasts up to this long from the first of them to the cut.
const LONGEST_LIFE_MILLIS: u64 = 400;
/// A start that the power does not let come to its end.
const LONGEST_START_MILLIS: u64 = 150;
const CONTROL_CUTS: u32 = 5;

/// What the cuts have met.
#[derive(Debug, Default)]
struct Figures {
    cuts: u32,
    /// Cuts before the gateway had done what the last life left to it.
    during_start: u32,
    acknowledged: usize,
    /// Cuts when there were blocks in the disk's cache alone, how many, and how many of them were lost.
    amid_writes: u32,
    volatile_blocks: u64,
    lost_blocks: u64,
}

/// A clinic with one modality, one box and one archive. The archive is a folder on a disk that is never cut.
struct Clinic {
    place: Place,
    archive: PathBuf,
    sent: Sent,
    lives: u32,
}

impl Clinic {
    fn new() -> Self {
        let place = Place::new();
        place.folder("filed");
        let archive = place.path().join("archive");
        Self { place, archive, sent: Sent::default(), lives: 0 }
    }

    fn archive_is_there(&self, there: bool) {
        match there {
            true if !self.archive.exists() => {
                std::os::unix::fs::symlink(self.place.path().join("filed"), &self.archive).unwrap();
            }
            false if self.archive.exists() => std::fs::remove_file(&self.archive).unwrap(),
            _ => {}
        }
    }

    fn new_disk(&self) -> PathBuf {
        let image = self.place.path().join(format!("image-{}", self.lives));
        disk::make(&image, DISK);
        image
    }

    /// Switches on a disk and the gateway with its data on it.
    fn switch_on(&mut self, image: PathBuf, barriers: bool) -> Result<Life, String> {
        self.lives += 1;
        let disk = VolatileDisk::switch_on(&mut self.place, &format!("disk-{}", self.lives), image, barriers)?;
        let setup = Setup::new(disk.path().join("data")).with_folder("archive", &self.archive).configured(
            &self.place.path().join("settings.toml"),
            "[spool]\nsegment-size = \"16MiB\"\nreserve = \"16MiB\"\n[retry]\nfirst-delay = \"100ms\"\nmax-delay = \"1s\"\n",
        );
        let mut gateway = setup.begin();
        let killed = self.place.janitor.promise_to_kill(gateway.process().id());
        Ok(Life { disk, gateway, killed })
    }

    /// The power goes. Gives the image that is left, and what was lost with the cache.
    fn cut(&mut self, life: Life, survivors: Survivors, random: &mut fastrand::Rng) -> (PathBuf, (u64, u64)) {
        let Life { disk, mut gateway, killed } = life;
        if random.u8(0..4) > 0 {
            disk.freeze_amid_writes(random);
        } else {
            disk.freeze();
        }
        let image = self.place.path().join(format!("image-{}", self.lives));
        let blocks = disk.copy(&image, survivors, random);
        gateway.process().signal(nix::sys::signal::Signal::SIGKILL);
        disk.thaw();
        gateway.kill();
        self.place.janitor.forget(&killed);
        drop(gateway);
        disk.throw_away(&mut self.place);
        (image, blocks)
    }

    fn everything_acknowledged_arrives(&mut self, life: &mut Life, story: &str) {
        until("everything acknowledged to be in the archive", PATIENCE, || {
            assert!(life.gateway.process().is_running(), "{story}: the gateway ended:\n{}", life.gateway.log());
            match self.sent.missing(&self.archive) {
                missing if missing.is_empty() => Ok(()),
                missing => Err(format!("{story}: missing or not whole: {missing:?}; log:\n{}", life.gateway.log())),
            }
        });
    }

    /// Makes the instances of the next life.
    fn examine(&mut self, count: u32, with_large: bool) {
        let folder = self.place.folder(&format!("series-{}", self.lives));
        self.sent.add(phantom::ct_series(&folder, count, 64));
        if with_large {
            let path = folder.join("large.dcm");
            phantom::multi_frame(&path, LARGE_FRAMES);
            self.sent.add([path]);
        }
    }

    /// Begins to send what has no answer 0000 yet, over two associations.
    fn send(&self, gateway: &Gateway) -> [JoinHandle<Outcomes>; 2] {
        let files = self.sent.waiting();
        let (left, right) = files.split_at(files.len() / 2);
        [left, right].map(|files| {
            let (target, files) = (gateway.target(), files.to_vec());
            thread::spawn(move || if files.is_empty() { Outcomes::new() } else { storescu(&target, &files) })
        })
    }

    /// The modality has sent everything, or the gateway is gone.
    fn sent(&mut self, senders: [JoinHandle<Outcomes>; 2]) {
        senders.into_iter().for_each(|sender| self.sent.saw(&sender.join().unwrap()));
    }
}

/// From power on to power off.
struct Life {
    disk: VolatileDisk,
    gateway: Gateway,
    killed: Duty,
}

fn survivors(random: &mut fastrand::Rng) -> Survivors {
    match random.u8(0..8) {
        0..3 => Survivors::None,
        3 => Survivors::All,
        _ => Survivors::Some,
    }
}

/// One disk, cut after cut. What is left by each is the disk of the next life.
fn one_disk(cuts: u32, random: &mut fastrand::Rng, seed: u64, figures: &mut Figures) {
    let mut clinic = Clinic::new();
    let mut image = clinic.new_disk();
    for cut in 1..=cuts {
        let kind = survivors(random);
        let story = format!("seed {seed}, cut {cut}, next with {kind:?} of the cache");
        clinic.archive_is_there(random.u8(0..3) > 0);
        let mut life = clinic.switch_on(image, true).unwrap_or_else(|error| panic!("{story}: {error}"));
        let blocks;
        if random.u8(0..4) == 0 {
            thread::sleep(Duration::from_millis(random.u64(0..LONGEST_START_MILLIS)));
            figures.during_start += 1;
            (image, blocks) = clinic.cut(life, kind, random);
        } else {
            assert!(life.gateway.is_ready(), "{story}: the gateway does not start:\n{}", life.gateway.log());
            clinic.archive_is_there(true);
            clinic.everything_acknowledged_arrives(&mut life, &story);
            clinic.archive_is_there(random.bool());
            clinic.examine(INSTANCES_PER_LIFE, random.u8(0..4) == 0);
            let senders = clinic.send(&life.gateway);
            thread::sleep(Duration::from_millis(random.u64(0..LONGEST_LIFE_MILLIS)));
            (image, blocks) = clinic.cut(life, kind, random);
            clinic.sent(senders);
        }
        figures.cuts += 1;
        figures.amid_writes += u32::from(blocks.0 > 0);
        figures.volatile_blocks += blocks.0;
        figures.lost_blocks += blocks.1;
    }
    let story = format!("seed {seed}, after the last cut");
    clinic.archive_is_there(true);
    let mut life = clinic.switch_on(image, true).unwrap_or_else(|error| panic!("{story}: {error}"));
    assert!(life.gateway.is_ready(), "{story}: the gateway does not start:\n{}", life.gateway.log());
    let senders = clinic.send(&life.gateway);
    clinic.sent(senders);
    assert!(clinic.sent.waiting().is_empty(), "{story}: refused: {:?}", clinic.sent.waiting());
    clinic.everything_acknowledged_arrives(&mut life, &story);
    let corrupt = clinic.sent.corrupt(&clinic.archive);
    assert!(corrupt.is_empty(), "{story}: not what was sent: {corrupt:?}");
    figures.acknowledged += clinic.sent.acknowledged();
    clinic.cut(life, Survivors::None, random);
}

/// Promise 1: a power cut one microsecond after the answer 0000 loses nothing.
#[test]
fn whatever_was_answered_0000_arrives_whole_after_every_power_cut() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let began = waystation::clock::now();
    let mut figures = Figures::default();
    let mut left = amount("WAYSTATION_CUTS", CUTS_PER_DISK);
    while left > 0 {
        let cuts = left.min(CUTS_PER_DISK);
        one_disk(cuts, &mut random, seed, &mut figures);
        left -= cuts;
        println!("{figures:?}, 0 lost, {} s", began.elapsed().as_secs());
    }
    assert!(figures.lost_blocks > 0, "the cache of the disk was always empty: nothing was tried");
}

/// The negative control: a file system that sends no flushes. If nothing is lost then, the rig notices nothing.
#[test]
fn without_flushes_the_same_power_cuts_do_lose_instances() {
    let mut random = fastrand::Rng::with_seed(7);
    let (mut acknowledged, mut lost) = (0, 0);
    for cut in 0..CONTROL_CUTS {
        let mut clinic = Clinic::new();
        let image = clinic.new_disk();
        let life = clinic.switch_on(image, false).unwrap();
        assert!(life.gateway.is_ready(), "{}", life.gateway.log());
        clinic.examine(INSTANCES_PER_LIFE, false);
        let senders = clinic.send(&life.gateway);
        clinic.sent(senders);
        acknowledged += clinic.sent.acknowledged();
        let kind = if cut % 2 == 0 { Survivors::None } else { Survivors::Some };
        let (image, _) = clinic.cut(life, kind, &mut random);
        clinic.archive_is_there(true);
        match clinic.switch_on(image, false) {
            Ok(mut life) if life.gateway.is_ready() => {
                life.gateway.drained("archive", PATIENCE);
                lost += clinic.sent.missing(Path::new(&clinic.archive)).len();
            }
            // Not even a file system, or not a place to keep anything.
            Ok(_) | Err(_) => lost += clinic.sent.acknowledged(),
        }
    }
    println!("{CONTROL_CUTS} cuts without flushes: {lost} of {acknowledged} acknowledged instances lost");
    assert!(
        lost > 0,
        "{acknowledged} instances were acknowledged without a flush, and all survived: the rig is at fault"
    );
}
