//! The body of a request as it is being sent, and what can be seen of how that goes.
//!
//! A body that is fed ends only with the piece that says so. One whose feeding stops before, for whatever reason, is an
//! error, and the connection is broken off (HTTP/1.1) or the stream reset (HTTP/2): a body that was cut off can never be
//! taken for a whole one.
//!
//! A request passes three places on its way out: this body, the buffers of HTTP and of TLS, the network. As long as
//! something of it is in the first two, the network has to take some of it now and then. From the moment at which the last
//! byte has left, the answer is waited for, and nothing else that the connection carries makes that wait any longer.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{Notify, mpsc};

use crate::clock;
use crate::forward::pump::Piece;
use crate::forward::wire::EndedBy;

/// What is sent with a request.
#[derive(Debug)]
pub(super) struct Body {
    source: Source,
    /// Bytes still to come, if that is known.
    left: Option<u64>,
    progress: Arc<Progress>,
}

#[derive(Debug)]
enum Source {
    /// All at once.
    Whole(Bytes),
    /// Piece by piece, to the last.
    Fed(mpsc::Receiver<io::Result<Piece>>),
    Ended,
}

impl Body {
    /// These bytes, or none.
    pub(super) fn whole(bytes: Bytes, progress: &Arc<Progress>) -> Self {
        let (left, progress) = (Some(bytes.len() as u64), Arc::clone(progress));
        let source = if bytes.is_empty() { Source::Ended } else { Source::Whole(bytes) };
        if matches!(source, Source::Ended) {
            progress.state().complete = true;
        }
        Self { source, left, progress }
    }

    /// What the feeder sends, up to its last piece.
    pub(super) fn fed(
        pieces: mpsc::Receiver<io::Result<Piece>>,
        length: Option<u64>,
        progress: &Arc<Progress>,
    ) -> Self {
        Self { source: Source::Fed(pieces), left: length, progress: Arc::clone(progress) }
    }

    fn give(&mut self, bytes: Bytes, last: bool) -> io::Result<Frame<Bytes>> {
        let length = bytes.len() as u64;
        if let Some(left) = &mut self.left {
            let rest = left.checked_sub(length).filter(|rest| last == (*rest == 0));
            *left = rest.ok_or_else(|| io::Error::other("the body is not as long as was announced"))?;
        }
        self.progress.state().total += length;
        if last {
            self.source = Source::Ended;
            self.progress.state().complete = true;
        }
        Ok(Frame::data(bytes))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let body = &mut *self;
        let piece = match &mut body.source {
            Source::Ended => return Poll::Ready(None),
            Source::Whole(bytes) => Ok(Piece { bytes: std::mem::take(bytes), last: true }),
            Source::Fed(pieces) => match pieces.poll_recv(context) {
                Poll::Pending => {
                    body.progress.state().starving = true;
                    return Poll::Pending;
                }
                Poll::Ready(piece) => piece.unwrap_or_else(|| Err(io::Error::other("the reading ended early"))),
            },
        };
        body.progress.fed();
        let given = piece.and_then(|piece| body.give(piece.bytes, piece.last));
        if given.is_err() {
            // What is broken stays so: nothing may follow that could look like an end.
            let (sender, broken) = mpsc::channel(1);
            drop(sender);
            body.source = Source::Fed(broken);
        }
        Poll::Ready(Some(given))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.source, Source::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// How the sending goes.
#[derive(Debug)]
pub(super) struct Progress {
    state: Mutex<State>,
    /// The last byte of the request has left.
    gone: Notify,
}

#[derive(Debug)]
struct State {
    /// When the network last took something of the request, or was last offered something after a wait for our own disk.
    moved: Instant,
    /// The next piece is waited for: the network is not to blame.
    starving: bool,
    /// The last piece of the body has been handed over.
    complete: bool,
    /// Bytes of the body so far.
    total: u64,
    /// Bytes of the request that TLS has taken. Over HTTP/1.1 those of its head count, too: the end may seem to come a few
    /// hundred bytes early, and never late.
    written: u64,
    /// TLS has bytes of the request that the network has not taken.
    pending: bool,
    /// When the last byte of the request left.
    left: Option<Instant>,
    /// Why the connection broke, where that is known better than HTTP tells it.
    failure: Option<Failure>,
}

/// Why a connection broke.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// Cause and remedy, in a sentence.
    pub(super) sentence: String,
    pub(super) ended_by: EndedBy,
}

impl State {
    fn new() -> Self {
        Self {
            moved: clock::of_runtime(),
            starving: false,
            complete: false,
            total: 0,
            written: 0,
            pending: false,
            left: None,
            failure: None,
        }
    }
}

impl Progress {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::new()), gone: Notify::new() })
    }

    /// A request begins.
    pub(super) fn begin(&self) {
        *self.state() = State::new();
    }

    /// Whether the whole body has been handed over.
    pub(super) fn is_complete(&self) -> bool {
        self.state().complete
    }

    /// Whether the whole request has left.
    pub(super) fn has_left(&self) -> bool {
        self.state().left.is_some()
    }

    /// Ready when the whole request has left, from which moment on another deadline holds.
    pub(super) async fn leaves(&self) {
        self.gone.notified().await;
    }

    /// Why the connection broke, if more is known of it than HTTP tells.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.state().failure.clone()
    }

    /// The connection broke. What is said first is the cause, and the rest follows from it.
    pub(super) fn failed(&self, failure: Failure) {
        self.state().failure.get_or_insert(failure);
    }

    /// When the other side has taken too long: `stall` for the next bytes of a request, `patience` for the answer.
    pub(super) fn deadline(&self, now: Instant, stall: Duration, patience: Duration) -> Instant {
        let state = self.state();
        match (state.left, state.starving && !state.complete) {
            (Some(left), _) => left + patience,
            (None, true) => now + stall,
            (None, false) => state.moved + stall,
        }
    }

    fn fed(&self) {
        let mut state = self.state();
        if std::mem::take(&mut state.starving) {
            state.moved = clock::of_runtime();
        }
    }

    /// TLS has taken so many bytes of the request.
    pub(super) fn written(&self, bytes: u64) {
        let mut state = self.state();
        state.written = state.written.saturating_add(bytes);
        state.pending = true;
        state.moved = clock::of_runtime();
    }

    /// The network has taken something. It counts if something of the request is waiting for that.
    pub(super) fn moved(&self) {
        let mut state = self.state();
        if state.pending {
            state.moved = clock::of_runtime();
        }
    }

    /// The network has taken all that TLS had.
    pub(super) fn flushed(&self) {
        let mut state = self.state();
        if std::mem::take(&mut state.pending) && state.complete && state.written >= state.total {
            state.left.get_or_insert(clock::of_runtime());
            self.gone.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn piece(bytes: &'static [u8], last: bool) -> io::Result<Piece> {
        Ok(Piece { bytes: Bytes::from_static(bytes), last })
    }

    async fn collected(pieces: Vec<io::Result<Piece>>, length: Option<u64>) -> (Result<Bytes, io::Error>, bool) {
        let progress = Progress::new();
        let (sender, receiver) = mpsc::channel(10);
        for piece in pieces {
            sender.send(piece).await.unwrap();
        }
        drop(sender);
        let body = Body::fed(receiver, length, &progress);
        let collected = body.collect().await.map(http_body_util::Collected::to_bytes);
        (collected, progress.is_complete())
    }

    #[tokio::test]
    async fn only_a_body_that_was_fed_to_its_last_piece_ends_without_an_error() {
        let (whole, complete) = collected(vec![piece(b"ab", false), piece(b"c", true)], Some(3)).await;
        assert_eq!((whole.unwrap().as_ref(), complete), (b"abc".as_slice(), true));
        let (whole, _) = collected(vec![piece(b"ab", false), piece(b"c", true)], None).await;
        assert_eq!(whole.unwrap().as_ref(), b"abc");
        for pieces in [
            vec![],
            vec![piece(b"abc", false)],
            vec![piece(b"ab", false), Err(io::Error::other("damage"))],
            vec![piece(b"ab", true)],
            vec![piece(b"abcd", true)],
        ] {
            let (whole, complete) = collected(pieces, Some(3)).await;
            assert!(whole.is_err() && !complete);
        }
        assert!(collected(vec![piece(b"abc", false)], None).await.0.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_network_is_waited_for_by_its_last_progress_and_the_disk_is_not_its_fault() {
        let progress = Progress::new();
        progress.begin();
        let (stall, patience) = (Duration::from_secs(60), Duration::from_secs(120));
        let deadline = || progress.deadline(clock::of_runtime(), stall, patience);
        let began = clock::of_runtime();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(deadline(), began + stall);
        progress.state().starving = true;
        assert_eq!(deadline(), clock::of_runtime() + stall);
        progress.fed();
        let fed = clock::of_runtime();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(deadline(), fed + stall);
        progress.written(5);
        tokio::time::sleep(Duration::from_secs(10)).await;
        progress.moved();
        assert_eq!(deadline(), clock::of_runtime() + stall, "what TLS has taken goes out");
    }

    /// The archive sends a PING every second, and the connection answers each: that is no progress of the request.
    #[tokio::test(start_paused = true)]
    async fn the_answer_is_waited_for_from_the_last_byte_whatever_moves_after_it() {
        let progress = Progress::new();
        progress.begin();
        let (stall, patience) = (Duration::from_secs(60), Duration::from_secs(120));
        let deadline = || progress.deadline(clock::of_runtime(), stall, patience);
        let mut body = Body::whole(Bytes::from_static(b"abc"), &progress);
        body.frame().await.unwrap().unwrap();
        assert!(progress.is_complete());
        progress.written(2);
        progress.flushed();
        assert!(!progress.has_left(), "one byte is in the buffers of HTTP");
        let last = clock::of_runtime();
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            progress.moved();
            progress.flushed();
        }
        assert_eq!(deadline(), last + stall, "the archive takes no more of it");
        progress.written(1);
        progress.flushed();
        let left = clock::of_runtime();
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            progress.moved();
            progress.flushed();
        }
        assert!(progress.has_left() && deadline() == left + patience);
    }
}
