//! `waystation link`: how the link does, once or live.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use clap::Args;
use hyper::Method;
use waystation::control::client;
use waystation::control::link::{Link, To};
use waystation::control::words::duration;
use waystation::forward::pace::Standing;

use super::backend::{as_json, block_on, failed, print};
use super::render::{activity, amount, bytes, count, table};
use super::{Ask, Failure};

/// Puts the cursor of a terminal into its corner and clears what is below.
const ANEW: &str = "\x1b[H\x1b[J";

/// `waystation link`
#[derive(Debug, Args)]
pub(crate) struct LinkArguments {
    /// Ask again and again, with so many seconds in between, until interrupted
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    watch: Option<u64>,
    #[command(flatten)]
    ask: Ask,
}

/// Asks the gateway that runs on the data folder, and prints what it says of its link.
pub(crate) fn run(arguments: &LinkArguments) -> Result<(), Failure> {
    block_on(async {
        loop {
            let link: Link = client::ask(&arguments.ask.data, Method::GET, "/v1/link").await.map_err(failed)?;
            let is_anew = arguments.watch.is_some() && !arguments.ask.json && std::io::stdout().is_terminal();
            if is_anew {
                std::io::stdout().write_all(ANEW.as_bytes()).map_err(failed)?;
            }
            match arguments.ask.json {
                true => print(as_json(&link)?)?,
                false => print(page(&link))?,
            }
            let Some(seconds) = arguments.watch else { return Ok(()) };
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
    })
}

fn page(link: &Link) -> String {
    let header = [
        "TO",
        "STATE",
        "ASSOCIATIONS",
        "OUT",
        "IN",
        "SENT AGAIN",
        "ROUND TRIP",
        "WAITS",
        "EMPTY IN",
        "MADE SMALLER",
        "THIS MONTH",
    ];
    let mut rows: Vec<_> = link.destinations.iter().map(row).collect();
    let whole = &link.whole;
    let none = || "-".to_owned();
    rows.push([
        "all".into(),
        none(),
        count(link.destinations.iter().map(|to| to.associations).sum()),
        rate(whole.speed.sent_per_second),
        rate(whole.speed.received_per_second),
        per_mille(whole),
        none(),
        none(),
        none(),
        none(),
        month(whole),
    ]);
    let mut page = table(&header, &rows);
    for to in &link.destinations {
        if to.cuts > 0 {
            let (cuts, twice) = (count(to.cuts), bytes(to.sent_twice_bytes));
            let _ = writeln!(
                page,
                "\n{}: the link was interrupted under {cuts} connections, and {twice} were sent twice",
                to.name
            );
        }
        page.push_str(&held(to.name.as_str(), &to.standing));
    }
    page.push_str(&held("all", whole));
    if let Some(missing) = &link.missing {
        let _ = writeln!(page, "\nwarning: {missing}");
    }
    page.trim_end().to_owned()
}

fn row(to: &To) -> [String; 11] {
    let none = || "-".to_owned();
    let round_trip = match (to.round_trip_ms, to.shortest_round_trip_ms) {
        (Some(now), Some(shortest)) => format!("{now} ms ({shortest} at best)"),
        (None, Some(shortest)) => format!("{shortest} ms at best"),
        _ => none(),
    };
    [
        to.name.to_string(),
        activity(to.activity).to_owned(),
        count(to.associations),
        rate(to.standing.speed.sent_per_second),
        rate(to.standing.speed.received_per_second),
        per_mille(&to.standing),
        round_trip,
        amount(to.queued),
        to.empty_in_seconds.map_or_else(none, |seconds| duration(Duration::from_secs(seconds))),
        smaller(to),
        month(&to.standing),
    ]
}

/// How many times smaller what has left was than what is stored.
fn smaller(to: &To) -> String {
    match to.delivered_bytes.saturating_mul(10).checked_div(to.left_bytes) {
        Some(tenths) if tenths > 10 => format!("{}.{} times", tenths / 10, tenths % 10),
        _ => "-".to_owned(),
    }
}

/// What holds back what leaves, if something does.
fn held(name: &str, standing: &Standing) -> String {
    let mut text = String::new();
    if let Some(closed) = standing.closed {
        let _ = writeln!(text, "\n{name}: {closed}; nothing more is begun until then");
    }
    match (standing.rate, standing.courteous) {
        (Some(rate), false) => drop(writeln!(text, "\n{name}: no more than {rate}")),
        (Some(rate), true) => {
            let now = self::rate(rate.bits() / 8);
            let _ = writeln!(text, "\n{name}: no more than {now} at the moment, so that others are not slowed");
        }
        (None, _) => {}
    }
    if let Some(carries) = standing.carries.filter(|carries| standing.rate.is_none_or(|rate| *carries < rate)) {
        let _ = writeln!(text, "\n{name}: the link carries {} at the moment", rate(carries.bits() / 8));
    }
    if let Some(volume) = standing.volume
        && standing.closed.is_none()
        && standing.forecast > volume
    {
        let (forecast, volume) = (bytes(standing.forecast), bytes(volume));
        let _ = writeln!(
            text,
            "\nwarning: {name}: {forecast} are to be expected by the end of the month, and {volume} are allowed"
        );
    }
    text
}

fn month(standing: &Standing) -> String {
    match standing.volume {
        Some(volume) => format!("{} of {}", bytes(standing.used), bytes(volume)),
        None => bytes(standing.used),
    }
}

fn per_mille(standing: &Standing) -> String {
    let again = standing.speed.repeated_per_mille;
    format!("{}.{} %", again / 10, again % 10)
}

/// Bytes in a second, as links are sold.
fn rate(bytes_per_second: u64) -> String {
    let bits = bytes_per_second.saturating_mul(8);
    match bits {
        0 => "0".to_owned(),
        1..10_000 => format!("{}.{} kbit/s", bits / 1_000, bits % 1_000 / 100),
        10_000..1_000_000 => format!("{} kbit/s", bits / 1_000),
        _ => format!("{}.{} Mbit/s", bits / 1_000_000, bits % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use waystation::control::{Activity, Amount};
    use waystation::forward::pace::{Closed, Speed};
    use waystation::forward::wire::Volume;

    use super::*;

    fn standing() -> Standing {
        Standing {
            speed: Speed { sent_per_second: 231_000, received_per_second: 4_300, repeated_per_mille: 11 },
            rate: Some("2Mbit/s".parse().unwrap()),
            courteous: false,
            carries: None,
            closed: None,
            used: 12_300_000_000,
            forecast: 24_000_000_000,
            volume: Some(20_000_000_000),
        }
    }

    #[test]
    fn the_page_says_how_the_link_does_and_what_holds_it_back() {
        let to = To {
            name: "archive".parse().unwrap(),
            activity: Activity::Sending,
            associations: 4,
            sending: 4,
            queued: Amount { instances: 50, bytes: 26_000_000 },
            standing: standing(),
            volume: Volume { sent: 5, repeated: 1, received: 2, ..Volume::default() },
            delivered_bytes: 43_000_000,
            left_bytes: 10_000_000,
            cuts: 3,
            sent_twice_bytes: 1_200_000,
            round_trip_ms: Some(640),
            shortest_round_trip_ms: Some(601),
            empty_in_seconds: Some(130),
        };
        let whole = Standing { rate: None, volume: None, ..standing() };
        let link = Link { whole, missing: None, destinations: vec![to.clone()] };
        let text = page(&link);
        for part in ["1.8 Mbit/s", "34 kbit/s", "1.1 %", "640 ms (601 at best)", "2 min 10 s", "12.3 GB of 20.0 GB"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains("4.3 times") && text.contains("under 3 connections, and 1.2 MB were"), "{text}");
        assert!(text.contains("archive: no more than 2Mbit/s"), "{text}");
        assert!(text.contains("warning: archive: 24.0 GB are to be expected"), "{text}");
        for (carries, is_said) in [("1500kbit/s", true), ("3Mbit/s", false)] {
            let carries = Some(carries.parse().unwrap());
            let to = To { standing: Standing { carries, ..standing() }, ..to.clone() };
            let text = page(&Link { destinations: vec![to], ..link.clone() });
            assert_eq!(text.contains("archive: the link carries 1.5 Mbit/s at the moment"), is_said, "{text}");
        }
        let closed = Some(Closed::Hours { until: Some("2026-11-30T18:00:00".parse().unwrap()) });
        let to = To { standing: Standing { closed, ..standing() }, ..to };
        let text = page(&Link { destinations: vec![to], ..link });
        assert!(text.contains("archive: closed by hours until Mon 18:00; nothing more is begun"), "{text}");
    }
}
