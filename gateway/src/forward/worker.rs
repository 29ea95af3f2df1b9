//! The worker of one destination: waits for work, claims it, hands it to the courier, records what came of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio_util::sync::CancellationToken;

use super::circuit::{self, Circuit};
use super::courier::{Attempt, Bench, Courier, Route, Settings};
use super::destination::{Activity, Destination};
use super::verdict::{Tried, Verdict};
use crate::clock;
use crate::metrics::{Delivery, Metrics};
use crate::model::InstanceId;
use crate::spool::{Claim, Classes, Outcome, Spool, SpoolError};

/// Deliveries that are looked at together: what goes in one request, or what one association is to be good for.
const AHEAD: usize = 16;

/// How long an association without work is kept warm.
const WARM: Duration = Duration::from_secs(5);

/// Instances whose refusals are remembered; one that is forgotten gets its few tries again.
const REMEMBERED: usize = 10_000;

/// Works the destination until `shutdown`; the instance in flight then is finished first.
///
/// # Errors
/// The index of the spool cannot be read any more: the process cannot go on.
pub async fn run(
    destination: Arc<Destination>,
    route: Route,
    settings: Settings,
    spool: Spool,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<(), SpoolError> {
    let courier = Courier::new(route, &settings);
    let circuit = Circuit::new(settings.backoff);
    let bench = Bench { destination, settings, spool, shutdown };
    let mut worker = Worker { bench, courier, circuit, refusals: HashMap::new(), metrics };
    let ended = worker.work().await;
    worker.courier.rest().await;
    ended
}

struct Worker {
    bench: Bench,
    courier: Courier,
    circuit: Circuit,
    /// How often each instance that is waiting has been refused, since the start of the process.
    refusals: HashMap<InstanceId, u32>,
    metrics: Metrics,
}

impl Worker {
    async fn work(&mut self) -> Result<(), SpoolError> {
        while !self.bench.shutdown.is_cancelled() {
            if let Some(until) = self.circuit.closed_before(clock::of_runtime()) {
                self.wait_for_circuit(until).await;
                continue;
            }
            let Bench { spool, destination, .. } = &self.bench;
            let claims = blocking(|| spool.claim(&destination.name, spool.time(), AHEAD, Classes::All))?;
            match claims.is_empty() {
                true => self.wait_for_work().await?,
                false => self.deliver(claims).await,
            }
        }
        Ok(())
    }

    async fn wait_for_circuit(&mut self, until: Instant) {
        self.bench.destination.show(|health| {
            health.activity = Activity::Waiting;
            health.next_attempt = Some(until);
        });
        // Only a request from now on counts: one that came during the attempt was about that attempt.
        let mut hastened = self.bench.destination.hastened.subscribe();
        tokio::select! {
            () = self.bench.shutdown.cancelled() => {}
            () = tokio::time::sleep_until(until.into()) => {}
            _ = hastened.changed() => self.circuit.hasten(),
        }
        self.bench.destination.show(|health| health.next_attempt = None);
    }

    async fn wait_for_work(&mut self) -> Result<(), SpoolError> {
        self.bench.destination.show(|health| health.activity = Activity::Idle);
        let due = blocking(|| self.bench.spool.next_due(&self.bench.destination.name))?;
        let due = due.map(|due| due.until(self.bench.spool.time()));
        let warm = self.courier.is_warm();
        tokio::select! {
            () = self.bench.shutdown.cancelled() => {}
            () = self.bench.destination.queued.notified() => {}
            () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => {}
            () = tokio::time::sleep(WARM), if warm => self.courier.rest().await,
        }
        Ok(())
    }

    async fn deliver(&mut self, claims: Vec<Claim>) {
        let attempt = self.courier.deliver(claims, self.circuit.is_troubled(), &self.bench).await;
        self.bench.destination.show(|health| health.sending = 0);
        match attempt {
            Attempt::Made(verdicts) => self.made(verdicts),
            Attempt::DestinationFailed(sentence) => self.fail(sentence),
            Attempt::Stopped => {}
        }
    }

    /// The destination works if it has taken a position on anything that was handed over.
    fn made(&mut self, verdicts: Vec<(Claim, Verdict)>) {
        let is_answer = |verdict: &Verdict| !matches!(verdict, Verdict::Later { .. });
        match verdicts.last().map(|(_, verdict)| verdict) {
            Some(Verdict::Later { answer }) if !verdicts.iter().any(|(_, verdict)| is_answer(verdict)) => {
                self.stumble(answer);
            }
            Some(_) => self.succeed(),
            None => {}
        }
        verdicts.into_iter().for_each(|(claim, verdict)| self.apply(claim, verdict));
    }

    /// Records what came of one delivery.
    fn apply(&mut self, claim: Claim, verdict: Verdict) {
        let name = &self.bench.destination.name;
        let (id, attempts, length) = (claim.id, claim.attempts, claim.length);
        let refusals = self.refusals.remove(&id).unwrap_or(0);
        if matches!(verdict, Verdict::Refused { .. }) && self.refusals.len() < REMEMBERED {
            self.refusals.insert(id, refusals + 1);
        }
        let warned = matches!(verdict, Verdict::Delivered { warned: true, .. });
        let Settings { backoff, tries, .. } = &self.bench.settings;
        let outcome = verdict.outcome(name, Tried { attempts, refusals }, backoff, *tries, fastrand::f64());
        match &outcome {
            Outcome::Delivered { answer, .. } if warned => {
                self.metrics.delivery(name, Delivery::Warned, length);
                warn!(destination:% = name, id:%; "delivered with a warning: {answer}");
            }
            Outcome::Delivered { .. } => self.metrics.delivery(name, Delivery::Delivered, length),
            Outcome::Retry { answer, .. } => {
                self.metrics.delivery(name, Delivery::Retried, 0);
                info!(destination:% = name, id:%, attempts = attempts + 1; "instance not delivered, again later: {answer}");
            }
            Outcome::Parked { reason } => {
                self.refusals.remove(&id);
                self.metrics.delivery(name, Delivery::Parked, 0);
                warn!(destination:% = name, id:%, attempts = attempts + 1; "instance parked: {reason}");
            }
            Outcome::Released => {}
        }
        blocking(|| self.bench.spool.record(claim, outcome));
    }

    fn succeed(&mut self) {
        if self.circuit.failures() > 0 {
            info!(destination:% = self.bench.destination.name; "the destination works again");
        }
        self.circuit.succeeded();
        self.show_circuit();
    }

    /// The destination cannot be reached, or lets us not in.
    fn fail(&mut self, sentence: String) {
        // The first failure and then every tenth: a month without an archive must not fill the journal.
        if self.circuit.failures().is_multiple_of(10) {
            warn!(destination:% = self.bench.destination.name, failures = self.circuit.failures() + 1; "{sentence}");
        }
        let failure = circuit::Failure { at: clock::wall(), sentence };
        self.circuit.failed(clock::of_runtime(), fastrand::f64(), failure);
        self.show_circuit();
    }

    /// One instance could not be delivered this time.
    fn stumble(&mut self, answer: &str) {
        let sentence = format!("the latest attempt failed, others are made: {answer}");
        let failure = circuit::Failure { at: clock::wall(), sentence };
        self.circuit.stumbled(clock::of_runtime(), fastrand::f64(), failure);
        self.show_circuit();
    }

    fn show_circuit(&self) {
        self.bench.destination.show(|health| {
            health.failures = self.circuit.failures();
            health.troubled = self.circuit.is_troubled();
            health.last_failure = self.circuit.last_failure().cloned();
        });
    }
}

/// Does what may have to wait for the disk.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        // Virtual time has one thread only, which may wait.
        _ => work(),
    }
}
