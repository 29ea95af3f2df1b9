//! Listening sockets handed over by the service manager (`sd_listen_fds(3)`), so that port 104 needs no privilege and a
//! restart refuses no connection.
//!
//! The only module with unsafe code: a file descriptor that the service manager passed is known by its number alone.

use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd};

/// What `FileDescriptorName=` says of a socket on which DICOM over TLS is spoken; every other name is plain DICOM.
const TLS_NAME: &str = "dicom-tls";

/// A socket from the service manager.
#[derive(Debug)]
pub(super) struct Inherited {
    /// Whether DICOM over TLS is to be spoken on it.
    pub(super) tls: bool,
    /// The socket, listening already.
    pub(super) listener: TcpListener,
}

/// Takes the sockets that the service manager passed; none when the process was started in another way.
///
/// # Errors
/// The environment names sockets, but in a way that makes no sense.
#[expect(unsafe_code, reason = "a descriptor from the service manager has no owner yet; here it gets one")]
pub(super) fn take() -> io::Result<Vec<Inherited>> {
    let passed = sd_notify::listen_fds_with_names()?;
    let own = |(fd, name): (i32, String)| {
        // SAFETY: the service manager passed this open descriptor to this process alone, and `take` is called once.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        Inherited { tls: name == TLS_NAME, listener: TcpListener::from(owned) }
    };
    Ok(passed.map(own).collect())
}
