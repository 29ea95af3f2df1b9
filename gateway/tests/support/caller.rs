//! A calling application entity that says whatever it is told to, and understands what is answered.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::bytes::{LAST, Request, echo};

/// What the gateway said, or did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A-ASSOCIATE-AC.
    Accept,
    /// A-ASSOCIATE-RJ: result, source, reason.
    Reject(u8, u8, u8),
    /// A-ABORT: source, reason.
    Abort(u8, u8),
    /// A response with this status.
    Status(u16),
    /// A-RELEASE-RP.
    Released,
    /// It closed the connection.
    Close,
    /// Something that is not DICOM.
    Foreign,
    /// Nothing, for longer than anybody waits.
    Silence,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("A-ASSOCIATE-AC"),
            Self::Reject(result, source, reason) => write!(f, "A-ASSOCIATE-RJ {result},{source},{reason}"),
            Self::Abort(source, reason) => write!(f, "A-ABORT {source},{reason}"),
            Self::Status(status) => write!(f, "status {status:04X}"),
            Self::Released => f.write_str("A-RELEASE-RP"),
            Self::Close => f.write_str("close"),
            Self::Foreign => f.write_str("something else"),
            Self::Silence => f.write_str("nothing"),
        }
    }
}

/// One connection to the gateway.
pub(crate) struct Caller {
    stream: TcpStream,
}

impl Caller {
    /// Connects from this address of the loopback network.
    ///
    /// # Errors
    /// The system does not let it.
    pub(crate) fn try_from_address(from: Ipv4Addr, port: u16, patience: Duration) -> std::io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket.connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into(), patience)?;
        socket.set_tcp_nodelay(true)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self { stream })
    }

    pub(crate) fn new(port: u16, patience: Duration) -> Self {
        Self::try_from_address(Ipv4Addr::LOCALHOST, port, patience).expect("the port is open")
    }

    /// The local address, by which the gateway's log knows it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Sends these bytes. The gateway may have closed before it has read them all; that is its answer then, and no error.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
    }

    pub(crate) fn half_close(&mut self) {
        drop(self.stream.shutdown(Shutdown::Write));
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        drop(socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)));
    }

    /// The next answer. A response may come in several P-DATA-TF.
    pub(crate) fn answer(&mut self) -> Answer {
        let mut response = Vec::new();
        loop {
            let (kind, content) = match self.read_pdu() {
                Ok(pdu) => pdu,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Answer::Silence;
                }
                Err(error) if error.kind() == ErrorKind::InvalidData => return Answer::Foreign,
                Err(_) => return Answer::Close,
            };
            match (kind, &content[..]) {
                (2, _) => return Answer::Accept,
                (3, [_, result, source, reason]) => return Answer::Reject(*result, *source, *reason),
                (7, [_, _, source, reason]) => return Answer::Abort(*source, *reason),
                (6, _) => return Answer::Released,
                (4, [_, _, _, _, _, header, data @ ..]) => {
                    response.extend_from_slice(data);
                    if header & LAST != 0 {
                        return status(&response).map_or(Answer::Foreign, Answer::Status);
                    }
                }
                _ => return Answer::Foreign,
            }
        }
    }

    fn read_pdu(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 6];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[2], head[3], head[4], head[5]]);
        if !(1..=7).contains(&head[0]) || length > 1 << 20 {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut content = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut content)?;
        Ok((head[0], content))
    }

    /// An association, as the default request has it.
    pub(crate) fn associate(&mut self) {
        self.send(&Request::default().bytes());
        assert_eq!(self.answer(), Answer::Accept);
    }

    /// Whether the association works: C-ECHO, then release.
    pub(crate) fn echo_and_release(&mut self) -> [Answer; 2] {
        self.send(&echo(0x7777));
        let echoed = self.answer();
        self.send(&super::bytes::pdu(5, &[0; 4]));
        [echoed, self.answer()]
    }
}

/// Status (0000,0900) of a command set.
fn status(mut set: &[u8]) -> Option<u16> {
    loop {
        let (head, rest) = set.split_at_checked(8)?;
        let length = usize::try_from(u32::from_le_bytes(head[4..8].try_into().unwrap())).unwrap();
        let (value, rest) = rest.split_at_checked(length)?;
        if head[..4] == [0, 0, 0, 9] {
            return Some(u16::from_le_bytes(value.try_into().ok()?));
        }
        set = rest;
    }
}
