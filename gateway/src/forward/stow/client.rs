//! HTTP over TLS to a DICOMweb service: one connection, HTTP/2 or HTTP/1.1 as the service chooses (RFC 7301), directly or
//! through a proxy that takes CONNECT.
//!
//! - TLS is that of [`crate::tls`]: the authorities of the configuration and no other, the name of the host checked, our
//!   certificate if the service asks. A connection that was made with files that are no longer in use is not used again.
//! - Redirects are not followed, nothing is taken from the environment, no cookie is kept.
//! - What the service sends is bounded: the head by hyper, the body by [`answer::LONGEST`].
//! - A body that cannot be sent to its end breaks the connection or the stream.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER, USER_AGENT};
use hyper::http::request::Builder;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::answer;
use super::body::{Body, Failure, Progress};
use super::frames::Frames;
use super::judgement::Answer;
use super::wire::{Explained, Watched};
use super::{proxy, retry_after};
use crate::clock;
use crate::config::{Proxy, WebUrl};
use crate::forward::open::{Dialer, OpenError, joined};
use crate::forward::wire::{EndedBy, Wire};
use crate::tls::{self, Current, Edition};

/// What the service may choose from, the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Bytes of a request that wait for the network in our memory, beside those in the pump.
const BUFFER: usize = 256 << 10;

/// Bytes of the head of an answer.
const LONGEST_HEAD: u32 = 32 << 10;

/// Who sends the requests, for the log of the service.
const AGENT: &str = concat!("Waystation/", env!("CARGO_PKG_VERSION"));

/// Why there is no connection. It is about the destination, and none of it about an instance.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// Name, TCP or TLS.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It took too long.
    #[error("no connection to {peer} within {} s: is the link up, does a firewall swallow the connection?", .patience.as_secs())]
    TimedOut { peer: String, patience: Duration },
    /// The proxy does not connect us.
    #[error("the proxy {proxy} does not connect to {peer}: {reason}")]
    Proxy { proxy: String, peer: String, reason: String },
    /// TLS stands, and HTTP does not.
    #[error("{peer} does not speak HTTP behind TLS: {reason}; correct the url")]
    Http { peer: String, reason: String },
}

/// A request without an answer.
#[derive(Debug)]
pub(super) struct Broken {
    /// What happened, in a sentence.
    pub(super) sentence: String,
    /// The connection had carried a request before: the service may have ended it for its own reasons a while ago, and a
    /// new one is worth a try at once.
    pub(super) stale: bool,
    pub(super) ended_by: EndedBy,
}

impl Broken {
    /// One of which nothing else is known.
    pub(super) fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), stale: false, ended_by: EndedBy::Peer }
    }
}

/// How connections are made.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) tls: Current<ClientConfig>,
    pub(super) proxy: Option<Proxy>,
    pub(super) dialer: Dialer,
    /// For TCP, the proxy and TLS together.
    pub(super) connect: Duration,
    /// How long the network may take nothing of what is sent.
    pub(super) stall: Duration,
    /// For the answer, from the last byte of the request, whatever else the connection carries meanwhile.
    pub(super) patience: Duration,
}

enum Sender {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

/// A connection to one service. Dropping it closes the connection.
pub(super) struct Connection {
    sender: Sender,
    edition: Edition,
    progress: Arc<Progress>,
    used: bool,
    stall: Duration,
    patience: Duration,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Connects to the service at `url`.
    pub(super) async fn open(line: &Line, url: &WebUrl) -> Result<Self, ConnectError> {
        let peer = joined(&url.host, url.port);
        let timed_out = ConnectError::TimedOut { peer, patience: line.connect };
        timeout(line.connect, Self::handshake(line, url)).await.unwrap_or(Err(timed_out))
    }

    async fn handshake(line: &Line, url: &WebUrl) -> Result<Self, ConnectError> {
        let peer = joined(&url.host, url.port);
        let edition = line.tls.edition();
        let progress = Progress::new();
        let stream = Watched::new(tcp(line, url).await?, Arc::clone(&progress));
        let failed = |reason: String| OpenError::Tls { peer: peer.clone(), reason };
        let name = tls::server_name(&url.host).map_err(|error| failed(error.to_string()))?;
        let stream = line.tls.connector_offering(&PROTOCOLS).connect(name, stream).await;
        let stream = stream.map_err(|error| failed(tls::explain(&error)))?;
        let is_two = stream.get_ref().1.alpn_protocol() == PROTOCOLS.first().copied();
        let stream = Explained::new(stream, Arc::clone(&progress), is_two.then(Frames::new));
        let no_http = |error: hyper::Error| ConnectError::Http { peer: peer.clone(), reason: explain(&error) };
        let (sender, task) = if is_two {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.timer(TokioTimer::new()).max_send_buf_size(BUFFER).max_header_list_size(LONGEST_HEAD);
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(no_http)?;
            // What becomes of the connection, its requests tell.
            (Sender::Two(sender), tokio::spawn(async move { drop(connection.await) }).abort_handle())
        } else {
            let mut builder = http1::Builder::new();
            builder.max_buf_size(BUFFER);
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(no_http)?;
            (Sender::One(sender), tokio::spawn(async move { drop(connection.await) }).abort_handle())
        };
        let (stall, patience) = (line.stall, line.patience);
        Ok(Self { sender, edition, progress, used: false, stall, patience, task })
    }

    /// Whether another request can be made on it.
    pub(super) fn is_good(&self, line: &Line) -> bool {
        let is_open = match &self.sender {
            Sender::One(sender) => !sender.is_closed(),
            Sender::Two(sender) => !sender.is_closed(),
        };
        is_open && self.edition == line.tls.edition()
    }

    /// A request to `url` with `path` behind it, still without a body.
    pub(super) fn request(&self, method: Method, url: &WebUrl, path: &str) -> Builder {
        let path = format!("{}{path}", url.path);
        let path = if path.is_empty() { "/".to_owned() } else { path };
        let builder = Request::builder().method(method).header(USER_AGENT, AGENT);
        match &self.sender {
            Sender::One(_) => builder.uri(path).header(HOST, url.authority()),
            Sender::Two(_) => builder.uri(format!("https://{}{path}", url.authority())),
        }
    }

    /// The next request begins; what its body is watched with.
    pub(super) fn begin(&self) -> Arc<Progress> {
        self.progress.begin();
        Arc::clone(&self.progress)
    }

    /// Makes a request and waits for the whole answer. After an error, and after an answer that came before the whole
    /// request had left, the connection is of no use any more.
    pub(super) async fn ask(&mut self, request: Result<Request<Body>, hyper::http::Error>) -> Result<Answer, Broken> {
        let stale = std::mem::replace(&mut self.used, true);
        let request = request.map_err(|error| Broken::new(error.to_string()))?;
        let (progress, stall, patience) = (Arc::clone(&self.progress), self.stall, self.patience);
        let answered = self.exchange(request);
        let mut answered = std::pin::pin!(answered);
        loop {
            let deadline = progress.deadline(clock::of_runtime(), stall, patience);
            tokio::select! {
                biased;
                answered = &mut answered => {
                    return answered.map_err(|sentence| {
                        let told = Failure { sentence, ended_by: EndedBy::Peer };
                        let Failure { sentence, ended_by } = progress.failure().unwrap_or(told);
                        Broken { sentence, stale, ended_by }
                    });
                }
                () = tokio::time::sleep_until(deadline.into()) => {}
                () = progress.leaves() => {}
            }
            let now = clock::of_runtime();
            if progress.deadline(now, stall, patience) <= now {
                return Err(if progress.has_left() {
                    Broken::new(format!("no answer within {} s of the last byte", patience.as_secs()))
                } else {
                    let sentence = format!("the connection took nothing for {} s", stall.as_secs());
                    Broken { ended_by: EndedBy::Link, ..Broken::new(sentence) }
                });
            }
        }
    }

    async fn exchange(&mut self, request: Request<Body>) -> Result<Answer, String> {
        let sent = match &mut self.sender {
            Sender::One(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            },
            Sender::Two(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            },
        };
        let answer = read(sent.map_err(|error| explain(&error))?).await?;
        if answer.status.is_success() && !self.progress.is_complete() {
            return Err(format!("HTTP {} came before the whole request had left", answer.status.as_u16()));
        }
        Ok(answer)
    }
}

async fn read(response: Response<Incoming>) -> Result<Answer, String> {
    let (head, body) = response.into_parts();
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = Limited::new(body, answer::LONGEST).collect().await;
    let body = body.map_err(|error| format!("the answer broke off, or is longer than 4 MiB: {error}"))?;
    Ok(Answer {
        status: head.status,
        wait: text(RETRY_AFTER).and_then(|value| retry_after::wait(&value, clock::wall())),
        location: text(LOCATION),
        content_type: text(CONTENT_TYPE),
        body: body.to_bytes().to_vec(),
    })
}

/// A connection to host and port of the URL; the proxy is between, if there is one.
async fn tcp(line: &Line, url: &WebUrl) -> Result<Wire, ConnectError> {
    let Some(proxy) = &line.proxy else {
        return Ok(line.dialer.tcp((&url.host, url.port), line.connect).await?);
    };
    let mut stream = line.dialer.tcp((&proxy.host, proxy.port), line.connect).await?;
    let peer = joined(&url.host, url.port);
    match proxy::connect(&mut stream, proxy, &peer).await {
        Ok(()) => Ok(stream),
        Err(reason) => Err(ConnectError::Proxy { proxy: proxy.to_string(), peer, reason }),
    }
}

/// What broke, as far down as it is known.
fn explain(error: &hyper::Error) -> String {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    let mut last = error.to_string();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                    "the archive closed the connection without an answer".to_owned()
                }
                _ => tls::explain(error),
            };
        }
        last = error.to_string();
        cause = error.source();
    }
    if error.is_incomplete_message() { "the archive closed the connection without an answer".to_owned() } else { last }
}

/// The whole of a small body.
pub(super) fn small(text: String, progress: &Arc<Progress>) -> Body {
    Body::whole(Bytes::from(text), progress)
}
