//! A receiver that keeps nothing: it accepts everything, reads, and answers each C-STORE with 0000. It shows what the
//! sender and the loopback interface can do at most, and what they cost.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use dicom_ul::pdu::{
    AssociationAC, Pdu, PresentationContextResult, PresentationContextResultReason, UserVariableItem, read_pdu,
    write_pdu,
};
use waystation::dimse::{CStore, Command, Response, Status};
use waystation::model::{Priority, Uid};

use super::{load, sender};

/// Serves until it is killed.
pub(crate) fn serve(port: u16) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    loop {
        let (stream, _) = listener.accept()?;
        std::thread::spawn(move || {
            // The sender sees for itself how it ended.
            let _ = associate(stream);
        });
    }
}

fn associate(mut stream: TcpStream) -> Result<(), Box<dyn Error>> {
    stream.set_nodelay(true)?;
    let request = sender::next_pdu(&mut stream)?;
    let Some(Pdu::AssociationRQ(request)) = read_pdu(&request[..], 128 << 10, false)? else {
        return Err("no request for an association".into());
    };
    let accept = request.presentation_contexts.iter().map(|context| PresentationContextResult {
        id: context.id,
        reason: PresentationContextResultReason::Acceptance,
        transfer_syntax: context.transfer_syntaxes.first().cloned().unwrap_or_default(),
    });
    let answer = Pdu::AssociationAC(AssociationAC {
        protocol_version: 1,
        calling_ae_title: request.calling_ae_title,
        called_ae_title: request.called_ae_title,
        application_context_name: request.application_context_name,
        presentation_contexts: accept.collect(),
        user_variables: vec![
            UserVariableItem::MaxLength(128 << 10),
            UserVariableItem::ImplementationClassUID("2.25.1".to_owned()),
        ],
    });
    let mut bytes = Vec::new();
    write_pdu(&mut bytes, &answer)?;
    stream.write_all(&bytes)?;

    let uid = "2.25.1".parse::<Uid>()?;
    let asked = CStore {
        message_id: 1,
        sop_class_uid: uid.clone(),
        sop_instance_uid: uid,
        priority: Priority::Routine,
        move_originator: None,
    };
    let mut response = Vec::new();
    load::pdu(&mut response, 1, 3, &Response::to(&Command::CStore(asked), Status::SUCCESS).encode())?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let mut head = [0; 12];
        stream.read_exact(head.get_mut(..6).unwrap_or_default())?;
        let [kind, _, l0, l1, l2, l3, ..] = head;
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3]))?;
        if kind != 4 {
            stream.write_all(&[6, 0, 0, 0, 0, 4, 0, 0, 0, 0])?;
            return Ok(());
        }
        stream.read_exact(buffer.get_mut(..length).ok_or("a PDU that is too long")?)?;
        // The last fragment of a data set.
        if buffer.get(5).is_some_and(|header| header & 3 == 2) {
            stream.write_all(&response)?;
        }
    }
}
