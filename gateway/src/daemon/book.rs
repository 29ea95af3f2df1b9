//! Keeps the door book: opens it at the start, saves it now and then, and at the end.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use log::warn;
use tokio_util::sync::CancellationToken;

use super::LAST_MOMENT;
use crate::durable::FileSystem;
use crate::receive::door::keep::Keeper;

/// How often it is saved at most.
const INTERVAL: Duration = Duration::from_secs(30);

/// Opens the book; one that cannot be read is begun anew.
pub(super) async fn open(data: &Path) -> io::Result<Arc<Keeper>> {
    let data = data.to_owned();
    let opening = tokio::task::spawn_blocking(move || Keeper::open(&FileSystem::default(), &data));
    opening.await.map(Arc::new).map_err(|error| io::Error::other(error.to_string()))
}

/// Saves the book now and then until the shutdown. A disk that does not take it is told once, not every time.
pub(super) async fn keep(book: Arc<Keeper>, shutdown: CancellationToken) -> Result<(), String> {
    let mut told = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(INTERVAL) => {}
        }
        match save(Arc::clone(&book)).await {
            Ok(()) => told = false,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    warn!("the notes about callers cannot be saved: {error}; they are kept in memory and tried again");
                }
            }
        }
    }
}

/// Saves the book for the last time, when nobody writes into it any more.
pub(super) async fn save_at_the_end(book: Arc<Keeper>) {
    match tokio::time::timeout(LAST_MOMENT, save(book)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!("the notes about callers could not be saved: {error}"),
        Err(_) => warn!("the notes about callers could not be saved: the disk does not answer"),
    }
}

async fn save(book: Arc<Keeper>) -> io::Result<()> {
    let saving = tokio::task::spawn_blocking(move || book.save(&FileSystem::default()));
    saving.await.map_err(|error| io::Error::other(error.to_string()))?
}
