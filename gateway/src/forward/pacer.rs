//! What looks after all [`Pace`]s: asks the kernel what really went, how long the link took, and the clock on the wall what is
//! allowed; keeps count of the month.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::civil::DateTime;
use log::{info, warn};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::delay::{self, Delay, Took};
use super::destination::Destination;
use super::pace::{Pace, Speed};
use super::wire::Volume;
use crate::clock;
use crate::durable::{self, Disk};
use crate::shaping::{Usage, by_delay};

/// How often the kernel is asked, while connections are open and while none is.
const TICK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// The last seconds.
const OF_LATE: Duration = Duration::from_secs(5);
/// How often what was used is saved at most.
const SAVE: Duration = Duration::from_secs(60);
/// Where it is saved, in the data folder.
const FILE: &str = "volume.json";
/// The longest file that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// What had gone at the last looks.
#[derive(Debug, Default)]
struct Seen {
    /// What had gone in all, at some moments of the last seconds.
    volumes: VecDeque<(Instant, Volume)>,
}

impl Seen {
    /// What has gone of late.
    fn speed(&mut self, volume: Volume, now: Instant) -> Speed {
        let is_old = |at: &Instant, age| now.saturating_duration_since(*at) >= age;
        while self.volumes.len() > 1 && self.volumes.get(1).is_some_and(|(at, _)| is_old(at, OF_LATE)) {
            self.volumes.pop_front();
        }
        let speed = match self.volumes.front() {
            Some((at, before)) => Speed::between(*before, volume, now.saturating_duration_since(*at)),
            None => Speed::default(),
        };
        if self.volumes.back().is_none_or(|(at, _)| is_old(at, OF_LATE / 10)) {
            self.volumes.push_back((now, volume));
        }
        speed
    }
}

/// Looks after all paces.
#[derive(Debug)]
pub struct Pacer {
    whole: Arc<Pace>,
    seen: Seen,
    /// When it was looked last how long the link takes and who waits.
    looked: Option<Instant>,
    followed: Vec<Followed>,
}

#[derive(Debug)]
struct Followed {
    destination: Arc<Destination>,
    seen: Seen,
    delay: Delay,
    /// What had gone at the last look.
    volume: Volume,
    /// Bytes that have got through in all, headers included.
    through: u64,
    /// What had been written until the last look.
    written: u64,
}

/// What is saved.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved {
    /// Of the box.
    link: Usage,
    /// Of each destination.
    to: BTreeMap<String, Usage>,
}

impl Pacer {
    /// Of the box, and of these destinations; goes on with what was saved in the data folder. Blocking.
    #[must_use]
    pub fn open(whole: Arc<Pace>, destinations: &[Arc<Destination>], disk: &dyn Disk, data: &Path) -> Self {
        let saved = load(disk, data);
        whole.state().usage = saved.link;
        let followed = destinations.iter().map(|destination| {
            if let Some(usage) = saved.to.get(destination.name.as_str()) {
                destination.pace().state().usage = usage.clone();
            }
            let destination = Arc::clone(destination);
            Followed {
                destination,
                seen: Seen::default(),
                delay: Delay::default(),
                volume: Volume::default(),
                through: 0,
                written: 0,
            }
        });
        Self { followed: followed.collect(), whole, seen: Seen::default(), looked: None }
    }

    /// Looks at everything once.
    pub(super) fn tick(&mut self, local: DateTime, now: Instant) {
        let (mut whole, mut whole_through, mut whole_took) = (Volume::default(), 0, None::<Took>);
        for one in &mut self.followed {
            let (pace, wires) = (one.destination.pace(), one.destination.wires());
            let (volume, open) = (wires.volume(), wires.open());
            whole.add(volume);
            pace.state().speed = one.seen.speed(volume, now);
            let written = pace.written.load(Ordering::Relaxed);
            let estimated = written.saturating_sub(std::mem::replace(&mut one.written, written));
            let before = std::mem::replace(&mut one.volume, volume);
            let truth = volume.sent.saturating_sub(before.sent);
            // What was written and waits in the kernel counts when it goes: there is little of it.
            pace.correct(truth.cast_signed().saturating_sub(estimated.cast_signed()), now);
            let both = truth.saturating_add(volume.received.saturating_sub(before.received));
            pace.count(both, local);
            self.whole.count(both, local);
            // Of those that are closed the headers are as those of one that is open.
            let arrived = volume.arrived.saturating_sub(before.arrived);
            one.through += open.first().map_or(arrived, |gauge| gauge.on_the_link(arrived));
            let took = one.delay.take(now);
            pace.look(took, one.through, now);
            whole_through += one.through;
            whole_took = whole_took.into_iter().chain(took).min_by_key(|took| took.queue);
        }
        self.whole.state().speed = self.seen.speed(whole, now);
        self.whole.look(whole_took, whole_through, now);
        let whole_changed = self.whole.follow(local, now);
        if whole_changed {
            tell("the link", &self.whole);
        }
        for one in &self.followed {
            let own_changed = one.destination.pace().follow(local, now);
            if own_changed {
                tell(one.destination.name.as_str(), one.destination.pace());
            }
            if whole_changed || own_changed {
                one.destination.queued();
            }
        }
    }

    /// Looks at how long the link takes, where that is followed; gives after how long to look again.
    fn look(&mut self, now: Instant) -> Option<Duration> {
        let since = self.looked.replace(now).map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.whole.look_who_waits(since, now);
        let mut step: Option<Duration> = None;
        for one in &mut self.followed {
            one.destination.pace().look_who_waits(since, now);
            let gauges = one.destination.wires().open();
            let open: Vec<_> = gauges.iter().filter_map(|gauge| Some((gauge.number(), gauge.info()?))).collect();
            let is_long = open.iter().any(|(_, info)| info.shortest_round_trip >= by_delay::LONG);
            let own = match (one.destination.pace(), is_long) {
                (pace, _) if pace.is_courteous() => delay::STEP,
                (pace, is_long) if is_long || pace.is_limited() => delay::LONG_STEP,
                // Nothing follows the delay of a short link, and looked at once in a tick it would seem a long one.
                _ => {
                    one.delay.look(std::iter::empty(), now);
                    gauges.iter().for_each(|gauge| gauge.is_silent(false));
                    continue;
                }
            };
            if !open.is_empty() {
                step = Some(step.map_or(own, |step| step.min(own)));
            }
            one.delay.look(open.into_iter(), now);
            gauges.iter().for_each(|gauge| gauge.is_silent(one.delay.is_silent(gauge.number())));
        }
        step
    }

    /// Waits until the next tick.
    async fn wait(&mut self) {
        let pause = if self.is_anything_open() { TICK.0 } else { TICK.1 };
        let end = clock::of_runtime() + pause;
        loop {
            let now = clock::of_runtime();
            let left = end.saturating_duration_since(now);
            if left.is_zero() {
                return;
            }
            let step = self.look(now).unwrap_or(left);
            tokio::time::sleep(left.min(step)).await;
        }
    }

    fn is_anything_open(&self) -> bool {
        self.followed.iter().any(|one| !one.destination.wires().open().is_empty())
    }

    /// Saves what was used, if it has changed. Blocking.
    fn save(&self, disk: &dyn Disk, data: &Path) -> std::io::Result<()> {
        let mut changed = std::mem::take(&mut self.whole.state().changed);
        let mut saved = Saved { link: self.whole.state().usage.clone(), to: BTreeMap::new() };
        for one in &self.followed {
            let mut state = one.destination.pace().state();
            changed |= std::mem::take(&mut state.changed);
            saved.to.insert(one.destination.name.to_string(), state.usage.clone());
        }
        if !changed {
            return Ok(());
        }
        let written = serde_json::to_vec(&saved).map_err(std::io::Error::other);
        let written = written.and_then(|text| durable::replace(disk, &data.join(FILE), &text));
        if written.is_err() {
            self.whole.state().changed = true;
        }
        written
    }

    /// Looks after them until the shutdown, and saves what was used now and then and at the end.
    pub async fn run(mut self, disk: Arc<dyn Disk>, data: &Path, shutdown: CancellationToken) {
        let mut told = false;
        let mut saved = clock::of_runtime();
        loop {
            let over = shutdown.is_cancelled();
            let now = clock::of_runtime();
            self.tick(local(), now);
            if over || now.saturating_duration_since(saved) >= SAVE {
                saved = now;
                match super::worker::blocking(|| self.save(&*disk, data)) {
                    Ok(()) => told = false,
                    Err(error) if !std::mem::replace(&mut told, true) => {
                        warn!(
                            "how much went over the link cannot be saved: {error}; it is kept in memory and tried again"
                        );
                    }
                    Err(_) => {}
                }
            }
            if over {
                // What is under way is finished, and nobody looks any more whether something comes.
                let wires = self.followed.iter().flat_map(|one| one.destination.wires().open());
                wires.for_each(|gauge| gauge.is_silent(false));
                return;
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.wait() => {}
            }
        }
    }
}

/// Says in the log that something may be begun again, or no longer.
fn tell(what: &str, pace: &Pace) {
    match pace.state().closed {
        Some(closed) => info!("{what}: {closed}; what is under way is finished"),
        None => info!("{what}: open again"),
    }
}

/// The time on the wall.
pub(crate) fn local() -> DateTime {
    clock::wall().instant().unwrap_or(jiff::Timestamp::MAX).to_zoned(clock::zone()).datetime()
}

/// What was saved. What cannot be read is begun anew, with a warning: it is no reason not to start.
fn load(disk: &dyn Disk, data: &Path) -> Saved {
    let path = data.join(FILE);
    let read = durable::read(disk, &path, LONGEST).and_then(|text| match text {
        Some(text) => serde_json::from_slice(&text).map_err(std::io::Error::other),
        None => Ok(Saved::default()),
    });
    read.unwrap_or_else(|error| {
        warn!("{}: {error}; what went over the link this month is counted anew", path.display());
        Saved::default()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use jiff::civil::date;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinSet;

    use super::*;
    use crate::durable::memory::MemoryDisk;
    use crate::forward::pace::Closed;
    use crate::forward::tcp_info::TcpInfo;
    use crate::forward::wire::Wire;
    use crate::shaping::{Rate, Shaping, bucket};

    const NOON: DateTime = date(2026, 11, 28).at(12, 0, 0, 0);
    const RATE: Rate = Rate::of_bits(8_000_000);

    fn limited() -> Shaping {
        Shaping { most: Some(RATE), ..Shaping::default() }
    }

    /// One destination, its pacer, and a port where everything that comes is thrown away.
    async fn ready(own: Shaping, link: Shaping) -> (Arc<Destination>, Pacer, TcpListener) {
        let link = Pace::of_box(link);
        let pace = Pace::of_destination(own, &link);
        let destination = Arc::new(Destination::paced("archive".parse().unwrap(), pace));
        let mut pacer = Pacer::open(link, &[Arc::clone(&destination)], &MemoryDisk::new(), Path::new("/data"));
        pacer.tick(NOON, clock::of_runtime());
        (destination, pacer, TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    async fn connect(destination: &Destination, listener: &TcpListener, urgent: bool) -> Wire {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut there, _) = listener.accept().await.unwrap();
        tokio::spawn(async move { while there.read(&mut [0; 65_536]).await.is_ok_and(|count| count > 0) {} });
        Wire::new(stream, destination.wires(), &Arc::new(AtomicBool::new(urgent))).unwrap()
    }

    /// How long it takes, by the timers, to write so much over each.
    async fn write(wires: Vec<Wire>, bytes: usize) -> Duration {
        let began = clock::of_runtime();
        let mut writing = JoinSet::new();
        for mut wire in wires {
            writing.spawn(async move {
                wire.write_all(&vec![0; bytes]).await.unwrap();
                wire
            });
        }
        writing.join_all().await;
        clock::of_runtime().saturating_duration_since(began)
    }

    #[tokio::test(start_paused = true)]
    async fn many_connections_keep_one_rate_whether_it_is_theirs_or_that_of_the_box() {
        for (own, link) in [(limited(), Shaping::default()), (Shaping::default(), limited())] {
            let (destination, _pacer, listener) = ready(own, link).await;
            let mut wires = Vec::new();
            for _ in 0..8 {
                wires.push(connect(&destination, &listener, false).await);
            }
            // A megabyte in all, in a second, and its headers.
            let took = write(wires, 125_000).await;
            assert!(took >= Duration::from_secs(1) - bucket::SLACK, "{took:?}");
        }
    }

    /// BBR lets next to nothing leave for a moment every ten seconds; what had been written by then went in a burst after it.
    #[tokio::test(start_paused = true)]
    async fn beside_a_rate_no_more_than_what_is_asked_for_at_once_waits_in_the_kernel() {
        let (destination, _pacer, listener) = ready(limited(), Shaping::default()).await;
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket2::SockRef::from(&socket).set_tcp_mss(1_000).unwrap();
        let stream = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        let (_deaf, _) = listener.accept().await.unwrap();
        let mut wire = Wire::new(stream, destination.wires(), &Arc::default()).unwrap();
        let writing = tokio::spawn(async move { wire.write_all(&vec![0; 64 << 20]).await });
        let gauge = Arc::clone(&destination.wires().open()[0]);
        let is_stuck = |info: &TcpInfo| info.unsent > 0 && info.in_flight == 0;
        while !gauge.info().is_some_and(|info| is_stuck(&info)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        let info = gauge.info().unwrap();
        let portion = destination.pace().portion(usize::MAX, info.segment.try_into().unwrap());
        assert!(is_stuck(&info) && info.unsent as usize <= portion && !writing.is_finished(), "{portion}: {info:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_urgent_is_not_held_back_where_it_may_overrule() {
        for (urgent_overrules, at_once) in [(true, true), (false, false)] {
            let (destination, _pacer, listener) =
                ready(Shaping { urgent_overrules, ..limited() }, Shaping::default()).await;
            let wire = connect(&destination, &listener, true).await;
            let granted = destination.pace().grant(1_000_000, true, clock::of_runtime());
            assert!(granted <= clock::of_runtime());
            let again = destination.pace().grant(1, true, clock::of_runtime());
            assert_eq!(again <= clock::of_runtime(), at_once);
            assert!(destination.pace().grant(1, false, clock::of_runtime()) > clock::of_runtime(), "others wait");
            drop(wire);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_when_the_link_is_closed_is_finished_at_the_rate_that_held_before() {
        let hours = vec!["sat 13:00-14:00 closed".parse().unwrap()];
        let (destination, mut pacer, listener) = ready(Shaping { hours, ..limited() }, Shaping::default()).await;
        let wire = connect(&destination, &listener, false).await;
        assert_eq!(destination.pace().closed(false), None);
        pacer.tick(date(2026, 11, 28).at(13, 0, 0, 0), clock::of_runtime());
        let until = Some(date(2026, 11, 28).at(14, 0, 0, 0));
        assert_eq!(destination.pace().closed(true), Some(Closed::Hours { until }));
        assert_eq!(destination.pace().standing(NOON).rate, Some(RATE));
        write(vec![wire], 100_000).await;
        pacer.tick(date(2026, 11, 28).at(14, 0, 0, 0), clock::of_runtime());
        assert_eq!(destination.pace().closed(false), None);
        // Another configuration counts from the next look on.
        assert!(destination.pace().reshape(Shaping::default()) && !destination.pace().reshape(Shaping::default()));
        pacer.tick(NOON, clock::of_runtime());
        assert_eq!(destination.pace().standing(NOON).rate, None);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_full_while_somebody_nearly_always_waits_here_or_above() {
        for (own, link) in [(limited(), Shaping::default()), (Shaping::default(), limited())] {
            let (destination, pacer, _listener) = ready(own, link).await;
            let (pace, step) = (destination.pace(), Duration::from_millis(20));
            let mut now = clock::of_runtime();
            let mut pass = |looks: usize, bytes: u64| {
                for _ in 0..looks {
                    now += step;
                    pace.grant(bytes, false, now);
                    pacer.whole.look_who_waits(step, now);
                    pace.look_who_waits(step, now);
                }
                pace.is_full()
            };
            // A megabyte goes in a second: 20,000 bytes in each step.
            assert!(!pass(500, 10_000), "nobody waits");
            assert!(!pass(50, 40_000), "not for long");
            assert!(pass(500, 40_000));
            assert!(!pass(2_000, 10), "what waited has gone");
        }
    }

    /// What leaves the box over any link gives way, however well a destination's own link is known.
    #[tokio::test(start_paused = true)]
    async fn a_box_that_lets_others_come_first_holds_a_destination_back_that_fills_its_link() {
        let courteous = Shaping { courteous: Some(Duration::from_millis(50)), ..Shaping::default() };
        let (destination, pacer, _listener) = ready(Shaping::default(), courteous).await;
        let pace = destination.pace();
        assert!(pace.is_courteous() && pace.is_limited());
        let rate = pacer.whole.standing(NOON).rate.unwrap();
        let now = clock::of_runtime();
        pace.grant(rate.bits() / 8, false, now);
        assert!(pace.grant(1, false, now) >= now + Duration::from_millis(990), "a second's worth goes in a second");
        assert_eq!((pace.standing(NOON).rate, pace.standing(NOON).carries), (None, None));
    }

    #[tokio::test]
    async fn what_was_used_is_saved_and_gone_on_with_and_a_file_that_cannot_be_read_stops_nothing() {
        let (disk, data) = (MemoryDisk::new(), Path::new("/data"));
        let (destination, mut pacer, listener) = ready(Shaping::default(), Shaping::default()).await;
        let wire = connect(&destination, &listener, false).await;
        write(vec![wire], 100_000).await;
        pacer.tick(NOON, clock::of_runtime());
        let used = destination.pace().standing(NOON).used;
        assert!(used > 100_000 && pacer.whole.standing(NOON).used == used, "{used}");
        pacer.save(&disk, data).unwrap();
        let again = |disk: &MemoryDisk| {
            let link = Pace::of_box(Shaping::default());
            let pace = Pace::of_destination(Shaping::default(), &link);
            let destination = Arc::new(Destination::paced("archive".parse().unwrap(), pace));
            let pacer = Pacer::open(link, &[Arc::clone(&destination)], disk, data);
            (pacer.whole.standing(NOON).used, destination.pace().standing(NOON).used)
        };
        assert_eq!(again(&disk), (used, used));
        durable::replace(&disk, &data.join(FILE), b"{").unwrap();
        assert_eq!(again(&disk), (0, 0));
    }
}
