//! What the link is shared with: a limit that is to be kept exactly, and a call that is to stay usable.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use super::cases;
use super::gateway::{self, Scenario};
use super::link::counted::float;
use super::link::flows::{self, Call, Heard};
use super::link::{Link, counted::Sample};
use super::run::{self, Kind, Plan};
use super::series::Series;

/// The limit of the scenario, in bits per second.
pub(crate) const LIMIT: u64 = 2_000_000;
/// What is left out at the beginning, and measured behind it.
const START: Duration = Duration::from_secs(5);
pub(crate) const MEASURED: Duration = Duration::from_secs(30);

/// A row of the table of limits.
pub(crate) struct Limited {
    pub(crate) who: String,
    /// `None` if it cannot be done yet.
    pub(crate) rates: Option<Rates>,
}

/// In bits per second.
pub(crate) struct Rates {
    /// Of packets, with their IP headers, over all of it, and the most over any second.
    pub(crate) mean: f64,
    pub(crate) peak: f64,
    /// The same of TCP payload that arrived for the first time.
    pub(crate) payload_mean: f64,
    pub(crate) payload_peak: f64,
}

/// A row of the table of calls.
pub(crate) struct Beside {
    pub(crate) who: String,
    /// `None` if it cannot be done yet.
    pub(crate) heard: Option<Quality>,
}

pub(crate) struct Quality {
    /// Delay that was added to the call: median, 95 of 100, most.
    pub(crate) added: [Duration; 3],
    pub(crate) lost: f64,
    /// Of what the call leaves of the link, the share that TCP payload filled; `None` without a transfer.
    pub(crate) share: Option<f64>,
}

/// The limit, kept by a plain flow that paces itself, and by the gateway.
pub(crate) fn limits(series: &Series, folder: &Path) -> Result<Vec<Limited>, Box<dyn Error>> {
    let link = Link::new(cases::shared())?;
    link.open();
    let first = flows::stream(&link, "cubic", Some(LIMIT), START + MEASURED + Duration::from_secs(1))?;
    let mut rows =
        vec![Limited { who: "a TCP flow that paces its payload".to_owned(), rates: Some(rates(&link, first)) }];
    drop(link);
    let who = "**Waystation**, 8 associations".to_owned();
    if gateway::settings(Scenario::Limit).is_none() {
        rows.push(Limited { who, rates: None });
        return Ok(rows);
    }
    let limit = START + MEASURED + Duration::from_secs(5);
    let plan = Plan { kind: Kind::WaystationLong, settings: cases::shared(), series, limit, scenario: Scenario::Limit };
    let measure = |link: &Link, opened, ()| Ok(rates(link, link.up().first_segment.unwrap_or(opened)));
    let (_, found) = run::run_beside(&plan, folder, |_| Ok(()), measure)?;
    rows.push(Limited { who, rates: Some(found) });
    Ok(rows)
}

fn rates(link: &Link, first: Duration) -> Rates {
    let up = link.up();
    let (from, to) = (first + START, first + START + MEASURED);
    let mean = |what: fn(&Sample) -> u64| {
        let (bytes, time) = up.between(from, to, what);
        float(bytes) * 8.0 / time.as_secs_f64()
    };
    let peak = |what| up.peak(from, to, Duration::from_secs(1), what);
    Rates {
        mean: mean(|sample| sample.entered),
        peak: peak(|sample| sample.entered),
        payload_mean: mean(|sample| sample.fresh),
        payload_peak: peak(|sample| sample.fresh),
    }
}

/// The call alone, beside plain flows, and beside the gateway.
pub(crate) fn calls(series: &Series, folder: &Path) -> Result<Vec<Beside>, Box<dyn Error>> {
    let mut rows = Vec::new();
    for (who, congestion) in [("nobody", None), ("a CUBIC flow", Some("cubic")), ("a BBR flow", Some("bbr"))] {
        let link = Link::new(cases::shared())?;
        link.open();
        let call = Call::begin(&link)?;
        match congestion {
            Some(congestion) => {
                flows::stream(&link, congestion, None, START + MEASURED)?;
            }
            None => std::thread::sleep(START + Duration::from_secs(5)),
        }
        rows.push(Beside { who: who.to_owned(), heard: Some(quality(&link, call, congestion.is_some())) });
    }
    let who = "**Waystation**, courteous".to_owned();
    if gateway::settings(Scenario::Courteous).is_none() {
        rows.push(Beside { who, heard: None });
        return Ok(rows);
    }
    let plan = Plan {
        kind: Kind::WaystationLong,
        settings: cases::shared(),
        series,
        limit: START + MEASURED,
        scenario: Scenario::Courteous,
    };
    let (_, heard) =
        run::run_beside(&plan, folder, |link| Ok(Call::begin(link)?), |link, _, call| Ok(quality(link, call, true)))?;
    rows.push(Beside { who, heard: Some(heard) });
    Ok(rows)
}

/// Ends the call. The first seconds are left out.
fn quality(link: &Link, call: Call, is_beside: bool) -> Quality {
    let (now, lasted) = (link.now(), call.lasted());
    let (fresh, time) = link.up().between((now - lasted) + START, now, |sample| sample.fresh);
    let (sent, heard) = call.end();
    let remaining = float(link.settings().up.rate - Call::RATE) * time.as_secs_f64();
    let late: Vec<Heard> = heard.iter().copied().filter(|heard| heard.sent > START).collect();
    let added = |share| flows::quantile(late.iter().map(|heard| heard.added), share);
    Quality {
        added: [added(0.5), added(0.95), added(1.0)],
        lost: 1.0 - float(heard.len() as u64) / float(sent.max(1)),
        share: is_beside.then(|| float(fresh) * 8.0 / remaining),
    }
}
