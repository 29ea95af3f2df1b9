//! The spool with a million queued instances, beside an empty one: `make bench-scale`.
//!
//! What is measured is the spool as a library in a process of its own ([`worker`]), which this one starts, asks and
//! kills; so its memory is that of a spool and nothing else. Two of them, one with a long queue and one that was empty
//! at the start, receive in turn, block by block; between two blocks the index catches up. Whatever else the machine
//! does, it does to both.
//!
//! The instances are small, so that the log does not hide the index, and their SOP Instance UIDs are random, which is
//! the worst that can happen to a table that is ordered by them.

mod instances;
mod report;
mod worker;

use std::error::Error;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use report::{Latencies, Report};
use worker::Worker;

type Failure = Box<dyn Error>;

#[derive(Parser)]
struct Arguments {
    /// How many instances are queued.
    #[arg(long, default_value_t = 1_000_000)]
    instances: u64,
    /// How often each of the two spools receives a block.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Instances in a block.
    #[arg(long, default_value_t = 2_000)]
    block: u64,
    /// Deliveries that are claimed and recorded.
    #[arg(long, default_value_t = 20_000)]
    deliveries: u64,
    /// Leaves the long queue on the disk, for the next run to use.
    #[arg(long)]
    keep: bool,
    /// Says `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    mode: Option<Mode>,
}

#[derive(Subcommand)]
enum Mode {
    /// Opens a spool and does what it reads from its standard input.
    #[command(hide = true)]
    Worker { folder: PathBuf },
}

/// Receivers at once while the queue is filled.
const FILLING: u64 = 64;
/// Receivers at once while latencies are measured.
const RECEIVERS: [u64; 2] = [1, 4];
/// Free room that a million instances need with some to spare, in bytes for each instance.
const ROOM_PER_INSTANCE: u64 = 8_192;

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    if let Some(Mode::Worker { folder }) = &arguments.mode {
        return worker::serve(folder);
    }
    let folder = target().join("tmp/bench-scale");
    let report = measure(&arguments, &folder)?;
    if !arguments.keep {
        fs::remove_dir_all(&folder)?;
    }
    report::write(&target().join("bench/scale.md"), &report)
}

fn measure(arguments: &Arguments, folder: &Path) -> Result<Report, Failure> {
    let (full, empty) = (folder.join("full"), folder.join("empty"));
    fs::create_dir_all(folder)?;
    if empty.exists() {
        fs::remove_dir_all(&empty)?;
    }
    let mut report = Report { instances: arguments.instances, ..Report::default() };
    fill(&full, arguments.instances)?;

    // A start after an end in order, and one after a kill in the middle of receptions.
    let mut worker = Worker::start(&full)?;
    report.open = worker.opened;
    // redb makes the file longer ahead of its use: what counts is what it takes on the disk.
    report.index_bytes = fs::metadata(full.join("index.redb"))?.blocks() * 512;
    worker.receive(FILLING, 2_000)?;
    worker.kill()?;
    let mut long = Worker::start(&full)?;
    report.open_after_kill = long.opened;

    let mut short = Worker::start(&empty)?;
    for receivers in RECEIVERS {
        let mut both = [Latencies::default(), Latencies::default()];
        for round in 0..arguments.rounds {
            for turn in 0..2 {
                let which = (round + turn) % 2;
                let (worker, latencies) = match which {
                    0 => (&mut short, &mut both[0]),
                    _ => (&mut long, &mut both[1]),
                };
                latencies.add(&worker.receive(receivers, arguments.block)?);
            }
        }
        say(&format!("{receivers} at once: empty {}, full {}", both[0], both[1]));
        report.receptions.push((receivers, both));
    }
    report.delivered_empty = short.deliver(arguments.deliveries)?;
    report.delivered = long.deliver(arguments.deliveries)?;
    report.memory = long.memory()?;
    report.written = [short.written_per_reception()?, long.written_per_reception()?];
    short.end()?;
    long.end()?;
    Ok(report)
}

/// Makes the long queue, unless a kept one is there.
fn fill(folder: &Path, instances: u64) -> Result<(), Failure> {
    let mut worker = Worker::start(folder)?;
    let there = worker.queued()?;
    let missing = instances.saturating_sub(there);
    let free = nix::sys::statvfs::statvfs(folder)?;
    let free = free.blocks_available() * free.fragment_size();
    if free < missing * ROOM_PER_INSTANCE + (4 << 30) {
        let needed = ((missing * ROOM_PER_INSTANCE) >> 30) + 4;
        return Err(format!("{needed} GiB are needed below {}, and {} are free", folder.display(), free >> 30).into());
    }
    let mut left = missing;
    while left > 0 {
        let now = left.min(100_000);
        worker.receive(FILLING, now)?;
        left -= now;
        say(&format!("{} instances queued", instances - left));
    }
    worker.end()
}

fn target() -> PathBuf {
    // Where Cargo builds is where there is room.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    folder.parent().unwrap_or(folder).to_owned()
}

#[expect(clippy::print_stderr, reason = "progress, for whoever waits")]
fn say(text: &str) {
    eprintln!("{text}");
}
