//! Lets the n-th system call of the gateway fail, or be its last.
//!
//! A small library in C, preloaded into the real binary, stands between it and the system (`inject.c`, which also tells
//! why no debugger does it). It sees the calls that go through the C library, which are all that Rust's standard library
//! makes; `calls` compares it with what strace sees.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;

use super::support::PATIENCE;
use super::support::gateway::Setup;
use super::support::process::Process;

/// Kinds of calls, as `inject.c` calls them.
pub(crate) const EVERY_CALL: &str = "rwsncoaq";
/// Those that a failing disk fails.
pub(crate) const ON_FILES: &str = "rwsncoq";
/// Those that need room on the disk.
pub(crate) const NEEDS_ROOM: &str = "wnc";
/// Those that need a file descriptor.
pub(crate) const NEEDS_DESCRIPTOR: &str = "coa";

/// What is to happen at a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    /// Which kinds of calls are counted and meant.
    pub(crate) calls: &'static str,
    /// The error, or nothing for SIGKILL.
    pub(crate) error: Option<Errno>,
    /// How many calls in a row.
    pub(crate) times: u32,
}

/// A call of the gateway on a file or socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// Relative to the folder that is watched.
    pub(crate) path: String,
    /// It was made to fail.
    pub(crate) failed: bool,
}

/// The library, built.
pub(crate) struct Injector(PathBuf);

impl Injector {
    /// Builds the library in this folder.
    pub(crate) fn new(folder: &Path) -> Self {
        let library = folder.join("inject.so");
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]).arg(&library);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/inject.c")).arg("-ldl");
        let ended = Process::run("cc", command, "", PATIENCE);
        assert!(ended.status.success(), "inject.c: {}", ended.text());
        Self(library)
    }

    /// A gateway whose calls below `folder` are counted from 1; from number `first` on the fault happens. What it calls
    /// is written to `trace`.
    pub(crate) fn prepare(&self, setup: Setup, folder: &Path, fault: &Fault, first: usize, trace: &Path) -> Setup {
        setup
            .environment("LD_PRELOAD", &self.0)
            .environment("INJECT_BELOW", folder)
            .environment("INJECT_CALLS", fault.calls)
            .environment("INJECT_FROM", first.to_string())
            .environment("INJECT_TIMES", fault.times.to_string())
            .environment("INJECT_ERROR", fault.error.map_or(0, |error| error as i32).to_string())
            .environment("INJECT_TRACE", trace)
    }
}

/// The calls in a trace, in the order of their numbers.
pub(crate) fn calls(trace: &Path, folder: &Path) -> Vec<Call> {
    let text = std::fs::read_to_string(trace).unwrap_or_default();
    let mut calls: Vec<(usize, Call)> = text
        .lines()
        .map(|line| {
            let (number, rest) = line.split_once(' ').unwrap();
            let (name, path) = rest.split_once(' ').unwrap();
            let (path, failed) = path.strip_suffix(" !").map_or((path, false), |path| (path, true));
            let path = Path::new(path).strip_prefix(folder).map_or(path.to_owned(), |path| path.display().to_string());
            (number.parse().unwrap(), Call { name: name.to_owned(), path, failed })
        })
        .collect();
    calls.sort_by_key(|(number, _)| *number);
    calls.into_iter().map(|(_, call)| call).collect()
}
