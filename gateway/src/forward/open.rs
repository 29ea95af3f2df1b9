//! From the address of a DICOM destination to an association with it: name, TCP, TLS, A-ASSOCIATE.
//!
//! A destination with TLS is never tried without: there is no fallback.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::socket;
use super::wire::{GivenUp, Wire, Wires};
use crate::association::transport::{self, Stream};
use crate::association::{Association, ConnectError, EchoError, Rejection, RequestorSettings};
use crate::clock;
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
    /// The association stands, and nobody works behind it.
    #[error("{peer} accepts associations and gives no good answer to a C-ECHO, so nothing is sent yet: {source}")]
    Echo {
        /// AE title, host and port.
        peer: String,
        /// What came instead of an answer.
        source: EchoError,
    },
    /// A connection stood and was lost again, and another one gets through.
    #[error("the connection with {peer} was lost before there was an association: {cause}")]
    GivenUp {
        /// Host and port.
        peer: String,
        /// What happened.
        cause: io::Error,
    },
    /// Whatever was sent there would come back, and be sent there again.
    #[error("{peer} is this gateway itself: correct the address of the destination")]
    Ourselves {
        /// Host and port.
        peer: String,
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

impl OpenError {
    /// Whether the peer may not have got on with something in the request for the association.
    pub(super) fn may_be_about_the_request(&self) -> bool {
        match self {
            // Over TLS an end of the connection without a word comes as an error of TLS.
            Self::Tls { .. } => true,
            Self::Association { source, .. } => match source {
                ConnectError::Rejected { rejection, .. } => rejection.reason == Rejection::NO_REASON.reason,
                ConnectError::Aborted(_) | ConnectError::Violation(_) | ConnectError::Closed | ConnectError::Io(_) => {
                    true
                }
                _ => false,
            },
            _ => false,
        }
    }
}

/// How long a connection is waited for that is only to show whether one gets through. The kernel asks three times or so.
const LOOK: Duration = Duration::from_secs(3);

/// How connections are made. Clones list them in the same place.
#[derive(Debug, Clone, Default)]
pub struct Dialer {
    own: Arc<[SocketAddr]>,
    pub(super) wires: Arc<Wires>,
    /// Whether what goes over its connections is urgent.
    urgent: Arc<AtomicBool>,
}

impl Dialer {
    /// Connects to none of `own`, where the gateway itself listens: what is sent there would come back. Lists what is open
    /// in `wires`.
    #[must_use]
    pub fn new(own: &[SocketAddr], wires: Arc<Wires>) -> Self {
        Self { own: own.into(), wires, urgent: Arc::default() }
    }

    /// The same for connections of whose own it is whether what goes over them is urgent.
    pub(super) fn apart(&self) -> Self {
        Self { urgent: Arc::default(), ..self.clone() }
    }

    /// Says whether what goes over its connections from now on is urgent.
    pub(super) fn is_urgent(&self, urgent: bool) {
        self.urgent.store(urgent, Ordering::Relaxed);
    }

    /// Connects to host and port. Of several addresses, one that does not answer leaves time for the next.
    pub(super) async fn tcp(&self, (host, port): (&str, u16), patience: Duration) -> Result<Wire, OpenError> {
        let name = |source| OpenError::Name { host: host.to_owned(), source };
        self.wires.tries((host, port));
        let addresses: Vec<_> = lookup_host((host, port)).await.map_err(name)?.collect();
        if let Some(spare) = self.wires.take_spare(&addresses, clock::of_runtime()) {
            self.wires.got_through();
            return Wire::new(spare, &self.wires, &self.urgent)
                .map_err(|source| OpenError::Tcp { peer: joined(host, port), source });
        }
        let each = patience / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut failure = None;
        for candidate in addresses {
            let connected = timeout(each, self.connect(candidate)).await;
            match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(wire) if leads_to_us(&self.own, &wire) => {
                    self.wires.got_through();
                    return Err(OpenError::Ourselves { peer: joined(host, port) });
                }
                Ok(wire) => {
                    self.wires.got_through();
                    return Ok(wire);
                }
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(source) => Err(OpenError::Tcp { peer: joined(host, port), source }),
            None => Err(name(io::ErrorKind::NotFound.into())),
        }
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Wire> {
        Wire::new(socket::connect(address).await?, &self.wires, &self.urgent)
    }

    /// Tries a connection to an address, for nothing but to see whether it gets through; it is to spare then.
    pub(super) async fn look_at(&self, address: SocketAddr) -> io::Result<()> {
        let connected = timeout(LOOK, socket::connect(address)).await;
        let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        self.wires.keep_spare(stream, clock::of_runtime());
        Ok(())
    }

    /// The same with where the last connection was tried to.
    pub(super) async fn look(&self) -> io::Result<()> {
        let target = self.wires.target().ok_or(io::ErrorKind::NotFound)?;
        let mut failure = io::ErrorKind::NotFound.into();
        for address in lookup_host(target).await? {
            match self.look_at(address).await {
                Ok(()) => return Ok(()),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

/// Connects to `peer`, with TLS if `tls` is given, ready for the association; all of it within `patience`.
///
/// # Errors
/// See [`OpenError`].
pub async fn connect(
    peer: &DicomPeer,
    tls: Option<&TlsConnector>,
    dialer: &Dialer,
    patience: Duration,
) -> Result<Box<dyn Stream>, OpenError> {
    let timed_out = OpenError::TimedOut { peer: address(peer), patience, tls: tls.is_some() };
    let connecting = timeout(patience, handshake(peer, tls, dialer, patience)).await;
    connecting.unwrap_or(Err(timed_out)).map(|(stream, _)| stream)
}

/// Connects to `peer` and establishes an association, all of it within the settings' time-out for associations.
///
/// # Errors
/// See [`OpenError`].
pub async fn associate(
    peer: &DicomPeer,
    tls: Option<&TlsConnector>,
    dialer: &Dialer,
    settings: &RequestorSettings,
) -> Result<Association, OpenError> {
    reach(peer, tls, dialer, settings).await.map(|(association, _)| association)
}

/// Does what [`associate`] does, and tells at which address the peer was reached.
///
/// # Errors
/// See [`OpenError`].
pub async fn reach(
    peer: &DicomPeer,
    tls: Option<&TlsConnector>,
    dialer: &Dialer,
    settings: &RequestorSettings,
) -> Result<(Association, IpAddr), OpenError> {
    let patience = settings.timeouts.association;
    let timed_out = OpenError::TimedOut { peer: address(peer), patience, tls: tls.is_some() };
    let associating = async {
        let (stream, address) = handshake(peer, tls, dialer, patience).await?;
        let association = transport::connect(stream, settings).await;
        Ok((association.map_err(|source| refused(peer, tls.is_some(), source))?, address))
    };
    timeout(patience, associating).await.unwrap_or(Err(timed_out))
}

/// What it means that `peer` could be connected to, over TLS or not, and no association came of it.
#[must_use]
pub fn refused(peer: &DicomPeer, over_tls: bool, source: ConnectError) -> OpenError {
    match source {
        ConnectError::Io(cause) if GivenUp::is_behind(&cause) => OpenError::GivenUp { peer: address(peer), cause },
        // TLS 1.3 tells a client that its certificate is refused only when it reads for the first time (RFC 8446 4.4).
        ConnectError::Io(error) if over_tls => OpenError::Tls { peer: address(peer), reason: tls::explain(&error) },
        source => OpenError::Association { peer: format!("{}@{}", peer.aet, address(peer)), source },
    }
}

async fn handshake(
    peer: &DicomPeer,
    tls: Option<&TlsConnector>,
    dialer: &Dialer,
    patience: Duration,
) -> Result<(Box<dyn Stream>, IpAddr), OpenError> {
    let tcp = dialer.tcp((&peer.host, peer.port), patience).await?;
    let there = tcp.peer_addr().map_err(|source| OpenError::Tcp { peer: address(peer), source })?;
    let Some(connector) = tls else { return Ok((Box::new(tcp), there.ip())) };
    let failed = |reason: String| OpenError::Tls { peer: address(peer), reason };
    let name = tls::server_name(&peer.host).map_err(|error| failed(error.to_string()))?;
    match connector.connect(name, tcp).await {
        Ok(stream) => Ok((Box::new(stream), there.ip())),
        Err(cause) if GivenUp::is_behind(&cause) => Err(OpenError::GivenUp { peer: address(peer), cause }),
        Err(error) => Err(failed(tls::explain(&error))),
    }
}

fn leads_to_us(own: &[SocketAddr], wire: &Wire) -> bool {
    let ends = (wire.local_addr(), wire.peer_addr());
    matches!(ends, (Ok(here), Ok(there)) if is_own(own, here, there))
}

/// Whether a connection from `here` leads to one of our own sockets. Nobody but us can have a port on which we listen at
/// every address of this machine.
fn is_own(own: &[SocketAddr], here: SocketAddr, there: SocketAddr) -> bool {
    let (here, there_ip) = (here.ip().to_canonical(), there.ip().to_canonical());
    let stays_here = here == there_ip || there_ip.is_loopback();
    let is_served = |own: &SocketAddr| {
        own.port() == there.port() && (own.ip().is_unspecified() || own.ip().to_canonical() == there_ip)
    };
    stays_here && own.iter().any(is_served)
}

fn address(peer: &DicomPeer) -> String {
    joined(&peer.host, peer.port)
}

pub(super) fn joined(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_that_is_the_gateway_itself_is_known_by_any_of_its_addresses() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let everywhere = [at("0.0.0.0:104"), at("[::]:2762")];
        assert!(is_own(&everywhere, at("192.0.2.2:40000"), at("192.0.2.2:104")));
        assert!(is_own(&everywhere, at("[::ffff:192.0.2.2]:40000"), at("192.0.2.2:2762")));
        assert!(is_own(&everywhere, at("127.0.0.1:40000"), at("127.0.0.2:104")));
        assert!(!is_own(&everywhere, at("192.0.2.2:40000"), at("192.0.2.3:104")), "another machine");
        assert!(!is_own(&everywhere, at("192.0.2.2:40000"), at("192.0.2.2:105")), "an archive on this machine");
        let one = [at("192.0.2.2:104")];
        assert!(is_own(&one, at("192.0.2.2:40000"), at("192.0.2.2:104")));
        assert!(!is_own(&one, at("127.0.0.1:40000"), at("127.0.0.1:104")), "an archive at another address");
    }
}
