//! What a connection leaves in the door book.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::Reception;
use super::door::skew::{INSTANCES, Lateness};
use super::door::{self, Outcome, Request, Tally, Visit, Who};
use crate::clock;
use crate::config::Modality;
use crate::dimse::{Response, Status};
use crate::model::{AeTitle, Timestamp};

/// Who has come, before it is known who it is.
#[derive(Debug)]
pub(super) struct Visitor {
    /// When he came.
    at: Timestamp,
    address: IpAddr,
    tls: bool,
    /// The subject of the client certificate.
    subject: Option<String>,
}

impl Visitor {
    /// Comes now.
    pub(super) fn new(address: IpAddr, tls: bool, subject: Option<String>) -> Self {
        Self { at: clock::wall(), address, tls, subject }
    }

    /// It did not come as far as a decision.
    pub(super) fn failed(&self, request: Option<Request>, sentence: String, reception: &Reception) {
        let calling = request.as_ref().map(|request| request.calling.clone());
        let who = Who::Stranger { calling, address: self.address };
        let visit = self.visit(request, (Outcome::Failed, true, sentence), Tally::default());
        reception.door.with(|book| book.enter(&who, visit, []));
    }

    /// It was refused.
    pub(super) fn refused(
        &self,
        (modality, calling): (Option<&Modality>, &AeTitle),
        request: Request,
        sentence: String,
        reception: &Reception,
    ) {
        let who = door::who(modality, calling, self.address);
        let visit = self.visit(Some(request), (Outcome::Refused, true, sentence), Tally::default());
        reception.door.with(|book| book.enter(&who, visit, []));
    }

    /// It was accepted, and has ended: how, whether that is a problem, and the sentence about it.
    pub(super) fn went(
        &self,
        (modality, calling): (Option<&Modality>, &AeTitle),
        request: Request,
        ended: (Outcome, bool, String),
        brought: Brought,
        reception: &Reception,
    ) {
        let who = door::who(modality, calling, self.address);
        let visit = self.visit(Some(request), ended, brought.tally);
        reception.door.with(|book| book.enter(&who, visit, brought.lateness));
    }

    fn visit(&self, request: Option<Request>, ended: (Outcome, bool, String), tally: Tally) -> Visit {
        let (outcome, problem, sentence) = ended;
        Visit {
            at: self.at,
            ended_at: clock::wall(),
            address: self.address,
            tls: self.tls,
            subject: self.subject.clone(),
            request,
            outcome,
            tally,
            problem,
            sentence,
        }
    }
}

/// What one association brought.
#[derive(Default)]
pub(super) struct Brought {
    pub(super) tally: Tally,
    /// Of the last instances.
    lateness: VecDeque<Lateness>,
}

impl Brought {
    /// An instance was answered.
    pub(super) fn note(&mut self, response: &Response, length: u64, lateness: Option<Lateness>) {
        if response.status == Status::SUCCESS {
            self.tally.stored += 1;
            self.tally.bytes = self.tally.bytes.saturating_add(length);
        } else {
            self.tally.refused += 1;
            self.tally.last_refusal = Some((response.status, response.comment.clone().unwrap_or_default()));
        }
        if self.lateness.len() >= INSTANCES {
            self.lateness.pop_front();
        }
        self.lateness.extend(lateness);
    }
}
