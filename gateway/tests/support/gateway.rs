//! The gateway itself: the real binary as a child process, known by its command line alone.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::dcmtk::Target;
use super::pki::Identity;
use super::ports::free_port;
use super::process::{Finished, Process};
use super::{PATIENCE, until};

/// How the gateway is to be run.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) data: PathBuf,
    /// `--to` for each of these, in the form `NAME=URL`.
    to: Vec<String>,
    tls: Option<Identity>,
    config: Option<PathBuf>,
    allow_any: bool,
    flags: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    /// A command that runs it, and its options.
    runner: Vec<OsString>,
    listen: u16,
    listen_tls: u16,
}

impl Setup {
    /// A gateway with this data directory, on ports of its own, listening without TLS.
    pub(crate) fn new(data: PathBuf) -> Self {
        let (listen, listen_tls) = (free_port(), free_port());
        Self {
            data,
            to: Vec::new(),
            tls: None,
            config: None,
            allow_any: true,
            flags: Vec::new(),
            environment: Vec::new(),
            runner: Vec::new(),
            listen,
            listen_tls,
        }
    }

    /// One more destination.
    pub(crate) fn with_destination(mut self, name: &str, url: &str) -> Self {
        self.to.push(format!("{name}={url}"));
        self
    }

    /// One more destination: a folder.
    pub(crate) fn with_folder(self, name: &str, folder: &Path) -> Self {
        self.with_destination(name, &format!("file://{}", folder.display()))
    }

    /// A certificate for both directions, and a second listening port, with TLS.
    pub(crate) fn tls(mut self, identity: &Identity) -> Self {
        self.tls = Some(identity.clone());
        self
    }

    /// Pauses of one to two seconds between tries, instead of seconds to minutes: for tests with many outages.
    pub(crate) fn quick_retries(self) -> Self {
        let file = self.data.with_extension("toml");
        self.configured(&file, "[retry]\nfirst-delay = \"1s\"\nmax-delay = \"2s\"\n")
    }

    /// This destination, which it has already, gets what came in byte for byte, and nothing smaller. After the settings.
    pub(crate) fn without_compression(mut self, name: &str) -> Self {
        let is_meant = |to: &String| to.split('=').next() == Some(name);
        let at = self.to.iter().position(is_meant).expect("a destination of this name");
        let to = self.to.remove(at);
        let url = to.split_once('=').expect("a name and a URL").1;
        let file = self.config.clone().unwrap_or_else(|| self.data.with_extension("toml"));
        let settings = if self.config.is_some() { std::fs::read_to_string(&file).unwrap() } else { String::new() };
        self.configured(&file, &format!("{settings}\n[to.{name}]\nurl = \"{url}\"\ncompress = false\n"))
    }

    /// With these settings, written to this file.
    pub(crate) fn configured(mut self, file: &Path, settings: &str) -> Self {
        std::fs::write(file, settings).unwrap();
        self.config = Some(file.to_owned());
        self
    }

    /// Admits the modalities of its configuration only.
    pub(crate) fn admitting_named(mut self) -> Self {
        self.allow_any = false;
        self
    }

    /// With more flags for `waystation run`.
    pub(crate) fn flags<F: Into<OsString>>(mut self, flags: impl IntoIterator<Item = F>) -> Self {
        self.flags.extend(flags.into_iter().map(Into::into));
        self
    }

    /// With these settings, written to a file beside the data directory, which list the modalities.
    pub(crate) fn with_modalities(self, settings: &str) -> Self {
        let file = self.data.with_extension("toml");
        self.configured(&file, settings).admitting_named()
    }

    /// With one more variable in its environment.
    pub(crate) fn environment(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Run by another command, which must keep the process id for it.
    pub(crate) fn run_by(mut self, runner: impl IntoIterator<Item = OsString>) -> Self {
        self.runner.extend(runner);
        self
    }

    fn command(&self) -> Command {
        let mut command = match self.runner.split_first() {
            None => waystation(),
            Some((runner, options)) => {
                let mut command = outside_of_services(Command::new(runner));
                command.args(options).arg(PROGRAM);
                command
            }
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg("run");
        if let Some(file) = &self.config {
            command.arg("--config").arg(file);
        }
        command.arg("--data").arg(&self.data).args(["--aet", "WAYSTATION"]);
        command.args(self.allow_any.then_some("--allow-any"));
        command.args(["--listen", &format!("127.0.0.1:{}", self.listen)]);
        for destination in &self.to {
            command.args(["--to", destination]);
        }
        if let Some(identity) = &self.tls {
            command.args(["--listen-tls", &format!("127.0.0.1:{}", self.listen_tls)]);
            command.arg("--ca").arg(&identity.ca).arg("--cert").arg(&identity.cert).arg("--key").arg(&identity.key);
        }
        command.args(&self.flags);
        command
    }

    /// Starts it although it may be refused; the caller looks at how it ends.
    pub(crate) fn try_start(&self) -> Process {
        Process::spawn("waystation run", self.command())
    }

    /// Starts it and waits until it says that it is ready.
    pub(crate) fn start(self) -> Gateway {
        let gateway = self.begin();
        gateway.process.wait_for_line(0, PATIENCE, is_ready);
        gateway
    }

    /// Starts it and waits for nothing.
    pub(crate) fn begin(self) -> Gateway {
        Gateway { process: self.try_start(), setup: self }
    }
}

fn is_ready(line: &str) -> Option<()> {
    line.split(|letter: char| !letter.is_alphabetic()).any(|word| word == "ready").then_some(())
}

/// The binary of this build, as if started from a terminal: no journal, no service manager.
pub(crate) fn waystation() -> Command {
    outside_of_services(Command::new(PROGRAM))
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_waystation");

fn outside_of_services(mut command: Command) -> Command {
    command.env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS");
    command
}

/// What the gateway says of one destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Waiting for a try, the ones being sent included.
    pub(crate) undelivered: u64,
    pub(crate) delivered: u64,
    pub(crate) parked: u64,
    /// Failures of the destination itself, in a row.
    pub(crate) failures: u64,
}

/// A gateway that runs.
pub(crate) struct Gateway {
    setup: Setup,
    process: Process,
}

impl Gateway {
    /// How a modality calls it, without TLS.
    pub(crate) fn target(&self) -> Target {
        Target { port: self.setup.listen, called: "WAYSTATION".to_owned(), calling: "MODALITY".to_owned(), tls: None }
    }

    /// How a modality calls it with TLS, showing this certificate.
    pub(crate) fn tls_target(&self, client: &Identity) -> Target {
        Target { port: self.setup.listen_tls, tls: Some(client.clone()), ..self.target() }
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Its process.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits until it is ready, or has ended without ever being so.
    pub(crate) fn is_ready(&self) -> bool {
        self.process.line_or_end(PATIENCE, is_ready).is_some()
    }

    /// SIGKILL; the data directory stays as it is.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again with the same ports and data directory, after `kill`.
    pub(crate) fn start_again(&mut self) {
        self.process = self.setup.try_start();
        self.process.wait_for_line(0, PATIENCE, is_ready);
    }

    /// Waits for a line of its log with these words in it, among those from number `from` on; gives the number after it.
    pub(crate) fn says(&self, from: usize, words: &str) -> usize {
        self.process.wait_for_line(from, PATIENCE, |line| line.contains(words).then_some(())).1
    }

    /// SIGHUP, and waits until it has said something with these words to it.
    pub(crate) fn reload(&mut self, words: &str) {
        let from = self.process.lines().len();
        self.process.signal(Signal::SIGHUP);
        self.says(from, words);
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn terminate(mut self, limit: Duration) -> Finished {
        self.process.signal(Signal::SIGTERM);
        self.process.finish(limit)
    }

    /// The largest resident set that the process ever had, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Lets [`Gateway::peak_memory`] begin anew with what is resident now.
    pub(crate) fn forget_peak_memory(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").unwrap();
    }

    /// The answer of `waystation status --json`.
    ///
    /// # Errors
    /// What the command said instead.
    pub(crate) fn status_json(&self) -> Result<Value, String> {
        let mut command = waystation();
        command.args(["status", "--json", "--data"]).arg(&self.setup.data);
        let ended = Process::run("waystation status", command, "", PATIENCE);
        serde_json::from_str(&ended.printed).map_err(|error| format!("{error}: {}", ended.text()))
    }

    /// What `waystation status` tells a person.
    pub(crate) fn status_text(&self) -> String {
        let mut command = waystation();
        command.arg("status").arg("--data").arg(&self.setup.data);
        Process::run("waystation status", command, "", PATIENCE).text()
    }

    /// What a command says that asks this gateway.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Finished {
        let mut command = waystation();
        command.args(arguments).arg("--data").arg(&self.setup.data);
        Process::run("waystation", command, "", PATIENCE)
    }

    /// What it says of everything that is parked.
    pub(crate) fn parked_text(&self) -> String {
        let mut command = waystation();
        command.args(["receipts", "--state", "parked", "--data"]).arg(&self.setup.data);
        Process::run("waystation receipts", command, "", PATIENCE).text()
    }

    /// What it says of one destination.
    ///
    /// # Errors
    /// It does not answer, or does not know the destination.
    pub(crate) fn counters(&self, destination: &str) -> Result<Counters, String> {
        let status = self.status_json()?;
        let destinations = status["destinations"].as_array().ok_or_else(|| status.to_string())?;
        let found = destinations.iter().find(|entry| entry["name"] == destination).ok_or_else(|| status.to_string())?;
        let count = |name: &str| found[name]["instances"].as_u64().ok_or_else(|| format!("no {name} in {found}"));
        let failures = found["failures"].as_u64().ok_or_else(|| format!("no failures in {found}"))?;
        Ok(Counters {
            undelivered: count("queued")?,
            delivered: count("delivered")?,
            parked: count("parked")?,
            failures,
        })
    }

    /// Waits until nothing waits for this destination any more. What has just been acknowledged is counted a moment
    /// later, so it is looked at for a while.
    pub(crate) fn drained(&mut self, destination: &str, limit: Duration) -> Counters {
        const LOOKS: u32 = 15;
        let mut in_a_row = 0;
        self.counters_such_that(destination, limit, |counters| {
            in_a_row = if counters.undelivered == 0 { in_a_row + 1 } else { 0 };
            in_a_row == LOOKS
        })
    }

    /// Waits until the counters of this destination are as wanted.
    pub(crate) fn counters_such_that(
        &mut self,
        destination: &str,
        limit: Duration,
        mut wanted: impl FnMut(&Counters) -> bool,
    ) -> Counters {
        until(&format!("the state of {destination}"), limit, || {
            assert!(self.process.is_running(), "the gateway ended:\n{}", self.log());
            match self.counters(destination) {
                Ok(counters) if wanted(&counters) => Ok(counters),
                Ok(counters) => Err(format!("{counters:?}; its log:\n{}", self.log())),
                Err(error) => Err(error),
            }
        })
    }

    /// All that it has logged since its last start.
    pub(crate) fn all_lines(&self) -> Vec<String> {
        self.process.lines()
    }

    /// What it has logged since its last start; the last lines if it is long.
    pub(crate) fn log(&self) -> String {
        const SHOWN: usize = 60;
        let lines = self.process.lines();
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }
}
