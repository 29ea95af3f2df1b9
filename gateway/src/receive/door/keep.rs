//! The book on the disk: `door.json` in the data folder, written whole and put in the place of the last one.
//!
//! It is a convenience: what is lost in a power cut is half a minute of notes. So nothing waits for it, and nothing ends
//! because of it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use log::warn;
use serde::{Deserialize, Serialize};

use super::{Book, Page};
use crate::clock;
use crate::durable::{self, Disk, replace};

/// Its name in the data folder.
pub const FILE: &str = "door.json";
/// A file that is longer is none of ours.
const LONGEST: u64 = 64 << 20;
/// The format.
const VERSION: u32 = 1;

/// The file.
#[derive(Serialize)]
struct Saved<'a> {
    version: u32,
    last_number: u64,
    pages: Vec<&'a Page>,
}

#[derive(Deserialize)]
struct Loaded {
    version: u32,
    #[serde(default)]
    last_number: u64,
    pages: Vec<Page>,
}

/// Why the book could not be read.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    /// The system does not give it now.
    #[error("{0}")]
    Io(io::Error),
    /// It is not what was written.
    #[error("{0}")]
    Content(String),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => Self::Content(error.to_string()),
            _ => Self::Io(error),
        }
    }
}

/// The book, and where it is kept. Anybody may write into it; it is saved now and then.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    pub(super) book: Mutex<Book>,
    /// Whether the file was read. Held by who saves: two would write into one file.
    saving: Mutex<File>,
}

/// What is known of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum File {
    /// Everything in it is in the book.
    Read,
    /// The system did not give it: it must not be replaced before it has been read.
    Unread,
}

impl Keeper {
    /// Opens the book of the data folder `data`. One that is damaged is set aside with a warning, and a new one is begun.
    /// One that the system does not give stays where it is: a new one is begun in memory, and [`Keeper::save`] joins the
    /// two as soon as it can. Blocking.
    #[must_use]
    pub fn open(disk: &dyn Disk, data: &Path) -> Self {
        let path = data.join(FILE);
        let (book, file) = match load(disk, &path) {
            Ok(book) => (book, File::Read),
            Err(Unreadable::Io(error)) => {
                warn!(
                    "{} cannot be read now: {error}; it is left as it is, and new notes about callers are kept in memory \
                     until they can be added to it",
                    path.display()
                );
                (Book::begun_anew(clock::wall()), File::Unread)
            }
            Err(Unreadable::Content(problem)) => {
                set_aside(disk, &path, &problem);
                (Book::begun_anew(clock::wall()), File::Read)
            }
        };
        Self { path, book: Mutex::new(book), saving: Mutex::new(file) }
    }

    /// Does something with the book.
    pub fn with<T>(&self, work: impl FnOnce(&mut Book) -> T) -> T {
        work(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Saves what has been entered since the last time. Blocking.
    ///
    /// # Errors
    /// The disk does not take it, or has not given the earlier notes yet. It is tried again at the next call.
    pub fn save(&self, disk: &dyn Disk) -> io::Result<()> {
        let mut file = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        if *file == File::Unread {
            match load(disk, &self.path) {
                Ok(earlier) => self.with(|book| book.go_on_from(earlier)),
                Err(Unreadable::Content(problem)) => set_aside(disk, &self.path, &problem),
                Err(Unreadable::Io(error)) => {
                    let path = self.path.display();
                    return Err(io::Error::new(error.kind(), format!("{path} still cannot be read: {error}")));
                }
            }
            *file = File::Read;
        }
        let text = self.with(|book| {
            let changed = book.take_changed();
            changed.then(|| {
                serde_json::to_vec(&Saved { version: VERSION, last_number: book.last_number(), pages: book.pages() })
            })
        });
        let Some(text) = text else { return Ok(()) };
        let saved = text.map_err(io::Error::other).and_then(|text| replace(disk, &self.path, &text));
        if saved.is_err() {
            self.with(Book::not_saved);
        }
        saved
    }
}

/// Gives a file that is damaged another name.
fn set_aside(disk: &dyn Disk, path: &Path, problem: &str) {
    let aside = path.with_extension("json.damaged");
    let folder = path.parent().unwrap_or(Path::new("/"));
    let kept = match disk.rename(path, &aside).and_then(|()| disk.sync_dir(folder)) {
        Ok(()) => format!("it is kept as {}", aside.display()),
        Err(error) => format!("it cannot be set aside ({error}) and will be replaced"),
    };
    warn!("{} is damaged: {problem}; {kept}, and the notes about callers begin anew", path.display());
}

fn load(disk: &dyn Disk, path: &Path) -> Result<Book, Unreadable> {
    let Some(content) = durable::read(disk, path, LONGEST)? else { return Ok(Book::default()) };
    let loaded: Loaded = serde_json::from_slice(&content).map_err(|error| Unreadable::Content(error.to_string()))?;
    if loaded.version != VERSION {
        return Err(Unreadable::Content(format!("it is of version {}, and this program knows 1", loaded.version)));
    }
    Ok(Book::with_pages(loaded.pages, loaded.last_number))
}
