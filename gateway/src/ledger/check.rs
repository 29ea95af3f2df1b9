//! Checking everything, from the first line to the last, without changing anything and beside a gateway that runs.

use std::path::Path;

use super::line::{Chain, LineHash, Misfit, Month, NotALine, decode_frame};
use super::lines::{Lines, Raw};
use super::{LedgerError, Place, Position, months};
use crate::durable::Disk;
use crate::model::Timestamp;

/// Breaks that are listed; all of them are counted.
const LISTED: usize = 100;
/// Lines between two reports of the progress.
const SAID_EVERY: u64 = 1_000;

/// How far a check is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Lines looked at.
    pub lines: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a check has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Files.
    pub files: u64,
    /// Whole lines.
    pub lines: u64,
    /// Their bytes, newlines included.
    pub bytes: u64,
    /// Places where the chain is broken.
    pub broken: u64,
    /// The first of them.
    pub breaks: Vec<Break>,
    /// Lines in which a gateway has written down itself that something was wrong.
    pub gaps: u64,
    /// Bytes behind the last line of the last file: a line that is being written, or one that a power cut has torn.
    pub unfinished: u64,
    /// The last line, and when it was written. Whoever keeps its hash elsewhere can tell later that nothing up to it was
    /// changed.
    pub last: Option<(Position, Timestamp)>,
}

impl Report {
    /// Whether the chain is whole.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.broken == 0
    }
}

/// A place where the chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}, line {line}: {problem}", file.file_name())]
pub struct Break {
    /// The file.
    pub file: Month,
    /// The line in it, from 1.
    pub line: u64,
    /// What is wrong.
    pub problem: String,
}

/// Reads the ledger in `folder` from its first line to its last.
///
/// # Errors
/// It cannot be read. A broken chain is no error; it is in the result.
pub fn check(disk: &dyn Disk, folder: &Path, progress: impl FnMut(Progress)) -> Result<Report, LedgerError> {
    let files = months(disk, folder)?;
    let mut check = Check { report: Report::default(), chain: Chain::BEGINNING, number: 0, progress };
    for (file, is_last) in files.iter().zip((1..=files.len()).map(|number| number == files.len())) {
        let path = folder.join(file.file_name());
        let read = |error| LedgerError::of("read", &path, error);
        let opened = disk.open(&path, false).map_err(read)?;
        check.report.files += 1;
        check.number = 0;
        let mut lines = Lines::new(&*opened, 0);
        while let Some(raw) = lines.next().map_err(read)? {
            check.number += 1;
            match raw {
                Raw::Line { offset, text } => check.line(Place { file: *file, offset }, &text),
                Raw::TooLong { hash, .. } => {
                    check.garbage(*file, hash, &Misfit::NotALine(NotALine::TooLong).to_string())
                }
                Raw::Unfinished { length, .. } if is_last => check.report.unfinished = length,
                Raw::Unfinished { hash, .. } => check.garbage(*file, hash, "it has no end, and another file follows"),
            }
        }
    }
    check.say();
    Ok(check.report)
}

struct Check<F> {
    report: Report,
    chain: Chain,
    /// Of the line in its file.
    number: u64,
    progress: F,
}

impl<F: FnMut(Progress)> Check<F> {
    fn line(&mut self, place: Place, text: &[u8]) {
        self.report.lines += 1;
        self.report.bytes += text.len() as u64 + 1;
        let frame = match self.chain.follow(text) {
            Ok(frame) => frame,
            Err(misfit) => {
                self.broken(place.file, misfit.to_string());
                // What comes next is judged by this line, so that one change is one break.
                let frame = decode_frame(text).ok();
                let n = frame.as_ref().map_or(self.chain.n.saturating_add(1), |frame| frame.n);
                self.chain = Chain { hash: LineHash::of(text), n };
                let Some(frame) = frame else { return };
                frame
            }
        };
        self.report.gaps += u64::from(frame.is_gap);
        let Chain { hash, n } = self.chain;
        self.report.last = Some((Position { place, n, hash }, frame.at));
        if self.report.lines.is_multiple_of(SAID_EVERY) {
            self.say();
        }
    }

    /// Something that is no line: the next one is to hold its hash all the same.
    fn garbage(&mut self, file: Month, hash: LineHash, problem: &str) {
        self.broken(file, problem.to_owned());
        self.chain = Chain { hash, n: self.chain.n.saturating_add(1) };
    }

    fn broken(&mut self, file: Month, problem: String) {
        self.report.broken += 1;
        if self.report.breaks.len() < LISTED {
            self.report.breaks.push(Break { file, line: self.number, problem });
        }
    }

    fn say(&mut self) {
        (self.progress)(Progress { lines: self.report.lines, bytes: self.report.bytes });
    }
}
