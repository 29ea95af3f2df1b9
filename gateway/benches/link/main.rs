//! Over a bad link, by this gateway and by others: `make bench-link`. Needs root.
//!
//! The links are emulated by two network namespaces and two threads between them (`tests/support/link`); everything else is
//! real: TCP, DCMTK, Orthanc, the gateway. Each run has a fresh link and fresh processes. The gateway's runs go one after
//! the other, with the machine to themselves; those of the others, which wait for their link nearly all the time, go
//! several at a time.
//!
//! - [`cases`]: the links and their goals. [`series`]: what is sent. [`run`]: one sender over one link. [`round`]: all of them.
//! - [`peer`], [`orthanc`], [`gateway`]: who sends and who receives. [`gateway::settings`] is what to extend when the
//!   gateway learns more.
//! - [`check`]: whether what arrived is what was sent, decoded by others' code.
//! - [`shaping`]: a limit, and a call beside the transfer. [`report`]: the tables.
//!
//! A run that comes to no end is ended after `--limit` and shown as such.

mod cases;
mod check;
mod gateway;
#[path = "../../tests/support/link/mod.rs"]
#[allow(dead_code, unused_imports, reason = "its tests use the rest of it, and a benchmark has no harness to run them")]
mod link;
mod orthanc;
mod peer;
mod report;
mod round;
mod run;
mod series;
mod shaping;
#[path = "../ingest/usage.rs"]
#[allow(dead_code, reason = "of this benchmark only the whole machine is of interest")]
mod usage;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

use link::counted::float;
use link::{Link, Settings, flows};
use report::Own;
use run::Kind;
use series::{Modality, Series};

#[derive(Parser)]
struct Arguments {
    /// Which parts: the links 10m, 10m-loss, 2m, 2m-loss, 384k, 100m, 2m-cuts, 2m-nat, and own, limit, call; all if not
    /// given.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Who sends; all if not given.
    #[arg(long, value_delimiter = ',')]
    senders: Vec<Kind>,
    /// What is sent over each link; all if not given.
    #[arg(long, value_delimiter = ',')]
    series: Vec<Modality>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Seconds after which a sender is ended.
    #[arg(long, default_value_t = 700)]
    limit: u64,
    /// So many runs of others than the gateway go on at the same time.
    #[arg(long, default_value_t = 12)]
    together: usize,
    /// A fifth of the instances, and a tenth of the time at the most: whether everything works.
    #[arg(long)]
    quick: bool,
    /// Another build of the gateway, in the place of this one.
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// A file with settings for the gateway: they stand in the table of its destination, and other tables may follow.
    #[arg(long)]
    settings: Option<PathBuf>,
    /// Says `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == part)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = Arguments::parse();
    if let Some(other) = arguments.gateway.take() {
        gateway::OTHER.get_or_init(|| other);
    }
    if let Some(file) = arguments.settings.take() {
        let settings = std::fs::read_to_string(&file)?;
        gateway::MORE.get_or_init(|| settings);
    }
    let cases = cases::all();
    let parts: Vec<&str> = cases.iter().map(|case| case.name).chain(["own", "limit", "call"]).collect();
    if let Some(unknown) = arguments.only.iter().find(|name| !parts.contains(&name.as_str())) {
        return Err(format!("there is no part {unknown:?}; there are {}", parts.join(", ")).into());
    }
    if !nix::unistd::geteuid().is_root() {
        return Err("network namespaces and devices are made: run this as root".into());
    }
    peer::clean_up_when_interrupted()?;
    let folder = scratch()?;
    std::fs::create_dir_all(&folder)?;
    let mut text = String::new();
    if arguments.wants("own") {
        text += &report::own(&own(&arguments)?);
    }
    let mut rows = Vec::new();
    for round in 0..arguments.rounds {
        rows.extend(round::run(&arguments, &cases, round, &folder)?);
    }
    text += &report::links(&cases, &rows);
    if arguments.wants("limit") || arguments.wants("call") {
        let series = Series::write(Modality::Ct, studies().as_deref(), &folder.join("series"), 400, number())?;
        let series = series.ok_or("CT can be made")?;
        if arguments.wants("limit") {
            text += &report::limits(&shaping::limits(&series, &folder.join("run"))?);
        }
        if arguments.wants("call") {
            text += &report::calls(&shaping::calls(&series, &folder.join("run"))?);
        }
    }
    std::fs::remove_dir_all(&folder)?;
    let origin = rows.first().map_or("none", |row| row.origin);
    let head = report::head(arguments.rounds, origin, !cfg!(debug_assertions));
    report::write(&target().join("bench/link.md"), &(head + &text))
}

/// The emulator's own figures.
fn own(arguments: &Arguments) -> Result<Vec<Own>, Box<dyn Error>> {
    let seconds = |seconds| Duration::from_secs(if arguments.quick { 8 } else { seconds });
    let mut rows = Vec::new();
    for (what, settings) in [
        ("10 Mbit/s, 300 ms", Settings::symmetric(10_000_000, Duration::from_millis(300), 0.0)),
        ("10 Mbit/s, 300 ms, 1 % loss", Settings::symmetric(10_000_000, Duration::from_millis(300), 0.01)),
        ("100 Mbit/s, 20 ms", Settings::symmetric(100_000_000, Duration::from_millis(20), 0.0)),
    ] {
        let link = Link::new(settings)?;
        link.open();
        let times = flows::round_trips(&link, 30)?;
        let round_trips = [0.0, 0.5].map(|share| flows::quantile(times.iter().copied(), share));
        let flood = flows::flood(&link, settings.up.rate * 2, Duration::from_secs(4))?;
        let mut shares = [0.0; 2];
        for (share, congestion) in shares.iter_mut().zip(["cubic", "bbr"]) {
            // What the flood has left in the queue is gone by then.
            std::thread::sleep(Duration::from_secs(1));
            let first = flows::stream(&link, congestion, None, seconds(20))?;
            let (from, to) = (first + Duration::from_secs(5), first + seconds(20));
            let (bytes, time) = link.up().between(from, to, |sample| sample.fresh);
            *share = float(bytes) * 8.0 / time.as_secs_f64() / float(settings.up.rate);
        }
        let round_trip = settings.up.delay + settings.down.delay;
        let own = Own { what, round_trips, round_trip, flood, rate: settings.up.rate, flows: shares };
        say(report::own(std::slice::from_ref(&own)).trim_end().lines().last().unwrap_or_default());
        rows.push(own);
    }
    Ok(rows)
}

fn studies() -> Option<PathBuf> {
    std::env::var_os("WAYSTATION_STUDIES").map(PathBuf::from)
}

/// Numbers for the SOP Instance UIDs of one series, far from those of the one before.
fn number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(100_000, Ordering::Relaxed)
}

/// A folder of this process. Those of processes that have ended without removing theirs are removed.
fn scratch() -> Result<PathBuf, Box<dyn Error>> {
    const PREFIX: &str = "bench-link-";
    let all = target().join("tmp");
    std::fs::create_dir_all(&all)?;
    for entry in std::fs::read_dir(&all)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX);
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            std::fs::remove_dir_all(all.join(&name))?;
        }
    }
    Ok(all.join(format!("{PREFIX}{}", std::process::id())))
}

fn target() -> PathBuf {
    // Where Cargo builds is where there is room.
    let repository = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().map_or_else(|| repository.join("target"), Path::to_owned)
}

#[expect(clippy::print_stderr, reason = "progress, for whoever waits")]
fn say(line: &str) {
    eprintln!("{line}");
}
