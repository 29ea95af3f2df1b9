//! Asks a running gateway over its control socket.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::SOCKET;

/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 16 << 20;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a running gateway could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no data directory to look into.
    #[error("cannot open the data directory {0}: {1}; name the right one with --data")]
    NoData(PathBuf, io::Error),
    /// Nobody listens on the socket.
    #[error("no gateway answers on {0}: {1}; is it running (systemctl status waystation)?")]
    NotRunning(PathBuf, io::Error),
    /// The socket is there but this user may not use it.
    #[error("{0} may be used only by the user that runs the gateway, or by root: try with sudo")]
    NotAllowed(PathBuf),
    /// The gateway answered that it cannot.
    #[error("the gateway answered {status}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// It is there and says nothing.
    #[error("the gateway does not answer on its control socket within {} s; its log may say what holds it up", PATIENCE.as_secs())]
    Silent,
    /// Something else answered, or the gateway ended meanwhile.
    #[error("the answer of the gateway could not be read: {0}; it may have just ended, try again")]
    Broken(String),
}

/// Sends `method path` to the gateway whose data directory is `data`, and reads its JSON answer.
///
/// # Errors
/// See [`AskError`].
pub async fn ask<T: DeserializeOwned>(data: &Path, method: Method, path: &str) -> Result<T, AskError> {
    timeout(PATIENCE, exchange(data, method, path, Bytes::new())).await.unwrap_or(Err(AskError::Silent))
}

/// As [`ask`], with something to say beside the question.
///
/// # Errors
/// See [`AskError`].
pub async fn ask_with<T: DeserializeOwned>(
    data: &Path,
    method: Method,
    path: &str,
    said: &impl Serialize,
) -> Result<T, AskError> {
    let said = serde_json::to_vec(said).map_err(|error| AskError::Broken(error.to_string()))?;
    timeout(PATIENCE, exchange(data, method, path, said.into())).await.unwrap_or(Err(AskError::Silent))
}

async fn exchange<T: DeserializeOwned>(data: &Path, method: Method, path: &str, said: Bytes) -> Result<T, AskError> {
    let stream = connect(data).await?;
    let broken = |error: &dyn std::fmt::Display| AskError::Broken(error.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "waystation")
        .header("content-type", "application/json")
        .body(Full::new(said))
        .map_err(|e| broken(&e))?;
    let answer = sender.send_request(request).await.map_err(|e| broken(&e))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await.map_err(|e| broken(&e))?.to_bytes();
    driver.abort();
    if !status.is_success() {
        let message = String::from_utf8_lossy(&body).into_owned();
        return Err(AskError::Refused { status: status.as_u16(), message });
    }
    serde_json::from_slice(&body).map_err(|e| broken(&e))
}

async fn connect(data: &Path) -> Result<UnixStream, AskError> {
    let folder = File::open(data).map_err(|error| AskError::NoData(data.to_owned(), error))?;
    let socket = data.join(SOCKET);
    UnixStream::connect(socket_path(data, &folder)).await.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => AskError::NotAllowed(socket),
        _ => AskError::NotRunning(socket, error),
    })
}

/// The path under which the socket in `data` can be bound or connected to, however long the path of `data` is: the
/// system allows 108 bytes, so a longer one goes by way of the open `folder`.
pub(crate) fn socket_path(data: &Path, folder: &File) -> PathBuf {
    const LONGEST: usize = 107;
    let direct = data.join(SOCKET);
    if direct.as_os_str().len() <= LONGEST {
        return direct;
    }
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(SOCKET)
}
