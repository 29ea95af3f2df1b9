//! A connection that changes the runtime that watches it.
//!
//! Connections begin on the runtime that all share. An association gets a thread of its own, and with it a runtime of its
//! own: the system then wakes that thread itself when bytes arrive. Otherwise it would wake a thread of the shared runtime
//! first, which has to get a processor before it can wake the right one; on a small machine with a fast sender that takes
//! as long as receiving a hundred kilobytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A TCP connection below whatever is spoken on it.
#[derive(Debug)]
pub(super) struct Movable {
    /// Gone only if it could not be moved.
    stream: Option<TcpStream>,
    due: Arc<AtomicBool>,
}

/// Asks for the move.
#[derive(Debug)]
pub(super) struct Move(Arc<AtomicBool>);

impl Move {
    /// The next use of the connection moves it to the runtime that it is used in.
    pub(super) fn ask(self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Movable {
    pub(super) fn new(stream: TcpStream) -> (Self, Move) {
        let due = Arc::new(AtomicBool::new(false));
        (Self { stream: Some(stream), due: Arc::clone(&due) }, Move(due))
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if self.due.swap(false, Ordering::Relaxed)
            && let Some(stream) = self.stream.take()
        {
            self.stream = Some(TcpStream::from_std(stream.into_std()?)?);
        }
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Movable {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(task, into)
    }
}

impl AsyncWrite for Movable {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(task)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::runtime::Builder;

    use super::*;

    /// The runtime that a connection came from may be gone: nothing of it is left behind.
    #[test]
    fn a_connection_outlives_the_runtime_that_it_was_moved_from() {
        let runtime = || Builder::new_current_thread().enable_io().build().unwrap();
        let (first, second) = (runtime(), runtime());
        let (mut ours, wish, mut theirs) = first.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let theirs = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut ours, wish) = Movable::new(listener.accept().await.unwrap().0);
            ours.write_all(b"first").await.unwrap();
            (ours, wish, theirs)
        });
        wish.ask();
        second.block_on(async {
            // Nothing has come yet: this registers, and waits on the second runtime.
            let read = async {
                let mut bytes = [0; 6];
                ours.read_exact(&mut bytes).await.unwrap();
                bytes
            };
            let write = async {
                tokio::task::yield_now().await;
                first.shutdown_background();
                std::io::Write::write_all(&mut theirs, b"second").unwrap();
            };
            let (bytes, ()) = tokio::join!(read, write);
            assert_eq!(&bytes, b"second");
            ours.write_all(b"third").await.unwrap();
        });
        drop(ours);
        let mut all = String::new();
        std::io::Read::read_to_string(&mut theirs, &mut all).unwrap();
        assert_eq!(all, "firstthird");
    }
}
