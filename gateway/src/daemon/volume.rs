//! Keeps the account of what goes over the link: opens it at the start, and looks after it to the end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::DestinationUrl;
use crate::durable::FileSystem;
use crate::forward::Destination;
use crate::forward::pace::Pace;
use crate::forward::pacer::Pacer;

/// Goes on with what was counted before.
pub(super) async fn open(
    data: &Path,
    link: &Arc<Pace>,
    destinations: &[(DestinationUrl, Arc<Destination>)],
) -> io::Result<Pacer> {
    let (data, link) = (data.to_owned(), Arc::clone(link));
    let destinations: Vec<_> = destinations.iter().map(|(_, destination)| Arc::clone(destination)).collect();
    let opening = tokio::task::spawn_blocking(move || Pacer::open(link, &destinations, &FileSystem::default(), &data));
    opening.await.map_err(|error| io::Error::other(error.to_string()))
}

/// Holds back what leaves, and counts it, until the shutdown.
pub(super) async fn keep(pacer: Pacer, data: PathBuf, shutdown: CancellationToken) -> Result<(), String> {
    pacer.run(Arc::new(FileSystem::default()), &data, shutdown).await;
    Ok(())
}
