//! From the address of a DICOM destination to an association with it: name, TCP, TLS, A-ASSOCIATE.
//!
//! A destination with TLS is never tried without: there is no fallback.

use std::io;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::association::transport::{self, Stream};
use crate::association::{Association, ConnectError, RequestorSettings};
use crate::config::DicomPeer;
use crate::tls;

/// Why there is no association. Every variant is about the destination, none about an instance.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The name has no address.
    #[error("cannot find the address of {host}: {source}; check the name, and the DNS server of this box")]
    Name {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Nobody accepts the connection.
    #[error("cannot connect to {peer}: {source}; is the link up, is the archive running, does a firewall block it?")]
    Tcp {
        /// Host and port.
        peer: String,
        /// What the system said.
        source: io::Error,
    },
    /// It took too long.
    #[error("no association with {peer} within {} s: is the link up, does a firewall swallow the connection, does the port speak {}?", .patience.as_secs(), if *.tls { "TLS" } else { "DICOM" })]
    TimedOut {
        /// Host and port.
        peer: String,
        /// How long was waited.
        patience: Duration,
        /// Whether TLS was to be spoken.
        tls: bool,
    },
    /// The TLS handshake failed; not one byte of DICOM was sent.
    #[error("TLS to {peer} failed: {reason}")]
    Tls {
        /// Host and port.
        peer: String,
        /// Cause and remedy.
        reason: String,
    },
    /// The association was not established.
    #[error("no association with {peer}: {source}")]
    Association {
        /// AE title, host and port.
        peer: String,
        /// Cause and remedy.
        source: ConnectError,
    },
}

/// Connects to `peer`, with TLS if `tls` is given, ready for the association; all of it within `patience`.
///
/// # Errors
/// See [`OpenError`].
pub async fn connect(
    peer: &DicomPeer,
    tls: Option<&TlsConnector>,
    patience: Duration,
) -> Result<Box<dyn Stream>, OpenError> {
    let timed_out = OpenError::TimedOut { peer: address(peer), patience, tls: tls.is_some() };
    timeout(patience, handshake(peer, tls, patience)).await.unwrap_or(Err(timed_out))
}

/// Connects to `peer` and establishes an association, all of it within the settings' time-out for associations.
///
/// # Errors
/// See [`OpenError`].
pub async fn associate(
    peer: &DicomPeer,
    tls: Option<&TlsConnector>,
    settings: &RequestorSettings,
) -> Result<Association, OpenError> {
    let patience = settings.timeouts.association;
    let timed_out = OpenError::TimedOut { peer: address(peer), patience, tls: tls.is_some() };
    let associating = async {
        let stream = handshake(peer, tls, patience).await?;
        transport::connect(stream, settings).await.map_err(|source| match source {
            // TLS 1.3 tells a client that its certificate is refused only when it reads for the first time (RFC 8446
            // 4.4).
            ConnectError::Io(error) if tls.is_some() => {
                OpenError::Tls { peer: address(peer), reason: tls::explain(&error) }
            }
            source => OpenError::Association { peer: format!("{}@{}", peer.aet, address(peer)), source },
        })
    };
    timeout(patience, associating).await.unwrap_or(Err(timed_out))
}

async fn handshake(
    peer: &DicomPeer,
    tls: Option<&TlsConnector>,
    patience: Duration,
) -> Result<Box<dyn Stream>, OpenError> {
    let tcp = connect_tcp(peer, patience).await?;
    let Some(connector) = tls else { return Ok(Box::new(tcp)) };
    let failed = |reason: String| OpenError::Tls { peer: address(peer), reason };
    let name = tls::server_name(&peer.host).map_err(|error| failed(error.to_string()))?;
    match connector.connect(name, tcp).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(failed(tls::explain(&error))),
    }
}

/// Tries the addresses of the host in turn; one that does not answer leaves time for the next.
async fn connect_tcp(peer: &DicomPeer, patience: Duration) -> Result<TcpStream, OpenError> {
    let name = |source| OpenError::Name { host: peer.host.clone(), source };
    let addresses: Vec<_> = lookup_host((peer.host.as_str(), peer.port)).await.map_err(name)?.collect();
    let each = patience / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut failure = None;
    for candidate in addresses {
        let connected = timeout(each, TcpStream::connect(candidate)).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(|source| OpenError::Tcp { peer: address(peer), source })?;
                return Ok(stream);
            }
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(source) => Err(OpenError::Tcp { peer: address(peer), source }),
        None => Err(name(io::ErrorKind::NotFound.into())),
    }
}

fn address(peer: &DicomPeer) -> String {
    match peer.host.contains(':') {
        true => format!("[{}]:{}", peer.host, peer.port),
        false => format!("{}:{}", peer.host, peer.port),
    }
}
