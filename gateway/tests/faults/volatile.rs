//! A disk whose cache forgets, as every disk's does.
//!
//! ```text
//! ext4 ─▶ loop device ─▶ file of nbdfuse ─▶ nbdkit ─┬─▶ cache  (lost in a power cut)
//!                                            flush: └─▶ image  (what the platter has)
//! ```
//!
//! nbdkit keeps writes in its cache and moves them to the image when it is told to flush, and only then. A power cut is a
//! copy of the image, taken while nbdkit is stopped: a flush that has been answered is in it, whatever was written since
//! is not. A real disk also writes on its own account, in any order: so some of the blocks that are in the cache alone
//! may be put into the copy, or some of the sectors of a block ([`Survivors`]).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, Whence, lseek};

use super::disk::{Mounted, run};
use super::janitor::{Duty, Place};
use super::support::{PATIENCE, until};

/// What nbdkit caches at a time; also the block of the file system.
const BLOCK: usize = 4_096;
/// What a block takes on its way from the cache to the image: a flush lasts long enough to be cut in its middle.
const PLATTER: &str = "delay-write=1ms";
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// What becomes of the blocks that are in the cache alone when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Survivors {
    None,
    /// Each with a chance of one half; of the others, some of the sectors with a chance of one eighth.
    Some,
    All,
}

/// A disk that is switched on, with its file system mounted.
pub(crate) struct VolatileDisk {
    image: PathBuf,
    server: Child,
    bridge: Child,
    /// Of the server and of the bridge, in the order in which they are to be done.
    duties: [Duty; 2],
    mounted: Mounted,
}

impl VolatileDisk {
    /// Switches on the disk with this image, and mounts it. Without `barriers` the file system sends no flushes.
    ///
    /// # Errors
    /// The file system cannot be mounted.
    pub(crate) fn switch_on(place: &mut Place, name: &str, image: PathBuf, barriers: bool) -> Result<Self, String> {
        let folder = place.folder(name);
        let (bridge_folder, socket, file) = (folder.join("bridge"), folder.join("nbd"), folder.join("bridge/disk"));
        std::fs::create_dir(&bridge_folder).unwrap();

        let pid_file = folder.join("nbdkit.pid");
        let server_duty = place.janitor.promise("end", &pid_file);
        let mut command = Command::new("nbdkit");
        command.args(["-f", "-P"]).arg(&pid_file).arg("-U").arg(&socket).args([
            "--filter=cache",
            "--filter=delay",
            "file",
        ]);
        command.arg(&image).args(["cache=writeback", &format!("cache-min-block-size={BLOCK}"), PLATTER]);
        let server = start(command.env("TMPDIR", &folder));
        wait_for("nbdkit", &pid_file);

        let pid_file = folder.join("nbdfuse.pid");
        let bridge_duty = place.janitor.promise("unfuse", &bridge_folder);
        let mut command = Command::new("nbdfuse");
        command.arg("-P").arg(&pid_file).arg(&file).arg("--unix").arg(&socket);
        let bridge = start(&mut command);
        wait_for("nbdfuse", &pid_file);

        let options = if barriers { "barrier=1" } else { "barrier=0" };
        // A stopped server would keep the file system from being unmounted.
        place.janitor.promise("wake", &folder.join("nbdkit.pid"));
        let duties = [bridge_duty, server_duty];
        match Mounted::new(place, &file, &format!("{name}-mounted"), options) {
            Ok(mounted) => Ok(Self { image, server, bridge, duties, mounted }),
            Err(error) => {
                switch_off(place, &duties, server, bridge);
                Err(error)
            }
        }
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        self.mounted.path()
    }

    /// Stops the disk between two requests: from now on nothing becomes durable and no flush is answered.
    pub(crate) fn freeze(&self) {
        let server = process_id(&self.server);
        kill(server, Signal::SIGSTOP).unwrap();
        waitid(Id::Pid(server), WaitPidFlag::WSTOPPED).unwrap();
    }

    /// Stops the disk while something is in its cache alone, which is so between a write and the end of the flush after
    /// it; or at any moment, if that does not come soon.
    pub(crate) fn freeze_amid_writes(&self, random: &mut fastrand::Rng) {
        const LOOKS: u32 = 40;
        for _ in 1..LOOKS {
            self.freeze();
            let image = File::open(&self.image).unwrap();
            if differences(&self.cache(), &image).next().is_some() {
                return;
            }
            self.thaw();
            thread::sleep(Duration::from_micros(random.u64(0..8_000)));
        }
        self.freeze();
    }

    /// Copies what a power cut would leave. Gives the number of blocks that were in the cache alone, and how many of them
    /// are lost wholly or in part.
    pub(crate) fn copy(&self, copy: &Path, survivors: Survivors, random: &mut fastrand::Rng) -> (u64, u64) {
        let (from, to) = (self.image.to_str().unwrap(), copy.to_str().unwrap());
        run("cp", &["--sparse=always", from, to]).unwrap();
        let target = File::options().read(true).write(true).open(copy).unwrap();
        let (mut volatile, mut lost) = (0, 0);
        for (offset, cached) in differences(&self.cache(), &target) {
            volatile += 1;
            let survives = match survivors {
                Survivors::None => 0..0,
                Survivors::All => 0..BLOCK,
                Survivors::Some if random.bool() => 0..BLOCK,
                Survivors::Some if random.u8(0..8) == 0 => {
                    let middle = random.usize(1..BLOCK / SECTOR) * SECTOR;
                    if random.bool() { 0..middle } else { middle..BLOCK }
                }
                Survivors::Some => 0..0,
            };
            lost += u64::from(survives.len() < BLOCK);
            target.write_all_at(&cached[survives.clone()], offset + u64::try_from(survives.start).unwrap()).unwrap();
        }
        (volatile, lost)
    }

    /// Lets it go on, so that whoever waits for it can end.
    pub(crate) fn thaw(&self) {
        kill(process_id(&self.server), Signal::SIGCONT).unwrap();
    }

    /// Unmounts it and throws it away. Nobody may use it any more.
    pub(crate) fn throw_away(self, place: &mut Place) {
        self.mounted.take_away(place);
        switch_off(place, &self.duties, self.server, self.bridge);
        std::fs::remove_file(&self.image).unwrap();
    }

    /// The file without a name in which nbdkit caches; a block is at its place on the disk, the rest are holes.
    fn cache(&self) -> File {
        let folder = format!("/proc/{}/fd", self.server.id());
        let mut unnamed = std::fs::read_dir(folder).unwrap().filter_map(|entry| {
            let entry = entry.unwrap().path();
            let target = std::fs::read_link(&entry).ok()?;
            let target = target.to_str()?;
            (target.starts_with('/') && target.ends_with(" (deleted)")).then_some(entry)
        });
        let cache = unnamed.next().expect("nbdkit has no cache");
        assert!(unnamed.next().is_none(), "nbdkit has two files without a name");
        File::open(cache).unwrap()
    }
}

/// The blocks that are in the cache and not, or not like that, in the image.
fn differences(cache: &File, image: &File) -> impl Iterator<Item = (u64, Vec<u8>)> {
    blocks(cache).into_iter().filter_map(|offset| {
        let (mut cached, mut kept) = (vec![0; BLOCK], vec![0; BLOCK]);
        cache.read_exact_at(&mut cached, offset).unwrap();
        image.read_exact_at(&mut kept, offset).unwrap();
        (cached != kept).then_some((offset, cached))
    })
}

/// The offsets of all blocks of a file that are not in a hole.
fn blocks(file: &File) -> Vec<u64> {
    let mut offsets = Vec::new();
    let mut from = 0;
    loop {
        let start = match lseek(file, from, Whence::SeekData) {
            Ok(start) => start,
            Err(Errno::ENXIO) => return offsets,
            Err(error) => panic!("cannot look for data in the cache: {error}"),
        };
        from = lseek(file, start, Whence::SeekHole).unwrap();
        let block = i64::try_from(BLOCK).unwrap();
        let first = start / block * block;
        offsets.extend((first..from).step_by(BLOCK).map(|offset| u64::try_from(offset).unwrap()));
    }
}

/// In a process group of its own: what interrupts the test does not end it before the janitor does.
fn start(command: &mut Command) -> Child {
    let name = command.get_program().to_string_lossy().into_owned();
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap_or_else(|error| {
        panic!("{name} cannot be started ({error}): run scripts/setup-test-peers, which installs it")
    })
}

fn wait_for(name: &str, pid_file: &Path) {
    until(&format!("{name} to be ready"), PATIENCE, || {
        std::fs::read_to_string(pid_file).ok().filter(|text| !text.is_empty()).ok_or_else(|| "it is not".to_owned())
    });
}

fn process_id(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

fn switch_off(place: &mut Place, duties: &[Duty], mut server: Child, mut bridge: Child) {
    duties.iter().for_each(|duty| place.janitor.discharge(duty));
    server.wait().unwrap();
    bridge.wait().unwrap();
}
