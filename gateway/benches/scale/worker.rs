//! A process with an open spool, and the other end of it.
//!
//! Both ends speak in lines of numbers. The worker says how its spool was opened, answers each request with a line, and
//! closes the spool when there are no more requests.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use waystation::clock::now;
use waystation::spool::{Attempt, Classes, Outcome, Spool, SpoolOptions};

use super::Failure;
use super::instances::{data_set, destination, header};

/// Deliveries that are claimed at a time.
const AT_ONCE: usize = 16;

/// How a spool was opened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Start {
    pub(crate) milliseconds: u64,
    pub(crate) replayed: u64,
    /// Resident, in bytes.
    pub(crate) memory: u64,
}

/// A worker that runs.
pub(crate) struct Worker {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pub(crate) opened: Start,
    received: u64,
    written_at_start: u64,
}

impl Worker {
    /// Starts one and waits until its spool is open.
    pub(crate) fn start(folder: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(folder)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("worker").arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let opened = Start::default();
        let mut worker = Self { child, requests, answers, opened, received: 0, written_at_start: 0 };
        let said = worker.answer()?;
        let [milliseconds, replayed, memory] = said[..] else { return Err("the spool was not opened".into()) };
        worker.opened = Start { milliseconds, replayed, memory };
        worker.written_at_start = worker.written()?;
        Ok(worker)
    }

    fn answer(&mut self) -> Result<Vec<u64>, Failure> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        line.split_whitespace().map(|number| Ok(number.parse()?)).collect()
    }

    fn ask(&mut self, request: &str) -> Result<Vec<u64>, Failure> {
        let requests = self.requests.as_mut().ok_or("the worker was ended")?;
        writeln!(requests, "{request}")?;
        self.answer()
    }

    fn ask_one(&mut self, request: &str) -> Result<u64, Failure> {
        Ok(*self.ask(request)?.first().ok_or("the worker has ended")?)
    }

    /// Receives so many instances, so many at once; gives how long each took, in microseconds.
    pub(crate) fn receive(&mut self, receivers: u64, instances: u64) -> Result<Vec<u64>, Failure> {
        self.received += instances;
        let took = self.ask(&format!("receive {receivers} {instances}"))?;
        if took.len() as u64 == instances { Ok(took) } else { Err("not everything was received".into()) }
    }

    /// Claims and records so many deliveries; gives how many of them in a second.
    pub(crate) fn deliver(&mut self, deliveries: u64) -> Result<u64, Failure> {
        let milliseconds = self.ask_one(&format!("deliver {deliveries}"))?;
        Ok(deliveries * 1_000 / milliseconds.max(1))
    }

    pub(crate) fn queued(&mut self) -> Result<u64, Failure> {
        self.ask_one("queued")
    }

    /// The most memory that was ever resident, in bytes.
    pub(crate) fn memory(&self) -> Result<u64, Failure> {
        Ok(field(&format!("/proc/{}/status", self.child.id()), "VmHWM:")? << 10)
    }

    /// Bytes that it gave the system to write, since the start, for each instance that was received.
    pub(crate) fn written_per_reception(&self) -> Result<u64, Failure> {
        Ok((self.written()? - self.written_at_start) / self.received.max(1))
    }

    fn written(&self) -> Result<u64, Failure> {
        field(&format!("/proc/{}/io", self.child.id()), "wchar:")
    }

    pub(crate) fn kill(mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Lets it close its spool.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        drop(self.requests.take());
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the worker ended with {status}").into()) }
    }
}

fn field(path: &str, name: &str) -> Result<u64, Failure> {
    let text = fs::read_to_string(path)?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("{path}: no {name}"))?;
    Ok(value.trim().trim_end_matches(" kB").parse()?)
}

/// The worker itself.
pub(crate) fn serve(folder: &Path) -> Result<(), Failure> {
    // The zeros that one spool writes ahead would be in the way of the other's flushes.
    let options = SpoolOptions { prepare_after: None, ..SpoolOptions::default() };
    let (spool, opened) = Spool::open(folder, options, |reason| tell(&reason))?;
    let memory = field("/proc/self/status", "VmRSS:")? << 10;
    answer(&[u64::try_from(opened.took.as_millis())?, opened.replayed, memory]);
    for line in std::io::stdin().lines() {
        let line = line?;
        let mut words = line.split(' ');
        let request = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words.map(str::parse).collect::<Result<_, _>>()?;
        match (request, &numbers[..]) {
            ("receive", [receivers, instances]) => answer(&receive(&spool, *receivers, *instances)?),
            ("deliver", [deliveries]) => answer(&[u64::try_from(deliver(&spool, *deliveries)?.as_millis())?]),
            ("queued", []) => answer(&[queued(&spool)?]),
            _ => return Err(format!("unknown request: {line}").into()),
        }
    }
    spool.close();
    Ok(())
}

fn receive(spool: &Spool, receivers: u64, instances: u64) -> Result<Vec<u64>, Failure> {
    let before = queued(spool)?;
    let share = |receiver: u64| instances / receivers + u64::from(receiver < instances % receivers);
    let all = std::thread::scope(|scope| {
        let work = |receiver| move || (0..share(receiver)).map(|_| receive_one(spool)).collect::<Result<Vec<_>, _>>();
        let threads: Vec<_> = (0..receivers).map(|receiver| scope.spawn(work(receiver))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a receiver panicked".into()))).collect()
    });
    let all: Result<Vec<Vec<u64>>, String> = all;
    wait_until(|| Ok(queued(spool)? >= before + instances))?;
    Ok(all?.concat())
}

/// Receives one instance and gives how long that took, in microseconds.
fn receive_one(spool: &Spool) -> Result<u64, String> {
    let text = |error: Failure| error.to_string();
    let (data, header) = (data_set(), header().map_err(text)?);
    let began = now();
    let mut incoming = spool.receive().map_err(|error| error.to_string())?;
    incoming.write(&data).map_err(|error| error.to_string())?;
    let (done, finished) = sync_channel(1);
    incoming.commit(
        header,
        Box::new(move |result| {
            // The other end waits for it.
            let _ = done.send(result);
        }),
    );
    finished.recv().map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    Ok(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX))
}

fn deliver(spool: &Spool, deliveries: u64) -> Result<Duration, Failure> {
    let (name, before) = (destination()?, queued(spool)?);
    let began: Instant = now();
    let mut left = usize::try_from(deliveries.min(before))?;
    while left > 0 {
        let claims = spool.claim(&name, spool.time(), left.min(AT_ONCE), Classes::All)?;
        left -= claims.len();
        for claim in claims {
            spool.record(claim, Attempt::default(), Outcome::Delivered { answer: "0000H".to_owned(), verify: None });
        }
    }
    wait_until(|| Ok(queued(spool)? <= before.saturating_sub(deliveries)))?;
    Ok(began.elapsed())
}

fn queued(spool: &Spool) -> Result<u64, Failure> {
    Ok(spool.status()?.destinations.iter().map(|destination| destination.queued.instances).sum())
}

/// Waits for the index. What is measured are seconds.
fn wait_until(mut condition: impl FnMut() -> Result<bool, Failure>) -> Result<(), Failure> {
    while !condition()? {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is how it answers")]
fn answer(numbers: &[u64]) {
    println!("{}", numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" "));
}

#[expect(clippy::print_stderr, reason = "for whoever waits")]
fn tell(text: &str) {
    eprintln!("{text}");
}
