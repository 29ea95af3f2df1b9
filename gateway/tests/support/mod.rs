//! What the end-to-end tests stand on: the gateway as its own process, real peers on both sides of it, a throw-away CA
//! and instances to send.
//!
//! Nothing here uses the gateway's own protocol, data set or TLS code: shared code would hide shared bugs. The peers are
//! DCMTK, Orthanc, pynetdicom and dcmjs-dimse (`scripts/setup-test-peers` installs them), and a few lines of PS3.10 of our
//! own.
//! Everything listens on the loopback interface as far as the peer can be told to, on ports nobody else is given.
//! Every process is ended by its own id when the value that stands for it is dropped.

pub(crate) mod asked;
pub(crate) mod bytes;
pub(crate) mod caller;
pub(crate) mod committing;
pub(crate) mod dcmjs;
pub(crate) mod dcmtk;
mod files;
pub(crate) mod gateway;
pub(crate) mod orthanc;
pub(crate) mod orthanc_server;
pub(crate) mod orthanc_web;
pub(crate) mod part10;
pub(crate) mod phantom;
pub(crate) mod pki;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod pynetdicom;
pub(crate) mod stow;
pub(crate) mod stream;
pub(crate) mod studies;
pub(crate) mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use files::files_below;

/// How long a peer may take to be ready, or a short transfer to be over, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The root of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A folder of its own for one test, on the disk that holds the build (never a RAM disk), removed at its end.
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A new empty folder with this name.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.0.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    }
}

/// Waits until `condition` gives a value, looking again and again: other people's processes tell no other way.
///
/// # Panics
/// When `limit` has passed, with the last thing that `condition` had to say.
pub(crate) fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let start = waystation::clock::now();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(state) if start.elapsed() > limit => panic!("waited {limit:?} for {what}; at last: {state}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
