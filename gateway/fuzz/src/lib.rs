//! The fuzz targets, and what they share: input cut into pieces, and a peer that says it and then falls silent or goes away.
//! `make fuzz` runs them with libFuzzer; `tests/fuzz.rs` of the gateway runs each of them over what is kept in `corpus`, and
//! over mutants of it.
//!
//! The first two bytes of an input say how the rest is delivered; everything behind them is what a peer sends. So the
//! fuzzer finds out by itself at which borders the code is sensitive.

pub mod acceptor;
pub mod command_set;
pub mod commitment;
pub mod file_meta;
pub mod header_scan;
pub mod pixels;
pub mod query;
pub mod requestor;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;

/// How an input is delivered.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Pieces of this many bytes; never 0.
    pub piece: usize,
    /// After the last byte the peer says nothing more, instead of closing.
    pub falls_silent: bool,
    /// The peer takes so many bytes and no more.
    pub takes: usize,
    /// Four bits that mean something to the target.
    pub variant: u8,
}

/// Splits an input into the manner of its delivery and what is delivered.
#[must_use]
pub fn delivery(input: &[u8]) -> Option<(Manner, &[u8])> {
    let ([how, variant], content) = input.split_first_chunk()?;
    let piece = match how & 0x3F {
        0 => usize::MAX,
        piece => usize::from(piece),
    };
    let takes = if how & 0x40 == 0 { usize::MAX } else { usize::from(variant >> 4) * 64 };
    Some((Manner { piece, falls_silent: how & 0x80 != 0, takes, variant: variant & 0x0F }, content))
}

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    content: Vec<u8>,
    sent: usize,
    manner: Manner,
}

impl Peer {
    /// A peer that sends this, in this manner.
    #[must_use]
    pub fn new(content: &[u8], manner: Manner) -> Self {
        Self { content: content.to_vec(), sent: 0, manner }
    }
}

impl AsyncRead for Peer {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let peer = self.get_mut();
        let rest = &peer.content[peer.sent..];
        if rest.is_empty() && peer.manner.falls_silent {
            // Nobody wakes this up: the clock is paused, and goes on to the next time-out.
            return Poll::Pending;
        }
        let length = rest.len().min(peer.manner.piece).min(buffer.remaining());
        buffer.put_slice(&rest[..length]);
        peer.sent += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let manner = &mut self.get_mut().manner;
        let length = bytes.len().min(manner.piece).min(manner.takes);
        if length == 0 && !bytes.is_empty() {
            return Poll::Pending;
        }
        if manner.takes != usize::MAX {
            manner.takes -= length;
        }
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

thread_local! {
    static RUNTIME: Runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
}

/// Runs a conversation on a runtime whose clock is paused: time-outs take no time.
pub fn in_virtual_time<T>(conversation: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(conversation))
}

/// The moment at which a connection was made, in virtual time.
#[must_use]
pub fn connected() -> std::time::Instant {
    waystation::clock::of_runtime()
}
