//! Where each command enters the library: one function for each, with everything parsed and checked.

use std::future::Future;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Method;
use serde::Serialize;
use tokio_rustls::TlsConnector;
use waystation::association::{EchoError, RequestorSettings, Timeouts, transport};
use waystation::config::{Config, Credentials, Source, WebSettings, WebUrl};
use waystation::control::{DeliveryState, PAGE, Receipt, Status, client};
use waystation::forward;
use waystation::forward::open::{self, Dialer};
use waystation::phantom::Phantom;
use waystation::tls::TlsFiles;
use waystation::{clock, daemon, tls};

use super::{Call, Failure, render, send};

/// Anything that went wrong, as the sentence that it brings along.
pub(super) fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(error.to_string())
}

/// Prints to the user. Whoever reads our output through a pipe may have seen enough: then it ends quietly.
pub(super) fn print(text: impl std::fmt::Display) -> Result<(), Failure> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        printed => printed.map_err(failed),
    }
}

/// Runs one command on a runtime of its own.
pub(super) fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?.block_on(command)
}

/// Runs the gateway until it is told to stop. The log is set up, the TLS provider installed.
pub(crate) fn run(source: Source, config: Config) -> Result<(), Failure> {
    daemon::run(source, config).map_err(failed)
}

/// C-ECHO; prints how long the answer took.
pub(crate) fn echo(call: &Call) -> Result<(), Failure> {
    block_on(async {
        let connector = connector(call)?;
        let stream =
            open::connect(&call.peer, connector.as_ref(), &Dialer::default(), call.timeout).await.map_err(failed)?;
        let mut settings = RequestorSettings::new(call.calling.clone(), call.peer.aet.clone());
        settings.timeouts = timeouts(call);
        let took = transport::echo(stream, &settings).await.map_err(|error| match error {
            EchoError::Connect(source) => failed(open::refused(&call.peer, connector.is_some(), source)),
            other => failed(other),
        })?;
        print(format_args!("{} answers C-ECHO with Success after {:.1} ms", call.peer, took.as_secs_f64() * 1e3))
    })
}

/// The question that a gateway asks a DICOMweb service before it sends; prints how long the answer took.
pub(crate) fn echo_web(
    url: &WebUrl,
    files: TlsFiles,
    credentials: Credentials,
    timeout: Duration,
) -> Result<(), Failure> {
    let live = tls::Live::load(files, tls::Purpose { inwards: None, outwards: true }).map_err(failed)?;
    let tls = live.outwards().cloned().ok_or_else(|| failed("there is no TLS"))?;
    let settings = WebSettings { credentials, ..WebSettings::default() };
    let service = forward::Service { url: url.clone(), settings, tls };
    let began = clock::now();
    block_on(async { forward::probe(service, timeout).await.map_err(failed) })?;
    let took = clock::now().saturating_duration_since(began);
    print(format_args!(
        "{url} gives a good sign of life after {:.1} ms, the connection included",
        took.as_secs_f64() * 1e3
    ))
}

/// C-STORE of every DICOM file at and below the paths; a progress bar, a summary.
pub(crate) fn send(call: &Call, paths: &[PathBuf]) -> Result<(), Failure> {
    let started = clock::now();
    let summary = block_on(async { send::send(call, connector(call)?.as_ref(), paths).await.map_err(failed) })?;
    print(summary.describe(clock::now().saturating_duration_since(started)))?;
    match summary.failed.len() {
        0 => Ok(()),
        count => Err(Failure::Failed(format!("{count} files were not taken"))),
    }
}

fn connector(call: &Call) -> Result<Option<TlsConnector>, Failure> {
    call.tls.as_ref().map(|files| tls::client_config(files).map(TlsConnector::from).map_err(failed)).transpose()
}

pub(super) fn timeouts(call: &Call) -> Timeouts {
    Timeouts { association: call.timeout, ..Timeouts::default() }
}

/// Asks the gateway that runs on `data` over its control socket, and prints what it holds.
pub(crate) fn status(data: &Path, json: bool) -> Result<(), Failure> {
    let status: Status = block_on(async { client::ask(data, Method::GET, "/v1/status").await.map_err(failed) })?;
    match json {
        true => print(as_json(&status)?),
        false => print(render::status(&status, clock::wall()).trim_end()),
    }
}

/// Asks the gateway that runs on `data`, and prints a line for each instance and delivery, or for those in one state.
pub(crate) fn receipts(data: &Path, json: bool, state: Option<DeliveryState>) -> Result<(), Failure> {
    block_on(async {
        let mut after = None;
        let mut header = true;
        loop {
            let question = match after {
                None => format!("/v1/receipts?limit={PAGE}"),
                Some(id) => format!("/v1/receipts?limit={PAGE}&after={id}"),
            };
            let page: Vec<Receipt> = client::ask(data, Method::GET, &question).await.map_err(failed)?;
            let Some(last) = page.last().map(|receipt| receipt.id) else { return Ok(()) };
            let page: Vec<Receipt> =
                page.into_iter().filter(|receipt| state.is_none_or(|state| receipt.state == state)).collect();
            match json {
                true => page.iter().try_for_each(|receipt| print(as_json(receipt)?))?,
                false if page.is_empty() => {}
                false => print(render::receipts(&page, std::mem::take(&mut header)).trim_end())?,
            }
            after = Some(last);
        }
    })
}

pub(super) fn as_json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(failed)
}

/// Writes a CT series of an invented patient into `folder`.
pub(crate) fn phantom(folder: &Path, slices: u16) -> Result<(), Failure> {
    let series = Phantom { slices: slices.into(), ..Phantom::default() };
    let files = series.write_series(folder).map_err(failed)?;
    print(format_args!("{} files of an invented patient are in {}", files.len(), folder.display()))
}
