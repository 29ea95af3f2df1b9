//! `waystation send`: plays the modality, for commissioning and for tests.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File};
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio_rustls::TlsConnector;

use super::{Call, backend, render};
use waystation::association::{Abort, Association, RequestorSettings};
use waystation::dataset::part10::{self, Part10Error};
use waystation::dataset::transfer_syntax;
use waystation::dimse::{CStore, StoreOutcome};
use waystation::forward::cstore;
use waystation::forward::open::{self, Dialer, OpenError};
use waystation::forward::pump;
use waystation::model::{Priority, Uid};
use waystation::receive::scan::HeaderScan;

/// Presentation contexts in one A-ASSOCIATE-RQ (PS3.8 9.3.2.2).
const MOST_CONTEXTS: usize = 128;

/// A DICOM file that can be sent.
struct Candidate {
    path: PathBuf,
    sop_class: Uid,
    sop_instance: Uid,
    transfer_syntax: Uid,
    /// Where the data set starts, and its length, in bytes.
    start: u64,
    length: u64,
}

/// What became of all files.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// Instances that the peer answered with a success, or with a warning.
    pub(super) sent: u64,
    /// Bytes of their data sets.
    pub(super) bytes: u64,
    /// Files that are not DICOM files.
    pub(super) skipped: u64,
    /// Files that were not taken, each with the reason.
    pub(super) failed: Vec<(PathBuf, String)>,
}

/// Why nothing, or nothing more, could be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// A file or folder that was named cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is nothing to send.
    #[error("no DICOM file was found ({0} other files were); name a folder or files that are DICOM Part 10")]
    Nothing(u64),
    /// The peer cannot be reached, or does not let us in.
    #[error("{0}")]
    Open(#[from] OpenError),
}

/// Sends every DICOM file at and below `paths`, showing progress on the terminal.
///
/// # Errors
/// See [`SendError`]; files that were refused are in the summary and no error.
pub(super) async fn send(call: &Call, tls: Option<&TlsConnector>, paths: &[PathBuf]) -> Result<Summary, SendError> {
    let mut summary = Summary::default();
    let mut waiting = collect(paths, &mut summary)?;
    if waiting.is_empty() && summary.failed.is_empty() {
        return Err(SendError::Nothing(summary.skipped));
    }
    let bar = progress(waiting.iter().map(|candidate| candidate.length).sum());
    let total = waiting.len();
    while !waiting.is_empty() {
        let (settings, offered) = propose(call, &waiting);
        let mut association = match open::associate(&call.peer, tls, &Dialer::default(), &settings).await {
            Ok(association) => association,
            Err(error) if summary.sent == 0 && summary.failed.is_empty() => return Err(error.into()),
            Err(error) => {
                summary.failed.extend(waiting.drain(..).map(|candidate| (candidate.path, error.to_string())));
                break;
            }
        };
        loop {
            match waiting.front() {
                Some(next) if offered.contains(&kind(next)) => {}
                _ => {
                    // The answers are all here; a peer that does not answer the release has lost nothing.
                    let _ = association.release().await;
                    break;
                }
            }
            let Some(next) = waiting.pop_front() else { break };
            bar.set_message(format!("{} of {} instances", total - waiting.len(), total));
            let sent = send_one(&mut association, &next, call.timeout).await;
            bar.inc(next.length);
            match sent {
                Ok(()) => {
                    summary.sent += 1;
                    summary.bytes += next.length;
                }
                Err(Refused { reason, association_over }) => {
                    summary.failed.push((next.path, reason));
                    if association_over {
                        association.abort(Abort::BY_USER).await;
                        break;
                    }
                }
            }
        }
    }
    bar.finish_and_clear();
    Ok(summary)
}

impl Summary {
    /// A few lines for people.
    pub(super) fn describe(&self, took: Duration) -> String {
        let seconds = took.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = |amount: u64| amount as f64 / seconds.max(0.001);
        let mut text = format!(
            "sent {} instances, {} in {seconds:.1} s ({:.0} instances/s, {:.1} MB/s)",
            render::count(self.sent),
            render::bytes(self.bytes),
            rate(self.sent),
            rate(self.bytes) / 1e6,
        );
        if self.skipped > 0 {
            text.push_str(&format!("; {} files are not DICOM and were skipped", render::count(self.skipped)));
        }
        for (path, reason) in &self.failed {
            text.push_str(&format!("\nnot taken: {}: {reason}", path.display()));
        }
        text
    }
}

struct Refused {
    reason: String,
    association_over: bool,
}

async fn send_one(association: &mut Association, candidate: &Candidate, patience: Duration) -> Result<(), Refused> {
    let kept = |reason: String| Refused { reason, association_over: false };
    let context = association.accepted_contexts().iter().find(|context| {
        context.abstract_syntax == candidate.sop_class && context.transfer_syntax == candidate.transfer_syntax
    });
    let Some(context) = context.map(|context| context.id) else {
        let name = transfer_syntax::name(&candidate.transfer_syntax).unwrap_or("private transfer syntax");
        return Err(kept(format!("the peer does not accept SOP class {} in {name}", candidate.sop_class)));
    };
    let mut file = File::open(&candidate.path).map_err(|error| kept(format!("cannot be opened: {error}")))?;
    file.seek(std::io::SeekFrom::Start(candidate.start)).map_err(|error| kept(format!("cannot be read: {error}")))?;
    let request = CStore {
        message_id: 1,
        sop_class_uid: candidate.sop_class.clone(),
        sop_instance_uid: candidate.sop_instance.clone(),
        priority: Priority::Routine,
        move_originator: None,
    };
    let pieces = pump::pump(file, false, pump::piece_size(association));
    let response = match cstore::store(association, context, request, pieces, &AtomicU64::new(0), patience).await {
        Ok(response) => response,
        Err(error) => return Err(Refused { reason: error.to_string(), association_over: true }),
    };
    match response.status.store_outcome() {
        StoreOutcome::Delivered | StoreOutcome::DeliveredWithWarning => Ok(()),
        _ => {
            let comment = response.comment.map_or_else(String::new, |comment| format!(" ({comment})"));
            Err(kept(format!("status {}{comment}", response.status)))
        }
    }
}

fn kind(candidate: &Candidate) -> (Uid, Uid) {
    (candidate.sop_class.clone(), candidate.transfer_syntax.clone())
}

/// One presentation context per SOP class and transfer syntax, as many as fit, in the order of the files.
fn propose(call: &Call, waiting: &VecDeque<Candidate>) -> (RequestorSettings, HashSet<(Uid, Uid)>) {
    let mut settings = RequestorSettings::new(call.calling.clone(), call.peer.aet.clone());
    settings.timeouts = backend::timeouts(call);
    let mut offered = HashSet::new();
    for candidate in waiting {
        if offered.len() == MOST_CONTEXTS {
            break;
        }
        if offered.insert(kind(candidate)) {
            settings = settings.propose(&candidate.sop_class, [candidate.transfer_syntax.clone()]);
        }
    }
    (settings, offered)
}

/// Every DICOM file at and below the paths, each once, in the order of their names.
fn collect(paths: &[PathBuf], summary: &mut Summary) -> Result<VecDeque<Candidate>, SendError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| SendError::Unreadable { path, source }
    };
    let mut found = VecDeque::new();
    for named in paths {
        let mut folders = vec![];
        let mut files = vec![];
        match fs::metadata(named).map_err(unreadable(named))?.is_dir() {
            true => folders.push(named.clone()),
            false => files.push(named.clone()),
        }
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(unreadable(&folder))? {
                let entry = entry.map_err(unreadable(&folder))?;
                let kind = entry.file_type().map_err(unreadable(&folder))?;
                match (kind.is_dir(), kind.is_symlink()) {
                    (true, _) => folders.push(entry.path()),
                    // A link may lead in a circle; a linked file is sent under its own name.
                    (false, true) if entry.path().is_dir() => {}
                    (false, _) => files.push(entry.path()),
                }
            }
        }
        files.sort();
        for path in files {
            match examine(&path) {
                Ok(Some(candidate)) => found.push_back(candidate),
                Ok(None) => summary.skipped += 1,
                Err(reason) => summary.failed.push((path, reason)),
            }
        }
    }
    Ok(found)
}

/// Reads the file meta information; `None` if the file is no DICOM file at all.
fn examine(path: &Path) -> Result<Option<Candidate>, String> {
    let file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let size = file.metadata().map_err(unreadable)?.len();
    let reader = BufReader::new(file);
    let (meta, mut data_set) = match part10::read_file_meta(reader) {
        Ok(found) => found,
        Err(Part10Error::NotDicom) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let start = data_set.offset();
    let (class, instance) = identify(&mut data_set, &meta.transfer_syntax).map_err(unreadable)?;
    let missing = |what| format!("it has no {what}, without which it cannot be sent");
    Ok(Some(Candidate {
        path: path.to_owned(),
        sop_class: class.or(meta.sop_class_uid).ok_or_else(|| missing("SOP Class UID"))?,
        sop_instance: instance.or(meta.sop_instance_uid).ok_or_else(|| missing("SOP Instance UID"))?,
        transfer_syntax: meta.transfer_syntax,
        start,
        length: size.saturating_sub(start),
    }))
}

/// The UIDs in the data set itself, which count more than those of the file meta information.
fn identify(data_set: &mut impl Read, transfer_syntax: &Uid) -> std::io::Result<(Option<Uid>, Option<Uid>)> {
    /// Both stand in group 0008, so the front of a data set has them.
    const FRONT: u64 = 1 << 20;
    let mut front = Vec::new();
    data_set.take(FRONT).read_to_end(&mut front)?;
    let mut scan = HeaderScan::new(transfer_syntax);
    scan.feed(&front);
    let scan = scan.finish();
    Ok((scan.sop_class_uid, scan.sop_instance_uid))
}

fn progress(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{bar:40} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {msg}  {eta} left",
    );
    let bar = ProgressBar::new(bytes);
    match style {
        Ok(style) => bar.with_style(style.progress_chars("█▓░")),
        Err(_) => bar,
    }
}
