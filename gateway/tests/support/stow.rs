//! An archive that speaks STOW-RS over HTTPS and follows a script: HTTP/1.1 and HTTP/2, right answers and wrong ones.
//!
//! It reads requests with a parser of its own, by RFC 2046, and keeps every Part 10 file that it has read to the end of
//! its part, with how often it came. What it answers is decided by a script, for each request anew.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::part10::{DataSet, data_sets};
use super::pki::Identity;

/// What the archive does with a request that holds these instances.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Keeps all of them and answers 200, naming each.
    Store,
    /// Keeps all of them and answers with this status and this body.
    StoreAndSay(u16, &'static str),
    /// Answers 202: those whose UID ends in this are failed for this reason, the others are stored.
    FailSome(&'static str, u16),
    /// The same with 409 where nothing is left to store, and 200 beside failures.
    FailSomeWith200(&'static str, u16),
    /// Keeps all of them but the last, names those it has, and answers 202.
    ForgetTheLast,
    /// Keeps nothing and answers with this status.
    Refuse(u16),
    /// The same if one of them ends in this, or is in a request with it; otherwise stores.
    RefuseIfThereIs(&'static str, u16),
    /// 413 for requests of more bytes than this, before a byte of the body was read.
    TooLarge(u64),
    /// 429 or 503, with Retry-After.
    Wait(u16, &'static str),
    /// Sends us elsewhere.
    Redirect(&'static str),
    /// Keeps all and never answers.
    Hang,
    /// Closes after so many bytes of the body.
    CloseAfter(usize),
    /// Keeps all, and closes after half of the answer.
    HalfAnAnswer,
    /// Answers 200 and keeps nothing.
    Forget,
    /// Answers with a page in HTML.
    Page,
    /// Takes nothing but this transfer syntax.
    Only(&'static str),
}

/// What was sent to it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Requests to store.
    pub(crate) posts: u32,
    /// Other requests, as "METHOD path".
    pub(crate) others: Vec<String>,
    /// Bytes of bodies of requests to store.
    pub(crate) bytes: u64,
    /// How many instances each request to store had that was read to its end.
    pub(crate) sizes: Vec<usize>,
    /// Requests to store whose body was not whole.
    pub(crate) broken: u32,
    /// Instances in the order in which they came, whole.
    pub(crate) order: Vec<String>,
    /// Requests over HTTP/2.
    pub(crate) over_two: u32,
    /// Requests whose length was announced.
    pub(crate) announced: u32,
    /// Tokens that were given.
    pub(crate) tokens: u32,
}

type Script = Box<dyn FnMut(u32) -> Act + Send>;

struct Shared {
    folder: PathBuf,
    script: Mutex<Script>,
    seen: Mutex<Seen>,
    kept: Mutex<HashMap<String, PathBuf>>,
    authorization: Mutex<Option<String>>,
    /// Whether OPTIONS is known.
    options: bool,
}

/// How the archive is to be.
pub(crate) struct Manners {
    pub(crate) identity: Identity,
    pub(crate) http2: bool,
    pub(crate) options: bool,
    /// Whether it wants a certificate.
    pub(crate) client_certificates: bool,
    /// The value of Authorization that it wants.
    pub(crate) authorization: Option<String>,
}

impl Manners {
    pub(crate) fn of(identity: Identity) -> Self {
        Self { identity, http2: true, options: true, client_certificates: true, authorization: None }
    }
}

/// A running archive.
pub(crate) struct StowArchive {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    acceptor: watch::Sender<TlsAcceptor>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for StowArchive {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl StowArchive {
    /// `script` says what is done with each request to store, by its number from 0 on.
    pub(crate) fn start(folder: PathBuf, manners: Manners, script: impl FnMut(u32) -> Act + Send + 'static) -> Self {
        waystation::tls::install_provider();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shared = Arc::new(Shared {
            folder,
            script: Mutex::new(Box::new(script)),
            seen: Mutex::default(),
            kept: Mutex::default(),
            authorization: Mutex::new(manners.authorization.clone()),
            options: manners.options,
        });
        let acceptor = watch::Sender::new(TlsAcceptor::from(Arc::new(server_config(&manners))));
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(accept(listener, acceptor.subscribe(), Arc::clone(&shared)));
        Self { port, shared, acceptor, runtime: Some(runtime) }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}/dicom-web", self.port)
    }

    /// What it wants to see from now on.
    pub(crate) fn wants(&self, authorization: &str) {
        *self.shared.authorization.lock().unwrap() = Some(authorization.to_owned());
    }

    /// Whose certificate it shows, and whose it wants, from now on; connections that are open are closed.
    pub(crate) fn becomes(&self, manners: &Manners) {
        self.acceptor.send_replace(TlsAcceptor::from(Arc::new(server_config(manners))));
    }

    /// What it does from now on.
    pub(crate) fn does(&self, script: impl FnMut(u32) -> Act + Send + 'static) {
        *self.shared.script.lock().unwrap() = Box::new(script);
    }

    /// A look at what was sent.
    pub(crate) fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.shared.seen.lock().unwrap())
    }

    /// The data sets that it has kept, sorted.
    pub(crate) fn kept(&self) -> Vec<DataSet> {
        let files: Vec<PathBuf> = self.shared.kept.lock().unwrap().values().cloned().collect();
        data_sets(&files)
    }
}

fn server_config(manners: &Manners) -> ServerConfig {
    let certificates = |file: &Path| CertificateDer::pem_file_iter(file).unwrap().map(Result::unwrap);
    let chain: Vec<_> = certificates(&manners.identity.cert).collect();
    let key = PrivateKeyDer::from_pem_file(&manners.identity.key).unwrap();
    let builder = ServerConfig::builder();
    let builder = if manners.client_certificates {
        let mut roots = rustls::RootCertStore::empty();
        certificates(&manners.identity.ca).for_each(|certificate| roots.add(certificate).unwrap());
        builder.with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_single_cert(chain, key).unwrap();
    let two = manners.http2.then(|| b"h2".to_vec());
    config.alpn_protocols = two.into_iter().chain([b"http/1.1".to_vec()]).collect();
    config
}

async fn accept(listener: TcpListener, acceptor: watch::Receiver<TlsAcceptor>, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        stream.set_nodelay(true).unwrap();
        let (mut replaced, shared) = (acceptor.clone(), Arc::clone(&shared));
        let acceptor = replaced.borrow_and_update().clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let is_two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            // Set to true, the connection is closed as it is.
            let (close, mut closed) = watch::channel(false);
            let service = service_fn(move |request| {
                let (shared, close) = (Arc::clone(&shared), close.clone());
                async move { Ok::<_, Infallible>(answer(request, &shared, &close).await) }
            });
            let io = TokioIo::new(stream);
            let serving = async {
                if is_two {
                    drop(
                        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                            .serve_connection(io, service)
                            .await,
                    );
                } else {
                    drop(hyper::server::conn::http1::Builder::new().serve_connection(io, service).await);
                }
            };
            tokio::select! {
                () = serving => {}
                _ = closed.wait_for(|closed| *closed) => {}
                _ = replaced.changed() => {}
            }
        });
    }
}

fn say(status: u16, kind: &str, body: String) -> Response<Full<Bytes>> {
    Response::builder().status(status).header(CONTENT_TYPE, kind).body(Full::new(body.into())).unwrap()
}

/// Closes the connection and waits until it is.
async fn hang_up(close: &watch::Sender<bool>) -> Response<Full<Bytes>> {
    close.send_replace(true);
    std::future::pending().await
}

async fn answer(request: Request<Incoming>, shared: &Shared, close: &watch::Sender<bool>) -> Response<Full<Bytes>> {
    const JSON: &str = "application/dicom+json";
    let path = request.uri().path().to_owned();
    if path == "/token" {
        return token(request, shared).await;
    }
    let wanted = shared.authorization.lock().unwrap().clone();
    let shown = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    let is_store = request.method() == Method::POST && path == "/dicom-web/studies";
    if !is_store {
        let seen = format!("{} {}", request.method(), request.uri().path_and_query().unwrap());
        shared.seen.lock().unwrap().others.push(seen);
    }
    if wanted.is_some() && wanted != shown {
        return say(401, "text/plain", "who are you?".to_owned());
    }
    if !is_store {
        return match *request.method() {
            Method::OPTIONS if shared.options => say(200, "text/plain", String::new()),
            Method::GET if path.ends_with("/instances") => say(200, JSON, found(&request, shared).to_string()),
            Method::GET if path == "/dicom-web/studies" => say(204, JSON, String::new()),
            _ => say(405, "text/plain", String::new()),
        };
    }
    let number = {
        let mut seen = shared.seen.lock().unwrap();
        seen.posts += 1;
        seen.over_two += u32::from(request.version() == hyper::Version::HTTP_2);
        seen.announced += u32::from(request.headers().contains_key(CONTENT_LENGTH));
        seen.posts - 1
    };
    let act = (shared.script.lock().unwrap())(number);
    if let Act::TooLarge(most) = act
        && request.body().size_hint().exact().is_some_and(|length| length > most)
    {
        return say(413, "text/plain", String::new());
    }
    let content_type = request.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
    let most = if let Act::CloseAfter(most) = act { most } else { usize::MAX };
    let mut body = Vec::new();
    let mut incoming = request.into_body();
    loop {
        match incoming.frame().await {
            None => break,
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                shared.seen.lock().unwrap().bytes += data.len() as u64;
                body.extend_from_slice(&data);
            }
            Some(Err(_)) => {
                shared.seen.lock().unwrap().broken += 1;
                return hang_up(close).await;
            }
        }
        if body.len() >= most {
            return hang_up(close).await;
        }
    }
    let Some(parts) = parts(&body, &content_type) else {
        shared.seen.lock().unwrap().broken += 1;
        return say(400, "text/plain", String::new());
    };
    let instances: Vec<(String, Vec<u8>)> = parts.into_iter().map(|part| (sop_instance(&part), part)).collect();
    let uids: Vec<&str> = instances.iter().map(|(uid, _)| uid.as_str()).collect();
    {
        let mut seen = shared.seen.lock().unwrap();
        seen.sizes.push(uids.len());
        seen.order.extend(uids.iter().map(|uid| (*uid).to_owned()));
    }
    let all_good = |uids: &[&str]| json!({ "00081199": { "vr": "SQ", "Value": references(uids, None) } }).to_string();
    match act {
        Act::Store | Act::TooLarge(_) | Act::CloseAfter(_) => {
            shared.keep(&instances);
            say(200, JSON, all_good(&uids))
        }
        Act::StoreAndSay(status, text) => {
            shared.keep(&instances);
            say(status, JSON, text.to_owned())
        }
        Act::FailSome(ending, reason) | Act::FailSomeWith200(ending, reason) => {
            let (failed, stored): (Vec<_>, Vec<_>) = instances.into_iter().partition(|(uid, _)| uid.ends_with(ending));
            shared.keep(&stored);
            let uids = |list: &'_ [(String, Vec<u8>)]| list.iter().map(|(uid, _)| uid.clone()).collect::<Vec<String>>();
            let (failed, stored) = (uids(&failed), uids(&stored));
            let failed: Vec<&str> = failed.iter().map(String::as_str).collect();
            let stored: Vec<&str> = stored.iter().map(String::as_str).collect();
            let body = json!({
                "00081198": { "vr": "SQ", "Value": references(&failed, Some(reason)) },
                "00081199": { "vr": "SQ", "Value": references(&stored, None) },
            });
            let status = match act {
                Act::FailSomeWith200(..) => 200,
                _ if stored.is_empty() => 409,
                _ if failed.is_empty() => 200,
                _ => 202,
            };
            say(status, JSON, body.to_string())
        }
        Act::ForgetTheLast => {
            let kept = &instances[..instances.len().saturating_sub(1).max(1)];
            shared.keep(kept);
            let uids: Vec<&str> = kept.iter().map(|(uid, _)| uid.as_str()).collect();
            say(202, JSON, all_good(&uids))
        }
        Act::Refuse(status) => say(status, "text/plain", "no".to_owned()),
        Act::RefuseIfThereIs(ending, status) if uids.iter().any(|uid| uid.ends_with(ending)) => {
            say(status, "text/plain", "no".to_owned())
        }
        Act::RefuseIfThereIs(..) => {
            shared.keep(&instances);
            say(200, JSON, all_good(&uids))
        }
        Act::Wait(status, value) => {
            let mut answer = say(status, "text/plain", String::new());
            answer.headers_mut().insert(RETRY_AFTER, value.parse().unwrap());
            answer
        }
        Act::Redirect(to) => {
            let mut answer = say(StatusCode::TEMPORARY_REDIRECT.as_u16(), "text/plain", String::new());
            answer.headers_mut().insert(LOCATION, to.parse().unwrap());
            answer
        }
        Act::Hang => {
            shared.keep(&instances);
            std::future::pending().await
        }
        Act::HalfAnAnswer => {
            shared.keep(&instances);
            hang_up(close).await
        }
        Act::Forget => say(200, JSON, all_good(&uids)),
        Act::Page => say(200, "text/html", "<html>Welcome</html>".to_owned()),
        Act::Only(syntax) => {
            let fits =
                |(_, part): &(String, Vec<u8>)| part.windows(syntax.len()).take(400).any(|w| w == syntax.as_bytes());
            if !instances.iter().all(fits) {
                return say(415, "text/plain", String::new());
            }
            shared.keep(&instances);
            say(200, JSON, all_good(&uids))
        }
    }
}

impl Shared {
    fn keep(&self, instances: &[(String, Vec<u8>)]) {
        let mut kept = self.kept.lock().unwrap();
        for (uid, part) in instances {
            let file = self.folder.join(format!("{uid}.dcm"));
            if let Ok(there) = std::fs::read(&file) {
                assert!(there == *part, "{uid} came twice, and differently");
            }
            std::fs::write(&file, part).unwrap();
            kept.insert(uid.clone(), file);
        }
    }
}

fn references(uids: &[&str], reason: Option<u16>) -> Vec<Value> {
    let reference = |uid: &&str| {
        let mut item = json!({ "00081155": { "vr": "UI", "Value": [uid] } });
        if let Some(reason) = reason {
            item["00081197"] = json!({ "vr": "US", "Value": [reason] });
        }
        item
    };
    uids.iter().map(reference).collect()
}

/// The answer to a query for one instance.
fn found(request: &Request<Incoming>, shared: &Shared) -> Value {
    let query = request.uri().query().unwrap_or_default();
    let list = query.split('&').find_map(|pair| pair.strip_prefix("SOPInstanceUID=")).unwrap_or_default();
    let offset =
        query.split('&').find_map(|pair| pair.strip_prefix("offset=")).map_or(0, |value| value.parse().unwrap());
    let kept = shared.kept.lock().unwrap();
    let there = list.split(',').filter(|uid| kept.contains_key(*uid)).skip(offset);
    let found = there.map(|uid| {
        json!({ "00080018": { "vr": "UI", "Value": [uid] }, "00100010": { "vr": "PN", "Value": [{ "Alphabetic": "DOE^JANE" }] } })
    });
    found.collect()
}

/// An authorization server beside the archive. Each token is another one, and the archive wants the latest.
async fn token(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    // "gateway:open sesame", each part form-encoded.
    let is_known =
        request.headers().get(AUTHORIZATION).is_some_and(|shown| shown == "Basic Z2F0ZXdheTpvcGVuK3Nlc2FtZQ==");
    let form = request.into_body().collect().await.unwrap().to_bytes();
    if !is_known || form != "grant_type=client_credentials&scope=dicom" {
        return say(401, "application/json", json!({ "error": "invalid_client" }).to_string());
    }
    let number = {
        let mut seen = shared.seen.lock().unwrap();
        seen.tokens += 1;
        seen.tokens
    };
    *shared.authorization.lock().unwrap() = Some(format!("Bearer token-{number}"));
    let token = json!({ "access_token": format!("token-{number}"), "token_type": "Bearer", "expires_in": 3600 });
    say(200, "application/json", token.to_string())
}

/// The parts of a multipart body by RFC 2046; nothing if it is not whole.
fn parts(body: &[u8], content_type: &str) -> Option<Vec<Vec<u8>>> {
    assert!(content_type.starts_with("multipart/related; type=\"application/dicom\"; boundary="), "{content_type}");
    let boundary = content_type.split("boundary=").nth(1)?;
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    let mut rest = body.strip_prefix(&delimiter[2..])?;
    let mut found = Vec::new();
    loop {
        if rest == b"--\r\n" {
            return Some(found);
        }
        rest = rest.strip_prefix(b"\r\nContent-Type: application/dicom\r\n\r\n")?;
        let at = position(rest, &delimiter)?;
        found.push(rest[..at].to_vec());
        rest = &rest[at + delimiter.len()..];
    }
}

/// Where `what` begins in `bytes`.
fn position(bytes: &[u8], what: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == what[0]) {
        if bytes[from + at..].starts_with(what) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// The SOP Instance UID in the file meta information of a part.
fn sop_instance(part: &[u8]) -> String {
    assert_eq!(&part[128..132], b"DICM");
    let at = position(part, b"\x02\0\x03\0UI").unwrap();
    let length = usize::from(u16::from_le_bytes([part[at + 6], part[at + 7]]));
    String::from_utf8_lossy(&part[at + 8..at + 8 + length]).trim_end_matches('\0').to_owned()
}

/// A proxy that takes CONNECT from whoever shows this, and counts.
pub(crate) struct ConnectProxy {
    pub(crate) port: u16,
    pub(crate) connections: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    pub(crate) fn start(authorization: &'static str) -> Self {
        use std::io::{Read, Write};

        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&connections);
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if client.read_exact(&mut byte).is_err() {
                        break;
                    }
                    head.extend(byte);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let peer = head.split(' ').nth(1).and_then(|peer| peer.parse::<SocketAddr>().ok());
                let (Some(peer), true) = (peer, head.contains(authorization)) else {
                    drop(client.write_all(b"HTTP/1.1 407 Who are you?\r\nContent-Length: 0\r\n\r\n"));
                    continue;
                };
                seen.lock().unwrap().push(peer.to_string());
                let Ok(server) = std::net::TcpStream::connect(peer) else { continue };
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
                let pairs = [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)];
                for (mut from, mut to) in pairs {
                    std::thread::spawn(move || {
                        drop(std::io::copy(&mut from, &mut to));
                        drop(to.shutdown(std::net::Shutdown::Write));
                    });
                }
            }
        });
        Self { port, connections }
    }
}
