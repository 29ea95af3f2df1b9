//! `waystation door`: who may send, who knocks and is not let in, and the command that admits him.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;
use waystation::clock;
use waystation::control::{Admit, Admitted, DoorView, Forgotten, PeerView, Visit, client};
use waystation::dataset::dictionary;
use waystation::model::{DestinationName, Timestamp, Uid};

use super::backend::{as_json, block_on, failed, print};
use super::render::{bytes, count, duration, table};
use super::{Ask, DATA, Failure};

/// `waystation door`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Door {
    #[command(subcommand)]
    command: Option<DoorCommand>,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DoorCommand {
    /// Show the last associations of one modality, or of one who knocks
    Show {
        /// Its name in the list
        name: DestinationName,
        #[command(flatten)]
        ask: Ask,
    },
    /// Let in one who knocks, from now on
    ///
    /// It is admitted as it knocked: with this AE title, from this address, over TLS if it came over TLS. That is written
    /// to modalities/NAME.toml in the data folder, where more can be added. Nothing is restarted.
    Admit {
        /// Its name in the list
        name: DestinationName,
        /// What it shall be called from now on, if not as in the list
        #[arg(long = "as", value_name = "NAME")]
        new_name: Option<DestinationName>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Strike one off the list; it is entered again when it comes again
    Forget {
        /// Its name in the list
        name: DestinationName,
        #[command(flatten)]
        ask: Ask,
    },
}

/// Asks the gateway that runs on the data folder, and prints what it says.
pub(crate) fn run(door: &Door) -> Result<(), Failure> {
    match &door.command {
        None => {
            let view: DoorView = get(&door.ask, "/v1/door")?;
            answer(&door.ask, &view, |view| everybody(view, &door.ask.data, clock::wall()))
        }
        Some(DoorCommand::Show { name, ask }) => {
            let view: PeerView = get(ask, &format!("/v1/door/{name}"))?;
            answer(ask, &view, |view| one(view, &ask.data, clock::wall()))
        }
        Some(DoorCommand::Admit { name, new_name, ask }) => {
            let wish = Admit { knock: name.to_string(), name: new_name.clone() };
            let asked = client::ask_with(&ask.data, Method::POST, "/v1/door/admit", &wish);
            let admitted: Admitted = block_on(async { asked.await.map_err(failed) })?;
            answer(ask, &admitted, welcome)
        }
        Some(DoorCommand::Forget { name, ask }) => {
            let question = format!("/v1/door/{name}/forget");
            let forgotten: Forgotten =
                block_on(async { client::ask(&ask.data, Method::POST, &question).await.map_err(failed) })?;
            answer(ask, &forgotten, |forgotten| format!("{} is forgotten", forgotten.forgotten))
        }
    }
}

fn get<T: serde::de::DeserializeOwned>(ask: &Ask, question: &str) -> Result<T, Failure> {
    block_on(async { client::ask(&ask.data, Method::GET, question).await.map_err(failed) })
}

fn answer<T: serde::Serialize>(ask: &Ask, value: &T, render: impl FnOnce(&T) -> String) -> Result<(), Failure> {
    if ask.json { print(as_json(value)?) } else { print(render(value).trim_end()) }
}

fn welcome(admitted: &Admitted) -> String {
    let called: Vec<_> = admitted.called.iter().map(ToString::to_string).collect();
    let over = match &admitted.certificate_subject {
        Some(subject) => format!(", over TLS with the certificate of {subject:?}"),
        None if admitted.tls => ", over TLS".to_owned(),
        None => String::new(),
    };
    format!(
        "{} may send from now on: {} from {}, calling {}{over}\n{} says so; add limits or destinations there",
        admitted.name,
        admitted.calling,
        admitted.addresses.join(", "),
        called.join(" or "),
        admitted.file
    )
}

/// The command that admits somebody, as it is to be typed here.
fn command(name: &str, data: &Path) -> String {
    match data == Path::new(DATA) {
        true => format!("waystation door admit {name}"),
        false => format!("waystation door admit {name} --data {}", data.display()),
    }
}

fn everybody(view: &DoorView, data: &Path, now: Timestamp) -> String {
    let mut page = format!("Modalities call {}", view.aet);
    page.push_str(if view.allow_any { "; anybody may send (allow-any)\n\n" } else { "\n\n" });
    if view.admitted.is_empty() {
        page.push_str("No modality is listed, so nobody may send.\n");
    } else {
        let header =
            ["MODALITY", "CALLS AS", "FROM", "OPEN", "LAST SEEN", "ASSOCIATIONS", "REFUSED", "INSTANCES", "CLOCK"];
        page.push_str(&table(&header, &view.admitted.iter().map(|peer| admitted_row(peer, now)).collect::<Vec<_>>()));
    }
    for peer in &view.admitted {
        if let Some(problem) = &peer.problem {
            let _ = writeln!(page, "\n{}: {problem}", peer.name);
        }
    }
    for left_out in &view.left_out {
        let _ = writeln!(page, "\n{}: refused, because its file is left out: {}", left_out.name, left_out.problem);
    }
    if view.knocks.is_empty() {
        return page;
    }
    page.push_str("\nKnocking at the door, and not let in:\n\n");
    let header = ["NAME", "CALLS AS", "CALLS US", "FROM", "LAST SEEN", "TIMES"];
    page.push_str(&table(&header, &view.knocks.iter().map(|peer| knock_row(peer, now)).collect::<Vec<_>>()));
    for peer in &view.knocks {
        let _ = writeln!(page, "\n{}: {}", peer.name, peer.problem.as_deref().unwrap_or("nothing is wrong with it"));
        match &peer.cannot_be_admitted {
            Some(why) => drop(writeln!(page, "    cannot be admitted: {why}")),
            None => drop(writeln!(page, "    {}", command(&peer.name, data))),
        }
    }
    page
}

fn admitted_row(peer: &PeerView, now: Timestamp) -> [String; 9] {
    [
        peer.name.clone(),
        text(peer.calling.as_deref()),
        peer.addresses.join(", "),
        count(peer.open as u64),
        seen(peer, now),
        count(peer.associations),
        count(peer.refusals),
        if peer.instances == 0 { "0".into() } else { format!("{} ({})", count(peer.instances), bytes(peer.bytes)) },
        peer.clock.as_ref().map_or_else(|| "-".into(), |clock| clock_cell(clock.ahead_seconds)),
    ]
}

fn clock_cell(ahead_seconds: i64) -> String {
    let amount = duration(Duration::from_secs(ahead_seconds.unsigned_abs()));
    match ahead_seconds {
        0 => "in step".to_owned(),
        1.. => format!("{amount} ahead"),
        _ => "perhaps behind".to_owned(),
    }
}

fn knock_row(peer: &PeerView, now: Timestamp) -> [String; 6] {
    [
        peer.name.clone(),
        text(peer.calling.as_deref()),
        text(peer.called.as_deref()),
        peer.addresses.join(", "),
        seen(peer, now),
        count(peer.refusals.saturating_add(peer.associations)),
    ]
}

fn text(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

fn seen(peer: &PeerView, now: Timestamp) -> String {
    match peer.last_seen {
        _ if peer.open > 0 => "now".to_owned(),
        Some(at) => format!("{} ago", duration(now.saturating_since(at))),
        None => "never".to_owned(),
    }
}

/// One peer with its visits.
fn one(peer: &PeerView, data: &Path, now: Timestamp) -> String {
    let mut page = String::new();
    let calling = text(peer.calling.as_deref());
    let _ =
        writeln!(page, "{}: {calling} from {}, last seen: {}", peer.name, peer.addresses.join(", "), seen(peer, now));
    let _ = writeln!(
        page,
        "{} associations, {} refused; {} instances, {}",
        count(peer.associations),
        count(peer.refusals),
        count(peer.instances),
        bytes(peer.bytes)
    );
    if let Some(clock) = &peer.clock {
        let _ = writeln!(page, "{}", clock.words);
    }
    if let Some(problem) = &peer.problem {
        let _ = writeln!(page, "problem: {problem}");
    }
    match &peer.cannot_be_admitted {
        Some(why) => drop(writeln!(page, "cannot be admitted: {why}")),
        None if !peer.admitted => drop(writeln!(page, "if it belongs here: {}", command(&peer.name, data))),
        None => {}
    }
    for visit in &peer.visits {
        page.push('\n');
        one_visit(&mut page, visit);
    }
    page
}

fn one_visit(page: &mut String, visit: &Visit) {
    let security = match (&visit.subject, visit.tls) {
        (Some(subject), _) => format!("over TLS with the certificate of {subject:?}"),
        (None, true) => "over TLS".to_owned(),
        (None, false) => "in the clear".to_owned(),
    };
    let lasted = duration(visit.ended_at.saturating_since(visit.at));
    let _ = writeln!(page, "{} from {}, {security}, for {lasted}", visit.at, visit.address);
    if let Some(request) = &visit.request {
        let version = text(request.implementation_version.as_deref());
        let class = text(request.implementation_class_uid.as_ref().map(Uid::as_str));
        let _ = writeln!(page, "    {} calls {}; software {version} ({class})", request.calling, request.called);
        for context in &request.contexts {
            let what = context.sop_class.as_ref().map_or_else(|| "an unreadable SOP class".to_owned(), named);
            let more = if context.proposed_left_out > 0 { ", …" } else { "" };
            let proposed: Vec<&str> = context.proposed.iter().map(Uid::as_str).collect();
            let answer = match (&context.agreed, &context.refused) {
                (Some(agreed), _) => format!("agreed: {agreed}"),
                (None, Some(refused)) => refused.clone(),
                (None, None) => "not answered".to_owned(),
            };
            let _ = writeln!(page, "    {what}: proposed {}{more}; {answer}", proposed.join(", "));
        }
        if request.contexts_proposed > request.contexts.len() {
            let _ = writeln!(page, "    … {} more were proposed", request.contexts_proposed - request.contexts.len());
        }
    }
    let tally = &visit.tally;
    if tally.stored + tally.refused > 0 {
        let _ = writeln!(
            page,
            "    {} instances stored ({}), {} refused",
            count(tally.stored),
            bytes(tally.bytes),
            count(tally.refused)
        );
    }
    let _ = writeln!(page, "    {}{}", if visit.problem { "problem: " } else { "" }, visit.sentence);
}

fn named(uid: &Uid) -> String {
    dictionary::sop_class_name(uid).map_or_else(|| uid.to_string(), |name| format!("{name} ({uid})"))
}

#[cfg(test)]
mod tests {
    use waystation::control::{ClockView, LeftOutView};

    use super::*;

    fn peer(name: &str, admitted: bool) -> PeerView {
        PeerView {
            name: name.to_owned(),
            admitted,
            calling: Some(name.to_uppercase()),
            called: None,
            addresses: vec!["192.168.7.20".to_owned()],
            open: 0,
            last_seen: None,
            associations: 0,
            refusals: 2,
            instances: 0,
            bytes: 0,
            problem: None,
            clock: None,
            cannot_be_admitted: None,
            visits: Vec::new(),
        }
    }

    #[test]
    fn the_list_names_every_problem_and_the_command_for_each_who_may_be_admitted() {
        let now = Timestamp::from_millis(1_790_000_000_000);
        let strange = PeerView { cannot_be_admitted: Some("it has no name".to_owned()), ..peer("x", false) };
        let ahead = ClockView { ahead_seconds: 420, words: "its clock is 7 min ahead of this box".to_owned() };
        let wrong = PeerView { problem: Some("it calls us PACS".to_owned()), clock: Some(ahead), ..peer("ct1", true) };
        let mut view = DoorView {
            aet: "WAYSTATION".parse().unwrap(),
            allow_any: false,
            admitted: vec![wrong],
            knocks: vec![peer("us1", false), strange],
            left_out: vec![LeftOutView {
                name: "mr1".to_owned(),
                file: "/d/modalities/mr1.toml".to_owned(),
                problem: "/d/modalities/mr1.toml:1: modality.mr1: has no aet. Add it.".to_owned(),
            }],
        };
        let page = everybody(&view, Path::new(DATA), now);
        for piece in [
            "Modalities call WAYSTATION",
            "7 min 0 s ahead",
            "ct1: it calls us PACS",
            "    waystation door admit us1\n",
            "    cannot be admitted: it has no name",
            "mr1: refused, because its file is left out: /d/modalities/mr1.toml:1: modality.mr1: has no aet",
            "never",
        ] {
            assert!(page.contains(piece), "{piece}: {page}");
        }
        let page = everybody(&view, Path::new("/srv/data"), now);
        assert!(page.contains("waystation door admit us1 --data /srv/data\n"), "{page}");
        (view.admitted, view.knocks) = (Vec::new(), Vec::new());
        let page = everybody(&view, Path::new(DATA), now);
        assert!(page.contains("nobody may send") && !page.contains("Knocking"), "{page}");
        assert_eq!(clock_cell(0), "in step");
        assert_eq!(clock_cell(-700), "perhaps behind");
    }

    #[test]
    fn one_who_knocks_is_shown_with_the_command() {
        let now = Timestamp::from_millis(1_790_000_000_000);
        assert!(one(&peer("us1", false), Path::new(DATA), now).contains("waystation door admit us1"));
        assert!(!one(&peer("ct1", true), Path::new(DATA), now).contains("door admit"));
    }
}
