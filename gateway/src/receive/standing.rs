//! Whether who has an association would still be let in: after a reload, and with new authorities and revocation lists.

use std::future::pending;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::server::danger::ClientCertVerifier;
use tokio::sync::watch;

use super::{Reception, admission};
use crate::association::AssociateRequest;
use crate::config::{Admission, Candidate};
use crate::model::AeTitle;
use crate::{clock, tls};

/// What an association was let in with, to be looked at again.
pub(super) struct Standing<'a> {
    calling: AeTitle,
    called: AeTitle,
    address: IpAddr,
    secured: Option<&'a tls::Peer>,
    reception: &'a Reception,
    admission: watch::Receiver<Arc<Admission>>,
    certificates: watch::Receiver<Option<Arc<dyn ClientCertVerifier>>>,
    /// It is a modality, and must be let in as one.
    is_modality: bool,
    /// Nothing has changed since it was looked at. Between the request and this something may have.
    looked_at: bool,
}

impl<'a> Standing<'a> {
    pub(super) fn new(
        request: &AssociateRequest,
        address: IpAddr,
        secured: Option<&'a tls::Peer>,
        reception: &'a Reception,
    ) -> Self {
        Self {
            calling: request.calling_ae.clone(),
            called: request.called_ae.clone(),
            address,
            secured,
            reception,
            admission: reception.admission.changes(),
            certificates: reception.clients.changes(),
            is_modality: true,
            looked_at: false,
        }
    }

    /// The standing of an archive that has come to report: only its certificate can lose it. Destinations change with a
    /// restart.
    pub(super) fn of_an_archive(self) -> Self {
        Self { is_modality: false, ..self }
    }

    /// Waits until it would not be let in any more; the sentence says why. Can be dropped and called again without loss.
    pub(super) async fn lost(&mut self) -> String {
        loop {
            if !self.looked_at {
                if let Some(why) = self.refusal() {
                    return why;
                }
                self.looked_at = true;
            }
            tokio::select! {
                () = change(&mut self.admission) => {}
                () = change(&mut self.certificates) => {}
            }
            self.looked_at = false;
        }
    }

    fn refusal(&self) -> Option<String> {
        let candidate = Candidate {
            calling: &self.calling,
            called: &self.called,
            address: self.address,
            tls: self.secured.is_some(),
            subject: self.secured.and_then(|secured| secured.subject.as_deref()),
        };
        if self.is_modality
            && let Err(refusal) = admission::admit(&self.reception.admission(), &self.reception.aet, &candidate)
        {
            return Some(refusal.to_string());
        }
        let chain = self.secured.map(|secured| secured.chain.as_slice()).unwrap_or_default();
        self.reception.clients.refuse(chain, clock::wall())
    }
}

/// Waits until it has changed since this was ready last. Can be dropped and called again without loss.
async fn change<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        pending().await
    }
}
