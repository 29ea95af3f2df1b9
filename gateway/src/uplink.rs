//! Notices that this box may have a way out again: an interface comes up, an address or a default route appears.
//!
//! The kernel tells over rtnetlink (`NETLINK_ROUTE`, rtnetlink(7)), to whoever asks, without rights. What happens behind the
//! next router it does not know; for that, `forward` looks by itself. Where the kernel does not tell, nothing is lost but
//! some seconds.
//!
//! Events come in bursts, and a bad plug makes them without an end. They are told a moment after the first of a burst, and
//! the more often they come the more rarely: once a minute at last ([`Pace`]).

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use log::{debug, warn};
use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, send, socket};
use tokio::net::UnixDatagram;
use tokio_util::sync::CancellationToken;

use crate::clock;

/// What the kernel is asked to tell: changes of links, addresses and routes.
const GROUPS: libc::c_int = libc::RTMGRP_LINK
    | libc::RTMGRP_IPV4_IFADDR
    | libc::RTMGRP_IPV6_IFADDR
    | libc::RTMGRP_IPV4_ROUTE
    | libc::RTMGRP_IPV6_ROUTE;
/// The sequence number of the question which interfaces there are. What the kernel tells by itself has 0.
const QUESTION: u32 = 1;
/// Bytes of the head of a message, and of what they are rounded up to.
const HEAD: usize = 16;
const ALIGNED: usize = 4;
/// More than the kernel tells in one go.
const LONGEST: usize = 64 << 10;

/// How long after an event it is told: an address and a route follow the link.
const SETTLES: Duration = Duration::from_millis(300);
/// The shortest time between two tellings, at first and at last.
const APART: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// After so long without an event the first holds again.
const QUIET: Duration = Duration::from_secs(120);

/// Calls `tell` whenever there may be a way out again, until `shutdown`.
///
/// # Errors
/// None: a kernel that does not tell is said once, in the log.
pub async fn watch(tell: impl Fn(), shutdown: CancellationToken) -> Result<(), String> {
    let ended = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        ended = listen(&tell) => ended,
    };
    if let Err(error) = ended {
        warn!(
            "the kernel does not tell when a link comes up ({error}): destinations that were away are tried a little later"
        );
    }
    shutdown.cancelled().await;
    Ok(())
}

async fn listen(tell: &impl Fn()) -> io::Result<()> {
    let socket = open()?;
    let (mut known, mut pace) = (Interfaces::default(), Pace::default());
    let mut buffer = vec![0; LONGEST];
    loop {
        let due = pace.due();
        let read = tokio::select! {
            read = socket.recv(&mut buffer) => read,
            () = tokio::time::sleep_until(due.unwrap_or_else(clock::of_runtime).into()), if due.is_some() => {
                debug!("an interface, an address or a default route has appeared");
                pace.told(clock::of_runtime());
                tell();
                continue;
            }
        };
        let may_be_back = match read {
            Ok(length) => known.read(buffer.get(..length).unwrap_or_default()),
            // It had more to tell than there was room for.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => true,
            Err(error) => return Err(error),
        };
        if may_be_back {
            pace.happened(clock::of_runtime());
        }
    }
}

/// A socket on which the kernel tells, and has been asked which interfaces there are. Its messages are datagrams, and so it
/// may pass for one of the datagram sockets that the runtime has.
fn open() -> io::Result<UnixDatagram> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS.unsigned_abs()))?;
    send(socket.as_raw_fd(), &question(), MsgFlags::empty())?;
    UnixDatagram::from_std(socket.into())
}

/// Asks which interfaces there are (`RTM_GETLINK`, with a `struct ifinfomsg` of zeros).
fn question() -> Vec<u8> {
    const BODY: usize = 16;
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_DUMP).unwrap_or_default();
    let length = u32::try_from(HEAD + BODY).unwrap_or_default();
    let mut message = Vec::with_capacity(HEAD + BODY);
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    message.extend_from_slice(&QUESTION.to_ne_bytes());
    message.resize(HEAD + BODY, 0);
    message
}

/// Which interfaces carry something.
#[derive(Debug, Default)]
struct Interfaces(HashMap<u32, bool>);

impl Interfaces {
    /// Reads what the kernel tells. Whether there may be a way out that was not there before.
    fn read(&mut self, mut messages: &[u8]) -> bool {
        let mut may_be_back = false;
        while let (Some(length), Some(kind), Some(sequence)) = (word(messages, 0), half(messages, 4), word(messages, 8))
        {
            let length = usize::try_from(length).unwrap_or(usize::MAX).max(HEAD);
            let body = messages.get(HEAD..length).unwrap_or_default();
            may_be_back |= self.is_news(kind, body) && sequence != QUESTION;
            messages = messages.get(length.next_multiple_of(ALIGNED)..).unwrap_or_default();
        }
        may_be_back
    }

    fn is_news(&mut self, kind: u16, body: &[u8]) -> bool {
        match kind {
            libc::RTM_NEWLINK => match (word(body, 4), word(body, 8)) {
                (Some(index), Some(flags)) if !has(flags, libc::IFF_LOOPBACK) => {
                    let carries = has(flags, libc::IFF_UP) && has(flags, libc::IFF_RUNNING);
                    let carried = self.0.insert(index, carries);
                    carries && carried != Some(true)
                }
                _ => false,
            },
            libc::RTM_DELLINK => {
                word(body, 4).map(|index| self.0.remove(&index));
                false
            }
            libc::RTM_NEWADDR => true,
            // A route to everywhere: the length of its prefix is 0.
            libc::RTM_NEWROUTE => body.get(1) == Some(&0),
            _ => false,
        }
    }
}

fn has(flags: u32, flag: libc::c_int) -> bool {
    flags & flag.unsigned_abs() != 0
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// When what has happened is told.
#[derive(Debug, Default)]
struct Pace {
    /// What has happened is to be told then.
    due: Option<Instant>,
    last_event: Option<Instant>,
    last_told: Option<Instant>,
    apart: Duration,
}

impl Pace {
    fn happened(&mut self, now: Instant) {
        if self.last_event.is_none_or(|last| now.saturating_duration_since(last) >= QUIET) {
            self.apart = APART.0;
        }
        self.last_event = Some(now);
        let soonest = self.last_told.map_or(now, |told| told + self.apart);
        self.due.get_or_insert(soonest.max(now + SETTLES));
    }

    fn due(&self) -> Option<Instant> {
        self.due
    }

    fn told(&mut self, now: Instant) {
        (self.due, self.last_told) = (None, Some(now));
        self.apart = self.apart.saturating_mul(2).min(APART.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: libc::c_int = libc::IFF_UP | libc::IFF_RUNNING;

    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEAD + body.len()).unwrap();
        let mut message = [length.to_ne_bytes().as_slice(), &kind.to_ne_bytes(), &[0; 2]].concat();
        message.extend([sequence.to_ne_bytes().as_slice(), &[0; 4], body].concat());
        message.resize(message.len().next_multiple_of(ALIGNED), 0);
        message
    }

    fn link(index: u32, flags: libc::c_int, sequence: u32) -> Vec<u8> {
        let body = [&[0; 4], index.to_ne_bytes().as_slice(), &flags.to_ne_bytes(), &[0; 4]].concat();
        message(libc::RTM_NEWLINK, sequence, &body)
    }

    #[test]
    fn a_cable_that_is_put_in_is_news_and_one_that_is_in_is_not() {
        let mut known = Interfaces::default();
        let there = [link(1, RUNNING | libc::IFF_LOOPBACK, QUESTION), link(2, RUNNING, QUESTION)].concat();
        assert!(!known.read(&there), "what was there before is no news");
        assert!(!known.read(&link(2, RUNNING, 0)), "told once more, as wireless interfaces do");
        assert!(!known.read(&link(2, libc::IFF_UP, 0)), "it is taken out");
        assert!(known.read(&link(2, RUNNING, 0)));
        assert!(!known.read(&link(2, RUNNING, 0)));
        assert!(!known.read(&link(1, RUNNING | libc::IFF_LOOPBACK, 0)));
        assert!(known.read(&link(3, RUNNING, 0)), "a new one, such as a modem");
    }

    #[test]
    fn an_address_and_a_default_route_are_news_and_other_routes_are_not() {
        let mut known = Interfaces::default();
        assert!(known.read(&message(libc::RTM_NEWADDR, 0, &[2, 24, 0, 0, 2, 0, 0, 0])));
        assert!(known.read(&message(libc::RTM_NEWROUTE, 0, &[2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0])));
        assert!(!known.read(&message(libc::RTM_NEWROUTE, 0, &[2, 32, 0, 0, 255, 2, 0, 2, 0, 0, 0, 0])));
        let both = [link(2, libc::IFF_UP, 0), message(libc::RTM_NEWADDR, 0, &[10, 64, 0, 0, 2, 0, 0, 0])].concat();
        assert!(known.read(&both), "the second of two");
    }

    #[test]
    fn what_makes_no_sense_is_no_news_and_comes_to_an_end() {
        let mut known = Interfaces::default();
        for length in 0..=40u8 {
            let noise: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(7)).collect();
            known.read(&noise);
            known.read(&vec![0; usize::from(length)]);
            assert!(!known.read(link(2, RUNNING, 0).get(..usize::from(length).min(27)).unwrap()));
        }
    }

    #[test]
    fn a_bad_plug_is_told_once_a_minute_in_the_long_run() {
        let began = clock::now();
        let (mut pace, mut now, mut told) = (Pace::default(), began, 0);
        while now - began < Duration::from_secs(3_600) {
            now += Duration::from_millis(500);
            pace.happened(now);
            if pace.due().is_some_and(|due| due <= now) {
                pace.told(now);
                told += 1;
            }
        }
        assert!((60..70).contains(&told), "{told} times in an hour");
        if let Some(due) = pace.due() {
            now = due;
            pace.told(now);
        }
        now += QUIET;
        pace.happened(now);
        assert_eq!(pace.due(), Some(now + SETTLES), "after a while it is told at once again");
        pace.told(now + SETTLES);
        assert_eq!(pace.due(), None);
    }

    #[tokio::test]
    async fn the_kernel_answers() {
        let mut buffer = vec![0; LONGEST];
        let length = open().unwrap().recv(&mut buffer).await.unwrap();
        assert_eq!(half(&buffer[..length], 4), Some(libc::RTM_NEWLINK));
        assert!(!Interfaces::default().read(&buffer[..length]));
    }
}
