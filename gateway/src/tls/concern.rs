//! What somebody should know about files that can be used: what ends soon or has ended, and what is not looked at.

use std::path::{Path, PathBuf};

use super::files::{Authorities, Identity};
use super::revocation::RevocationLists;
use super::validity::Validity;
use super::{Material, TlsFiles};
use crate::model::Timestamp;

const EXPIRY_REMEDY: &str = "Correct the clock if it is wrong; else replace the file: it is read within a minute. TLS fails outside that time, and the queue waits.";
const DUE_REMEDY: &str = "Get the new list from the authority and replace the file: it is read within a minute. Until then the old one counts, and who was revoked since is let in.";
const UNLISTED_REMEDY: &str = "Add its list to the file, if it has one.";

/// One thing that somebody should know, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concern {
    /// What it is.
    pub what: String,
    /// What to do, in whole sentences.
    pub remedy: &'static str,
}

impl Concern {
    /// About authorities, or about our own certificate.
    #[must_use]
    pub fn of_validity(validity: Validity, file: &Path, now: Timestamp) -> Option<Self> {
        validity.concern(file, now).map(|what| Self { what, remedy: EXPIRY_REMEDY })
    }

    /// About the revocation lists in `file`.
    #[must_use]
    pub fn of_lists(lists: &RevocationLists, authorities: &Authorities, file: &Path, now: Timestamp) -> Vec<Self> {
        Lists::of(lists, authorities, file).concerns(now)
    }

    /// Whether a remedy is one of those here. Such a concern comes and goes with the files and with time.
    #[must_use]
    pub fn is_remedied_by(remedy: &str) -> bool {
        [EXPIRY_REMEDY, DUE_REMEDY, UNLISTED_REMEDY].contains(&remedy)
    }
}

/// What has to be known of the files to have concerns, without the files.
#[derive(Debug)]
pub(super) struct Facts {
    validities: Vec<(PathBuf, Validity)>,
    lists: Option<Lists>,
}

#[derive(Debug)]
struct Lists {
    file: PathBuf,
    /// Whose, and when the next one is due.
    due: Vec<(String, Timestamp)>,
    /// The authorities that have none.
    without: Vec<String>,
}

impl Facts {
    pub(super) fn of(material: &Material, files: &TlsFiles) -> Self {
        let ca = files.ca.clone().zip(material.ca.as_ref().map(Authorities::validity));
        let cert = files.identity.as_ref().map(|identity| identity.cert.clone());
        let own = cert.zip(material.identity.as_ref().map(Identity::validity));
        let lists = material.lists.as_ref().zip(material.ca.as_ref()).zip(files.crl.as_deref());
        Self {
            validities: [ca, own].into_iter().flatten().collect(),
            lists: lists.map(|((lists, authorities), file)| Lists::of(lists, authorities, file)),
        }
    }

    pub(super) fn concerns(&self, now: Timestamp) -> Vec<Concern> {
        let validities = self.validities.iter();
        let ends = validities.filter_map(|(file, validity)| Concern::of_validity(*validity, file, now));
        ends.chain(self.lists.iter().flat_map(|lists| lists.concerns(now))).collect()
    }
}

impl Lists {
    fn of(lists: &RevocationLists, authorities: &Authorities, file: &Path) -> Self {
        Self { file: file.to_owned(), due: lists.due(), without: authorities.without_list(lists) }
    }

    fn concerns(&self, now: Timestamp) -> Vec<Concern> {
        let file = self.file.display();
        let late = self.due.iter().filter(|(_, next)| *next < now).map(|(issuer, next)| Concern {
            what: format!(
                "the revocation list of {issuer} in {file} is out of date: the next one was due on {next}; here it is {now}"
            ),
            remedy: DUE_REMEDY,
        });
        let without = self.without.iter().map(|name| Concern {
            what: format!("{file} has no revocation list of {name}: certificates of this authority are not looked up"),
            remedy: UNLISTED_REMEDY,
        });
        late.chain(without).collect()
    }
}
