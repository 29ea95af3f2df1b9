//! Turns what the gateway says about itself into text for people.

use std::fmt::Write as _;
use std::time::Duration;

pub(super) use waystation::control::words::{bytes, count, duration};
use waystation::control::{Activity, Amount, Commitment, DeliveryState, Destination, Receipt, Status};
use waystation::model::Timestamp;

/// The status page: five lines about the box, a table of the destinations, what somebody should look at.
pub(super) fn status(status: &Status, now: Timestamp) -> String {
    let mut page = String::new();
    let up = duration(now.saturating_since(status.started_at));
    let _ = writeln!(page, "{:<12}version {}, process {}, running for {up}", status.aet, status.version, status.pid);
    let listening = [(&status.listen, "DICOM"), (&status.listen_tls, "DICOM over TLS")];
    let listening: Vec<String> = listening
        .iter()
        .flat_map(|(addresses, kind)| addresses.iter().map(move |address| format!("{address} ({kind})")))
        .collect();
    let _ = writeln!(page, "listening   {}; associations open: {}", listening.join(", "), status.associations);
    let spool = &status.spool;
    let _ = writeln!(
        page,
        "spool       {} instances: {} received, {} on the disk; {} free, {} of it in reserve",
        count(spool.instances),
        bytes(spool.bytes),
        bytes(spool.stored_bytes),
        bytes(spool.free_bytes),
        bytes(spool.reserve_bytes),
    );
    let lasts = match (spool.days_left, spool.stored_per_day_bytes) {
        (Some(days), Some(rate)) => {
            let days = if days > 3_650 { "more than 3,650".into() } else { count(days) };
            format!("room for {days} days at the present rate ({} a day)", bytes(rate))
        }
        _ => "nothing came of late".into(),
    };
    let copies =
        format!("{} delivered copies take {}", count(spool.delivered_copies), bytes(spool.delivered_copies_bytes));
    let _ = writeln!(page, "room        {lasts}; {copies}");
    let scrub = &spool.scrub;
    let last = match scrub.last_complete_at {
        Some(at) => format!("last complete {at}, {} damaged", count(scrub.last_damaged)),
        None => "not complete yet".into(),
    };
    let _ = writeln!(
        page,
        "integrity   {} damaged; check of the disk: {} instances ({}) read, {last}",
        count(spool.damaged),
        count(scrub.checked),
        bytes(scrub.checked_bytes)
    );
    page.push_str(&commitment(&status.commitment, now));
    page.push('\n');
    page.push_str(&destinations(&status.destinations, now));
    for warning in &status.warnings {
        let _ = writeln!(page, "\nwarning: {warning}");
    }
    page
}

/// One line, and one for each modality that does not take its reports; nothing where nobody asks for commitment.
fn commitment(commitment: &Commitment, now: Timestamp) -> String {
    let mut text = String::new();
    if let Some(oldest) = commitment.oldest_at {
        let _ = writeln!(
            text,
            "commitment  {} requests are not reported yet, {} only wait for the modality; the oldest for {}",
            count(commitment.pending),
            count(commitment.to_report),
            duration(now.saturating_since(oldest))
        );
    }
    if commitment.damaged > 0 {
        let _ = writeln!(text, "            {} could not be read and were set aside", count(commitment.damaged));
    }
    for (modality, sentence) in &commitment.failures {
        let _ = writeln!(text, "            {modality}: {sentence}");
    }
    text
}

fn destinations(destinations: &[Destination], now: Timestamp) -> String {
    let header =
        ["DESTINATION", "QUEUED", "SENDING", "DELIVERED", "CONFIRMED", "TO CONFIRM", "PARKED", "OLDEST WAITS", "STATE"];
    let rows: Vec<[String; 9]> = destinations
        .iter()
        .map(|d| {
            [
                d.name.to_string(),
                amount(d.queued),
                count(d.sending),
                amount(d.delivered),
                count(d.confirmed.instances),
                count(d.unverified.instances),
                amount(d.parked),
                d.oldest_queued_at.map_or_else(|| "-".into(), |since| duration(now.saturating_since(since))),
                activity(d.activity).into(),
            ]
        })
        .collect();
    let mut page = table(&header, &rows);
    for destination in destinations.iter().filter(|d| !d.sentence.is_empty()) {
        let next = destination
            .next_attempt_seconds
            .map_or_else(String::new, |s| format!(" (next attempt in {})", duration(Duration::from_secs(s))));
        let _ = writeln!(page, "\n{}: {}{next}", destination.name, destination.sentence);
    }
    destinations.iter().for_each(|destination| page.push_str(&progress(destination)));
    for destination in destinations {
        if destination.unverified.instances + destination.confirmed.instances > 0 {
            let _ = writeln!(
                page,
                "\n{}: of the delivered, {} are confirmed and {} have still to be",
                destination.name,
                amount(destination.confirmed),
                amount(destination.unverified)
            );
        }
        if let Some(sentence) = &destination.verification {
            let _ = writeln!(page, "\n{}: it cannot be asked what it has: {sentence}", destination.name);
        }
    }
    page
}

/// What is on the way, how fast, and what cannot arrive.
fn progress(destination: &Destination) -> String {
    const NAMED: usize = 5;
    let (name, mut text) = (&destination.name, String::new());
    let rate = destination.goodput_bytes_per_second.map(|rate| format!("{} a second of late", bytes(rate)));
    if destination.sending_bytes > 0 {
        let (sent, all) = (bytes(destination.sent_bytes), bytes(destination.sending_bytes));
        let rate = rate.map_or_else(String::new, |rate| format!(", {rate} each"));
        let over = match destination.associations {
            0 | 1 => String::new(),
            several => format!(" over {several} associations"),
        };
        let _ = writeln!(text, "\n{name}: {sent} of {all} have left of what is being sent{over}{rate}");
    }
    for (number, why) in destination.obstacles.iter().take(NAMED) {
        let _ = writeln!(text, "\nwarning: {name}: instance {number} cannot arrive as things stand: {why}");
    }
    if destination.obstacles.len() > NAMED {
        let _ = writeln!(text, "\nwarning: {name}: {} more cannot arrive", destination.obstacles.len() - NAMED);
    }
    text
}

/// One line per instance and destination; the first page of them has a header.
pub(super) fn receipts(receipts: &[Receipt], first: bool) -> String {
    let header = ["INSTANCE", "BYTES", "SHA-256", "FROM", "RECEIVED", "TO", "STATE", "AT", "ANSWER"];
    let rows: Vec<[String; 9]> = receipts
        .iter()
        .map(|r| {
            [
                tail(r.sop_instance_uid.as_str(), 24),
                count(r.bytes),
                r.sha256.to_string()[..16].to_owned(),
                r.calling_ae.to_string(),
                r.received_at.to_string(),
                r.destination.to_string(),
                delivery_state(r.state).into(),
                r.confirmed_at.or(r.last_attempt_at).map_or_else(|| "-".into(), |at| at.to_string()),
                r.answer.clone().unwrap_or_else(|| "-".into()),
            ]
        })
        .collect();
    let page = table(&header, &rows);
    match first {
        true => page,
        false => page.split_once('\n').map_or_else(String::new, |(_, rest)| rest.to_owned()),
    }
}

pub(super) fn activity(activity: Activity) -> &'static str {
    match activity {
        Activity::Idle => "idle",
        Activity::Connecting => "connecting",
        Activity::Sending => "sending",
        Activity::Waiting => "waiting",
        Activity::NotConfigured => "not configured",
    }
}

fn delivery_state(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Queued => "queued",
        DeliveryState::Delivered => "delivered",
        DeliveryState::Confirmed => "confirmed",
        DeliveryState::Parked => "parked",
    }
}

/// Columns as wide as their widest cell, the last one free.
pub(super) fn table<const N: usize>(header: &[&str; N], rows: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].chars().count()).chain([header[column].len()]).max().unwrap_or(0)
    });
    let mut page = String::new();
    let mut line = |cells: &[&str; N]| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            let _ = write!(text, "{cell:<width$}  ");
        }
        let _ = writeln!(page, "{}", text.trim_end());
    };
    line(header);
    for row in rows {
        line(&std::array::from_fn(|column| row[column].as_str()));
    }
    page
}

/// The end of a long UID, where instances of a series differ.
fn tail(text: &str, length: usize) -> String {
    match text.len().checked_sub(length) {
        Some(cut) if cut > 0 => format!("…{}", text.get(cut + 1..).unwrap_or(text)),
        _ => text.to_owned(),
    }
}

pub(super) fn amount(amount: Amount) -> String {
    match amount.instances {
        0 => "0".into(),
        instances => format!("{} ({})", count(instances), bytes(amount.bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_uid_is_cut_at_its_front() {
        assert_eq!(tail("1.2.3", 24), "1.2.3");
        let cut = tail("1.2.840.113619.2.55.3.604688119.969.1268071029.320", 24);
        assert!(cut.starts_with('…') && cut.ends_with("1268071029.320"), "{cut}");
        assert_eq!(cut.chars().count(), 24);
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a".to_owned(), "1,000".to_owned()], ["longer".to_owned(), "2".to_owned()]];
        assert_eq!(table(&["X", "Y"], &rows), "X       Y\na       1,000\nlonger  2\n");
    }
}
