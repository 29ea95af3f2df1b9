//! Sockets to destinations: what is asked of the system beyond its defaults.
//!
//! - **BBR** as congestion control, where the kernel has it. The usual ones take every lost packet for a full link and slow
//!   down: with 300 ms and 1 % of loss cubic uses a twentieth of 10 Mbit/s, BBR most of it. The sender alone decides.
//! - A connection on which nothing happens is asked for a sign of life: a link that is gone must not look like an archive
//!   that thinks. Without one, and where something was sent without an acknowledgement, the system gives up a little later
//!   than the time-out for writing does, because an archive that does not read for a while looks the same to it. Whether
//!   another connection would get through meanwhile is looked at in [`super::beside`].
//! - What is not acknowledged is sent again every two seconds at least, where the kernel can be told so (Linux 6.15). As it
//!   comes, it waits twice as long each time, so that a connection that survived an outage would sleep for as long again.
//! - No more than a little waits in the kernel beyond what is on its way, so that what counts as sent has left, and what is
//!   urgent does not wait behind megabytes.
//!
//! None of it is necessary: where the system refuses, the connection works as it otherwise would.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use log::debug;
use nix::libc;
use nix::sys::socket::sockopt::SetStruct;
use nix::sys::socket::{MsgFlags, send, setsockopt};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream};

/// The congestion control that is asked for.
const BBR: &[u8] = b"bbr";
/// What may wait in the kernel beyond what is on its way, in bytes.
pub(super) const UNSENT: usize = 256 << 10;
/// After so long without an acknowledgement a connection is given up.
const UNACKNOWLEDGED: Duration = Duration::from_secs(90);
/// After so long without anything, a sign of life is asked for.
const SILENCE: Duration = Duration::from_secs(5);
/// And then so often until one comes.
pub const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
/// The longest wait before what is not acknowledged is sent again, at first; [`super::stall`] adapts it.
pub const SENT_AGAIN: Duration = Duration::from_secs(2);

/// `TCP_RTO_MAX_MS`: that longest wait, in milliseconds, at least 1,000.
const TCP_RTO_MAX_MS: libc::c_int = 44;

#[derive(Debug, Clone, Copy)]
struct RtoMax;

nix::setsockopt_impl!(RtoMax, libc::IPPROTO_TCP, TCP_RTO_MAX_MS, u32, SetStruct<'_, u32>);

/// Connects to an address.
///
/// # Errors
/// Those of the system.
pub(super) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    for (option, refused) in prepare(&SockRef::from(&socket)) {
        debug!("the system does not set {option} on a socket: {refused}");
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Why connections to destinations will be slow on a link that loses packets; nothing if they need not be.
#[must_use]
pub fn missing() -> Option<String> {
    let refused = probe().err()?;
    Some(format!(
        "the kernel has no BBR congestion control ({refused}), so a link that loses packets is used badly: load the module \
         tcp_bbr"
    ))
}

fn probe() -> io::Result<()> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address((Ipv4Addr::LOCALHOST, 0).into()),
        socket2::Type::STREAM,
        None,
    )?;
    socket.set_tcp_congestion(BBR)
}

/// Sets what it can; gives what the system refuses.
fn prepare(socket: &SockRef<'_>) -> Vec<(&'static str, io::Error)> {
    let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(SIGN_OF_LIFE);
    let tried = [
        ("TCP_CONGESTION", socket.set_tcp_congestion(BBR)),
        ("TCP_USER_TIMEOUT", socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))),
        ("SO_KEEPALIVE", socket.set_tcp_keepalive(&keepalive)),
        ("TCP_NOTSENT_LOWAT", let_wait(&**socket, UNSENT)),
        ("TCP_RTO_MAX_MS", send_again_within(&**socket, SENT_AGAIN)),
    ];
    tried.into_iter().filter_map(|(option, set)| Some((option, set.err()?))).collect()
}

/// Has the kernel wait no longer than this before it sends again what is not acknowledged.
///
/// # Errors
/// It does not know the option, or the wait is shorter than a second or longer than two minutes.
pub(super) fn send_again_within(socket: &impl AsFd, longest: Duration) -> io::Result<()> {
    Ok(setsockopt(socket, RtoMax, &u32::try_from(longest.as_millis()).unwrap_or(u32::MAX))?)
}

/// Lets no more than so many bytes wait in the kernel beyond what is on its way.
///
/// # Errors
/// Those of the system.
pub(super) fn let_wait(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    SockRef::from(socket).set_tcp_notsent_lowat(u32::try_from(bytes).unwrap_or(u32::MAX))
}

/// Writes without letting what is written later go into the same segment, so that [`let_wait`] holds for every segment:
/// without this the kernel goes on to fill one that waits, up to 64 KiB, however little may wait. Never blocks.
///
/// # Errors
/// Those of the system; `WouldBlock` where nothing more may wait.
pub(super) fn try_write_apart(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let flags = MsgFlags::MSG_EOR | MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    stream.try_io(Interest::WRITABLE, || Ok(send(stream.as_raw_fd(), bytes, flags)?))
}

/// Ends a connection at once: whoever reads or writes is told, nothing that waits in the kernel is sent any more
/// when the descriptor is closed, and the other side gets a reset if there is something.
///
/// # Errors
/// Those of the system: it is closed already.
pub(super) fn abandon(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_linger(Some(Duration::ZERO))?;
    socket.shutdown(Shutdown::Both)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_notices_a_dead_link_and_uses_bbr_where_there_is_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
        assert_eq!(socket.tcp_notsent_lowat().unwrap() as usize, UNSENT);
        let control = socket.tcp_congestion().unwrap();
        let name = control.split(|byte| *byte == 0).next().unwrap();
        assert_eq!(name == BBR, missing().is_none(), "{}", String::from_utf8_lossy(name));
    }
}
