//! Feeds the body of a request: for each instance its head, then its payload from the disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::multipart::Boundary;
use crate::dataset::part10::FileMeta;
use crate::forward::archive::open_prepared;
use crate::forward::coerce::{Coerced, Payload};
use crate::forward::courier::Settings;
use crate::forward::pump::{self, Piece};
use crate::forward::verdict::Verdict;
use crate::model::{InstanceId, Uid};
use crate::spool::{Claim, InstanceHeader, Spool};

/// Bytes that are read from the disk at a time.
const PIECE: usize = 128 << 10;

/// Pieces between the pump and the network, beside those of the pump.
pub(super) const AHEAD: usize = 1;

/// An instance on its way.
pub(super) struct Parcel {
    payload: Payload,
    stored: Uid,
    pub(super) meta: FileMeta,
    /// The transfer syntax into which it is converted on the way.
    to: Option<Uid>,
    made_even: bool,
    /// Bytes of its data set, if that is known before.
    pub(super) length: Option<u64>,
}

impl Parcel {
    /// Looks what is to be read of the instance. Blocking.
    ///
    /// # Errors
    /// It cannot be read, or not be changed as the configuration asks for.
    pub(super) fn prepare(claim: &Unpacked, spool: &Spool, settings: &Settings) -> Result<Self, Verdict> {
        let Unpacked { id, header, length, attempts, to } = claim;
        let payload = Payload::prepare(spool, *id, header, &settings.coercions)?;
        let transfer_syntax = to.clone().unwrap_or_else(|| header.transfer_syntax.clone());
        let made_even = pump::made_even(&transfer_syntax, *attempts);
        let length = payload.coerced.as_ref().map_or(*length, |coerced| coerced.proven.length);
        let length = to.is_none().then(|| length + u64::from(made_even && length % 2 == 1));
        let meta = FileMeta {
            sop_class_uid: header.sop_class_uid.clone(),
            sop_instance_uid: header.sop_instance_uid.clone(),
            transfer_syntax,
            source_ae: Some(settings.calling.clone()),
        };
        Ok(Self { payload, stored: header.transfer_syntax.clone(), meta, to: to.clone(), made_even, length })
    }

    /// What is changed in it on the way.
    pub(super) fn coerced(&self) -> Option<Coerced> {
        self.payload.coerced.clone()
    }
}

/// What of a claim is needed to read its payload.
#[derive(Debug, Clone)]
pub(super) struct Unpacked {
    id: InstanceId,
    header: InstanceHeader,
    length: u64,
    attempts: u32,
    to: Option<Uid>,
}

impl Unpacked {
    /// `to` is the transfer syntax into which it is to be converted.
    pub(super) fn of(claim: &Claim, to: Option<Uid>) -> Self {
        let Claim { id, header, length, attempts, .. } = claim;
        Self { id: *id, header: header.clone(), length: *length, attempts: *attempts, to }
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

/// Feeds everything, in order, and counts what of the data sets is taken. The end of the body is sent only after each payload has been read to its verified end;
/// whatever goes wrong before is an error in the body.
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
        let Parcel { payload, stored, meta, to, made_even, .. } = parcel;
        let opened = tokio::task::spawn_blocking(move || open_prepared(&payload, &stored, to.as_ref())).await;
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
