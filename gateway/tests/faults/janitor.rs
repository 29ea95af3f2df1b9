//! Takes away what a test leaves in the system: mounts, loop devices, processes, folders. Also when the test panics, is
//! interrupted or killed.
//!
//! The janitor is a shell in a process group of its own, which ignores the signals of a terminal. It is told of each duty
//! *before* there is anything to take away; a duty is therefore a command that does nothing if there is nothing to do.
//! When its standard input ends, for whatever reason, it does what is left, the latest first.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tempfile::TempDir;

/// `again` tries for five seconds: what holds a mount or a device may need a moment to end.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
PATH=$PATH:/usr/sbin:/sbin
again() { tries=100; until problem=$("$@" 2>&1); do tries=$((tries - 1)); [ $tries -gt 0 ] || { echo "$*: $problem"; return 1; }; sleep 0.05; done; }
unmount() { if mountpoint -q "$1"; then again umount "$1"; fi; }
unfuse() { if mountpoint -q "$1"; then again fusermount3 -u "$1"; fi; }
detach() { for device in $(losetup -n -O NAME -j "$1"); do again losetup -d "$device"; done; }
wake() { if [ -s "$1" ]; then kill -CONT "$(cat "$1")" 2>/dev/null; fi; true; }
end() { if [ -s "$1" ]; then kill -KILL "$(cat "$1")" 2>/dev/null; rm -f "$1"; fi; true; }
left=
while read -r verb number command; do
    case $verb in
    duty) eval "duty_$number=\$command"; left="$number $left" ;;
    done) eval "duty_$number=true" ;;
    now) eval "command=\$duty_$number; duty_$number=true"; said=$(eval "$command" 2>&1); echo "$?" $said ;;
    esac
done
for number in $left; do eval "eval \"\$duty_$number\""; done >/dev/null 2>&1
"#;

/// See the module. It does all its duties when it is dropped.
pub(crate) struct Janitor {
    shell: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    next: u32,
}

/// Something that is to be taken away.
pub(crate) struct Duty(u32);

impl Janitor {
    fn new() -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT]).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut shell = command.spawn().expect("sh cannot be started");
        let orders = shell.stdin.take();
        let answers = BufReader::new(shell.stdout.take().unwrap());
        Self { shell, orders, answers, next: 0 }
    }

    fn order(&mut self, line: &str) {
        assert!(!line.contains('\n'), "{line:?} is not one line");
        let orders = self.orders.as_mut().expect("the janitor has its orders until it is dropped");
        writeln!(orders, "{line}").expect("the janitor has ended");
    }

    /// Will run `verb path`; the verbs are the functions of the script.
    pub(crate) fn promise(&mut self, verb: &str, path: &Path) -> Duty {
        let path = path.to_str().filter(|path| !path.contains('\'')).expect("a path that a shell can read");
        self.take_on(&format!("{verb} '{path}'"))
    }

    /// Will kill the process with this id, unless [`Janitor::forget`] says that it has ended.
    pub(crate) fn promise_to_kill(&mut self, process: u32) -> Duty {
        self.take_on(&format!("kill -KILL {process} 2>/dev/null"))
    }

    fn take_on(&mut self, command: &str) -> Duty {
        self.next += 1;
        self.order(&format!("duty {} {command}", self.next));
        Duty(self.next)
    }

    /// It is gone already.
    pub(crate) fn forget(&mut self, duty: &Duty) {
        self.order(&format!("done {}", duty.0));
    }

    /// Does it now.
    ///
    /// # Panics
    /// When it cannot be done, unless the test fails already.
    pub(crate) fn discharge(&mut self, duty: &Duty) {
        self.order(&format!("now {}", duty.0));
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        let answer = answer.trim_end();
        assert!(answer.starts_with('0') || std::thread::panicking(), "cleaning up failed: {answer}");
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.orders.take());
        drop(self.shell.wait());
    }
}

/// A folder for one test on the disk that holds the build, with a janitor who removes it in any case.
pub(crate) struct Place {
    /// Dropped first: what it takes away is in the folder.
    pub(crate) janitor: Janitor,
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut janitor = Janitor::new();
        janitor.promise("rm -rf --one-file-system --", folder.path());
        Self { janitor, folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A new empty folder with this name.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    }
}
