//! Connections to destinations as others see them: what is open, what the kernel knows of each, what went over all of them.
//!
//! Everything that leaves for a destination goes through a [`Wire`]. It is listed in the [`Wires`] of its destination from
//! the connection to the close, and the last counts of one that was closed stay in the sum.
//!
//! A byte counts as the link and its bill count it: with the headers of IP and TCP, with what was sent twice, and with the
//! acknowledgements that come back ([`Volume`]).
//!
//! A connection that breaks, or is [given up](Gauge::give_up), while an answer is waited for is a cut ([`Cuts`]): what has
//! left since the last answer leaves once more.
//!
//! What is found out about the link beside the connections is kept here, too: whether the last try of one got through, and
//! a connection that did and is to spare.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep_until};

use super::pace::Pace;
use super::socket;
use super::tcp_info::{self, TcpInfo};
use crate::clock;

/// Bytes in a segment that every link carries.
const SEGMENT: usize = 536;

/// How long a connection that is to spare is kept: archives close one on which nobody speaks.
const SPARE: Duration = Duration::from_secs(5);

/// Bytes on the link, both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Bytes that were sent, headers and repetitions included.
    pub sent: u64,
    /// Bytes of them that were sent before: the link has lost something, or was thought to.
    pub repeated: u64,
    /// Bytes that came back, headers included.
    pub received: u64,
    /// Bytes that have arrived at the other side, without headers, those behind a gap included.
    #[serde(skip)]
    pub arrived: u64,
}

impl Volume {
    pub(super) fn add(&mut self, other: Self) {
        self.sent = self.sent.saturating_add(other.sent);
        self.repeated = self.repeated.saturating_add(other.repeated);
        self.received = self.received.saturating_add(other.received);
        self.arrived = self.arrived.saturating_add(other.arrived);
    }

    fn of(info: &TcpInfo, header: u64) -> Self {
        Self {
            sent: info.bytes_sent + u64::from(info.segments_sent) * header,
            repeated: info.bytes_repeated,
            received: info.bytes_received + u64::from(info.segments_received) * header,
            arrived: info.bytes_arrived,
        }
    }
}

/// Connections that ended while an answer was waited for, and what that costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cuts {
    /// Connections that broke.
    pub broken: u64,
    /// Connections that were given up, because they did not move and a new one got through.
    pub given_up: u64,
    /// Bytes that had left over both since the last answer, as they were written: they are sent once more.
    pub bytes: u64,
}

/// A connection was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenUp {
    /// For how long nothing had come on it.
    pub quiet: Duration,
}

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.quiet.as_secs();
        write!(f, "nothing came over this connection for {seconds} s and a new one gets through, so it was given up")
    }
}

impl std::error::Error for GivenUp {}

impl GivenUp {
    /// Whether an error says that the connection was given up.
    pub(super) fn is_behind(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

/// Who has ended a connection that broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndedBy {
    /// The other side, or something that has nothing to do with the link.
    Peer,
    /// Nothing got through any more.
    Link,
    /// We: it did not move, and a new one got through.
    Us,
}

impl EndedBy {
    /// What an error of the connection says.
    pub(super) fn of(error: &io::Error) -> Self {
        use io::ErrorKind::{HostUnreachable, NetworkDown, NetworkUnreachable, TimedOut};
        match error.kind() {
            _ if GivenUp::is_behind(error) => Self::Us,
            TimedOut | HostUnreachable | NetworkUnreachable | NetworkDown => Self::Link,
            _ => Self::Peer,
        }
    }
}

/// The connections with one destination.
#[derive(Debug, Default)]
pub struct Wires {
    pace: Arc<Pace>,
    state: Mutex<State>,
    /// One was opened.
    opened: Notify,
}

#[derive(Debug, Default)]
struct State {
    open: Vec<Weak<Gauge>>,
    /// What went over those that are closed.
    closed: Volume,
    cuts: Cuts,
    /// How many there were.
    count: u64,
    /// Whether the last try of a connection got nowhere, or is still under way.
    is_unreachable: bool,
    /// To which host and port it was.
    target: Option<(String, u16)>,
    spare: Option<(TcpStream, Instant)>,
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

    /// How long it takes there and back at best, if that is known.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        let open = self.open();
        open.iter().filter_map(|gauge| gauge.info()).map(|info| info.shortest_round_trip).min()
    }

    /// What was cut since the process began.
    #[must_use]
    pub fn cuts(&self) -> Cuts {
        self.state().cuts
    }

    /// Waits until a connection is opened.
    pub(super) async fn opened(&self) {
        self.opened.notified().await;
    }

    /// A connection to host and port is tried.
    pub(super) fn tries(&self, (host, port): (&str, u16)) {
        let mut state = self.state();
        state.is_unreachable = true;
        if state.target.as_ref().is_none_or(|target| (target.0.as_str(), target.1) != (host, port)) {
            state.target = Some((host.to_owned(), port));
        }
    }

    /// It got through.
    pub(super) fn got_through(&self) {
        self.state().is_unreachable = false;
    }

    /// Whether the last try of a connection got nowhere.
    pub(super) fn is_unreachable(&self) -> bool {
        self.state().is_unreachable
    }

    /// Host and port of the last try of a connection.
    pub(super) fn target(&self) -> Option<(String, u16)> {
        self.state().target.clone()
    }

    /// Keeps a connection for whoever wants one next; instead of the one that was there.
    pub(super) fn keep_spare(&self, stream: TcpStream, now: Instant) {
        self.state().spare = Some((stream, now));
    }

    /// Lets go of a connection that was to spare for too long. Whether there is one still.
    pub(super) fn has_spare(&self, now: Instant) -> bool {
        let mut state = self.state();
        state.spare.take_if(|(_, since)| now.saturating_duration_since(*since) >= SPARE);
        state.spare.is_some()
    }

    /// A connection to one of these addresses that is to spare, if there is one and the other side still wants it.
    pub(super) fn take_spare(&self, addresses: &[SocketAddr], now: Instant) -> Option<TcpStream> {
        if !self.has_spare(now) {
            return None;
        }
        let (stream, _) = self.state().spare.take()?;
        let leads_there = stream.peer_addr().is_ok_and(|peer| addresses.contains(&peer));
        (leads_there && tcp_info::of(&stream).is_ok_and(|info| info.is_established)).then_some(stream)
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
    /// Bytes in a full segment, as the kernel said the last time: it knows only a while after the connection was opened.
    segment: AtomicUsize,
    /// Whether what is being sent is urgent.
    urgent: Arc<AtomicBool>,
    /// The how manieth connection with the destination it is.
    number: u64,
    peer: SocketAddr,
    /// Bytes that were written.
    written: AtomicU64,
    /// Bytes that had been written when something came last.
    answered: AtomicU64,
    given_up: OnceLock<GivenUp>,
    /// Whether nothing comes on it, although it should: what is sent is lost. And who waits for the end of that.
    silent: AtomicBool,
    waits: Mutex<Option<Waker>>,
}

impl Gauge {
    /// A number that no other connection with the destination has.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The address at the other end.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether it was given up.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.given_up.get().is_some()
    }

    /// Gives it up: whoever uses it is told, and nothing that waits in the kernel leaves any more.
    pub(super) fn give_up(&self, given_up: GivenUp) {
        if self.given_up.set(given_up).is_ok() {
            // What is closed already needs no end.
            let _ = socket::abandon(&self.socket);
            self.is_silent(false);
        }
    }

    /// Nothing comes on it any more, although it should, and nothing more is sent; or something comes again.
    pub(super) fn is_silent(&self, is_silent: bool) {
        if self.silent.swap(is_silent, Ordering::Relaxed) && !is_silent {
            self.who_waits().take().into_iter().for_each(Waker::wake);
        }
    }

    fn who_waits(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the kernel send again within this time what is not acknowledged; one that cannot be told goes on as it does.
    pub(super) fn send_again_within(&self, longest: Duration) {
        let _ = socket::send_again_within(&self.socket, longest);
    }

    /// Bytes that have left since something came, as far as the kernel tells.
    fn unanswered(&self) -> u64 {
        let written = self.written.load(Ordering::Relaxed).saturating_sub(self.answered.load(Ordering::Relaxed));
        written.saturating_sub(self.info().map_or(0, |info| u64::from(info.unsent)))
    }

    /// What the kernel knows of it; nothing if it does not tell.
    #[must_use]
    pub fn info(&self) -> Option<TcpInfo> {
        let info = tcp_info::of(&self.socket).ok()?;
        self.segment.store(segment(&info), Ordering::Relaxed);
        Some(info)
    }

    /// What went over it.
    #[must_use]
    pub fn volume(&self) -> Option<Volume> {
        self.info().map(|info| Volume::of(&info, self.header))
    }

    /// What so many bytes are on the link.
    pub(super) fn on_the_link(&self, bytes: u64) -> u64 {
        bytes + bytes.div_ceil(self.segment.load(Ordering::Relaxed) as u64) * self.header
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
    /// What may wait in the kernel, in bytes.
    unsent: usize,
    /// It has failed.
    is_over: bool,
}

impl Wire {
    /// Lists a connection.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub(super) fn new(stream: TcpStream, wires: &Arc<Wires>, urgent: &Arc<AtomicBool>) -> io::Result<Self> {
        let socket = stream.as_fd().try_clone_to_owned()?;
        let info = tcp_info::of(&socket).unwrap_or_default();
        let peer = stream.peer_addr()?;
        let header = header(peer, info.has_timestamps);
        let mut state = wires.state();
        state.count += 1;
        let gauge = Arc::new(Gauge {
            socket,
            header,
            segment: segment(&info).into(),
            urgent: Arc::clone(urgent),
            number: state.count,
            peer,
            written: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            given_up: OnceLock::new(),
            silent: AtomicBool::new(false),
            waits: Mutex::new(None),
        });
        state.open.retain(|gauge| gauge.strong_count() > 0);
        state.open.push(Arc::downgrade(&gauge));
        drop(state);
        wires.opened.notify_one();
        Ok(Self {
            stream,
            gauge,
            wires: Arc::clone(wires),
            granted: 0,
            waiting: None,
            unsent: socket::UNSENT,
            is_over: false,
        })
    }

    /// The connection has failed. The first time, what is lost with it is counted.
    fn failed(&mut self, error: io::Error) -> io::Error {
        let given_up = self.gauge.given_up.get().copied();
        let unanswered = self.gauge.unanswered();
        if !std::mem::replace(&mut self.is_over, true) && unanswered > 0 {
            let mut state = self.wires.state();
            let cuts = &mut state.cuts;
            if given_up.is_some() {
                cuts.given_up += 1
            } else {
                cuts.broken += 1
            }
            cuts.bytes = cuts.bytes.saturating_add(unanswered);
        }
        given_up.map_or(error, |given_up| io::Error::new(io::ErrorKind::ConnectionAborted, given_up))
    }

    /// The end that there is for a connection which was given up, if it was.
    fn end(&mut self) -> io::Result<()> {
        match self.gauge.is_given_up() {
            true => Err(self.failed(io::ErrorKind::ConnectionAborted.into())),
            false => Ok(()),
        }
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
    /// Lets no more wait in the kernel, from the next byte on.
    fn let_wait(&mut self, bytes: usize) {
        if std::mem::replace(&mut self.unsent, bytes) != bytes {
            // Where it cannot be set, more waits.
            let _ = socket::let_wait(&self.stream, bytes);
        }
    }

    /// Waits while nothing comes: what would be sent is lost, and has to be sent again in front of what follows.
    fn poll_heard(&self, context: &Context<'_>) -> Poll<()> {
        let is_silent = || self.gauge.silent.load(Ordering::Relaxed) && !self.gauge.is_given_up();
        if is_silent() {
            *self.gauge.who_waits() = Some(context.waker().clone());
            // It may have ended before anybody was told who waits.
            if is_silent() {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// Waits until something may leave, and says how many bytes of so many.
    fn poll_granted(&mut self, context: &mut Context<'_>, wanted: usize) -> Poll<usize> {
        ready!(self.poll_heard(context));
        if !self.wires.pace.is_limited() {
            self.let_wait(socket::UNSENT);
            return Poll::Ready(wanted);
        }
        if self.granted == 0 {
            let (mut sleep, bytes) = match self.waiting.take() {
                Some(waiting) => waiting,
                None => {
                    // What waits in the kernel leaves when congestion control has it, and not at the rate that is to be kept.
                    self.let_wait(1);
                    let pace = &self.wires.pace;
                    let (now, bytes) =
                        (clock::of_runtime(), pace.portion(wanted, self.gauge.segment.load(Ordering::Relaxed)));
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

    /// Writes; beside a rate nothing before all that was written has left.
    fn poll_send(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.wires.pace.is_limited() {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match socket::try_write_apart(&self.stream, bytes) {
                // It waits anew: what was known of it is over.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
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

/// Bytes in a full segment.
fn segment(info: &TcpInfo) -> usize {
    usize::try_from(info.segment).unwrap_or(0).max(SEGMENT)
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
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        self.end()?;
        read.map_err(|error| self.failed(error))?;
        if buffer.filled().len() > before {
            self.gauge.answered.store(self.gauge.written.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        let may = ready!(self.poll_granted(context, bytes.len()));
        let written = match self.poll_send(context, bytes.get(..may).unwrap_or(bytes)) {
            Poll::Ready(written) => written,
            Poll::Pending => {
                // What is kept by one that cannot write is kept from the others, and comes at once when it can.
                let granted = std::mem::take(&mut self.granted);
                let back = self.gauge.on_the_link(granted as u64);
                self.wires.pace.give_back(back, clock::of_runtime());
                return Poll::Pending;
            }
        };
        self.end()?;
        let length = written.map_err(|error| self.failed(error))?;
        if self.wires.pace.is_limited() {
            self.granted = self.granted.saturating_sub(length);
            self.wires.pace.written(self.gauge.on_the_link(length as u64));
        }
        self.gauge.written.fetch_add(length as u64, Ordering::Relaxed);
        Poll::Ready(Ok(length))
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
    async fn what_is_lost_with_a_connection_that_is_given_up_is_counted_and_whoever_uses_it_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wires = Arc::new(Wires::default());
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut there, _) = listener.accept().await.unwrap();
        let mut wire = Wire::new(stream, &wires, &Arc::default()).unwrap();
        let mut buffer = [0; 3];
        wire.write_all(b"one").await.unwrap();
        there.write_all(b"two").await.unwrap();
        wire.read_exact(&mut buffer).await.unwrap();
        wire.write_all(b"three").await.unwrap();
        let gauge = Arc::clone(&wires.open()[0]);
        let telling = tokio::spawn(async move {
            let error = wire.read(&mut [0; 1]).await.unwrap_err();
            assert!(GivenUp::is_behind(&error), "{error}");
            wire.write_all(b"four").await.unwrap_err();
        });
        gauge.give_up(GivenUp { quiet: Duration::from_secs(7) });
        telling.await.unwrap();
        assert_eq!(wires.cuts(), Cuts { broken: 0, given_up: 1, bytes: 5 }, "what was answered is not lost");
        drop(gauge);
        let mut rest = Vec::new();
        there.read_exact(&mut [0; 8]).await.unwrap();
        // An end or a reset, as the kernel has it.
        drop(there.read_to_end(&mut rest).await);
        assert!(rest.is_empty() && wires.open().is_empty());
    }

    #[tokio::test]
    async fn nothing_is_sent_while_nothing_comes_until_something_does_or_it_is_given_up() {
        for is_given_up in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let wires = Arc::new(Wires::default());
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (_there, _) = listener.accept().await.unwrap();
            let mut wire = Wire::new(stream, &wires, &Arc::default()).unwrap();
            let gauge = Arc::clone(&wires.open()[0]);
            gauge.is_silent(true);
            let writing = tokio::spawn(async move { wire.write_all(b"one").await });
            while gauge.who_waits().is_none() {
                tokio::task::yield_now().await;
            }
            assert_eq!(gauge.info().unwrap().bytes_sent, 0);
            match is_given_up {
                true => gauge.give_up(GivenUp { quiet: Duration::from_secs(7) }),
                false => gauge.is_silent(false),
            }
            assert_eq!(writing.await.unwrap().is_err(), is_given_up);
        }
    }

    #[tokio::test]
    async fn a_connection_to_spare_is_for_who_goes_there_and_not_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (wires, now) = (Wires::default(), crate::clock::now());
        let there = listener.local_addr().unwrap();
        let elsewhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let spare = async |at| wires.keep_spare(TcpStream::connect(there).await.unwrap(), at);
        spare(now).await;
        assert!(wires.take_spare(&[elsewhere], now).is_none() && wires.take_spare(&[there], now).is_none());
        spare(now).await;
        assert!(wires.take_spare(&[elsewhere, there], now).is_some() && !wires.has_spare(now));
        spare(now).await;
        assert!(wires.has_spare(now) && !wires.has_spare(now + SPARE));
    }

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
        assert!(
            closed.sent >= open.sent && closed.received >= open.received && closed.sent + closed.received > SENT,
            "{closed:?}"
        );
    }
}
