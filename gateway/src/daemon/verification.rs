//! The questions to destinations after a delivery: what both sides share of them, and a task for each destination.

use std::sync::Arc;

use log::info;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, DestinationUrl, VerifyBy};
use crate::forward::{self, Destination, Route};
use crate::inquiry::{Inquiries, Inquiry};
use crate::metrics::Metrics;
use crate::spool::{Spool, SpoolError};

/// The inquiries of all destinations that are asked by storage commitment.
pub(super) fn inquiries(config: &Config, spool: &Spool, metrics: &Metrics) -> Inquiries {
    let inquiry = |destination: &crate::config::Destination| {
        let verify = destination.verify.filter(|verify| verify.by == VerifyBy::Commitment)?;
        let peer = match &destination.url {
            DestinationUrl::Dicom(peer) => (peer.clone(), false),
            DestinationUrl::Dicoms(peer) => (peer.clone(), true),
            DestinationUrl::Dicomweb(_) | DestinationUrl::Folder(_) => return None,
        };
        Some(Inquiry::new(destination.name.clone(), peer, verify.after, spool.clone(), metrics.clone()))
    };
    Inquiries::new(config.destinations.iter().filter_map(inquiry).collect())
}

/// Lets go of what was to be asked where the configuration does not ask any more.
pub(super) fn waive(config: &Config, spool: &Spool) -> Result<(), SpoolError> {
    for destination in config.destinations.iter().filter(|destination| destination.verify.is_none()) {
        let waived = tokio::task::block_in_place(|| forward::verify::waive(&destination.name, spool))?;
        if waived > 0 {
            info!(destination:% = destination.name, waived; "deliveries need no confirmation any more");
        }
    }
    Ok(())
}

/// The task that asks a destination, and its name; nothing if it is not asked.
pub(super) fn task(
    config: &Config,
    destination: &Arc<Destination>,
    route: &Route,
    settings: &forward::Settings,
    inquiries: &Inquiries,
    (spool, metrics, shutdown): (&Spool, &Metrics, &CancellationToken),
) -> Option<(String, impl Future<Output = Result<(), String>> + use<>)> {
    let configured = config.destinations.iter().find(|configured| configured.name == destination.name)?;
    let verify = configured.verify?;
    let running = forward::verify::run(
        Arc::clone(destination),
        route.clone(),
        verify,
        inquiries.clone(),
        settings.clone(),
        spool.clone(),
        metrics.clone(),
        shutdown.clone(),
    );
    let name = format!("verification of {}", destination.name);
    Some((name, async move { running.await.map_err(|error| error.to_string()) }))
}
