//! ext4 on a loop device.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::janitor::{Duty, Place};
use super::support::PATIENCE;
use super::support::process::Process;

/// A file with an empty ext4 of this size. Its blocks are those of a large disk.
pub(crate) fn make(image: &Path, bytes: u64) {
    File::create(image).unwrap().set_len(bytes).unwrap();
    let image = image.to_str().unwrap();
    run("mkfs.ext4", &["-q", "-F", "-b", "4096", "-m", "0", "-e", "remount-ro", image]).unwrap();
}

/// A mounted file system.
pub(crate) struct Mounted {
    path: PathBuf,
    device: Duty,
    mount: Duty,
}

impl Mounted {
    /// Mounts the file system that is in a file, at a new folder.
    ///
    /// # Errors
    /// What the tools said.
    pub(crate) fn new(place: &mut Place, backing: &Path, name: &str, options: &str) -> Result<Self, String> {
        assert!(nix::unistd::geteuid().is_root(), "the disks of this test are loop devices: run it as root");
        let path = place.folder(name);
        let device = place.janitor.promise("detach", backing);
        let mount = place.janitor.promise("unmount", &path);
        let mounted = Self { path, device, mount };
        let name = run("losetup", &["-f", "--show", backing.to_str().unwrap()])?;
        match run("mount", &["-t", "ext4", "-o", options, name.trim(), mounted.path.to_str().unwrap()]) {
            Ok(_) => Ok(mounted),
            Err(error) => {
                mounted.take_away(place);
                Err(error)
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Unmounts it and gives its device back.
    pub(crate) fn take_away(self, place: &mut Place) {
        place.janitor.discharge(&self.mount);
        place.janitor.discharge(&self.device);
        std::fs::remove_dir(&self.path).unwrap();
    }
}

/// Runs a tool of the system and gives what it printed.
///
/// # Errors
/// It failed: what it said.
pub(crate) fn run(tool: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(tool);
    command.args(arguments);
    let ended = Process::run(tool, command, "", PATIENCE);
    if ended.status.success() { Ok(ended.printed) } else { Err(format!("{tool}: {}", ended.text())) }
}
