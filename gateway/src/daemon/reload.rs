//! What changes while the gateway runs: what SIGHUP asks for (`systemctl reload`), and new certificates without being asked.
//!
//! An association keeps what it was accepted with, unless it would not be accepted any more: then it ends at the next
//! instance boundary (`receive::standing`). What is wrong changes nothing, is told once in the journal, and stays among the
//! warnings of `waystation status` until it is right.

use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use sd_notify::NotifyState;
use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::configuration::{Configuration, ReadAgain};
use super::tell;
use crate::clock;
use crate::config::{Config, DestinationUrl};
use crate::forward::Destination;
use crate::tls::{Live, Renewal, TlsFiles};

/// How often the files with certificates are looked at.
const LOOK: Duration = Duration::from_secs(60);

/// How often the journal says what `waystation status` says whenever it is asked.
const REMIND: Duration = Duration::from_secs(24 * 3600);

/// Everything that can be reloaded.
pub(super) struct Reload {
    hangup: Signal,
    configuration: Arc<Configuration>,
    certificates: Arc<Live>,
    files: TlsFiles,
    /// The destinations over TLS, which may be waiting for the very certificate that has come.
    destinations: Vec<Arc<Destination>>,
}

impl Reload {
    /// `hangup` is SIGHUP, caught since the start of the process: it must never end it.
    pub(super) fn new(
        hangup: Signal,
        config: &Config,
        configuration: Configuration,
        certificates: &Arc<Live>,
        destinations: &[(DestinationUrl, Arc<Destination>)],
    ) -> Self {
        let over_tls = destinations.iter().filter(|(url, _)| url.over_tls());
        Self {
            hangup,
            configuration: Arc::new(configuration),
            certificates: Arc::clone(certificates),
            files: config.tls.clone().unwrap_or_default(),
            destinations: over_tls.map(|(_, destination)| Arc::clone(destination)).collect(),
        }
    }

    /// Reloads whenever there is a reason to, until the shutdown.
    pub(super) async fn run(mut self, shutdown: CancellationToken) -> Result<(), String> {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reminders = interval(REMIND);
        reminders.reset();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = self.hangup.recv() => self.asked().await,
                _ = looks.tick() => self.look().await,
                _ = reminders.tick() => self.remind(),
            }
        }
    }

    /// SIGHUP. Each part that can be reloaded is a call between the two words to the service manager.
    async fn asked(&mut self) {
        tell(&reloading());
        info!("asked to reload");
        let told = self.read_the_configuration().await;
        self.renew_certificates(told).await;
        tell(&[NotifyState::Ready]);
    }

    /// Changes who may send. Certificates may have moved to other files; whether it was told already that those are wrong.
    async fn read_the_configuration(&mut self) -> bool {
        let configuration = Arc::clone(&self.configuration);
        match tokio::task::spawn_blocking(move || configuration.read_again()).await {
            Ok(ReadAgain::Taken(config)) => self.files = config.tls.unwrap_or_default(),
            Ok(ReadAgain::Refused { of_tls }) => return of_tls,
            Err(error) => warn!("the configuration could not be read again: {error}"),
        }
        false
    }

    async fn renew_certificates(&self, told: bool) {
        let (certificates, files) = (Arc::clone(&self.certificates), self.files.clone());
        let renewed = tokio::task::spawn_blocking(move || certificates.renew(files)).await;
        match renewed {
            Ok(Renewal::Unchanged) => info!("the certificates are those in use already"),
            Ok(Renewal::Refused(_)) if told => {}
            Ok(renewal) => self.tell_of(renewal),
            Err(error) => warn!("the certificates could not be looked at: {error}"),
        }
    }

    async fn look(&self) {
        let certificates = Arc::clone(&self.certificates);
        match tokio::task::spawn_blocking(move || certificates.look()).await {
            Ok(renewal) => self.tell_of(renewal),
            Err(error) => warn!("the certificates could not be looked at: {error}"),
        }
    }

    fn tell_of(&self, renewal: Renewal) {
        match renewal {
            Renewal::Unchanged => {}
            Renewal::Taken(keys) => {
                info!(files:% = keys.join(", "); "new certificates are in use from the next connection on");
                self.remind();
                self.destinations.iter().for_each(|destination| destination.hasten());
            }
            Renewal::Refused(reason) => {
                warn!("the new TLS files cannot be used, those from before stay in use: {reason}");
            }
        }
    }

    /// What somebody should know of the certificates.
    fn remind(&self) {
        self.certificates.concerns(clock::wall()).iter().for_each(|concern| warn!("{concern}"));
    }
}

/// What a service manager is told before a reload (sd_notify(3)): with the time at which it began, it can tell this one
/// from an earlier one.
fn reloading() -> Vec<NotifyState<'static>> {
    let began = NotifyState::monotonic_usec_now().ok();
    std::iter::once(NotifyState::Reloading).chain(began).collect()
}
