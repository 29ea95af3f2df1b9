//! `waystation receipt`: the proof for one study, as a page that can be printed or as JSON. It is read from the gateway in
//! parts and written as it comes, so that a study may have any number of instances.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use hyper::Method;
use waystation::control::deliveries::{Asking, Delivery, ReceiptHeader, ReceiptInstance, ReceiptPage, Standing};
use waystation::control::words::{bytes, count, many, second};
use waystation::model::{AeTitle, InstanceId, Uid};

use super::backend::{as_json, block_on, failed, print};
use super::studies::ask;
use super::{Ask, Failure};

/// The width of the page, in characters. A UID or a hash fits on a line with its label.
const WIDTH: usize = 96;

/// `waystation receipt`
#[derive(Debug, Args)]
pub(crate) struct Receipt {
    /// Its Study Instance UID
    study: Uid,
    /// Write it into this file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    ask: Ask,
}

pub(crate) fn run(wish: &Receipt) -> Result<(), Failure> {
    let Some(path) = &wish.out else {
        return block_on(write(wish, BufWriter::new(io::stdout()))).map(drop);
    };
    let cannot = |error: io::Error| failed(format_args!("cannot write {}: {error}", path.display()));
    let file = File::create_new(path).map_err(cannot)?;
    let written = block_on(write(wish, BufWriter::new(&file))).and_then(|number| {
        file.sync_all().map_err(cannot)?;
        Ok(number)
    });
    match written {
        Ok(number) => print(format_args!("the receipt of {} is in {}", many(number, "instance"), path.display())),
        Err(failure) => {
            // A part of a receipt is none. If it cannot be removed, its missing last line shows what it is.
            let _ = fs::remove_file(path);
            Err(failure)
        }
    }
}

/// Writes all of it, as it comes; gives the number of instances.
async fn write(wish: &Receipt, mut to: impl Write) -> Result<u64, Failure> {
    let mut page = part(&wish.ask.data, &wish.study, None).await?;
    let mut number = 0;
    wrote(to.write_all(above(&page.header, wish.ask.json)?.as_bytes()))?;
    loop {
        for instance in &page.instances {
            number += 1;
            let text = match wish.ask.json {
                true if number == 1 => as_json(instance)?,
                true => format!(",\n{}", as_json(instance)?),
                false => block(number, instance),
            };
            wrote(to.write_all(text.as_bytes()))?;
        }
        let Some(next) = page.next else { break };
        page = part(&wish.ask.data, &wish.study, Some(next)).await?;
    }
    let end = match wish.ask.json {
        true => "]}\n".to_owned(),
        false => format!("\nEnd of the receipt: {}.\n", many(number, "instance")),
    };
    wrote(to.write_all(end.as_bytes()).and_then(|()| to.flush()))?;
    Ok(number)
}

async fn part(data: &Path, study: &Uid, after: Option<InstanceId>) -> Result<ReceiptPage, Failure> {
    let after = after.map_or_else(String::new, |after| format!("?after={after}"));
    ask(data, Method::GET, &format!("/v1/receipt/{study}{after}")).await
}

/// Whoever reads our output through a pipe may have seen enough: then it ends quietly.
fn wrote(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.map_err(|error| failed(format_args!("the receipt could not be written: {error}"))),
    }
}

/// What comes before the instances.
fn above(header: &ReceiptHeader, json: bool) -> Result<String, Failure> {
    if !json {
        return Ok(heading(header));
    }
    let mut text = as_json(header)?;
    // The object goes on with the instances.
    if text.pop() != Some('}') {
        return Err(failed("the header of the receipt is no JSON object"));
    }
    text.push_str(",\"instances\":[");
    Ok(text)
}

fn heading(header: &ReceiptHeader) -> String {
    let study = &header.study;
    let senders: Vec<&str> = study.calling_aes.iter().map(AeTitle::as_str).collect();
    let mut page = "RECEIPT FOR A STUDY\n\n".to_owned();
    let modalities =
        if study.modalities.is_empty() { String::new() } else { format!(", {}", study.modalities.join(" and ")) };
    let late = if study.late > 0 { format!(", {} of them late", count(study.late)) } else { String::new() };
    for (label, text) in [
        ("Study", study.study_instance_uid.to_string()),
        ("Received", format!("{}, {}{modalities}{late}", many(study.instances, "instance"), bytes(study.bytes))),
        ("From", senders.join(", ")),
        ("First, last", format!("{} to {}", second(study.first_received_at), second(study.last_received_at))),
        ("By", format!("{}, Waystation {}", header.gateway, header.version)),
        ("As of", second(header.made_at)),
    ] {
        page.push_str(&wrapped(&format!("{label:<13}"), 13, &text));
    }
    page.push('\n');
    for sentence in &header.sentences {
        page.push_str(&wrapped("", 2, sentence));
    }
    page.push_str(
        "\n\"Delivered\" is what a destination has answered once; \"confirmed\" is what it has said when it was\n\
         asked afterwards. SHA-256 and bytes are those of the data set, without the header of a file.\n\
         Times are UTC, by the clock of the gateway.\n",
    );
    page.push_str(&wrapped("", 0, &header.check));
    page
}

/// One instance.
fn block(number: u64, proof: &ReceiptInstance) -> String {
    const INDENT: &str = "       ";
    let instance = &proof.instance;
    let late = if instance.late { ", late" } else { "" };
    let mut text = format!("\n{number:>5}  {}\n", instance.sop_instance_uid);
    let _ = writeln!(text, "{INDENT}SHA-256 {}", instance.sha256);
    let received = format!(
        "{} bytes, received {} from {}{late}",
        count(instance.bytes),
        instance.received_at,
        instance.calling_ae
    );
    text.push_str(&wrapped(INDENT, INDENT.len(), &received));
    match (&instance.rule, instance.withheld) {
        (Some(rule), true) => drop(writeln!(text, "{INDENT}withheld by the rule {rule}: it goes nowhere")),
        (None, true) => drop(writeln!(text, "{INDENT}withheld by a rule: it goes nowhere")),
        _ if instance.deliveries.is_empty() => drop(writeln!(text, "{INDENT}no destination was configured for it")),
        _ => {}
    }
    for delivery in &instance.deliveries {
        for line in stood(delivery) {
            text.push_str(&wrapped(INDENT, INDENT.len() + 2, &line));
        }
    }
    if let Some(last) = proof.ledger.last() {
        let place = format!("ledger: {}, line {}, SHA-256 of the line", last.file, last.n);
        let _ = writeln!(text, "{INDENT}{place}\n{INDENT}  {}", last.sha256);
    }
    text
}

/// Where a delivery stands: a line, and one more if it was confirmed or asked about.
fn stood(delivery: &Delivery) -> Vec<String> {
    let to = &delivery.destination;
    match &delivery.standing {
        Standing::Queued { attempts: 0, .. } => vec![format!("{to}: queued, not delivered; no attempt yet")],
        Standing::Queued { attempts, last_answer, last_at, .. } => {
            let answer = last_answer.as_ref().map_or_else(String::new, |answer| format!(": {answer}"));
            let at = last_at.map_or_else(String::new, |at| format!(" {at}"));
            vec![format!("{to}: queued, not delivered; attempt {attempts}{at}{answer}")]
        }
        Standing::Delivered { delivered_at, attempts, answer, asking } => {
            let mut lines = vec![format!("{to}: delivered {delivered_at}, attempt {attempts}: {answer}")];
            lines.extend(asking.as_ref().map(|asking| format!("{to}: {}", not_confirmed(asking))));
            lines
        }
        Standing::Confirmed { delivered_at, attempts, answer, confirmed_at, asked, confirmation } => vec![
            format!("{to}: delivered {delivered_at}, attempt {attempts}: {answer}"),
            format!("{to}: confirmed {confirmed_at}, asked {asked}: {confirmation}"),
        ],
        Standing::Parked { parked_at, attempts, reason } => {
            vec![format!(
                "{to}: parked {parked_at}, not delivered; {}: {reason}",
                many(u64::from(*attempts), "attempt")
            )]
        }
    }
}

fn not_confirmed(asking: &Asking) -> String {
    match (asking.asked, &asking.last_answer, asking.last_at) {
        (0, ..) => "not confirmed yet, not asked so far".to_owned(),
        (asked, Some(answer), Some(at)) => format!("not confirmed yet, asked {asked}, last {at}: {answer}"),
        (asked, ..) => format!("not confirmed yet, asked {asked}"),
    }
}

/// The text behind a label, broken at spaces to the width of the page; further lines are indented. A word that is longer
/// than a line stays whole.
fn wrapped(label: &str, indent: usize, text: &str) -> String {
    let mut page = label.to_owned();
    let (mut column, mut is_first) = (label.chars().count(), true);
    for word in text.split(' ') {
        let width = word.chars().count();
        if !is_first && column + 1 + width > WIDTH {
            let _ = write!(page, "\n{:indent$}", "");
            column = indent;
        } else if !is_first {
            page.push(' ');
            column += 1;
        }
        page.push_str(word);
        column += width;
        is_first = false;
    }
    page.push('\n');
    page
}

#[cfg(test)]
mod tests {
    use waystation::control::Amount;
    use waystation::control::deliveries::{Instance, LedgerLine, Study, StudyDelivery};
    use waystation::control::explain;
    use waystation::model::{ContentHash, Timestamp};

    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn longest_uid(last: u64) -> Uid {
        format!("1.2.826.0.1.3680043.8.498.{last:038}").parse().unwrap()
    }

    fn header() -> ReceiptHeader {
        let amount = |instances| Amount { instances, bytes: 0 };
        let study = Study {
            study_instance_uid: longest_uid(1),
            number: InstanceId(1),
            first_received_at: AT,
            last_received_at: AT,
            instances: 50,
            bytes: 25_000_000,
            late: 1,
            calling_aes: vec!["CT1".parse().unwrap()],
            modalities: vec!["CT".to_owned(), "SR".to_owned()],
            expedited: false,
            deliveries: vec![StudyDelivery {
                destination: "archive".parse().unwrap(),
                queued: amount(0),
                delivered: amount(50),
                unverified: amount(2),
                confirmed: amount(48),
                parked: amount(0),
            }],
        };
        let sentences = explain::receipt(&study);
        ReceiptHeader {
            made_at: AT,
            gateway: "BOX".parse().unwrap(),
            version: "1.0.0".to_owned(),
            sentences,
            check: explain::CHECK.to_owned(),
            study,
        }
    }

    fn proof(standing: Standing) -> ReceiptInstance {
        let instance = Instance {
            number: InstanceId(1),
            sop_instance_uid: longest_uid(2),
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
            study_instance_uid: Some(longest_uid(1)),
            series_instance_uid: None,
            transfer_syntax: "1.2.840.10008.1.2.1".parse().unwrap(),
            calling_ae: "CT1".parse().unwrap(),
            peer: None,
            received_at: AT,
            bytes: 524_288,
            sha256: ContentHash([0xab; 32]),
            on_disk: true,
            late: false,
            rule: None,
            withheld: false,
            deliveries: vec![Delivery { destination: "archive".parse().unwrap(), standing }],
        };
        ReceiptInstance { instance, ledger: Vec::new() }
    }

    #[test]
    fn the_page_says_the_worst_first_and_fits_on_paper() {
        let page = heading(&header());
        for piece in [
            "50 instances, 25.0 MB, CT and SR, 1 of them late",
            "BOX, Waystation 1.0.0",
            "All that is owed is delivered. Still to be confirmed: 2 deliveries.",
            "48 of 50 confirmed by archive, 2 delivered and not yet confirmed",
        ] {
            assert!(page.contains(piece), "{piece}: {page}");
        }
        assert!(page.lines().all(|line| line.chars().count() <= WIDTH), "{page}");
    }

    #[test]
    fn every_standing_has_its_line_with_times_and_answers() {
        let long = "refused 3 times, last with A900 (Data Set Does Not Match SOP Class): ".repeat(3);
        let confirmed = Standing::Confirmed {
            delivered_at: AT,
            attempts: 2,
            answer: "0000 (Success)".to_owned(),
            confirmed_at: AT,
            asked: 1,
            confirmation: "committed".to_owned(),
        };
        let asking =
            Some(Asking { due_in_seconds: 0, asked: 2, last_answer: Some("not found".into()), last_at: Some(AT) });
        let delivered = Standing::Delivered { delivered_at: AT, attempts: 1, answer: "0000".to_owned(), asking };
        let parked = Standing::Parked { parked_at: AT, attempts: 3, reason: long };
        for (standing, pieces) in [
            (confirmed, ["delivered 2023-11-14T22:13:20.000Z, attempt 2: 0000", "confirmed 2023-11-14T22:13:20.000Z"]),
            (delivered, ["attempt 1: 0000", "not confirmed yet, asked 2, last 2023-11-14T22:13:20.000Z: not found"]),
            (parked, ["parked 2023-11-14T22:13:20.000Z, not delivered; 3 attempts: refused", "A900"]),
        ] {
            let text = block(1, &proof(standing));
            for piece in pieces {
                assert!(text.contains(piece), "{piece}: {text}");
            }
            assert!(text.contains(&format!("SHA-256 {}", "ab".repeat(32))) && text.contains("524,288 bytes"), "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        }
    }

    #[test]
    fn the_last_line_of_the_ledger_is_named() {
        let mut proof = proof(Standing::Parked { parked_at: AT, attempts: 0, reason: "why".to_owned() });
        assert!(!block(1, &proof).contains("ledger"));
        let line = |n| LedgerLine { file: "2026-11.log".into(), n, sha256: "cd".repeat(32), line: "{}".into() };
        proof.ledger = vec![line(5), line(9)];
        let text = block(1, &proof);
        assert!(text.contains("ledger: 2026-11.log, line 9") && text.contains(&"cd".repeat(32)), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn the_parts_make_one_json_object() {
        let queued = Standing::Queued {
            priority: waystation::model::Priority::Routine,
            attempts: 0,
            due_in_seconds: 0,
            last_answer: None,
            last_at: None,
        };
        let instance = as_json(&proof(queued)).unwrap();
        let text = format!("{}{instance},{instance}]}}", above(&header(), true).unwrap());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["instances"][1]["deliveries"][0]["state"], "queued");
        assert_eq!(value["instances"][0]["sop-instance-uid"], longest_uid(2).to_string());
        assert_eq!(value["study"]["instances"], 50);
        assert_eq!(value["sentences"][1], "48 of 50 confirmed by archive, 2 delivered and not yet confirmed");
    }

    #[test]
    fn text_is_broken_at_spaces() {
        let text = wrapped("to: ", 4, &"word ".repeat(40));
        assert!(text.lines().count() > 1 && text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("    ")), "{text}");
        let long = "x".repeat(200);
        assert!(wrapped("", 2, &long).contains(&long));
    }
}
