//! One listening socket: accepts connections, gives each a place in the lobby and a session of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout_at;

use super::first_words::{self, Mistake, Port};
use super::movable::Movable;
use super::slots::Guest;
use super::visitor::Visitor;
use super::{Reception, session};
use crate::association::{AcceptorSettings, Spoken, transport};
use crate::metrics::Rejection;
use crate::{clock, tls};

/// The pause after the system could not give a connection (no file descriptor, no memory).
const EXHAUSTED: Duration = Duration::from_millis(200);

/// How long one that is in the wrong place may take to close its end of the connection.
const FAREWELL: Duration = Duration::from_millis(500);

/// A bound socket and what is spoken on it.
pub struct Door {
    /// The socket.
    pub listener: TcpListener,
    /// For DICOM over TLS (PS3.15 B.12): how to do the handshake.
    pub tls: Option<tls::Current<ServerConfig>>,
    /// A port of this gateway for the other kind of connection, to be named to who comes to the wrong one.
    pub other: Option<u16>,
}

/// Serves the door until the shutdown of the reception.
pub async fn serve(door: Door, reception: Arc<Reception>) {
    loop {
        let accepted = tokio::select! {
            () = reception.shutdown.cancelled() => return,
            accepted = door.listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            // Over an IPv6 socket an IPv4 address arrives as ::ffff:a.b.c.d; people know it without.
            Ok((stream, peer)) => (stream, SocketAddr::new(peer.ip().to_canonical(), peer.port())),
            Err(error) if is_of_the_peer(&error) => continue,
            Err(error) => {
                warn!("cannot accept a connection: {error}; trying again");
                tokio::time::sleep(EXHAUSTED).await;
                continue;
            }
        };
        let guest = reception.lobby.enter(peer.ip());
        let visit = Visit { tls: door.tls.clone(), other: door.other, peer, arrived: clock::now(), guest };
        reception.sessions.spawn(visit.run(stream, Arc::clone(&reception)));
    }
}

/// The connection was gone before it could be accepted: nothing of ours failed.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

/// One connection, from its arrival to its end.
struct Visit {
    tls: Option<tls::Current<ServerConfig>>,
    other: Option<u16>,
    peer: SocketAddr,
    arrived: Instant,
    guest: Guest,
}

impl Visit {
    async fn run(self, stream: TcpStream, reception: Arc<Reception>) {
        let peer = self.peer;
        if let Err(error) = stream.set_nodelay(true) {
            info!(peer:%; "the connection was gone at once: {error}");
            return;
        }
        let visitor = Visitor::new(peer.ip(), self.tls.is_some(), None);
        let deadline = self.arrived + reception.settings.timeouts.association;
        let spoken = tokio::select! {
            biased;
            spoken = timeout_at(deadline.into(), first_words::listen(&stream)) => spoken.unwrap_or(Some(Spoken::Unknown)),
            () = self.guest.displaced() => return session::displaced(peer, &reception),
            () = reception.shutdown.cancelled() => return,
        };
        // Nobody has said anything; that deserves no line in the log.
        let Some(spoken) = spoken else { return };
        if let Some(mistake) = self.mistake(spoken, &stream) {
            return self.turn_away(stream, mistake, &visitor, &reception).await;
        }
        let (stream, relocation) = Movable::new(stream);
        let mut caller = session::Caller { peer, arrived: self.arrived, guest: self.guest, secured: None, relocation };
        let Some(current) = &self.tls else { return session::run(stream, caller, &reception).await };
        let handshake = tokio::select! {
            biased;
            handshake = timeout_at(deadline.into(), current.acceptor().accept(stream)) => handshake,
            () = caller.guest.displaced() => return session::displaced(peer, &reception),
            () = reception.shutdown.cancelled() => return,
        };
        match handshake {
            Ok(Ok(stream)) => {
                caller.secured = Some(tls::Peer::of(stream.get_ref().1));
                session::run(stream, caller, &reception).await;
            }
            Ok(Err(error)) => {
                reception.metrics.association_rejected(Rejection::Tls);
                let why = tls::explain(&error);
                warn!(peer:%; "TLS handshake failed: {why}");
                visitor.failed(None, format!("TLS handshake failed: {why}"), &reception);
            }
            Err(_) => {
                reception.metrics.association_rejected(Rejection::Timeout);
                let why =
                    "no TLS handshake in time: the device connects to the TLS port and says nothing, or not enough";
                warn!(peer:%; "{why}");
                visitor.failed(None, why.to_owned(), &reception);
            }
        }
    }

    fn mistake(&self, spoken: Spoken, stream: &TcpStream) -> Option<Mistake> {
        let number = stream.local_addr().ok()?.port();
        Mistake::of(spoken, self.peer.ip(), Port { number, is_tls: self.tls.is_some(), other: self.other })
    }

    async fn turn_away(self, stream: TcpStream, mistake: Mistake, visitor: &Visitor, reception: &Reception) {
        reception.metrics.association_rejected(mistake.kind);
        warn!(peer:% = self.peer; "{}", mistake.sentence);
        visitor.failed(None, mistake.sentence, reception);
        let mut settings: AcceptorSettings = reception.settings.clone();
        settings.timeouts.linger = FAREWELL;
        tokio::select! {
            () = transport::turn_away(stream, &settings, mistake.abort) => {}
            () = self.guest.displaced() => {}
            () = reception.shutdown.cancelled() => {}
        }
    }
}
