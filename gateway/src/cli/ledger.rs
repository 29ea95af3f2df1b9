//! `waystation ledger …`: whether the record of what happened is whole.

#![expect(clippy::print_stdout, reason = "this is where the command speaks to its user")]

use std::path::Path;

use waystation::durable::FileSystem;
use waystation::ledger::{self, Report};

use super::offline::spinner;
use super::render::{bytes, count};
use super::{Failure, LedgerCommand};

pub(crate) fn run(command: &LedgerCommand) -> Result<(), Failure> {
    match command {
        LedgerCommand::Check { data } => check(data),
    }
}

fn check(data: &Path) -> Result<(), Failure> {
    let folder = data.join(ledger::FOLDER);
    let bar = spinner();
    let checked = ledger::check(&FileSystem::default(), &folder, |progress| {
        bar.set_message(format!("{} lines, {}", count(progress.lines), bytes(progress.bytes)));
        bar.tick();
    });
    bar.finish_and_clear();
    let report = checked.map_err(|error| Failure::Failed(error.to_string()))?;
    tell(&report);
    match report.is_well() {
        true => Ok(()),
        false => Err(Failure::Failed(format!(
            "the ledger in {} is broken, see above: something was changed or is missing there",
            folder.display()
        ))),
    }
}

fn tell(report: &Report) {
    println!("{} lines in {} files: {}", count(report.lines), count(report.files), bytes(report.bytes));
    report.breaks.iter().for_each(|found| println!("broken: {found}"));
    if let Some(more) = report.broken.checked_sub(report.breaks.len() as u64).filter(|more| *more > 0) {
        println!("… and {} more breaks", count(more));
    }
    if report.gaps > 0 {
        println!("{} lines say that a gateway has met something wrong: look for \"what\":\"gap\"", count(report.gaps));
    }
    if report.unfinished > 0 {
        println!("the last line has no end: it is being written, or the next start cuts off what a power cut has left");
    }
    if let Some((last, at)) = report.last {
        println!("the last line is number {} of {at}; its SHA-256 is {}", last.n, last.hash);
    }
}
