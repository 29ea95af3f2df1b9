//! Admits a stranger who has knocked: a file for the configuration, made of how he knocked.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Who;
use super::keep::Keeper;
use super::page::Page;
use super::view::hindrance;
use crate::config::{self, Admission, Modality, Source};
use crate::durable::{Disk, replace};
use crate::model::{AeTitle, DestinationName, InvalidValue, Timestamp};

/// Why nobody was admitted.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// Nobody of that name knocks.
    #[error("nobody at the door is called {0:?}; waystation door shows who is")]
    Unknown(String),
    /// The one who knocks cannot be admitted as he is.
    #[error("{0} cannot be admitted: {1}")]
    Hindered(String, String),
    /// The name is another's.
    #[error("a modality is called {0} already; give this one another name: waystation door admit {1} --as NAME")]
    NameTaken(DestinationName, String),
    /// The name is no name for a modality.
    #[error("{0}; give it another name: waystation door admit {1} --as NAME")]
    NoName(String, String),
    /// He is listed, under another name.
    #[error("{0} calls from {1} and is listed already: it is the modality {2}")]
    Listed(AeTitle, String, DestinationName),
    /// The file is there already, and is not in use.
    #[error(
        "{0} is there already, and the gateway does not use it: mend it if waystation door says so, reload the gateway, or \
         remove the file"
    )]
    FileThere(PathBuf),
    /// He does not fit to the configuration as it is on the disk.
    #[error("{0} cannot be admitted: {1}")]
    Unfit(String, config::Unfit),
    /// The disk does not take it.
    #[error("{0} cannot be written: {1}; nobody was admitted")]
    Disk(PathBuf, io::Error),
}

/// Writes the stranger called `knock` down as a modality, called `name` or as he is shown, and gives the admission in
/// which he is let in. When this returns, the file survives a power cut. What is asked is whether he fits to those who
/// may send now, and to the configuration as a restart would find it. Blocking.
///
/// # Errors
/// Nobody was admitted, and nothing has changed.
pub fn admit(
    disk: &dyn Disk,
    (data, source): (&Path, &Source),
    keeper: &Keeper,
    admission: &Admission,
    aet: &AeTitle,
    (knock, name, now): (&str, Option<DestinationName>, Timestamp),
) -> Result<(Arc<Modality>, Admission), AdmitError> {
    let page = keeper.with(|book| book.page(knock).cloned()).filter(Page::is_stranger);
    let page = page.ok_or_else(|| match admission.find(knock) {
        Some(_) => AdmitError::Hindered(knock.to_owned(), "it is a modality already".to_owned()),
        None => AdmitError::Unknown(knock.to_owned()),
    })?;
    let Admission::Named(modalities, _) = admission else {
        return Err(AdmitError::Hindered(knock.to_owned(), hindrance(&page, true).unwrap_or_default()));
    };
    if let Some(why) = hindrance(&page, false) {
        return Err(AdmitError::Hindered(knock.to_owned(), why));
    }
    let name = match name {
        Some(name) => name,
        None => name_of(knock, disk, data, admission)
            .map_err(|error| AdmitError::NoName(error.to_string(), knock.to_owned()))?,
    };
    if admission.find(name.as_str()).is_some() {
        return Err(AdmitError::NameTaken(name, knock.to_owned()));
    }
    let Some(modality) = as_it_knocked(&page, name, aet) else {
        return Err(AdmitError::Unknown(knock.to_owned()));
    };
    let at_home = |other: &&Arc<Modality>| {
        other.aet == modality.aet && other.addresses.iter().any(|a| modality.addresses.iter().any(|b| a.overlaps(*b)))
    };
    if let Some(other) = modalities.iter().find(at_home) {
        let from = modality.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(AdmitError::Listed(modality.aet, from, other.name.clone()));
    }
    let path = config::modality_file(data, &modality.name);
    let text = text(&modality, aet, now);
    match disk.open(&path, false) {
        Ok(_) => return Err(AdmitError::FileThere(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(AdmitError::Disk(path, error)),
    }
    source.fits(now, data, &path, &text).map_err(|why| AdmitError::Unfit(knock.to_owned(), why))?;
    write(disk, data, &path, &text)?;
    let modality = Arc::new(modality);
    keeper.with(|book| book.admitted(&page.who, &modality.name));
    let admission = admission.with(Arc::clone(&modality));
    Ok((modality, admission))
}

/// What one is called who is admitted under the name of his page: without its number, if nobody else is called that.
fn name_of(knock: &str, disk: &dyn Disk, data: &Path, admission: &Admission) -> Result<DestinationName, InvalidValue> {
    let is_free = |name: &DestinationName| {
        admission.find(name.as_str()).is_none() && disk.open(&config::modality_file(data, name), false).is_err()
    };
    let short = knock.rsplit_once('-').filter(|(_, number)| number.bytes().all(|digit| digit.is_ascii_digit()));
    let short = short.and_then(|(name, _)| name.parse().ok()).filter(is_free);
    short.map_or_else(|| knock.parse(), Ok)
}

/// The modality that the last request of a stranger makes: what it came with is asked of it from now on, so that TLS and
/// its certificate are not lost on the way in.
fn as_it_knocked(page: &Page, name: DestinationName, aet: &AeTitle) -> Option<Modality> {
    let Who::Stranger { address, .. } = &page.who else { return None };
    let visit = page.visits.iter().rev().find(|visit| visit.request.is_some())?;
    let called: Option<AeTitle> = visit.request.as_ref().and_then(|request| request.called.parse().ok());
    let other = called.filter(|called| called != aet);
    let mut modality = Modality::new(name, page.calling()?, *address, [aet.clone()].into_iter().chain(other).collect());
    modality.tls = visit.tls;
    modality.certificate_subject.clone_from(&visit.subject);
    Some(modality)
}

/// The file that describes a modality.
fn text(modality: &Modality, aet: &AeTitle, now: Timestamp) -> String {
    format!(
        "# Admitted at {now} as it knocked. The keys are those of [modality.NAME] in the configuration; reload the\n\
         # gateway after a change.\n{}",
        config::modality_as_toml(modality, aet)
    )
}

fn write(disk: &dyn Disk, data: &Path, path: &Path, text: &str) -> Result<(), AdmitError> {
    let failed = |error| AdmitError::Disk(path.to_owned(), error);
    let folder = data.join(config::MODALITIES);
    disk.create_dir(&folder).and_then(|()| disk.sync_dir(data)).map_err(failed)?;
    replace(disk, path, text.as_bytes()).map_err(|error| {
        // It may have its name already, and nobody is to be let in by a file that was refused.
        let _ = disk.remove(path);
        failed(error)
    })
}
