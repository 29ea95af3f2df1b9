//! `waystation route`: what would become of a DICOM file if a modality sent it, and why.
//!
//! It shows what the file says of itself, escaped, because whoever asks has the file. It asks no running gateway: the
//! configuration is read as a start or a reload would read it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use waystation::clock;
use waystation::config::{Admission, Coercion, Config, Flags, HandedOver, Modality, Source};
use waystation::dataset::{dictionary, part10};
use waystation::logging::escaped;
use waystation::model::{AeTitle, DestinationName, Priority, Uid};
use waystation::receive::scan::{HeaderScan, Scan};
use waystation::routing::{Decision, Subject, Without, word};

use super::Failure;
use super::backend::{as_json, print};
use super::render::bytes;

/// The configuration of a gateway that runs as a service.
const CONFIG: &str = "/etc/waystation/waystation.toml";

/// `waystation route`
#[derive(Debug, Args)]
pub(crate) struct Route {
    /// A DICOM file
    file: PathBuf,
    /// The AE title that sends it; without it, the Source Application Entity Title of the file
    #[arg(long, value_name = "NAME")]
    calling: Option<AeTitle>,
    /// The AE title that is called; without it, that of the gateway
    #[arg(long, value_name = "NAME")]
    called: Option<AeTitle>,
    /// The address that it comes from; without it, the modality is told by its AE title alone
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// The priority that the modality asks for: high, medium or low
    #[arg(long, value_name = "PRIORITY", default_value = "medium", value_parser = dimse_priority)]
    dimse_priority: Priority,
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// A socket that systemd hands over, dicom or dicom-tls, as for check-config; may be given several times
    #[arg(long, value_name = "NAME")]
    socket: Vec<String>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

fn dimse_priority(text: &str) -> Result<Priority, String> {
    match text {
        "high" => Ok(Priority::Stat),
        "medium" => Ok(Priority::Routine),
        "low" => Ok(Priority::Low),
        _ => Err("high, medium or low are possible".into()),
    }
}

/// What would become of the file.
#[derive(Debug, Serialize)]
struct Prospect {
    calling: AeTitle,
    called: AeTitle,
    address: Option<IpAddr>,
    /// Which modality it counts as; `None` if anybody may send, or this one may not.
    modality: Option<DestinationName>,
    /// The configuration lets it in.
    admitted: bool,
    sop_class: Uid,
    transfer_syntax: Uid,
    bytes: u64,
    rules: Vec<Tried>,
    /// The rule that decides.
    rule: Option<DestinationName>,
    withheld: bool,
    destinations: Vec<Target>,
    priority: Priority,
}

#[derive(Debug, Serialize)]
struct Tried {
    rule: DestinationName,
    /// The first condition that does not fit.
    misfit: Option<String>,
}

#[derive(Debug, Serialize)]
struct Target {
    name: DestinationName,
    url: String,
    /// The tables `[coerce.NAME]` that apply to it on the way there.
    coercions: Vec<DestinationName>,
}

/// Reads the configuration and the file, and prints what would become of it.
pub(crate) fn run(route: &Route) -> Result<(), Failure> {
    // Where it listens in the clear does not matter here: a socket of the service manager is as good as an address.
    let mut sockets = HandedOver { plain: true, tls: false };
    route.socket.iter().try_for_each(|name| sockets.note(name)).map_err(Failure::Usage)?;
    let source = Source { file: Some(route.config.clone()), flags: Flags::default(), sockets };
    let config = source
        .load(clock::wall())
        .map_err(|findings| Failure::Usage(format!("this configuration cannot be used\n{findings}")))?;
    let (found, scan) = scan(&route.file)?;
    let prospect = prospect(route, &config, found, &scan)?;
    match route.json {
        true => print(as_json(&prospect)?),
        false => print(page(&route.file, &prospect, matches!(config.admission, Admission::Any)).trim_end()),
    }
}

/// Reads a DICOM file to its end.
fn scan(path: &Path) -> Result<(part10::FoundMeta, Scan), Failure> {
    let unusable = |why: String| Failure::Failed(format!("{}: {why}", path.display()));
    let file = File::open(path).map_err(|error| unusable(format!("cannot be opened: {error}")))?;
    let (found, mut data_set) = part10::read_file_meta(BufReader::new(file)).map_err(|e| unusable(e.to_string()))?;
    let mut scan = HeaderScan::new(&found.transfer_syntax);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match data_set.read(&mut buffer) {
            Ok(0) => return Ok((found, scan.finish())),
            Ok(count) => scan.feed(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unusable(format!("cannot be read: {error}"))),
        }
    }
}

fn prospect(route: &Route, config: &Config, found: part10::FoundMeta, scan: &Scan) -> Result<Prospect, Failure> {
    let refused = |why: &str| Failure::Failed(format!("{} would be refused at the door: {why}", route.file.display()));
    let (Some(sop_class), Some(instance)) = (&scan.sop_class_uid, &scan.sop_instance_uid) else {
        let why =
            scan.defect.map_or("The data set has no SOP Class UID or no SOP Instance UID.".into(), |d| d.to_string());
        return Err(refused(&why));
    };
    scan.check(sop_class, instance).map_err(|refusal| refused(&refusal.comment))?;
    let Some(calling) = route.calling.clone().or(found.source_ae) else {
        return Err(Failure::Usage("the file does not say who has sent it: add --calling and the AE title".into()));
    };
    let called = route.called.clone().unwrap_or_else(|| config.aet.clone());
    let modality = config.admission.sender(&calling, route.address);
    let everywhere = config.default_destinations();
    let subject = Subject {
        calling: &calling,
        called: &called,
        address: route.address,
        sop_class,
        transfer_syntax: &found.transfer_syntax,
        dimse_priority: route.dimse_priority,
        length: scan.length,
        attributes: &scan.attributes,
    };
    let without = Without {
        destinations: modality.and_then(|modality| modality.to.as_ref()).unwrap_or(&everywhere),
        priority: modality.and_then(|modality| modality.priority),
    };
    let Decision { rule, destinations, withheld, priority } = config.rules.decide(&subject, without);
    let tried = |rule: &waystation::routing::Rule| Tried {
        rule: rule.name.clone(),
        misfit: rule.misfit(&subject).map(|condition| condition.misfit(&subject)),
    };
    let target = |name| {
        let url = config.destinations.iter().find(|to| to.name == name).map(|to| to.url.to_string());
        let applies = |coercion: &&Coercion| {
            coercion.to.contains(&name) && coercion.conditions.iter().all(|condition| condition.fits(&subject))
        };
        let coercions = config.coercions.iter().filter(applies).map(|coercion| coercion.name.clone()).collect();
        Target { name, url: url.unwrap_or_default(), coercions }
    };
    Ok(Prospect {
        address: route.address,
        admitted: is_admitted(&config.admission, modality, &called),
        modality: modality.map(|modality| modality.name.clone()),
        sop_class: sop_class.clone(),
        transfer_syntax: found.transfer_syntax.clone(),
        bytes: scan.length,
        rules: config.rules.as_slice().iter().map(tried).collect(),
        rule,
        withheld,
        destinations: destinations.into_iter().map(target).collect(),
        priority,
        calling,
        called,
    })
}

fn is_admitted(admission: &Admission, modality: Option<&Modality>, called: &AeTitle) -> bool {
    match modality {
        Some(modality) => modality.called.contains(called),
        None => matches!(admission, Admission::Any),
    }
}

fn page(file: &Path, prospect: &Prospect, anybody: bool) -> String {
    let mut page = String::new();
    let class = dictionary::sop_class_name(&prospect.sop_class).unwrap_or(prospect.sop_class.as_str());
    let _ = writeln!(page, "{}: {class}, {}", file.display(), bytes(prospect.bytes));
    let from = prospect.address.map_or_else(String::new, |address| format!(" from {address}"));
    let who = match &prospect.modality {
        Some(name) => format!("the modality {name}"),
        None if anybody => "anybody, who may send here".to_owned(),
        None => "nobody who may send".to_owned(),
    };
    let _ = writeln!(page, "{}{from}, calling {}, counts as {who}", prospect.calling, prospect.called);
    if !prospect.admitted {
        page.push_str("It would be rejected at the door (waystation door says how to let it in). If it came:\n");
    }
    let mut decided = false;
    for tried in &prospect.rules {
        let verdict = match &tried.misfit {
            Some(misfit) => escaped(misfit).into_owned(),
            None if decided => "fits, too, but an earlier one has decided".to_owned(),
            None => "fits, and decides".to_owned(),
        };
        decided |= tried.misfit.is_none();
        let _ = writeln!(page, "rule {}: {verdict}", tried.rule);
    }
    match (prospect.withheld, prospect.destinations.is_empty()) {
        (true, _) => page.push_str("withheld: it is kept here and goes nowhere\n"),
        (false, true) => page.push_str("goes nowhere\n"),
        (false, false) => {}
    }
    for target in &prospect.destinations {
        let _ = writeln!(page, "goes to {}: {}", target.name, target.url);
        for coercion in &target.coercions {
            let _ = writeln!(page, "  with the changes of coerce.{coercion}");
        }
    }
    let _ = writeln!(page, "priority {}", word(prospect.priority));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prospect(rules: Vec<Tried>, withheld: bool) -> Prospect {
        let coercions = vec!["prefix".parse().unwrap()];
        let target = Target { name: "archive".parse().unwrap(), url: "file:///srv".into(), coercions };
        Prospect {
            calling: "CT1".parse().unwrap(),
            called: "WAYSTATION".parse().unwrap(),
            address: None,
            modality: Some("ct1".parse().unwrap()),
            admitted: true,
            sop_class: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
            transfer_syntax: "1.2.840.10008.1.2.1".parse().unwrap(),
            bytes: 1_000,
            rules,
            rule: None,
            withheld,
            destinations: if withheld { Vec::new() } else { vec![target] },
            priority: Priority::Stat,
        }
    }

    #[test]
    fn each_rule_says_why_it_does_not_fit_and_one_decides() {
        let tried =
            |rule: &str, misfit: Option<&str>| Tried { rule: rule.parse().unwrap(), misfit: misfit.map(str::to_owned) };
        let rules =
            vec![tried("ct-night", Some("modality is MR\u{1b}, not CT")), tried("mr", None), tried("rest", None)];
        let page = page(Path::new("x.dcm"), &prospect(rules, false), false);
        let lines: Vec<&str> = page.lines().collect();
        assert_eq!(
            lines[1..],
            [
                "CT1, calling WAYSTATION, counts as the modality ct1",
                "rule ct-night: modality is MR\\u{1b}, not CT",
                "rule mr: fits, and decides",
                "rule rest: fits, too, but an earlier one has decided",
                "goes to archive: file:///srv",
                "  with the changes of coerce.prefix",
                "priority stat",
            ]
        );
    }

    #[test]
    fn what_is_withheld_and_who_is_not_let_in_is_said() {
        let stranger = Prospect { modality: None, admitted: false, ..prospect(Vec::new(), true) };
        let page = page(Path::new("x.dcm"), &stranger, false);
        assert!(page.contains("counts as nobody who may send"), "{page}");
        assert!(page.contains("rejected at the door"), "{page}");
        assert!(page.contains("withheld: it is kept here and goes nowhere"), "{page}");
    }
}
