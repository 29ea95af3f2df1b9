//! TLS in both directions, by the BCP 195 profile of DICOM (PS3.15 B.12, RFC 9325).
//!
//! What this module promises:
//!
//! - TLS 1.2 and 1.3 and nothing below; only authenticated ciphers with forward secrecy. There is no fallback, and no
//!   switch that turns a check off.
//! - Outwards, a peer is trusted only if its chain ends at the authorities of our `ca` file *and* its certificate names
//!   the host of the URL. The system's authorities are not consulted. We show our own certificate if the peer asks.
//! - Inwards, a modality must show a certificate of our `ca` unless the configuration says otherwise.
//! - Sessions are never resumed: every connection checks the certificate anew, so one that has expired or was issued by
//!   an authority that has been removed is refused with the next connection. So is one that its authority has revoked,
//!   as far as the `crl` file says ([`RevocationLists`] tells what counts and what does not).
//! - What is in the files can be changed while everything runs: [`Live`].
//! - One cryptographic provider in the whole process, aws-lc-rs, installed by [`install_provider`].
//!
//! A client certificate that is missing is noticed by a TLS 1.3 server only after the client believes that the handshake
//! is over. The server side still hands not one application byte upwards; the client side sees the refusal on its first
//! read, so it must read the answer to its association request before it sends anything else, which is how DICOM works.
//!
//! What it deliberately does not do: open sockets or set time-outs (the transport does), judge the name in a client's
//! certificate (admission does; [`Peer`] has it), fetch revocation lists.

mod clients;
mod concern;
mod der;
mod explain;
mod files;
mod live;
mod name;
mod peer;
mod revocation;
mod validity;
mod verifier;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ServerConfig};

pub use self::clients::Clients;
pub use self::concern::Concern;
pub use self::explain::explain;
pub use self::files::{Authorities, Identity, TlsFileError};
pub use self::live::{Current, Edition, Live, Purpose, Renewal};
pub use self::peer::Peer;
pub use self::revocation::RevocationLists;
pub use self::validity::Validity;

/// The files of the configuration that have to do with TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities we trust, in PEM, one or more.
    pub ca: Option<PathBuf>,
    /// Revocation lists of these authorities, in PEM, one or more.
    pub crl: Option<PathBuf>,
    /// Our own certificate and its key.
    pub identity: Option<IdentityFiles>,
}

/// Our own certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// Our certificate in PEM, followed by those between it and the authority.
    pub cert: PathBuf,
    /// Its private key in PEM, without a pass phrase.
    pub key: PathBuf,
}

/// Whether a modality has to show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Yes, one that an authority of `ca` issued.
    Required,
    /// It may show none; one that it shows is checked.
    Optional,
    /// It is not asked.
    None,
}

/// Why no TLS configuration could be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of the files cannot be used.
    #[error(transparent)]
    File(#[from] TlsFileError),
    /// A side that needs a file was configured without it.
    #[error("{purpose} needs {key}, which is not given; add it to the configuration")]
    Missing {
        /// What was to be done.
        purpose: &'static str,
        /// The key of the configuration.
        key: &'static str,
    },
    /// The library refuses the combination.
    #[error("the TLS configuration cannot be made: {0}; check ca, cert and key")]
    Refused(#[from] rustls::Error),
    /// The authorities or their lists cannot be used to check certificates.
    #[error("certificates cannot be checked with the ca and crl that are configured: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// The host of a URL can stand in no certificate.
    #[error("{0:?} is neither a DNS name nor an IP address, so no certificate can name it; correct the URL")]
    ServerName(String),
}

/// The one provider: aws-lc-rs, cut to the cipher suites of RFC 9325.
fn provider() -> CryptoProvider {
    use aws_lc_rs::cipher_suite as suite;

    CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ],
        ..aws_lc_rs::default_provider()
    }
}

/// A number that nobody can guess; `None` if the system has no randomness to give.
#[must_use]
pub fn unguessable() -> Option<u128> {
    let mut bytes = [0; 16];
    provider().secure_random.fill(&mut bytes).ok()?;
    Some(u128::from_le_bytes(bytes))
}

/// Makes aws-lc-rs the process's only cryptographic provider. Called first of all; calling it again changes nothing.
pub fn install_provider() {
    // An error says that a provider is installed already, and there is no other in the tree (`deny.toml`).
    let _ = provider().install_default();
}

const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// The configuration for `listen-tls`: our certificate, and what is asked of the modality.
///
/// # Errors
/// A file is missing, unreadable or unfit; the message names it and says what to do.
pub fn server_config(files: &TlsFiles, clients: ClientCertificates) -> Result<Arc<ServerConfig>, TlsError> {
    Material::load(files)?.server_config(clients)
}

/// The configuration for `dicoms://` destinations: whom we trust, and our certificate if there is one.
///
/// # Errors
/// `ca` is missing, or a file is unreadable or unfit; the message names it and says what to do.
pub fn client_config(files: &TlsFiles) -> Result<Arc<ClientConfig>, TlsError> {
    Material::load(files)?.client_config()
}

/// What an identity and authorities are needed for on our side.
const LISTENING: &str = "listen-tls";

/// What the files hold.
#[derive(Debug)]
struct Material {
    ca: Option<Authorities>,
    lists: Option<RevocationLists>,
    identity: Option<Identity>,
}

impl Material {
    fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let ca = files.ca.as_deref().map(Authorities::load).transpose()?;
        let lists = match (&files.crl, &ca) {
            (Some(crl), Some(ca)) => Some(RevocationLists::load(crl, ca)?),
            (Some(_), None) => return Err(TlsError::Missing { purpose: "crl", key: "ca" }),
            (None, _) => None,
        };
        Ok(Self { ca, lists, identity: files.identity.as_ref().map(Identity::load).transpose()? })
    }

    fn server_config(&self, clients: ClientCertificates) -> Result<Arc<ServerConfig>, TlsError> {
        let identity = self.identity.as_ref().ok_or(TlsError::Missing { purpose: LISTENING, key: "cert and key" })?;
        let builder = ServerConfig::builder_with_provider(Arc::new(provider())).with_protocol_versions(VERSIONS)?;
        let builder = match self.client_verifier(clients)? {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        let (chain, key) = identity.parts();
        let mut config = builder.with_single_cert(chain, key)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// What certificates of modalities are checked by; nothing if they are not asked for one.
    fn client_verifier(&self, clients: ClientCertificates) -> Result<clients::Verifier, TlsError> {
        if clients == ClientCertificates::None {
            return Ok(None);
        }
        let ca = self.ca.as_ref().ok_or(TlsError::Missing { purpose: LISTENING, key: "ca" })?;
        Ok(Some(verifier::of_clients(ca, self.lists.as_ref(), clients, &Arc::new(provider()))?))
    }

    fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let ca = self.ca.as_ref().ok_or(TlsError::Missing { purpose: "a dicoms:// destination", key: "ca" })?;
        let provider = Arc::new(provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(VERSIONS)?;
        // The library calls every verifier dangerous that it did not choose itself. This one is made of its own two.
        let builder = builder.dangerous();
        let builder =
            builder.with_custom_certificate_verifier(verifier::of_servers(ca, self.lists.as_ref(), &provider)?);
        let mut config = match &self.identity {
            Some(identity) => {
                let (chain, key) = identity.parts();
                builder.with_client_auth_cert(chain, key)?
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// The name that a destination's certificate has to carry: the host of its URL, without brackets.
///
/// # Errors
/// The host is neither a DNS name nor an IP address.
pub fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::ServerName(host.to_owned()))
}
