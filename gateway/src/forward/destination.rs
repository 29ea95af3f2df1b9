//! One destination as the rest of the process sees it: what it is doing, and how to tell it that there is work.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use log::debug;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use super::benefit::{Benefit, Kind, Link, Measured};
use super::circuit;
use super::flow::Flow;
use super::goodput::Goodput;
use super::pace::Pace;
use super::wire::{Cuts, Wires};
use crate::model::{DestinationName, InstanceId, Uid};

/// Instances whose obstacles are shown.
const OBSTACLES: usize = 8;
/// Kinds of instances of which it is known in what an archive accepts them: as many as one association can be about.
const KINDS: usize = 128;
/// For how long a transfer syntax is not used in which an archive has refused what it then took as stored.
const SHUNNED: Duration = Duration::from_secs(24 * 3_600);
/// For how long one C-STORE at a time goes over an association with an archive that does not seem to bear several.
const ONE_AT_A_TIME: Duration = Duration::from_secs(600);

/// What a destination is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// Nothing waits, or nothing is due yet.
    Idle,
    /// Building the connection or the association.
    Connecting,
    /// Sending.
    Sending,
    /// The last attempt failed; waiting for the next.
    Waiting,
    /// Deliveries are kept for it, but the configuration does not name it.
    NotConfigured,
}

/// One destination: what others may ask of it and tell it.
#[derive(Debug)]
pub struct Destination {
    /// Its name in the configuration.
    pub name: DestinationName,
    health: watch::Sender<Health>,
    pub(super) queued: Notify,
    /// An instance is on the wire now, so that there is time for what comes next.
    pub(super) moving: Notify,
    /// Whether it has answered since it was in trouble: an association stands.
    pub(super) answers: AtomicBool,
    /// There may be something to ask about.
    pub(super) delivered: Notify,
    /// How often somebody has asked for an attempt at once.
    pub(super) hastened: watch::Sender<u64>,
    /// How often something has shown that the link may be there again.
    pub(super) back: watch::Sender<u64>,
    /// While its worker waits because it could not be reached: the how manieth failure in a row that was.
    pub(super) away: watch::Sender<Option<u32>>,
    /// Since when it has failed without a success in between.
    failing: watch::Sender<Option<Instant>>,
    under_way: Mutex<Vec<UnderWay>>,
    wires: Arc<Wires>,
    /// Whether it pays to make instances smaller for it.
    benefit: Mutex<Benefit>,
    /// In which smaller transfer syntaxes the latest association that was about a kind accepts it.
    accepted: Mutex<BTreeMap<Kind, Vec<Uid>>>,
    /// In which of them it has refused it all the same, and until when that is believed.
    shunned: Mutex<BTreeMap<(Kind, Uid), Instant>>,
    /// Until when no association with it is to have several C-STORE outstanding.
    one_at_a_time: Mutex<Option<Instant>>,
}

/// An attempt that is under way.
#[derive(Debug)]
struct UnderWay {
    /// Where the bytes are counted that leave.
    meter: Weak<AtomicU64>,
    /// How many they will be.
    expected: u64,
}

impl UnderWay {
    fn sent(&self) -> Option<u64> {
        self.meter.upgrade().map(|meter| meter.load(Ordering::Relaxed))
    }

    fn left(&self) -> Option<u64> {
        self.sent().map(|sent| self.expected.saturating_sub(sent))
    }
}

/// How much smaller the instances were that left than they are on this disk. Since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gain {
    /// Bytes of the instances that were delivered, as they are stored.
    pub stored: u64,
    /// Bytes that have left for them.
    pub sent: u64,
}

/// What a destination is doing, as far as others may see.
#[derive(Debug, Clone)]
pub struct Health {
    /// What its worker is doing.
    pub activity: Activity,
    /// Failures of the destination in a row.
    pub failures: u32,
    /// Whether the latest attempt went wrong.
    pub troubled: bool,
    /// The latest failure.
    pub last_failure: Option<circuit::Failure>,
    /// When the next attempt is made, while the circuit is open.
    pub next_attempt: Option<Instant>,
    /// Associations, or connections, that are open or being opened.
    pub associations: u64,
    /// Deliveries being sent.
    pub sending: u64,
    /// Bytes of the data sets being sent.
    pub sending_bytes: u64,
    /// How fast instances have got there of late, each on its association.
    pub goodput: Goodput,
    /// What the link has carried of late, over all associations.
    pub flow: Flow,
    /// The same of the instances alone that left as they are stored.
    pub flow_as_stored: Flow,
    /// What was saved by making instances smaller for the way.
    pub gain: Gain,
    /// Instances that cannot arrive as things stand, some of them, each with a sentence that says why and what to do.
    pub obstacles: BTreeMap<InstanceId, String>,
    /// Connections of which something was waiting for an answer that were stalled when they were looked at last.
    pub stalled: u64,
    /// Those of them that have not gone on yet although a new connection has got through.
    pub in_grace: u64,
    /// How often, since the process began, connections began to be stalled.
    pub interruptions: u64,
    /// How often was looked, since the process began, whether it can be reached again.
    pub looks: u64,
    /// What was lost with connections that ended too early.
    pub cuts: Cuts,
    /// Why it could not be asked, the last time, whether it has for good what was delivered; nothing if it could.
    pub verification: Option<circuit::Failure>,
    /// What else there is to know of it, in a sentence.
    pub note: Option<String>,
}

impl Destination {
    /// A destination that has not been tried yet, and to which everything goes as fast as it can.
    #[must_use]
    pub fn new(name: DestinationName) -> Self {
        Self::paced(name, Arc::default())
    }

    /// A destination that has not been tried yet, and what holds back what goes there.
    #[must_use]
    pub fn paced(name: DestinationName, pace: Arc<Pace>) -> Self {
        let health = Health {
            activity: Activity::Idle,
            failures: 0,
            troubled: false,
            last_failure: None,
            next_attempt: None,
            associations: 0,
            sending: 0,
            sending_bytes: 0,
            goodput: Goodput::default(),
            flow: Flow::default(),
            flow_as_stored: Flow::default(),
            gain: Gain::default(),
            obstacles: BTreeMap::new(),
            stalled: 0,
            in_grace: 0,
            interruptions: 0,
            looks: 0,
            cuts: Cuts::default(),
            verification: None,
            note: None,
        };
        Self {
            name,
            health: watch::Sender::new(health),
            queued: Notify::new(),
            moving: Notify::new(),
            answers: AtomicBool::new(false),
            delivered: Notify::new(),
            hastened: watch::Sender::new(0),
            back: watch::Sender::new(0),
            away: watch::Sender::new(None),
            failing: watch::Sender::new(None),
            under_way: Mutex::new(Vec::new()),
            wires: Arc::new(Wires::paced(pace)),
            benefit: Mutex::default(),
            accepted: Mutex::default(),
            shunned: Mutex::default(),
            one_at_a_time: Mutex::default(),
        }
    }

    /// What it is doing now.
    #[must_use]
    pub fn health(&self) -> Health {
        Health { cuts: self.wires.cuts(), ..self.health.borrow().clone() }
    }

    /// How fast instances have got there of late.
    pub(super) fn goodput(&self) -> Goodput {
        self.health.borrow().goodput
    }

    /// How many connections have not gone on yet although a new one has got through.
    pub(super) fn in_grace(&self) -> usize {
        usize::try_from(self.health.borrow().in_grace).unwrap_or(usize::MAX)
    }

    /// To wait for what it does next.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Tells it that something may be due.
    pub fn queued(&self) {
        self.queued.notify_one();
        self.delivered.notify_one();
    }

    /// Asks for the next attempt now instead of after the delay.
    pub fn hasten(&self) {
        self.hastened.send_modify(|times| *times += 1);
    }

    /// The link may be there again. Who waits because the destination could not be reached tries at once; nobody else does
    /// anything.
    pub fn link_may_be_back(&self) {
        self.back.send_modify(|times| *times += 1);
    }

    /// How many bytes of what is being sent have left this process.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.under_way().iter().filter_map(UnderWay::sent).sum()
    }

    /// How many bytes of what is under way have still to leave, about.
    pub(super) fn left_bytes(&self) -> u64 {
        self.under_way().iter().filter_map(UnderWay::left).sum()
    }

    /// How long it takes until so much of what is under way has left that what is left fills the link for no longer than
    /// `enough`; nothing if that is so, or if there is no rate to tell by. What is on connections that do not move although
    /// the link is there fills nothing.
    pub(super) fn filled_beyond(&self, enough: Duration) -> Option<Duration> {
        let rate = self.pace().rate()?;
        let left = self.left_bytes();
        let (in_grace, open) = (self.health.borrow().in_grace, self.health.borrow().associations.max(1));
        let moving = left / open * open.saturating_sub(in_grace);
        rate.time_for(moving).checked_sub(enough).filter(|beyond| !beyond.is_zero())
    }

    fn under_way(&self) -> MutexGuard<'_, Vec<UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connections with it.
    #[must_use]
    pub fn wires(&self) -> &Arc<Wires> {
        &self.wires
    }

    /// What holds back what goes there.
    #[must_use]
    pub fn pace(&self) -> &Arc<Pace> {
        self.wires.pace()
    }

    /// Since when it has failed without a success in between, and its changes.
    pub(super) fn failing(&self) -> watch::Receiver<Option<Instant>> {
        self.failing.subscribe()
    }

    /// Takes note of whether it works at this moment.
    pub(super) fn is_failing(&self, failing: Option<Instant>) {
        self.failing.send_if_modified(|since| {
            let changed = since.is_some() != failing.is_some();
            *since = failing.filter(|_| since.is_none()).or(since.filter(|_| failing.is_some()));
            changed
        });
    }

    /// Takes note that its worker waits because it could not be reached, after so many failures, or that it does not.
    pub(super) fn is_away(&self, failures: Option<u32>) {
        self.away.send_if_modified(|away| std::mem::replace(away, failures) != failures);
    }

    /// Where the bytes of a new attempt are counted, until its end: with what has so many bytes as it is stored.
    pub(super) fn meter(&self, stored: u64) -> Arc<AtomicU64> {
        let expected = self.health.borrow().flow.leaves_of(stored);
        let meter = Arc::new(AtomicU64::new(0));
        let mut under_way = self.under_way();
        under_way.retain(|one| one.meter.strong_count() > 0);
        under_way.push(UnderWay { meter: Arc::downgrade(&meter), expected });
        meter
    }

    /// So many bytes leave in the attempt that is counted here.
    pub(super) fn expect(&self, meter: &Arc<AtomicU64>, bytes: u64) {
        let mut under_way = self.under_way();
        if let Some(one) = under_way.iter_mut().find(|one| std::ptr::eq(one.meter.as_ptr(), Arc::as_ptr(meter))) {
            one.expected = bytes;
        }
    }

    /// What its link carries.
    fn link(&self, now: Instant) -> Link {
        let health = self.health.borrow();
        Link {
            sent: health.flow.sent_per_second(now),
            stored: health.flow.stored_per_second(now),
            as_stored: health.flow_as_stored.stored_per_second(now),
        }
    }

    /// In what an instance of this kind is to leave; see [`Benefit::choose`].
    pub(super) fn choose(&self, kind: &Kind, options: &[(Uid, Option<Measured>)], now: Instant) -> Option<Uid> {
        let link = self.link(now);
        self.benefit.lock().unwrap_or_else(PoisonError::into_inner).choose(kind, options, &link, now)
    }

    /// An association accepts this kind in these smaller transfer syntaxes.
    pub(super) fn note_accepted(&self, kind: Kind, accepted: Vec<Uid>) {
        let mut all = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KINDS && !all.contains_key(&kind) {
            all.clear();
        }
        all.insert(kind, accepted);
    }

    /// In which smaller transfer syntaxes it has accepted this kind of late, and not refused it.
    pub(super) fn accepts(&self, kind: &Kind, now: Instant) -> Vec<Uid> {
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner).get(kind).cloned();
        self.taken(kind, accepted.unwrap_or_default(), now)
    }

    /// It has refused an instance of this kind in this transfer syntax, and taken it as it is stored.
    pub(super) fn shun(&self, kind: Kind, syntax: Uid, now: Instant) {
        let mut shunned = self.shunned.lock().unwrap_or_else(PoisonError::into_inner);
        shunned.retain(|_, until| *until > now);
        if shunned.len() < KINDS {
            shunned.insert((kind, syntax), now + SHUNNED);
        }
    }

    /// Those of the transfer syntaxes accepted for this kind in which it takes it really, as far as is known.
    pub(super) fn taken(&self, kind: &Kind, mut accepted: Vec<Uid>, now: Instant) -> Vec<Uid> {
        let shunned = self.shunned.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.retain(|syntax| shunned.get(&(kind.clone(), syntax.clone())).is_none_or(|until| *until <= now));
        accepted
    }

    /// Whether it has accepted anything in a smaller transfer syntax of late.
    pub(super) fn accepts_smaller(&self) -> bool {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).values().any(|accepted| !accepted.is_empty())
    }

    /// Whether an association with it may have several C-STORE outstanding, as far as is known.
    pub(super) fn bears_several(&self, now: Instant) -> bool {
        let until = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_none_or(|until| until <= now)
    }

    /// It has ended an association while several were outstanding, or did not get on with the request for it: it may be the
    /// several that it does not bear.
    pub(super) fn takes_one_at_a_time(&self, now: Instant) {
        debug!(destination:% = self.name; "one instance at a time goes over an association for a while");
        *self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + ONE_AT_A_TIME);
    }

    /// Notes what keeps an instance from arriving, or that nothing does any more.
    pub(super) fn note_obstacle(&self, id: InstanceId, obstacle: Option<String>) {
        self.health.send_if_modified(|health| match obstacle {
            Some(sentence) if health.obstacles.len() < OBSTACLES || health.obstacles.contains_key(&id) => {
                health.obstacles.insert(id, sentence).is_none()
            }
            Some(_) => false,
            None => health.obstacles.remove(&id).is_some(),
        });
    }

    pub(super) fn show(&self, change: impl FnOnce(&mut Health)) {
        self.health.send_modify(change);
    }
}
