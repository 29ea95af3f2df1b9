//! Who packs a payload: the receiver's own thread, or a thread beside it.
//!
//! Hashing and packing cost about the same. With one thread for both, a sender that is faster than that waits; with two,
//! it waits for the slower half. That pays as long as processors are idle, so it is done for as many receptions as there
//! are pairs of them. The others pack where they are: handing over costs more than it gains when every processor has
//! work already. Neither are instances of less than a megabyte handed over: the first block of the filter is whole only
//! when 256 KiB have come, and the last one is waited for.
//!
//! ```text
//! receiver's thread     hash ──▶ batch of 64 KiB ──▶ … ──▶ finish ◀─┐
//!                                  │ at most 4 wait                 │ Packed, or the error
//! packing thread                   └──▶ filter, compress, buffer ───┘
//! ```
//!
//! A thread serves one reception after the other. A reception that is dropped waits until the thread has let go of its
//! payload, so that no file is removed behind anybody's back.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::error::SpoolError;
use super::packing::{Packed, Packing};
use super::shared::Shared;
use crate::codec::PixelLayout;

/// An instance has this many bytes before it is handed over.
const WORTH_IT: usize = 1 << 20;
/// Bytes that are handed over at once.
const BATCH: usize = 64 << 10;
/// How many batches may wait.
const WAITING: usize = 4;

/// The threads beside the receivers, and how many receptions give processors work.
pub(super) struct Packers {
    processors: usize,
    busy: AtomicUsize,
    idle: Mutex<Vec<Thread>>,
}

impl Packers {
    pub(super) fn new(processors: usize) -> Self {
        Self { processors, busy: AtomicUsize::new(0), idle: Mutex::new(Vec::new()) }
    }

    /// Gives a task to a thread; gives it back if there is none to be had.
    fn give(&self, mut task: Task) -> Result<Thread, Task> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(thread) = idle {
            match thread.tasks.send(task) {
                Ok(()) => return Ok(thread),
                Err(back) => task = back.0,
            }
        }
        let (tasks, received) = sync_channel(1);
        let thread = Thread { tasks };
        match thread::Builder::new().name("spool-pack".to_owned()).spawn(move || work(&received)) {
            Ok(_) => thread.tasks.send(task).map(|()| thread).map_err(|back| back.0),
            Err(_) => Err(task),
        }
    }

    fn take_back(&self, thread: Thread) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
    }
}

/// A packing thread; it ends when this is dropped.
struct Thread {
    tasks: SyncSender<Task>,
}

struct Task {
    packing: Box<Packing>,
    jobs: Receiver<Job>,
    done: SyncSender<Result<Packed, SpoolError>>,
}

enum Job {
    Bytes(Vec<u8>),
    Pixels(PixelLayout),
    Finish,
}

fn work(tasks: &Receiver<Task>) {
    for Task { packing, jobs, done } in tasks {
        // Nobody hears it if the reception was dropped.
        let _ = done.send(pack(packing, jobs));
    }
}

/// Packs until the end, or until the reception is dropped or fails; what was packed is gone then.
fn pack(mut packing: Box<Packing>, jobs: Receiver<Job>) -> Result<Packed, SpoolError> {
    for job in jobs {
        match job {
            Job::Bytes(bytes) => packing.write(&bytes)?,
            Job::Pixels(layout) => packing.pixels(&layout)?,
            Job::Finish => return packing.finish(),
        }
    }
    Err(SpoolError::Closed)
}

/// Packs the payload of one reception.
pub(super) struct Packer {
    shared: Arc<Shared>,
    /// How many bytes have come, as long as they are few.
    first: usize,
    state: State,
}

enum State {
    Here(Box<Packing>),
    Apart(Apart),
    /// It has failed.
    Over,
}

impl Packer {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), first: 0, state: State::Here(Box::new(Packing::new(shared))) }
    }

    /// Takes the next bytes of the data set. May write to the disk.
    ///
    /// # Errors
    /// There is no room, a limit was met, or the spool has failed; perhaps with bytes that came before these.
    pub(super) fn write(&mut self, data: &[u8]) -> Result<(), SpoolError> {
        if self.first < WORTH_IT {
            self.first += data.len();
            if self.first >= WORTH_IT {
                self.get_busy();
            }
        }
        match &mut self.state {
            State::Here(packing) => packing.write(data),
            State::Apart(apart) => apart.write(data),
            State::Over => Err(SpoolError::Closed),
        }
    }

    /// Tells where pixels are, in front of what is written next; see [`Packing::pixels`].
    ///
    /// # Errors
    /// As for [`Packer::write`].
    pub(super) fn pixels(&mut self, layout: &PixelLayout) -> Result<(), SpoolError> {
        match &mut self.state {
            State::Here(packing) => packing.pixels(layout),
            State::Apart(apart) => apart.hand_over().and_then(|()| apart.send(Job::Pixels(*layout))),
            State::Over => Err(SpoolError::Closed),
        }
    }

    /// There are no more bytes.
    ///
    /// # Errors
    /// As for [`Packer::write`].
    pub(super) fn finish(mut self) -> Result<Packed, SpoolError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Here(packing) => packing.finish(),
            State::Apart(apart) => apart.finish(),
            State::Over => Err(SpoolError::Closed),
        }
    }

    /// From here on the reception is work for a processor, or for two.
    fn get_busy(&mut self) {
        let packers = &self.shared.packers;
        let others = packers.busy.fetch_add(1, Ordering::Relaxed);
        if 2 * (others + 1) > packers.processors {
            return;
        }
        if let State::Here(packing) = std::mem::replace(&mut self.state, State::Over) {
            self.state = Apart::new(packing, &self.shared).map_or_else(State::Here, State::Apart);
        }
    }
}

impl Drop for Packer {
    fn drop(&mut self) {
        if self.first >= WORTH_IT {
            self.shared.packers.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A payload that a thread beside this one packs.
struct Apart {
    shared: Arc<Shared>,
    /// What is handed over next.
    batch: Vec<u8>,
    /// Nothing when there are no more.
    jobs: Option<SyncSender<Job>>,
    done: Receiver<Result<Packed, SpoolError>>,
    thread: Option<Thread>,
}

impl Apart {
    /// Gives the payload back if there is no thread for it.
    fn new(packing: Box<Packing>, shared: &Arc<Shared>) -> Result<Self, Box<Packing>> {
        let (jobs, received) = sync_channel(WAITING);
        let (done, result) = sync_channel(1);
        let thread = shared.packers.give(Task { packing, jobs: received, done }).map_err(|task| task.packing)?;
        Ok(Self {
            shared: Arc::clone(shared),
            batch: Vec::with_capacity(BATCH),
            jobs: Some(jobs),
            done: result,
            thread: Some(thread),
        })
    }

    fn write(&mut self, mut data: &[u8]) -> Result<(), SpoolError> {
        while !data.is_empty() {
            let (now, rest) = data.split_at_checked(BATCH - self.batch.len()).unwrap_or((data, &[]));
            self.batch.extend_from_slice(now);
            data = rest;
            if self.batch.len() == BATCH {
                self.hand_over()?;
            }
        }
        Ok(())
    }

    fn hand_over(&mut self) -> Result<(), SpoolError> {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        self.send(Job::Bytes(batch))
    }

    /// The thread stops taking jobs when one has failed, and tells why.
    fn send(&mut self, job: Job) -> Result<(), SpoolError> {
        match self.jobs.as_ref().map(|jobs| jobs.send(job)) {
            Some(Ok(())) => Ok(()),
            _ => Err(self.result().err().unwrap_or(SpoolError::Closed)),
        }
    }

    fn finish(mut self) -> Result<Packed, SpoolError> {
        self.hand_over()?;
        self.send(Job::Finish)?;
        self.result()
    }

    /// Waits for the end, and lets the thread go.
    fn result(&mut self) -> Result<Packed, SpoolError> {
        self.jobs = None;
        let Some(thread) = self.thread.take() else { return Err(SpoolError::Closed) };
        let Ok(result) = self.done.recv() else {
            let ended = io::Error::other("the thread that packs has ended early");
            return Err(SpoolError::Compress(Arc::new(ended)));
        };
        self.shared.packers.take_back(thread);
        result
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // Nothing is left to be told: the reception is dropped, or has ended.
        let _ = self.result();
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::header;
    use super::super::tests::{data_set, open_with, options, read, receive, wait_for};
    use super::*;
    use crate::durable::memory::MemoryDisk;
    use crate::model::InstanceId;
    use crate::spool::{Spool, SpoolOptions};

    const RESERVE: u64 = 1 << 20;

    /// A spool in memory, on a machine with four processors.
    fn spool() -> (Spool, MemoryDisk) {
        let disk = MemoryDisk::new();
        let (spool, ..) = open_with(&disk, SpoolOptions { processors: 4, reserve: RESERVE, ..options() });
        (spool, disk)
    }

    fn busy_and_idle(spool: &Spool) -> (usize, usize) {
        let packers = &spool.inner.shared.packers;
        (packers.busy.load(Ordering::Relaxed), packers.idle.lock().unwrap().len())
    }

    #[test]
    fn as_many_receptions_are_packed_apart_as_there_are_pairs_of_processors() {
        let (spool, _disk) = spool();
        let mut open: Vec<_> = (0..3).map(|_| spool.receive().unwrap()).collect();
        let apart = |incoming: &[crate::spool::Incoming]| -> Vec<bool> {
            incoming.iter().map(|incoming| matches!(incoming.packer().state, State::Apart(_))).collect()
        };
        open.iter_mut().for_each(|incoming| incoming.write(&[7; WORTH_IT - 1]).unwrap());
        assert_eq!(apart(&open), [false; 3], "what is small stays");
        open.iter_mut().for_each(|incoming| incoming.write(&[7; 2]).unwrap());
        assert_eq!(apart(&open), [true, true, false]);
        assert_eq!(busy_and_idle(&spool), (3, 0));
        drop(open);
        assert_eq!(busy_and_idle(&spool), (0, 2), "both threads wait for the next");
        // The next one takes one of them.
        receive(&spool, header(1), &data_set(1, 2_000_000)).unwrap();
        assert_eq!(busy_and_idle(&spool), (0, 2));
    }

    #[test]
    fn what_was_packed_apart_is_byte_for_byte_what_came() {
        let (spool, _disk) = spool();
        for (number, length) in
            (1..).zip([WORTH_IT, WORTH_IT + 1, WORTH_IT + BATCH, WORTH_IT + 5 * BATCH - 1, 3_000_000])
        {
            let data = data_set(number, length);
            let committed = receive(&spool, header(number), &data).unwrap();
            assert_eq!(committed.length, data.len() as u64);
            wait_for(&spool, number);
            assert!(read(&spool, committed.id).unwrap() == data, "{length}");
        }
        assert_eq!(busy_and_idle(&spool), (0, 1));
    }

    #[test]
    fn an_error_in_the_other_thread_ends_the_reception_and_leaves_nothing_behind() {
        let (spool, disk) = spool();
        receive(&spool, header(1), b"first").unwrap();
        // Room for the first megabyte, and then no more.
        disk.set_capacity(Some(disk.used() + RESERVE + 1_000_000));
        let refused = receive(&spool, header(2), &data_set(2, 3_000_000));
        assert!(matches!(refused, Err(SpoolError::NoRoom(_))), "{refused:?}");
        disk.set_capacity(None);
        assert_eq!(busy_and_idle(&spool), (0, 1));
        assert!(disk.names().iter().all(|path| path.extension().is_none_or(|extension| extension != "tmp")));
        let data = data_set(3, 3_000_000);
        let committed = receive(&spool, header(3), &data).unwrap();
        wait_for(&spool, 2);
        assert!(committed.id > InstanceId(1) && read(&spool, committed.id).unwrap() == data);
    }

    #[test]
    fn a_reception_that_is_dropped_leaves_nothing_behind() {
        let (spool, disk) = spool();
        let mut incoming = spool.receive().unwrap();
        incoming.write(&data_set(1, 3_000_000)).unwrap();
        drop(incoming);
        assert!(disk.names().iter().all(|path| path.extension().is_none_or(|extension| extension != "tmp")));
        assert_eq!(busy_and_idle(&spool), (0, 1));
    }
}
