//! The modality: a thread and a blocking socket for each association, and nothing between them and the bytes.
//!
//! It is not made of the gateway's own association, which would cost the sender, on the same processors, nearly what it
//! costs the receiver. The PDUs of the negotiation are dicom-ul's.

use std::error::Error;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dicom_ul::pdu::{
    AssociationRQ, Pdu, PresentationContextProposed, PresentationContextResultReason, UserVariableItem, read_pdu,
    write_pdu,
};
use waystation::clock::now;

use super::load::{Load, Message};

/// Our own maximum PDU length; what we send is bounded by the peer's.
const MAX_PDU: u32 = 128 << 10;
const CONTEXT: u8 = 1;
/// How long a receiver may take to accept an association after its start, and to answer at all.
const PATIENCE: Duration = Duration::from_secs(120);

/// The rest after the warm-up: a receiver that has something to do then may do it, as between two studies.
const REST: Duration = Duration::from_secs(3);

/// Numbers the instances of this run.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// An association that is established.
pub(crate) struct Association {
    stream: TcpStream,
    input: BufReader<TcpStream>,
    messages: Vec<Message>,
}

impl Association {
    /// Connects and negotiates one presentation context.
    fn open(address: SocketAddr, called: &str, load: &Load) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = Pdu::AssociationRQ(AssociationRQ {
            protocol_version: 1,
            calling_ae_title: "BENCH".to_owned(),
            called_ae_title: called.to_owned(),
            application_context_name: "1.2.840.10008.3.1.1.1".to_owned(),
            presentation_contexts: vec![PresentationContextProposed {
                id: CONTEXT,
                abstract_syntax: load.sop_class.to_string(),
                transfer_syntaxes: vec![load.transfer_syntax.to_string()],
            }],
            user_variables: vec![
                UserVariableItem::MaxLength(MAX_PDU),
                UserVariableItem::ImplementationClassUID("2.25.1".to_owned()),
            ],
        });
        let mut bytes = Vec::new();
        write_pdu(&mut bytes, &request)?;
        (&stream).write_all(&bytes)?;
        let mut input = BufReader::new(stream.try_clone()?);
        let answer = next_pdu(&mut input)?;
        let Some(Pdu::AssociationAC(accepted)) = read_pdu(&answer[..], MAX_PDU, false)? else {
            return Err("the association was not accepted".into());
        };
        let is_accepted = accepted
            .presentation_contexts
            .iter()
            .any(|context| context.id == CONTEXT && context.reason == PresentationContextResultReason::Acceptance);
        if !is_accepted {
            return Err(format!("the receiver does not accept {} in {}", load.sop_class, load.transfer_syntax).into());
        }
        let max_pdu = accepted.user_variables.iter().find_map(|item| match item {
            UserVariableItem::MaxLength(length) if *length > 0 => Some(*length),
            _ => None,
        });
        let max_pdu = usize::try_from(max_pdu.unwrap_or(MAX_PDU).min(MAX_PDU))?;
        let messages = load.messages(CONTEXT, max_pdu).map_err(|error| error.to_string())?;
        Ok(Self { stream, input, messages })
    }

    /// As [`Association::open`], again and again while the receiver starts.
    pub(crate) fn open_when_ready(address: SocketAddr, called: &str, load: &Load) -> Result<Self, Box<dyn Error>> {
        let began = now();
        loop {
            match Self::open(address, called, load) {
                Ok(association) => return Ok(association),
                Err(error) if began.elapsed() > PATIENCE => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Asks for release and hears the answer, whatever it is.
    pub(crate) fn release(mut self) {
        let _ = self.stream.write_all(&[5, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
        let _ = next_pdu(&mut self.input);
    }

    /// Sends `count` instances, each after the answer to the one before.
    fn store(&mut self, count: usize) -> Result<(), Box<dyn Error + Send + Sync>> {
        let length = self.messages.len();
        for number in 0..count {
            let message = self.messages.get_mut(number % length).ok_or("nothing to send")?;
            message.send(NEXT.fetch_add(1, Ordering::Relaxed), &mut &self.stream)?;
            let answer = next_pdu(&mut self.input)?;
            match status(&answer) {
                Some(0) => {}
                Some(status) => return Err(format!("answered with status {status:04X}").into()),
                None => return Err("answered with something that is no C-STORE response".into()),
            }
        }
        Ok(())
    }
}

/// Sends `warm_up` instances and, after a rest, `count` over each association at once. Gives the times between which the latter
/// happened; `at_start` is called at the first of them.
pub(crate) fn run(
    associations: &mut [Association],
    warm_up: usize,
    count: usize,
    at_start: impl FnOnce(),
) -> Result<(Instant, Instant), Box<dyn Error>> {
    let (warm, go) = (Barrier::new(associations.len() + 1), Barrier::new(associations.len() + 1));
    std::thread::scope(|scope| {
        let threads: Vec<_> = associations
            .iter_mut()
            .map(|association| {
                let (warm, go) = (&warm, &go);
                scope.spawn(move || {
                    let warmed_up = association.store(warm_up);
                    warm.wait();
                    go.wait();
                    warmed_up.and_then(|()| association.store(count))
                })
            })
            .collect();
        warm.wait();
        std::thread::sleep(REST);
        at_start();
        let began = now();
        go.wait();
        let results: Vec<_> = threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        let ended = now();
        for result in results {
            result.map_err(|_| "a sender panicked")?.map_err(|error| error as Box<dyn Error>)?;
        }
        Ok((began, ended))
    })
}

/// The next PDU, with its head.
pub(crate) fn next_pdu(input: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut pdu = vec![0; 6];
    input.read_exact(&mut pdu)?;
    let length = pdu.last_chunk().map_or(0, |length| u32::from_be_bytes(*length));
    input.take(u64::from(length)).read_to_end(&mut pdu)?;
    Ok(pdu)
}

/// Status (0000,0900) of a C-STORE response that is one PDU.
fn status(pdu: &[u8]) -> Option<u16> {
    let mut set = pdu.strip_prefix(&[4])?.get(11..)?;
    while let Some(([g0, g1, e0, e1, l0, l1, l2, l3], rest)) = set.split_first_chunk() {
        let length = usize::try_from(u32::from_le_bytes([*l0, *l1, *l2, *l3])).ok()?;
        let (value, rest) = rest.split_at_checked(length)?;
        if [*g0, *g1, *e0, *e1] == [0, 0, 0, 9] {
            return value.first_chunk().map(|value| u16::from_le_bytes(*value));
        }
        set = rest;
    }
    None
}
