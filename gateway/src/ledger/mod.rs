//! The ledger: what happened to every instance, one line for each thing, chained by hashes. `docs/ledger.md` has the
//! format, and how to check it with nothing but `sha256sum`.
//!
//! It promises four things:
//!
//! - when [`Ledger::append`] has returned, the lines survive a power cut one microsecond later;
//! - each line holds the SHA-256 of the line before it, over the borders of files too, so that what was changed, taken
//!   out or exchanged shows ([`check()`]);
//! - a file is only ever appended to. All that is ever cut off is an end that was never flushed; anything else that is
//!   wrong stays as it is, and a line says where the chain goes on;
//! - every line is printable ASCII and at most 256 KiB long, whatever peers have said.
//!
//! ```text
//!            prev ◀─────────────┐        prev ◀─────────┐         prev ◀────────
//! ┌──────────┴───────────┐ ┌────┴────────────────────┐ ┌┴───────────────────────┐
//! │ 1 started            │ │ 2 received   id 1       │ │ 3 attempted   id 1     │   …
//! └──────────────────────┘ └─────────────────────────┘ └────────────────────────┘
//!          2026-11.log                                          2026-12.log
//! ```
//!
//! What it deliberately does not do: it knows no patient, and has no field for one ([`Entry`]); it does not search, which
//! is what the index of the spool is for; it never goes on after an error of a flush; and it takes nothing out, neither
//! old files nor wrong ones. The last line is held by nothing but the [`Position`] that somebody else keeps: until the
//! next one is written, a change in it shows to whoever has that.
//!
//! Whoever appends sees to it that a thing is told before it is forgotten that it had to be done. Then a power cut in
//! between makes something told twice, and never not at all.

mod check;
mod entry;
mod error;
mod line;
mod lines;
mod recover;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod sha256_of_another_hand;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use check::{Break, Progress, Report, check};
pub use entry::{Answer, AttemptOutcome, Attempted, Entry, Method, Received, Selection, VerifyOutcome};
pub use error::LedgerError;
pub use line::{LineHash, Month, NotAMonth, Place, Position};
pub use recover::Opened;

use crate::durable::{Disk, DiskFile};
use crate::model::Timestamp;
use line::Chain;
use lines::{Lines, Raw};

/// The folder of the ledger inside the data folder.
pub const FOLDER: &str = "ledger";

/// The most that is written with one flush, in bytes: no more than this can be torn by a power cut.
const LONGEST_PIECE: usize = 1 << 20;

/// An open ledger. One owner appends; anybody may read ([`read_line`]).
#[derive(Debug)]
pub struct Ledger {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// The last file, if there is one.
    last: Option<LastFile>,
    chain: Chain,
    /// No line goes into an earlier file: the clock of a box without a battery steps back.
    not_before: Option<Month>,
    /// What was found wrong and is not written down yet.
    gap: Option<Answer>,
    has_failed: bool,
}

#[derive(Debug)]
struct LastFile {
    month: Month,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    /// Where the next line begins.
    end: u64,
    /// It ends in the middle of a line that stays as it is.
    is_unfinished: bool,
    /// Behind the end there may be something of lines that could not be written.
    has_leftovers: bool,
}

/// A line that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it is, its number and its hash.
    pub position: Position,
    /// When what it tells has happened, by the wall clock of then.
    pub at: Timestamp,
    /// What it tells; nothing if it is of a kind that this version does not know.
    pub entry: Option<Entry>,
    /// The line itself, without its newline.
    pub text: String,
}

impl Line {
    fn of(place: Place, text: &[u8]) -> Result<Self, line::NotALine> {
        let frame = line::decode_frame(text)?;
        let position = Position { place, n: frame.n, hash: LineHash::of(text) };
        let entry = line::decode_entry(text);
        Ok(Self { position, at: frame.at, entry, text: String::from_utf8_lossy(text).into_owned() })
    }
}

/// Lines that are written together.
#[derive(Debug)]
struct Piece {
    month: Month,
    begins: u64,
    bytes: Vec<u8>,
    chain: Chain,
    positions: Vec<Position>,
}

impl Ledger {
    /// Opens the ledger in `folder`, which is created if its parent exists. What was written since `checkpoint`, a
    /// position that was kept, is verified; without one, all of the last file. An end that was never whole is cut off.
    ///
    /// If what is there does not go with the checkpoint or is damaged, nothing is touched, the chain goes on behind it, and
    /// the next [`Ledger::append`] puts a line in front that says so. [`Opened::gap`] is for whoever reads the log.
    ///
    /// # Errors
    /// The disk does not allow it.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        checkpoint: Option<Position>,
    ) -> Result<(Self, Opened), LedgerError> {
        recover::open(disk, folder, checkpoint)
    }

    /// Appends what happened, and when by the wall clock, in this order. When it returns, the lines are on stable storage:
    /// one write and one flush for up to a mebibyte, and one more for each month that begins in between.
    ///
    /// # Errors
    /// [`LedgerError::NotNow`]: of lines that take more than one flush, a first part may have been written. Whoever tries
    /// again tells it twice. Any other error: nothing is known about the disk, and nothing is written any more.
    pub fn append(&mut self, entries: &[(Timestamp, Entry)]) -> Result<Vec<Position>, LedgerError> {
        if self.has_failed {
            return Err(LedgerError::Stopped);
        }
        let mut positions = Vec::with_capacity(entries.len());
        let mut piece: Option<Piece> = None;
        for (at, entry) in entries {
            let month = self.not_before.map_or(Month::of(*at), |earliest| earliest.max(Month::of(*at)));
            let is_full =
                |piece: &Piece| piece.month != month || piece.bytes.len() + lines::LONGEST_LINE > LONGEST_PIECE;
            if let Some(full) = piece.take_if(|piece| is_full(piece)) {
                positions.extend(self.write(full)?);
            }
            self.not_before = Some(month);
            let piece = match &mut piece {
                Some(piece) => piece,
                none => none.insert(self.begin_piece(month, *at)?),
            };
            let position = self.add(piece, *at, entry)?;
            piece.positions.push(position);
        }
        if let Some(piece) = piece {
            positions.extend(self.write(piece)?);
        }
        Ok(positions)
    }

    /// A piece for a file, with the line about a gap in front if there is one to tell.
    fn begin_piece(&self, month: Month, at: Timestamp) -> Result<Piece, LedgerError> {
        let last = self.last.as_ref().filter(|last| last.month == month);
        let mut piece = Piece {
            month,
            begins: last.map_or(0, |last| last.end),
            bytes: Vec::new(),
            chain: self.chain,
            positions: Vec::new(),
        };
        if last.is_some_and(|last| last.is_unfinished) {
            piece.bytes.push(b'\n');
        }
        if let Some(found) = &self.gap {
            let offset = piece.begins + piece.bytes.len() as u64;
            self.add(&mut piece, at, &Entry::Gap { found: found.clone(), file: month, offset })?;
        }
        Ok(piece)
    }

    fn add(&self, piece: &mut Piece, at: Timestamp, entry: &Entry) -> Result<Position, LedgerError> {
        let n = piece.chain.n.saturating_add(1);
        let text = line::encode(piece.chain.hash, n, at, entry)
            .map_err(|error| LedgerError::of("put into words what goes into", &self.folder, error))?;
        let hash = LineHash::of(&text);
        let offset = piece.begins + piece.bytes.len() as u64;
        piece.bytes.extend_from_slice(&text);
        piece.bytes.push(b'\n');
        piece.chain = Chain { hash, n };
        Ok(Position { place: Place { file: piece.month, offset }, n, hash })
    }

    /// Makes a piece durable. Only then is it part of the ledger.
    fn write(&mut self, piece: Piece) -> Result<Vec<Position>, LedgerError> {
        let written = self.try_to_write(&piece);
        if let Err(error) = &written {
            self.has_failed |= !error.is_passing();
        }
        written?;
        self.chain = piece.chain;
        self.gap = None;
        Ok(piece.positions)
    }

    fn try_to_write(&mut self, piece: &Piece) -> Result<(), LedgerError> {
        let last = match &mut self.last {
            Some(last) if last.month == piece.month => last,
            last => {
                let path = self.folder.join(piece.month.file_name());
                let file = self.disk.create(&path).map_err(|error| LedgerError::of("create", &path, error))?;
                // A line in a file without a name would be none.
                let named = self.disk.sync_dir(&self.folder);
                named.map_err(|error| LedgerError::of_sync("flush", &self.folder, error))?;
                last.insert(LastFile {
                    month: piece.month,
                    path,
                    file,
                    end: 0,
                    is_unfinished: false,
                    has_leftovers: false,
                })
            }
        };
        last.cut_back()?;
        if let Err(error) = last.file.write_at(&piece.bytes, last.end) {
            last.has_leftovers = true;
            let error = LedgerError::of("write to", &last.path, error);
            // Where even that does not work at the moment, it is done before the next line.
            return match last.cut_back() {
                Err(worse) if error.is_passing() && !worse.is_passing() => Err(worse),
                _ => Err(error),
            };
        }
        last.file.sync_data().map_err(|error| LedgerError::of_sync("flush", &last.path, error))?;
        last.end += piece.bytes.len() as u64;
        last.is_unfinished = false;
        Ok(())
    }
}

impl LastFile {
    /// Takes away what was left behind the end, durably: two writings of the same place, torn into one another by a power
    /// cut, could look whole.
    fn cut_back(&mut self) -> Result<(), LedgerError> {
        if self.has_leftovers {
            self.file.set_length(self.end).map_err(|error| LedgerError::of("cut back", &self.path, error))?;
            self.file.sync_data().map_err(|error| LedgerError::of_sync("flush", &self.path, error))?;
            self.has_leftovers = false;
        }
        Ok(())
    }
}

/// Reads the line at `place`.
///
/// # Errors
/// [`LedgerError::NoLine`] if none begins there; otherwise the file cannot be read.
pub fn read_line(disk: &dyn Disk, folder: &Path, place: Place) -> Result<Line, LedgerError> {
    let path = folder.join(place.file.file_name());
    let read = |error| LedgerError::of("read", &path, error);
    let file = disk.open(&path, false).map_err(read)?;
    match Lines::new(&*file, place.offset).next().map_err(read)? {
        Some(Raw::Line { text, .. }) => {
            Line::of(place, &text).map_err(|problem| LedgerError::NoLine(place, problem.to_string()))
        }
        Some(Raw::TooLong { .. }) => Err(LedgerError::NoLine(place, line::NotALine::TooLong.to_string())),
        Some(Raw::Unfinished { .. }) => Err(LedgerError::NoLine(place, "it has no end".into())),
        None => Err(LedgerError::NoLine(place, "the file is shorter".into())),
    }
}

/// Hands each line to `visit` that is at `from` or behind it, or all that there are, in order, until that fails. What is no
/// line is left out: this is for whoever wants to know what is there, not whether it is whole.
///
/// # Errors
/// A file cannot be read; or the first error of `visit`.
pub fn walk<E: From<LedgerError>>(
    disk: &dyn Disk,
    folder: &Path,
    from: Option<Place>,
    mut visit: impl FnMut(Line) -> Result<(), E>,
) -> Result<(), E> {
    for file in months(disk, folder)?.into_iter().filter(|file| from.is_none_or(|from| from.file <= *file)) {
        let path = folder.join(file.file_name());
        let read = |error| LedgerError::of("read", &path, error);
        let opened = disk.open(&path, false).map_err(read)?;
        let mut lines = Lines::new(&*opened, from.filter(|from| from.file == file).map_or(0, |from| from.offset));
        while let Some(raw) = lines.next().map_err(read)? {
            if let Raw::Line { offset, text } = raw
                && let Ok(line) = Line::of(Place { file, offset }, &text)
            {
                visit(line)?;
            }
        }
    }
    Ok(())
}

/// The files in a folder, in order.
fn months(disk: &dyn Disk, folder: &Path) -> Result<Vec<Month>, LedgerError> {
    let names = disk.list(folder).map_err(|error| LedgerError::of("list", folder, error))?;
    let mut months: Vec<_> = names.iter().filter_map(|name| Month::from_file_name(name)).collect();
    months.sort_unstable();
    Ok(months)
}
