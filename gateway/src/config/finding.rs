//! What is wrong with a configuration, told so that somebody can mend it: where, which key, what, and what to do.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;

use crate::durable::{Fate, fate};
use crate::logging::escaped;

/// Where a setting was given, or where a missing one belongs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// On the command line.
    CommandLine,
    /// In the configuration file.
    File {
        /// The file as it was named by the caller.
        file: Arc<Path>,
        /// Counted from 1. A missing setting points at the header of its table, or at line 1.
        line: usize,
    },
}

/// One error or one warning about the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where to look.
    pub place: Place,
    /// The key with its table (`to.archive.url`), or the flag (`--listen`).
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it: one or more whole sentences.
    pub remedy: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("the command line"),
            Self::File { file, line } => write!(f, "{}:{line}", file.display()),
        }
    }
}

impl Finding {
    /// Where, what and what to do, in one line.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        format!("{}: {}: {}. {}", self.place, escaped(&self.key), escaped(&self.what), self.remedy)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Place::File { .. } = &self.place {
            write!(f, "{}: ", self.place)?;
        }
        write!(f, "{}: {}\n    {}", escaped(&self.key), escaped(&self.what), self.remedy)
    }
}

/// Everything that keeps a configuration from being used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// In the order of the file. Never empty when it is an error.
    pub list: Vec<Finding>,
    /// The system or the disk did not give a file at that moment, for want of a descriptor as an example: the next
    /// start may find all well.
    pub passing: bool,
}

/// Whether an error in reading a file says nothing about the file: the next try may go well.
pub(super) fn is_passing(error: &io::Error) -> bool {
    is_of_the_process(error) || error.raw_os_error() == Some(Errno::EIO as i32)
}

/// Whether an error says that this process, or the machine, is short of something.
pub(super) fn is_of_the_process(error: &io::Error) -> bool {
    fate(error) == Fate::Busy
}

impl Findings {
    /// Whether one of them is about `ca`, `crl`, `cert` or `key`.
    #[must_use]
    pub fn name_tls_files(&self) -> bool {
        let key = |finding: &Finding| finding.key.strip_prefix("--").unwrap_or(&finding.key).to_owned();
        self.list.iter().any(|finding| ["ca", "crl", "cert", "key"].contains(&key(finding).as_str()))
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.list {
            writeln!(f, "{finding}")?;
        }
        match self.list.len() {
            1 => f.write_str("1 problem in the configuration"),
            count => write!(f, "{count} problems in the configuration"),
        }
    }
}

impl std::error::Error for Findings {}
