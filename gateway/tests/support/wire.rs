//! A look at the wire: a TCP relay that counts what the gateway sends.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Relays connections on a port of its own to another port of this machine, for as long as the test process lives.
pub(crate) struct Relay {
    pub(crate) port: u16,
    sent: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
}

impl Relay {
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let relay =
            Self { port: listener.local_addr().unwrap().port(), sent: Arc::default(), connections: Arc::default() };
        let (sent, connections) = (Arc::clone(&relay.sent), Arc::clone(&relay.connections));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::Relaxed);
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let (client_reads, server_reads) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let sent = Arc::clone(&sent);
                std::thread::spawn(move || copy(client_reads, server, &sent));
                std::thread::spawn(move || copy(server_reads, client, &AtomicU64::new(0)));
            }
        });
        relay
    }

    /// How many bytes the calling side has sent, over all connections.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Copies until either side ends, then ends the other one.
fn copy(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut buffer = [0; 8192];
    while let Ok(read) = from.read(&mut buffer)
        && read > 0
    {
        count.fetch_add(u64::try_from(read).unwrap(), Ordering::Relaxed);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Write));
    drop(from.shutdown(Shutdown::Read));
}
