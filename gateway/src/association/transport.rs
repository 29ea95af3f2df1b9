//! The one place that touches a stream: drives a [`Channel`] over anything that reads and writes.
//!
//! # What it promises
//!
//! - Each command and response is one write (where the peer's maximum PDU length allows), so that with TCP_NODELAY,
//!   which the caller sets, no answer waits for an acknowledgement.
//! - Nothing is read while an indication is unconsumed. While data are being sent the read side is watched, so that an
//!   A-ABORT or an early answer is seen at once and not after the last byte.
//! - When an association ends, the last PDU is written, the connection is half-closed, and what still comes is thrown
//!   away until the peer closes or `linger` has passed; then the error is returned.
//! - An [`Association`] that is dropped sends an A-ABORT if that is possible without waiting and would not be taken for
//!   data, and closes the connection.
//!
//! Time is tokio's, so that tests can pause it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::associate::AssociateRequest;
use super::channel::{Channel, End, Happening, Indication};
use super::codes::{Abort, ContextRefusal};
use super::error::{AcceptError, AssociationError, ConnectError, EchoError, Violation};
use super::machine::Ending;
use super::negotiation::{Context, Decision, EXPLICIT_LE, IMPLICIT_LE, VERIFICATION};
use super::settings::{AcceptorSettings, RequestorSettings};
use crate::dimse::{CEcho, Command, Response, StatusClass};
use crate::model::Uid;

/// What an association runs over: a TCP or a TLS stream, or a pipe in a test.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// How far [`Association::send_data`] got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// All of it; go on.
    Onward,
    /// All of it, but the peer has answered already, before the data set's end: [`Association::response`] returns the
    /// answer once the data set is finished. A caller who does not want to finish it aborts.
    AnsweredEarly,
}

/// An established association.
///
/// Dropping it closes the connection, with an A-ABORT if possible; an object that was being sent is never completed by
/// that.
pub struct Association {
    driver: Driver,
    request: AssociateRequest,
    /// An answer that came while the data set was being sent.
    early: Option<Response>,
    /// A call of `send_data` has begun and not ended; still set on the next call, it was dropped half-way.
    sending: bool,
}

/// Takes an association from a peer that has connected.
///
/// `connected` is when it did, before any TLS handshake, so that ARTIM covers that, too. `decide` sees the request and
/// answers it; requests that break the protocol, and those for another protocol version, another application context or
/// with unreadable AE titles, do not get that far. Set TCP_NODELAY on the socket.
///
/// # Errors
/// No association came of it. The peer has been told, and the connection is closed.
pub async fn accept(
    stream: impl Stream + 'static,
    settings: &AcceptorSettings,
    connected: Instant,
    decide: impl FnOnce(&AssociateRequest) -> Decision,
) -> Result<Association, AcceptError> {
    let artim = settings.timeouts.association;
    let failed = |failure| match failure {
        Failure::Ended(End::Refused { rejection, calling, called }) => {
            AcceptError::Rejected { rejection, calling, called }
        }
        Failure::Ended(End::Aborted(abort)) => AcceptError::Aborted(abort),
        Failure::Ended(End::Violation(violation)) => AcceptError::Violation(violation),
        Failure::Ended(End::Closed { received_anything }) => AcceptError::Closed { received_anything },
        // The answer to a request is a few kilobytes: a peer that does not take it is as good as silent.
        Failure::Ended(_) | Failure::WriteStalled(_) => AcceptError::TimedOut(artim),
        Failure::Io(error) => AcceptError::Io(error),
    };
    let mut driver = Driver::new(stream, Channel::acceptor(settings, connected));
    loop {
        let Happening::Requested(request) = driver.happening().await.map_err(failed)? else { continue };
        let decision = decide(&request);
        if let Some(end) = driver.channel.decide(now(), &decision) {
            return Err(failed(driver.finish(end).await));
        }
        driver.flush(Watch::No).await.map_err(failed)?;
        return Ok(Association::new(driver, *request));
    }
}

/// Requests an association over a connection that has been made, TLS included. Set TCP_NODELAY on the socket.
///
/// An association with no accepted context is one, too: see [`Association::accepted_contexts`].
///
/// # Errors
/// No association came of it, and the connection is closed.
pub async fn connect(stream: impl Stream + 'static, settings: &RequestorSettings) -> Result<Association, ConnectError> {
    let artim = settings.timeouts.association;
    let failed = |failure| match failure {
        Failure::Ended(End::Rejected(rejection)) => ConnectError::Rejected {
            rejection,
            calling: settings.calling_ae.clone(),
            called: settings.called_ae.clone(),
        },
        Failure::Ended(End::Aborted(abort)) => ConnectError::Aborted(abort),
        Failure::Ended(End::Violation(violation)) => ConnectError::Violation(violation),
        Failure::Ended(End::Closed { .. }) => ConnectError::Closed,
        Failure::Ended(_) => ConnectError::TimedOut(artim),
        Failure::WriteStalled(patience) => ConnectError::WriteStalled(patience),
        Failure::Io(error) => ConnectError::Io(error),
    };
    let mut driver = Driver::new(stream, Channel::requestor(settings, now()));
    let request = driver.channel.request().cloned();
    loop {
        let Happening::Accepted = driver.happening().await.map_err(failed)? else { continue };
        let Some(request) = request else { return Err(ConnectError::Closed) };
        return Ok(Association::new(driver, request));
    }
}

/// Asks a peer for a sign of life with C-ECHO (PS3.4 A) and tells how long the answer took. The settings say who calls
/// whom; the presentation context for verification is added here.
///
/// # Errors
/// The peer gave none, or no good one.
pub async fn echo(stream: impl Stream + 'static, settings: &RequestorSettings) -> Result<Duration, EchoError> {
    let uid = |text: &str| text.parse::<Uid>().ok();
    let verification = uid(VERIFICATION).ok_or(EchoError::NotSupported)?;
    let settings = RequestorSettings { contexts: Vec::new(), ..settings.clone() }
        .propose(&verification, [IMPLICIT_LE, EXPLICIT_LE].into_iter().filter_map(uid));
    let mut association = connect(stream, &settings).await?;
    let Some(context) = association.accepted_contexts().first().map(|context| context.id) else {
        association.abort(Abort::BY_USER).await;
        return Err(EchoError::NotSupported);
    };
    let asked = now();
    let command = Command::CEcho(CEcho { message_id: 1, sop_class_uid: Some(verification) });
    association.send_command(context, &command).await?;
    let response = association.response(settings.timeouts.association).await?;
    let took = now().saturating_duration_since(asked);
    // The answer is there; a peer that then mismanages the release is none the worse for it.
    let _ = association.release().await;
    match response.status.class() {
        StatusClass::Success | StatusClass::Warning => Ok(took),
        _ => Err(EchoError::Status(response.status)),
    }
}

impl Association {
    fn new(driver: Driver, request: AssociateRequest) -> Self {
        Self { driver, request, early: None, sending: false }
    }

    /// The request for this association, received or sent.
    #[must_use]
    pub fn request(&self) -> &AssociateRequest {
        &self.request
    }

    /// The presentation contexts that were accepted, in the order of their proposal.
    #[must_use]
    pub fn accepted_contexts(&self) -> &[Context] {
        self.driver.channel.contexts()
    }

    /// The presentation contexts that were refused, and why.
    #[must_use]
    pub fn refused_contexts(&self) -> &[(u8, ContextRefusal)] {
        self.driver.channel.refused()
    }

    /// The accepted presentation context of this id.
    #[must_use]
    pub fn context(&self, id: u8) -> Option<&Context> {
        self.accepted_contexts().iter().find(|context| context.id == id)
    }

    /// The longest P-DATA-TF that we send, in bytes after the head: the peer's maximum, at most our own.
    #[must_use]
    pub fn peer_max_pdu(&self) -> u32 {
        self.driver.channel.peer_max_pdu()
    }

    /// What the peer does next. Can be dropped and called again without loss.
    ///
    /// # Errors
    /// The association is over; the peer has been told, and the connection is closed.
    pub async fn next(&mut self) -> Result<Indication, AssociationError> {
        self.driver.check_alive()?;
        loop {
            match self.driver.happening().await.map_err(|failure| self.driver.error(failure))? {
                Happening::Indication(Indication::Released) => {
                    self.driver.finish(End::Released).await;
                    return Ok(Indication::Released);
                }
                Happening::Indication(indication) => return Ok(indication),
                Happening::Requested(_) | Happening::Accepted | Happening::Ended(_) => {}
            }
        }
    }

    /// Answers a request, in one write.
    ///
    /// # Errors
    /// The answer could not be written, and the association is over; or the call is out of turn.
    pub async fn respond(&mut self, context: u8, response: &Response) -> Result<(), AssociationError> {
        self.driver.check_alive()?;
        self.driver.channel.send_response(context, response).map_err(AssociationError::OutOfTurn)?;
        self.driver.flush(Watch::No).await.map_err(|failure| self.driver.error(failure))
    }

    /// Makes a request, in one write. After a C-STORE, [`Association::send_data`] follows, then
    /// [`Association::response`]. One request can be outstanding at a time.
    ///
    /// # Errors
    /// The request could not be written, and the association is over; or the call is out of turn.
    pub async fn send_command(&mut self, context: u8, command: &Command) -> Result<(), AssociationError> {
        self.driver.check_alive()?;
        self.driver.channel.send_command(context, command).map_err(AssociationError::OutOfTurn)?;
        self.early = None;
        self.driver.flush(Watch::No).await.map_err(|failure| self.driver.error(failure))
    }

    /// Sends the next piece of the data set of the C-STORE that was sent last, in pieces of any size. With `last`, which
    /// is to be set only once the whole source has been read and its hash checked, it is the end of the data set; the
    /// piece may then be empty. Up to one PDU is held back until the next call.
    ///
    /// A call that was dropped half-way makes every later one fail, because nobody knows what was sent.
    ///
    /// # Errors
    /// The association is over; or the call is out of turn.
    pub async fn send_data(&mut self, context: u8, data: &[u8], last: bool) -> Result<Sent, AssociationError> {
        self.driver.check_alive()?;
        if std::mem::replace(&mut self.sending, true) {
            self.driver.abort(Abort::BY_USER).await;
            return Err(AssociationError::Interrupted);
        }
        let mut rest = data;
        loop {
            rest = self.driver.channel.send_data(context, rest, last).map_err(|why| {
                self.sending = false;
                AssociationError::OutOfTurn(why)
            })?;
            let early = &mut self.early;
            self.driver.flush(Watch::For(early)).await.map_err(|failure| self.driver.error(failure))?;
            if rest.is_empty() {
                break;
            }
        }
        self.sending = false;
        Ok(if self.early.is_some() { Sent::AnsweredEarly } else { Sent::Onward })
    }

    /// The answer to the request that was sent last, waited for at most as long as `patience`.
    ///
    /// # Errors
    /// None came, or something else did: the association is over. Or the call is out of turn.
    pub async fn response(&mut self, patience: Duration) -> Result<Response, AssociationError> {
        self.driver.check_alive()?;
        if let Some(response) = self.early.take() {
            return Ok(response);
        }
        self.driver.channel.await_response(now(), patience).map_err(AssociationError::OutOfTurn)?;
        loop {
            let end = match self.driver.happening().await.map_err(|failure| self.driver.error(failure))? {
                Happening::Indication(Indication::Response { response, .. }) => return Ok(response),
                Happening::Indication(Indication::Released) => {
                    self.driver.finish(End::Released).await;
                    return Err(AssociationError::Released);
                }
                Happening::Indication(Indication::Command { command, .. }) => {
                    self.driver.channel.violated(now(), Violation::UnexpectedRequest(command.name()))
                }
                _ => continue,
            };
            let failure = self.driver.finish(end).await;
            return Err(self.driver.error(failure));
        }
    }

    /// Releases the association: A-RELEASE-RQ, and the wait for its answer. Data that the peer still sends are dropped.
    ///
    /// # Errors
    /// The peer did not confirm it. What was answered before stays answered.
    pub async fn release(mut self) -> Result<(), AssociationError> {
        self.driver.check_alive()?;
        self.driver.channel.release(now()).map_err(AssociationError::OutOfTurn)?;
        loop {
            match self.driver.happening().await {
                Ok(_) => {}
                Err(Failure::Ended(End::Released)) => return Ok(()),
                Err(failure) => return Err(self.driver.error(failure)),
            }
        }
    }

    /// Aborts the association: A-ABORT, half-close, and the wait for the peer's end of the connection, at most `linger`.
    pub async fn abort(mut self, abort: Abort) {
        self.driver.abort(abort).await;
    }
}

impl Drop for Association {
    fn drop(&mut self) {
        self.driver.abort_at_once();
    }
}

/// Why the driver stopped.
#[derive(Debug)]
enum Failure {
    Ended(End),
    WriteStalled(Duration),
    Io(io::Error),
}

/// Whether the read side is watched while something is written.
enum Watch<'a> {
    No,
    /// It is, and an answer that comes early is put here.
    For(&'a mut Option<Response>),
}

struct Driver {
    io: Box<dyn Stream>,
    channel: Channel,
    /// The connection is of no use any more.
    over: bool,
    eof: bool,
}

impl Driver {
    fn new(stream: impl Stream + 'static, channel: Channel) -> Self {
        Self { io: Box::new(stream), channel, over: false, eof: false }
    }

    fn check_alive(&self) -> Result<(), AssociationError> {
        if self.over { Err(AssociationError::Over) } else { Ok(()) }
    }

    /// The next thing that happens, waited for until it does or a time-out expires. It never returns
    /// [`Happening::Ended`]: that is a failure, and the connection is closed then.
    async fn happening(&mut self) -> Result<Happening, Failure> {
        loop {
            if self.over {
                return Err(Failure::Ended(End::Closed { received_anything: true }));
            }
            self.flush(Watch::No).await?;
            match self.channel.poll_event(now()) {
                Some(Happening::Ended(end)) => return Err(self.finish(end).await),
                Some(happening) => return Ok(happening),
                None => {}
            }
            if !self.channel.output().is_empty() {
                continue;
            }
            if let Some(end) = self.wait_for_input().await? {
                return Err(self.finish(end).await);
            }
        }
    }

    /// Waits until bytes have come, the peer has closed, or a time-out has expired.
    async fn wait_for_input(&mut self) -> Result<Option<End>, Failure> {
        self.channel.handle_waiting(now());
        let deadline = self.channel.deadline();
        let read = async {
            let mut input = self.channel.input();
            self.io.read_buf(&mut input).await
        };
        match within(deadline, read).await {
            None => Ok(self.channel.handle_timeout(now())),
            Some(Ok(0)) => {
                self.eof = true;
                self.channel.handle_eof();
                Ok(None)
            }
            Some(Ok(length)) => Ok(self.channel.handle_input(now(), length)),
            Some(Err(error)) => Err(self.broken(error)),
        }
    }

    /// Writes the whole output, within the write time-out.
    async fn flush(&mut self, mut watch: Watch<'_>) -> Result<(), Failure> {
        if self.channel.output().is_empty() && matches!(watch, Watch::No) {
            return Ok(());
        }
        let patience = self.channel.timeouts().write;
        let deadline = now() + patience;
        loop {
            let step = within(Some(deadline), poll_fn(|task| self.poll_step(task, &watch))).await;
            match step {
                None => {
                    self.over = true;
                    return Err(Failure::WriteStalled(patience));
                }
                Some(Step::Written(Ok(()))) => return Ok(()),
                Some(Step::Written(Err(error))) => return Err(self.after_failed_write(error).await),
                Some(Step::Read(Err(error))) => return Err(self.broken(error)),
                Some(Step::Read(Ok(length))) => {
                    if let Watch::For(early) = &mut watch
                        && let Some(end) = self.handle_while_sending(length, early)
                    {
                        return Err(self.finish(end).await);
                    }
                }
            }
        }
    }

    /// Writes what the stream takes, and reads what has come if that is watched; ready when all is written or something
    /// has been read.
    fn poll_step(&mut self, task: &mut TaskContext<'_>, watch: &Watch<'_>) -> Poll<Step> {
        if matches!(watch, Watch::For(_)) && !self.eof {
            match poll_read(&mut *self.io, &mut self.channel, task) {
                Poll::Ready(read) => return Poll::Ready(Step::Read(read)),
                Poll::Pending => {}
            }
        }
        while !self.channel.output().is_empty() {
            match Pin::new(&mut *self.io).poll_write(task, self.channel.output()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Step::Written(Err(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(length)) => self.channel.handle_written(length),
                Poll::Ready(Err(error)) => return Poll::Ready(Step::Written(Err(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
        // A TLS stream keeps what the socket did not take.
        Pin::new(&mut *self.io).poll_flush(task).map(Step::Written)
    }

    /// Looks at what came while data were being sent.
    fn handle_while_sending(&mut self, length: usize, early: &mut Option<Response>) -> Option<End> {
        if length == 0 {
            self.eof = true;
            self.channel.handle_eof();
        } else {
            self.channel.handle_input(now(), length);
        }
        loop {
            match self.channel.poll_event(now())? {
                Happening::Ended(end) => return Some(end),
                // A second answer is none that was asked for; the channel sees to that.
                Happening::Indication(Indication::Response { response, .. }) => *early = Some(response),
                Happening::Indication(Indication::Released) => return Some(End::Released),
                Happening::Indication(Indication::Command { command, .. }) => {
                    return Some(self.channel.violated(now(), Violation::UnexpectedRequest(command.name())));
                }
                Happening::Indication(Indication::Data(_) | Indication::DataEnd)
                | Happening::Requested(_)
                | Happening::Accepted => {}
            }
        }
    }

    /// A write has failed: the peer has closed. Perhaps it has said why, and that is here already.
    async fn after_failed_write(&mut self, error: io::Error) -> Failure {
        const PATIENCE: Duration = Duration::from_millis(100);
        let deadline = now() + PATIENCE;
        let mut early = None;
        while let Some(Ok(length)) =
            within(Some(deadline), poll_fn(|task| poll_read(&mut *self.io, &mut self.channel, task))).await
        {
            if let Some(end) = self.handle_while_sending(length, &mut early) {
                self.over = true;
                return Failure::Ended(end);
            }
            if length == 0 {
                break;
            }
        }
        self.broken(error)
    }

    fn broken(&mut self, error: io::Error) -> Failure {
        self.over = true;
        Failure::Io(error)
    }

    async fn abort(&mut self, abort: Abort) {
        self.channel.abort(now(), abort);
        self.finish(End::Aborted(abort)).await;
    }

    /// Brings the connection to its end, within `linger`: writes what is left, closes our side, and where the last word
    /// was ours waits for the peer to close its own.
    async fn finish(&mut self, end: End) -> Failure {
        let deadline = now() + self.channel.timeouts().linger;
        let farewell = async {
            while !self.channel.output().is_empty() {
                let length = self.io.write(self.channel.output()).await?;
                if length == 0 {
                    break;
                }
                self.channel.handle_written(length);
            }
            self.io.shutdown().await?;
            let mut thrown_away = [0; 4096];
            if self.channel.ending() == Some(Ending::HalfClose) {
                while !self.eof && self.io.read(&mut thrown_away).await? > 0 {}
            }
            io::Result::Ok(())
        };
        // Whether the peer hears it or not, the end is the one that is told.
        let _ = within(Some(deadline), farewell).await;
        self.over = true;
        Failure::Ended(end)
    }

    /// The A-ABORT of an association that is dropped: written if the stream takes it without waiting, and if it would
    /// not be taken for the data of a PDU that is half written.
    fn abort_at_once(&mut self) {
        if self.over || self.channel.is_within_output() {
            return;
        }
        self.channel.abort(now(), Abort::BY_USER);
        let mut task = TaskContext::from_waker(Waker::noop());
        if let Poll::Ready(Ok(_)) = Pin::new(&mut *self.io).poll_write(&mut task, self.channel.output()) {
            let _ = Pin::new(&mut *self.io).poll_flush(&mut task);
        }
    }

    /// What a failure means on an established association.
    fn error(&self, failure: Failure) -> AssociationError {
        let timeouts = self.channel.timeouts();
        match failure {
            Failure::Io(error) => AssociationError::Io(error),
            Failure::WriteStalled(patience) => AssociationError::WriteStalled(patience),
            Failure::Ended(end) => match end {
                End::Released => AssociationError::Released,
                End::Aborted(abort) => AssociationError::Aborted(abort),
                End::Violation(violation) => AssociationError::Violation(violation),
                End::TimedOut => AssociationError::NoResponse(timeouts.association),
                End::NoResponse(patience) => AssociationError::NoResponse(patience),
                End::Idle => AssociationError::Idle(timeouts.idle),
                End::TooSlow { received } => AssociationError::TooSlow {
                    received,
                    window: timeouts.rate_window,
                    minimum_rate: timeouts.minimum_rate,
                },
                End::Closed { .. } | End::Rejected(_) | End::Refused { .. } => AssociationError::Closed,
            },
        }
    }
}

/// What came of one step of writing.
enum Step {
    Written(io::Result<()>),
    Read(io::Result<usize>),
}

/// Reads into the channel's input once; tells how many bytes came.
fn poll_read(io: &mut dyn Stream, channel: &mut Channel, task: &mut TaskContext<'_>) -> Poll<io::Result<usize>> {
    let mut buffer = [0; 4096];
    let mut input = channel.input();
    let room = bytes::BufMut::remaining_mut(&input).min(buffer.len());
    let mut read = ReadBuf::new(buffer.get_mut(..room).unwrap_or_default());
    match Pin::new(io).poll_read(task, &mut read) {
        Poll::Ready(Ok(())) => {
            bytes::BufMut::put_slice(&mut input, read.filled());
            Poll::Ready(Ok(read.filled().len()))
        }
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending => Poll::Pending,
    }
}

/// The result of `work`, or `None` if the deadline comes first.
async fn within<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.into(), work).await.ok(),
        None => Some(work.await),
    }
}

/// The clock of the runtime, which a test can pause; outside tests the same as [`crate::clock::now`].
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
