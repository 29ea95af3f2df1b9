//! A DICOMweb service that follows a script, over HTTPS on loopback. Strange services of other makes are in `tests/`.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::MutexGuard;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::{WebSettings, WebUrl};
use crate::dataset::part10::read_file_meta;
use crate::dataset::transfer_syntax::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN as DEFLATED;
use crate::forward::Service;
use crate::pixels::{JPEG_LS, RLE};
use crate::tls::{self, Current, Live, Purpose, TlsFiles};

/// What the service does with a request to store.
#[derive(Debug, Clone, Copy)]
pub(in crate::forward) enum Act {
    /// Keeps everything, and names it.
    Store,
    /// Keeps everything, and answers with this status and nothing else.
    StoreAndSay(u16),
    /// Keeps nothing, and answers with this status.
    Refuse(u16),
    /// The same, if it is offered the instance whose UID ends in this.
    RefuseIfThereIs(&'static str, u16),
    /// The same, if one of them was made smaller.
    RefuseSmaller(u16),
    /// Names those that were made smaller as failed for this reason, with 200, and keeps the others.
    FailSmaller(u16),
    /// The same as refusing, with Retry-After.
    Wait(u16, &'static str),
    /// Answers with this status, and names everything as failed for this reason.
    Fail(u16, u16),
    /// Names those whose UID ends in this as failed, with 202, and keeps the others.
    FailSome(&'static str, u16),
    /// Answers with a page in HTML.
    Page,
    /// Keeps everything, and never answers.
    Hang,
    /// Keeps everything, and breaks off in the middle of the answer.
    HalfAnAnswer,
    /// Breaks off in the middle of the request.
    HalfARequest,
}

/// How the service takes queries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::forward) enum Queries {
    #[default]
    Matched,
    /// A list is taken for one long UID.
    ListsNotFound,
    /// A list is refused.
    ListsRefused,
    /// At most two matches on one page.
    InPages,
    /// Answered with something else, for ever.
    Flooded,
    /// Answered with this status.
    Say(u16),
    /// The first is answered with this status and Retry-After.
    WaitOnce(u16, &'static str),
}

#[derive(Default)]
pub(in crate::forward) struct WebState {
    /// What is done with the first offers of each instance, and how many they are; afterwards everything is stored.
    pub(in crate::forward) at_first: Option<(Act, u32)>,
    pub(in crate::forward) queries: Queries,
    /// So many of the first instances are taken and forgotten.
    pub(in crate::forward) forgets: usize,
    /// The status for a request to store that holds no instance, if it is not 400.
    pub(in crate::forward) without_instances: Option<u16>,
    /// Whether a PING is sent every second.
    pub(in crate::forward) pings: bool,
    offers: HashMap<String, u32>,
    has: BTreeSet<String>,
    /// Every instance that came whole, as often as it came, with its data set.
    pub(in crate::forward) arrived: Vec<(String, Vec<u8>)>,
    /// The transfer syntax of every instance that came, whatever became of it.
    pub(in crate::forward) syntaxes: Vec<String>,
    /// How many UIDs each query had.
    pub(in crate::forward) asked: Vec<usize>,
    /// When each request to store came, and how many instances it had.
    pub(in crate::forward) stores: Vec<(std::time::Instant, usize)>,
}

/// A service that runs.
pub(in crate::forward) struct Web {
    port: u16,
    tls: Current<rustls::ClientConfig>,
    state: Arc<Mutex<WebState>>,
    changed: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Web {
    pub(in crate::forward) async fn start(change: impl FnOnce(&mut WebState)) -> Self {
        let (server, client) = both_sides();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut state = WebState::default();
        change(&mut state);
        let (state, changed) = (Arc::new(Mutex::new(state)), Arc::new(Notify::new()));
        let (shared, notify) = (Arc::clone(&state), Arc::clone(&changed));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(serve(stream, server.clone(), Arc::clone(&shared), Arc::clone(&notify)));
            }
        });
        Self { port, tls: client, state, changed, task }
    }

    /// One that does this with the first offers of each instance.
    pub(in crate::forward) async fn at_first(act: Act, times: u32) -> Self {
        Self::start(|state| state.at_first = Some((act, times))).await
    }

    pub(in crate::forward) fn state(&self) -> MutexGuard<'_, WebState> {
        self.state.lock().unwrap()
    }

    /// How to get there, with so many instances in a request at most.
    pub(in crate::forward) fn route(&self, max_instances: u32) -> Route {
        let url = WebUrl { host: "127.0.0.1".into(), port: self.port, path: "/rs".into() };
        let settings = WebSettings { max_instances, ..WebSettings::default() };
        Route::Web(Box::new(Service { url, settings, tls: self.tls.clone() }))
    }

    /// Waits until it has seen what is wanted.
    pub(in crate::forward) async fn until(&self, wanted: impl Fn(&WebState) -> bool) {
        while !wanted(&self.state()) {
            self.changed.notified().await;
        }
    }
}

/// An authority, a certificate of it for loopback, and who trusts it.
fn both_sides() -> (TlsAcceptor, Current<rustls::ClientConfig>) {
    tls::install_provider();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    leaf.use_authority_key_identifier_extension = true;
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let chain = vec![CertificateDer::from(leaf.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut server = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    server.alpn_protocols = vec![b"h2".to_vec()];
    let files = TlsFiles { ca: Some(ca), crl: None, identity: None };
    let live = Live::load(files, Purpose { inwards: None, outwards: true }).unwrap();
    (Arc::new(server).into(), live.outwards().unwrap().clone())
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, state: Arc<Mutex<WebState>>, changed: Arc<Notify>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let pings = state.lock().unwrap().pings.then_some(Duration::from_secs(1));
    let service = service_fn(move |request| {
        let (state, changed) = (Arc::clone(&state), Arc::clone(&changed));
        async move {
            let answer = answer(request, &state).await;
            changed.notify_waiters();
            changed.notify_one();
            match answer {
                Some(answer) => Ok::<_, Infallible>(answer),
                None => std::future::pending().await,
            }
        }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(pings).keep_alive_timeout(Duration::from_secs(1_000_000));
    drop(builder.serve_connection(TokioIo::new(stream), service).await);
}

/// An answer that may end in an error.
struct Said(VecDeque<io::Result<Bytes>>);

impl hyper::body::Body for Said {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.0.pop_front().map(|piece| piece.map(Frame::data)))
    }
}

fn say(status: u16, kind: &str, body: impl Into<Bytes>) -> Response<Said> {
    let body: Bytes = body.into();
    // A frame with nothing in it, a hundred times over, would look like an attack.
    let body =
        Said(Some(Ok(body)).filter(|body| body.as_ref().is_ok_and(|body| !body.is_empty())).into_iter().collect());
    Response::builder().status(status).header(CONTENT_TYPE, kind).body(body).unwrap()
}

const JSON: &str = "application/dicom+json";

/// What nothing is stored in that the tests make smaller.
const SMALLER: [&str; 3] = [JPEG_LS, RLE, DEFLATED];

/// The answer; nothing if there is none.
async fn answer(request: Request<Incoming>, state: &Mutex<WebState>) -> Option<Response<Said>> {
    match *request.method() {
        Method::OPTIONS => Some(say(200, "text/plain", "")),
        Method::GET => Some(found(&request, &mut state.lock().unwrap())),
        _ => store(request, state).await,
    }
}

async fn store(request: Request<Incoming>, state: &Mutex<WebState>) -> Option<Response<Said>> {
    let content_type = request.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
    let mut body = request.into_body();
    let mut bytes = Vec::new();
    let half = matches!(state.lock().unwrap().at_first, Some((Act::HalfARequest, _)));
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Some(say(400, "text/plain", "")) };
        bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
        if half && state.lock().unwrap().breaks_off(&bytes) {
            return Some(broken_off());
        }
    }
    let (instances, syntaxes): (Vec<_>, Vec<String>) = parts(&bytes, &content_type).into_iter().unzip();
    let are_smaller: Vec<bool> = syntaxes.iter().map(|syntax| SMALLER.contains(&syntax.as_str())).collect();
    let mut state = state.lock().unwrap();
    state.syntaxes.extend(syntaxes);
    if instances.is_empty() {
        return Some(say(state.without_instances.unwrap_or(400), "text/plain", ""));
    }
    state.stores.push((clock::of_runtime(), instances.len()));
    let act = state.act(&instances);
    let uids: Vec<&str> = instances.iter().map(|(uid, _)| uid.as_str()).collect();
    let listed = |stored: &[&str], failed: &[&str], reason| json!({ "00081199": { "Value": references(stored, None) }, "00081198": { "Value": references(failed, Some(reason)) } });
    let all = listed(&uids, &[], 0).to_string();
    Some(match act {
        Act::Store => {
            state.keep(&instances);
            say(200, JSON, all)
        }
        Act::StoreAndSay(status) => {
            state.keep(&instances);
            say(status, JSON, "")
        }
        Act::RefuseIfThereIs(ending, status) => {
            if uids.iter().any(|uid| uid.ends_with(ending)) {
                return Some(say(status, "text/plain", "no"));
            }
            state.keep(&instances);
            say(200, JSON, all)
        }
        Act::RefuseSmaller(status) => {
            if are_smaller.contains(&true) {
                return Some(say(status, "text/plain", "no"));
            }
            state.keep(&instances);
            say(200, JSON, all)
        }
        Act::FailSmaller(reason) => {
            let of = |smaller: bool| instances.iter().zip(&are_smaller).filter(move |(_, is)| **is == smaller);
            let [stored, failed] =
                [false, true].map(|smaller| of(smaller).map(|((uid, _), _)| uid.as_str()).collect::<Vec<_>>());
            let body = listed(&stored, &failed, reason).to_string();
            let kept: Vec<_> = of(false).map(|(instance, _)| instance.clone()).collect();
            state.keep(&kept);
            say(200, JSON, body)
        }
        Act::Refuse(status) => say(status, "text/plain", "no"),
        Act::Wait(status, value) => {
            let mut answer = say(status, "text/plain", "");
            answer.headers_mut().insert(RETRY_AFTER, value.parse().unwrap());
            answer
        }
        Act::Fail(status, reason) => say(status, JSON, listed(&[], &uids, reason).to_string()),
        Act::FailSome(ending, reason) => {
            let (failed, stored): (Vec<&str>, Vec<&str>) = uids.iter().partition(|uid| uid.ends_with(ending));
            let body = listed(&stored, &failed, reason).to_string();
            let kept: Vec<_> = instances.iter().filter(|(uid, _)| !uid.ends_with(ending)).cloned().collect();
            state.keep(&kept);
            say(202, JSON, body)
        }
        Act::Page => say(200, "text/html", "<html>Welcome</html>"),
        Act::Hang => {
            state.keep(&instances);
            return None;
        }
        Act::HalfAnAnswer => {
            state.keep(&instances);
            broken_off()
        }
        Act::HalfARequest => say(500, "text/plain", ""),
    })
}

/// Half of an answer.
fn broken_off() -> Response<Said> {
    let half = Said([Ok(Bytes::from_static(b"{\"00081199\":{")), Err(io::Error::other("broken off"))].into());
    Response::builder().status(200).header(CONTENT_TYPE, JSON).body(half).unwrap()
}

impl WebState {
    /// What is done with these, which have been offered once more.
    fn act(&mut self, instances: &[(String, Vec<u8>)]) -> Act {
        let Some((act, times)) = self.at_first else { return Act::Store };
        let mut first = false;
        for (uid, _) in instances {
            let offers = self.offers.entry(uid.clone()).or_default();
            first |= *offers < times;
            *offers = offers.saturating_add(1);
        }
        if first { act } else { Act::Store }
    }

    fn keep(&mut self, instances: &[(String, Vec<u8>)]) {
        self.arrived.extend_from_slice(instances);
        for (uid, _) in instances {
            match self.forgets {
                0 => drop(self.has.insert(uid.clone())),
                _ => self.forgets -= 1,
            }
        }
    }

    /// Whether a request that has come so far is broken off: the first ones of the instance that it begins with.
    fn breaks_off(&mut self, bytes: &[u8]) -> bool {
        let Some(uid) = bytes.get(..600).map(|_| bytes).and_then(first_instance) else { return false };
        let times = self.at_first.map_or(0, |(_, times)| times);
        let offers = self.offers.entry(uid).or_default();
        let breaks = *offers < times;
        *offers += u32::from(breaks);
        breaks
    }
}

/// The SOP Instance UID in the file meta information of the first part.
fn first_instance(body: &[u8]) -> Option<String> {
    let begins = body.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let (meta, _) = read_file_meta(body.get(begins..)?).ok()?;
    Some(meta.sop_instance_uid?.to_string())
}

/// The instances in a multipart body (RFC 2046 5.1), with their data sets, and the transfer syntax of each.
fn parts(body: &[u8], content_type: &str) -> Vec<((String, Vec<u8>), String)> {
    let boundary = content_type.split("boundary=").nth(1).unwrap();
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    let mut rest = body.strip_prefix(&delimiter[2..]).unwrap();
    let mut found = Vec::new();
    while rest != b"--\r\n" {
        rest = rest.strip_prefix(b"\r\nContent-Type: application/dicom\r\n\r\n").unwrap();
        let end = rest.windows(delimiter.len()).position(|window| window == delimiter).unwrap();
        let part = &rest[..end];
        let (meta, after) = read_file_meta(part).unwrap();
        let data = part[usize::try_from(after.offset()).unwrap()..].to_vec();
        let syntax = meta.transfer_syntax.to_string();
        found.push(((meta.sop_instance_uid.unwrap().to_string(), data), syntax));
        rest = &rest[end + delimiter.len()..];
    }
    found
}

fn references(uids: &[&str], reason: Option<u16>) -> Vec<Value> {
    let reference = |uid: &&str| match reason {
        Some(reason) => json!({ "00081155": { "Value": [uid] }, "00081197": { "Value": [reason] } }),
        None => json!({ "00081155": { "Value": [uid] } }),
    };
    uids.iter().map(reference).collect()
}

/// The answer to a query, or to a look whether queries are answered.
fn found(request: &Request<Incoming>, state: &mut WebState) -> Response<Said> {
    let query = request.uri().query().unwrap_or_default();
    let value = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    let Some(list) = value("SOPInstanceUID") else { return say(204, JSON, "") };
    let wanted: Vec<&str> = list.split(',').collect();
    state.asked.push(wanted.len());
    let number = |key: &str, otherwise: usize| value(key).map_or(otherwise, |value| value.parse().unwrap());
    let (offset, limit) = (number("offset", 0), number("limit", usize::MAX));
    let there = wanted.iter().filter(|uid| state.has.contains(**uid)).map(|uid| (*uid).to_owned());
    let page: Vec<String> = match state.queries {
        Queries::ListsNotFound if wanted.len() > 1 => Vec::new(),
        Queries::ListsRefused if wanted.len() > 1 => return say(400, "text/plain", "no lists"),
        Queries::InPages => there.skip(offset).take(limit.min(2)).collect(),
        Queries::Flooded => (offset..offset + limit).map(|number| format!("1.9.{number}")).collect(),
        Queries::Say(status) => return say(status, "text/plain", ""),
        Queries::WaitOnce(status, wait) => {
            state.queries = Queries::Matched;
            let mut answer = say(status, "text/plain", "");
            answer.headers_mut().insert(RETRY_AFTER, wait.parse().unwrap());
            return answer;
        }
        _ => there.skip(offset).take(limit).collect(),
    };
    if page.is_empty() {
        return say(204, JSON, "");
    }
    let page: Vec<Value> = page.iter().map(|uid| json!({ "00080018": { "vr": "UI", "Value": [uid] } })).collect();
    say(200, JSON, Value::from(page).to_string())
}
