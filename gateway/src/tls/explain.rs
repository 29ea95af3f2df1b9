//! TLS failures in plain sentences: what the other side did or showed, and what somebody can do about it.

use std::io;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription as Alert, CertificateError, Error, PeerIncompatible};

use crate::model::Timestamp;

/// Explains why a TLS connection failed, for the log and for `waystation status`.
///
/// Whatever the peer sent is shown escaped. An error that has nothing to do with TLS is shown as it is.
#[must_use]
pub fn explain(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match (tls, error.kind()) {
        (Some(error), _) => explain_tls(error),
        (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            "the other side closed the connection during the TLS handshake: it may expect no TLS on this port, or not accept our certificate; its log tells which".to_owned()
        }
        (None, _) => error.to_string(),
    }
}

fn explain_tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => explain_certificate(error),
        Error::AlertReceived(alert) => explain_alert(*alert),
        Error::NoCertificatesPresented => {
            "the other side showed no certificate: install one on it that an authority of our ca issued, or relax tls-client-certificates".to_owned()
        }
        Error::InvalidMessage(_) | Error::PeerSentOversizedRecord => {
            "what the other side sent is not TLS: one of the two uses a port for plain connections, check the port and dicom:// against dicoms://".to_owned()
        }
        Error::PeerIncompatible(PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon | PeerIncompatible::NoSignatureSchemesInCommon) => {
            "the two sides share no kind of signature: use a certificate with an RSA key of 2048 bits or more, or with ECDSA P-256".to_owned()
        }
        Error::PeerIncompatible(_) => {
            "the other side offers only TLS versions or ciphers that are no longer safe: it needs TLS 1.2 or 1.3 with ECDHE and AES-GCM (DICOM PS3.15 B.12)".to_owned()
        }
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } | Error::PeerMisbehaved(_) => {
            format!("the other side does not keep to the TLS protocol ({error}): update its TLS software")
        }
        Error::InvalidCertRevocationList(error) => {
            format!("the revocation list that speaks of the certificate of the other side cannot be used ({error:?}): get it anew from the authority")
        }
        Error::DecryptError => "what arrived was changed on the way: look for a device between the two that interferes".to_owned(),
        Error::FailedToGetCurrentTime => "this machine cannot tell the time, so no certificate can be checked: set its clock".to_owned(),
        other => format!("TLS failed: {other}"),
    }
}

fn explain_certificate(error: &CertificateError) -> String {
    const CLOCK: &str = "or correct this machine's clock if it is wrong";
    match error {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the certificate of the other side ended on {}; here it is {}: renew it there, {CLOCK}",
            moment(*not_after),
            moment(*time)
        ),
        CertificateError::Expired => format!("the certificate of the other side has ended: renew it there, {CLOCK}"),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the certificate of the other side holds only from {} on; here it is {}: wait, {CLOCK}",
            moment(*not_before),
            moment(*time)
        ),
        CertificateError::NotValidYet => format!("the certificate of the other side does not hold yet: wait, {CLOCK}"),
        CertificateError::UnknownIssuer => {
            "the certificate of the other side was issued by an authority we do not trust: put that authority's certificate into the ca file, if it is the right one".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names = if presented.is_empty() { "no name at all".to_owned() } else { format!("{presented:?}") };
            format!(
                "the certificate of the other side is for {names} and not for {:?}: use one of its names in the URL, or have it issued for this one (subjectAltName)",
                expected.to_str()
            )
        }
        CertificateError::NotValidForName => {
            "the certificate of the other side does not carry the host of the URL: use one of its names in the URL, or have it issued for this one (subjectAltName)".to_owned()
        }
        CertificateError::Revoked => {
            "the certificate of the other side has been revoked by the authority that issued it (crl): ask there why, and install a new one on the device".to_owned()
        }
        CertificateError::UnknownRevocationStatus => {
            "no revocation list tells whether the certificate of the other side still holds: put the list of the authority that issued it into crl, and that authority into ca".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate of the other side is not made for this use: its extendedKeyUsage must hold serverAuth for an archive, clientAuth for a modality".to_owned()
        }
        CertificateError::BadSignature => {
            "the certificate of the other side carries a signature that is not its authority's: it, or our ca file, is not what it seems to be".to_owned()
        }
        other => format!("the certificate of the other side cannot be accepted ({other}): have a new one issued"),
    }
}

fn explain_alert(alert: Alert) -> String {
    match alert {
        Alert::CertificateRequired | Alert::NoCertificate => {
            "the other side wants a certificate from us: set cert and key to one it accepts".to_owned()
        }
        Alert::UnknownCA => {
            "the other side does not trust the authority that issued our certificate: have that authority added there, or use a certificate from one it knows".to_owned()
        }
        Alert::CertificateExpired => "the other side finds that our certificate has ended: replace it (cert), or correct the clock of the side that is wrong".to_owned(),
        Alert::CertificateRevoked => "our certificate has been revoked: replace it (cert and key)".to_owned(),
        Alert::BadCertificate | Alert::UnsupportedCertificate | Alert::CertificateUnknown | Alert::AccessDenied => {
            format!("the other side does not accept our certificate ({alert:?}): its log tells why; ask which authority and which names it wants")
        }
        Alert::UnrecognisedName => "the other side does not know the host name of the URL: use the name its certificate carries".to_owned(),
        Alert::ProtocolVersion | Alert::HandshakeFailure | Alert::InsufficientSecurity => {
            format!("the other side shares no TLS version or cipher with us, or wants a certificate we did not show ({alert:?}): it needs TLS 1.2 or 1.3 with ECDHE and AES-GCM; if it checks certificates, set cert and key")
        }
        other => format!("the other side ended the TLS connection ({other:?}): its log tells why"),
    }
}

fn moment(time: UnixTime) -> Timestamp {
    Timestamp::from_millis(time.as_secs().saturating_mul(1_000))
}
