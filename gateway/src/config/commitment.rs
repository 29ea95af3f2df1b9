//! What a modality may ask of storage commitment: `commitment` and `commitment-to` of its table.

use super::admission::CommitmentLevel;
use super::finding::Finding;
use super::reader::Reader;
use super::url::DestinationUrl;

const TABLE: &str = "modality";

pub(super) fn level(reader: &mut Reader, modality: &str) -> CommitmentLevel {
    let Some(given) = reader.text(TABLE, modality, "commitment") else { return CommitmentLevel::Safe };
    match given.value.as_str() {
        "safe" => CommitmentLevel::Safe,
        "delivered" => CommitmentLevel::Delivered,
        other => {
            let what = format!("{other:?} is not a level of storage commitment");
            let remedy = r#"Write "safe" (in this box, the default) or "delivered" (to every destination)."#;
            reader.refuse(&given, what, remedy);
            CommitmentLevel::Safe
        }
    }
}

/// Where reports go; `has_ca` says whether there is an authority to check a certificate by.
pub(super) fn address(
    reader: &mut Reader,
    modality: &str,
    has_ca: bool,
    warnings: &mut Vec<Finding>,
) -> Option<DestinationUrl> {
    let given = reader.text(TABLE, modality, "commitment-to")?;
    let url = match given.value.parse::<DestinationUrl>() {
        Ok(DestinationUrl::Folder(_)) => {
            let remedy = "Give the AE title and address at which the modality takes reports: dicom://AET@host:port.";
            reader.refuse(&given, "is a folder, which takes no reports", remedy);
            return None;
        }
        Ok(DestinationUrl::Dicomweb(_)) => {
            let remedy = "Give the AE title and address at which the modality takes reports: dicoms://AET@host:port.";
            reader.refuse(&given, "is a web address, and reports of storage commitment go over DICOM", remedy);
            return None;
        }
        Ok(url) => url,
        Err(error) => {
            reader.refuse(&given, format!("{:?} {}", error.shown(), error.problem), error.remedy);
            return None;
        }
    };
    match url {
        DestinationUrl::Dicoms(_) if !has_ca => {
            let remedy = "Add ca (a FILE): the authority that issued the modality's certificate.";
            reader.refuse(&given, "is a dicoms:// address, and no ca is given to check it by", remedy);
        }
        DestinationUrl::Dicom(_) => warnings.push(Finding {
            place: given.place.clone(),
            key: given.label.clone(),
            what: format!("{url} is not encrypted: a report can be forged, and the modality then deletes its images"),
            remedy: "Use dicoms:// where the modality can, unless this network is safe by other means.".to_owned(),
        }),
        _ => {}
    }
    Some(url)
}

/// Whether a report goes over TLS, whatever else is right or wrong about it.
pub(super) fn goes_over_tls(reader: &mut Reader) -> bool {
    let names = reader.document.named(TABLE);
    names.into_iter().any(|(name, ..)| {
        let given = reader.text(TABLE, &name, "commitment-to");
        given.is_some_and(|given| given.value.starts_with("dicoms://"))
    })
}
