//! Orthanc (1.10 in Debian 12) with its DICOMweb plugin (1.7) as an archive behind STOW-RS: HTTPS with client certificates,
//! and a password.
//!
//! Debian's build of it ends with a segmentation fault at the first connection over TLS. So TLS ends in front of it, in a
//! few lines of rustls, as it does in front of most archives.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;
use tokio_rustls::TlsAcceptor;

use super::orthanc_server::Server;
use super::pki::Identity;

/// Where Debian puts the plugin.
const PLUGIN: &str = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so";

/// "waystation:open sesame", as HTTP writes it (RFC 7617).
const AUTHORIZATION: &str = "Basic d2F5c3RhdGlvbjpvcGVuIHNlc2FtZQ==";

/// Who may store.
pub(crate) const USER: &str = "waystation";
pub(crate) const PASSWORD: &str = "open sesame";

/// A running Orthanc.
pub(crate) struct OrthancWeb {
    https: u16,
    pub(crate) server: Server,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for OrthancWeb {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl OrthancWeb {
    /// Starts it with everything it writes below `folder`, and waits until it says that it has started. It shows this
    /// certificate, and wants to see one of the same authority.
    pub(crate) fn start(folder: &Path, server: &Identity) -> Self {
        assert!(Path::new(PLUGIN).exists(), "the DICOMweb plugin is missing: run scripts/setup-test-peers");
        waystation::tls::install_provider();
        let configuration = json!({
            "Name": "web",
            "Plugins": [PLUGIN],
            "DicomWeb": { "Enable": true, "Root": "/dicom-web/" },
            "AuthenticationEnabled": true,
            "RegisteredUsers": { (USER): PASSWORD },
            "DicomServerEnabled": false,
        });
        let orthanc = Server::start(folder, &configuration, Some(AUTHORIZATION));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let https = listener.local_addr().unwrap().port();
        runtime.spawn(terminate_tls(listener, TlsAcceptor::from(Arc::new(server_config(server))), orthanc.port));
        Self { https, server: orthanc, runtime: Some(runtime) }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/dicom-web", self.https)
    }
}

fn server_config(server: &Identity) -> ServerConfig {
    let certificates = |file: &Path| CertificateDer::pem_file_iter(file).unwrap().map(Result::unwrap);
    let mut roots = RootCertStore::empty();
    certificates(&server.ca).for_each(|certificate| roots.add(certificate).unwrap());
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let key = PrivateKeyDer::from_pem_file(&server.key).unwrap();
    let chain = certificates(&server.cert).collect();
    let mut config = ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// Hands what comes over TLS on to the port of Orthanc.
async fn terminate_tls(listener: tokio::net::TcpListener, acceptor: TlsAcceptor, port: u16) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(mut outside) = acceptor.accept(stream).await else { return };
            let Ok(mut inside) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else { return };
            drop(tokio::io::copy_bidirectional(&mut outside, &mut inside).await);
        });
    }
}
