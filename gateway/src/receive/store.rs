//! One C-STORE (PS3.4 B.2): from its request to the status of its response.
//!
//! ```text
//! C-STORE-RQ ─▶ room? ─▶ data ─┬─▶ header scan ──┬─▶ agrees? ─▶ commit: one record, one flush ─▶ 0000
//!                  │           └─▶ spool         │      │              │
//!                  A700                          C000   A900 / C000    A700
//! ```
//!
//! The status 0000 is made in [`Store::finish`], from the spool's word that the record is on stable storage, and nowhere
//! else.

use std::net::IpAddr;
use std::sync::Arc;

use log::{debug, error, warn};
use tokio::sync::oneshot;

use super::door::skew::{self, Lateness};
use super::scan::HeaderScan;
use crate::clock;
use crate::dimse::{CStore, Command, Response, Status};
use crate::model::{AeTitle, DestinationName, Priority, Uid};
use crate::routing::{Rules, Subject, Without};
use crate::spool::{Incoming, InstanceHeader, Spool, SpoolError};

/// Who sends the instance.
pub(super) struct Sender {
    pub(super) calling: AeTitle,
    pub(super) called: AeTitle,
    pub(super) address: IpAddr,
    /// What goes first, if the modality has a priority of its own.
    pub(super) priority: Option<Priority>,
    /// Where it goes if no rule says otherwise.
    pub(super) destinations: Vec<DestinationName>,
    /// What decides before that, as it was when the instance began to come.
    pub(super) rules: Arc<Rules>,
}

/// An instance that is being received.
pub(super) struct Store {
    request: CStore,
    transfer_syntax: Uid,
    sender: Sender,
    scan: HeaderScan,
    /// The spool's half; an error once the spool has refused, and the rest is only read over.
    incoming: Result<Incoming, SpoolError>,
    /// The spool knows where the pixels are.
    told: bool,
    length: u64,
}

impl Store {
    pub(super) fn begin(request: CStore, transfer_syntax: Uid, sender: Sender, spool: &Spool) -> Self {
        let scan = HeaderScan::new(&transfer_syntax);
        Self { request, transfer_syntax, sender, scan, incoming: spool.receive(), told: false, length: 0 }
    }

    /// Bytes of the data set so far.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Takes the next bytes of the data set. Blocking: it hashes, compresses, and may write to the disk.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        if let Ok(incoming) = &mut self.incoming {
            self.scan.feed(bytes);
            // The scan is ahead of the spool by these bytes, so it is in time with where the pixels start.
            let image = if self.told { None } else { self.scan.image() };
            self.told |= image.is_some();
            let told = image.map_or(Ok(()), |image| incoming.pixels(&image.layout()));
            if let Err(refused) = told.and_then(|()| incoming.write(bytes)) {
                self.incoming = Err(refused);
            }
        }
    }

    /// The data set is whole as far as the peer says: keeps it, or says why not. Also tells how late it is by its own
    /// account, if it was fit to be kept.
    pub(super) async fn finish(self) -> (Response, Option<Lateness>) {
        let calling = self.sender.calling.clone();
        let instance = self.request.sop_instance_uid.clone();
        let command = Command::CStore(self.request.clone());
        let incoming = match self.incoming {
            Ok(incoming) => incoming,
            Err(refused) => return (refuse(&command, &refused, &calling, &instance), None),
        };
        let scan = self.scan.finish();
        if let Err(refusal) = scan.check(&self.request.sop_class_uid, &self.request.sop_instance_uid) {
            let status = Status(refusal.status);
            warn!(calling:%, instance:%; "instance refused with status {status}: {}", refusal.comment);
            return (Response::to(&command, status).with_comment(&refusal.comment), None);
        }
        let received_at = clock::wall();
        let lateness = scan.made.and_then(|made| skew::lateness(&made, received_at, &clock::zone()));
        let decision = self.sender.rules.decide(
            &Subject {
                calling: &self.sender.calling,
                called: &self.sender.called,
                address: Some(self.sender.address),
                sop_class: &self.request.sop_class_uid,
                transfer_syntax: &self.transfer_syntax,
                dimse_priority: self.request.priority,
                length: scan.length,
                attributes: &scan.attributes,
            },
            Without { destinations: &self.sender.destinations, priority: self.sender.priority },
        );
        let header = InstanceHeader {
            sop_class_uid: self.request.sop_class_uid,
            sop_instance_uid: self.request.sop_instance_uid,
            study_instance_uid: scan.study_instance_uid,
            series_instance_uid: scan.series_instance_uid,
            transfer_syntax: self.transfer_syntax,
            calling_ae: self.sender.calling,
            called_ae: self.sender.called,
            peer: Some(self.sender.address),
            received_at,
            priority: decision.priority,
            modality: scan.modality,
            destinations: decision.destinations,
            rule: decision.rule,
            withheld: decision.withheld,
        };
        let (done, safe) = oneshot::channel();
        // The session may be gone when the flush returns; then nobody is left to be told.
        incoming.commit(header, Box::new(move |committed| drop(done.send(committed))));
        let response = match safe.await {
            Ok(Ok(committed)) => {
                debug!(calling:%, instance:%, id:% = committed.id; "instance is safe");
                Response::to(&command, Status::SUCCESS)
            }
            Ok(Err(refused)) => refuse(&command, &refused, &calling, &instance),
            Err(_) => refuse(&command, &SpoolError::Closed, &calling, &instance),
        };
        (response, lateness)
    }
}

/// The spool could not keep the instance: the modality is told to try again later (PS3.4 B.2.3, out of resources).
fn refuse(command: &Command, refused: &SpoolError, calling: &AeTitle, instance: &Uid) -> Response {
    let comment = match refused {
        SpoolError::NoRoom { .. } => "No room on the gateway's disk; try again later",
        SpoolError::Closed => "The gateway is stopping; try again in a minute",
        _ => "The gateway's disk failed; try again later",
    };
    error!(calling:%, instance:%; "instance refused with status A700: {refused}");
    Response::to(command, Status::OUT_OF_RESOURCES).with_comment(comment)
}
