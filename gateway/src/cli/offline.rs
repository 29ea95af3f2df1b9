//! `waystation spool …`: the data folder of a gateway that does not run.

#![expect(clippy::print_stdout, reason = "this is where the command speaks to its user")]

use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use log::LevelFilter;
use waystation::logging;
use waystation::rescue::{self, Progress, RescueError};
use waystation::spool::{self, SpoolOptions};

use super::render::{bytes, count};
use super::{Failure, SpoolCommand};

/// Damaged places that are named; there may be very many.
const NAMED: usize = 50;

pub(crate) fn run(command: &SpoolCommand, log_level: Result<LevelFilter, Failure>) -> Result<(), Failure> {
    match command {
        SpoolCommand::Check(folder) => check(&folder.data),
        SpoolCommand::Reindex(folder) => {
            logging::init(log_level?).map_err(|error| Failure::Failed(error.to_string()))?;
            reindex(&folder.data)
        }
        SpoolCommand::Rescue { data, out } => rescue(&data.data, out),
    }
}

fn failed(error: &RescueError) -> Failure {
    Failure::Failed(error.to_string())
}

pub(super) fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar
}

fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_message(format!("{} records, {}", count(progress.records), bytes(progress.bytes)));
    bar.tick();
}

fn check(data: &Path) -> Result<(), Failure> {
    let bar = spinner();
    let checked = rescue::check(data, |progress| show(&bar, progress));
    bar.finish_and_clear();
    let checked = checked.map_err(|error| failed(&error))?;
    println!("{} instances are whole: {} of data sets", count(checked.whole), bytes(checked.bytes));
    match &checked.index_problem {
        Some(problem) => println!(
            "the index cannot be used: {problem}; the next start builds it again from the log, and so does \
             waystation spool reindex"
        ),
        None => println!(
            "{} of them still have to be delivered; {} are not in the index yet, and the next start enters them",
            count(checked.undelivered),
            count(checked.not_indexed)
        ),
    }
    name_damage(&checked.damaged);
    for id in checked.missing.iter().take(NAMED) {
        println!("instance {id} is in the index and not whole in the log: send it again from the modality");
    }
    match checked.is_well() {
        true => Ok(()),
        false => Err(Failure::Failed(format!("{} is not all well, see above", data.display()))),
    }
}

fn name_damage(damaged: &[String]) {
    damaged.iter().take(NAMED).for_each(|problem| println!("damaged: {problem}"));
    if damaged.len() > NAMED {
        println!("… and {} more damaged places", count((damaged.len() - NAMED) as u64));
    }
}

fn reindex(data: &Path) -> Result<(), Failure> {
    let result = spool::reindex(data, &SpoolOptions::default()).map_err(|error| Failure::Failed(error.to_string()))?;
    let (opened, aside) = result;
    if let Some(aside) = aside {
        println!("the old index is kept as {}", aside.display());
    }
    println!("{} instances are in the index and queued for all their destinations", count(opened.replayed));
    let damage = opened.damage.iter();
    name_damage(&damage.map(|d| format!("{}, offset {}: {}", d.segment, d.offset, d.problem)).collect::<Vec<_>>());
    Ok(())
}

fn rescue(data: &Path, out: &Path) -> Result<(), Failure> {
    let bar = spinner();
    let rescued = rescue::rescue(data, out, |progress| show(&bar, progress));
    bar.finish_and_clear();
    let rescued = rescued.map_err(|error| failed(&error))?;
    if let Some(problem) = &rescued.index_problem {
        println!("the index cannot be used ({problem}), so nothing is known about deliveries: everything is taken out");
    }
    println!(
        "{} instances ({}) are DICOM files in {}, listed in {}; {} were delivered already",
        count(rescued.written),
        bytes(rescued.bytes),
        out.display(),
        rescue::LIST,
        count(rescued.delivered)
    );
    name_damage(&rescued.damaged);
    match rescued.damaged.len() {
        0 => Ok(()),
        damaged => Err(Failure::Failed(format!("{} places are damaged, see above; the rest is rescued", damaged))),
    }
}
