//! One round: every sender over every link.

use std::collections::VecDeque;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::cases::Case;
use super::gateway::Scenario;
use super::link::Settings;
use super::report::Row;
use super::run::{self, Kind, Plan};
use super::series::{Modality, Series};
use super::{Arguments, number, say, studies};

/// A link on which others than the gateway need the machine for themselves: more bits per second than this.
const SLOW: u64 = 10_000_000;

/// Who is to send what over which link.
#[derive(Clone, Copy)]
struct Turn<'a> {
    number: usize,
    case: &'a Case,
    modality: Modality,
    kind: Kind,
}

impl Turn<'_> {
    fn is_alone(&self) -> bool {
        self.kind.is_ours() || self.case.settings.up.rate > SLOW
    }
}

/// Has everybody send over the links that are wanted; what is written goes into `folder`.
pub(crate) fn run(
    arguments: &Arguments,
    cases: &[Case],
    round: usize,
    folder: &Path,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut turns: Vec<Turn<'_>> = Vec::new();
    for (number, case) in cases.iter().enumerate().filter(|(_, case)| arguments.wants(case.name)) {
        turns.extend(senders(arguments).map(|(modality, kind)| Turn { number, case, modality, kind }));
    }
    let (alone, mut beside): (Vec<_>, Vec<_>) = turns.into_iter().partition(Turn::is_alone);
    // Those that take longest first, so that none is left to go on by itself.
    beside.sort_by_key(|turn| (turn.case.settings.outages.is_none(), turn.case.settings.up.rate));
    let mut rows = all(arguments, round, folder, beside, arguments.together.max(1))?;
    rows.extend(all(arguments, round, folder, alone, 1)?);
    Ok(rows)
}

/// So many of them at a time; the first that cannot be run ends it.
fn all(
    arguments: &Arguments,
    round: usize,
    folder: &Path,
    turns: Vec<Turn<'_>>,
    at_a_time: usize,
) -> Result<Vec<Row>, String> {
    let left = Mutex::new(VecDeque::from(turns));
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = |place: usize| {
        let folder = folder.join(place.to_string());
        let mut rows = Vec::new();
        while let Some(turn) = next() {
            let Turn { case, modality, kind, .. } = turn;
            match measure(arguments, round, &turn, &folder) {
                Ok(Some(row)) => rows.push(row),
                Ok(None) => say(&format!("WAYSTATION_STUDIES has no {}: left out", modality.name())),
                Err(error) => {
                    left.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    return Err(format!("{}, {}, {}: {error}", case.name, modality.name(), kind.name()));
                }
            }
        }
        Ok(rows)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..at_a_time).map(|place| scope.spawn(move || work(place))).collect();
        let mut rows = Vec::new();
        for thread in threads {
            rows.extend(thread.join().unwrap_or_else(|_| Err("a thread of the benchmark panicked".to_owned()))?);
        }
        Ok(rows)
    })
}

/// Which series who sends.
fn senders(arguments: &Arguments) -> impl Iterator<Item = (Modality, Kind)> {
    let series = match arguments.series.as_slice() {
        [] => &[Modality::Ct, Modality::Mr, Modality::Cr, Modality::Us],
        some => some,
    };
    let is_wanted = |modality, kind: Kind| match kind {
        _ if !arguments.senders.is_empty() && !arguments.senders.contains(&kind) => false,
        // What the gateway does otherwise than from a cold start to storescp does not depend on the images.
        Kind::WaystationLive | Kind::WaystationPair | Kind::WaystationLong => modality == Modality::Ct,
        _ => true,
    };
    let all = series.iter().flat_map(|modality| Kind::ALL.map(|kind| (*modality, kind)));
    all.filter(move |(modality, kind)| is_wanted(*modality, *kind))
}

/// `None` if there are no images of this modality.
fn measure(arguments: &Arguments, round: usize, turn: &Turn<'_>, folder: &Path) -> Result<Option<Row>, Box<dyn Error>> {
    let Turn { number: case_number, case, modality, kind } = *turn;
    let mut limit = Duration::from_secs(arguments.limit);
    let mut count = match modality {
        Modality::Ct => case.instances,
        Modality::Mr | Modality::Us => case.instances.min(20),
        // More than a megabyte each.
        Modality::Cr => case.instances.min(8),
    };
    if kind == Kind::WaystationLong {
        (limit, count) = long(case);
    }
    if arguments.quick {
        (limit, count) = ((limit / 10).max(Duration::from_secs(15)), count.div_ceil(5));
    }
    fs::create_dir_all(folder)?;
    let written = Series::write(modality, studies().as_deref(), &folder.join("series"), count, number())?;
    let Some(series) = written else { return Ok(None) };
    // Other dice in each round, and the same for everybody in it.
    let settings = Settings { seed: case.settings.seed + round as u64, ..case.settings };
    let plan = Plan { kind, settings, series: &series, limit, scenario: Scenario::Plain };
    let outcome = run::run(&plan, &folder.join("run"))?;
    say(&format!(
        "round {} {:>8} {} {:>35}: {}",
        round + 1,
        case.name,
        modality.name(),
        kind.name(),
        outcome.in_short()
    ));
    Ok(Some(Row { round, case: case_number, modality, kind, origin: series.origin, outcome }))
}

/// How long a long series is measured, and how many slices of half a megabyte last so long if five times fewer bytes have
/// to be sent for them.
fn long(case: &Case) -> (Duration, usize) {
    const MOST: u64 = 1_000;
    let seconds = match (case.settings.outages, case.settings.up.rate) {
        (Some(_), _) => 170,
        (None, 50_000_000..) => 20,
        (None, ..1_000_000) => 90,
        _ => 45,
    };
    let slices = (case.settings.up.rate / 8 * seconds * 5 / 526_000).clamp(10, MOST);
    (Duration::from_secs(seconds), usize::try_from(slices).unwrap_or(usize::MAX))
}
