//! Orthanc (1.10 in Debian 12) as an archive: DICOM with or without TLS on one port, REST on another.
//!
//! It reads a data set and writes it anew, so what it keeps is compared element by element, not byte for byte. Its DICOM
//! port listens on every interface, and there is no option against that.

use std::path::Path;

use serde_json::json;

use super::dcmtk::Target;
use super::orthanc_server::Server;
use super::pki::Identity;
use super::ports::free_port;

/// A running Orthanc.
pub(crate) struct Orthanc {
    pub(crate) port: u16,
    pub(crate) server: Server,
    tls: bool,
}

impl Orthanc {
    /// Starts it with everything it writes below `folder`, and waits until it says that it has started.
    pub(crate) fn start(folder: &Path, tls: Option<&Identity>) -> Self {
        let port = free_port();
        let mut configuration = json!({
            "Name": "test",
            "Plugins": [],
            "AuthenticationEnabled": false,
            "DicomAet": "ORTHANC",
            "DicomPort": port,
            "DicomAlwaysAllowStore": true,
            "UnknownSopClassAccepted": true,
        });
        if let Some(identity) = tls {
            let tls_options = json!({
                "DicomTlsEnabled": true,
                "DicomTlsCertificate": identity.cert,
                "DicomTlsPrivateKey": identity.key,
                "DicomTlsTrustedCertificates": identity.ca,
                "DicomTlsRemoteCertificateRequired": true,
            });
            configuration.as_object_mut().unwrap().extend(tls_options.as_object().unwrap().clone());
        }
        Self { port, server: Server::start(folder, &configuration, None), tls: tls.is_some() }
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls { "dicoms" } else { "dicom" };
        format!("{scheme}://ORTHANC@127.0.0.1:{}", self.port)
    }

    pub(crate) fn target(&self, client: Option<&Identity>) -> Target {
        Target { port: self.port, called: "ORTHANC".to_owned(), calling: "MODALITY".to_owned(), tls: client.cloned() }
    }
}
