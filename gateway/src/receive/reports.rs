//! Archives that report what they were asked after a delivery (storage commitment, PS3.4 J.3.3), on an association that
//! they open.
//!
//! Let in is who calls by the AE title of a destination with `verify = "commitment"`, calls us by our own, proposes to be
//! the SCP of storage commitment and to store nothing. He gets contexts for reports and for C-ECHO and no others. That is
//! no proof of anything: whether a report counts is decided for each of them, by what it says and where it comes from
//! ([`crate::inquiry`]).

use std::net::SocketAddr;
use std::sync::Arc;

use super::Reception;
use super::admission::{self, Pass, Refusal, Why};
use super::session::Ending;
use super::standing::Standing;
use crate::association::negotiation::brings_reports;
use crate::association::{AssociateRequest, Association, AssociationError, Indication};
use crate::config::Candidate;
use crate::dimse::{Command, Response, Status};
use crate::inquiry::{Inquiry, Origin, Report};
use crate::tls;

/// The pass of an archive that comes to report; nothing if this is none.
///
/// # Errors
/// It is one, and cannot be served.
pub(super) fn pass(
    request: &AssociateRequest,
    candidate: &Candidate<'_>,
    reception: &Reception,
) -> Result<Option<Pass>, Box<Refusal>> {
    if !brings_reports(request) || request.called_ae != reception.aet {
        return Ok(None);
    }
    let inquiries = reception.inquiries.of(&request.calling_ae);
    if inquiries.is_empty() {
        return Ok(None);
    }
    let refuse = |why| Refusal::new(why, candidate, &reception.aet, None);
    admission::identify(&reception.settings, request).map_err(refuse)?;
    let slot = reception.slots.take(candidate.address, None).map_err(|full| refuse(Why::Full(full)))?;
    Ok(Some(Pass { modality: None, inquiries, throttle: None, _slot: slot }))
}

/// Takes reports until the end.
///
/// # Errors
/// The association is over.
pub(super) async fn serve(
    association: &mut Association,
    (peer, secured): (SocketAddr, Option<&tls::Peer>),
    inquiries: &[Arc<Inquiry>],
    reception: &Reception,
) -> Result<Ending, AssociationError> {
    let mut standing = Standing::new(association.request(), peer.ip(), secured, reception).of_an_archive();
    let mut report: Option<(u8, Box<Report>)> = None;
    loop {
        let indication = if report.is_none() {
            tokio::select! {
                biased;
                () = reception.shutdown.cancelled() => return Ok(Ending::Shutdown),
                why = standing.lost() => return Ok(Ending::Dismissed(why)),
                indication = association.next() => indication?,
            }
        } else {
            association.next().await?
        };
        match indication {
            Indication::Command { context, command: Command::NEventReport(request) } => {
                let Some(accepted) = association.context(context) else { continue };
                report = Some((context, Box::new(Report::begin(request, accepted, &reception.inquiries))));
            }
            Indication::Command { context, command } => {
                let answer = match &command {
                    Command::CEcho(_) => Response::to(&command, Status::SUCCESS),
                    Command::CCancel { .. } => continue,
                    _ => command.refusal().unwrap_or_else(|| {
                        let refusal = Response::to(&command, Status::UNRECOGNIZED_OPERATION);
                        refusal.with_comment("this association is for reports of storage commitment")
                    }),
                };
                association.respond(context, &answer).await?;
            }
            Indication::Data(bytes) => {
                if let Some((_, report)) = &mut report {
                    report.write(&bytes);
                }
            }
            Indication::DataEnd => {
                let Some((context, report)) = report.take() else { continue };
                let response = end(report, inquiries, peer, secured).await;
                association.respond(context, &response).await?;
            }
            Indication::Released => return Ok(Ending::Released),
            Indication::Response { .. } => {}
        }
    }
}

/// Brings a report to its end, which waits for the disk.
async fn end(
    report: Box<Report>,
    inquiries: &[Arc<Inquiry>],
    peer: SocketAddr,
    secured: Option<&tls::Peer>,
) -> Response {
    let (inquiries, secured, command) = (inquiries.to_vec(), secured.cloned(), report.command());
    let ending = tokio::task::spawn_blocking(move || {
        report.end(&inquiries, Origin::Caller { address: peer.ip(), secured: secured.as_ref() })
    });
    ending.await.unwrap_or_else(|_| Response::to(&command, Status::PROCESSING_FAILURE))
}
