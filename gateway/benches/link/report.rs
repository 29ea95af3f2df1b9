//! The report: the emulator's own figures, a table for each link, the shared link.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::cases::Case;
use super::link::counted::float;
use super::run::{Kind, Outcome};
use super::series::Modality;
use super::shaping::{Beside, LIMIT, Limited};

/// One run, and what it is one of.
pub(crate) struct Row {
    pub(crate) round: usize,
    pub(crate) case: usize,
    pub(crate) modality: Modality,
    pub(crate) kind: Kind,
    /// Where the images are from.
    pub(crate) origin: &'static str,
    pub(crate) outcome: Outcome,
}

/// What the emulator says of itself over one link.
pub(crate) struct Own {
    pub(crate) what: &'static str,
    pub(crate) round_trips: [Duration; 2],
    pub(crate) round_trip: Duration,
    pub(crate) flood: f64,
    pub(crate) rate: u64,
    /// Share of the rate that the payload of a single TCP flow reached behind its start: CUBIC, BBR.
    pub(crate) flows: [f64; 2],
}

/// Prints a report and writes it into a file.
#[expect(clippy::print_stdout, reason = "it is what was asked for")]
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    println!("{text}\nThis is also in {}.", path.display());
    fs::create_dir_all(path.parent().ok_or("a report without a folder")?)?;
    Ok(fs::write(path, text)?)
}

pub(crate) fn head(rounds: usize, origin: &str, is_optimised: bool) -> String {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    let build = if is_optimised { "" } else { " **The gateway is not an optimised build.**" };
    format!(
        "# A bad link\n\n{rounds} rounds, medians. {processors} processors, Linux {}; load of the machine at the end {}. \
         Images: {origin}. Senders ask for no congestion control of their own unless said otherwise: CUBIC. MB are \
         1,000,000 bytes. How to read it: docs/performance.md.{build}\n",
        kernel.trim(),
        load.join(" "),
    )
}

pub(crate) fn own(rows: &[Own]) -> String {
    let mut text =
        "\n## The emulator itself\n\n| link | round trip of small UDP packets, least (median) | UDP, offered twice \
                    the rate | TCP payload after 5 s, one flow: CUBIC | BBR |\n|---|---|---|---|---|\n"
            .to_owned();
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {:.1} ms ({:.1} ms), set {:.0} ms | {:.3} Mbit/s, set {:.3} | {:.1} % of the rate | {:.1} % |",
            row.what,
            milliseconds(row.round_trips[0]),
            milliseconds(row.round_trips[1]),
            milliseconds(row.round_trip),
            row.flood / 1e6,
            float(row.rate) / 1e6,
            row.flows[0] * 100.0,
            row.flows[1] * 100.0,
        );
    }
    text
}

/// One table for each link and series.
pub(crate) fn links(cases: &[Case], rows: &[Row]) -> String {
    let mut text = String::new();
    let mut shown: Vec<(usize, Modality)> = Vec::new();
    for row in rows {
        if !shown.contains(&(row.case, row.modality)) {
            shown.push((row.case, row.modality));
        }
    }
    // They come as they end, several at a time.
    shown.sort_unstable();
    for (number, modality) in shown {
        let Some(case) = cases.get(number) else { continue };
        let of: Vec<&Row> = rows.iter().filter(|row| row.case == number && row.modality == modality).collect();
        let _ = write!(
            text,
            "\n## {}: {}\n\n{}\n| sender → archive | s from the first byte (from the opening) | × dcmsend | TCP payload there \
             (back), MB | share of the link after 5 s | sent twice | delivered | what arrived | queue p50 / p95 / most, ms | \
             remark |\n|---|---|---|---|---|---|---|---|---|---|\n",
            case.what,
            modality.name(),
            goals(case, modality),
        );
        for kind in Kind::ALL {
            let runs: Vec<&Outcome> = of.iter().filter(|row| row.kind == kind).map(|row| &row.outcome).collect();
            if let Some(last) = runs.last() {
                let _ = writeln!(text, "{}", line(case, (modality, kind), &runs, last, ratio(&of, kind)));
            }
        }
    }
    text
}

fn goals(case: &Case, modality: Modality) -> String {
    let or = if case.goal.or_busy { ", or of what the processors allow" } else { "" };
    let mut goals = vec![format!("≥ {:.0} % of the link while it is there{or}", case.goal.share * 100.0)];
    if modality == Modality::Ct {
        goals.extend(case.goal.seconds.map(|seconds| format!("50 slices in ≤ {seconds:.0} s")));
        goals.extend(case.goal.ratio.map(|ratio| format!("≥ {ratio:.0} × dcmsend")));
    }
    goals.extend(case.goal.twice.map(|twice| format!("≤ {twice:.0} instance for each association and cut sent twice")));
    format!("Goals: {}; every instance with its pixels.\n", goals.join(", "))
}

fn line(
    case: &Case,
    (modality, kind): (Modality, Kind),
    runs: &[&Outcome],
    last: &Outcome,
    ratio: Option<(f64, bool)>,
) -> String {
    let seconds = |what: fn(&Outcome) -> Duration| median(runs.iter().map(|outcome| what(outcome).as_secs_f64()));
    let (took, from_opening) = (seconds(|outcome| outcome.took), seconds(|outcome| outcome.took_from_opening));
    let is_complete = runs.iter().all(|outcome| outcome.is_complete);
    let is_long = kind == Kind::WaystationLong;
    let goal = |goal: Option<f64>, sign: &str| match goal {
        Some(goal) if kind.is_ours() && !is_long && modality == Modality::Ct => format!(" ({sign} {goal:.0})"),
        _ => String::new(),
    };
    let time = match (is_complete, is_long) {
        (_, true) => format!("({took:.0} measured)"),
        (true, _) => format!("{took:.1}{} ({from_opening:.1})", goal(case.goal.seconds, "goal ≤")),
        (false, _) => format!("not done in {took:.0} ({from_opening:.0})"),
    };
    let shares: Vec<f64> = runs.iter().filter_map(|outcome| outcome.share).collect();
    let share = if shares.is_empty() {
        "too short".to_owned()
    } else {
        let or = if case.goal.or_busy { ", or processors busy" } else { "" };
        let goal =
            if kind.is_ours() { format!(" (goal ≥ {:.0}{or})", case.goal.share * 100.0) } else { String::new() };
        format!("{:.1} %{goal}", median(shares) * 100.0)
    };
    let ratio = match ratio {
        Some((ratio, is_least)) if !is_long && is_complete => {
            format!("{}{ratio:.1}{}", if is_least { "> " } else { "" }, goal(case.goal.ratio, "goal ≥"))
        }
        _ => "–".to_owned(),
    };
    let instance = float(last.checked.bytes) / float(last.checked.arrived.max(1));
    let twice = format!("{:.1} MB, {:.1} instances", float(last.twice) / 1e6, float(last.twice) / instance.max(1.0));
    let mut remark = vec![format!("{} connections", last.connections)];
    if kind.is_ours() || case.goal.or_busy {
        remark.push(format!("processors busy {:.0} %", median(runs.iter().map(|outcome| outcome.busy)) * 100.0));
    }
    if last.cuts > 0 {
        remark.push(format!("{} outages", last.cuts));
    }
    remark.push(format!("{:.2} MB sent again by TCP", float(last.again) / 1e6));
    if last.lost + last.dropped > 0 {
        remark.push(format!("{} packets lost, {} dropped at the queue", last.lost, last.dropped));
    }
    if !last.remark.is_empty() {
        remark.push(last.remark.replace(['|', '\n'], " "));
    }
    // One wrong instance in any of the runs is what there is to say.
    let checked = runs.iter().map(|outcome| &outcome.checked).find(|checked| !checked.wrong.is_empty());
    let checked = checked.unwrap_or(&last.checked);
    format!(
        "| {} | {time} | {ratio} | {:.2} ({:.2}) | {share} | {} | {} of {} | {} | {:.0} / {:.0} / {:.0} | {} |",
        kind.name(),
        float(last.payload[0]) / 1e6,
        float(last.payload[1]) / 1e6,
        if is_complete || last.cuts > 0 { twice } else { "–".to_owned() },
        checked.arrived,
        checked.sent,
        checked.in_short(),
        milliseconds(last.queueing[0]),
        milliseconds(last.queueing[1]),
        milliseconds(last.queueing[2]),
        remark.join(", "),
    )
}

/// How many times faster than dcmsend in the same round, as the median; and whether that is the least that can be said,
/// because dcmsend was ended.
fn ratio(rows: &[&Row], kind: Kind) -> Option<(f64, bool)> {
    let mut ratios = Vec::new();
    let mut is_least = false;
    for row in rows.iter().filter(|row| row.kind == kind) {
        let other = rows.iter().find(|other| other.round == row.round && other.kind == Kind::Dcmsend)?;
        is_least |= !other.outcome.is_complete;
        ratios.push(other.outcome.took.as_secs_f64() / row.outcome.took.as_secs_f64().max(1e-3));
    }
    (!ratios.is_empty()).then(|| (median(ratios), is_least))
}

pub(crate) fn limits(rows: &[Limited]) -> String {
    let mut text = format!(
        "\n## A limit of {:.0} Mbit/s on a link of 10 Mbit/s, 300 ms\n\nGoals: within ± 2 % over 30 s, never above by more than \
         5 % over 1 s.\n\n| who | over 30 s, Mbit/s with IP headers | most over 1 s | TCP payload over 30 s | most over 1 s |\n|---|---|---|---|---|\n",
        float(LIMIT) / 1e6
    );
    let cell = |rate: f64| format!("{:.3} ({:+.1} %)", rate / 1e6, (rate / float(LIMIT) - 1.0) * 100.0);
    for row in rows {
        let _ = match &row.rates {
            Some(rates) => writeln!(
                text,
                "| {} | {} | {} | {} | {} |",
                row.who,
                cell(rates.mean),
                cell(rates.peak),
                cell(rates.payload_mean),
                cell(rates.payload_peak),
            ),
            None => writeln!(text, "| {} | not built yet | | | |", row.who),
        };
    }
    text
}

pub(crate) fn calls(rows: &[Beside]) -> String {
    let mut text = "\n## Beside a call of 200 kbit/s on a link of 10 Mbit/s, 300 ms\n\nGoals: ≤ 50 ms added at p95, ≥ 80 % of \
                    what the call leaves.\n\n| beside | delay added to the call p50 / p95 / most, ms | packets of the call lost \
                    | share of what the call leaves, after 5 s |\n|---|---|---|---|\n"
        .to_owned();
    for row in rows {
        let _ = match &row.heard {
            Some(heard) => writeln!(
                text,
                "| {} | {:.1} / {:.1} / {:.1} | {:.1} % | {} |",
                row.who,
                milliseconds(heard.added[0]),
                milliseconds(heard.added[1]),
                milliseconds(heard.added[2]),
                heard.lost * 100.0,
                heard.share.map_or_else(|| "–".to_owned(), |share| format!("{:.1} %", share * 100.0)),
            ),
            None => writeln!(text, "| {} | not built yet | | |", row.who),
        };
    }
    text
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
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
