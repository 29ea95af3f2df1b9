//! The first bytes of a connection, looked at before anything is parsed: who speaks something else than the port is for
//! is told so, and the log says what to change.
//!
//! The bytes are only peeked at; what belongs here finds them untouched. One look at whatever has come is enough, because
//! every protocol that is recognised says its first word in one piece; for who does not, there are the upper layer and the
//! TLS library, which refuse it all the same.
//!
//! Everybody is answered with an A-ABORT, a TLS hello too. A TLS alert would be an answer in TLS, as if this port spoke
//! it; to an A-ABORT the usual libraries say "wrong version number", which is how a port without TLS is known.

use std::net::IpAddr;

use tokio::net::TcpStream;

use crate::association::{Abort, FIRST_BYTES, Spoken, recognise};
use crate::metrics::Rejection;

/// What a connection speaks. `None` if it ends without a byte, which is how a port check looks.
pub(super) async fn listen(stream: &TcpStream) -> Option<Spoken> {
    let mut first = [0; FIRST_BYTES];
    let length = stream.peek(&mut first).await.unwrap_or(0);
    (length > 0).then(|| recognise(first.get(..length).unwrap_or_default()))
}

/// A port as its visitors see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) number: u16,
    pub(super) is_tls: bool,
    /// Where the other kind of connection is taken, if it is.
    pub(super) other: Option<u16>,
}

/// A connection that is in the wrong place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistake {
    /// As what it is counted.
    pub(super) kind: Rejection,
    /// What it is told.
    pub(super) abort: Abort,
    /// Cause and remedy.
    pub(super) sentence: String,
}

impl Mistake {
    /// What is wrong with speaking this to this port; `None` if nothing is, or if nobody can say yet.
    pub(super) fn of(spoken: Spoken, address: IpAddr, port: Port) -> Option<Self> {
        let Port { number, is_tls, other } = port;
        let not_dicom = |name: &str| {
            let sentence = format!(
                "{address} speaks {name} to port {number}, which is for DICOM: correct the address or port in what runs \
                 there, a browser, a health check or a port scan"
            );
            Some(Self { kind: Rejection::NotDicom, abort: Abort::UNRECOGNIZED_PDU, sentence })
        };
        match (spoken, is_tls) {
            (Spoken::Tls, false) => {
                let remedy = match other {
                    Some(other) => format!("set the device to port {other}, or switch TLS off there"),
                    None => "switch TLS off there, or give this gateway a port for TLS (listen-tls)".to_owned(),
                };
                let sentence = format!("{address} speaks TLS to the plain port {number}: {remedy}");
                Some(Self { kind: Rejection::TlsOnPlain, abort: Abort::UNRECOGNIZED_PDU, sentence })
            }
            (Spoken::Dicom, true) => {
                let remedy = match other {
                    Some(other) => format!("switch TLS on at the device, or set it to port {other}"),
                    None => "switch TLS on at the device".to_owned(),
                };
                let sentence = format!("{address} speaks DICOM without TLS to the TLS port {number}: {remedy}");
                Some(Self { kind: Rejection::PlainOnTls, abort: Abort::NOT_SPECIFIED, sentence })
            }
            (Spoken::Http, _) => not_dicom("HTTP"),
            (Spoken::Ssh, _) => not_dicom("SSH"),
            (Spoken::Tls, true) | (Spoken::Dicom, false) | (Spoken::Unknown, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Port = Port { number: 11112, is_tls: false, other: Some(2762) };
    const TLS: Port = Port { number: 2762, is_tls: true, other: Some(11112) };

    fn mistake(spoken: Spoken, port: Port) -> (Rejection, String) {
        let mistake = Mistake::of(spoken, "192.168.1.20".parse().unwrap(), port).unwrap();
        (mistake.kind, mistake.sentence)
    }

    #[test]
    fn both_kinds_of_wrong_port_are_told_with_the_right_one() {
        let (kind, sentence) = mistake(Spoken::Tls, PLAIN);
        assert_eq!(kind, Rejection::TlsOnPlain);
        assert_eq!(
            sentence,
            "192.168.1.20 speaks TLS to the plain port 11112: set the device to port 2762, or switch TLS off there"
        );
        let (_, sentence) = mistake(Spoken::Tls, Port { other: None, ..PLAIN });
        assert!(sentence.ends_with("give this gateway a port for TLS (listen-tls)"), "{sentence}");
        let (kind, sentence) = mistake(Spoken::Dicom, TLS);
        assert_eq!(kind, Rejection::PlainOnTls);
        assert!(sentence.ends_with("switch TLS on at the device, or set it to port 11112"), "{sentence}");
        let (_, sentence) = mistake(Spoken::Dicom, Port { other: None, ..TLS });
        assert!(sentence.ends_with("switch TLS on at the device"), "{sentence}");
    }

    #[test]
    fn what_is_no_dicom_at_all_is_told_on_either_port() {
        for port in [PLAIN, TLS] {
            for (spoken, name) in [(Spoken::Http, "HTTP"), (Spoken::Ssh, "SSH")] {
                let (kind, sentence) = mistake(spoken, port);
                assert_eq!(kind, Rejection::NotDicom);
                assert!(sentence.contains(&format!("speaks {name} to port {}", port.number)), "{sentence}");
            }
        }
    }

    #[test]
    fn what_belongs_here_is_no_mistake() {
        let address = "192.168.1.20".parse().unwrap();
        for (spoken, port) in
            [(Spoken::Tls, TLS), (Spoken::Dicom, PLAIN), (Spoken::Unknown, PLAIN), (Spoken::Unknown, TLS)]
        {
            assert_eq!(Mistake::of(spoken, address, port), None);
        }
    }
}
