//! How fast instances are received, by this gateway and by others, side by side in one run: `make bench`.
//!
//! A bench target and not an example, because Cargo then builds the gateway's binary along with it, in the same
//! optimised profile, and says where it is. Without Cargo's harness, because what is measured is a process, with its
//! memory and its processor time, and not a function.
//!
//! # How it is made fair
//!
//! - Every receiver is a process of its own, started afresh for each measurement, with an empty folder on the same disk.
//!   Before each one the disk is flushed, so that nobody pays for what another has left behind.
//! - One sender for all ([`sender`]): data sets and PDUs are in memory, every instance has its own SOP Instance UID. A
//!   receiver that keeps nothing ([`nobody`]) shows that it is not the bottleneck.
//! - Rounds are interleaved and their order rotates; medians are reported, and ratios within the same round: whatever
//!   else the machine does, it does to all of them.
//! - The others sync nothing, or not everything, before they send Success. The table says who does what.
//!
//! `make bench-flush` asks what a disk with a slow flush makes of it ([`slow_disk`]).

mod load;
mod measure;
mod nobody;
mod receiver;
mod report;
mod sender;
mod slow_disk;
mod usage;

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use load::Load;
use measure::{Measured, measure};
use receiver::{Kind, repository};
use report::Row;
use slow_disk::SlowDisk;

#[derive(Parser)]
struct Arguments {
    /// How often everything is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Who receives; all if not given.
    #[arg(long, value_delimiter = ',')]
    receivers: Vec<Kind>,
    /// What is sent: ct, small, 1gib; all if not given.
    #[arg(long, value_delimiter = ',')]
    loads: Vec<String>,
    /// How many associations send at once.
    #[arg(long, value_delimiter = ',', default_value = "1,4")]
    associations: Vec<usize>,
    /// Another build of the gateway, to be measured beside this one.
    #[arg(long)]
    before: Option<PathBuf>,
    /// Says `cargo bench`.
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    mode: Option<Mode>,
}

#[derive(Subcommand)]
enum Mode {
    /// Measures on a disk whose flush takes longer. Needs root.
    Flush {
        /// How much longer, in milliseconds.
        #[arg(long, value_delimiter = ',', default_value = "0,2,10")]
        delays: Vec<u64>,
    },
    /// Plays the receiver that keeps nothing.
    #[command(hide = true)]
    Nobody { port: u16 },
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = Arguments::parse();
    if arguments.receivers.is_empty() {
        arguments.receivers = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Before).collect();
    }
    if let Some(before) = arguments.before.take() {
        receiver::BEFORE.get_or_init(|| before);
        arguments.receivers.push(Kind::Before);
    }
    match &arguments.mode {
        Some(Mode::Nobody { port }) => nobody::serve(*port),
        Some(Mode::Flush { delays }) => flush(&arguments, delays),
        None => ingest(&arguments),
    }
}

/// One thing to measure, and how many instances it takes.
struct Case<'l> {
    load: &'l Load,
    associations: usize,
    /// Instances over each association before the clock runs, and while it does.
    warm_up: usize,
    count: usize,
}

fn ingest(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let loads = loads()?;
    let mut cases = Vec::new();
    for load in
        loads.iter().filter(|load| arguments.loads.is_empty() || arguments.loads.iter().any(|name| name == load.name))
    {
        for associations in arguments.associations.iter().copied() {
            let (warm_up, count) = match load.name {
                "ct" => (12, 480_usize.div_ceil(associations.min(2))),
                "small" => (24, 1_200_usize.div_ceil(associations.min(2))),
                // Four of them at once do not fit into the memory of a small machine with those that keep them there.
                _ if associations > 1 => continue,
                _ => (0, 1),
            };
            cases.push(Case { load, associations, warm_up, count });
        }
    }
    let folder = target().join("tmp/bench");
    let mut rows = Vec::new();
    for round in 0..arguments.rounds {
        for case in &cases {
            for kind in rotated(&arguments.receivers, round) {
                let measured = measure(kind, case, &folder)?;
                say(round, case, kind, "", &measured);
                let key = (format!("{}, {}", case.load.what, of_associations(case.associations)), kind);
                rows.push(Row { round, case: key.0, kind: key.1, measured });
            }
        }
    }
    report::write(&target().join("bench/ingest.md"), &report::ingest(&rows, arguments.rounds))
}

fn flush(arguments: &Arguments, delays: &[u64]) -> Result<(), Box<dyn Error>> {
    let loads = loads()?;
    let ct = loads.first().ok_or("no load")?;
    let disk = SlowDisk::mount(&target().join("tmp/slow-disk"))?;
    let mut rows = Vec::new();
    for round in 0..arguments.rounds {
        for delay in delays.iter().copied() {
            for associations in arguments.associations.iter().copied() {
                let case = Case { load: ct, associations, warm_up: 12, count: 120_usize.div_ceil(associations.min(2)) };
                for kind in rotated(&arguments.receivers, round).filter(|kind| *kind != Kind::Nobody) {
                    disk.set_delay(delay)?;
                    let before = disk.flushes()?;
                    let mut measured = measure(kind, &case, &disk.mounted().join("bench"))?;
                    disk.set_delay(0)?;
                    // Those of the warm-up, of the start and of the end are in it, too.
                    measured.device_flushes = Some(disk.flushes()? - before);
                    let condition = format!("flush + {delay} ms");
                    say(round, &case, kind, &condition, &measured);
                    let case = format!("{condition}, {}", of_associations(associations));
                    rows.push(Row { round, case, kind, measured });
                }
            }
        }
    }
    report::write(&target().join("bench/flush.md"), &report::flush(&rows, arguments.rounds, &ct.what))
}

fn loads() -> Result<Vec<Load>, Box<dyn Error>> {
    let studies = std::env::var_os("WAYSTATION_STUDIES").map(PathBuf::from);
    load::all(studies.as_deref())
}

fn rotated(receivers: &[Kind], round: usize) -> impl Iterator<Item = Kind> {
    receivers.iter().copied().cycle().skip(round % receivers.len().max(1)).take(receivers.len())
}

fn target() -> PathBuf {
    // Where Cargo builds is where there is room.
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().map_or_else(|| repository().join("target"), Path::to_owned)
}

fn of_associations(number: usize) -> String {
    if number == 1 { "1 association".to_owned() } else { format!("{number} associations") }
}

#[expect(clippy::print_stderr, reason = "progress, for whoever waits")]
fn say(round: usize, case: &Case<'_>, kind: Kind, condition: &str, measured: &Measured) {
    eprintln!(
        "round {} {:>5} × {} {condition} {:>22}: {}",
        round + 1,
        case.load.name,
        case.associations,
        kind.name(),
        measured.in_short()
    );
}
