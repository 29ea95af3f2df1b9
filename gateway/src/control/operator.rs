//! Who asks at the control socket, as the kernel says it.

use std::fmt;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use nix::unistd::{Uid, User};
use tokio::net::UnixListener;

/// The user of the process at the other end. Shown, it is a name with a number, for the log and the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operator(Option<u32>);

impl Connected<IncomingStream<'_, UnixListener>> for Operator {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(stream.io().peer_cred().ok().map(|peer| peer.uid()))
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(uid) = self.0 else { return f.write_str("a user of whom the system says nothing") };
        match User::from_uid(Uid::from_raw(uid)) {
            Ok(Some(user)) => write!(f, "{} (uid {uid})", user.name),
            _ => write!(f, "uid {uid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_named_as_far_as_he_is_known() {
        assert_eq!(Operator(Some(0)).to_string(), "root (uid 0)");
        assert_eq!(Operator(Some(4_000_000_000)).to_string(), "uid 4000000000");
        assert!(Operator(None).to_string().starts_with("a user of whom"));
    }
}
