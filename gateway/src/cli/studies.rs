//! `waystation studies`, `why` and `retry`: what became of what came, in a table and in sentences.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Args, Subcommand};
use hyper::Method;
use serde::de::DeserializeOwned;
use waystation::control::client::{self, AskError};
use waystation::control::deliveries::{Expedited, Study, StudyDelivery};
use waystation::control::explain::{self, Why};
use waystation::control::words::{many, second};
use waystation::control::{PAGE, Released};
use waystation::model::{AeTitle, DestinationName, Uid};

use super::backend::{as_json, block_on, failed, print};
use super::render::{bytes, count, table};
use super::{Ask, DATA, Failure};

/// `waystation studies`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Studies {
    #[command(subcommand)]
    command: Option<StudiesCommand>,
    /// Only those of which something is still to be delivered or confirmed, or is parked
    #[arg(long)]
    undelivered: bool,
    /// How many at most
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StudiesCommand {
    /// Let a study go before everything that is not urgent itself, at every destination
    ///
    /// What comes of it later goes first, too. The instance that is being sent is finished before.
    Expedite {
        /// Its Study Instance UID
        study: Uid,
        #[command(flatten)]
        ask: Ask,
    },
}

/// `waystation why`
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// A Study Instance UID, a SOP Instance UID, or the gateway's own number of an instance
    #[arg(value_name = "STUDY|INSTANCE")]
    uid: Uid,
    #[command(flatten)]
    ask: Ask,
}

/// `waystation retry`
#[derive(Debug, Args)]
pub(crate) struct Retry {
    /// The name of the destination in the configuration
    #[arg(required_unless_present_any = ["study", "instance"])]
    destination: Option<DestinationName>,
    /// Only what is parked of the study with this Study Instance UID
    #[arg(long, value_name = "UID", conflicts_with = "instance")]
    study: Option<Uid>,
    /// Only the instance with this SOP Instance UID, or with this number
    #[arg(long, value_name = "UID")]
    instance: Option<Uid>,
    /// The data folder of the gateway that is asked
    #[arg(long, value_name = "DIR", default_value = DATA)]
    data: std::path::PathBuf,
}

/// Asks a gateway; what it does not know, it says in a sentence that stands for itself.
pub(super) async fn ask<T: DeserializeOwned>(data: &Path, method: Method, question: &str) -> Result<T, Failure> {
    client::ask(data, method, question).await.map_err(|error| match error {
        AskError::Refused { status: 404, message } => Failure::Failed(message),
        error => failed(error),
    })
}

pub(crate) fn run(studies: &Studies) -> Result<(), Failure> {
    match &studies.command {
        None => list(studies),
        Some(StudiesCommand::Expedite { study, ask: asked }) => {
            let question = format!("/v1/studies/{study}/expedite");
            let expedited: Expedited = block_on(ask(&asked.data, Method::POST, &question))?;
            match asked.json {
                true => print(as_json(&expedited)?),
                false => print(goes_first(study, expedited.changed)),
            }
        }
    }
}

fn goes_first(study: &Uid, changed: u64) -> String {
    let what = match changed {
        0 => "nothing of it was waiting behind others".to_owned(),
        1 => "1 delivery has moved to the front".to_owned(),
        changed => format!("{} deliveries have moved to the front", count(changed)),
    };
    format!("study {study} goes first from now on: {what}")
}

fn list(wish: &Studies) -> Result<(), Failure> {
    block_on(async {
        let limit = usize::try_from(wish.limit).unwrap_or(usize::MAX);
        let (mut before, mut sums, mut left) = (None, Sums::default(), limit);
        while left > 0 {
            let asked = left.min(PAGE);
            let mut question = format!("/v1/studies?limit={asked}&undelivered={}", wish.undelivered);
            if let Some(before) = before {
                let _ = write!(question, "&before={before}");
            }
            let page: Vec<Study> = ask(&wish.ask.data, Method::GET, &question).await?;
            page.iter().for_each(|study| sums.add(study));
            match wish.ask.json {
                true => page.iter().try_for_each(|study| print(as_json(study)?))?,
                false if page.is_empty() => {}
                false => print(rows(&page, before.is_none()).trim_end())?,
            }
            left -= page.len().min(left);
            before = page.last().map(|study| study.number);
            if page.len() < asked {
                break;
            }
        }
        if wish.ask.json { Ok(()) } else { print(sums.line(left == 0, wish.undelivered)) }
    })
}

/// What the list says at its end.
#[derive(Debug, Default)]
struct Sums {
    studies: u64,
    instances: u64,
    bytes: u64,
    open: u64,
    parked: u64,
}

impl Sums {
    fn add(&mut self, study: &Study) {
        self.studies += 1;
        self.instances += study.instances;
        self.bytes += study.bytes;
        self.open += u64::from(study.deliveries.iter().any(StudyDelivery::is_open));
        self.parked += u64::from(study.deliveries.iter().any(|delivery| delivery.parked.instances > 0));
    }

    fn line(&self, may_be_more: bool, undelivered: bool) -> String {
        if self.studies == 0 {
            return match undelivered {
                true => "Every study is delivered, and confirmed where that is asked for.".to_owned(),
                false => "No study came yet; waystation door shows who called.".to_owned(),
            };
        }
        let number = match self.studies {
            1 => "1 study".to_owned(),
            number => format!("{} studies", count(number)),
        };
        let mut line = format!("\n{number}: {}, {}; ", many(self.instances, "instance"), bytes(self.bytes));
        let _ = match (self.open, self.parked) {
            (0, _) => write!(line, "nothing of them is owed"),
            (open, 0) => write!(line, "something is owed of {}", count(open)),
            (open, parked) => {
                write!(line, "something is owed of {}, parked of {}: waystation why STUDY", count(open), count(parked))
            }
        };
        if may_be_more {
            line.push_str(". There may be older ones: --limit");
        }
        line
    }
}

/// Two lines or more for each study: what it is, and then one for each destination. The UID is whole, to be copied.
fn rows(studies: &[Study], first: bool) -> String {
    let header = ["STUDY", "MODALITY", "FROM", "FIRST CAME", "LAST CAME", "INSTANCES", "BYTES", ""];
    let cells: Vec<[String; 8]> = studies
        .iter()
        .map(|study| {
            let senders: Vec<&str> = study.calling_aes.iter().map(AeTitle::as_str).collect();
            let late = (study.late > 0).then(|| format!("{} late", count(study.late)));
            let notes = [study.expedited.then(|| "expedited".to_owned()), late];
            [
                study.study_instance_uid.to_string(),
                if study.modalities.is_empty() { "-".to_owned() } else { study.modalities.join(",") },
                senders.join(","),
                second(study.first_received_at),
                second(study.last_received_at),
                count(study.instances),
                bytes(study.bytes),
                notes.into_iter().flatten().collect::<Vec<_>>().join(", "),
            ]
        })
        .collect();
    let text = table(&header, &cells);
    let mut lines = text.lines();
    let mut page = String::new();
    if let Some(heading) = lines.next().filter(|_| first) {
        let _ = writeln!(page, "{heading}");
    }
    for (line, study) in lines.zip(studies) {
        let _ = writeln!(page, "{line}");
        if study.deliveries.is_empty() {
            let _ = writeln!(page, "    goes nowhere");
        }
        for delivery in &study.deliveries {
            let _ = writeln!(page, "    {}: {}", delivery.destination, explain::counts(delivery));
        }
    }
    page
}

pub(crate) fn why(wish: &Explain) -> Result<(), Failure> {
    let answers: Vec<Why> = block_on(ask(&wish.ask.data, Method::GET, &format!("/v1/why/{}", wish.uid)))?;
    if wish.ask.json {
        return print(as_json(&answers)?);
    }
    let pages: Vec<String> = answers.iter().map(in_sentences).collect();
    print(pages.join("\n").trim_end())
}

fn in_sentences(why: &Why) -> String {
    let mut page = format!("{}\n", why.about);
    for sentence in &why.sentences {
        let _ = writeln!(page, "  {sentence}");
    }
    for there in &why.destinations {
        let _ = writeln!(page, "\n{}", there.destination);
        for sentence in &there.sentences {
            let _ = writeln!(page, "  {sentence}");
        }
        for warning in &there.warnings {
            let _ = writeln!(page, "  warning: {warning}");
        }
        for remedy in &there.remedies {
            let _ = writeln!(page, "  to do: {remedy}");
        }
    }
    page
}

/// Asks the gateway to try what is parked again.
pub(crate) fn retry(wish: &Retry) -> Result<(), Failure> {
    let to = wish.destination.as_ref().map_or_else(String::new, |name| format!("?destination={name}"));
    let question = match (&wish.study, &wish.instance, &wish.destination) {
        (Some(study), ..) => format!("/v1/studies/{study}/retry{to}"),
        (None, Some(instance), _) => format!("/v1/instances/{instance}/retry{to}"),
        (None, None, Some(destination)) => format!("/v1/destinations/{destination}/retry"),
        (None, None, None) => return Err(Failure::Usage("name a destination, a study or an instance".to_owned())),
    };
    let Released { released } = block_on(ask(&wish.data, Method::POST, &question))?;
    let where_to = wish.destination.as_ref().map_or_else(String::new, |name| format!(" to {name}"));
    match released {
        1 => print(format_args!("1 parked delivery{where_to} waits for its turn again")),
        released => print(format_args!("{} parked deliveries{where_to} wait for their turn again", count(released))),
    }
}

#[cfg(test)]
mod tests {
    use waystation::control::explain::WhyThere;
    use waystation::control::{Amount, DeliveryState};
    use waystation::model::{InstanceId, Timestamp};

    use super::*;

    fn study(number: u64) -> Study {
        let amount = |instances| Amount { instances, bytes: 0 };
        Study {
            study_instance_uid: format!("1.2.826.0.1.3680043.8.498.{number}").parse().unwrap(),
            number: InstanceId(number),
            first_received_at: Timestamp::from_millis(1_700_000_000_000),
            last_received_at: Timestamp::from_millis(1_700_000_060_000),
            instances: 50,
            bytes: 25_000_000,
            late: 3,
            calling_aes: vec!["CT1".parse().unwrap()],
            modalities: vec!["CT".to_owned()],
            expedited: true,
            deliveries: vec![StudyDelivery {
                destination: "archive".parse().unwrap(),
                queued: amount(8),
                delivered: amount(40),
                unverified: amount(2),
                confirmed: amount(38),
                parked: amount(2),
            }],
        }
    }

    #[test]
    fn the_list_has_whole_uids_and_each_destination_in_words() {
        let page = rows(&[study(1), Study { deliveries: Vec::new(), ..study(2) }], true);
        let lines: Vec<&str> = page.lines().collect();
        assert_eq!(lines.len(), 5, "{page}");
        assert!(lines[0].starts_with("STUDY") && lines[1].starts_with("1.2.826.0.1.3680043.8.498.1 "), "{page}");
        assert!(lines[1].ends_with("expedited, 3 late"), "{page}");
        assert_eq!(lines[2], "    archive: delivered 40 of 50, confirmed 38, to be confirmed 2, parked 2, queued 8");
        assert_eq!(lines[4], "    goes nowhere");
        assert!(!rows(&[study(1)], false).contains("STUDY"));
    }

    #[test]
    fn the_end_of_the_list_sums_it_up() {
        let mut sums = Sums::default();
        assert!(sums.line(false, true).starts_with("Every study is delivered"));
        assert!(sums.line(false, false).starts_with("No study came"));
        sums.add(&study(1));
        sums.add(&Study { deliveries: Vec::new(), ..study(2) });
        let line = sums.line(true, false);
        assert_eq!(
            line.trim(),
            "2 studies: 100 instances, 50.0 MB; something is owed of 1, parked of 1: waystation why STUDY. There may be \
             older ones: --limit"
        );
    }

    #[test]
    fn reasons_come_with_what_is_to_be_done() {
        let there = WhyThere {
            destination: "archive".parse().unwrap(),
            state: DeliveryState::Parked,
            sentences: vec!["parked".to_owned()],
            remedies: vec!["waystation retry archive".to_owned()],
            warnings: vec!["it is slow".to_owned()],
        };
        let why = Why { about: "study 1.2".to_owned(), sentences: vec!["50".to_owned()], destinations: vec![there] };
        assert_eq!(
            in_sentences(&why),
            "study 1.2\n  50\n\narchive\n  parked\n  warning: it is slow\n  to do: waystation retry archive\n"
        );
    }
}
