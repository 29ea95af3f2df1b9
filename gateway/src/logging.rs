//! The log: structured fields in the journal under systemd, readable lines on standard error everywhere else.
//!
//! What this module promises:
//!
//! - A record is one line, whatever a peer put into it: control characters, and the invisible ones that turn the
//!   direction of a text, are shown escaped, in the message as well as in the values.
//! - Key-values stay fields: `info!(peer = "CT1", bytes = 512; "received")` can be searched in the journal as
//!   `PEER=CT1`, and reads `received peer=CT1 bytes=512` there as well as on a terminal: who reads the journal line by
//!   line sees whom a line is about.
//! - Logging never fails and never stops the gateway. A record that cannot be written is lost.
//!
//! What it cannot promise is what it is given: **no patient names, no patient identifiers** are ever logged. Instances
//! are named by their UIDs.
//!
//! Levels: `error` somebody has to act; `warn` somebody should look; `info` what happened, a few lines for each
//! association; `debug` every message; `trace` every PDU. Libraries are one level quieter than the gateway.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;

use log::kv::{Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};
use systemd_journal_logger::{JournalLog, connected_to_journal};

use crate::clock;
use crate::model::Timestamp;

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// Standard error leads to the journal, but its socket cannot be reached.
    #[error("the journal cannot be reached: {0}; check that /run/systemd/journal/socket is visible to the service")]
    Journal(std::io::Error),
    /// Something else has set up a log in this process.
    #[error("the log is set up already")]
    Twice(#[from] log::SetLoggerError),
}

/// Sets up the log for the whole process, at this level. Called once, before anything is logged.
///
/// # Errors
/// The journal is there but cannot be reached, or the log was set up before.
pub fn init(level: LevelFilter) -> Result<(), LoggingError> {
    if connected_to_journal() {
        let journal = JournalLog::new().map_err(LoggingError::Journal)?;
        log::set_boxed_logger(Box::new(Sanitised { level, below: InWords(journal) }))?;
    } else {
        log::set_boxed_logger(Box::new(Sanitised { level, below: Lines }))?;
    }
    log::set_max_level(level);
    Ok(())
}

/// Text of a peer, safe for a terminal and for a line of the log: control characters and those that turn the direction
/// of a text are shown as `\u{1b}`.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    let is_unsafe = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) { safe.extend(c.escape_unicode()) } else { safe.push(c) }
    }
    Cow::Owned(safe)
}

/// Filters by level and hands on records that hold nothing but safe text.
struct Sanitised<L> {
    level: LevelFilter,
    below: L,
}

impl<L: Log> Log for Sanitised<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_ours = metadata.target().split("::").next() == Some("waystation");
        let level = if is_ours { self.level } else { one_quieter(self.level) };
        metadata.level() <= level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let message = record.args().to_string();
        let mut fields = Fields::default();
        // The collector below never returns an error.
        let _ = record.key_values().visit(&mut fields);
        self.below.log(
            &Record::builder()
                .metadata(record.metadata().clone())
                .module_path(record.module_path())
                .file(record.file())
                .line(record.line())
                .key_values(&fields.0)
                .args(format_args!("{}", escaped(&message)))
                .build(),
        );
    }

    fn flush(&self) {
        self.below.flush();
    }
}

fn one_quieter(level: LevelFilter) -> LevelFilter {
    match level {
        LevelFilter::Trace => LevelFilter::Debug,
        LevelFilter::Debug => LevelFilter::Info,
        LevelFilter::Info => LevelFilter::Warn,
        LevelFilter::Warn | LevelFilter::Error => LevelFilter::Error,
        LevelFilter::Off => LevelFilter::Off,
    }
}

/// The key-values of one record, as safe text.
#[derive(Default)]
struct Fields(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        self.0.push((key.to_string(), escaped(&value.to_string()).into_owned()));
        Ok(())
    }
}

/// Adds the key-values to the message of a record, and hands on both.
struct InWords<L>(L);

impl<L: Log> Log for InWords<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let words = in_words(record);
        self.0.log(&record.to_builder().args(format_args!("{words}")).build());
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// Writes each record as one line to standard error.
struct Lines;

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = line(clock::wall(), record);
        // Where standard error is gone there is nobody to tell.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// `2026-11-21T19:44:53.120Z INFO  message key=value other="with space"`
fn line(time: Timestamp, record: &Record<'_>) -> String {
    format!("{time} {:<5} {}\n", Level::as_str(&record.level()), in_words(record))
}

/// `message key=value other="with space"`
fn in_words(record: &Record<'_>) -> String {
    let mut line = record.args().to_string();
    let mut pairs = Fields::default();
    let _ = record.key_values().visit(&mut pairs);
    for (key, value) in pairs.0 {
        let needs_quotes = value.is_empty() || value.contains([' ', '"', '=']);
        // Writing to a String cannot fail.
        let _ = if needs_quotes { write!(line, " {key}={value:?}") } else { write!(line, " {key}={value}") };
    }
    line
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Kept(Mutex<Vec<String>>);

    impl Log for Kept {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            self.0.lock().unwrap().push(line(Timestamp::from_millis(1_700_000_000_123), record));
        }

        fn flush(&self) {}
    }

    /// The messages, with the number of fields that came along.
    struct Messages(Mutex<Vec<(String, usize)>>);

    impl Log for Messages {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            self.0.lock().unwrap().push((record.args().to_string(), record.key_values().count()));
        }

        fn flush(&self) {}
    }

    /// The lines that come of one record.
    fn logged(at: LevelFilter, target: &str, level: Level, message: &str, fields: &[(&str, &str)]) -> Vec<String> {
        let log = Sanitised { level: at, below: Kept(Mutex::default()) };
        log.log(
            &Record::builder().target(target).level(level).args(format_args!("{message}")).key_values(&fields).build(),
        );
        log.below.0.into_inner().unwrap()
    }

    #[test]
    fn a_record_is_one_readable_line() {
        let fields = [("peer", "CT1"), ("reason", "no room"), ("bytes", "512"), ("note", "")];
        assert_eq!(
            logged(LevelFilter::Info, "waystation::receive", Level::Info, "association accepted", &fields),
            ["2023-11-14T22:13:20.123Z INFO  association accepted peer=CT1 reason=\"no room\" bytes=512 note=\"\"\n"]
        );
    }

    #[test]
    fn what_a_peer_sent_cannot_reach_the_terminal() {
        let lines = logged(
            LevelFilter::Info,
            "waystation",
            Level::Warn,
            "bad title \u{1b}[2J\r\nERROR all is lost",
            &[("aet", "A\u{7}\u{202e}B\0")],
        );
        assert_eq!(
            lines,
            [
                "2023-11-14T22:13:20.123Z WARN  bad title \\u{1b}[2J\\u{d}\\u{a}ERROR all is lost aet=A\\u{7}\\u{202e}B\\u{0}\n"
            ]
        );
        assert_eq!(escaped("Krankenhaus Süd – 放射線"), "Krankenhaus Süd – 放射線");
    }

    /// `journalctl -u waystation` shows messages alone: "association refused" told nobody whose it was.
    #[test]
    fn a_line_of_the_journal_shows_whom_it_is_about() {
        let log = Sanitised { level: LevelFilter::Info, below: InWords(Messages(Mutex::default())) };
        let fields = [("peer", "10.0.0.7:4242"), ("calling", "CT 1")];
        log.log(
            &Record::builder()
                .target("waystation")
                .level(Level::Warn)
                .args(format_args!("association refused"))
                .key_values(&fields)
                .build(),
        );
        let kept = log.below.0.0.into_inner().unwrap();
        assert_eq!(kept, [("association refused peer=10.0.0.7:4242 calling=\"CT 1\"".to_owned(), 2)]);
    }

    #[test]
    fn libraries_are_one_level_quieter() {
        let count = |target, level| logged(LevelFilter::Info, target, level, "x", &[]).len();
        assert_eq!(count("waystation::spool", Level::Info), 1);
        assert_eq!(count("waystation", Level::Debug), 0);
        assert_eq!(count("rustls::conn", Level::Info), 0);
        assert_eq!(count("rustls::conn", Level::Warn), 1);
        assert_eq!(count("waystationary", Level::Info), 0);
    }
}
