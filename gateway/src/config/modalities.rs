//! Who may send: `allow-any`, each `[modality.NAME]` of the file, and each file of [`FOLDER`] in the data folder.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::admission::{Admission, Modality};
use super::commitment;
use super::finding::{Finding, Place, is_of_the_process, is_passing};
use super::reader::{Given, Reader};
use super::settings::Destination;
use super::units::Bytes;
use super::validate::{destination_names, parsed, priority};
use super::{Unreadable, read_file};
use crate::model::{AeTitle, DestinationName, Network, NetworkError, Uid};
use crate::tls::ClientCertificates;

/// The folder in the data folder that holds the modalities which were admitted by command, a file for each.
pub const FOLDER: &str = "modalities";

/// The kind of table in which a modality is described.
pub(super) const TABLE: &str = "modality";

/// The longest text of a certificate's subject, in bytes.
const LONGEST_SUBJECT: usize = 1_024;

/// The file of the modality `name` in the data folder `data`.
#[must_use]
pub fn file_of(data: &Path, name: &DestinationName) -> PathBuf {
    data.join(FOLDER).join(format!("{name}.toml"))
}

/// The text of such a file for a modality of which nothing is known but how it called; limits and the like are for a
/// person to add. `aet` is the gateway's own title.
#[must_use]
pub fn as_toml(modality: &Modality, aet: &AeTitle) -> String {
    let text = |text: &str| toml::Value::String(text.to_owned());
    let list = |texts: Vec<String>| toml::Value::Array(texts.into_iter().map(toml::Value::String).collect());
    let texts = |items: &[AeTitle]| list(items.iter().map(ToString::to_string).collect());
    let mut lines = vec![
        ("aet", text(modality.aet.as_str())),
        ("addresses", list(modality.addresses.iter().map(ToString::to_string).collect())),
    ];
    if modality.called != [aet.clone()] {
        lines.push(("called", texts(&modality.called)));
    }
    if modality.tls {
        lines.push(("tls", toml::Value::Boolean(true)));
    }
    if let Some(subject) = &modality.certificate_subject {
        lines.push(("certificate-subject", text(subject)));
    }
    lines.into_iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
}

/// What else of the configuration a modality has to fit to.
pub(super) struct Neighbours<'a> {
    pub(super) aet: Option<&'a AeTitle>,
    pub(super) destinations: &'a [Given<Destination>],
    pub(super) listens_tls: bool,
    pub(super) client_certificates: ClientCertificates,
    /// There is an authority to check certificates by.
    pub(super) has_ca: bool,
}

/// What is read beside the configuration file, other than every file of the data folder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beside<'a> {
    /// These files are not.
    pub(super) without: &'a BTreeSet<PathBuf>,
    /// This text is, as if it were in this file.
    pub(super) and: Option<(&'a Path, &'a str)>,
}

impl Beside<'static> {
    /// Every file, and nothing more.
    pub(super) const EVERYTHING: Self = Self { without: &BTreeSet::new(), and: None };
}

/// Lays the files of the data folder beside the tables of the configuration file. A folder that is not there holds none.
pub(super) fn read_folder(reader: &mut Reader, data: &Path, beside: Beside<'_>) {
    let folder = data.join(FOLDER);
    let entries = std::fs::read_dir(&folder);
    let files = entries.and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>());
    let mut files = match files {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            let place = Place::File { file: folder.into(), line: 1 };
            let remedy = "Run this as root or as the user of the gateway; the files there name who may send.";
            reader.add(place, "the folder".to_owned(), format!("cannot be read: {error}"), remedy);
            // Without the folder nobody in it could send, and the disk that does not list it opens no spool, either.
            if is_passing(&error) {
                reader.passes();
            }
            return;
        }
    };
    files.extend(beside.and.map(|(file, _)| file.to_owned()));
    files.retain(|file| !beside.without.contains(file));
    files.sort();
    files.dedup();
    // What ends otherwise is a file that was being written when the power failed, or somebody's copy.
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "toml")) {
        let Some(name) = file.file_stem().and_then(|stem| stem.to_str()) else { continue };
        let given = beside.and.filter(|(given, _)| given == file).map(|(_, text)| Ok(text.to_owned()));
        match given.unwrap_or_else(|| read_file(file)) {
            Ok(text) => add_file(reader, file, name, &text),
            Err(Unreadable { finding, error }) => {
                reader.add(finding.place, finding.key, finding.what, finding.remedy);
                // Another error, be it of the disk, is about this file: a bad sector stays bad.
                if error.as_ref().is_some_and(is_of_the_process) {
                    reader.passes();
                }
            }
        }
    }
}

fn add_file(reader: &mut Reader, file: &Path, name: &str, text: &str) {
    if let Some(first) = reader.document.place_of_named(TABLE, name) {
        let place = Place::File { file: file.into(), line: 1 };
        let what = format!("{name} is also [{TABLE}.{name}] in {first}");
        let remedy = "Remove this file, or that table: one name stands for one modality.";
        reader.add(place, format!("{TABLE}.{name}"), what, remedy);
        return;
    }
    reader.document.read_named(file, text, TABLE, name);
}

pub(super) fn admission(reader: &mut Reader, neighbours: &Neighbours<'_>, warnings: &mut Vec<Finding>) -> Admission {
    let allow_any = reader.switch("", "", "allow-any");
    let tables = reader.document.named(TABLE);
    let any = allow_any.as_ref().is_some_and(|given| given.value);
    if tables.is_empty() && !any {
        let (place, key) = reader.document.place_for_missing("allow-any");
        warnings.push(Finding { place, key, what: NOBODY.to_owned(), remedy: NOBODY_REMEDY.to_owned() });
    }
    let mut modalities: Vec<Arc<Modality>> = Vec::new();
    for (name, place, label) in tables {
        let header = Given { value: name, place, label };
        modalities.extend(modality(reader, &header, &modalities, neighbours, warnings).map(Arc::new));
    }
    let Some(given) = allow_any.filter(|given| given.value) else { return Admission::of(modalities) };
    if !modalities.is_empty() {
        let remedy = "Remove allow-any, or every [modality.*] and every file in modalities of the data folder.";
        reader.refuse(&given, "contradicts the modalities that are listed", remedy);
    }
    warnings.push(Finding {
        place: given.place,
        key: given.label,
        what: "anybody who reaches the port may send".to_owned(),
        remedy: "List the modalities as [modality.*] before this machine stands in a clinic.".to_owned(),
    });
    Admission::Any
}

/// What is said of a configuration without a modality. It stops being true as soon as one is admitted.
pub const NOBODY: &str = "nobody is allowed to send: no modality is listed";

const NOBODY_REMEDY: &str = "Let a modality call, then \"waystation door\" shows how to admit it; or list it: \
     [modality.ct1] with aet = \"CT1\" and addresses = [\"192.168.1.20\"]. For a first try: allow-any = true \
     (--allow-any).";

fn modality(
    reader: &mut Reader,
    header: &Given<String>,
    others: &[Arc<Modality>],
    neighbours: &Neighbours<'_>,
    warnings: &mut Vec<Finding>,
) -> Option<Modality> {
    let name = parsed::<DestinationName>(reader, header, "Name it as you would speak of it, for example ct1.");
    let table = header.value.as_str();
    let aet = calling(reader, header);
    let addresses = addresses(reader, header);
    let called = called(reader, table, neighbours);
    let (tls, certificate_subject) = tls(reader, table, neighbours);
    let max_associations = reader.optional_quantity(
        (TABLE, table, "max-associations"),
        (1, 10_000),
        "leave the key out for the limit per address",
    );
    let rates = (Bytes(16 << 10), Bytes(1 << 40));
    let max_rate = reader.optional_quantity((TABLE, table, "max-rate"), rates, "leave the key out for no limit");
    let priority = priority(reader, (TABLE, table));
    let everywhere = "leave the key out for every destination";
    let to = destination_names(reader, (TABLE, table, "to"), neighbours.destinations, everywhere);
    let transfer_syntaxes = transfer_syntaxes(reader, table);
    let commitment = commitment::level(reader, table);
    let commitment_to = commitment::address(reader, table, neighbours.has_ca, warnings);
    let (given, aet) = aet?;
    let addresses = addresses?;
    refuse_twins(reader, &given, &aet, &addresses, others);
    Some(Modality {
        name: name?,
        aet,
        addresses,
        called,
        tls,
        certificate_subject,
        max_associations,
        max_rate: max_rate.map(|rate| rate.0),
        priority,
        to,
        transfer_syntaxes,
        commitment,
        commitment_to,
    })
}

fn calling(reader: &mut Reader, header: &Given<String>) -> Option<(Given<String>, AeTitle)> {
    let Some(given) = reader.text(TABLE, &header.value, "aet") else {
        if reader.document.get(TABLE, &header.value, "aet").is_none() {
            reader.refuse(header, "has no aet", r#"Add the AE title it calls with: aet = "CT1"."#);
        }
        return None;
    };
    let remedy = "Give 1 to 16 printable ASCII characters, as the modality has it.";
    let title = parsed::<AeTitle>(reader, &given, remedy)?;
    Some((given, title))
}

/// `None` if there is no address at all.
fn addresses(reader: &mut Reader, header: &Given<String>) -> Option<Vec<Network>> {
    let list = reader.list(TABLE, &header.value, "addresses").filter(|list| !list.is_empty());
    let Some(list) = list else {
        let remedy = r#"Add addresses = ["192.168.1.20"]; ranges such as "192.168.1.0/24" are possible, and ["0.0.0.0/0", "::/0"] if it may come from anywhere."#;
        reader.refuse(header, "has no addresses", remedy);
        return None;
    };
    Some(networks(reader, &list))
}

/// Those that cannot be read are told and left out.
pub(super) fn networks(reader: &mut Reader, list: &[Given<String>]) -> Vec<Network> {
    let mut networks = Vec::with_capacity(list.len());
    for given in list {
        match given.value.parse::<Network>() {
            Ok(network) => networks.push(network),
            Err(error) => {
                let remedy = match error {
                    NetworkError::HostBits { .. } => "Decide for one of the two.",
                    _ => r#"Write "192.168.1.20", "192.168.1.0/24" or "fd00::/8"; names are not looked up."#,
                };
                reader.refuse(given, error.to_string(), remedy);
            }
        }
    }
    networks
}

/// Two modalities may share a title, as devices fresh from their maker do, if their addresses tell them apart.
fn refuse_twins(
    reader: &mut Reader,
    given: &Given<String>,
    aet: &AeTitle,
    addresses: &[Network],
    others: &[Arc<Modality>],
) {
    let overlap = |other: &&Arc<Modality>| {
        other.aet == *aet && other.addresses.iter().any(|a| addresses.iter().any(|b| a.overlaps(*b)))
    };
    if let Some(twin) = others.iter().find(overlap) {
        let what = format!("{aet} is already the AE title of [modality.{}], from the same address", twin.name);
        reader.refuse(given, what, "Put the addresses of both into one entry, or give one device another title.");
    }
}

fn called(reader: &mut Reader, table: &str, neighbours: &Neighbours<'_>) -> Vec<AeTitle> {
    let own = || neighbours.aet.cloned().into_iter().collect();
    let Some(list) = reader.given_list(TABLE, table, "called", "leave the key out for the gateway's own aet") else {
        return own();
    };
    let remedy = "Give 1 to 16 printable ASCII characters, as the modality has it.";
    list.iter().filter_map(|given| parsed(reader, given, remedy)).collect()
}

fn tls(reader: &mut Reader, table: &str, neighbours: &Neighbours<'_>) -> (bool, Option<String>) {
    let required = reader.switch(TABLE, table, "tls");
    let subject = reader.text(TABLE, table, "certificate-subject");
    if let Some(given) = &required
        && given.value
        && !neighbours.listens_tls
    {
        let remedy = "Add listen-tls with a certificate, or remove this line.";
        reader.refuse(given, "asks for TLS, and the gateway listens nowhere over TLS", remedy);
    }
    let Some(given) = subject else { return (required.is_some_and(|given| given.value), None) };
    let text = trimmed_subject(&given.value);
    if text.is_empty() || text.len() > LONGEST_SUBJECT {
        let what = format!("has {} characters", text.len());
        reader.refuse(&given, what, r#"Give the subject as "waystation door" shows it, for example "CN=ct1"."#);
    } else if !neighbours.listens_tls {
        let remedy = "Add listen-tls with a certificate, or remove this line.";
        reader.refuse(&given, "asks for a client certificate, and the gateway listens nowhere over TLS", remedy);
    } else if neighbours.client_certificates == ClientCertificates::None {
        let remedy = r#"Set tls-client-certificates to "optional" or "required", or remove this line."#;
        reader.refuse(&given, "can never match: client certificates are not asked for", remedy);
    }
    if let Some(given) = required.filter(|given| !given.value) {
        reader.refuse(&given, "contradicts certificate-subject: only TLS carries one", "Remove one of the two lines.");
    }
    (true, Some(text.to_owned()))
}

/// A subject without the blanks around it, but with one at its end that a backslash makes a part of it (RFC 4514 2.4).
fn trimmed_subject(text: &str) -> &str {
    let text = text.trim_start();
    let trimmed = text.trim_end();
    let backslashes = trimmed.bytes().rev().take_while(|byte| *byte == b'\\').count();
    match text.as_bytes().get(trimmed.len()) {
        Some(b' ') if backslashes % 2 == 1 => text.get(..=trimmed.len()).unwrap_or(trimmed),
        _ => trimmed,
    }
}

fn transfer_syntaxes(reader: &mut Reader, table: &str) -> Vec<Uid> {
    const EXAMPLE: &str = r#"Give UIDs of transfer syntaxes, the best first: ["1.2.840.10008.1.2.4.80"] is JPEG-LS."#;
    let list = reader.given_list(TABLE, table, "transfer-syntaxes", "leave the key out for the gateway's own order");
    let mut uids: Vec<Uid> = Vec::new();
    for given in &list.unwrap_or_default() {
        let Some(uid) = parsed::<Uid>(reader, given, EXAMPLE) else { continue };
        // All of the standard's are below this one; what is elsewhere below its root is a SOP class.
        let of_the_standard = uid.as_str().starts_with("1.2.840.10008.");
        let is_one = uid.as_str() == "1.2.840.10008.1.2" || uid.as_str().starts_with("1.2.840.10008.1.2.");
        if of_the_standard && !is_one {
            reader.refuse(given, format!("{uid} is not a transfer syntax"), EXAMPLE);
        } else if uids.contains(&uid) {
            reader.refuse(given, format!("names {uid} twice"), "Name each transfer syntax once.");
        } else {
            uids.push(uid);
        }
    }
    uids
}
