//! Writes the seeds of the corpora: whole conversations between our own two sides, our own command sets, and a phantom in
//! several encodings. `scripts/fuzz seeds` runs it.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fs, io};

use dicom_core::Tag;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use waystation::association::transport::{accept, connect};
use waystation::association::{AcceptorSettings, Decision, Indication, Preference, RequestorSettings};
use waystation::dataset::inflate::Deflater;
use waystation::dataset::part10::write_file_meta;
use waystation::dataset::recode::Recoder;
use waystation::dataset::transfer_syntax::Encoding;
use waystation::dataset::vr::Vr;
use waystation::dataset::write::{element, explicit_header, implicit_header};
use waystation::dimse::commitment::{self, Reference};
use waystation::dimse::{CEcho, CFind, CStore, Command, Response, Status, query};
use waystation::model::{Priority, Uid};
use waystation::phantom::Phantom;
use waystation::pixels;

/// One end of a pipe that remembers what was written.
struct Tap(DuplexStream, Arc<Mutex<Vec<u8>>>);

impl AsyncRead for Tap {
    fn poll_read(self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(task, buffer)
    }
}

impl AsyncWrite for Tap {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let tap = self.get_mut();
        let written = Pin::new(&mut tap.0).poll_write(task, bytes);
        if let Poll::Ready(Ok(length)) = &written {
            tap.1.lock().unwrap().extend_from_slice(&bytes[..*length]);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(task)
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(task)
    }
}

fn uid(text: &str) -> Uid {
    text.parse().unwrap()
}

fn an_echo() -> Command {
    Command::CEcho(CEcho { message_id: 1, sop_class_uid: Some(uid("1.2.840.10008.1.1")) })
}

fn a_store(message_id: u16) -> Command {
    Command::CStore(CStore {
        message_id,
        sop_class_uid: uid("1.2.840.10008.5.1.4.1.1.2"),
        sop_instance_uid: uid("1.2.3"),
        priority: Priority::Routine,
        move_originator: None,
    })
}

/// What the two sides of an association say: C-ECHO, two C-STORE, release.
fn conversation(data_set: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (said_there, said_here) = (Arc::default(), Arc::default());
    let (there, here) = duplex(1 << 20);
    let (there, here) = (Tap(there, Arc::clone(&said_there)), Tap(here, Arc::clone(&said_here)));
    let requestor = async {
        let settings = RequestorSettings::new("MODALITY".parse().unwrap(), "WAYSTATION".parse().unwrap())
            .propose(&uid("1.2.840.10008.5.1.4.1.1.2"), [uid("1.2.840.10008.1.2"), uid("1.2.840.10008.1.2.1")])
            .propose(&uid("1.2.840.10008.1.1"), [uid("1.2.840.10008.1.2")]);
        let mut association = connect(there, &settings).await.unwrap();
        association.send_command(3, &an_echo()).await.unwrap();
        association.response(Duration::from_secs(1)).await.unwrap();
        for message_id in 1..3 {
            association.send_command(1, &a_store(message_id)).await.unwrap();
            association.send_data(1, data_set, true).await.unwrap();
            association.response(Duration::from_secs(1)).await.unwrap();
        }
        association.release().await.unwrap();
    };
    let acceptor = async {
        let decide = |request: &_| Decision::accept_storage(request, &Preference::default());
        let connected = waystation::clock::of_runtime();
        let mut association = accept(here, &AcceptorSettings::default(), connected, decide).await.unwrap();
        let mut storing = None;
        loop {
            match association.next().await.unwrap() {
                Indication::Command { context, command: command @ Command::CEcho(_) } => {
                    association.respond(context, &Response::to(&command, Status::SUCCESS)).await.unwrap();
                }
                Indication::Command { context, command } => storing = Some((context, command)),
                Indication::DataEnd => {
                    let (context, command) = storing.take().unwrap();
                    association.respond(context, &Response::to(&command, Status::SUCCESS)).await.unwrap();
                }
                Indication::Data(_) | Indication::Response { .. } => {}
                Indication::Released => return,
            }
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::join!(requestor, acceptor) });
    let taken = |said: &Mutex<Vec<u8>>| said.lock().unwrap().clone();
    (taken(&said_there), taken(&said_here))
}

/// A fragment as the target for command sets reads it.
fn fragment(header: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap().to_le_bytes();
    [&[header][..], &length, data].concat()
}

fn recoded(data_set: &[u8], to: Encoding) -> Vec<u8> {
    let mut out = Vec::new();
    let mut recoder = Recoder::new(Encoding::ExplicitLe, to).unwrap();
    recoder.feed(data_set, &mut out).unwrap();
    recoder.finish(&mut out).unwrap();
    out
}

/// Action information that asks for two instances (PS3.4 J.3.2.1.1).
fn action_information() -> Vec<u8> {
    const UI: Vr = Vr::UI;
    let mut out = Vec::new();
    element(&mut out, Tag(0x0008, 0x1195), UI, b"2.25.1").unwrap();
    let sequence = explicit_header(Tag(0x0008, 0x1199), Vr::SQ, None).unwrap();
    out.extend_from_slice(sequence.as_bytes());
    for instance in [&b"2.25.2"[..], b"2.25.3"] {
        out.extend_from_slice(implicit_header(Tag(0xFFFE, 0xE000), None).as_bytes());
        element(&mut out, Tag(0x0008, 0x1150), UI, b"1.2.840.10008.5.1.4.1.1.2").unwrap();
        element(&mut out, Tag(0x0008, 0x1155), UI, instance).unwrap();
        out.extend_from_slice(implicit_header(Tag(0xFFFE, 0xE00D), Some(0)).as_bytes());
    }
    out.extend_from_slice(implicit_header(Tag(0xFFFE, 0xE0DD), Some(0)).as_bytes());
    out
}

/// Event information about two instances, one of which has failed (PS3.4 J.3.3.1.1).
fn report() -> Vec<u8> {
    let class = uid("1.2.840.10008.5.1.4.1.1.2");
    let [there, missing] = ["2.25.2", "2.25.3"].map(|text| Reference { class: class.clone(), instance: uid(text) });
    commitment::write(&uid("2.25.1"), [&there], [(&missing, 0x0112)], &uid("1.2.840.10008.1.2.1"))
}

fn main() {
    let folder = std::env::args().nth(1).expect("a folder for the seeds");
    let write = |target: &str, name: &str, manner: [u8; 2], content: &[u8]| {
        let folder = Path::new(&folder).join(target);
        fs::create_dir_all(&folder).unwrap();
        let manner = if target == "command_set" { &[][..] } else { &manner };
        fs::write(folder.join(name), [manner, content].concat()).unwrap();
    };
    let phantom = Phantom { slices: 1, rows: 8, columns: 8, ..Phantom::default() };
    let mut data_set = Vec::new();
    phantom.write_data_set(0, &mut data_set).unwrap();

    let (requestor, acceptor) = conversation(&data_set);
    write("acceptor", "whole", [0, 1], &requestor);
    write("acceptor", "in-pieces", [7, 1], &requestor);
    write("requestor", "whole", [0, 0], &acceptor);
    write("requestor", "echo", [0, 1], &acceptor);
    write("requestor", "abort", [9, 2], &acceptor);

    let (store, echo) = (a_store(1).encode(), an_echo().encode());
    let refused = Response::to(&a_store(1), Status::CANNOT_UNDERSTAND).with_comment("the data set is empty").encode();
    let cancel = Command::CCancel { message_id: 1 }.encode();
    let unknown = Command::Unknown { field: 0x0020, message_id: 1 }.encode();
    let find = CFind { message_id: 1, sop_class_uid: uid(query::STUDY_ROOT_FIND), priority: Priority::Routine };
    let matched = Response::to(&Command::CFind(find), Status(0xFF00)).encode();
    write("command_set", "match", [0; 2], &[fragment(3, &matched), fragment(2, b"match")].concat());
    write("command_set", "store", [0; 2], &[fragment(3, &store), fragment(0, b"data"), fragment(2, b"")].concat());
    write("command_set", "in-two", [0; 2], &[fragment(1, &echo[..9]), fragment(3, &echo[9..])].concat());
    for (name, set) in [("refused", refused), ("cancel", cancel), ("unknown", unknown)] {
        write("command_set", name, [0; 2], &fragment(3, &set));
    }

    let mut deflated = Vec::new();
    let mut deflater = Deflater::default();
    deflater.feed(&data_set, &mut deflated).unwrap();
    deflater.finish(&mut deflated).unwrap();
    write("header_scan", "implicit", [0, 0], &recoded(&data_set, Encoding::ImplicitLe));
    write("header_scan", "explicit", [0, 1], &data_set);
    write("header_scan", "deflated", [0, 3], &deflated);
    write("header_scan", "in-pieces", [5, 1], &data_set);

    // Variants: where it comes from, and four times where it goes to; with the highest bit of the manner, as a result.
    write("pixels", "jpeg-ls", [0, 1], &data_set);
    write("pixels", "rle", [0, 5], &data_set);
    write("pixels", "deflated", [7, 9], &data_set);
    write("pixels", "implicit", [5, 0], &recoded(&data_set, Encoding::ImplicitLe));
    for (name, variant, syntax) in [("coded-jpeg-ls", 1, pixels::JPEG_LS), ("coded-rle", 5, pixels::RLE)] {
        let (from, to) = (uid("1.2.840.10008.1.2.1"), uid(syntax));
        let mut coded = io::Cursor::new(Vec::new());
        pixels::encode(&data_set[..], &from, &to, &mut coded, &pixels::Limits::default()).unwrap();
        write("pixels", name, [0x80, variant], coded.get_ref());
    }

    let information = action_information();
    write("commitment", "explicit", [0, 1], &information);
    write("commitment", "implicit", [0, 0], &recoded(&information, Encoding::ImplicitLe));
    write("commitment", "in-pieces", [7, 1], &information);
    let report = report();
    write("commitment", "report", [0, 1], &report);
    write("commitment", "report-implicit", [5, 0], &recoded(&report, Encoding::ImplicitLe));

    let syntaxes = [uid("1.2.840.10008.1.2"), uid("1.2.840.10008.1.2.1")];
    for (variant, syntax) in (0_u8..).zip(&syntaxes) {
        let matched = query::instances(Some(&uid("2.25.7")), Some(&uid("2.25.8")), &[&uid("2.25.9")], syntax);
        write("query", ["implicit", "explicit"][usize::from(variant)], [0, variant], &matched);
    }
    let asked = [&uid("2.25.9"), &uid("2.25.10")];
    write("query", "in-pieces", [3, 1], &query::instances(None, None, &asked, &syntaxes[1]));

    let mut file = Vec::new();
    write_file_meta(&mut file, &phantom.file_meta(0).unwrap()).unwrap();
    file.extend_from_slice(&data_set[..64]);
    write("file_meta", "file", [0, 0], &file);
    write("file_meta", "in-pieces", [3, 0], &file);
}
