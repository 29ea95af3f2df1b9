//! Certificates of modalities, checked once more while their connections are open: by the authorities and the revocation
//! lists that have come since.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use tokio::sync::watch;

use super::explain;
use crate::model::Timestamp;

/// What certificates of modalities are checked by at the moment. Clones see the same.
#[derive(Clone)]
pub struct Clients(watch::Sender<Verifier>);

/// Nothing if modalities are not asked for certificates.
pub(super) type Verifier = Option<Arc<dyn ClientCertVerifier>>;

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}

impl Clients {
    pub(super) fn new(verifier: Verifier) -> Self {
        Self(watch::Sender::new(verifier))
    }

    pub(super) fn set(&self, verifier: Verifier) {
        self.0.send_replace(verifier);
    }

    /// Why a chain of certificates that was accepted once would not be accepted now, in a sentence. `None` if it would,
    /// or if there is none.
    #[must_use]
    pub fn refuse(&self, chain: &[CertificateDer<'static>], now: Timestamp) -> Option<String> {
        let (certificate, between) = chain.split_first()?;
        let verifier = self.0.borrow().clone()?;
        let now = UnixTime::since_unix_epoch(Duration::from_millis(now.as_millis()));
        let refused = verifier.verify_client_cert(certificate, between, now).err()?;
        Some(explain(&io::Error::new(io::ErrorKind::InvalidData, refused)))
    }

    /// To wait for what changes from now on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Option<Arc<dyn ClientCertVerifier>>> {
        self.0.subscribe()
    }
}
