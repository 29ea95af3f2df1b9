//! Network namespaces with names, as `ip netns` makes them.

use std::fs::File;
use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where `ip netns` keeps them.
const FOLDER: &str = "/run/netns";
const PREFIX: &str = "waystation-link";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A namespace, removed when it is dropped.
pub(crate) struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// A new one, with the loopback interface up and nothing else in it. Its name tells which process it belongs to.
    pub(super) fn new(side: &str) -> io::Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}-{side}", std::process::id());
        ip(&["netns", "add", &name])?;
        let opened = File::open(format!("{FOLDER}/{name}"));
        let file = opened.inspect_err(|_| drop(ip(&["netns", "delete", &name])))?;
        let namespace = Self { name, file };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Does something on a thread that is in this namespace: sockets it makes and processes it starts are in it for good.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let inside = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        };
        std::thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|_| Err(io::Error::other("what was done in a namespace panicked")))
    }

    /// Runs `ip` for this namespace.
    pub(crate) fn ip(&self, arguments: &[&str]) -> io::Result<()> {
        ip(&[&["-n", &self.name], arguments].concat()).map(drop)
    }

    /// Sets a variable below `/proc/sys/net` for this namespace.
    pub(crate) fn set(&self, variable: &str, value: &str) -> io::Result<()> {
        self.enter(|| std::fs::write(format!("/proc/sys/net/{variable}"), value))?
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing can be done about it here; the next one who makes a link sweeps.
        drop(ip(&["netns", "delete", &self.name]));
    }
}

/// Removes the namespaces of processes that have ended without doing so, and ends what still runs in them.
pub(crate) fn sweep() {
    remove(|process| !std::path::Path::new(&format!("/proc/{process}")).exists());
}

/// The same with those of this process, which is about to end.
pub(crate) fn remove_own() {
    remove(|process| process == std::process::id());
}

fn remove(whose: impl Fn(u32) -> bool) {
    for entry in std::fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1)).and_then(|id| id.parse().ok());
        if owner.is_some_and(&whose) {
            // Nobody else can have started anything in it. Another one who sweeps may have been faster.
            for process in ip(&["netns", "pids", &name]).unwrap_or_default().lines().filter_map(|id| id.parse().ok()) {
                let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
            }
            drop(ip(&["netns", "delete", &name]));
        }
    }
}

/// Runs `ip`. Gives what it printed.
fn ip(arguments: &[&str]) -> io::Result<String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("ip").env("PATH", path).args(arguments).output();
    let output =
        output.map_err(|error| io::Error::other(format!("ip cannot be started ({error}): install iproute2")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("ip {}: {said}", arguments.join(" "))))
}
