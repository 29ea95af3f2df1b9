//! One C-STORE as the sending side (PS3.4 B.2, PS3.7 9.1.1).

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::pump::Piece;
use crate::association::{Association, AssociationError};
use crate::dimse::{CStore, Command, Response};

/// Why a C-STORE brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The association broke; it is over.
    #[error("{0}")]
    Association(#[from] AssociationError),
    /// The payload could not be read to its verified end; the association must be aborted, the object is half sent.
    #[error("the instance cannot be read from this disk: {0}")]
    Payload(io::Error),
}

/// Sends one instance on an accepted presentation context and waits up to `patience` for the answer; counts the bytes
/// that have left in `sent`. After an error the caller aborts the association.
///
/// # Errors
/// See [`StoreError`].
pub async fn store(
    association: &mut Association,
    context: u8,
    request: CStore,
    pieces: mpsc::Receiver<io::Result<Piece>>,
    sent: &AtomicU64,
    patience: Duration,
) -> Result<Response, StoreError> {
    send(association, context, request, pieces, sent).await?;
    Ok(association.response(patience).await?)
}

/// The same without waiting for the answer.
///
/// The last fragment is sent only when `pieces` says that its piece is the last. An archive that answers
/// before is heard out: only a finished message keeps the association.
///
/// # Errors
/// See [`StoreError`].
pub async fn send(
    association: &mut Association,
    context: u8,
    request: CStore,
    mut pieces: mpsc::Receiver<io::Result<Piece>>,
    sent: &AtomicU64,
) -> Result<(), StoreError> {
    association.send_command(context, &Command::CStore(request)).await?;
    loop {
        let piece = match pieces.recv().await {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Err(StoreError::Payload(error)),
            None => return Err(StoreError::Payload(io::Error::other("the reading ended early"))),
        };
        association.send_data(context, &piece.bytes, piece.last).await?;
        sent.fetch_add(piece.bytes.len() as u64, Ordering::Relaxed);
        if piece.last {
            return Ok(());
        }
    }
}
