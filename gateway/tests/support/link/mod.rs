//! A bad link of our own: two network namespaces, a TUN device in each, and a thread for each direction that carries IP
//! packets from one to the other as slowly, as late and as unreliably as it is told to. Real TCP on both sides; no netem.
//!
//! - [`packet`]: whose a packet is. [`outages`]: when the link is there. [`pipe`]: rate, delay, loss and queue, in virtual
//!   time, where all decisions are made. [`counted`]: what is counted. [`namespace`], [`tun`]: the two sides.
//! - [`flows`]: plain traffic to measure it with. This file: the threads, which only read, wait and write.
//!
//! Both sides are as a kernel comes, whatever this machine is set to: CUBIC unless a program asks for something else,
//! buffers up to 4 MiB for sending and 6 MiB for receiving. Nothing but what is started in the namespaces can reach them,
//! and what is in them reaches nothing else. It needs root.
//!
//! The module stands alone, so that benchmarks can use it, too.

pub(crate) mod counted;
pub(crate) mod flows;
pub(crate) mod namespace;
pub(crate) mod outages;
pub(crate) mod packet;
pub(crate) mod pipe;
mod tun;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use counted::Counted;
use namespace::Namespace;
use outages::{Nat, Outages, Schedule};
use pipe::{Pipe, Way};

/// The addresses of the two sides (TEST-NET-1, RFC 5737).
pub(crate) const NEAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The device in each namespace.
const DEVICE: &str = "link0";
const MTU: usize = 1_500;

/// What the link is to be like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Settings {
    /// From near to far.
    pub(crate) up: Way,
    /// From far to near.
    pub(crate) down: Way,
    pub(crate) outages: Option<Outages>,
    pub(crate) seed: u64,
}

impl Settings {
    /// The same in both directions: bits per second, there and back, share of packets lost each way. The queue holds what
    /// the link carries in one round trip, and ten packets at least.
    pub(crate) fn symmetric(rate: u64, round_trip: Duration, loss: f64) -> Self {
        let product = u128::from(rate) * round_trip.as_micros() / 8_000_000;
        let queue = usize::try_from(product).unwrap_or(usize::MAX).max(10 * MTU);
        let way = Way { rate, delay: round_trip / 2, loss, queue };
        Self { up: way, down: way, outages: None, seed: 1 }
    }
}

/// What both threads share.
struct Shared {
    made: Instant,
    schedule: Mutex<Schedule>,
    nat: Mutex<Nat>,
    up: Mutex<Pipe>,
    down: Mutex<Pipe>,
    ends: AtomicBool,
}

impl Shared {
    fn schedule(&self) -> Schedule {
        *lock(&self.schedule)
    }
}

/// A thread that panicked has lost its packets and nothing else.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A link that exists; closed until it is opened.
pub(crate) struct Link {
    near: Namespace,
    far: Namespace,
    settings: Settings,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Link {
    pub(crate) fn new(settings: Settings) -> io::Result<Self> {
        namespace::sweep();
        let (near, near_device) = side("near", NEAR, FAR)?;
        let (far, far_device) = side("far", FAR, NEAR)?;
        let shared = Arc::new(Shared {
            made: waystation::clock::now(),
            schedule: Mutex::new(Schedule { outages: settings.outages, ..Schedule::default() }),
            nat: Mutex::default(),
            up: Mutex::new(Pipe::new(settings.up, settings.seed)),
            down: Mutex::new(Pipe::new(settings.down, !settings.seed)),
            ends: AtomicBool::new(false),
        });
        let (near_device, far_device) = (Arc::new(near_device), Arc::new(far_device));
        let ways = [
            (Arc::clone(&near_device), Arc::clone(&far_device), true),
            (Arc::clone(&far_device), Arc::clone(&near_device), false),
        ];
        let threads = ways.map(|(from, to, is_up)| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("link".to_owned()).spawn(move || {
                let pipe = if is_up { &shared.up } else { &shared.down };
                carry(&from, &to, pipe, &shared);
            })
        });
        let threads = threads.into_iter().collect::<io::Result<_>>()?;
        Ok(Self { near, far, settings, shared, threads })
    }

    /// The side of the clinic.
    pub(crate) fn near(&self) -> &Namespace {
        &self.near
    }

    /// The side of the archive.
    pub(crate) fn far(&self) -> &Namespace {
        &self.far
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The time of the link: everything that is counted is counted in it.
    pub(crate) fn now(&self) -> Duration {
        self.shared.made.elapsed()
    }

    /// Lets packets through from now on, with the outages that there are to be. Gives the time.
    pub(crate) fn open(&self) -> Duration {
        let now = self.now();
        let mut schedule = lock(&self.shared.schedule);
        schedule.opened = Some(now);
        schedule.openings += 1;
        now
    }

    /// Lets nothing through any more, and loses what is under way.
    pub(crate) fn close(&self) {
        lock(&self.shared.schedule).opened = None;
    }

    /// Takes the cable out of the near side, or puts it in: its kernel knows at once.
    pub(crate) fn plug(&self, is_in: bool) -> io::Result<()> {
        self.near.ip(&["link", "set", DEVICE, if is_in { "up" } else { "down" }])
    }

    pub(crate) fn schedule(&self) -> Schedule {
        self.shared.schedule()
    }

    /// What was counted from near to far.
    pub(crate) fn up(&self) -> Counted {
        lock(&self.shared.up).counted.clone()
    }

    /// What was counted from far to near.
    pub(crate) fn down(&self) -> Counted {
        lock(&self.shared.down).counted.clone()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            drop(thread.join());
        }
    }
}

/// A namespace with its device.
fn side(name: &str, own: Ipv4Addr, other: Ipv4Addr) -> io::Result<(Namespace, File)> {
    let namespace = Namespace::new(name)?;
    for (variable, value) in [
        ("ipv6/conf/all/disable_ipv6", "1"),
        ("ipv6/conf/default/disable_ipv6", "1"),
        ("ipv4/tcp_wmem", "4096 16384 4194304"),
        ("ipv4/tcp_rmem", "4096 131072 6291456"),
    ] {
        // A kernel without IPv6 has no variables for it.
        let is_needed = !variable.starts_with("ipv6");
        namespace.set(variable, value).or_else(|error| if is_needed { Err(error) } else { Ok(()) })?;
    }
    use_cubic(&namespace)?;
    let device = namespace.enter(|| tun::open(DEVICE))??;
    namespace.ip(&["address", "add", &own.to_string(), "peer", &other.to_string(), "dev", DEVICE])?;
    namespace.ip(&["link", "set", DEVICE, "mtu", &MTU.to_string(), "up"])?;
    Ok((namespace, device))
}

/// Makes CUBIC the congestion control of those who ask for none. Where another one is the machine's, CUBIC may not be
/// among those that a namespace can choose from; it is put there for the moment that it takes, and by one link at a time,
/// whatever process makes it. (A route could choose it, too, but would overrule what a program has asked for before it
/// connects.)
fn use_cubic(namespace: &Namespace) -> io::Result<()> {
    const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
    let set = || namespace.set("ipv4/tcp_congestion_control", "cubic");
    if set().is_ok() {
        return Ok(());
    }
    let one_at_a_time = File::open(ALLOWED)?;
    one_at_a_time.lock()?;
    let allowed = std::fs::read_to_string(ALLOWED)?;
    std::fs::write(ALLOWED, format!("{} cubic", allowed.trim()))?;
    let done = set();
    std::fs::write(ALLOWED, allowed)?;
    done
}

/// Carries packets in one direction until the link ends.
fn carry(from: &File, to: &File, pipe: &Mutex<Pipe>, shared: &Shared) {
    /// How long it may take until the end is noticed.
    const LONGEST: Duration = Duration::from_millis(50);
    /// Packets that are read before those that are due are looked after again.
    const AT_ONCE: usize = 32;
    be_punctual();
    let mut buffer = [0; 2 * MTU];
    while !shared.ends.load(Ordering::Relaxed) {
        let schedule = shared.schedule();
        let mut pipe = lock(pipe);
        while let Some(packet) = pipe.arrive(shared.made.elapsed(), &schedule) {
            // A device that is down takes nothing: lost, like on a line that is unplugged.
            drop((&*to).write(&packet));
        }
        let mut read = 0;
        while read < AT_ONCE
            && let Ok(length) = (&*from).read(&mut buffer)
            && let Some(packet) = buffer.get(..length)
        {
            pipe.enter(shared.made.elapsed(), packet, &schedule, &mut lock(&shared.nat));
            read += 1;
        }
        let wait = pipe.next_due().map_or(LONGEST, |due| due.saturating_sub(shared.made.elapsed()).min(LONGEST));
        drop(pipe);
        if read < AT_ONCE && !wait.is_zero() {
            // An interrupted wait is a short one.
            let _ = ppoll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], Some(TimeSpec::from(wait)), None);
        }
    }
}

/// Lets this thread go before others, and its timers be exact. Without it the link is less punctual, and no less exact in
/// its rate.
fn be_punctual() {
    // A nanosecond, where the kernel would allow itself 50 µs.
    let _ = nix::sys::prctl::set_timerslack(1);
    let thread = nix::unistd::gettid().to_string();
    let quiet = Stdio::null;
    let mut command = Command::new("chrt");
    command.args(["--fifo", "--pid", "5", &thread]).stdin(quiet()).stdout(quiet()).stderr(quiet());
    drop(command.status());
}
