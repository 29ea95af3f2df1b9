//! Feeds the body of a request: for each instance its head, then its payload from the disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::multipart::Boundary;
use crate::dataset::part10::FileMeta;
use crate::forward::coerce::Coerced;
use crate::forward::courier::Settings;
use crate::forward::outgoing::{Outgoing, SentAs, Source, Wanted};
use crate::forward::pump::{self, Piece};
use crate::forward::verdict::Verdict;
use crate::spool::Spool;

/// Bytes that are read from the disk at a time.
const PIECE: usize = 128 << 10;

/// Pieces between the pump and the network, beside those of the pump.
pub(super) const AHEAD: usize = 1;

/// An instance on its way.
pub(super) struct Parcel {
    source: Source,
    pub(super) meta: FileMeta,
    made_even: bool,
    /// Bytes of its data set, if that is known before.
    pub(super) length: Option<u64>,
}

/// What there is to say of an instance that leaves with others.
pub(super) struct Part {
    /// Bytes of its data set, or of the one that is stored if that is not known before.
    pub(super) length: u64,
    /// What is changed in it on the way.
    pub(super) coerced: Option<Coerced>,
    /// In what it leaves, if that is not what is stored.
    pub(super) sent_as: Option<SentAs>,
}

impl Parcel {
    /// Gets an instance ready after so many failed attempts. Blocking.
    ///
    /// # Errors
    /// It cannot be read, or not be changed as the configuration asks for.
    pub(super) fn prepare(
        wanted: &Wanted,
        attempts: u32,
        spool: &Spool,
        settings: &Settings,
    ) -> Result<(Self, Part), Verdict> {
        let Outgoing { source, coerced, sent_as, length } = Outgoing::prepare(wanted, spool, &settings.coercions)?;
        let header = &wanted.header;
        let transfer_syntax = sent_as.as_ref().map_or(&header.transfer_syntax, |sent_as| &sent_as.syntax).clone();
        let made_even = pump::made_even(&transfer_syntax, attempts);
        let length = length.map(|length| length + u64::from(made_even && length % 2 == 1));
        let meta = FileMeta {
            sop_class_uid: header.sop_class_uid.clone(),
            sop_instance_uid: header.sop_instance_uid.clone(),
            transfer_syntax,
            source_ae: Some(settings.calling.clone()),
        };
        let part = Part { length: length.unwrap_or(wanted.length), coerced, sent_as };
        Ok((Self { source, meta, made_even, length }, part))
    }
}

/// Why the feeding stopped before the end.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The instance at this place cannot be read.
    Unreadable(usize, Verdict),
    /// Nobody takes anything any more.
    NotTaken,
}

/// Feeds everything, in order, and counts what of the data sets is taken. The end of the body is sent only after each
/// payload has been read to its verified end; whatever goes wrong before is an error in the body.
pub(super) async fn feed(
    parcels: Vec<Parcel>,
    boundary: Boundary,
    meter: Arc<AtomicU64>,
    body: mpsc::Sender<io::Result<Piece>>,
) -> Result<(), Stopped> {
    let give = async |bytes: Vec<u8>, last: bool| {
        let piece = Piece { bytes: Bytes::from(bytes), last };
        body.send(Ok(piece)).await.map_err(|_| Stopped::NotTaken)
    };
    let unreadable = async |place: usize, verdict: Verdict| {
        // Nobody may be left to be told.
        let _ = body.send(Err(io::Error::other("the instance cannot be read"))).await;
        Stopped::Unreadable(place, verdict)
    };
    for (place, parcel) in parcels.into_iter().enumerate() {
        let Parcel { source, meta, made_even, .. } = parcel;
        let opened = tokio::task::spawn_blocking(move || source.open()).await;
        let payload = match opened {
            Ok(Ok(payload)) => payload,
            Ok(Err(verdict)) => return Err(unreadable(place, verdict).await),
            Err(_) => {
                let verdict = Verdict::Later { answer: "reading the instance failed".into() };
                return Err(unreadable(place, verdict).await);
            }
        };
        let head = match boundary.begin(place == 0, &meta) {
            Ok(head) => head,
            Err(error) => return Err(unreadable(place, Verdict::of_payload(&error)).await),
        };
        give(head, false).await?;
        let mut pieces = pump::pump(payload, made_even, PIECE);
        loop {
            let piece = match pieces.recv().await {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => return Err(unreadable(place, Verdict::of_payload(&error)).await),
                None => {
                    let error = io::Error::other("the reading ended early");
                    return Err(unreadable(place, Verdict::of_payload(&error)).await);
                }
            };
            let (last, length) = (piece.last, piece.bytes.len() as u64);
            let piece = Piece { last: false, ..piece };
            body.send(Ok(piece)).await.map_err(|_| Stopped::NotTaken)?;
            meter.fetch_add(length, Ordering::Relaxed);
            if last {
                break;
            }
        }
    }
    give(boundary.end(), true).await
}
