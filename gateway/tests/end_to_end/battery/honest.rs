//! A good modality: one association, one instance after the other, every one answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::bytes::{image, pdu, store};
use crate::support::caller::{Answer, Caller};
use crate::support::until;

/// How long its user would wait before he complains; not what is promised.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two instances.
const REST: Duration = Duration::from_millis(10);

/// A modality that stores until it is told to stop.
pub(crate) struct Modality {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: JoinHandle<Duration>,
}

/// What it has stored.
pub(crate) struct Stored {
    pub(crate) count: u64,
    pub(crate) slowest: Duration,
}

impl Modality {
    pub(crate) fn start(port: u16) -> Self {
        let (stop, count): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let thread = std::thread::spawn(move || {
            let mut caller = Caller::new(port, PATIENCE);
            caller.associate();
            let mut slowest = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let number = counted.load(Ordering::Relaxed);
                let name = format!("2.25.4242.{number}");
                let pixels: Vec<u8> = (0..512_u64).map(|n| u8::try_from((n * (number + 7)) % 251).unwrap()).collect();
                let message_id = u16::try_from(number % 65_536).unwrap();
                let asked = waystation::clock::now();
                caller.send(&store(3, message_id, &name, &image(&name, &pixels)));
                assert_eq!(caller.answer(), Answer::Status(0), "instance {number} of the good modality");
                slowest = slowest.max(asked.elapsed());
                counted.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(REST);
            }
            caller.send(&pdu(5, &[0; 4]));
            assert_eq!(caller.answer(), Answer::Released);
            slowest
        });
        Self { stop, count, thread }
    }

    /// Waits until it has stored so many instances.
    pub(crate) fn wait_for(&self, count: u64) {
        until("the good modality", PATIENCE, || {
            let stored = self.count.load(Ordering::Relaxed);
            if stored >= count { Ok(()) } else { Err(format!("{stored} instances stored")) }
        });
    }

    pub(crate) fn stop(self) -> Stored {
        self.stop.store(true, Ordering::Relaxed);
        let slowest = self.thread.join().expect("the good modality was not disturbed");
        Stored { count: self.count.load(Ordering::Relaxed), slowest }
    }
}
