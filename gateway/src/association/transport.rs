//! The one place that touches a stream: drives a `Channel` over anything that reads and writes.
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

use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};

use super::associate::{AssociateRequest, RoleSelection};
use super::channel::{Channel, End, Happening, Indication};
use super::codes::{Abort, ContextRefusal};
use super::driver::{Driver, Failure, Watch};
use super::error::{AcceptError, AssociationError, ConnectError, EchoError, Violation};
use super::negotiation::{Context, Decision, VERIFICATION};
use super::settings::{AcceptorSettings, RequestorSettings};
use crate::clock::of_runtime as now;
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
    /// All of it, but the peer has answered already, before the data set's end, this request or one before it:
    /// [`Association::response`] returns the answer once the data set is finished. A caller who does not want to finish it
    /// aborts.
    AnsweredEarly,
}

/// An established association.
///
/// Dropping it closes the connection, with an A-ABORT if possible; an object that was being sent is never completed by
/// that.
pub struct Association {
    driver: Driver,
    request: AssociateRequest,
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
    accept_within(stream, settings, connected, |_| ready(()), decide).await
}

/// Does what [`accept`] does, for a caller who has only so much memory for requests.
///
/// `room` is called with how many bytes of the request can be held after what is read next; nothing is read before the
/// future that it returns is done. It is called with 0 when there is no request any more that is not decided. ARTIM
/// goes on.
///
/// # Errors
/// As of [`accept`].
pub async fn accept_within<R: Future<Output = ()>>(
    stream: impl Stream + 'static,
    settings: &AcceptorSettings,
    connected: Instant,
    room: impl Fn(usize) -> R,
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
    let end = loop {
        let held = driver.channel.next_held();
        if let Some(end) = driver.wait_for_room(room(held)).await {
            break end;
        }
        match driver.step().await.map_err(failed)? {
            Some(Happening::Requested(request)) => {
                let decision = decide(&request);
                if let Some(end) = driver.channel.decide(now(), &decision) {
                    break end;
                }
                room(0).await;
                driver.flush(Watch::No).await.map_err(failed)?;
                return Ok(Association::new(driver, Arc::unwrap_or_clone(request)));
            }
            Some(Happening::Ended(end)) => break end,
            _ => {}
        }
    };
    // Who is told no may take his time to go: nothing of his request is held so long.
    room(0).await;
    Err(failed(driver.finish(end).await))
}

/// Turns away a peer that has connected and not asked for an association: A-ABORT, half-close, and the wait for its end of
/// the connection, at most `linger`. What it has sent is thrown away.
pub async fn turn_away(stream: impl Stream + 'static, settings: &AcceptorSettings, abort: Abort) {
    Driver::new(stream, Channel::acceptor(settings, now())).abort(abort).await;
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
    let settings = RequestorSettings { contexts: Vec::new(), ..settings.clone() }.propose_verification();
    let mut association = connect(stream, &settings).await?;
    let echoed = association.echo(settings.timeouts.association).await;
    match &echoed {
        // The answer is there; a peer that then mismanages the release is none the worse for it.
        Ok(_) | Err(EchoError::Status(_)) => drop(association.release().await),
        Err(_) => association.abort(Abort::BY_USER).await,
    }
    echoed
}

/// What came first.
#[derive(Debug)]
pub enum Heard<T> {
    /// An answer.
    Response(Response),
    /// What else was waited for.
    Other(T),
}

impl Association {
    fn new(driver: Driver, request: AssociateRequest) -> Self {
        Self { driver, request, sending: false }
    }

    /// The request for this association, received or sent.
    #[must_use]
    pub fn request(&self) -> &AssociateRequest {
        &self.request
    }

    /// Forgets the proposed presentation contexts: those of a wide request take a lot of memory. From then on,
    /// [`Association::request`] has none.
    pub fn forget_proposals(&mut self) {
        self.request.contexts = Vec::new();
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

    /// The role of the requestor for a SOP class (PS3.7 D.3.3.4): as it was agreed upon, or SCU where nothing was.
    #[must_use]
    pub fn role(&self, sop_class: &Uid) -> RoleSelection {
        let agreed = self.driver.channel.roles().iter().find(|role| role.sop_class_uid == *sop_class);
        agreed.cloned().unwrap_or(RoleSelection { sop_class_uid: sop_class.clone(), scu: true, scp: false })
    }

    /// The longest P-DATA-TF that we send, in bytes after the head: the peer's maximum, at most our own.
    #[must_use]
    pub fn peer_max_pdu(&self) -> u32 {
        self.driver.channel.peer_max_pdu()
    }

    /// How many C-STORE may be outstanding: as it was agreed upon (PS3.7 D.3.3.3), or one where nothing was.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.driver.channel.operations()
    }

    /// Asks the peer for a sign of life with C-ECHO (PS3.4 A), and tells how long the answer took, which may be `patience`
    /// at most. The context for it was [proposed](RequestorSettings::propose_verification).
    ///
    /// # Errors
    /// The peer gave none, or no good one; after anything but [`EchoError::NotSupported`] and [`EchoError::Status`] the
    /// association is over.
    pub async fn echo(&mut self, patience: Duration) -> Result<Duration, EchoError> {
        let verification = |context: &&Context| context.abstract_syntax.as_str() == VERIFICATION;
        let context = self.accepted_contexts().iter().find(verification).ok_or(EchoError::NotSupported)?.clone();
        let asked = now();
        let command = Command::CEcho(CEcho { message_id: 1, sop_class_uid: Some(context.abstract_syntax) });
        self.send_command(context.id, &command).await?;
        let response = self.response(patience).await?;
        match response.status.class() {
            StatusClass::Success | StatusClass::Warning => Ok(now().saturating_duration_since(asked)),
            _ => Err(EchoError::Status(response.status)),
        }
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
    /// [`Association::response`]. Of C-STORE, [so many](Association::operations) can be outstanding at a time, those included
    /// whose answer has come and was not asked for; they are told apart by their message IDs. Of all others it is one.
    ///
    /// # Errors
    /// The request could not be written, and the association is over; or the call is out of turn.
    pub async fn send_command(&mut self, context: u8, command: &Command) -> Result<(), AssociationError> {
        self.driver.check_alive()?;
        let before = self.driver.channel.outstanding() + self.driver.early.len();
        let is_cancel = matches!(command, Command::CCancel { .. });
        if !is_cancel && before >= self.operations() {
            return Err(AssociationError::OutOfTurn("a request was sent before an answer was asked for"));
        }
        self.driver.channel.send_command(context, command).map_err(AssociationError::OutOfTurn)?;
        // Of those before it an answer may come now, or an A-ABORT.
        let watch = if before > 0 && !is_cancel { Watch::Yes } else { Watch::No };
        self.driver.flush(watch).await.map_err(|failure| self.driver.error(failure))
    }

    /// Makes a request whose data set is at hand, without waiting for anything: it leaves while [`Association::next`] is
    /// waited for, which gives the answer, too, and whatever the peer asks for before it answers. The whole message is
    /// held in memory until it has left. One request can be outstanding at a time.
    ///
    /// # Errors
    /// The call is out of turn.
    pub fn post(&mut self, context: u8, command: &Command, data: &[u8]) -> Result<(), AssociationError> {
        self.driver.check_alive()?;
        self.driver.channel.send_message(context, command, data).map_err(AssociationError::OutOfTurn)?;
        self.driver.posted();
        Ok(())
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
            self.driver.flush(Watch::Yes).await.map_err(|failure| self.driver.error(failure))?;
            if rest.is_empty() {
                break;
            }
        }
        self.sending = false;
        Ok(if self.driver.early.is_empty() { Sent::Onward } else { Sent::AnsweredEarly })
    }

    /// The next answer to what was sent, waited for at most as long as `patience`. Answers come in any order.
    ///
    /// # Errors
    /// None came, or something else did: the association is over. Or the call is out of turn.
    pub async fn response(&mut self, patience: Duration) -> Result<Response, AssociationError> {
        self.driver.check_alive()?;
        if let Some(response) = self.response_at_hand() {
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

    /// The next answer to what was sent, or what comes of `other` if that is there before.
    ///
    /// # Errors
    /// The association is over.
    pub async fn response_or<T>(
        &mut self,
        other: &mut (impl Future<Output = T> + Unpin),
    ) -> Result<Heard<T>, AssociationError> {
        self.driver.check_alive()?;
        loop {
            if let Some(response) = self.response_at_hand() {
                return Ok(Heard::Response(response));
            }
            let end = tokio::select! {
                done = &mut *other => return Ok(Heard::Other(done)),
                end = self.driver.hear() => end.map_err(|failure| self.driver.error(failure))?,
            };
            if let Some(end) = end {
                let failure = self.driver.finish(end).await;
                return Err(self.driver.error(failure));
            }
        }
    }

    /// The next answer that came while something was being sent, without waiting for anything. It is there also when the
    /// association has broken since.
    pub fn response_at_hand(&mut self) -> Option<Response> {
        self.driver.early.pop_front()
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
