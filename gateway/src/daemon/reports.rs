//! Storage commitment between the parts: its settings, and how a report gets to a modality.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{DaemonError, route};
use crate::association::{RequestorSettings, Timeouts};
use crate::config::{Config, DestinationUrl};
use crate::durable::FileSystem;
use crate::forward::open::Dialer;
use crate::forward::{self, Route};
use crate::metrics::Metrics;
use crate::receive::CurrentAdmission;
use crate::receive::commitment::{self, Commitments, Dial};
use crate::retry::Backoff;
use crate::spool::Spool;
use crate::tls;

/// Takes up what waits for storage commitment.
pub(super) async fn take_up(
    config: &Config,
    spool: &Spool,
    metrics: &Metrics,
    admission: CurrentAdmission,
    dial: Dial,
) -> Result<Arc<Commitments>, DaemonError> {
    let settings = commitment::Settings {
        commitment: config.commitment,
        backoff: Backoff { first: config.retry.first_delay, cap: config.retry.max_delay },
        timeouts: Timeouts { association: config.delivery.connect_timeout, ..Timeouts::default() },
    };
    let data = config.data.clone();
    let (spool, metrics) = (spool.clone(), metrics.clone());
    let opening = tokio::task::spawn_blocking(move || {
        Commitments::open(Arc::new(FileSystem::default()), &data, spool, admission, settings, metrics, dial)
    });
    Ok(opening.await.map_err(|error| io::Error::other(error.to_string()))??)
}

/// How a report gets to a modality on an association of its own; `own` are the addresses on which we listen.
pub(super) fn dial(certificates: Arc<tls::Live>, own: Vec<SocketAddr>) -> Dial {
    let dialer = Dialer::new(&own, Arc::default());
    Arc::new(move |url: DestinationUrl, settings: RequestorSettings| {
        let (certificates, dialer) = (Arc::clone(&certificates), dialer.clone());
        Box::pin(async move {
            let associated = match route(url, None, &certificates).map_err(|error| error.to_string())? {
                Route::Plain(peer) => forward::open::associate(&peer, None, &dialer, &settings).await,
                Route::Tls(peer, current) => {
                    forward::open::associate(&peer, Some(&current.connector()), &dialer, &settings).await
                }
                Route::Web(_) => return Err("reports go over DICOM, not to a web service".to_owned()),
                Route::Folder(_) => return Err("reports cannot go to a folder".to_owned()),
            };
            associated.map_err(|error| error.to_string())
        })
    })
}
