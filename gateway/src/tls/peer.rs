//! What is known of the other side after a TLS handshake.

use std::fmt;

use rustls::ServerConnection;
use rustls::client::verify_server_name;
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use rustls::version::TLS13;

use super::name;

/// The other side of a TLS connection that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// `TLS 1.2` or `TLS 1.3`.
    pub version: &'static str,
    /// The name of the cipher suite (IANA).
    pub cipher: &'static str,
    /// The subject of its certificate as text (RFC 4514), safe to show: what
    /// `openssl x509 -noout -subject -nameopt RFC2253,-esc_msb` prints. `None` if it has shown no certificate, or one with
    /// an empty subject or one of more than 1,024 bytes. Who has one, has proved it: the certificate leads to an authority
    /// of `ca`, and its key was used.
    pub subject: Option<String>,
    /// Its certificate, and those between it and the authority; empty if it has shown none.
    pub chain: Vec<CertificateDer<'static>>,
}

impl Peer {
    /// What is known once the handshake on this connection is over.
    #[must_use]
    pub fn of(connection: &ServerConnection) -> Self {
        let chain = connection.peer_certificates().unwrap_or_default();
        let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        Self {
            version: if connection.protocol_version() == Some(TLS13.version) { "TLS 1.3" } else { "TLS 1.2" },
            cipher: suite.unwrap_or("unknown"),
            subject: chain.first().and_then(|certificate| name::subject(certificate)),
            chain: chain.to_vec(),
        }
    }
}

impl Peer {
    /// Whether its certificate carries the name or address of this host.
    #[must_use]
    pub fn is_named(&self, host: &str) -> bool {
        let named = |certificate: &CertificateDer<'_>| {
            let (certificate, host) = (ParsedCertificate::try_from(certificate).ok()?, super::server_name(host).ok()?);
            verify_server_name(&certificate, &host).ok()
        };
        self.chain.first().and_then(named).is_some()
    }
}

/// Version and cipher.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.version, self.cipher)
    }
}
