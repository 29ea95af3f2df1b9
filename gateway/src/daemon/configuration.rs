//! Reads the configuration again: lets in and keeps out whom it names now, and routes by the rules that it has now.

use std::sync::{Arc, Mutex, PoisonError};

use log::{error, info, warn};

use super::standing_warnings;
use crate::clock;
use crate::config::{Config, Findings, Source};
use crate::forward::Destination;
use crate::forward::pace::Pace;
use crate::receive::Reception;

/// The configuration that the gateway runs with, and where it came from.
pub(super) struct Configuration {
    source: Source,
    /// As it was at the start: what cannot change while the gateway runs is still like this.
    started_with: Config,
    reception: Arc<Reception>,
    /// What holds back everything that leaves, and what goes to each destination.
    paces: (Arc<Pace>, Vec<Arc<Destination>>),
    /// What `waystation status` says of the configuration.
    warnings: Arc<Mutex<Vec<String>>>,
}

impl Configuration {
    pub(super) fn new(
        source: Source,
        config: &Config,
        reception: &Arc<Reception>,
        paces: (Arc<Pace>, Vec<Arc<Destination>>),
        warnings: &Arc<Mutex<Vec<String>>>,
    ) -> Self {
        let (reception, warnings) = (Arc::clone(reception), Arc::clone(warnings));
        Self { source, started_with: config.clone(), reception, paces, warnings }
    }

    /// Reads it again and changes who may send, and the rules that decide where it goes. Whatever else has changed is named in the log; what is wrong, or asks for
    /// what is there only after a restart, changes nothing, and stays among the warnings until it is right. Blocking.
    pub(super) fn read_again(&self) -> ReadAgain {
        let read = self.reception.change_admission(|before| {
            let config = self.source.load(clock::wall()).map_err(Unusable::Wrong)?;
            let admission = config.admission_within(&self.started_with, self.source.sockets);
            let admission = admission.map_err(Unusable::Early)?;
            let rules = config.rules_within(&self.started_with).map_err(Unusable::Early)?;
            Ok::<_, Unusable>(((before.changes(&admission), rules, config), admission))
        });
        let (changes, rules, config) = match read {
            Ok(read) => read,
            Err(unusable) => {
                error!("{unusable}");
                self.warn_of_failure(&unusable);
                let of_tls = matches!(&unusable, Unusable::Wrong(findings) if findings.name_tls_files());
                return ReadAgain::Refused { of_tls };
            }
        };
        match changes.is_empty() {
            true => info!("who may send is as before"),
            false => info!(
                "who may send has changed: {}; open associations of those who still may go on as they began",
                changes.join(", ")
            ),
        }
        let count = rules.as_slice().len();
        if self.reception.change_rules(rules) {
            info!("the rules that decide where instances go have changed; there are {count} now");
        }
        self.reshape(&config);
        config.admission.left_out().iter().for_each(|left_out| error!("{left_out}"));
        for warning in &config.warnings {
            warn!(setting = warning.key; "{}. {}", warning.what, warning.remedy);
        }
        let waiting = self.started_with.waiting_for_a_restart(&config);
        if !waiting.is_empty() {
            warn!("changed and waiting for a restart: {}", waiting.join(", "));
        }
        let mut standing = standing_warnings(&config);
        if !waiting.is_empty() {
            standing.push(format!("the configuration has changed in what waits for a restart: {}", waiting.join(", ")));
        }
        *self.warnings.lock().unwrap_or_else(PoisonError::into_inner) = standing;
        ReadAgain::Taken(Box::new(config))
    }

    /// Holds back what leaves as it says now.
    fn reshape(&self, config: &Config) {
        let (link, destinations) = &self.paces;
        let mut changed = Vec::new();
        if link.reshape(config.link.clone()) {
            changed.push("[link]".to_owned());
        }
        for destination in destinations {
            let to = config.destinations.iter().find(|to| to.name == destination.name);
            if to.is_some_and(|to| destination.pace().reshape(to.shaping.clone())) {
                changed.push(format!("[to.{}]", destination.name));
            }
        }
        if !changed.is_empty() {
            info!("how much of the link may be used has changed: {}", changed.join(", "));
        }
    }

    fn warn_of_failure(&self, unusable: &Unusable) {
        const FAILED: &str = "the configuration was read again and cannot be used";
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.retain(|warning| !warning.starts_with(FAILED));
        warnings.push(match unusable {
            Unusable::Wrong(findings) => {
                let problems = findings.list.len();
                format!("{FAILED}: {problems} problems; waystation check-config names them, then reload again")
            }
            Unusable::Early(needs) => format!("{FAILED} without a restart, after which {}", needs.join("; ")),
        });
    }
}

/// What came of reading the configuration again.
pub(super) enum ReadAgain {
    /// It is the one in use.
    Taken(Box<Config>),
    /// It is not, as has been told; `of_tls` says that files for TLS were among the reasons.
    Refused { of_tls: bool },
}

/// Why nothing of a configuration was taken over.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("the new configuration cannot be used, the one from before stays in use:\n{0}")]
    Wrong(Findings),
    #[error(
        "the new configuration cannot be used without a restart, and the one from before stays in use: {}; restart the \
         gateway", .0.join("; ")
    )]
    Early(Vec<String>),
}
