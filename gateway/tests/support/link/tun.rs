//! A TUN device: a network interface whose other end is a file (`Documentation/networking/tuntap.rst`).

#![expect(unsafe_code, reason = "the device is attached to the file by an ioctl, which only exists as an unsafe call")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;

/// `struct ifreq`, as TUNSETIFF reads it: the name, the flags, and the rest of a union.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// IP packets with nothing before them.
const IFF_TUN_NO_PI: u16 = 0x0001 | 0x1000;

// Declared as if it took an int, which its number has kept.
nix::ioctl_write_ptr_bad!(attach, nix::request_code_write!(b'T', 202, size_of::<i32>()), Request);

/// Makes the device in the network namespace of the calling thread. It is gone when the file is closed. Reads do not
/// block. No offloads are asked for, so the kernel cuts everything to the MTU and fills in the checksums before it comes.
pub(super) fn open(name: &str) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open("/dev/net/tun")?;
    let mut request = Request { name: [0; 16], flags: IFF_TUN_NO_PI, rest: [0; 22] };
    let bytes = name.as_bytes();
    let place = request.name.get_mut(..bytes.len()).filter(|_| bytes.len() < 16);
    place.ok_or_else(|| io::Error::other("the name of a device has at most 15 bytes"))?.copy_from_slice(bytes);
    // SAFETY: the kernel reads 40 bytes, which is what a `Request` is, and writes the name back into them.
    unsafe { attach(file.as_raw_fd(), &raw mut request) }?;
    Ok(file)
}
