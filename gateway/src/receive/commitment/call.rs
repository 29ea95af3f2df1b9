//! The task of storage commitment: judges what is due, and calls modalities to which reports have to go on an
//! association of their own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use log::debug;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::desk::Lease;
use super::judge::Judgement;
use super::report::{self, Report};
use super::{ANSWER, Commitments, Party};
use crate::association::negotiation::COMMITMENT;
use crate::association::{Association, Indication, RequestorSettings};
use crate::clock;
use crate::config::DestinationUrl;
use crate::dataset::transfer_syntax::{EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN};
use crate::dimse::commitment::{Share, WELL_KNOWN_INSTANCE};
use crate::dimse::{Command, NEventReport, Response, Status, StatusClass};
use crate::model::{AeTitle, Uid};

/// How many transactions are judged before whoever can be called is called.
const JUDGED_AT_ONCE: usize = 100;
/// How often the task looks although nothing has happened: what is too old is given up then.
const LOOK: Duration = Duration::from_secs(60);

/// A lease whose report is written.
pub(super) struct Prepared {
    pub(super) lease: Lease,
    pub(super) report: Report,
    /// Of what all reports may hold, until this one is answered.
    _share: Share,
}

impl Commitments {
    /// Judges, calls and gives up until `shutdown`.
    ///
    /// # Errors
    /// The disk or the spool has failed: the process has to end.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) -> Result<(), String> {
        let mut calls = JoinSet::new();
        loop {
            if let Some(reason) = self.failure() {
                return Err(reason);
            }
            // From here on no change is missed.
            let changed = self.desk.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (this, stopping) = (Arc::clone(&self), shutdown.clone());
            tokio::select! {
                // Judging waits for the index, and that waits for room: it is left to its thread, and made again.
                () = shutdown.cancelled() => return Ok(()),
                judged = blocking(move || this.judge_what_is_due(&stopping)) => judged??,
            }
            while let Some(ended) = calls.try_join_next() {
                ended.map_err(|error| format!("a call to a modality was cut short: {error}"))?;
            }
            for modality in self.desk.to_call(clock::now(), |modality| self.address(modality).is_some()) {
                calls.spawn(Arc::clone(&self).call(modality));
            }
            let next = self.desk.next_look(|modality| self.address(modality).is_some());
            let look = clock::now() + LOOK;
            tokio::select! {
                // A call that is under way is dropped: its report is made again after the next start.
                () = shutdown.cancelled() => return Ok(()),
                () = changed => {}
                () = tokio::time::sleep_until(next.map_or(look, |next| next.min(look)).into()) => {}
            }
        }
    }

    fn judge_what_is_due(&self, stopping: &CancellationToken) -> Result<(), String> {
        self.give_up();
        let due = self.desk.to_judge(clock::now(), JUDGED_AT_ONCE);
        if !due.is_empty() {
            // Whatever was acknowledged before these were asked for is in the index then.
            self.spool.settle().map_err(|error| error.to_string())?;
        }
        for number in due {
            if stopping.is_cancelled() {
                return Ok(());
            }
            match self.judge(number) {
                // One that is gone is not asked for again; one that cannot be read now is looked at later.
                Ok(None) => self.desk.judged(number, false, clock::now()),
                Ok(Some((_, judgement))) => self.desk.judged(number, judgement != Judgement::NotYet, clock::now()),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// Where the modality takes reports on an association of their own.
    pub(super) fn address(&self, modality: &Party) -> Option<DestinationUrl> {
        let Party::Modality(name) = modality else { return None };
        self.admission.get().find(name.as_str())?.commitment_to.clone()
    }

    /// Opens an association with the modality and reports everything that is due.
    async fn call(self: Arc<Self>, modality: Party) {
        let failure = self.report_by_call(&modality).await.err();
        if let Some(sentence) = &failure {
            log::warn!(modality:%; "storage commitment cannot be reported: {sentence}");
        }
        self.desk.called(&modality, clock::now(), failure, fastrand::f64());
    }

    async fn report_by_call(self: &Arc<Self>, modality: &Party) -> Result<(), String> {
        let (Some(url), Some(calling)) = (self.address(modality), self.desk.called_by(modality)) else { return Ok(()) };
        let mut association = self.associate(url, calling.clone()).await?;
        let Some((context, transfer_syntax)) = context_for_reports(&association) else {
            association.abort(crate::association::Abort::BY_USER).await;
            return Err("the modality does not accept storage commitment on an association that we open; enable it \
                        there, or remove commitment-to, so that reports wait for an association of its own"
                .to_owned());
        };
        if !association.role(&uid(COMMITMENT)?).scp {
            association.abort(crate::association::Abort::BY_USER).await;
            return Err("the modality accepts storage commitment but not that we report (SCP role); enable role \
                        selection there, or remove commitment-to, so that reports wait for an association of its own"
                .to_owned());
        }
        let mut message_id: u16 = 0;
        while let Some(lease) = self.desk.lease(modality, Some(&calling), clock::now(), false) {
            let Some(prepared) = self.prepare(lease, transfer_syntax.clone()).await? else { continue };
            message_id = message_id.wrapping_add(1);
            let answered = timeout(ANSWER, exchange(&mut association, context, message_id, &prepared.report)).await;
            let answered = answered.unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER.as_secs())));
            if let Err(broken) = self.answered(prepared, answered, false).await {
                association.abort(crate::association::Abort::BY_USER).await;
                return Err(broken);
            }
        }
        if let Err(error) = association.release().await {
            debug!(modality:%; "the release was not answered: {error}");
        }
        Ok(())
    }

    async fn associate(&self, url: DestinationUrl, calling: AeTitle) -> Result<Association, String> {
        let called = match &url {
            DestinationUrl::Dicom(peer) | DestinationUrl::Dicoms(peer) => peer.aet.clone(),
            DestinationUrl::Dicomweb(_) => return Err("reports go over DICOM, not to a web service".to_owned()),
            DestinationUrl::Folder(_) => return Err("reports cannot go to a folder".to_owned()),
        };
        let mut settings = RequestorSettings::new(calling, called);
        settings.timeouts = self.settings.timeouts.clone();
        let class = uid(COMMITMENT)?;
        // Each in a context of its own would leave the choice to nobody; the modality takes the one that it reads.
        let syntaxes = [uid(EXPLICIT_VR_LITTLE_ENDIAN)?, uid(IMPLICIT_VR_LITTLE_ENDIAN)?];
        (self.dial)(url, settings.propose(&class, syntaxes).as_scp(&class)).await
    }

    /// Writes the report of a lease, from a judgement of this moment. Nothing if there is nothing to report now.
    pub(super) async fn prepare(
        self: &Arc<Self>,
        lease: Lease,
        transfer_syntax: Uid,
    ) -> Result<Option<Prepared>, String> {
        let mut share = self.reporting.share();
        if !share.cover(lease.references()) {
            lease.not_now(clock::now());
            return Ok(None);
        }
        let this = Arc::clone(self);
        blocking(move || match this.judge(lease.number()) {
            Ok(Some((transaction, Judgement::Done(verdicts)))) => {
                let report = report::write(&transaction, &verdicts, &transfer_syntax);
                Ok(Some(Prepared { lease, report, _share: share }))
            }
            Ok(Some((_, Judgement::NotYet)) | None) => {
                lease.not_yet(clock::now());
                Ok(None)
            }
            Err(error) => Err(error.to_string()),
        })
        .await?
    }

    /// Notes what came of a report.
    ///
    /// # Errors
    /// There was no answer: the sentence, again.
    pub(super) async fn answered(
        self: &Arc<Self>,
        prepared: Prepared,
        answer: Result<Status, String>,
        own_association: bool,
    ) -> Result<(), String> {
        let Prepared { lease, report, .. } = prepared;
        match answer {
            Ok(status) if matches!(status.class(), StatusClass::Success | StatusClass::Warning) => {
                let this = Arc::clone(self);
                blocking(move || this.reported(lease, &report.told)).await
            }
            Ok(status) => {
                self.not_reported(lease, false, &format!("the modality answered with {status}"));
                Ok(())
            }
            Err(sentence) => {
                self.not_reported(lease, own_association, &sentence);
                Err(sentence)
            }
        }
    }
}

/// The context for reports of an association, and its transfer syntax.
pub(super) fn context_for_reports(association: &Association) -> Option<(u8, Uid)> {
    let of_commitment = |context: &&crate::association::Context| context.abstract_syntax.as_str() == COMMITMENT;
    let context = association.accepted_contexts().iter().find(of_commitment)?;
    Some((context.id, context.transfer_syntax.clone()))
}

/// The request that carries a report.
pub(super) fn command(message_id: u16, report: &Report) -> Result<Command, String> {
    Ok(Command::NEventReport(NEventReport {
        message_id,
        sop_class_uid: uid(COMMITMENT)?,
        sop_instance_uid: uid(WELL_KNOWN_INSTANCE)?,
        event_type: report.event_type,
    }))
}

/// Sends a report and gives the status of its answer. What the modality asks for meanwhile is refused: an association
/// that we have opened is for reports.
async fn exchange(
    association: &mut Association,
    context: u8,
    message_id: u16,
    report: &Report,
) -> Result<Status, String> {
    let failed = |error: crate::association::AssociationError| error.to_string();
    association.post(context, &command(message_id, report)?, &report.information).map_err(failed)?;
    let mut refusals = VecDeque::new();
    loop {
        match association.next().await.map_err(failed)? {
            Indication::Response { response, .. } => return Ok(response.status),
            Indication::Command { context, command } if command.has_content() => refusals.push_back((context, command)),
            Indication::Command { context, command } => {
                let answer = command.refusal().unwrap_or_else(|| Response::to(&command, Status::SUCCESS));
                if !matches!(command, Command::CCancel { .. }) {
                    association.respond(context, &answer).await.map_err(failed)?;
                }
            }
            Indication::Data(_) => {}
            Indication::DataEnd => {
                if let Some((context, command)) = refusals.pop_front() {
                    let refusal = Response::to(&command, Status::UNRECOGNIZED_OPERATION)
                        .with_comment("this association is for reports of storage commitment");
                    association.respond(context, &refusal).await.map_err(failed)?;
                }
            }
            Indication::Released => return Err("the modality released the association instead of answering".to_owned()),
        }
    }
}

fn uid(text: &str) -> Result<Uid, String> {
    text.parse().map_err(|error| format!("{text}: {error}"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| format!("storage commitment was cut short: {error}"))
}
