//! The receivers, each as its own process, each set to its best.

use std::error::Error;
use std::fs::{self, File};
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use waystation::clock::now;

/// Where the other build of the gateway is, if one is to be measured beside this one.
pub(crate) static BEFORE: OnceLock<PathBuf> = OnceLock::new();

/// Who receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Kind {
    /// This gateway.
    Waystation,
    /// Another build of it.
    #[value(skip)]
    Before,
    /// DCMTK's storescp, one process; with several associations one for each.
    Storescp,
    /// Orthanc.
    Orthanc,
    /// dicom-rs's storescp.
    DicomStorescp,
    /// Nobody: reads the bytes and answers. What the sender and the loopback interface can do at most.
    Nobody,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Waystation, Self::Before, Self::Storescp, Self::Orthanc, Self::DicomStorescp, Self::Nobody];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Waystation => "**Waystation**",
            Self::Before => "Waystation, before",
            Self::Storescp => "DCMTK storescp",
            Self::Orthanc => "Orthanc",
            Self::DicomStorescp => "dicom-storescp",
            Self::Nobody => "*(reads and answers)*",
        }
    }

    /// Another product, to be compared with.
    pub(crate) fn is_peer(self) -> bool {
        matches!(self, Self::Storescp | Self::Orthanc | Self::DicomStorescp)
    }

    /// Whether it can be asked about its spool.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Waystation | Self::Before)
    }

    /// The binary of this build, or of the other one, as if started from a terminal.
    fn gateway(self) -> Command {
        let other = BEFORE.get().filter(|_| self == Self::Before);
        let mut command = Command::new(other.map_or(Path::new(env!("CARGO_BIN_EXE_waystation")), PathBuf::as_path));
        command.env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS");
        command
    }

    /// What is on the disk, and not only in its cache, when Success is sent.
    pub(crate) fn synced(self) -> &'static str {
        match self {
            Self::Waystation | Self::Before => "instance and queue entry",
            Self::Storescp | Self::DicomStorescp => "nothing",
            Self::Orthanc => "the file, not its index",
            Self::Nobody => "nothing is kept",
        }
    }

    /// Its AE title.
    pub(crate) fn called(self) -> &'static str {
        match self {
            Self::Waystation | Self::Before => "WAYSTATION",
            Self::Orthanc => "ORTHANC",
            Self::DicomStorescp => "STORE-SCP",
            Self::Storescp | Self::Nobody => "BENCH",
        }
    }

    fn command(self, folder: &Path, port: u16, associations: usize) -> Result<Command, Box<dyn Error>> {
        Ok(match self {
            Self::Waystation | Self::Before => {
                let mut command = self.gateway();
                command.arg("run").arg("--data").arg(folder.join("data"));
                command.args(["--aet", self.called(), "--allow-any", "--listen", &format!("127.0.0.1:{port}")]);
                // Nobody listens there: the archive is away, and what comes in stays.
                command.args(["--to", "away=dicom://AWAY@127.0.0.1:1"]);
                command
            }
            Self::Storescp => {
                let mut command = Command::new("storescp");
                command.args(["+B", "+xa", "-pm", "-pdu", "131072", "-aet", self.called()]);
                command.arg(if associations > 1 { "--fork" } else { "--single-process" });
                command.arg("-od").arg(folder).arg(port.to_string());
                command
            }
            Self::Orthanc => {
                let settings = json!({
                    "Name": "bench",
                    "StorageDirectory": folder.join("storage"),
                    "IndexDirectory": folder.join("storage"),
                    "Plugins": [],
                    "HttpPort": free_port()?,
                    "RemoteAccessAllowed": false,
                    "AuthenticationEnabled": false,
                    "DicomAet": self.called(),
                    "DicomPort": port,
                    "DicomAlwaysAllowStore": true,
                    "UnknownSopClassAccepted": true,
                });
                let file = folder.join("orthanc.json");
                fs::write(&file, settings.to_string())?;
                let mut command = Command::new("Orthanc");
                command.arg(file);
                command
            }
            Self::DicomStorescp => {
                let mut command = Command::new(repository().join("target/peers/bin/dicom-storescp"));
                command.args(["--promiscuous", "--max-pdu-length", "131072"]);
                if associations > 1 {
                    command.arg("--non-blocking");
                }
                command.arg("-o").arg(folder).args(["-p", &port.to_string()]);
                command
            }
            Self::Nobody => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["nobody", &port.to_string()]);
                command
            }
        })
    }
}

pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A receiver that runs, in a folder of its own.
pub(crate) struct Receiver {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    child: Child,
    folder: PathBuf,
}

impl Receiver {
    /// Starts it with everything that it writes below `folder`, which is made. It may take a while until it listens.
    pub(crate) fn start(kind: Kind, folder: &Path, associations: usize) -> Result<Self, Box<dyn Error>> {
        fs::create_dir_all(folder)?;
        let port = free_port()?;
        let mut command = kind.command(folder, port, associations)?;
        // Debian's builds on DCMTK leave Nagle's algorithm on, which costs them 40 ms for each instance.
        command.env("TCP_NODELAY", "1").env("RUST_LOG", "warn");
        // Debian keeps servers in folders that are not in everybody's search path.
        command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
        let log = File::create(folder.join("bench.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let missing = |error| format!("{} cannot be started ({error}): run scripts/setup-bench-peers", kind.name());
        let child = command.spawn().map_err(missing)?;
        Ok(Self { kind, address: SocketAddr::from(([127, 0, 0, 1], port)), child, folder: folder.to_owned() })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The last of what it wrote to its standard output and error, for when something went wrong.
    pub(crate) fn last_words(&self) -> String {
        let mut text = String::new();
        let read = File::open(self.folder.join("bench.log")).and_then(|mut log| log.read_to_string(&mut text));
        let lines: Vec<&str> = text.lines().collect();
        read.map_or_else(
            |error| error.to_string(),
            |_| lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n"),
        )
    }

    /// What the gateway says of its spool.
    pub(crate) fn spool(&self) -> Result<Value, Box<dyn Error>> {
        let output = self.kind.gateway().args(["status", "--json", "--data"]).arg(self.folder.join("data")).output()?;
        let mut status: Value = serde_json::from_slice(&output.stdout)?;
        Ok(status["spool"].take())
    }
}

impl Drop for Receiver {
    /// Ends it, and removes what it has written.
    fn drop(&mut self) {
        let id = i32::try_from(self.child.id()).map(Pid::from_raw);
        let asked = id.is_ok_and(|id| kill(id, Signal::SIGTERM).is_ok());
        let began = now();
        while asked && began.elapsed() < Duration::from_secs(5) && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
