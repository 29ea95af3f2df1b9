//! A disk whose flush takes as long as it is told, and which counts them.
//!
//! ```text
//! ext4 ─▶ loop device ─▶ a file that nbdfuse shows ─▶ nbdkit with slow_flush.c ─▶ a sparse file
//! ```
//!
//! nbdkit's own `delay` filter delays reads and writes, not flushes. Both flushes of the device count: those that a
//! receiver asked for and those of the file system's journal.

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use waystation::clock::now;

const SIZE: u64 = 4 << 30;

/// A mounted disk; dropping it takes everything down again.
pub(crate) struct SlowDisk {
    control: File,
    mounted: PathBuf,
    /// What undoes each step that was taken, in the order of the steps.
    undo: Vec<Command>,
    servers: Vec<Child>,
    folder: PathBuf,
}

impl SlowDisk {
    /// Makes and mounts one below `folder`.
    pub(crate) fn mount(folder: &Path) -> Result<Self, Box<dyn Error>> {
        fs::create_dir_all(folder.join("device"))?;
        fs::create_dir_all(folder.join("mounted"))?;
        let [image, control, socket, device] =
            ["image", "control", "socket", "device/disk"].map(|name| folder.join(name));
        File::create(&image)?.set_len(SIZE)?;
        fs::write(&control, [0; 16])?;
        // One that is left from a run that was killed.
        let _ = fs::remove_file(&socket);
        let mut disk = Self {
            control: File::options().read(true).write(true).open(&control)?,
            mounted: folder.join("mounted"),
            undo: Vec::new(),
            servers: Vec::new(),
            folder: folder.to_owned(),
        };

        let plugin = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/ingest/slow_flush.c");
        let mut nbdkit = Command::new("nbdkit");
        nbdkit.args(["--foreground", "--exit-with-parent", "--unix"]).arg(&socket).arg("cc").arg(plugin);
        nbdkit.arg(argument("image=", &image)).arg(argument("control=", &control));
        disk.serve(nbdkit, &socket)?;
        let mut nbdfuse = Command::new("nbdfuse");
        nbdfuse.arg(&device).arg("--unix").arg(&socket);
        disk.serve(nbdfuse, &device)?;
        disk.undo.push(command("fusermount3", ["-u".as_ref(), folder.join("device").as_path()]));

        let looped = run(command("losetup", ["--find", "--show"].map(Path::new).into_iter().chain([&*device])))?;
        let looped = PathBuf::from(looped.trim());
        disk.undo.push(command("losetup", ["--detach".as_ref(), &*looped]));
        run(command(
            "mkfs.ext4",
            ["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"].map(Path::new).into_iter().chain([&*looped]),
        ))?;
        run(command("mount", [&*looped, &*disk.mounted]))?;
        disk.undo.push(command("umount", [&*disk.mounted]));
        Ok(disk)
    }

    /// Where to write.
    pub(crate) fn mounted(&self) -> &Path {
        &self.mounted
    }

    /// From now on a flush takes so much longer.
    pub(crate) fn set_delay(&self, milliseconds: u64) -> std::io::Result<()> {
        self.control.write_all_at(&(milliseconds * 1_000).to_ne_bytes(), 0)
    }

    /// Flushes so far.
    pub(crate) fn flushes(&self) -> std::io::Result<u64> {
        let mut number = [0; 8];
        self.control.read_exact_at(&mut number, 8)?;
        Ok(u64::from_ne_bytes(number))
    }

    /// Starts a server and waits for the file with which it begins to serve.
    fn serve(&mut self, mut server: Command, shows: &Path) -> Result<(), Box<dyn Error>> {
        let name = server.get_program().to_owned();
        let missing = |error| format!("{} cannot be started ({error}): run scripts/setup-bench-peers", name.display());
        self.servers.push(server.spawn().map_err(missing)?);
        let began = now();
        while !shows.exists() {
            if began.elapsed() > Duration::from_secs(20) {
                return Err(format!("{} does not serve {}", name.display(), shows.display()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // Best effort, the last step first; what cannot be undone has said why on its standard error.
        for step in self.undo.iter_mut().rev() {
            let _ = step.status();
        }
        for server in self.servers.iter_mut().rev() {
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn argument(key: &str, path: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from(key);
    argument.push(path);
    argument
}

fn command<'a>(program: &str, arguments: impl IntoIterator<Item = &'a Path>) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    command.args(arguments);
    command
}

fn run(mut command: Command) -> Result<String, Box<dyn Error>> {
    let output = command.output().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{} failed (this needs root): {words}", command.get_program().display()).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
