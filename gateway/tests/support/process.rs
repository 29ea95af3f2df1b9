//! A child process whose output can be waited for, and which does not outlive the value that stands for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::until;

/// What a process has written so far, standard output and standard error in the order of their lines' arrival.
#[derive(Default)]
struct Output {
    lines: Mutex<Lines>,
    grown: Condvar,
}

#[derive(Default)]
struct Lines {
    written: Vec<String>,
    /// Those of standard output alone.
    printed: Vec<String>,
    open_pipes: usize,
}

impl Output {
    /// Collects lines until the pipe is closed.
    fn collect(self: &Arc<Self>, pipe: impl Read + Send + 'static, is_stdout: bool) -> JoinHandle<()> {
        self.lines.lock().unwrap().open_pipes += 1;
        let output = Arc::clone(self);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(pipe);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                let mut lines = output.lines.lock().unwrap();
                if is_stdout {
                    lines.printed.push(text.clone());
                }
                lines.written.push(text);
                drop(lines);
                output.grown.notify_all();
                line.clear();
            }
            output.lines.lock().unwrap().open_pipes -= 1;
            output.grown.notify_all();
        })
    }
}

/// A running or ended child process.
pub(crate) struct Process {
    name: String,
    child: Child,
    input: Mutex<Option<ChildStdin>>,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
}

/// What is left of a process that has ended.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    /// Standard output and standard error.
    pub(crate) lines: Vec<String>,
    /// Standard output alone.
    pub(crate) printed: String,
}

impl Finished {
    pub(crate) fn text(&self) -> String {
        self.lines.join("\n")
    }
}

impl Process {
    /// Starts the command; `name` is for messages.
    ///
    /// # Panics
    /// When it cannot be started, with the hint to install it.
    pub(crate) fn spawn(name: &str, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Debian keeps servers in folders that are not in everybody's search path.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("{name} cannot be started ({error}): run scripts/setup-test-peers, which installs it")
        });
        let output = Arc::new(Output::default());
        let readers = vec![
            output.collect(child.stdout.take().unwrap(), true),
            output.collect(child.stderr.take().unwrap(), false),
        ];
        let input = Mutex::new(child.stdin.take());
        Self { name: name.to_owned(), child, input, output, readers }
    }

    /// Starts the command, gives it this standard input, and waits until it ends by itself.
    pub(crate) fn run(name: &str, command: Command, input: &str, limit: Duration) -> Finished {
        let process = Self::spawn(name, command);
        process.write(input);
        process.finish(limit)
    }

    /// Writes to the standard input and closes it. A process that has ended does not read it; that is not an error.
    pub(crate) fn write(&self, input: &str) {
        drop(self.input.lock().unwrap().take().unwrap().write_all(input.as_bytes()));
    }

    /// Writes a line to the standard input and leaves it open.
    pub(crate) fn write_line(&self, line: &str) {
        writeln!(self.input.lock().unwrap().as_ref().unwrap(), "{line}").unwrap();
    }

    /// Waits for a line that `wanted` gives a value for, among those from number `from` on. Gives the value and the
    /// number of the line after it.
    ///
    /// # Panics
    /// When the process has ended without it, or `limit` has passed.
    pub(crate) fn wait_for_line<T>(
        &self,
        from: usize,
        limit: Duration,
        wanted: impl Fn(&str) -> Option<T>,
    ) -> (T, usize) {
        let start = waystation::clock::now();
        let mut next = from;
        let mut lines = self.output.lines.lock().unwrap();
        loop {
            while let Some(line) = lines.written.get(next) {
                next += 1;
                if let Some(value) = wanted(line) {
                    return (value, next);
                }
            }
            let what = if lines.open_pipes == 0 { "ended" } else { "is silent" };
            let left = limit.saturating_sub(start.elapsed());
            if lines.open_pipes == 0 || left.is_zero() {
                let written = lines.written.join("\n");
                // Those who read the output need the lock to their end.
                drop(lines);
                panic!("{} {what} without the awaited line; it wrote:\n{written}", self.name);
            }
            lines = self.output.grown.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits for a line that `wanted` gives a value for, or for the end of the process.
    ///
    /// # Panics
    /// When `limit` has passed without either.
    pub(crate) fn line_or_end<T>(&self, limit: Duration, wanted: impl Fn(&str) -> Option<T>) -> Option<T> {
        let start = waystation::clock::now();
        let mut lines = self.output.lines.lock().unwrap();
        loop {
            let found = lines.written.iter().find_map(|line| wanted(line));
            if found.is_some() || lines.open_pipes == 0 {
                return found;
            }
            let left = limit.saturating_sub(start.elapsed());
            assert!(!left.is_zero(), "{} is silent; it wrote:\n{}", self.name, lines.written.join("\n"));
            lines = self.output.grown.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// The lines written so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.output.lines.lock().unwrap().written.clone()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends a signal; to a process that has ended it is not an error.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
        self.child.wait().unwrap();
        self.join_readers();
    }

    /// Waits until it ends by itself.
    pub(crate) fn finish(mut self, limit: Duration) -> Finished {
        drop(self.input.lock().unwrap().take());
        let status = self.wait(limit);
        let printed = self.output.lines.lock().unwrap().printed.join("\n");
        Finished { status, lines: self.lines(), printed }
    }

    /// Waits until it ends by itself; it can still be asked for its lines.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        // Told at once by the end of its output, as a rule.
        self.line_or_end(limit, |_| None::<()>);
        let output = Arc::clone(&self.output);
        let status = until(&format!("the end of {}", self.name), limit, || {
            let so_far = || format!("it runs, and wrote:\n{}", output.lines.lock().unwrap().written.join("\n"));
            self.child.try_wait().unwrap().ok_or_else(so_far)
        });
        self.join_readers();
        status
    }

    fn join_readers(&mut self) {
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
