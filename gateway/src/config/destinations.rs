//! `[to.NAME]`: where everything goes.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::finding::Finding;
use super::reader::{Given, Reader};
use super::settings::{Destination, StandIn};
use super::shaping;
use super::units::Bytes;
use super::url::DestinationUrl;
use super::validate::parsed;
use super::verification;
use super::web;
use crate::model::DestinationName;
use crate::shaping::Shaping;

/// `associations`, unless it is given.
const ASSOCIATIONS: usize = 16;

/// `stand-in-after`, unless it is given.
const STAND_IN_AFTER: Duration = Duration::from_secs(15 * 60);

/// Reads every `[to.NAME]`, in the order in which they were given.
pub(super) fn read(reader: &mut Reader, warnings: &mut Vec<Finding>) -> Vec<Given<Destination>> {
    let tables = reader.document.named("to");
    if tables.is_empty() {
        let (place, label) = reader.document.place_for_missing("to");
        let remedy = if reader.document.has_file() {
            r#"Add a table [to.archive] with url = "dicoms://AET@host:port" (or https://host/dicom-web, or file:///folder)."#
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
        verification::note(reader, &name);
        web::note(reader, &name);
        let Some(given) = reader.text("to", &name, "url") else {
            if reader.document.get("to", &name, "url").is_none() {
                reader.refuse(&header, "has no url", r#"Add url = "dicoms://AET@host:port"."#);
            }
            continue;
        };
        let url = match given.value.parse::<DestinationUrl>() {
            Ok(url) => url,
            Err(error) => {
                reader.refuse(&given, format!("{:?} {}", error.shown(), error.problem), error.remedy);
                continue;
            }
        };
        let verify = verification::read(reader, &name, &url);
        let web = web::settings(reader, &name, &url, warnings);
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
        let table = ("to", name.as_str());
        let (stands_in, limits) = (stand_in(reader, table), limits(reader, table));
        let associations = associations(reader, table);
        // A DICOMweb service cannot be asked what it takes.
        let is_asked = !matches!(url, DestinationUrl::Dicomweb(_));
        let compress = reader.switch(table.0, table.1, "compress").map_or(is_asked, |given| given.value);
        let shaping = shaping(reader, &name, &url);
        if let Some(name) = destination_name {
            let (max_instance, max_transfer) = limits;
            let value = Destination {
                name,
                url,
                web,
                stands_in,
                max_instance,
                max_transfer,
                associations,
                compress,
                shaping,
                verify,
            };
            destinations.push(Given { value, place: given.place, label: given.label });
        }
    }
    refuse_wrong_stand_ins(reader, &destinations);
    destinations
}

/// How much of the link may be used by what goes there. A folder is on no link of ours.
fn shaping(reader: &mut Reader, name: &str, url: &DestinationUrl) -> Shaping {
    let shaping = shaping::read(reader, ("to", name));
    if !matches!(url, DestinationUrl::Folder(_)) {
        return shaping;
    }
    for key in shaping::KEYS {
        if let Some(entry) = reader.document.get("to", name, key) {
            let remedy = "Remove it: what is written into a folder is not held back.";
            reader.add(entry.place, entry.label, "is for destinations beyond a link", remedy);
        }
    }
    Shaping::default()
}

/// `stands-in-for` and `stand-in-after`.
fn stand_in(reader: &mut Reader, (table, name): (&str, &str)) -> Option<StandIn> {
    let range = (Duration::ZERO, Duration::from_secs(30 * 86_400));
    let after = reader.optional_quantity((table, name, "stand-in-after"), range, "leave the key out for 15m");
    let Some(given) = reader.text(table, name, "stands-in-for") else {
        if let Some(entry) = reader.document.get(table, name, "stand-in-after") {
            let remedy = "Add stands-in-for = \"NAME\", or remove it.";
            reader.add(entry.place, entry.label, "means nothing without stands-in-for", remedy);
        }
        return None;
    };
    let whom = parsed(reader, &given, "Name another destination.")?;
    Some(StandIn { whom, after: after.unwrap_or(STAND_IN_AFTER) })
}

/// Who stands in must stand in for another one that is there and does not stand in itself.
fn refuse_wrong_stand_ins(reader: &mut Reader, destinations: &[Given<Destination>]) {
    for given in destinations {
        let Some(StandIn { whom, .. }) = &given.value.stands_in else { continue };
        let place = reader.text("to", given.value.name.as_str(), "stands-in-for");
        let Some(place) = place else { continue };
        let other = destinations.iter().find(|other| other.value.name == *whom);
        match other {
            _ if *whom == given.value.name => {
                reader.refuse(&place, "is this destination itself", "Name another destination.");
            }
            None => reader.refuse(&place, format!("{whom} is no destination"), "Name one that has a table [to.NAME]."),
            Some(other) if other.value.stands_in.is_some() => {
                let what = format!("{whom} stands in for another one itself");
                reader.refuse(&place, what, "Name the destination that both of them stand in for.");
            }
            Some(_) => {}
        }
    }
}

/// `associations`
fn associations(reader: &mut Reader, (table, name): (&str, &str)) -> usize {
    let otherwise = format!("leave the key out for {ASSOCIATIONS}");
    let given = reader.optional_quantity((table, name, "associations"), (1_u32, 64), &otherwise);
    given.and_then(|given| usize::try_from(given).ok()).unwrap_or(ASSOCIATIONS)
}

/// `max-instance` in bytes, and `max-transfer`.
fn limits(reader: &mut Reader, (table, name): (&str, &str)) -> (Option<u64>, Option<Duration>) {
    let sizes = (Bytes(1 << 20), Bytes(1 << 50));
    let bytes = reader.optional_quantity((table, name, "max-instance"), sizes, "leave the key out for no limit");
    let times = (Duration::from_secs(10), Duration::from_secs(7 * 86_400));
    let time = reader.optional_quantity((table, name, "max-transfer"), times, "leave the key out for no limit");
    (bytes.map(|bytes| bytes.0), time)
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
            // Our ports do not speak HTTP: nothing that is sent there could come in.
            DestinationUrl::Dicomweb(_) => {}
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
