//! Which authorities are held to a revocation list and which are not: the library knows one rule for all of them, so where
//! there are both kinds, there are two of its verifiers, and this one stands in front of them.
//!
//! It decides nothing itself. The verifier with the lists is asked first, and what it says is final, but for one answer:
//! that the certificate leads to none of its authorities. Then the other one is asked, for the authorities without a list.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::ClientCertificates;
use super::files::Authorities;
use super::revocation::RevocationLists;

/// Checks the certificates of modalities.
///
/// # Errors
/// The library cannot use the authorities or the lists.
pub(super) fn of_clients(
    authorities: &Authorities,
    lists: Option<&RevocationLists>,
    clients: ClientCertificates,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    let verifier = |roots: Arc<RootCertStore>, lists: Option<&RevocationLists>| {
        let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
        let builder = builder.with_crls(lists.map(RevocationLists::der).unwrap_or_default());
        match clients {
            ClientCertificates::Optional => builder.allow_unauthenticated(),
            _ => builder,
        }
        .build()
    };
    match Split::of(authorities, lists) {
        Split::None => verifier(authorities.roots(), None),
        Split::All(lists) => verifier(authorities.roots(), Some(lists)),
        Split::Some { listed, unlisted, lists } => {
            let hints = authorities.roots().subjects();
            let (listed, unlisted) = (verifier(listed, Some(lists))?, verifier(unlisted, None)?);
            Ok(Arc::new(Clients { listed, unlisted, hints }))
        }
    }
}

/// Checks the certificates of archives.
///
/// # Errors
/// The library cannot use the authorities or the lists.
pub(super) fn of_servers(
    authorities: &Authorities,
    lists: Option<&RevocationLists>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, VerifierBuilderError> {
    let verifier = |roots: Arc<RootCertStore>, lists: Option<&RevocationLists>| {
        let builder = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
        builder.with_crls(lists.map(RevocationLists::der).unwrap_or_default()).build()
    };
    match Split::of(authorities, lists) {
        Split::None => Ok(verifier(authorities.roots(), None)?),
        Split::All(lists) => Ok(verifier(authorities.roots(), Some(lists))?),
        Split::Some { listed, unlisted, lists } => {
            Ok(Arc::new(Servers { listed: verifier(listed, Some(lists))?, unlisted: verifier(unlisted, None)? }))
        }
    }
}

/// How many of the authorities have a list.
enum Split<'a> {
    None,
    All(&'a RevocationLists),
    Some { listed: Arc<RootCertStore>, unlisted: Arc<RootCertStore>, lists: &'a RevocationLists },
}

impl<'a> Split<'a> {
    fn of(authorities: &Authorities, lists: Option<&'a RevocationLists>) -> Self {
        let Some(lists) = lists else { return Self::None };
        let roots = authorities.roots().roots.clone();
        let (listed, unlisted): (Vec<_>, Vec<_>) = roots.into_iter().partition(|anchor| lists.speak_for(anchor));
        match (listed.is_empty(), unlisted.is_empty()) {
            (true, _) => Self::None,
            (false, true) => Self::All(lists),
            (false, false) => {
                let store = |roots| Arc::new(RootCertStore { roots });
                Self::Some { listed: store(listed), unlisted: store(unlisted), lists }
            }
        }
    }
}

/// Whether the certificate leads to no authority that has a list. An authority that has changed its key is two with one
/// name, and a certificate of the one has a bad signature by the key of the other.
fn is_of_nobody_listed<T>(verdict: &Result<T, Error>) -> bool {
    use CertificateError::{BadSignature, UnknownIssuer};
    matches!(verdict, Err(Error::InvalidCertificate(UnknownIssuer | BadSignature)))
}

#[derive(Debug)]
struct Clients {
    listed: Arc<dyn ClientCertVerifier>,
    unlisted: Arc<dyn ClientCertVerifier>,
    hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        self.listed.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.listed.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verdict = self.listed.verify_client_cert(end_entity, intermediates, now);
        if is_of_nobody_listed(&verdict) {
            return self.unlisted.verify_client_cert(end_entity, intermediates, now);
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.listed.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.listed.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.listed.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct Servers {
    listed: Arc<dyn ServerCertVerifier>,
    unlisted: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.listed.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if is_of_nobody_listed(&verdict) {
            return self.unlisted.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.listed.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.listed.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.listed.supported_verify_schemes()
    }
}
