//! Plain traffic to measure the link with, and to put beside what is measured.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use super::counted::float;
use super::namespace::Namespace;
use super::{FAR, Link, NEAR};

/// IP and UDP headers.
const HEADERS: usize = 28;
/// How long somebody waits who may wait for nothing.
const PATIENCE: Duration = Duration::from_millis(200);

fn udp(namespace: &Namespace, address: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = namespace.enter(|| UdpSocket::bind((address, 0)))??;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Runs until it is told to end.
struct Until {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Until {
    fn spawn(work: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&ends);
        Self { ends, thread: Some(std::thread::spawn(move || work(&shared))) }
    }
}

impl Drop for Until {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Round trips of `count` small UDP packets, one after the other; those that were lost are left out.
pub(crate) fn round_trips(link: &Link, count: usize) -> io::Result<Vec<Duration>> {
    let (near, far) = (udp(link.near(), NEAR)?, udp(link.far(), FAR)?);
    near.connect(far.local_addr()?)?;
    let longest = link.settings().up.delay + link.settings().down.delay + PATIENCE * 5;
    near.set_read_timeout(Some(longest))?;
    let _echo = Until::spawn(move |ends| {
        let mut buffer = [0; 64];
        while !ends.load(Ordering::Relaxed) {
            if let Ok((length, from)) = far.recv_from(&mut buffer) {
                drop(far.send_to(&buffer[..length], from));
            }
        }
    });
    let mut times = Vec::new();
    for number in 0..count {
        let began = waystation::clock::now();
        near.send(&number.to_be_bytes())?;
        let mut buffer = [0; 64];
        // One that comes after it was given up is passed over.
        while let Ok(length) = near.recv(&mut buffer) {
            if buffer[..length] == number.to_be_bytes() {
                times.push(began.elapsed());
                break;
            }
        }
    }
    Ok(times)
}

/// Sends UDP packets of 1,500 bytes from near to far at `rate`, faster than the link. Gives what arrived, in bits per
/// second.
pub(crate) fn flood(link: &Link, rate: u64, duration: Duration) -> io::Result<f64> {
    let (near, far) = (udp(link.near(), NEAR)?, udp(link.far(), FAR)?);
    near.connect(far.local_addr()?)?;
    // Behind the queue, and before it runs empty.
    let settle = duration / 3;
    let before = link.now();
    let began = waystation::clock::now();
    let (mut sent, mut buffer) = (0_u64, [0; 1_500]);
    far.set_nonblocking(true)?;
    while began.elapsed() < duration {
        while float(sent) * 12_000.0 < float(rate) * began.elapsed().as_secs_f64() {
            // A full buffer of the device is as good as a full queue.
            drop(near.send(&[0; 1_500 - HEADERS]));
            sent += 1;
        }
        while far.recv(&mut buffer).is_ok() {}
        std::thread::sleep(Duration::from_millis(1));
    }
    let (bytes, time) = link.up().between(before + settle, before + duration, |sample| sample.carried);
    Ok(float(bytes) * 8.0 / time.as_secs_f64())
}

/// Sends over one TCP connection from near to far for a while, as fast as it goes or as it is told to (bits per second of
/// payload). Gives the time of the link when the first byte went.
pub(crate) fn stream(link: &Link, congestion: &str, pace: Option<u64>, duration: Duration) -> io::Result<Duration> {
    let listener = link.far().enter(|| TcpListener::bind((FAR, 0)))??;
    let address = listener.local_addr()?;
    let sink = std::thread::spawn(move || {
        if let Ok((mut stream, _)) = listener.accept() {
            drop(stream.set_read_timeout(Some(Duration::from_secs(10))));
            let mut buffer = vec![0; 1 << 16];
            while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
        }
    });
    let mut stream = link.near().enter(|| TcpStream::connect(address))??;
    setsockopt(&stream, sockopt::TcpCongestion, &congestion.into())?;
    stream.set_nodelay(true)?;
    // What is in the buffer at the end is not waited for.
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let first = link.now();
    let began = waystation::clock::now();
    let mut sent = 0_u64;
    let piece = [0x5a; 1_448];
    while began.elapsed() < duration {
        if pace.is_some_and(|pace| float(sent) * 8.0 > float(pace) * began.elapsed().as_secs_f64()) {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        match stream.write(&piece) {
            Ok(written) => sent += written as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    // Ends it at once, without sending what is left.
    setsockopt(&stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
    drop(stream);
    drop(sink.join());
    Ok(first)
}

/// A flow like that of a call: 50 packets of 500 bytes a second from near to far, 200 kbit/s.
pub(crate) struct Call {
    sender: Option<Until>,
    receiver: Option<Until>,
    received: Arc<std::sync::Mutex<Vec<Heard>>>,
    sent: Arc<std::sync::atomic::AtomicU64>,
    least: Duration,
    made: std::time::Instant,
}

/// One packet of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    /// When it was sent, from the beginning of the call on.
    pub(crate) sent: Duration,
    /// How much longer it took than over an idle link.
    pub(crate) added: Duration,
}

impl Call {
    /// Bits per second.
    pub(crate) const RATE: u64 = 200_000;
    const BYTES: usize = 500;
    const INTERVAL: Duration = Duration::from_millis(20);

    pub(crate) fn begin(link: &Link) -> io::Result<Self> {
        let (near, far) = (udp(link.near(), NEAR)?, udp(link.far(), FAR)?);
        near.connect(far.local_addr()?)?;
        let made = waystation::clock::now();
        let received = Arc::new(std::sync::Mutex::new(Vec::new()));
        let sent = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let way = link.settings().up;
        let least = way.delay + way.time_of(Self::BYTES);
        let into = Arc::clone(&received);
        let receiver = Until::spawn(move |ends| {
            // What is late is to be the link and not this thread.
            super::be_punctual();
            let mut buffer = [0; Self::BYTES];
            while !ends.load(Ordering::Relaxed) {
                if far.recv(&mut buffer).is_ok()
                    && let Some((stamp, _)) = buffer.split_first_chunk()
                {
                    let sent = Duration::from_nanos(u64::from_be_bytes(*stamp));
                    let added = made.elapsed().saturating_sub(sent + least);
                    super::lock(&into).push(Heard { sent, added });
                }
            }
        });
        let counter = Arc::clone(&sent);
        let sender = Until::spawn(move |ends| {
            super::be_punctual();
            let mut packet = [0; Self::BYTES - HEADERS];
            let mut next = Duration::ZERO;
            while !ends.load(Ordering::Relaxed) {
                std::thread::sleep(next.saturating_sub(made.elapsed()));
                let stamp = u64::try_from(made.elapsed().as_nanos()).unwrap_or(u64::MAX);
                packet[..8].copy_from_slice(&stamp.to_be_bytes());
                // What the device does not take is lost.
                drop(near.send(&packet));
                counter.fetch_add(1, Ordering::Relaxed);
                next += Self::INTERVAL;
            }
        });
        Ok(Self { sender: Some(sender), receiver: Some(receiver), received, sent, least, made })
    }

    /// How long it has lasted.
    pub(crate) fn lasted(&self) -> Duration {
        self.made.elapsed()
    }

    /// Ends it. Gives how many packets were sent, and those that were heard.
    pub(crate) fn end(mut self) -> (u64, Vec<Heard>) {
        drop(self.sender.take());
        // The last ones are under way, behind whatever is in the queue.
        std::thread::sleep(self.least + Duration::from_secs(1));
        drop(self.receiver.take());
        (self.sent.load(Ordering::Relaxed), std::mem::take(&mut *super::lock(&self.received)))
    }
}

/// The value that this share of them does not exceed.
pub(crate) fn quantile(values: impl IntoIterator<Item = Duration>, share: f64) -> Duration {
    let mut values: Vec<Duration> = values.into_iter().collect();
    values.sort_unstable();
    let wanted = share * float(values.len() as u64);
    let place = (1..=values.len()).find(|place| float(*place as u64) >= wanted);
    place.and_then(|place| values.get(place - 1)).copied().unwrap_or_default()
}
