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
//!   an authority that has been removed is refused with the next connection.
//! - One cryptographic provider in the whole process, aws-lc-rs, installed by [`install_provider`].
//!
//! A client certificate that is missing is noticed by a TLS 1.3 server only after the client believes that the handshake
//! is over. The server side still hands not one application byte upwards; the client side sees the refusal on its first
//! read, so it must read the answer to its association request before it sends anything else, which is how DICOM works.
//!
//! What it deliberately does not do: open sockets or set time-outs (the transport does), look at the names in a client's
//! certificate (admission goes by AE title and address), check revocation lists.

mod explain;
mod files;
mod validity;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, ServerConfig};

pub use self::explain::explain;
pub use self::files::{Authorities, Identity, TlsFileError};
pub use self::validity::Validity;
use crate::model::Timestamp;

/// The files of the configuration that have to do with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities we trust, in PEM, one or more.
    pub ca: Option<PathBuf>,
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
    /// The authorities cannot be used to check client certificates.
    #[error("client certificates cannot be checked with the ca that is configured: {0}")]
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
    const PURPOSE: &str = "listen-tls";
    let identity = files.identity.as_ref().ok_or(TlsError::Missing { purpose: PURPOSE, key: "cert and key" })?;
    let identity = Identity::load(identity)?;
    let provider = Arc::new(provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(VERSIONS)?;
    let builder = if clients == ClientCertificates::None {
        builder.with_no_client_auth()
    } else {
        let ca = files.ca.as_ref().ok_or(TlsError::Missing { purpose: PURPOSE, key: "ca" })?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Authorities::load(ca)?.into_roots(), provider);
        let verifier = match clients {
            ClientCertificates::Optional => verifier.allow_unauthenticated(),
            _ => verifier,
        };
        builder.with_client_cert_verifier(verifier.build()?)
    };
    let (chain, key) = identity.into_parts();
    let mut config = builder.with_single_cert(chain, key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The configuration for `dicoms://` destinations: whom we trust, and our certificate if there is one.
///
/// # Errors
/// `ca` is missing, or a file is unreadable or unfit; the message names it and says what to do.
pub fn client_config(files: &TlsFiles) -> Result<Arc<ClientConfig>, TlsError> {
    let ca = files.ca.as_ref().ok_or(TlsError::Missing { purpose: "a dicoms:// destination", key: "ca" })?;
    let builder = ClientConfig::builder_with_provider(Arc::new(provider())).with_protocol_versions(VERSIONS)?;
    let builder = builder.with_root_certificates(Authorities::load(ca)?.into_roots());
    let mut config = match &files.identity {
        Some(identity) => {
            let (chain, key) = Identity::load(identity)?.into_parts();
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// What to do about a certificate that causes a [`Validity::concern`].
pub const EXPIRY_REMEDY: &str = "Correct the clock if it is wrong; else replace the file and restart the gateway. TLS fails outside that time, and the queue waits.";

/// What somebody should know about the certificates in these files, in sentences. A file that cannot be read any more is
/// one of them; the running gateway has read it at its start.
#[must_use]
pub fn concerns(files: &TlsFiles, now: Timestamp) -> Vec<String> {
    let ca = files.ca.as_ref().map(|file| (file, Authorities::load(file).map(|authorities| authorities.validity())));
    let identity = files.identity.as_ref();
    let own = identity.map(|identity| (&identity.cert, Identity::load(identity).map(|own| own.validity())));
    let concern = |(file, validity): (&PathBuf, Result<Validity, TlsFileError>)| match validity {
        Ok(validity) => validity.concern(file, now).map(|what| format!("{what}. {EXPIRY_REMEDY}")),
        Err(error) => Some(error.to_string()),
    };
    [ca, own].into_iter().flatten().filter_map(concern).collect()
}

/// The name that a destination's certificate has to carry: the host of its URL, without brackets.
///
/// # Errors
/// The host is neither a DNS name nor an IP address.
pub fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::ServerName(host.to_owned()))
}
