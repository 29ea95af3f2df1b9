//! Everything that goes between the gateway and one service: the connection, who we are, and requests without data sets.
//!
//! Every new connection, and every connection after trouble, is proven with OPTIONS before a data set may go over it. So
//! a token that has expired, a certificate of ours that is refused (which TLS 1.3 tells only with the first answer, RFC
//! 8446 4.4) or a service that is down costs one small request, and not one byte of an image.
//!
//! Answers that blame the destination may have been caused by one body: firewalls in front of archives look into what is
//! sent. So that one instance does not stop all others for ever, the service is asked for another sign of life then, and
//! gets a request to store that holds no instance. Whoever may not store, or not at this URL, is told so again.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use log::debug;

use super::body::{Body, Progress};
use super::client::{Broken, ConnectError, Connection, Line, small};
use super::credentials::{Keyring, Show, TokenRequest};
use super::judgement::{self, About, Answer, Judgement};
use super::multipart::Boundary;
use crate::clock;
use crate::config::WebUrl;
use crate::forward::open::OpenError;
use crate::forward::wire::EndedBy;

/// Answers are asked for in this form.
pub(super) const JSON: &str = "application/dicom+json";

/// Why the service cannot be used now.
#[derive(Debug)]
pub(super) struct Trouble {
    /// What happened and what to do.
    pub(super) sentence: String,
    /// How long it wants to be left in peace.
    pub(super) wait: Option<Duration>,
    /// The connection was given up because a new one gets through, which is nobody's failure.
    pub(super) is_given_up: bool,
}

impl Trouble {
    pub(super) fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), wait: None, is_given_up: false }
    }
}

/// See the module.
pub(super) struct Session {
    pub(super) url: WebUrl,
    line: Line,
    keyring: Keyring,
    connection: Option<Connection>,
}

impl Session {
    pub(super) fn new(url: WebUrl, line: Line, keyring: Keyring) -> Self {
        Self { url, line, keyring, connection: None }
    }

    /// Whether a connection is open.
    pub(super) fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    /// Lets go of the connection.
    pub(super) fn close(&mut self) {
        self.connection = None;
    }

    /// Which credentials are shown, for sentences.
    pub(super) fn credentials(&self) -> String {
        self.keyring.describe()
    }

    /// Sees to it that there is a connection over which data may go. With `prove`, one that is open is asked, too.
    pub(super) async fn ready(&mut self, prove: bool) -> Result<(), Trouble> {
        let is_good = self.connection.as_ref().is_some_and(|connection| connection.is_good(&self.line));
        if is_good && !prove {
            return Ok(());
        }
        if !is_good {
            self.connection = None;
            self.connect().await?;
        }
        let proven = self.prove().await;
        if proven.is_err() {
            self.connection = None;
        }
        proven
    }

    /// Sees to it that there is a connection, for questions.
    pub(super) async fn reach(&mut self) -> Result<(), Trouble> {
        if self.connection.is_none() { self.connect().await } else { Ok(()) }
    }

    async fn connect(&mut self) -> Result<(), Trouble> {
        let connection = Connection::open(&self.line, &self.url).await.map_err(|error| Trouble {
            is_given_up: matches!(error, ConnectError::Open(OpenError::GivenUp { .. })),
            ..Trouble::new(error.to_string())
        })?;
        debug!(destination:% = self.url.host; "connection established");
        self.connection = Some(connection);
        Ok(())
    }

    /// Asks for a sign of life: OPTIONS, and a query where that is not answered.
    async fn prove(&mut self) -> Result<(), Trouble> {
        let answer = self.ask(Method::OPTIONS, "/studies").await?;
        if answer.status.is_success() {
            return Ok(());
        }
        // Not every service knows OPTIONS; what it says of a query counts then.
        let knows = |status: StatusCode| {
            let is_its_own = matches!(status.as_u16(), 401 | 403 | 429) || status.is_redirection();
            is_its_own || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
        };
        if knows(answer.status) {
            return self.blamed(&answer);
        }
        let answer = self.ask(Method::GET, "/studies?limit=1").await?;
        if answer.status.is_success() {
            return self.not_to_blame(&answer);
        }
        // A service that only stores knows no query, and answers with 404 or 405; storing tells the rest.
        if knows(answer.status) { self.blamed(&answer) } else { Ok(()) }
    }

    /// Whether the service gives a good sign of life and lets us store, as far as that can be known without an instance.
    pub(super) async fn is_well(&mut self, boundary: &Boundary) -> bool {
        if self.ready(true).await.is_err() {
            return false;
        }
        let (content_type, nothing) = (boundary.content_type(), boundary.nothing());
        let answered = self
            .send(|draft, progress| {
                draft.method(Method::POST).path("/studies").with_content(&content_type, small(nothing, progress))
            })
            .await;
        // That there is nothing in it, it may well refuse.
        matches!(answered, Ok(Ok(answer)) if self.not_to_blame(&answer).is_ok())
    }

    fn not_to_blame(&self, answer: &Answer) -> Result<(), Trouble> {
        let (url, credentials) = (self.url.to_string(), self.credentials());
        match judgement::of_destination(answer, About { url: &url, credentials: &credentials }) {
            Some(Judgement::Destination { sentence, wait }) => Err(Trouble { wait, ..Trouble::new(sentence) }),
            _ => Ok(()),
        }
    }

    fn blamed(&self, answer: &Answer) -> Result<(), Trouble> {
        self.not_to_blame(answer)?;
        let said = judgement::shown(answer.status);
        let sentence = format!("{} gives no good sign of life ({said}); nothing is sent yet", self.url);
        Err(Trouble { wait: answer.wait, ..Trouble::new(sentence) })
    }

    /// A request without a body; made once more on a new connection if the old one was stale, or with a new token if the
    /// old one was refused.
    pub(super) async fn ask(&mut self, method: Method, path: &str) -> Result<Answer, Trouble> {
        let mut again = true;
        loop {
            if self.connection.is_none() {
                self.connect().await?;
            }
            let answer = self
                .send(|request, progress| {
                    request.method(method.clone()).path(path).body(small(String::new(), progress))
                })
                .await?;
            match answer {
                Err(Broken { stale: true, .. }) if again => again = false,
                Err(Broken { sentence, ended_by, .. }) => {
                    let sentence = format!("{}: {sentence}", self.url);
                    return Err(Trouble { is_given_up: ended_by == EndedBy::Us, ..Trouble::new(sentence) });
                }
                Ok(answer) if answer.status == StatusCode::UNAUTHORIZED && again && self.renew() => again = false,
                Ok(answer) => return Ok(answer),
            }
        }
    }

    /// Throws a token of our own away. Whether there was one, so that asking for another may help.
    pub(super) fn renew(&mut self) -> bool {
        self.keyring.forget()
    }

    /// Makes the request that `make` writes, on the connection that is there.
    pub(super) async fn send(
        &mut self,
        make: impl FnOnce(Draft<'_>, &Arc<Progress>) -> Result<Request<Body>, hyper::http::Error>,
    ) -> Result<Result<Answer, Broken>, Trouble> {
        let authorization = self.authorization().await?;
        let Some(connection) = &mut self.connection else {
            return Ok(Err(Broken { stale: true, ..Broken::new("there is no connection") }));
        };
        let progress = connection.begin();
        let draft = Draft { connection, url: &self.url, authorization, method: Method::GET, path: "" };
        let request = make(draft, &progress);
        let answer = connection.ask(request).await;
        if answer.is_err() || !progress.is_complete() {
            // What was sent half must not be followed by anything.
            self.connection = None;
        }
        Ok(answer)
    }

    async fn authorization(&mut self) -> Result<Option<HeaderValue>, Trouble> {
        for _ in 0..2 {
            match self.keyring.show(clock::of_runtime()).await.map_err(Trouble::new)? {
                Show::Nothing => return Ok(None),
                Show::This(value) => return Ok(Some(value)),
                Show::Ask(request) => {
                    let answer = self.token(request).await?;
                    self.keyring.take(&answer, clock::of_runtime()).map_err(Trouble::new)?;
                }
            }
        }
        Err(Trouble::new(format!(
            "the tokens for {} end as soon as they are given; check the clocks",
            self.credentials()
        )))
    }

    async fn token(&self, request: TokenRequest) -> Result<Answer, Trouble> {
        let TokenRequest { url, authorization, form } = request;
        let about = |why: String| Trouble::new(format!("no token is to be had at {url}: {why}"));
        let mut connection = Connection::open(&self.line, &url).await.map_err(|error| about(error.to_string()))?;
        let progress = connection.begin();
        let request = connection
            .request(Method::POST, &url, "")
            .header(AUTHORIZATION, authorization)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(small(form, &progress));
        connection.ask(request).await.map_err(|broken| about(broken.sentence))
    }
}

/// A request that is being written.
pub(super) struct Draft<'a> {
    connection: &'a Connection,
    url: &'a WebUrl,
    authorization: Option<HeaderValue>,
    method: Method,
    path: &'a str,
}

impl<'a> Draft<'a> {
    pub(super) fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    pub(super) fn path(self, path: &'a str) -> Self {
        Self { path, ..self }
    }

    pub(super) fn body(self, body: Body) -> Result<Request<Body>, hyper::http::Error> {
        self.finish(body, None)
    }

    pub(super) fn with_content(self, content_type: &str, body: Body) -> Result<Request<Body>, hyper::http::Error> {
        self.finish(body, Some(content_type))
    }

    fn finish(self, body: Body, content_type: Option<&str>) -> Result<Request<Body>, hyper::http::Error> {
        let mut builder = self.connection.request(self.method, self.url, self.path).header(ACCEPT, JSON);
        if let Some(authorization) = self.authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        if let Some(content_type) = content_type {
            builder = builder.header(CONTENT_TYPE, content_type);
        }
        builder.body(body)
    }
}
