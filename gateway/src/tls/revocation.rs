//! Certificate revocation lists (RFC 5280 5), from a PEM file that somebody or something brings up to date.
//!
//! What is decided here, and why:
//!
//! - **Each list belongs to an authority of `ca`**, by name and by signature; another one is an error when the file is
//!   read. So a list that is damaged, or somebody else's, cannot turn everybody away at the door.
//! - **An authority that has a list is held to it for the whole chain.** What one of its certificates is worth must be
//!   said by a list: where none speaks of it (an authority in between without a list of its own), it is refused.
//! - **An authority without a list is not asked about.** One `ca` serves both directions, and not every authority
//!   publishes lists. That an authority has none is said by `check-config` and `waystation status`.
//! - **A list that is out of date goes on counting.** Who was revoked stays revoked, and everybody else is let in: a clinic
//!   whose list could not be fetched for a week still has patients. It is warned of until there is a newer one.
//!
//! Of several lists of one authority the newest counts, wherever it stands in the file.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateRevocationListDer, TrustAnchor};
use rustls::server::WebPkiClientVerifier;

use super::der::{BIT_STRING, INTEGER, SEQUENCE, element, time};
use super::files::{Authorities, Problem, TlsFileError, read};
use super::name;
use crate::model::Timestamp;

/// The lists of one file, and what each of them says of itself.
#[derive(Debug, Clone)]
pub struct RevocationLists {
    /// The newest first: the library takes the first that speaks of a certificate.
    lists: Vec<List>,
}

#[derive(Debug, Clone)]
struct List {
    der: CertificateRevocationListDer<'static>,
    head: Head,
}

/// What is read of a list here; the rest is for the library.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    /// The name of the authority, as the content of its sequence in DER.
    issuer: Vec<u8>,
    this_update: Timestamp,
    next_update: Timestamp,
}

impl RevocationLists {
    /// Reads a PEM file with one or more lists of these authorities.
    ///
    /// # Errors
    /// The file cannot be read, holds no list, or one that cannot be used or is none of theirs.
    pub fn load(file: &Path, authorities: &Authorities) -> Result<Self, TlsFileError> {
        let bytes = read(file)?;
        let refused = |problem| TlsFileError::new(file, problem);
        let lists = CertificateRevocationListDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
        let lists = lists.map_err(|error| refused(Problem::Pem(error)))?;
        if lists.is_empty() {
            return Err(refused(Problem::NoList));
        }
        let read = |der| List::read(der, authorities).map_err(refused);
        let mut lists = lists.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        lists.sort_by_key(|list| std::cmp::Reverse(list.head.this_update));
        Ok(Self { lists })
    }

    /// All of them, the newest first.
    pub(super) fn der(&self) -> Vec<CertificateRevocationListDer<'static>> {
        self.lists.iter().map(|list| list.der.clone()).collect()
    }

    /// Whether one of them is this authority's.
    pub(super) fn speak_for(&self, authority: &TrustAnchor<'_>) -> bool {
        self.lists.iter().any(|list| list.is_of(authority))
    }

    /// Of each authority's newest list: whose it is, and when the next one is due.
    pub(super) fn due(&self) -> Vec<(String, Timestamp)> {
        let is_newest = |at: &usize| {
            let issuer = |list: &List| list.head.issuer.clone();
            let (newer, _) = self.lists.split_at(*at);
            let this = self.lists.get(*at).map(issuer);
            !newer.iter().any(|list| Some(issuer(list)) == this)
        };
        let newest = (0..self.lists.len()).filter(is_newest).filter_map(|at| self.lists.get(at));
        newest.map(|list| (shown(&list.head.issuer), list.head.next_update)).collect()
    }
}

/// An authority's name for people.
pub(super) fn shown(issuer: &[u8]) -> String {
    name::text(issuer).unwrap_or_else(|| "an authority whose name cannot be shown".to_owned())
}

impl List {
    fn read(der: CertificateRevocationListDer<'static>, authorities: &Authorities) -> Result<Self, Problem> {
        let head = Head::of(&der)?;
        let list = Self { der, head };
        let roots = authorities.roots();
        let mut named = roots.roots.iter().filter(|authority| *authority.subject == *list.head.issuer).peekable();
        if named.peek().is_none() {
            return Err(Problem::OtherAuthority(shown(&list.head.issuer)));
        }
        if !named.any(|authority| list.is_of(authority)) {
            return Err(Problem::BadListSignature(shown(&list.head.issuer)));
        }
        list.try_out()?;
        Ok(list)
    }

    /// Lets the library read it, now instead of in the middle of a handshake.
    fn try_out(&self) -> Result<(), Problem> {
        let anchor = TrustAnchor {
            subject: self.head.issuer.as_slice().into(),
            subject_public_key_info: Vec::new().into(),
            name_constraints: None,
        };
        let roots = Arc::new(RootCertStore { roots: vec![anchor.to_owned()] });
        let provider = Arc::new(super::provider());
        let tried = WebPkiClientVerifier::builder_with_provider(roots, provider).with_crls([self.der.clone()]).build();
        tried.map(drop).map_err(|error| Problem::BadList(error.to_string()))
    }

    /// Whether it is this authority's: it carries its name, and its signature (RFC 5280 6.3.3).
    fn is_of(&self, authority: &TrustAnchor<'_>) -> bool {
        *authority.subject == *self.head.issuer && self.is_signed_by(authority).unwrap_or(false)
    }

    fn is_signed_by(&self, authority: &TrustAnchor<'_>) -> Option<bool> {
        let (list, _) = element(&self.der, Some(SEQUENCE))?;
        let (_, after) = element(list, Some(SEQUENCE))?;
        let message = list.get(..list.len() - after.len())?;
        let (algorithm, rest) = element(after, Some(SEQUENCE))?;
        let signature = bits(rest)?;
        let (key_algorithm, rest) = element(&authority.subject_public_key_info, Some(SEQUENCE))?;
        let key = bits(rest)?;
        let fitting = super::provider().signature_verification_algorithms.all.iter().filter(|verification| {
            *verification.signature_alg_id() == *algorithm && *verification.public_key_alg_id() == *key_algorithm
        });
        Some(fitting.into_iter().any(|verification| verification.verify_signature(key, message, signature).is_ok()))
    }
}

/// A bit string of whole bytes.
fn bits(input: &[u8]) -> Option<&[u8]> {
    element(input, Some(BIT_STRING))?.0.strip_prefix(&[0])
}

impl Head {
    fn of(list: &[u8]) -> Result<Self, Problem> {
        let unreadable = || Problem::BadList("it is no list that anybody could read".to_owned());
        let fields = || {
            let (list, _) = element(list, Some(SEQUENCE))?;
            Some(element(list, Some(SEQUENCE))?.0)
        };
        let fields: &[u8] = fields().ok_or_else(unreadable)?;
        let Some((_version, fields)) = element(fields, Some(INTEGER)) else { return Err(Problem::OldList) };
        let issuer_and_dates = || {
            let (_algorithm, fields) = element(fields, Some(SEQUENCE))?;
            let (issuer, fields) = element(fields, Some(SEQUENCE))?;
            let (this_update, rest) = time(fields)?;
            Some((issuer, this_update, time(rest).map(|(next_update, _)| next_update)))
        };
        let (issuer, this_update, next_update) = issuer_and_dates().ok_or_else(unreadable)?;
        let next_update =
            next_update.ok_or_else(|| Problem::BadList("it does not say when the next is due".to_owned()))?;
        Ok(Self { issuer: issuer.to_owned(), this_update, next_update })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_list_are_refused() {
        for bad in [&b""[..], b"\x30", b"\x30\x84\xff\xff\xff\xff", b"\x30\x02\x30\x00", &[0x30; 300]] {
            assert!(Head::of(bad).is_err(), "{bad:x?}");
        }
    }
}
