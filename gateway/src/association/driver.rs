//! Drives one [`Channel`] over one stream: waits, reads, writes, and brings the connection to its end.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::BufMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};

use super::channel::{Channel, End, Happening, Indication};
use super::codes::Abort;
use super::error::{AssociationError, Violation};
use super::machine::Ending;
use super::transport::Stream;
use crate::clock::of_runtime as now;
use crate::dimse::{Command, Response};

/// Why the driver stopped.
#[derive(Debug)]
pub(super) enum Failure {
    Ended(End),
    WriteStalled(Duration),
    Io(io::Error),
}

/// Whether the read side is watched while something is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watch {
    No,
    /// It is, and an answer that comes is kept.
    Yes,
}

/// A channel and its stream.
pub(super) struct Driver {
    io: Box<dyn Stream>,
    pub(super) channel: Channel,
    /// Answers that came while something was being written, in this order.
    pub(super) early: VecDeque<Response>,
    /// The connection is of no use any more.
    over: bool,
    eof: bool,
    /// The output may leave while something else is waited for.
    posting: bool,
    /// When something left the last time, or had to begin to.
    moved: Instant,
}

impl Driver {
    pub(super) fn new(stream: impl Stream + 'static, channel: Channel) -> Self {
        let (over, eof, posting) = (false, false, false);
        Self { io: Box::new(stream), channel, early: VecDeque::new(), over, eof, posting, moved: now() }
    }

    pub(super) fn check_alive(&self) -> Result<(), AssociationError> {
        if self.over { Err(AssociationError::Over) } else { Ok(()) }
    }

    /// What is in the output now need not have left before something is read: a peer that is sending itself reads
    /// nothing before it has finished.
    pub(super) fn posted(&mut self) {
        self.posting = true;
    }

    /// The next thing that happens, waited for until it does or a time-out expires. It never returns
    /// [`Happening::Ended`]: that is a failure, and the connection is closed then.
    pub(super) async fn happening(&mut self) -> Result<Happening, Failure> {
        loop {
            match self.step().await? {
                Some(Happening::Ended(end)) => return Err(self.finish(end).await),
                Some(happening) => return Ok(happening),
                None => {}
            }
        }
    }

    /// What has happened already; if nothing has, the one wait for bytes or a time-out after which something may have. An
    /// end is the caller's to [`Driver::finish`].
    pub(super) async fn step(&mut self) -> Result<Option<Happening>, Failure> {
        if self.over {
            return Err(Failure::Ended(End::Closed { received_anything: true }));
        }
        if !self.posting {
            self.flush(Watch::No).await?;
        }
        if let Some(happening) = self.channel.poll_event(now()) {
            return Ok(Some(happening));
        }
        let end = if self.posting {
            self.write_or_read().await?
        } else if self.channel.output().is_empty() {
            self.wait_for_input().await?
        } else {
            None
        };
        Ok(end.map(Happening::Ended))
    }

    /// Waits for the room for what is read next, as the caller gives it, or until a time-out has expired.
    pub(super) async fn wait_for_room(&mut self, room: impl Future<Output = ()>) -> Option<End> {
        match within(self.channel.deadline(), room).await {
            Some(()) => None,
            None => self.channel.handle_timeout(now()),
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

    /// One step of what was posted: reads what has come, or writes what the stream takes. The peer has the write time-out
    /// to do one of the two.
    async fn write_or_read(&mut self) -> Result<Option<End>, Failure> {
        self.channel.handle_waiting(now());
        let patience = self.channel.timeouts().write;
        self.moved = now();
        let stalled = self.moved + patience;
        let deadline = self.channel.deadline().map_or(stalled, |deadline| deadline.min(stalled));
        match within(Some(deadline), poll_fn(|task| self.poll_step(task, true))).await {
            None if self.channel.deadline().is_some_and(|deadline| deadline <= now()) => {
                Ok(self.channel.handle_timeout(now()))
            }
            None if self.moved + patience > now() => Ok(None),
            None => {
                self.over = true;
                Err(Failure::WriteStalled(patience))
            }
            Some(Step::Written(Ok(()))) => {
                self.posting = false;
                Ok(None)
            }
            Some(Step::Written(Err(error))) => Err(self.after_failed_write(error).await),
            Some(Step::Read(Err(error))) => Err(self.broken(error)),
            Some(Step::Read(Ok(0))) => {
                self.eof = true;
                self.channel.handle_eof();
                Ok(None)
            }
            Some(Step::Read(Ok(length))) => Ok(self.channel.handle_input(now(), length)),
        }
    }

    /// Writes the whole output. The peer may be as slow as it is, or as the link: the write time-out is for the next bytes.
    pub(super) async fn flush(&mut self, watch: Watch) -> Result<(), Failure> {
        if self.channel.output().is_empty() && watch == Watch::No {
            return Ok(());
        }
        let patience = self.channel.timeouts().write;
        self.moved = now();
        loop {
            let deadline = self.moved + patience;
            match within(Some(deadline), poll_fn(|task| self.poll_step(task, watch == Watch::Yes))).await {
                None if self.moved + patience > now() => {}
                None => {
                    self.over = true;
                    return Err(Failure::WriteStalled(patience));
                }
                Some(Step::Written(Ok(()))) => return Ok(()),
                Some(Step::Written(Err(error))) => return Err(self.after_failed_write(error).await),
                Some(Step::Read(Err(error))) => return Err(self.broken(error)),
                Some(Step::Read(Ok(length))) => {
                    if let Some(end) = self.handle_while_sending(length) {
                        return Err(self.finish(end).await);
                    }
                }
            }
        }
    }

    /// Writes what the stream takes, and reads what has come if that is watched; ready when all is written or something
    /// has been read.
    fn poll_step(&mut self, task: &mut TaskContext<'_>, reads: bool) -> Poll<Step> {
        if reads && !self.eof {
            match poll_read(&mut *self.io, &mut self.channel, task) {
                Poll::Ready(read) => return Poll::Ready(Step::Read(read)),
                Poll::Pending => {}
            }
        }
        while !self.channel.output().is_empty() {
            match Pin::new(&mut *self.io).poll_write(task, self.channel.output()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Step::Written(Err(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(length)) => {
                    self.moved = now();
                    self.channel.handle_written(length);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Step::Written(Err(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
        // A TLS stream keeps what the socket did not take.
        Pin::new(&mut *self.io).poll_flush(task).map(Step::Written)
    }

    /// Looks at what came while data were being sent.
    fn handle_while_sending(&mut self, length: usize) -> Option<End> {
        if length == 0 {
            self.eof = true;
            self.channel.handle_eof();
        } else {
            self.channel.handle_input(now(), length);
        }
        loop {
            match self.channel.poll_event(now())? {
                Happening::Ended(end) => return Some(end),
                Happening::Indication(Indication::Response { response, .. }) => self.keep(response),
                Happening::Indication(Indication::Released) => return Some(End::Released),
                // It crosses with what is being sent, asks for no answer, and whoever performs may go on (PS3.7 9.3.2.3).
                Happening::Indication(Indication::Command { command: Command::CCancel { .. }, .. }) => {}
                Happening::Indication(Indication::Command { command, .. }) => {
                    return Some(self.channel.violated(now(), Violation::UnexpectedRequest(command.name())));
                }
                Happening::Indication(Indication::Data(_) | Indication::DataEnd)
                | Happening::Requested(_)
                | Happening::Accepted => {}
            }
        }
    }

    /// Waits until an answer is at hand; gives the end if there is one instead, which is the caller's to
    /// [`Driver::finish`]. It may be dropped at any moment.
    pub(super) async fn hear(&mut self) -> Result<Option<End>, Failure> {
        while self.early.is_empty() {
            let read = poll_fn(|task| poll_read(&mut *self.io, &mut self.channel, task)).await;
            let length = read.map_err(|error| self.broken(error))?;
            if let Some(end) = self.handle_while_sending(length) {
                return Ok(Some(end));
            }
            if length == 0 {
                return Ok(Some(End::Closed { received_anything: true }));
            }
        }
        Ok(None)
    }

    /// Keeps an answer until it is asked for. The channel lets no more through than were asked for; only a query may have
    /// any number, and of those the latest counts here.
    fn keep(&mut self, response: Response) {
        if self.early.len() >= self.channel.operations() {
            self.early.pop_back();
        }
        self.early.push_back(response);
    }

    /// A write has failed: the peer has closed. Perhaps it has said why, and that is here already.
    async fn after_failed_write(&mut self, error: io::Error) -> Failure {
        const PATIENCE: Duration = Duration::from_millis(100);
        let deadline = now() + PATIENCE;
        while let Some(Ok(length)) =
            within(Some(deadline), poll_fn(|task| poll_read(&mut *self.io, &mut self.channel, task))).await
        {
            if let Some(end) = self.handle_while_sending(length) {
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

    pub(super) async fn abort(&mut self, abort: Abort) {
        self.channel.abort(now(), abort);
        self.finish(End::Aborted(abort)).await;
    }

    /// Brings the connection to its end, within `linger`: writes what is left, closes our side, and where the last word
    /// was ours waits for the peer to close its own.
    pub(super) async fn finish(&mut self, end: End) -> Failure {
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
            if self.channel.ending() == Some(Ending::HalfClose) {
                // The channel throws away what comes now.
                while !self.eof && self.io.read_buf(&mut self.channel.input()).await? > 0 {}
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
    pub(super) fn abort_at_once(&mut self) {
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
    pub(super) fn error(&self, failure: Failure) -> AssociationError {
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
    let room = input.remaining_mut().min(buffer.len());
    let mut read = ReadBuf::new(buffer.get_mut(..room).unwrap_or_default());
    match Pin::new(io).poll_read(task, &mut read) {
        Poll::Ready(Ok(())) => {
            input.put_slice(read.filled());
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
