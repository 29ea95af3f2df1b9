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
use std::task::{Context, Poll, ready};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep_until};

use super::pace::Pace;
use super::tcp_info::{self, TcpInfo};
use crate::clock;

/// Bytes in a segment that every link carries.
const SEGMENT: usize = 536;

/// Bytes on the link, both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Bytes that were sent, headers and repetitions included.
    pub sent: u64,
    /// Bytes of them that were sent before: the link has lost something, or was thought to.
    pub repeated: u64,
    /// Bytes that came back, headers included.
    pub received: u64,
    /// Bytes that the other side has acknowledged, without headers.
    pub acknowledged: u64,
}

impl Volume {
    /// Both ways together, as a contract counts.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.sent.saturating_add(self.received)
    }

    pub(super) fn add(&mut self, other: Self) {
        self.sent = self.sent.saturating_add(other.sent);
        self.repeated = self.repeated.saturating_add(other.repeated);
        self.received = self.received.saturating_add(other.received);
        self.acknowledged = self.acknowledged.saturating_add(other.acknowledged);
    }

    fn of(info: &TcpInfo, header: u64) -> Self {
        Self {
            sent: info.bytes_sent + u64::from(info.segments_sent) * header,
            repeated: info.bytes_repeated,
            received: info.bytes_received + u64::from(info.segments_received) * header,
            acknowledged: info.bytes_acknowledged,
        }
    }
}

/// The connections with one destination.
#[derive(Debug, Default)]
pub struct Wires {
    pace: Arc<Pace>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: Vec<Weak<Gauge>>,
    /// What went over those that are closed.
    closed: Volume,
}

impl Wires {
    /// What goes over them is held back by this.
    #[must_use]
    pub fn paced(pace: Arc<Pace>) -> Self {
        Self { pace, ..Self::default() }
    }

    /// What holds back what goes over them.
    #[must_use]
    pub fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

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
    /// Bytes in a full segment, as long as nothing else is known.
    segment: usize,
    /// Whether what is being sent is urgent.
    urgent: Arc<AtomicBool>,
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

    /// Bytes of the headers of IP and TCP in front of each segment.
    pub(super) fn header(&self) -> u64 {
        self.header
    }

    /// Bytes on the link that wait in the kernel to be sent; nothing if it does not tell.
    pub(super) fn waiting(&self) -> Option<u64> {
        self.info().map(|info| self.on_the_link(u64::from(info.unsent)))
    }

    /// What so many bytes are on the link.
    fn on_the_link(&self, bytes: u64) -> u64 {
        bytes + bytes.div_ceil(self.segment.max(1) as u64) * self.header
    }
}

/// A connection to a destination.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    gauge: Arc<Gauge>,
    wires: Arc<Wires>,
    /// Bytes that may be written at once.
    granted: usize,
    /// Bytes that may be written then.
    waiting: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Wire {
    /// Lists a connection.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub(super) fn new(stream: TcpStream, wires: &Arc<Wires>, urgent: &Arc<AtomicBool>) -> io::Result<Self> {
        let socket = stream.as_fd().try_clone_to_owned()?;
        let info = tcp_info::of(&socket).unwrap_or_default();
        let header = header(stream.peer_addr()?, info.has_timestamps);
        let segment = usize::try_from(info.segment).unwrap_or(0).max(SEGMENT);
        let gauge = Arc::new(Gauge { socket, header, segment, urgent: Arc::clone(urgent) });
        let mut state = wires.state();
        state.open.retain(|gauge| gauge.strong_count() > 0);
        state.open.push(Arc::downgrade(&gauge));
        drop(state);
        Ok(Self { stream, gauge, wires: Arc::clone(wires), granted: 0, waiting: None })
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

impl Wire {
    /// Waits until something may leave, and says how many bytes of so many.
    fn poll_granted(&mut self, context: &mut Context<'_>, wanted: usize) -> Poll<usize> {
        let pace = &self.wires.pace;
        if !pace.is_limited() {
            return Poll::Ready(wanted);
        }
        if self.granted == 0 {
            let (mut sleep, bytes) = match self.waiting.take() {
                Some(waiting) => waiting,
                None => {
                    let (now, bytes) = (clock::of_runtime(), pace.portion(wanted, self.gauge.segment));
                    let urgent = self.gauge.urgent.load(Ordering::Relaxed);
                    let from = pace.grant(self.gauge.on_the_link(bytes as u64), urgent, now);
                    (Box::pin(sleep_until(from.into())), bytes)
                }
            };
            if sleep.as_mut().poll(context).is_pending() {
                self.waiting = Some((sleep, bytes));
                return Poll::Pending;
            }
            self.granted = bytes;
        }
        Poll::Ready(self.granted.min(wanted))
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
        if bytes.is_empty() {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        let may = ready!(self.poll_granted(context, bytes.len()));
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes.get(..may).unwrap_or(bytes)));
        if let Ok(count) = &written {
            self.granted = self.granted.saturating_sub(*count);
        }
        Poll::Ready(written)
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
        let mut wire = Wire::new(stream, &wires, &Arc::default()).unwrap();
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
