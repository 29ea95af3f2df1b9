//! The table, in Markdown, printed and written.

use std::fmt;
use std::fs;
use std::path::Path;

use super::Failure;
use super::worker::Start;

/// How long receptions took, in microseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latencies(Vec<u64>);

impl Latencies {
    pub(crate) fn add(&mut self, block: &[u64]) {
        self.0.extend_from_slice(block);
        self.0.sort_unstable();
    }

    /// What so many of a thousand did not take longer than.
    fn at(&self, of_a_thousand: usize) -> u64 {
        let place = self.0.len().saturating_sub(1) * of_a_thousand / 1_000;
        self.0.get(place).copied().unwrap_or_default()
    }

    fn p99(&self) -> u64 {
        self.at(990)
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, all] = [500, 990, 1_000].map(|part| milliseconds(self.at(part)));
        write!(f, "{half} / {most} / {all} ms")
    }
}

/// What was measured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    pub(crate) instances: u64,
    pub(crate) open: Start,
    pub(crate) open_after_kill: Start,
    /// By receivers at once: with the spool that was empty at the start, and with the full one.
    pub(crate) receptions: Vec<(u64, [Latencies; 2])>,
    /// Claimed and recorded per second.
    pub(crate) delivered: u64,
    pub(crate) delivered_empty: u64,
    /// The peak of the full one, in bytes.
    pub(crate) memory: u64,
    pub(crate) index_bytes: u64,
    /// For each reception, by both.
    pub(crate) written: [u64; 2],
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |what: &str, value: String, bar: &str, holds: Option<bool>| {
            let holds = holds.map_or("", |holds| if holds { "pass" } else { "**miss**" });
            writeln!(f, "| {what} | {value} | {bar} | {holds} |")
        };
        row(&format!("{} queued instances", self.instances), "measured".into(), "bar", None)?;
        row("---", "---".into(), "---", None)?;
        for (what, start) in [("open", &self.open), ("open after a kill", &self.open_after_kill)] {
            let value = format!("{} s, {} replayed", milliseconds(start.milliseconds), start.replayed);
            row(what, value, "≤ 2 s", Some(start.milliseconds <= 2_000))?;
        }
        let memory = format!("{} MiB open, {} MiB at most", self.open.memory >> 20, self.memory >> 20);
        row("resident memory", memory, "≤ 128 MiB", Some(self.memory <= 128 << 20))?;
        for (receivers, [empty, full]) in &self.receptions {
            let what = format!("reception, {receivers} at once: p50 / p99 / longest");
            let ratio = full.p99() * 100 / empty.p99().max(1);
            let value = format!("{full}; empty {empty}; p99 {}.{:02} ×", ratio / 100, ratio % 100);
            row(&what, value, "p99 ≤ 2 × empty", Some(ratio <= 200))?;
        }
        let value = format!("{} per s; empty {}", self.delivered, self.delivered_empty);
        row("claim and record", value, "≥ 2,000 per s", Some(self.delivered >= 2_000))?;
        let per_instance = self.index_bytes / self.instances.max(1);
        row("index", format!("{} MiB, {per_instance} bytes per instance", self.index_bytes >> 20), "", None)?;
        let [empty, full] = self.written;
        row("written per reception, log and index", format!("{full} bytes; empty {empty}"), "", None)
    }
}

/// A thousandth as a decimal fraction.
fn milliseconds(thousandths: u64) -> String {
    format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000)
}

/// Prints a report and writes it into a file.
#[expect(clippy::print_stdout, reason = "it is what was asked for")]
pub(crate) fn write(path: &Path, report: &Report) -> Result<(), Failure> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let text = format!("# A long queue\n\n{processors} processors, Linux {}.\n\n{report}", kernel.trim());
    println!("{text}\nThis is also in {}.", path.display());
    fs::create_dir_all(path.parent().ok_or("a report without a folder")?)?;
    Ok(fs::write(path, text)?)
}
