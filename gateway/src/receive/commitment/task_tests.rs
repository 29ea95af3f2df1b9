//! The task and its requests, on a spool of their own and a disk that can be made to wait.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Condvar, MutexGuard};

use tokio_util::sync::CancellationToken;

use super::tests::{party, transaction, uid};
use super::*;
use crate::config::Admission;
use crate::durable::DiskFile;
use crate::durable::memory::MemoryDisk;
use crate::spool::SpoolOptions;

const DATA: &str = "/data";

/// What hangs, and how often somebody has come to it.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<(bool, u64)>,
    changed: Condvar,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, (bool, u64)> {
        self.state.lock().unwrap()
    }

    fn close(&self, closed: bool) {
        self.lock().0 = closed;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.lock();
        state.1 += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |(closed, _)| *closed).unwrap());
    }

    /// Waits until somebody stands before it. Blocking.
    fn wait_for(&self, times: u64) {
        drop(self.changed.wait_while(self.lock(), |(_, come)| *come < times).unwrap());
    }
}

/// A disk that opens files, and makes directories durable, when it is let.
#[derive(Debug, Clone)]
struct HangingDisk {
    disk: MemoryDisk,
    opens: Arc<Gate>,
    publishes: Arc<Gate>,
}

impl Disk for HangingDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(path)
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        self.opens.pass();
        self.disk.open(path, writable)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.publishes.pass();
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }

    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        self.disk.create_dir(directory)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.disk.sync_dir(directory)
    }

    fn sync_file_system(&self, directory: &Path) -> io::Result<()> {
        self.disk.sync_file_system(directory)
    }

    fn free(&self, directory: &Path) -> io::Result<u64> {
        self.disk.free(directory)
    }
}

/// Storage commitment with everything that it needs.
struct Office {
    commitments: Arc<Commitments>,
    disk: HangingDisk,
    _data: tempfile::TempDir,
}

impl Office {
    /// With these requests left by an earlier run.
    fn new(earlier: &BTreeMap<u64, Transaction>) -> Self {
        let disk = HangingDisk { disk: MemoryDisk::new(), opens: Arc::default(), publishes: Arc::default() };
        let folder = Path::new(DATA);
        let files = Files::open(Arc::new(disk.clone()), folder, |_, _| {}).unwrap().0;
        earlier.iter().for_each(|(number, transaction)| files.save(*number, transaction).unwrap());
        let data = tempfile::tempdir().unwrap();
        let (spool, _) =
            Spool::open(data.path(), SpoolOptions { reserve: 0, ..SpoolOptions::default() }, |_| {}).unwrap();
        let settings = Settings {
            commitment: CommitmentSettings {
                patience: Duration::from_secs(86_400 * 365_000),
                report_for: Duration::from_secs(86_400),
            },
            backoff: Backoff { first: Duration::from_secs(10), cap: Duration::from_secs(1_000) },
            timeouts: Timeouts::default(),
        };
        let admission = CurrentAdmission::new(Admission::of(Vec::new()));
        let dial: Dial = Arc::new(|_, _| Box::pin(async { Err("nobody can be called".to_owned()) }));
        let commitments =
            Commitments::open(Arc::new(disk.clone()), folder, spool, admission, settings, Metrics::new(), dial);
        Self { commitments: commitments.unwrap(), disk, _data: data }
    }
}

fn asker(name: &str) -> Asker {
    Asker { party: party(name), called: "GATE".parse().unwrap(), level: CommitmentLevel::Safe }
}

/// With a full disk a judgement waits for room as long as there is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_a_judgement() {
    let office = Office::new(&BTreeMap::from([(1, transaction(1, 3))]));
    let opened = office.disk.opens.lock().1;
    office.disk.opens.close(true);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&office.commitments).run(shutdown.clone()));
    tokio::task::block_in_place(|| office.disk.opens.wait_for(opened + 1));
    shutdown.cancel();
    assert_eq!(running.await.unwrap(), Ok(()));
    office.disk.opens.close(false);
}

/// What is reported at once is bounded: a report that is one too many has its turn when another is answered.
#[tokio::test(flavor = "multi_thread")]
async fn reports_that_are_under_way_share_what_they_may_hold() {
    let office = Office::new(&BTreeMap::from([(1, transaction(1, 3)), (2, transaction(2, 3))]));
    let Office { commitments, .. } = &office;
    commitments.desk.judged(1, true, clock::now());
    commitments.desk.judged(2, true, clock::now());
    let syntax = uid(crate::dataset::transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN);
    let mut held = commitments.reporting.share();
    assert!(held.cover(MOST_AT_ONCE - 5));
    let lease = |now| commitments.desk.lease(&party("ct1"), None, now, false);
    let first = commitments.prepare(lease(clock::now()).unwrap(), syntax.clone()).await.unwrap().unwrap();
    let none = commitments.prepare(lease(clock::now()).unwrap(), syntax.clone()).await.unwrap();
    assert!(none.is_none() && lease(clock::now()).is_none(), "not at once");
    commitments.answered(first, Ok(crate::dimse::Status::SUCCESS), false).await.unwrap();
    let later = lease(clock::now() + Duration::from_secs(2)).unwrap();
    assert!(commitments.prepare(later, syntax).await.unwrap().is_some());
}

/// The modality has lost its patience, and asks again on another association before the disk has answered.
#[test]
fn the_same_request_while_the_first_is_being_saved_is_answered_with_it_and_reported_once() {
    for is_saved in [true, false] {
        let office = Office::new(&BTreeMap::new());
        let published = office.disk.publishes.lock().1;
        office.disk.publishes.close(true);
        let Transaction { uid, references, .. } = transaction(1, 3);
        let ask = || office.commitments.accept(asker("ct1"), uid.clone(), references.clone());
        std::thread::scope(|scope| {
            let first = scope.spawn(ask);
            office.disk.publishes.wait_for(published + 1);
            let again: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
            if !is_saved {
                office.disk.disk.fail(0, nix::errno::Errno::EIO, true);
            }
            office.disk.publishes.close(false);
            assert_eq!(first.join().unwrap().is_ok(), is_saved);
            again.into_iter().for_each(|again| assert_eq!(again.join().unwrap().is_ok(), is_saved));
        });
        assert_eq!(office.commitments.status().pending, u64::from(is_saved));
        if is_saved {
            assert!(!office.commitments.files.read(1).unwrap().duplicate);
        }
    }
}
