//! The tables, in Markdown, printed and written.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::measure::{Measured, float};
use super::receiver::Kind;

/// One measurement, and what it is one of.
pub(crate) struct Row {
    pub(crate) round: usize,
    pub(crate) case: String,
    pub(crate) kind: Kind,
    pub(crate) measured: Measured,
}

/// Prints a report and writes it into a file.
#[expect(clippy::print_stdout, reason = "it is what was asked for")]
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    println!("{text}\nThis is also in {}.", path.display());
    fs::create_dir_all(path.parent().ok_or("a report without a folder")?)?;
    Ok(fs::write(path, text)?)
}

/// The main report: one table for each case.
pub(crate) fn ingest(rows: &[Row], rounds: usize) -> String {
    let mut text = format!("# Ingest (C-STORE)\n\n{}", conditions(rows, rounds));
    for case in cases(rows) {
        let mut lines = String::new();
        for kind in kinds(rows) {
            let measured = of(rows, &case, kind);
            if measured.is_empty() {
                continue;
            }
            let median = |what: fn(&Measured) -> f64| median(measured.iter().map(|measured| what(measured)));
            let rates = measured.iter().map(|measured| measured.instances_per_second);
            let spread = (rates.clone().fold(f64::INFINITY, f64::min), rates.fold(0.0, f64::max));
            let rate = median(|measured| measured.instances_per_second);
            let digits = if rate < 10.0 { 2 } else { 0 };
            let _ = writeln!(
                lines,
                "| {} | {rate:.digits$} ({:.digits$}–{:.digits$}) | {:.0} | {:.2} | {:.2} | {:.0} | {} |",
                kind.name(),
                spread.0,
                spread.1,
                median(|measured| measured.bytes_per_second / 1e6),
                median(|measured| measured.cpu_per_gb),
                median(|measured| measured.cpu_per_instance * 1e3),
                median(|measured| float(measured.peak) / 1e6),
                kind.synced(),
            );
        }
        let _ = write!(
            text,
            "\n## {case}\n\n| receiver | instances/s, median (range) | MB/s | CPU s per GB | CPU ms per instance | peak RSS, MB | \
             on the disk before Success |\n|---|---|---|---|---|---|---|\n{lines}"
        );
        if let Some((peer, ratio)) = against_best_peer(rows, &case) {
            let _ = write!(text, "\nWaystation against the fastest of the others ({}): **{ratio:.2} ×**.", peer.name());
        }
        let ours: Vec<_> =
            of(rows, &case, Kind::Waystation).into_iter().filter_map(|measured| measured.spool).collect();
        if !ours.is_empty() {
            let flushes = median(ours.iter().map(|(flushes, _)| *flushes));
            let ratio = median(ours.iter().map(|(_, ratio)| *ratio));
            let _ = writeln!(text, " It flushed its log {flushes:.2} times per instance; at rest {ratio:.2}:1.");
        }
    }
    text
}

/// The report on slow flushes: one table, a column for each case.
pub(crate) fn flush(rows: &[Row], rounds: usize, what: &str) -> String {
    let cases = cases(rows);
    let mut text = format!(
        "# Ingest on a disk with a slow flush\n\n{what}. An ext4 on a loop device over a block device in user space that \
         waits before it ends a flush. Instances per second, and in brackets the flushes of the device per instance, \
         those of the start and the end included.\n\n{}\n| receiver |",
        conditions(rows, rounds)
    );
    for case in &cases {
        let _ = write!(text, " {case} |");
    }
    let _ = write!(text, "\n|---|{}\n", "---|".repeat(cases.len()));
    for kind in kinds(rows) {
        let _ = write!(text, "| {} |", kind.name());
        for case in &cases {
            let measured = of(rows, case, kind);
            let rate = median(measured.iter().map(|measured| measured.instances_per_second));
            let flushes = median(measured.iter().map(|measured| {
                float(measured.device_flushes.unwrap_or_default()) / float(measured.all_instances.max(1))
            }));
            let _ = write!(text, " {rate:.0} ({flushes:.2}) |");
        }
        text.push('\n');
    }
    text
}

/// On what machine, and how quiet it was.
fn conditions(rows: &[Row], rounds: usize) -> String {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = information.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let others = median(rows.iter().map(|row| row.measured.others));
    let sender = median(rows.iter().map(|row| row.measured.sender_cpu_per_gb));
    format!(
        "{rounds} interleaved rounds, medians. {processors} processors ({}), Linux {}; sender and receiver share them, \
         over the loopback interface. Everybody else on the machine used {others:.2} processors, the sender {sender:.2} \
         CPU s per GB (medians). TCP_NODELAY on both sides.\n",
        model.map_or("unknown", |(_, model)| model),
        kernel.trim(),
    )
}

/// The fastest peer, and how many times faster we are, as the median over the rounds.
fn against_best_peer(rows: &[Row], case: &str) -> Option<(Kind, f64)> {
    let rate = |kind| median(of(rows, case, kind).iter().map(|measured| measured.instances_per_second));
    let peers = kinds(rows).into_iter().filter(|kind| kind.is_peer());
    let best = peers.max_by(|a, b| rate(*a).total_cmp(&rate(*b)))?;
    let mut rounds: BTreeMap<usize, [Option<f64>; 2]> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.case == case) {
        let [ours, theirs] = rounds.entry(row.round).or_default();
        match row.kind {
            Kind::Waystation => *ours = Some(row.measured.instances_per_second),
            kind if kind == best => *theirs = Some(row.measured.instances_per_second),
            _ => {}
        }
    }
    let ratios: Vec<f64> = rounds.values().filter_map(|[ours, theirs]| Some((*ours)? / (*theirs)?)).collect();
    (!ratios.is_empty()).then(|| (best, median(ratios)))
}

fn of<'r>(rows: &'r [Row], case: &str, kind: Kind) -> Vec<&'r Measured> {
    rows.iter().filter(|row| row.case == case && row.kind == kind).map(|row| &row.measured).collect()
}

fn cases(rows: &[Row]) -> Vec<String> {
    let mut cases: Vec<String> = Vec::new();
    for row in rows {
        if !cases.contains(&row.case) {
            cases.push(row.case.clone());
        }
    }
    cases
}

fn kinds(rows: &[Row]) -> Vec<Kind> {
    Kind::ALL.into_iter().filter(|kind| rows.iter().any(|row| row.kind == *kind)).collect()
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = |at: usize| values.get(at).copied().unwrap_or(f64::NAN);
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => middle(length / 2),
        length => f64::midpoint(middle(length / 2 - 1), middle(length / 2)),
    }
}
