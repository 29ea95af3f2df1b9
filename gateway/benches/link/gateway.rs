//! The gateway in a namespace, known by its command line alone.

use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use super::link::namespace::Namespace;
use super::peer::Peer;

/// Where it listens, on the near side for modalities and on the far side for the other gateway.
pub(crate) const PORT: u16 = 11_112;
/// What the command line puts in the place of this build, and adds to the settings of every scenario.
pub(crate) static OTHER: OnceLock<PathBuf> = OnceLock::new();
pub(crate) static MORE: OnceLock<String> = OnceLock::new();

/// What it is to do with the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// As it comes.
    Plain,
    /// 2 Mbit/s over 8 associations.
    Limit,
    /// A call is beside it.
    Courteous,
}

/// The settings of a scenario: they stand in `[to.archive]` behind the URL, and other tables may follow. `None` if it has
/// none for it yet. This is the one place to extend when it learns more.
pub(crate) fn settings(scenario: Scenario) -> Option<String> {
    let own = match scenario {
        Scenario::Plain => "",
        Scenario::Limit => "associations = 8\nmax-send-rate = \"2Mbit/s\"\n",
        Scenario::Courteous => "associations = 8\ncourteous = \"50ms\"\n",
    };
    Some(own.to_owned() + MORE.get().map_or("", String::as_str))
}

fn program() -> Command {
    Command::new(OTHER.get().map_or(Path::new(env!("CARGO_BIN_EXE_waystation")), PathBuf::as_path))
}

/// One that runs.
pub(crate) struct Gateway {
    pub(crate) peer: Peer,
    data: PathBuf,
}

/// Instances, by what has become of them at the destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) queued: u64,
    pub(crate) delivered: u64,
    pub(crate) parked: u64,
}

impl Gateway {
    /// Starts it with one destination, and waits until it listens.
    pub(crate) fn start(
        name: &str,
        namespace: &Namespace,
        listen: Ipv4Addr,
        folder: &Path,
        to: &str,
        settings: &str,
    ) -> Result<Self, Box<dyn Error>> {
        let (data, file) = (folder.join(name), folder.join(format!("{name}.toml")));
        fs::write(&file, format!("[to.archive]\nurl = \"{to}\"\n{settings}"))?;
        let address = SocketAddr::from((listen, PORT));
        let mut command = program();
        command.arg("run").arg("--config").arg(file).arg("--data").arg(&data);
        command.args(["--aet", "WAYSTATION", "--allow-any", "--listen", &address.to_string()]);
        let mut peer = Peer::start(name, namespace, folder, command)?;
        peer.listens(namespace, address)?;
        Ok(Self { peer, data })
    }

    /// What it says of its destination; `None` if it does not answer.
    pub(crate) fn counters(&self) -> Option<Counters> {
        let output = program().args(["status", "--json", "--data"]).arg(&self.data).output().ok()?;
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        let destination = status["destinations"].get(0)?;
        let count = |name: &str| destination[name]["instances"].as_u64();
        Some(Counters { queued: count("queued")?, delivered: count("delivered")?, parked: count("parked")? })
    }
}
