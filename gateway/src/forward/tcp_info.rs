//! What the kernel knows of a TCP connection (`TCP_INFO`, tcp(7)).

use std::io;
use std::mem::offset_of;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::libc::{self, tcp_info};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::GetStruct;

/// As much of the structure as is read here; Linux has filled all of it since 4.19.
const LENGTH: usize = offset_of!(tcp_info, tcpi_dsack_dups);
/// `TCPI_OPT_TIMESTAMPS`.
const TIMESTAMPS: u8 = 1;
/// `TCP_ESTABLISHED`.
const ESTABLISHED: u8 = 1;
/// `TCP_CA_Loss`.
const LOSS: u8 = 4;

/// The shortest round trip before there was one.
const UNMEASURED: u32 = u32::MAX;

/// The beginning of `struct tcp_info`.
#[derive(Debug, Clone, Copy)]
struct Info;

nix::getsockopt_impl!(Info, libc::IPPROTO_TCP, libc::TCP_INFO, [u8; LENGTH], GetStruct<[u8; LENGTH]>);

/// What the kernel knows of a connection at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// The round trip as it is smoothed.
    pub round_trip: Duration,
    /// The shortest round trip of the last minutes.
    pub shortest_round_trip: Duration,
    /// Since when nothing has been acknowledged.
    pub since_acknowledgement: Duration,
    /// How long an acknowledgement is waited for at the moment before something is sent again.
    pub retransmission_timeout: Duration,
    /// Whether an acknowledgement did not come in time, and what was sent by then has not been acknowledged since.
    pub has_timed_out: bool,
    /// Signs of life that were asked for in vain since something came: by keepalive, or of a peer that takes nothing.
    pub probes: u8,
    /// Whether it stands: neither side has closed it.
    pub is_established: bool,
    /// Bytes in a full segment.
    pub segment: u32,
    /// Segments on the way.
    pub in_flight: u32,
    /// Bytes that wait in the kernel and have not been sent.
    pub unsent: u32,
    /// Bytes that were sent, those sent again included, without headers.
    pub bytes_sent: u64,
    /// Bytes that were sent again.
    pub bytes_repeated: u64,
    /// Bytes that the other side has acknowledged.
    pub bytes_acknowledged: u64,
    /// Bytes that have arrived at the other side as far as it says so: what it acknowledged, and what it has behind a gap.
    /// Reckoned from segments.
    pub bytes_arrived: u64,
    /// Bytes that came, without headers.
    pub bytes_received: u64,
    /// Segments that were sent, of whatever kind.
    pub segments_sent: u32,
    /// Segments that came.
    pub segments_received: u32,
    /// Whether each segment carries timestamps (RFC 7323).
    pub has_timestamps: bool,
}

/// What the kernel knows of a socket.
///
/// # Errors
/// Those of the system: it is not a TCP socket.
pub(super) fn of(socket: &impl AsFd) -> io::Result<TcpInfo> {
    let bytes = getsockopt(socket, Info)?;
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
    let word = |at: usize| u32::from_ne_bytes(part(&bytes, at));
    let long = |at: usize| u64::from_ne_bytes(part(&bytes, at));
    let (sent, repeated) =
        (long(offset_of!(tcp_info, tcpi_bytes_sent)), long(offset_of!(tcp_info, tcpi_bytes_retrans)));
    let acknowledged = long(offset_of!(tcp_info, tcpi_bytes_acked));
    let (segments, delivered) =
        (word(offset_of!(tcp_info, tcpi_data_segs_out)), word(offset_of!(tcp_info, tcpi_delivered)));
    let arrived = arrived((sent, repeated), acknowledged, (segments, delivered));
    let micros = |at| Duration::from_micros(u64::from(word(at)));
    Ok(TcpInfo {
        round_trip: micros(offset_of!(tcp_info, tcpi_rtt)),
        shortest_round_trip: micros(match word(offset_of!(tcp_info, tcpi_min_rtt)) {
            UNMEASURED => offset_of!(tcp_info, tcpi_rtt),
            _ => offset_of!(tcp_info, tcpi_min_rtt),
        }),
        since_acknowledgement: Duration::from_millis(u64::from(word(offset_of!(tcp_info, tcpi_last_ack_recv)))),
        retransmission_timeout: micros(offset_of!(tcp_info, tcpi_rto)),
        has_timed_out: byte(offset_of!(tcp_info, tcpi_ca_state)) == LOSS
            || byte(offset_of!(tcp_info, tcpi_retransmits)) > 0,
        probes: byte(offset_of!(tcp_info, tcpi_probes)),
        is_established: byte(offset_of!(tcp_info, tcpi_state)) == ESTABLISHED,
        segment: word(offset_of!(tcp_info, tcpi_snd_mss)),
        in_flight: word(offset_of!(tcp_info, tcpi_unacked)),
        unsent: word(offset_of!(tcp_info, tcpi_notsent_bytes)),
        bytes_sent: sent,
        bytes_repeated: repeated,
        bytes_acknowledged: acknowledged,
        bytes_arrived: arrived,
        bytes_received: long(offset_of!(tcp_info, tcpi_bytes_received)),
        segments_sent: word(offset_of!(tcp_info, tcpi_segs_out)),
        segments_received: word(offset_of!(tcp_info, tcpi_segs_in)),
        has_timestamps: byte(offset_of!(tcp_info, tcpi_options)) & TIMESTAMPS != 0,
    })
}

/// Bytes that have arrived, of so many sent and so many of them again, if so many are acknowledged and of so many segments so
/// many have been delivered: never fewer than are acknowledged, nor more than there are.
fn arrived((sent, repeated): (u64, u64), acknowledged: u64, (segments, delivered): (u32, u32)) -> u64 {
    let arrived = u128::from(delivered) * u128::from(sent) / u128::from(segments.max(1));
    u64::try_from(arrived).unwrap_or(u64::MAX).min(sent.saturating_sub(repeated)).max(acknowledged)
}

/// Some bytes of a structure, or zeros.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_a_gap_has_arrived() {
        assert_eq!(arrived((20_000, 0), 1_000, (20, 15)), 15_000, "all but five segments, of which the second is lost");
        assert_eq!(arrived((21_000, 1_000), 20_000, (21, 20)), 20_000, "it was sent again, and all is there");
        assert_eq!(arrived((20_500, 0), 20_500, (21, 20)), 20_500, "the request for the connection is none");
        assert_eq!(arrived((1_000, 500), 0, (2, u32::MAX)), 500, "no more than there is");
        assert_eq!(arrived((0, 0), 0, (0, 0)), 0);
    }
}
