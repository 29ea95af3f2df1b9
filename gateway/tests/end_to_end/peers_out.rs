//! Every peer as archive.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use crate::controls::{paired_by_instance, taken_by};
use crate::support::dcmtk::{Storescp, all_succeed};
use crate::support::gateway::{Gateway, Setup};
use crate::support::orthanc::Orthanc;
use crate::support::part10::{data_sets, read_meta};
use crate::support::pki::Pki;
use crate::support::pynetdicom::{self, Manners, Scp, same_elements};
use crate::support::{Scratch, phantom, studies, until};

const TRANSFER: Duration = Duration::from_secs(120);

/// A gateway with one destination, and what it needs to be one.
fn gateway_to(scratch: &Scratch, pki: &Pki, url: &str) -> Gateway {
    setup_to(scratch, pki, url).start()
}

/// The same, and the destination gets what came in byte for byte.
fn gateway_without_compression(scratch: &Scratch, pki: &Pki, url: &str) -> Gateway {
    setup_to(scratch, pki, url).without_compression("archive").start()
}

fn setup_to(scratch: &Scratch, pki: &Pki, url: &str) -> Setup {
    Setup::new(scratch.folder("data")).with_destination("archive", url).tls(&pki.identity("gateway")).quick_retries()
}

/// Sends the bytes of the files and waits until nothing is left to deliver.
fn carry(gateway: &mut Gateway, files: &[PathBuf]) {
    all_succeed(&pynetdicom::send(&gateway.target(), files), files);
    let counters = gateway.drained("archive", TRANSFER);
    assert_eq!(counters.parked, 0, "{}", gateway.status_text());
}

/// The commonest archive in tests everywhere; it keeps the bytes it is sent.
#[test]
fn a_storescp_gets_identical_data_sets_with_tls_and_without() {
    for server in [None, Some(())] {
        let scratch = Scratch::new();
        let pki = Pki::new(scratch.path(), "pki");
        let identity = server.map(|()| pki.identity("archive"));
        let archive = Storescp::start(scratch.folder("archive"), identity.as_ref());
        // By name over TLS, so that the name is looked up and checked.
        let mut gateway = gateway_without_compression(&scratch, &pki, &archive.url("localhost"));
        let files = studies::assortment();
        carry(&mut gateway, &files);
        assert_eq!(data_sets(&archive.files()), data_sets(&files));
    }
}

/// Another implementation, another TLS library, any transfer syntax.
#[test]
fn pynetdicom_gets_identical_data_sets_over_tls() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let archive = Scp::start(&scratch.folder("archive"), Some(&pki.identity("archive")));
    let mut gateway = gateway_without_compression(&scratch, &pki, &archive.url());
    let files = studies::assortment();
    carry(&mut gateway, &files);
    assert_eq!(archive.stored(), data_sets(&files));
}

/// As it is without a word in the configuration: what may be smaller on the way may leave so, and no pixel is another one.
#[test]
fn a_storescp_gets_every_element_and_every_pixel_in_whatever_transfer_syntax() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let archive = Storescp::start(scratch.folder("archive"), Some(&pki.identity("archive")));
    let mut gateway = gateway_to(&scratch, &pki, &archive.url("localhost"));
    let files = phantom::ct_series(&scratch.folder("series"), 20, 256);
    carry(&mut gateway, &files);
    let arrived = archive.files();
    assert_eq!(arrived.len(), files.len());
    // The first one in any case: nothing is known of the link yet.
    assert!(data_sets(&arrived).iter().any(|arrived| arrived.transfer_syntax == "1.2.840.10008.1.2.4.80"));
    same_elements(&paired_by_instance(&files, &arrived)).unwrap();
}

/// The open-source PACS that most people will try first.
#[test]
fn orthanc_gets_every_element_over_tls() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let server = pki.identity("archive");
    let files = {
        let direct = Scratch::new();
        let orthanc = Orthanc::start(direct.path(), Some(&server));
        taken_by(&orthanc.target(Some(&pki.identity("modality"))), &studies::assortment())
    };
    let orthanc = Orthanc::start(scratch.path(), Some(&server));
    let mut gateway = gateway_to(&scratch, &pki, &orthanc.url());
    carry(&mut gateway, &files);
    same_elements(&paired_by_instance(&files, &orthanc.server.fetch_all(&scratch.folder("fetched")))).unwrap();
}

/// Where the archive does not take the stored transfer syntax, what leaves holds the same elements with the same values.
#[test]
fn an_archive_that_takes_implicit_vr_only_gets_a_lossless_conversion() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let implicit = Manners { transfer_syntaxes: vec!["1.2.840.10008.1.2".to_owned()], ..Manners::default() };
    let archive = Scp::with_manners(&scratch.folder("archive"), Some(&pki.identity("archive")), &implicit);
    let mut gateway = gateway_to(&scratch, &pki, &archive.url());
    let files = phantom::ct_series(&scratch.folder("series"), 3, 64);
    carry(&mut gateway, &files);
    let arrived = archive.stored_files();
    assert_eq!(arrived.len(), files.len());
    let file_of = |uid: &str| arrived.iter().find(|(data_set, _)| data_set.sop_instance == uid).unwrap().1.clone();
    let with_arrived = |path: &PathBuf| (path.clone(), file_of(&read_meta(path).unwrap().sop_instance));
    same_elements(&files.iter().map(with_arrived).collect::<Vec<_>>()).unwrap();
}

/// What can never be delivered is set aside with a sentence and holds up nothing.
#[test]
fn what_an_archive_cannot_take_is_parked_with_a_reason_and_the_rest_flows_on() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let implicit = Manners { transfer_syntaxes: vec!["1.2.840.10008.1.2".to_owned()], ..Manners::default() };
    let archive = Scp::with_manners(&scratch.folder("archive"), Some(&pki.identity("archive")), &implicit);
    let mut gateway = gateway_to(&scratch, &pki, &archive.url());
    let jpeg = studies::all().iter().find(|study| {
        study.reason.is_none() && study.transfer_syntax == "1.2.840.10008.1.2.4.50" && study.size < 1 << 20
    });
    let mut files = vec![jpeg.expect("a JPEG file among the studies").path.clone()];
    files.extend(phantom::ct_series(&scratch.folder("series"), 3, 64));
    all_succeed(&pynetdicom::send(&gateway.target(), &files), &files);
    let counters = gateway.drained("archive", TRANSFER);
    assert_eq!((counters.delivered, counters.parked), (3, 1), "{}", gateway.status_text());
    assert_eq!(archive.stored().len(), 3);
}

/// "Out of resources" is an archive's way to say: later.
#[test]
fn an_archive_without_room_is_tried_again_and_nothing_is_parked() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let full = Manners { status: 0xa700, ..Manners::default() };
    let archive = Scp::with_manners(&scratch.folder("archive"), Some(&pki.identity("archive")), &full);
    let gateway = gateway_to(&scratch, &pki, &archive.url());
    let files = phantom::ct_series(&scratch.folder("series"), 1, 16);
    all_succeed(&pynetdicom::send(&gateway.target(), &files), &files);
    until("a second try", TRANSFER, || {
        let tries = archive.stored().len();
        if tries >= 2 { Ok(()) } else { Err(format!("{tries} tries")) }
    });
    let counters = gateway.counters("archive").unwrap();
    assert_eq!((counters.undelivered, counters.delivered, counters.parked), (1, 0, 0));
}

/// Some senders forget the NULL byte behind a deflated data set of odd length (PS3.5 A.5). DCMTK ends the association
/// over it, and it would be tried for ever; other archives take it as it came (`every_file`).
#[test]
fn a_deflated_data_set_of_odd_length_is_delivered_with_the_byte_that_its_sender_forgot() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let archive = Storescp::start(scratch.folder("archive"), None);
    let mut gateway = gateway_without_compression(&scratch, &pki, &archive.url("127.0.0.1"));
    let folder = scratch.folder("series");
    let odd = phantom::ct_series(&folder, 20, 16).iter().find_map(deflated_to_odd_length);
    let odd = odd.expect("one of twenty data sets that deflates to an odd length");
    carry(&mut gateway, std::slice::from_ref(&odd));
    let [arrived] = archive.files().try_into().unwrap();
    let content = |file: &PathBuf| {
        let offset = usize::try_from(read_meta(file).unwrap().offset).unwrap();
        std::fs::read(file).unwrap().split_off(offset)
    };
    let (sent, arrived) = (content(&odd), content(&arrived));
    assert!(arrived.len() == sent.len() + 1 && arrived.starts_with(&sent) && arrived.ends_with(&[0]));
}

/// The same file in Deflated Explicit VR Little Endian, if that takes an odd number of bytes.
fn deflated_to_odd_length(file: &PathBuf) -> Option<PathBuf> {
    const EXPLICIT: &[u8] = b"UI\x14\x001.2.840.10008.1.2.1\0";
    const DEFLATED: &[u8] = b"UI\x16\x001.2.840.10008.1.2.1.99";
    let mut head = std::fs::read(file).unwrap();
    let data_set = head.split_off(usize::try_from(read_meta(file).unwrap().offset).unwrap());
    let at = head.windows(EXPLICIT.len()).position(|window| window == EXPLICIT).unwrap();
    head.splice(at..at + EXPLICIT.len(), DEFLATED.iter().copied());
    // The group length stands first: tag, "UL", 4, value.
    let length = u32::from_le_bytes(head[140..144].try_into().unwrap()) + 2;
    head[140..144].copy_from_slice(&length.to_le_bytes());
    let mut deflated = Vec::new();
    flate2::read::DeflateEncoder::new(&*data_set, flate2::Compression::default()).read_to_end(&mut deflated).unwrap();
    let path = file.with_extension("deflated.dcm");
    std::fs::write(&path, [head, deflated.clone()].concat()).unwrap();
    (deflated.len() % 2 == 1).then_some(path)
}
