//! Connections to destinations as others see them: what is open, what the kernel knows of each, what went over all of them.
//!
//! Everything that leaves for a destination goes through a [`Wire`]. It is listed in the [`Wires`] of its destination from
//! the connection to the close, and the last counts of one that was closed stay in the sum.
//!
//! A byte counts as the link and its bill count it: with the headers of IP and TCP, with what was sent twice, and with the
//! acknowledgements that come back ([`Volume`]).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::tcp_info::{self, TcpInfo};

/// Bytes on the link, both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Bytes that were sent, headers and repetitions included.
    pub sent: u64,
    /// Bytes of them that were sent before: the link has lost something, or was thought to.
    pub repeated: u64,
    /// Bytes that came back, headers included.
    pub received: u64,
}

impl Volume {
    /// Both ways together, as a contract counts.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.sent.saturating_add(self.received)
    }

    fn add(&mut self, other: Self) {
        self.sent = self.sent.saturating_add(other.sent);
        self.repeated = self.repeated.saturating_add(other.repeated);
        self.received = self.received.saturating_add(other.received);
    }

    fn of(info: &TcpInfo, header: u64) -> Self {
        Self {
            sent: info.bytes_sent + u64::from(info.segments_sent) * header,
            repeated: info.bytes_repeated,
            received: info.bytes_received + u64::from(info.segments_received) * header,
        }
    }
}

/// The connections with one destination.
#[derive(Debug, Default)]
pub struct Wires {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: Vec<Weak<Gauge>>,
    /// What went over those that are closed.
    closed: Volume,
}

impl Wires {
    /// Those that are open.
    #[must_use]
    pub fn open(&self) -> Vec<Arc<Gauge>> {
        self.state().open.iter().filter_map(Weak::upgrade).collect()
    }

    /// What went over all of them since the process began.
    #[must_use]
    pub fn volume(&self) -> Volume {
        let (mut volume, open) = {
            let state = self.state();
            (state.closed, state.open.clone())
        };
        open.iter().filter_map(Weak::upgrade).filter_map(|gauge| gauge.volume()).for_each(|one| volume.add(one));
        volume
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection as others see it.
#[derive(Debug)]
pub struct Gauge {
    /// Another descriptor of the same socket: it lives no longer than the connection does.
    socket: OwnedFd,
    /// Bytes of the headers of IP and TCP in front of each segment.
    header: u64,
    /// Whether what is being sent is urgent.
    urgent: AtomicBool,
}

impl Gauge {
    /// What the kernel knows of it; nothing if it does not tell.
    #[must_use]
    pub fn info(&self) -> Option<TcpInfo> {
        tcp_info::of(&self.socket).ok()
    }

    /// What went over it.
    #[must_use]
    pub fn volume(&self) -> Option<Volume> {
        self.info().map(|info| Volume::of(&info, self.header))
    }

    /// Whether what is being sent is urgent ([`crate::model::Priority::Stat`]).
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.urgent.load(Ordering::Relaxed)
    }
}

/// A connection to a destination.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    gauge: Arc<Gauge>,
    wires: Arc<Wires>,
}

impl Wire {
    /// Lists a connection.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub(super) fn new(stream: TcpStream, wires: &Arc<Wires>) -> io::Result<Self> {
        let socket = stream.as_fd().try_clone_to_owned()?;
        let header = header(stream.peer_addr()?, tcp_info::of(&socket).ok().is_some_and(|info| info.has_timestamps));
        let gauge = Arc::new(Gauge { socket, header, urgent: AtomicBool::new(false) });
        let mut state = wires.state();
        state.open.retain(|gauge| gauge.strong_count() > 0);
        state.open.push(Arc::downgrade(&gauge));
        drop(state);
        Ok(Self { stream, gauge, wires: Arc::clone(wires) })
    }

    /// The address at this end.
    ///
    /// # Errors
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// The address at the other end.
    ///
    /// # Errors
    /// Those of the system.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let last = self.gauge.volume().unwrap_or_default();
        let mut state = self.wires.state();
        state.closed.add(last);
        // Out of the list in the same moment, so that nothing counts twice.
        state.open.retain(|gauge| !std::ptr::eq(gauge.as_ptr(), Arc::as_ptr(&self.gauge)));
    }
}

/// Bytes of the headers in front of each segment: IP, TCP, and the timestamps that nearly every connection has.
fn header(peer: SocketAddr, has_timestamps: bool) -> u64 {
    let ip = if peer.ip().to_canonical().is_ipv4() { 20 } else { 40 };
    ip + 20 + if has_timestamps { 12 } else { 0 }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_went_over_a_connection_is_counted_with_headers_and_stays_counted_when_it_is_closed() {
        const SENT: u64 = 1_000_000;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wires = Arc::new(Wires::default());
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut there, _) = listener.accept().await.unwrap();
        let mut wire = Wire::new(stream, &wires).unwrap();
        assert_eq!(wires.open().len(), 1);
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            there.read_to_end(&mut all).await.unwrap();
            there.write_all(&all[..1_000]).await.unwrap();
            all.len() as u64
        });
        wire.write_all(&vec![7; usize::try_from(SENT).unwrap()]).await.unwrap();
        wire.shutdown().await.unwrap();
        assert_eq!(reading.await.unwrap(), SENT);
        let mut back = Vec::new();
        wire.read_to_end(&mut back).await.unwrap();
        let open = wires.volume();
        assert!(open.sent > SENT + 40 && open.sent < SENT * 2, "{open:?}");
        assert!(open.received > 1_040 && open.received < SENT, "{open:?}");
        let info = wires.open()[0].info().unwrap();
        assert!(info.bytes_sent >= SENT && info.segment > 500 && info.round_trip > Duration::ZERO, "{info:?}");
        drop(wire);
        assert!(wires.open().is_empty());
        let closed = wires.volume();
        assert!(closed.sent >= open.sent && closed.received >= open.received && closed.total() > SENT, "{closed:?}");
    }
}
