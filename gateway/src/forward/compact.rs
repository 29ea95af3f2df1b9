//! Fewer bytes for the wire: an instance with native pixels in a transfer syntax in which it is smaller, where the archive
//! takes one ([`crate::pixels`]) and it pays ([`super::benefit`]).
//!
//! ```text
//!  worker: what comes next ──▶ plans ──▶ in the background ──┐ one for each        ┌─▶ cache ──▶ courier: on the wire
//!                                        gives way           ├─ processor, four ───┤     ▲
//!  courier: what is wanted now ──────────────────────────────┘                     └─────┘ until it has arrived
//! ```
//!
//! - What is written is proved equal to the stored data set, frame by frame, while it is written, into a file that has no
//!   name and goes with whoever holds it. What is then read from it is hashed again before its last fragment leaves.
//! - One instance at a time for each processor, four at most, and no more in the whole box: each has a core, a file, and the
//!   memory of a frame or so, and all frames together have the memory of the longest that there may be. Who waits for his
//!   turn has an association of his own, and others send meanwhile.
//! - While instances are on the wire, the next ones of each queue are made smaller in the background (`Workshop::prepare`):
//!   so many and no more, as far as it pays. That gives way to whatever is wanted now, and ends with the gateway.
//! - Results stay in a cache until the instance has arrived everywhere, or is parked: a second attempt, or a second
//!   destination, makes nothing again. The cache has so many bytes and files and no more, and fewer where the disk is full.
//! - In doubt the stored data set leaves as it otherwise would: if the result saves less than a twentieth, if the disk has no
//!   room to spare, if a codec disagrees with itself. Each reason is counted.

mod bench;
mod cache;
mod plans;
mod result;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZero;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use log::{debug, warn};
use nix::sys::statvfs::statvfs;
use tokio_util::sync::CancellationToken;

use self::bench::Benches;
use self::cache::{Bounds, Cache, Key};
use self::plans::{Plan, Plans};
use self::result::Capped;
pub(super) use self::result::Made;
use super::benefit::{Experience, Kind, Measured, WORTH_IT};
use super::coerce::{Coercions, Payload};
use super::destination::Destination;
use crate::clock;
use crate::dataset::transfer_syntax::{
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN as DEFLATED, EXPLICIT_VR_BIG_ENDIAN as BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN as EXPLICIT, IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT,
};
use crate::metrics::Metrics;
use crate::model::{ContentHash, DestinationName, InstanceId, Uid};
use crate::pixels::{self, EncodeError, LeftAlone, Limits};
use crate::spool::{InstanceHeader, Spool, Upcoming};

/// What stays free on the disk beside a result, in bytes.
const TO_SPARE: u64 = 512 << 20;
/// What the cache may have: so many bytes, this part of what is free beyond that, and so many files.
const CACHE: (u64, u64, usize) = (1 << 30, 4, 64);
/// The longest native frame, in bytes: about six times as much memory is taken.
const FRAME: usize = 32 << 20;
/// How much is prepared for one destination: so many instances, and so many bytes as stored, but one in any case.
pub(super) const AHEAD: (usize, u64) = (8, 256 << 20);
/// Instances that are known to leave as stored. One that is forgotten is looked at again.
const REMEMBERED: usize = 4_096;

/// Where results are made and kept. Clones are the same.
#[derive(Clone)]
pub struct Workshop {
    shared: Arc<Shared>,
}

struct Shared {
    folder: PathBuf,
    metrics: Metrics,
    shutdown: CancellationToken,
    /// What stays free on the disk, in bytes.
    spare: u64,
    state: Mutex<State>,
    /// A bench may be free, or a result there.
    changed: Condvar,
    /// Is asked before an instance is encoded, whether that fails.
    #[cfg(test)]
    sabotage: Mutex<Option<Arc<Sabotage>>>,
}

#[cfg(test)]
pub(super) type Sabotage = dyn Fn(InstanceId) -> Option<LeftAlone> + Send + Sync;

struct State {
    /// What is being made.
    benches: Benches,
    /// How many are about to need a bench for an instance that is wanted now.
    wanted: usize,
    cache: Cache<Arc<Made>>,
    /// What leaves as stored although it is accepted otherwise, each with the content of which that was found out.
    left: BTreeMap<InstanceId, ContentHash>,
    experience: Experience,
    plans: Plans<Ahead>,
    /// How many work on the plans.
    preparing: usize,
    /// Destinations for which results are kept.
    served: BTreeSet<DestinationName>,
}

/// What is to be made smaller, for whom.
pub(super) struct Order<'a> {
    pub(super) id: InstanceId,
    pub(super) header: &'a InstanceHeader,
    /// SHA-256 of the stored data set.
    pub(super) hash: ContentHash,
    /// Its length in bytes.
    pub(super) length: u64,
    /// To whom the instance is owed.
    pub(super) owed: &'a DestinationName,
    /// Over whose link it goes.
    pub(super) through: &'a Destination,
    /// The transfer syntaxes that were accepted for it in which it may be smaller.
    pub(super) accepted: &'a [Uid],
}

/// An instance that comes next.
struct Ahead {
    upcoming: Upcoming,
    accepted: Vec<Uid>,
    owed: DestinationName,
    whose: Arc<Whose>,
}

/// What all that comes next at one destination has in common.
struct Whose {
    destination: Arc<Destination>,
    coercions: Coercions,
    spool: Spool,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
enum Why {
    /// The data set is not to be touched, or a codec has failed.
    #[error(transparent)]
    LeftAlone(#[from] LeftAlone),
    #[error("the archive accepts none of the transfer syntaxes in which it may be smaller")]
    NotAccepted,
    #[error("none of the transfer syntaxes that the archive accepts is possible for it")]
    NotPossible,
    /// It is stored in no transfer syntax that could be made smaller.
    #[error("it is compressed already")]
    Compressed,
    #[error("it would not be smaller")]
    NotSmaller,
    #[error("it would hold up the link")]
    DoesNotPay,
    #[error("the disk has no room to spare")]
    NoRoom,
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("the result cannot be written: {0}")]
    Unwritable(io::Error),
    /// It was found out before.
    #[error("it was left alone before")]
    Known,
    /// Something else is wanted now, or nothing any more.
    #[error("it has given way")]
    GaveWay,
}

impl Why {
    /// For counting; nothing if there is nothing to tell, or it has been told, or will be.
    fn name(&self) -> Option<&'static str> {
        match self {
            Self::LeftAlone(why) => Some(why.name()),
            Self::NotAccepted => Some("not_accepted"),
            Self::NotPossible => Some("not_possible"),
            Self::NotSmaller => Some("not_smaller"),
            Self::DoesNotPay => Some("does_not_pay"),
            Self::NoRoom => Some("no_room"),
            Self::Unreadable(_) => Some("unreadable"),
            Self::Unwritable(_) => Some("unwritable"),
            Self::Compressed | Self::Known | Self::GaveWay => None,
        }
    }

    /// Whether it will be the same the next time.
    fn is_final(&self) -> bool {
        matches!(self, Self::LeftAlone(_) | Self::NotSmaller)
    }
}

/// When an instance is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    Soon,
}

/// What came of waiting for a bench.
enum Turn<'a> {
    /// Somebody else has made it meanwhile.
    Made(Arc<Made>),
    Mine(Bench<'a>),
    GiveWay,
    NoRoom,
}

/// Whoever works ahead. If that panics, somebody else may begin.
struct Working<'a>(&'a Shared);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().preparing -= 1;
        }
    }
}

/// An instance is wanted now: nothing else is begun, until it is on a bench or needs none.
struct Wanted<'a>(&'a Shared);

impl<'a> Wanted<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.lock().wanted += 1;
        Self(shared)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.lock().wanted -= 1;
        self.0.changed.notify_all();
    }
}

/// The right to encode, until it is dropped.
struct Bench<'a> {
    shared: &'a Shared,
    key: Key,
    gives_way: Option<Arc<AtomicBool>>,
}

impl Bench<'_> {
    fn is_wanted(&self) -> bool {
        let gives_way = |told: &Arc<AtomicBool>| told.load(Ordering::Relaxed) || self.shared.shutdown.is_cancelled();
        !self.gives_way.as_ref().is_some_and(gives_way)
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        self.shared.lock().benches.end(&self.key);
        self.shared.changed.notify_all();
    }
}

impl std::fmt::Debug for Workshop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workshop").field("folder", &self.shared.folder).finish_non_exhaustive()
    }
}

impl Workshop {
    /// In this folder, of which only the disk matters. With `shutdown` the work ahead ends.
    #[must_use]
    pub fn new(folder: PathBuf, metrics: Metrics, shutdown: CancellationToken) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self::sparing(TO_SPARE, processors, folder, metrics, shutdown)
    }

    /// One that leaves so many bytes free on the disk, and makes so many smaller at a time.
    pub(super) fn sparing(
        spare: u64,
        at_a_time: usize,
        folder: PathBuf,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) -> Self {
        let state = State {
            benches: Benches::new(at_a_time, FRAME),
            wanted: 0,
            cache: Cache::default(),
            left: BTreeMap::new(),
            experience: Experience::default(),
            plans: Plans::default(),
            preparing: 0,
            served: BTreeSet::new(),
        };
        let shared = Shared {
            folder,
            metrics,
            shutdown,
            spare,
            state: Mutex::new(state),
            changed: Condvar::new(),
            #[cfg(test)]
            sabotage: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Results are kept for this destination, too.
    pub(super) fn serve(&self, destination: &DestinationName) {
        self.shared.lock().served.insert(destination.clone());
    }

    /// The instance is no longer owed to this destination, or waits for a person.
    pub(super) fn settled(&self, id: InstanceId, owed: &DestinationName) {
        let mut state = self.shared.lock();
        state.cache.settled(id, owed);
        self.shared.metrics.cached(state.cache.bytes());
    }

    /// These come next in the queue of `owed`, for a destination with these transfer syntaxes for each: they are made
    /// smaller in the background, as long as nothing is wanted now.
    pub(super) fn prepare(
        &self,
        destination: &Arc<Destination>,
        owed: &DestinationName,
        (spool, coercions): (&Spool, &Coercions),
        upcoming: Vec<(Upcoming, Vec<Uid>)>,
    ) {
        let whose = Whose { destination: Arc::clone(destination), coercions: coercions.clone(), spool: spool.clone() };
        let whose = Arc::new(whose);
        let ahead = |(upcoming, accepted): (Upcoming, Vec<Uid>)| {
            let (owed, whose) = (owed.clone(), Arc::clone(&whose));
            (upcoming.id, Ahead { upcoming, accepted, owed, whose })
        };
        let mut state = self.shared.lock();
        // The first is wanted first, and so goes last if room is needed.
        upcoming.iter().rev().for_each(|(upcoming, _)| state.cache.want(upcoming.id));
        state.plans.tell(&destination.name, upcoming.into_iter().map(ahead).collect());
        let bounds = self.shared.bounds(state.cache.bytes());
        state.cache.trim(bounds);
        self.shared.metrics.cached(state.cache.bytes());
        let hands = if state.plans.is_waiting() { state.benches.most() } else { 0 };
        while state.preparing < hands && !self.shared.shutdown.is_cancelled() {
            state.preparing += 1;
            let workshop = self.clone();
            tokio::task::spawn_blocking(move || workshop.work_ahead());
        }
    }

    /// Whether enough is planned for this destination, so that it need not look at its queue.
    pub(super) fn has_plans(&self, destination: &DestinationName) -> bool {
        self.shared.lock().plans.waiting(destination) > AHEAD.0 / 2
    }

    /// Prepares what is planned, until nothing is left of it or the gateway stops.
    fn work_ahead(&self) {
        let _working = Working(&self.shared);
        while let Some(plan) = self.next_plan() {
            let Ahead { upcoming: Upcoming { id, header, hash, length }, accepted, owed, whose } = &plan.what;
            let Ok(payload) = Payload::plan(&whose.spool, *id, header, &whose.coercions) else { continue };
            let (id, hash, length) = (*id, *hash, *length);
            let order = Order { id, header, hash, length, owed, through: &whose.destination, accepted };
            match self.made(&order, &payload, When::Soon) {
                Ok(_) => {}
                Err(Why::GaveWay) => self.shared.lock().plans.put_back(plan),
                Err(why) => self.left_alone(&order, &why, When::Soon),
            }
        }
    }

    /// What is to be prepared next, when nothing is wanted now.
    fn next_plan(&self) -> Option<Plan<Ahead>> {
        let mut state = self.shared.lock();
        loop {
            if self.shared.shutdown.is_cancelled() {
                state.preparing -= 1;
                return None;
            }
            if !state.benches.has_place() || state.wanted > 0 {
                state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let Some(plan) = state.plans.next() else {
                state.preparing -= 1;
                return None;
            };
            // What was prepared is not to make room for what is to be prepared.
            let Bounds { bytes, results } = self.shared.bounds(state.cache.bytes());
            let taken = state.plans.taken();
            let kept = state.cache.bytes_of(&taken).saturating_add(plan.what.upcoming.length);
            if kept <= bytes && taken.len() <= results {
                return Some(plan);
            }
        }
    }

    /// Gives an instance in one of the transfer syntaxes that are accepted, or nothing if it is to leave as it otherwise
    /// would. Blocking.
    pub(super) fn make(&self, order: &Order<'_>, payload: &Payload) -> Option<Arc<Made>> {
        let made = self.made(order, payload, When::Now);
        made.inspect_err(|why| self.left_alone(order, why, When::Now)).ok()
    }

    fn left_alone(&self, order: &Order<'_>, why: &Why, when: When) {
        let id = order.id;
        match why {
            Why::LeftAlone(left) if !left.is_expected() => {
                self.shared.metrics.codec_failed();
                warn!(id:%, why = left.name(); "a codec has failed, so the instance is sent as it is stored: {why}");
            }
            // Whoever sends it as it is stored will find out what is the matter.
            _ => debug!(id:%; "sent in the transfer syntax in which it is stored: {why}"),
        }
        // Of what only comes next, nobody knows yet how it will leave, but for what cannot be changed.
        if let Some(reason) = why.name().filter(|_| when == When::Now || why.is_final()) {
            self.shared.metrics.left_alone(reason);
        }
        if why.is_final() {
            let mut state = self.shared.lock();
            state.left.insert(id, order.hash);
            if state.left.len() > REMEMBERED {
                state.left.pop_first();
            }
        }
    }

    /// The result for an instance: a kept one, or a new one if it pays.
    fn made(&self, order: &Order<'_>, payload: &Payload, when: When) -> Result<Arc<Made>, Why> {
        let Order { id, header, length, accepted, .. } = *order;
        let wanted = (when == When::Now).then(|| Wanted::new(&self.shared));
        let from = &header.transfer_syntax;
        if accepted.is_empty() {
            return Err(if smaller(from).is_empty() { Why::Compressed } else { Why::NotAccepted });
        }
        let content = payload.coerced.as_ref().map_or(order.hash, |coerced| coerced.proven.hash);
        if let Some(made) = self.kept(order, &content, when)? {
            return Ok(made);
        }
        let open = || payload.open().map_err(|error| Why::Unreadable(io::Error::other(error.to_string())));
        let limits = Limits { frame: FRAME };
        let facts = pixels::look(open()?, from).map_err(why)?;
        let candidates = pixels::candidates(&facts, from, &limits);
        let possible = candidates.iter().filter_map(|syntax| accepted.iter().find(|to| to.as_str() == *syntax));
        let kind = Kind::of(header);
        let frame = facts.shape(&limits).map_or(0, |shape| shape.frame());
        let options: Vec<_> = {
            let state = self.shared.lock();
            let at_a_time = f64::from(state.benches.at_a_time(frame));
            let together = |measured: Measured| Measured { speed: measured.speed * at_a_time, ..measured };
            possible.map(|to| (to.clone(), state.experience.of(&kind, to).map(together))).collect()
        };
        if options.is_empty() {
            return Err(Why::NotPossible);
        }
        let to = order.through.choose(&kind, &options, clock::of_runtime()).ok_or(Why::DoesNotPay)?;
        let key = Key::new(id, &content, &to);
        let bench = match self.shared.turn(order, &key, frame, when) {
            Turn::Made(made) => return Ok(self.hit(made, when)),
            Turn::GiveWay => return Err(Why::GaveWay),
            Turn::NoRoom => return Err(Why::NoRoom),
            Turn::Mine(bench) => bench,
        };
        drop(wanted);
        #[cfg(test)]
        if let Some(left) = self.sabotaged(id) {
            return Err(left.into());
        }
        let began = clock::of_runtime();
        let encoded = self.encode(&bench, (payload, from, length), &to, &limits);
        if encoded.is_err() && !bench.is_wanted() {
            return Err(Why::GaveWay);
        }
        let result = match &encoded {
            Ok(made) => Some(made.bytes),
            Err(Why::NotSmaller) => None,
            Err(_) => return encoded,
        };
        let now = clock::of_runtime();
        let took = now.saturating_duration_since(began);
        let mut state = self.shared.lock();
        state.experience.learn(&kind, &to, (length, result), took, now);
        let made = encoded?;
        let concerned = |name: &&DestinationName| state.served.contains(*name) || *name == order.owed;
        let destinations: BTreeSet<_> =
            header.destinations.iter().chain([order.owed]).filter(concerned).cloned().collect();
        let bounds = self.shared.bounds(state.cache.bytes());
        state.cache.put(key, (Arc::clone(&made), made.bytes), destinations, bounds);
        self.shared.metrics.cached(state.cache.bytes());
        if when == When::Soon {
            self.shared.metrics.prepared();
        }
        Ok(made)
    }

    /// A result that is there already.
    fn kept(&self, order: &Order<'_>, content: &ContentHash, when: When) -> Result<Option<Arc<Made>>, Why> {
        let mut state = self.shared.lock();
        if when == When::Now {
            state.plans.claimed(&order.through.name, order.id);
        }
        if state.left.get(&order.id) == Some(&order.hash) {
            return Err(Why::Known);
        }
        let mut accepted = order.accepted.iter();
        let kept = accepted.find_map(|to| state.cache.get(&Key::new(order.id, content, to)));
        drop(state);
        Ok(kept.map(|made| self.hit(made, when)))
    }

    fn hit(&self, made: Arc<Made>, when: When) -> Arc<Made> {
        if when == When::Now {
            self.shared.metrics.cache_hit();
        }
        made
    }

    fn encode(
        &self,
        bench: &Bench<'_>,
        (payload, from, length): (&Payload, &Uid, u64),
        to: &Uid,
        limits: &Limits,
    ) -> Result<Arc<Made>, Why> {
        let open = payload.open().map_err(|error| Why::Unreadable(io::Error::other(error.to_string())))?;
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part"
        )]
        let most = (length as f64 * WORTH_IT) as u64;
        let mut file = self.shared.file().map_err(Why::Unwritable)?;
        pixels::encode(open, from, to, Capped::new(&mut file, most, || bench.is_wanted()), limits).map_err(why)?;
        Made::new(file, to.clone()).map(Arc::new).map_err(Why::Unwritable)
    }
}

#[cfg(test)]
impl Workshop {
    /// Has everything that is to be encoded from now on go through this first.
    pub(super) fn sabotage(&self, sabotage: impl Fn(InstanceId) -> Option<LeftAlone> + Send + Sync + 'static) {
        *self.shared.sabotage.lock().unwrap() = Some(Arc::new(sabotage));
    }

    /// It has made an instance smaller so before: from so many bytes to so many, in so long.
    pub(super) fn teach(&self, kind: &Kind, to: &Uid, bytes: (u64, u64), took: std::time::Duration) {
        let now = clock::of_runtime();
        self.shared.lock().experience.learn(kind, to, (bytes.0, Some(bytes.1)), took, now);
    }

    /// Whether what is being prepared has been told to give way.
    pub(super) fn gives_way(&self) -> bool {
        self.shared.lock().benches.told() > 0
    }

    /// Whether somebody works ahead.
    pub(super) fn is_preparing(&self) -> bool {
        self.shared.lock().preparing > 0
    }

    fn sabotaged(&self, id: InstanceId) -> Option<LeftAlone> {
        let sabotage = self.shared.sabotage.lock().unwrap().clone();
        sabotage.and_then(|sabotage| sabotage(id))
    }
}

fn why(error: EncodeError) -> Why {
    match error {
        EncodeError::LeftAlone(left) => Why::LeftAlone(left),
        EncodeError::Read(error) => Why::Unreadable(error),
        EncodeError::Write(error) if error.kind() == io::ErrorKind::FileTooLarge => Why::NotSmaller,
        EncodeError::Write(error) => Why::Unwritable(error),
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a bench, or for a result that somebody else makes.
    fn turn(&self, order: &Order<'_>, key: &Key, frame: usize, when: When) -> Turn<'_> {
        let mut state = self.lock();
        let ahead: Option<Arc<AtomicBool>> = (when == When::Soon).then(Arc::default);
        loop {
            // It may be on the wire, or there, by now.
            let is_soon = state.plans.has_taken(&order.through.name, order.id) && !self.shutdown.is_cancelled();
            if when == When::Soon && (state.wanted > 0 || !is_soon) {
                return Turn::GiveWay;
            }
            if let Some(made) = state.cache.get(key) {
                return Turn::Made(made);
            }
            if !state.benches.makes(key) {
                if state.benches.is_free_for(frame) {
                    if !self.has_room(order.length.saturating_add(state.benches.bytes())) {
                        return Turn::NoRoom;
                    }
                    state.benches.begin(key.clone(), (frame, order.length), ahead.clone());
                    return Turn::Mine(Bench { shared: self, key: key.clone(), gives_way: ahead });
                }
                if when == When::Now {
                    state.benches.make_room(state.wanted);
                }
            } else if when == When::Now {
                state.benches.keep(key);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What the cache may have, if it has so many bytes now.
    fn bounds(&self, cached: u64) -> Bounds {
        let (most, share, results) = CACHE;
        let free = self.free().unwrap_or(0).saturating_add(cached);
        Bounds { bytes: (free.saturating_sub(self.spare) / share).min(most), results }
    }

    fn has_room(&self, length: u64) -> bool {
        self.free().is_some_and(|free| free >= length.saturating_add(self.spare))
    }

    /// Free bytes on the disk, if it tells.
    fn free(&self) -> Option<u64> {
        statvfs(&self.folder).map(|disk| disk.blocks_available().saturating_mul(disk.fragment_size())).ok()
    }

    /// A file without a name.
    fn file(&self) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(nix::libc::O_TMPFILE).open(&self.folder)
    }
}

/// The transfer syntaxes in which an instance may become smaller that is stored in this one.
pub(super) fn smaller(stored: &Uid) -> &'static [&'static str] {
    match stored.as_str() {
        IMPLICIT | EXPLICIT | BIG_ENDIAN => &[pixels::JPEG_LS, pixels::RLE, DEFLATED],
        DEFLATED => &[pixels::JPEG_LS, pixels::RLE],
        _ => &[],
    }
}
