//! Certificates and keys from PEM files, with errors for the person who put the wrong file there.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::IdentityFiles;
use super::revocation::{self, RevocationLists};
use super::validity::Validity;

/// No file of certificates is larger. A revocation list of this size names some 25,000 certificates.
const MAX_FILE_SIZE: u64 = 1 << 20;

/// Why one of the TLS files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}. {}", .file.display(), .problem, self.remedy())]
pub struct TlsFileError {
    file: PathBuf,
    problem: Problem,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("cannot be read: {0}")]
    Unreadable(std::io::Error),
    #[error("is larger than 1 MiB")]
    TooLarge,
    #[error("is not PEM but binary (DER)")]
    Der,
    #[error("is broken: {0}")]
    Pem(rustls::pki_types::pem::Error),
    #[error("holds no certificate")]
    NoCertificate,
    #[error("holds a certificate that cannot be read")]
    BadCertificate,
    #[error("holds no private key")]
    NoKey,
    #[error("holds a private key that is locked with a pass phrase")]
    LockedKey,
    #[error("holds a private key of a kind that is not supported")]
    BadKey,
    #[error("is not the key of the certificate in {0:?}")]
    OtherKey(PathBuf),
    #[error("holds no revocation list")]
    NoList,
    #[error("holds a revocation list of {0}, which is not among the authorities of ca")]
    OtherAuthority(String),
    #[error("holds a revocation list in the name of {0} that is not signed with its key")]
    BadListSignature(String),
    #[error("holds a revocation list of version 1")]
    OldList,
    #[error("holds a revocation list that cannot be used: {0}")]
    BadList(String),
}

impl TlsFileError {
    pub(super) fn new(file: &Path, problem: Problem) -> Self {
        Self { file: file.to_owned(), problem }
    }

    /// Whether the error is about this file.
    #[must_use]
    pub fn concerns(&self, file: &Path) -> bool {
        self.file == file
    }

    /// What the system said, if it does not give the file.
    #[must_use]
    pub fn of_the_system(&self) -> Option<&std::io::Error> {
        match &self.problem {
            Problem::Unreadable(error) => Some(error),
            _ => None,
        }
    }

    /// What is wrong, with the name of the file.
    #[must_use]
    pub fn what(&self) -> String {
        format!("{} {}", self.file.display(), self.problem)
    }

    /// What to do, in whole sentences.
    #[must_use]
    pub fn remedy(&self) -> String {
        let file = self.file.display();
        match &self.problem {
            Problem::Unreadable(_) => "Check the path, and that the user the gateway runs as may read it.".to_owned(),
            Problem::TooLarge => "This is no certificate and no key; check the path.".to_owned(),
            Problem::Der => {
                format!("Convert it: openssl x509 -inform der -in {file} -out NEW (for a key: openssl pkey).")
            }
            Problem::Pem(_) => "Copy it again, with the lines -----BEGIN and -----END.".to_owned(),
            Problem::NoCertificate => {
                "It needs -----BEGIN CERTIFICATE-----; are ca, cert and key exchanged?".to_owned()
            }
            Problem::BadCertificate => format!("See what openssl x509 -noout -text -in {file} says."),
            Problem::NoKey => "It needs -----BEGIN PRIVATE KEY-----; are cert and key exchanged?".to_owned(),
            Problem::LockedKey => {
                format!("The gateway starts without anybody at hand. Unlock it: openssl pkey -in {file} -out NEW.")
            }
            Problem::BadKey => {
                "Use a key for RSA (2048 bits or more), ECDSA (P-256, P-384, P-521) or Ed25519.".to_owned()
            }
            Problem::OtherKey(_) => "Put the certificate and the key that were made together.".to_owned(),
            Problem::NoList => {
                "It needs -----BEGIN X509 CRL-----; convert one that is binary: openssl crl -inform der.".to_owned()
            }
            Problem::OtherAuthority(_) => {
                "Put the certificate of that authority into ca, or take its list out of this file.".to_owned()
            }
            Problem::BadListSignature(_) => {
                "Get the list anew from the authority; if it has a new key, put its new certificate into ca.".to_owned()
            }
            Problem::OldList => {
                "Have the authority issue it as version 2 (openssl ca -gencrl with crl_extensions and a crlnumber)."
                    .to_owned()
            }
            Problem::BadList(_) => format!("See what openssl crl -noout -text -in {file} says, and get it anew."),
        }
    }
}

/// The certificates we trust.
#[derive(Debug, Clone)]
pub struct Authorities {
    roots: Arc<RootCertStore>,
    validity: Validity,
}

impl Authorities {
    /// Reads a PEM file with one or more certificates of authorities.
    ///
    /// # Errors
    /// The file cannot be read, holds no certificate, or one that cannot be used.
    pub fn load(file: &Path) -> Result<Self, TlsFileError> {
        let certificates = certificates(file)?;
        let validity = first_to_end(file, &certificates)?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate).map_err(|_| TlsFileError::new(file, Problem::BadCertificate))?;
        }
        Ok(Self { roots: Arc::new(roots), validity })
    }

    /// When the first of them ends.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.roots)
    }

    /// The names of those that have no list among these.
    pub(super) fn without_list(&self, lists: &RevocationLists) -> Vec<String> {
        let without = self.roots.roots.iter().filter(|authority| !lists.speak_for(authority));
        without.map(|authority| revocation::shown(&authority.subject)).collect()
    }
}

/// Our own certificate, with those above it, and its key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    validity: Validity,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("validity", &self.validity).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads certificate chain and key from PEM files and makes sure that they belong together.
    ///
    /// # Errors
    /// A file cannot be read, does not hold what it should, or the key is another certificate's.
    pub fn load(files: &IdentityFiles) -> Result<Self, TlsFileError> {
        let chain = certificates(&files.cert)?;
        let validity = first_to_end(&files.cert, &chain)?;
        let key = private_key(&files.key)?;
        match CertifiedKey::from_der(chain.clone(), key.clone_key(), &super::provider()) {
            Ok(_) => Ok(Self { chain, key, validity }),
            Err(rustls::Error::InconsistentKeys(_)) => {
                Err(TlsFileError::new(&files.key, Problem::OtherKey(files.cert.clone())))
            }
            Err(rustls::Error::InvalidCertificate(_)) => Err(TlsFileError::new(&files.cert, Problem::BadCertificate)),
            Err(_) => Err(TlsFileError::new(&files.key, Problem::BadKey)),
        }
    }

    /// When our certificate, or the first of those above it, ends.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    pub(super) fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain.clone(), self.key.clone_key())
    }
}

pub(super) fn read(file: &Path) -> Result<Vec<u8>, TlsFileError> {
    let unreadable = |error| TlsFileError::new(file, Problem::Unreadable(error));
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(unreadable)?;
    opened.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    match bytes.first() {
        _ if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE_SIZE) => {
            Err(TlsFileError::new(file, Problem::TooLarge))
        }
        Some(0x30) => Err(TlsFileError::new(file, Problem::Der)),
        _ => Ok(bytes),
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let bytes = read(file)?;
    let certificates = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| TlsFileError::new(file, Problem::Pem(error)))?;
    if certificates.is_empty() {
        return Err(TlsFileError::new(file, Problem::NoCertificate));
    }
    Ok(certificates)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    let bytes = read(file)?;
    let is_locked = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
    };
    if is_locked(&bytes) {
        return Err(TlsFileError::new(file, Problem::LockedKey));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let problem = match error {
            rustls::pki_types::pem::Error::NoItemsFound => Problem::NoKey,
            error => Problem::Pem(error),
        };
        TlsFileError::new(file, problem)
    })
}

/// The validity of the certificate that ends first.
fn first_to_end(file: &Path, certificates: &[CertificateDer<'_>]) -> Result<Validity, TlsFileError> {
    let bad = || TlsFileError::new(file, Problem::BadCertificate);
    let read = certificates.iter().map(|certificate| Validity::of(certificate).ok_or_else(bad));
    let read = read.collect::<Result<Vec<_>, _>>()?;
    read.into_iter().min_by_key(|validity| validity.not_after).ok_or_else(bad)
}
