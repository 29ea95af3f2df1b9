//! A look at the wire: a TCP relay that counts what is sent through it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Relays connections on a port of its own to another port of this machine, for as long as the test process lives.
pub(crate) struct Relay {
    pub(crate) port: u16,
    sent: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    longest: Arc<AtomicU64>,
}

impl Relay {
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let relay = Self {
            port: listener.local_addr().unwrap().port(),
            sent: Arc::default(),
            connections: Arc::default(),
            longest: Arc::default(),
        };
        let (sent, connections) = (Arc::clone(&relay.sent), Arc::clone(&relay.connections));
        let longest = Arc::clone(&relay.longest);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::Relaxed);
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let (client_reads, server_reads) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let sent = Arc::clone(&sent);
                let mut pdus = Pdus { head: Vec::new(), left: 0, longest: Arc::clone(&longest) };
                let seen = move |bytes: &[u8]| {
                    sent.fetch_add(u64::try_from(bytes.len()).unwrap(), Ordering::Relaxed);
                    pdus.see(bytes);
                };
                std::thread::spawn(move || copy(client_reads, server, seen));
                std::thread::spawn(move || copy(server_reads, client, |_| ()));
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

    /// The longest P-DATA-TF with a piece of a data set that the calling side has sent since this was last asked, in bytes
    /// after the head.
    pub(crate) fn longest(&self) -> u64 {
        self.longest.swap(0, Ordering::Relaxed)
    }
}

/// One direction of an association in the clear, cut into PDUs (PS3.8 9.3).
struct Pdus {
    /// The head of the next PDU, and of the first PDV in it if it is a P-DATA-TF.
    head: Vec<u8>,
    /// The bytes of the PDU that have not been seen yet.
    left: u64,
    longest: Arc<AtomicU64>,
}

impl Pdus {
    fn see(&mut self, mut bytes: &[u8]) {
        const P_DATA_TF: u8 = 4;
        while !bytes.is_empty() {
            let skipped = bytes.len().min(usize::try_from(self.left).unwrap());
            self.left -= u64::try_from(skipped).unwrap();
            bytes = &bytes[skipped..];
            let missing = if self.head.first() == Some(&P_DATA_TF) { 12 } else { 6 } - self.head.len();
            let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
            self.head.extend_from_slice(taken);
            bytes = rest;
            match self.head[..] {
                [P_DATA_TF, _, a, b, c, d, _, _, _, _, _, control] => {
                    let length = u64::from(u32::from_be_bytes([a, b, c, d]));
                    self.left = length.saturating_sub(6);
                    if control & 1 == 0 {
                        self.longest.fetch_max(length, Ordering::Relaxed);
                    }
                    self.head.clear();
                }
                [kind, _, a, b, c, d] if kind != P_DATA_TF => {
                    self.left = u64::from(u32::from_be_bytes([a, b, c, d]));
                    self.head.clear();
                }
                _ => {}
            }
        }
    }
}

/// Copies until either side ends, then ends the other one; `seen` looks at the bytes on their way.
fn copy(mut from: TcpStream, mut to: TcpStream, mut seen: impl FnMut(&[u8])) {
    let mut buffer = [0; 8192];
    while let Ok(read) = from.read(&mut buffer)
        && read > 0
    {
        seen(&buffer[..read]);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Write));
    drop(from.shutdown(Shutdown::Read));
}
