//! `[to.NAME]`: where everything goes.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::finding::Finding;
use super::reader::{Given, Reader};
use super::settings::Destination;
use super::url::DestinationUrl;
use super::validate::parsed;
use crate::model::DestinationName;

/// Reads every `[to.NAME]`, in the order in which they were given.
pub(super) fn read(reader: &mut Reader, warnings: &mut Vec<Finding>) -> Vec<Given<Destination>> {
    let tables = reader.document.named("to");
    if tables.is_empty() {
        let (place, label) = reader.document.place_for_missing("to");
        let remedy = if reader.document.has_file() {
            r#"Add a table [to.archive] with url = "dicoms://AET@host:port" (or file:///folder)."#
        } else {
            "Give --to archive=dicoms://AET@host:port (or file:///folder)."
        };
        reader.add(place, label, "names no destination, so nothing would ever leave", remedy);
    }
    let mut destinations: Vec<Given<Destination>> = Vec::new();
    for (name, place, label) in tables {
        let header = Given { value: name.clone(), place: place.clone(), label: label.clone() };
        let name_remedy = "Name it as you would speak of it, for example archive or teaching-2.";
        let destination_name = parsed::<DestinationName>(reader, &header, name_remedy);
        let Some(given) = reader.text("to", &name, "url") else {
            if reader.document.get("to", &name, "url").is_none() {
                reader.refuse(&header, "has no url", r#"Add url = "dicoms://AET@host:port"."#);
            }
            continue;
        };
        let url = match given.value.parse::<DestinationUrl>() {
            Ok(url) => url,
            Err(error) => {
                reader.refuse(&given, format!("{:?} {}", given.value, error.problem), error.remedy);
                continue;
            }
        };
        if let Some(twin) = destinations.iter().find(|other| other.value.url == url) {
            let what = format!("is the same address as [to.{}]", twin.value.name);
            reader.refuse(&given, what, "Everything would be sent there twice; remove one of the two.");
            continue;
        }
        if matches!(url, DestinationUrl::Dicom(_)) {
            warnings.push(Finding {
                place: given.place.clone(),
                key: given.label.clone(),
                what: format!("{url} is not encrypted: studies can be read and changed on the way"),
                remedy: "Use dicoms:// with ca = \"…\" unless this network is safe by other means.".to_owned(),
            });
        }
        if let Some(name) = destination_name {
            destinations.push(Given { value: Destination { name, url }, place: given.place, label: given.label });
        }
    }
    destinations
}

/// A gateway that sends to itself, or stores into its own data, would feed itself for ever.
pub(super) fn refuse_loops(
    reader: &mut Reader,
    destinations: &[Given<Destination>],
    data: Option<&Given<PathBuf>>,
    listening: &[Given<SocketAddr>],
) {
    for destination in destinations {
        match &destination.value.url {
            DestinationUrl::Folder(folder) => {
                let inside = |data: &PathBuf| folder.starts_with(data) || data.starts_with(folder);
                if data.is_some_and(|data| inside(&data.value)) {
                    let remedy = "Name a folder outside the data folder, and not one above it.";
                    reader.refuse(destination, "overlaps with the gateway's own data folder", remedy);
                }
            }
            DestinationUrl::Dicom(peer) | DestinationUrl::Dicoms(peer) => {
                let is_local = match peer.host.parse::<IpAddr>() {
                    Ok(address) => address.is_loopback() || address.is_unspecified(),
                    Err(_) => peer.host == "localhost",
                };
                if is_local && listening.iter().any(|given| given.value.port() == peer.port) {
                    let remedy = "Name the archive's address and port.";
                    reader.refuse(destination, "is the gateway's own port: it would send to itself", remedy);
                }
            }
        }
    }
}
