//! Processes inside a namespace. Each is ended, with those that it has started itself, by its id when the value that stands
//! for it is dropped.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::Pid;
use waystation::clock::now;

use super::link::namespace::{self, Namespace};

/// Those that run, for when this process is interrupted.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// How long a peer may take to start on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A process that runs or has ended.
pub(crate) struct Peer {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Peer {
    /// Starts it; what it writes goes into `NAME.log` in `folder`.
    pub(crate) fn start(
        name: &str,
        namespace: &Namespace,
        folder: &Path,
        mut command: Command,
    ) -> Result<Self, Box<dyn Error>> {
        let path = folder.join(format!("{name}.log"));
        let log = File::create(&path)?;
        // Debian's builds on DCMTK leave Nagle's algorithm on, which costs them 40 ms for each instance.
        command.env("TCP_NODELAY", "1");
        // Debian keeps servers in folders that are not in everybody's search path.
        command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
        command.env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS");
        // storescp starts a process for each association.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let spawn = || {
            // A child has the signal mask of the thread that starts it.
            let _ = interrupts().thread_unblock();
            command.spawn()
        };
        let missing = |error| format!("{name} cannot be started ({error}): run scripts/setup-test-peers");
        let child = namespace.enter(spawn)?.map_err(missing)?;
        running().push(child.id());
        Ok(Self { name: name.to_owned(), child, log: path })
    }

    /// Waits until something listens at this address.
    pub(crate) fn listens(&mut self, namespace: &Namespace, address: SocketAddr) -> Result<(), Box<dyn Error>> {
        self.until("to listen", PATIENCE, || {
            Ok(namespace.enter(|| std::net::TcpStream::connect(address))?.is_ok().then_some(()))
        })
    }

    /// Looks again and again until there is a value.
    pub(crate) fn until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> Result<Option<T>, Box<dyn Error>>,
    ) -> Result<T, Box<dyn Error>> {
        let began = now();
        loop {
            if let Some(value) = look()? {
                return Ok(value);
            }
            if self.has_ended() {
                return Err(format!("{} ended:\n{}", self.name, self.last_words()).into());
            }
            if began.elapsed() > limit {
                let said = self.last_words();
                return Err(format!("waited {limit:?} for {} {what}; it said:\n{said}", self.name).into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether it has ended well, if it has.
    pub(crate) fn outcome(&mut self) -> Option<bool> {
        self.child.try_wait().ok().flatten().map(|status| status.success())
    }

    /// The last of what it wrote.
    pub(crate) fn last_words(&self) -> String {
        let mut text = Vec::new();
        // What cannot be read is not shown.
        drop(File::open(&self.log).and_then(|mut log| log.read_to_end(&mut text)));
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        end(self.child.id());
        drop(self.child.wait());
        running().retain(|id| *id != self.child.id());
    }
}

/// Kills a process and those that it has started. They may be gone already.
fn end(id: u32) {
    if let Ok(id) = i32::try_from(id) {
        let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
    }
}

fn running() -> std::sync::MutexGuard<'static, Vec<u32>> {
    RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn interrupts() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect()
}

/// From now on SIGINT, SIGTERM and SIGHUP end the peers and remove the namespaces before they end this process. To be
/// called before there are threads.
pub(crate) fn clean_up_when_interrupted() -> nix::Result<()> {
    let signals = interrupts();
    signals.thread_block()?;
    std::thread::spawn(move || {
        if signals.wait().is_ok() {
            running().iter().copied().for_each(end);
            namespace::remove_own();
            std::process::exit(130);
        }
    });
    Ok(())
}
