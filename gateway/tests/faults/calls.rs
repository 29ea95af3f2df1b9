//! Every system call of a first start, of receptions, of deliveries and of a stop fails once, fails from there on, or is
//! the last one.
//!
//! The scenario is short, so that all of it can be run for each call: an empty data directory, a few small instances and
//! a large one, a folder as the archive, SIGTERM. Then the gateway starts again on what is left, without faults.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::amount;
use super::injection::{Call, EVERY_CALL, Fault, Injector, NEEDS_DESCRIPTOR, NEEDS_ROOM, ON_FILES, calls};
use super::janitor::Place;
use super::sent::Sent;
use super::support::dcmtk::{Outcome, Outcomes, storescu};
use super::support::gateway::{Gateway, Setup};
use super::support::{PATIENCE, phantom, until};

const SMALL: u32 = 3;
/// Frames of half a mebibyte: more than fits into a shared segment.
const LARGE_FRAMES: u32 = 18;
/// How many calls of a scenario are tried, evenly spread, unless the environment asks for more.
const TRIED: u32 = 40;
/// An error that stays.
const FOR_EVER: u32 = 1_000_000;
/// An error that goes away: a neighbour who has used up the room, or the descriptors, for a while.
const A_WHILE: u32 = 8;

/// To be served again, once what failed works again.
const RECOVERY: Duration = Duration::from_secs(20);

/// What the gateway owes in spite of the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    /// To lose nothing; it may end if it says why.
    NothingLost,
    /// Once it was ready: to go on, to take everything when it is sent again, and to deliver it, without a new start.
    GoesOn,
}

struct Scenario {
    place: Place,
    injector: Injector,
    files: Vec<PathBuf>,
    fault: Fault,
    demand: Demand,
    /// What runs the gateway instead of nobody.
    runner: Vec<OsString>,
}

/// What has come of one trial.
#[derive(Default)]
struct Trial {
    hit: Option<Call>,
    was_ready: bool,
    /// It ended by itself, with its last words.
    ended: Option<String>,
    outcomes: Outcomes,
}

impl Scenario {
    fn new(fault: Fault, demand: Demand) -> Self {
        let place = Place::new();
        let series = place.folder("series");
        let mut files = phantom::ct_series(&series, SMALL, 64);
        files.push(series.join("large.dcm"));
        phantom::multi_frame(&files[files.len() - 1], LARGE_FRAMES);
        let injector = Injector::new(place.path());
        Self { place, injector, files, fault, demand, runner: Vec::new() }
    }

    /// The calls of a run without a fault.
    fn count(&mut self) -> usize {
        let (asked, demand) = (self.fault.times, self.demand);
        (self.fault.times, self.demand) = (0, Demand::GoesOn);
        let trace = self.place.path().join("trace");
        let trial = self.trial(1);
        assert!(trial.is_ok_and(|trial| trial.ended.is_none() && trial.hit.is_none()), "without a fault it fails");
        (self.fault.times, self.demand) = (asked, demand);
        calls(&trace, self.place.path()).len()
    }

    fn setup(&self, folder: &Path) -> Setup {
        Setup::new(folder.join("data")).with_folder("archive", &folder.join("archive")).configured(
            &self.place.path().join("settings.toml"),
            "[spool]\nsegment-size = \"16MiB\"\nreserve = \"16MiB\"\n[retry]\nfirst-delay = \"100ms\"\nmax-delay = \"1s\"\n\
             [drain]\ngrace = \"1s\"\n",
        )
    }

    /// One run with the fault at call number `first`.
    ///
    /// # Errors
    /// What the gateway owes and did not do.
    fn trial(&mut self, first: usize) -> Result<Trial, String> {
        let folder = self.place.folder("run");
        std::fs::create_dir(folder.join("archive")).unwrap();
        let trace = self.place.path().join("trace");
        drop(std::fs::remove_file(&trace));
        let setup = self.setup(&folder).run_by(self.runner.clone());
        let setup = self.injector.prepare(setup, &folder, &self.fault, first, &trace);
        let result = self.with_fault(setup, &folder, &trace);
        let hit = calls(&trace, &folder).into_iter().find(|call| call.failed);
        let story = || hit.as_ref().map_or("nothing".to_owned(), |call| format!("{} {}", call.name, call.path));
        let told = |problem: String| format!("call {first} ({}): {problem}", story());
        let (mut sent, mut trial) = result.map_err(told)?;
        self.after_it(&mut sent, &folder).map_err(|problem| {
            format!("{}; before it, {:?} and ended: {:?}", told(problem), trial.outcomes, trial.ended)
        })?;
        std::fs::remove_dir_all(&folder).unwrap();
        trial.hit = hit;
        Ok(trial)
    }

    fn with_fault(&mut self, setup: Setup, folder: &Path, trace: &Path) -> Result<(Sent, Trial), String> {
        let archive = folder.join("archive");
        let mut sent = Sent::default();
        sent.add(self.files.clone());
        let mut gateway = setup.begin();
        let killed = self.place.janitor.promise_to_kill(gateway.process().id());
        let mut trial = Trial { was_ready: gateway.is_ready(), ..Trial::default() };
        if trial.was_ready {
            trial.outcomes = storescu(&gateway.target(), &self.files);
            sent.saw(&trial.outcomes);
            if self.demand == Demand::GoesOn {
                let served = serves_again(&mut gateway, &mut sent, &archive);
                if !calls(trace, folder).iter().any(ends_the_process) {
                    served?;
                }
            } else if self.fault.times == 1 {
                until("the deliveries, or the end", PATIENCE, || {
                    let over = !gateway.process().is_running() || sent.missing(&archive).is_empty();
                    if over { Ok(()) } else { Err(format!("neither; its log:\n{}", gateway.log())) }
                });
            }
        }
        if gateway.process().is_running() && trial.was_ready {
            gateway.process().signal(Signal::SIGTERM);
        }
        let status = gateway.process().wait(PATIENCE);
        self.place.janitor.forget(&killed);
        let log = gateway.log();
        let was_killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(Signal::SIGKILL as i32);
        if was_killed && self.fault.error.is_none() {
            return Ok((sent, trial));
        }
        if !status.success() {
            // A sentence with the file or socket that is to blame; a thread that has not ended may say something behind it.
            let reason = log.lines().rfind(|line| line.starts_with("waystation: ")).unwrap_or_default().to_owned();
            let explained = reason.contains("/run/") || reason.contains("listen");
            if status.code() != Some(1) || !explained || log.contains("panicked") {
                return Err(format!("it ended with {status} and without a reason:\n{log}"));
            }
            trial.ended = Some(reason);
        }
        Ok((sent, trial))
    }

    /// A new start on what is left: it serves, and everything acknowledged arrives.
    fn after_it(&mut self, sent: &mut Sent, folder: &Path) -> Result<(), String> {
        let archive = folder.join("archive");
        let mut gateway = self.setup(folder).begin();
        let killed = self.place.janitor.promise_to_kill(gateway.process().id());
        if !gateway.is_ready() {
            return Err(format!("it does not start again:\n{}", gateway.log()));
        }
        let result = serves_again(&mut gateway, sent, &archive);
        gateway.kill();
        self.place.janitor.forget(&killed);
        result
    }

    /// All calls, or as many as are asked for.
    fn run(mut self, name: &str) {
        let began = waystation::clock::now();
        let count = self.count();
        let tried = usize::try_from(amount("WAYSTATION_FAULTS", TRIED)).unwrap().min(count);
        let (mut faults, mut ended, mut refused, mut not_sent) = (0, 0, 0, 0);
        let mut problems = Vec::new();
        let mut by_call: BTreeMap<String, u32> = BTreeMap::new();
        // The same numbers for everybody, and others in each run: the offset is drawn.
        let offset = fastrand::usize(0..count);
        for turn in 0..tried {
            let first = (turn * count / tried + offset) % count + 1;
            match self.trial(first) {
                Ok(trial) => {
                    faults += u32::from(trial.hit.is_some());
                    ended += u32::from(trial.ended.is_some());
                    for outcome in trial.outcomes.values() {
                        match outcome {
                            Outcome::Success => {}
                            Outcome::Answered(answer) => {
                                refused += 1;
                                if !answer.contains("OutOfResources") {
                                    problems.push(format!("call {first}: answered {answer}, and not A700"));
                                }
                            }
                            Outcome::NotSent(_) => not_sent += 1,
                        }
                    }
                    if let Some(call) = trial.hit {
                        *by_call.entry(call.name).or_default() += 1;
                    }
                }
                Err(problem) => problems.push(problem),
            }
            drop(std::fs::remove_dir_all(self.place.path().join("run")));
        }
        println!(
            "{name}: {faults} faults at {tried} of {count} calls {by_call:?}; {refused} instances refused, {not_sent} \
             unanswered; the process ended {ended} times; {} s",
            began.elapsed().as_secs()
        );
        assert!(problems.is_empty(), "{name}: {} of {tried} went wrong:\n{}", problems.len(), problems.join("\n"));
        assert!(faults > 0, "{name}: nothing was injected");
    }
}

/// The index is kept from meeting a full disk by room that is reserved. An injected error goes around that: the process
/// may end then, and what it has to do is to start again.
fn ends_the_process(call: &Call) -> bool {
    call.failed && call.path.starts_with("data/index.redb")
}

/// A modality sends again what it has no 0000 for, as often as it needs; everything arrives.
fn serves_again(gateway: &mut Gateway, sent: &mut Sent, archive: &Path) -> Result<(), String> {
    let start = waystation::clock::now();
    loop {
        if !gateway.process().is_running() {
            return Err(format!("it ended:\n{}", gateway.log()));
        }
        let waiting = sent.waiting();
        if !waiting.is_empty() {
            sent.saw(&storescu(&gateway.target(), &waiting));
        } else if sent.missing(archive).is_empty() {
            let corrupt = sent.corrupt(archive);
            return if corrupt.is_empty() { Ok(()) } else { Err(format!("not what was sent: {corrupt:?}")) };
        } else {
            std::thread::sleep(Duration::from_millis(20));
        }
        if start.elapsed() > RECOVERY {
            let (waiting, missing) = (sent.waiting(), sent.missing(archive));
            return Err(format!("refused {waiting:?}, missing {missing:?}; log:\n{}", gateway.log()));
        }
    }
}

/// Calls that neither change anything nor need anything: they are not tried.
const HARMLESS: &[&str] = &[
    "access",
    "close",
    "connect",
    "bind",
    "fadvise64",
    "fchmod",
    "fcntl",
    "flock",
    "fstat",
    "getdents64",
    "ioctl",
    "lseek",
    "newfstatat",
    "readlink",
    "readlinkat",
    "statx",
    "chmod",
];

/// A call as strace writes it, in the words of the injection; nothing if it is of no interest.
fn told_by_strace(line: &str, folder: &str) -> Option<String> {
    let (_, call) = line.split_once(' ')?;
    let (name, rest) = call.trim_start().split_once('(')?;
    if call.contains("resumed>") || !rest.contains(folder) || HARMLESS.contains(&name) {
        return None;
    }
    let name = match name {
        "openat" if rest.contains("O_CREAT") => "create",
        "openat" | "open" => "open",
        "pwrite64" => "pwrite",
        "pread64" => "pread",
        "renameat" | "renameat2" => "rename",
        "linkat" => "link",
        "unlinkat" => "unlink",
        "mkdirat" => "mkdir",
        "statfs" | "fstatfs" => "statvfs",
        other => other,
    };
    Some(name.to_owned())
}

/// The control of all the others: a call that the injection does not see is never made to fail.
#[test]
fn the_injection_sees_every_call_that_strace_sees() {
    let mut scenario = Scenario::new(Fault { calls: EVERY_CALL, error: None, times: 0 }, Demand::GoesOn);
    let (folder, log) = (scenario.place.path().join("run"), scenario.place.path().join("strace"));
    // It is the child that traces: the process that is signalled is the gateway.
    scenario.runner =
        ["strace", "-D", "-f", "-q", "-y", "-s", "8", "-e", "trace=%file,%desc", "-o"].map(OsString::from).to_vec();
    scenario.runner.push(log.clone().into());
    let trace = scenario.place.path().join("trace");
    if let Err(problem) = scenario.trial(1) {
        panic!("{problem}");
    }
    let mut seen: BTreeMap<String, i64> = BTreeMap::new();
    let text = until("strace to have written everything", PATIENCE, || {
        let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
        // Process ids of fewer than five digits are padded.
        let mut lines = text.lines().map(|line| line.split_whitespace().take(3).collect::<Vec<_>>());
        let gateway = lines.next().and_then(|words| words.first().copied()).unwrap_or_default();
        let exited = lines.any(|words| words == [gateway, "+++", "exited"]);
        if exited { Ok(text) } else { Err("it has not".to_owned()) }
    });
    for name in text.lines().filter_map(|line| told_by_strace(line, folder.to_str().unwrap())) {
        *seen.entry(name).or_default() += 1;
    }
    let all: i64 = seen.values().sum();
    for call in calls(&trace, &folder).iter().filter(|call| call.path != "socket") {
        let name = if call.name == "opendir" { "open" } else { &call.name };
        *seen.entry(name.to_owned()).or_default() -= 1;
    }
    seen.retain(|_, difference| *difference != 0);
    println!("{all} calls seen by strace");
    assert!(seen.is_empty(), "calls that only strace (or, below 0, only the injection) has seen: {seen:?}");
    assert!(all > 100, "strace has seen {all} calls only");
}

#[test]
fn a_kill_at_any_call_loses_nothing() {
    Scenario::new(Fault { calls: EVERY_CALL, error: None, times: 1 }, Demand::NothingLost).run("SIGKILL");
}

#[test]
fn an_error_of_the_disk_at_any_call_loses_nothing() {
    Scenario::new(Fault { calls: ON_FILES, error: Some(Errno::EIO), times: 1 }, Demand::NothingLost).run("EIO once");
}

#[test]
fn a_disk_that_fails_for_ever_from_any_call_on_loses_nothing() {
    let fault = Fault { calls: ON_FILES, error: Some(Errno::EIO), times: FOR_EVER };
    Scenario::new(fault, Demand::NothingLost).run("EIO for ever");
}

#[test]
fn a_full_disk_at_any_call_is_got_over() {
    let fault = Fault { calls: NEEDS_ROOM, error: Some(Errno::ENOSPC), times: 1 };
    Scenario::new(fault, Demand::GoesOn).run("ENOSPC once");
}

#[test]
fn a_disk_that_is_full_for_a_while_from_any_call_on_is_got_over() {
    let fault = Fault { calls: NEEDS_ROOM, error: Some(Errno::ENOSPC), times: A_WHILE };
    Scenario::new(fault, Demand::GoesOn).run("ENOSPC for a while");
}

#[test]
fn too_many_open_files_at_any_call_is_got_over() {
    let fault = Fault { calls: NEEDS_DESCRIPTOR, error: Some(Errno::EMFILE), times: 1 };
    Scenario::new(fault, Demand::GoesOn).run("EMFILE once");
}

#[test]
fn too_many_open_files_for_a_while_from_any_call_on_is_got_over() {
    let fault = Fault { calls: NEEDS_DESCRIPTOR, error: Some(Errno::EMFILE), times: A_WHILE };
    Scenario::new(fault, Demand::GoesOn).run("EMFILE for a while");
}
