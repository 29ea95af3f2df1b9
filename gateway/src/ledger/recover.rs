//! Opening: finding the end of the chain, and telling an end that a power cut has torn from damage.
//!
//! What was never flushed is behind everything that was, in the last file, and no longer than one flush may be. A power cut
//! leaves any of its sectors, in a file that is shorter or has zeros where the others were to be. So the first line that
//! is not whole has no end, or holds a byte that no line holds. That may be cut off, because nobody was told that it was
//! written. Whatever else does not follow is damage or somebody's hand: it stays, and the chain goes on behind it.

use std::path::Path;
use std::sync::Arc;

use super::line::{Chain, Misfit, Month, NotALine};
use super::lines::{Lines, Raw};
use super::{LONGEST_PIECE, LastFile, Ledger, LedgerError, LineHash, Place, Position, line, months, read_line};
use crate::durable::Disk;

/// What opening the ledger has found and done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// Lines that were verified.
    pub verified: u64,
    /// Lines behind the checkpoint: told, and not known to whoever keeps the checkpoint. What they tell may be told again.
    pub beyond: u64,
    /// Bytes of an end that was never whole, and was cut off.
    pub cut_off: u64,
    /// What does not go together, if something does not: lines are missing, or were changed, and an operator must know.
    pub gap: Option<String>,
}

/// Where the verification begins: in which file and where in it, and with what in front.
struct Beginning {
    place: Option<Place>,
    chain: Chain,
}

/// What a look at the files has found.
struct Found {
    /// Of the lines that follow on one another.
    chain: Chain,
    lines: u64,
    wrong: Option<Wrong>,
    /// The hash of the last line that is there, whatever it is worth, and whether it has no end.
    tail: (LineHash, bool),
    /// The highest number that was met.
    highest: u64,
}

/// The first line that does not follow.
struct Wrong {
    place: Place,
    problem: String,
    /// It may be what a power cut has left of one.
    is_torn: bool,
}

/// See [`Ledger::open`].
pub(super) fn open(
    disk: Arc<dyn Disk>,
    folder: &Path,
    checkpoint: Option<Position>,
) -> Result<(Ledger, Opened), LedgerError> {
    disk.create_dir(folder).map_err(|error| LedgerError::of("create", folder, error))?;
    // The folder itself has to be there after a power cut, and the names of files that a killed process has made.
    for folder in [folder.parent().unwrap_or(folder), folder] {
        disk.sync_dir(folder).map_err(|error| LedgerError::of_sync("flush", folder, error))?;
    }
    let files = months(&*disk, folder)?;
    let mut opened = Opened::default();
    let beginning = match checkpoint {
        None => without_checkpoint(&*disk, folder, &files)?,
        Some(position) => match fits(&*disk, folder, position)? {
            Ok(beginning) => beginning,
            Err(problem) => {
                opened.gap = Some(problem);
                without_checkpoint(&*disk, folder, &files)?
            }
        },
    };
    let mut found = look(&*disk, folder, &files, &beginning)?;
    found.highest = found.highest.max(checkpoint.map_or(0, |position| position.n));
    let mut last = files.last().map(|month| last_file(&*disk, folder, *month)).transpose()?;
    opened.verified = found.lines;
    if checkpoint.is_some() {
        opened.beyond = found.lines;
    }
    if opened.gap.is_none()
        && let Some(wrong) = &found.wrong
    {
        match &mut last {
            Some(last) if last.is_torn_at(wrong) => opened.cut_off = last.cut_off(wrong.place.offset)?,
            _ => opened.gap = Some(format!("{}: {}", wrong.place, wrong.problem)),
        }
    }
    let chain = match &opened.gap {
        Some(_) => {
            if let Some(last) = &mut last {
                last.is_unfinished = found.tail.1;
            }
            Chain { hash: found.tail.0, n: found.highest }
        }
        None => found.chain,
    };
    if let Some(last) = &last {
        // What a killed process has written counts from here on: it must be on the disk before anything follows it.
        last.file.sync_all().map_err(|error| LedgerError::of_sync("flush", &last.path, error))?;
    }
    let not_before = last.as_ref().map(|last| last.month).max(checkpoint.map(|position| position.place.file));
    let gap = opened.gap.as_deref().map(Into::into);
    let ledger = Ledger { disk, folder: folder.to_owned(), last, chain, not_before, gap, has_failed: false };
    Ok((ledger, opened))
}

/// The last file that begins with a line is believed from that line on; one whose first line was never whole follows the
/// file before it.
fn without_checkpoint(disk: &dyn Disk, folder: &Path, files: &[Month]) -> Result<Beginning, LedgerError> {
    for file in files.iter().rev() {
        let path = folder.join(file.file_name());
        let read = |error| LedgerError::of("read", &path, error);
        let opened = disk.open(&path, false).map_err(read)?;
        opened.drop_cache();
        if let Some(Raw::Line { text, .. }) = Lines::new(&*opened, 0).next().map_err(read)?
            && let Ok(frame) = line::decode_frame(&text)
        {
            let chain = Chain { hash: frame.prev, n: frame.n.saturating_sub(1) };
            return Ok(Beginning { place: Some(Place { file: *file, offset: 0 }), chain });
        }
    }
    let place = files.first().map(|month| Place { file: *month, offset: 0 });
    Ok(Beginning { place, chain: Chain::BEGINNING })
}

/// Whether the line at a position is the one that was there; if so, where to go on.
fn fits(disk: &dyn Disk, folder: &Path, position: Position) -> Result<Result<Beginning, String>, LedgerError> {
    let place = position.place;
    let path = folder.join(place.file.file_name());
    match disk.open(&path, false) {
        Ok(file) => file.drop_cache(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Err(format!("{} is not there, and line {} was in it", place.file.file_name(), position.n)));
        }
        Err(error) => return Err(LedgerError::of("open", &path, error)),
    }
    match read_line(disk, folder, place) {
        Ok(line) if line.position == position => {
            let offset = place.offset + line.text.len() as u64 + 1;
            let chain = Chain { hash: position.hash, n: position.n };
            Ok(Ok(Beginning { place: Some(Place { offset, ..place }), chain }))
        }
        Ok(line) => Ok(Err(format!(
            "{place}: line {} is there, and it is not the line {} that was",
            line.position.n, position.n
        ))),
        Err(LedgerError::NoLine(place, problem)) => {
            Ok(Err(format!("{place}: line {} was there: {problem}", position.n)))
        }
        Err(other) => Err(other),
    }
}

/// Follows the chain from its beginning to the end of the last file, and whatever there is behind its end.
fn look(disk: &dyn Disk, folder: &Path, files: &[Month], beginning: &Beginning) -> Result<Found, LedgerError> {
    let mut found = Found {
        chain: beginning.chain,
        lines: 0,
        wrong: None,
        tail: (beginning.chain.hash, false),
        highest: beginning.chain.n,
    };
    let Some(begin) = beginning.place else { return Ok(found) };
    for file in files.iter().filter(|file| **file >= begin.file) {
        let path = folder.join(file.file_name());
        let read = |error| LedgerError::of("read", &path, error);
        let opened = disk.open(&path, false).map_err(read)?;
        opened.drop_cache();
        let mut lines = Lines::new(&*opened, if *file == begin.file { begin.offset } else { 0 });
        while let Some(raw) = lines.next().map_err(read)? {
            found.take(*file, raw);
        }
    }
    Ok(found)
}

impl Found {
    fn take(&mut self, file: Month, raw: Raw) {
        let (offset, misfit, is_torn) = match raw {
            Raw::Line { offset, text } => {
                self.tail = (LineHash::of(&text), false);
                let before = self.chain;
                let misfit = self.chain.follow(&text).err();
                if misfit.is_some() || self.wrong.is_some() {
                    // What is behind the first wrong line is not followed any more; only its number counts.
                    self.chain = before;
                    self.highest = self.highest.max(line::decode_frame(&text).map_or(0, |frame| frame.n));
                } else {
                    self.highest = self.highest.max(self.chain.n);
                    self.lines += 1;
                }
                let Some(misfit) = misfit else { return };
                (offset, misfit.to_string(), text.contains(&0))
            }
            Raw::TooLong { offset, hash, has_zeros } => {
                self.tail = (hash, false);
                (offset, Misfit::NotALine(NotALine::TooLong).to_string(), has_zeros)
            }
            Raw::Unfinished { offset, hash, .. } => {
                self.tail = (hash, true);
                (offset, "it has no end".to_owned(), true)
            }
        };
        if self.wrong.is_none() {
            self.wrong = Some(Wrong { place: Place { file, offset }, problem: misfit, is_torn });
        }
    }
}

fn last_file(disk: &dyn Disk, folder: &Path, month: Month) -> Result<LastFile, LedgerError> {
    let path = folder.join(month.file_name());
    let file = disk.open(&path, true).map_err(|error| LedgerError::of("open", &path, error))?;
    let end = file.length().map_err(|error| LedgerError::of("look at", &path, error))?;
    Ok(LastFile { month, path, file, end, is_unfinished: false, has_leftovers: false })
}

impl LastFile {
    /// Whether all from this line on may be what one flush has left undone.
    fn is_torn_at(&self, wrong: &Wrong) -> bool {
        let length = self.end.saturating_sub(wrong.place.offset);
        wrong.is_torn && wrong.place.file == self.month && length <= LONGEST_PIECE as u64
    }

    /// Cuts the file, durably, and gives how many bytes went.
    fn cut_off(&mut self, end: u64) -> Result<u64, LedgerError> {
        let cut = self.end.saturating_sub(end);
        self.end = end;
        self.has_leftovers = true;
        self.cut_back()?;
        Ok(cut)
    }
}
