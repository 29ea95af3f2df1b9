//! The rate at which a modality may send (`max-rate`): a token bucket for all of its associations together.
//!
//! Who takes more than there is waits before it reads on. The connection fills up behind it and the device sends as fast
//! as it is read: nothing is refused, and nothing fails. While we do not read, no time-out of the association runs,
//! because only the time in which we wait for the peer counts against it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::model::DestinationName;

/// For how long a modality that has sent nothing may send as fast as it can.
const BURST: Duration = Duration::from_secs(1);

/// One bucket.
#[derive(Debug)]
pub(super) struct Throttle {
    /// Bytes per second; not 0.
    rate: u64,
    /// When everything that was taken will have been paid for at this rate.
    paid_at: Mutex<Option<Instant>>,
}

impl Throttle {
    fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), paid_at: Mutex::default() }
    }

    /// Takes `bytes` at the time `now`, and tells how long to wait before more is read.
    pub(super) fn take(&self, now: Instant, bytes: usize) -> Duration {
        let cost = u128::try_from(bytes).unwrap_or(u128::MAX).saturating_mul(1_000_000_000) / u128::from(self.rate);
        let cost = Duration::from_nanos(u64::try_from(cost).unwrap_or(u64::MAX));
        let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        // An idle modality has saved up one burst and no more.
        let from = paid_at.map_or(now, |paid_at| paid_at.max(now));
        let until = from.checked_add(cost).unwrap_or(from);
        *paid_at = Some(until);
        until.saturating_duration_since(now).saturating_sub(BURST)
    }
}

/// The buckets in use, by modality and rate. An association keeps the bucket that it was given, and those that begin
/// after a change of the rate share another one.
#[derive(Debug, Default)]
pub(super) struct Throttles {
    in_use: Mutex<HashMap<(DestinationName, u64), Weak<Throttle>>>,
}

impl Throttles {
    /// The bucket that all associations of this modality share.
    pub(super) fn of(&self, name: &DestinationName, rate: u64) -> Arc<Throttle> {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (name.clone(), rate);
        if let Some(throttle) = in_use.get(&key).and_then(Weak::upgrade) {
            return throttle;
        }
        in_use.retain(|_, throttle| throttle.strong_count() > 0);
        let throttle = Arc::new(Throttle::new(rate));
        in_use.insert(key, Arc::downgrade(&throttle));
        throttle
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::association::{
        AcceptorSettings, AssociateRequest, Decision, Indication, Preference, RequestorSettings, Timeouts, transport,
    };
    use crate::clock::{now, of_runtime};
    use crate::dimse::{CStore, Command};
    use crate::model::Priority;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_is_free_and_then_every_byte_takes_its_time() {
        let (throttle, mut time) = (Throttle::new(1000), now());
        assert_eq!(throttle.take(time, 1000), Duration::ZERO);
        assert_eq!(throttle.take(time, 500), SECOND / 2);
        time += SECOND / 2;
        assert_eq!(throttle.take(time, 1000), SECOND);
    }

    #[test]
    fn two_associations_share_one_rate() {
        let throttles = Throttles::default();
        let name: DestinationName = "ct1".parse().unwrap();
        let (first, second) = (throttles.of(&name, 1000), throttles.of(&name, 1000));
        let start = now();
        let mut time = [start; 2];
        for _ in 0..50 {
            time[0] += first.take(time[0], 1000);
            time[1] += second.take(time[1], 1000);
        }
        let took = time[0].max(time[1]) - start;
        assert!(took >= 98 * SECOND && took <= 100 * SECOND, "100 kB at 1 kB/s took {took:?}");
        let other: DestinationName = "us1".parse().unwrap();
        assert_eq!(throttles.of(&other, 1000).take(start, 1000), Duration::ZERO);
    }

    #[test]
    fn a_long_rest_saves_up_one_burst_only() {
        let (throttle, start) = (Throttle::new(1000), now());
        throttle.take(start, 5000);
        assert_eq!(throttle.take(start + 1000 * SECOND, 2000), SECOND);
        assert!(throttle.take(start, usize::MAX) > SECOND, "no overflow");
    }

    /// A device that offers everything at once, a rate far below the least that a device itself must come up with.
    #[tokio::test(start_paused = true)]
    async fn a_device_that_is_held_back_is_slow_but_not_too_slow() {
        const SIZE: usize = 1 << 20;
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let device = tokio::spawn(send(theirs, SIZE));
        let timeouts = Timeouts { minimum_rate: 1 << 20, ..Timeouts::default() };
        let settings = AcceptorSettings { timeouts, ..AcceptorSettings::default() };
        let arrived = of_runtime();
        let decide = |request: &AssociateRequest| Decision::accept_storage(request, &Preference::default());
        let mut association = transport::accept(ours, &settings, arrived, decide).await.unwrap();
        let throttle = Throttle::new(16 << 10);
        let mut received = 0;
        loop {
            match association.next().await.unwrap() {
                Indication::Data(bytes) => {
                    received += bytes.len();
                    let pause = throttle.take(of_runtime(), bytes.len());
                    tokio::time::sleep(pause).await;
                }
                Indication::DataEnd => break,
                _ => {}
            }
        }
        assert_eq!(received, SIZE);
        assert_eq!((of_runtime() - arrived).as_secs(), 63, "1 MiB at 16 KiB a second, less the burst of one second");
        drop(association);
        device.await.unwrap();
    }

    /// One C-STORE with a data set of this size.
    async fn send(stream: impl transport::Stream + 'static, size: usize) {
        let [class, syntax, instance] =
            ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", "1.2.3"].map(|uid| uid.parse().unwrap());
        let settings = RequestorSettings::new("CT1".parse().unwrap(), "WAYSTATION".parse().unwrap());
        let settings = settings.propose(&class, [syntax]);
        let settings =
            RequestorSettings { timeouts: Timeouts { write: 1000 * SECOND, ..Timeouts::default() }, ..settings };
        let mut association = transport::connect(stream, &settings).await.unwrap();
        let store = CStore {
            message_id: 1,
            sop_class_uid: class,
            sop_instance_uid: instance,
            priority: Priority::Routine,
            move_originator: None,
        };
        association.send_command(1, &Command::CStore(store)).await.unwrap();
        association.send_data(1, &vec![0; size], true).await.unwrap();
        association.response(SECOND).await.unwrap_err();
    }

    #[test]
    fn what_nobody_uses_is_forgotten() {
        let throttles = Throttles::default();
        for number in 0..100 {
            throttles.of(&format!("ct{number}").parse().unwrap(), 1000);
        }
        assert_eq!(throttles.in_use.lock().unwrap().len(), 1);
    }
}
