//! Whether and how a destination is asked after a delivery: `verify` and its two times, of `[to.NAME]`.

use std::time::Duration;

use super::reader::{Given, Reader};
use super::settings::{Verification, VerifyBy};
use super::url::DestinationUrl;

const TABLE: &str = "to";
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// Takes note of the keys, so that none is told to be unknown where something else is wrong.
pub(super) fn note(reader: &mut Reader, name: &str) {
    for key in ["verify", "verify-after", "verify-patience"] {
        let _ = reader.document.get(TABLE, name, key);
    }
}

/// Reads the settings of the destination `name`, which is at `url`.
pub(super) fn read(reader: &mut Reader, name: &str, url: &DestinationUrl) -> Option<Verification> {
    let given = reader.text(TABLE, name, "verify");
    let by = given.as_ref().and_then(|given| by(reader, given, url));
    let standard = match by {
        Some(VerifyBy::Query) => (Duration::from_secs(10), Duration::from_secs(120)),
        _ => (Duration::from_secs(30), DAY),
    };
    let mut time = |key: &str, (least, default, most): (Duration, Duration, Duration)| {
        let entry = reader.document.get(TABLE, name, key);
        if let (Some(entry), None) = (&entry, &given) {
            let remedy = r#"Add verify = "commitment" or "query", or remove it."#;
            reader.add(entry.place.clone(), entry.label.clone(), "is given without verify", remedy);
        }
        let otherwise = "leave the key out for the default";
        reader.optional_quantity((TABLE, name, key), (least, most), otherwise).unwrap_or(default)
    };
    let after = time("verify-after", (SECOND, standard.0, DAY));
    let patience = time("verify-patience", (SECOND, standard.1, 30 * DAY));
    by.map(|by| Verification { by, after, patience })
}

fn by(reader: &mut Reader, given: &Given<String>, url: &DestinationUrl) -> Option<VerifyBy> {
    let by = match given.value.as_str() {
        "none" => return None,
        "commitment" => VerifyBy::Commitment,
        "query" => VerifyBy::Query,
        other => {
            let what = format!("{other:?} is no way to verify a delivery");
            let remedy = r#"Write "commitment" (storage commitment), "query" (the archive is asked for the instance) or "none"."#;
            reader.refuse(given, what, remedy);
            return None;
        }
    };
    match url {
        DestinationUrl::Dicom(_) | DestinationUrl::Dicoms(_) => Some(by),
        DestinationUrl::Dicomweb(_) if by == VerifyBy::Query => Some(by),
        DestinationUrl::Dicomweb(_) => {
            let remedy = r#"Write "query": the archive is asked by QIDO-RS for what it has taken. Or remove it."#;
            reader.refuse(given, "an archive behind STOW-RS does no storage commitment here", remedy);
            None
        }
        DestinationUrl::Folder(_) => {
            let remedy = r#"Remove it, or write "none": a file is on stable storage before it counts as delivered."#;
            reader.refuse(given, "a folder cannot be asked for what it has", remedy);
            None
        }
    }
}
