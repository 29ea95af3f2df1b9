//! Attributes that are changed for one destination.

use dicom_core::Tag;

use super::*;
use crate::config::Coercion;
use crate::dataset::coerce::{Action, Change, values};
use crate::receive::scan::HeaderScan;
use crate::routing::{Attribute, Condition};

const INSTITUTION: Tag = Tag(0x0008, 0x0080);

fn coercion(called: &str, tag: Tag, action: Action) -> Coercion {
    let change = Change { tag, vr: values::changeable(tag).unwrap(), action };
    Coercion { name: name(called), to: vec![name("central")], conditions: Vec::new(), changes: vec![change] }
}

fn set(called: &str, text: &str) -> Coercion {
    coercion(called, INSTITUTION, Action::Set(text.to_owned()))
}

fn coercing(all: &[Coercion]) -> impl Fn(&mut Settings) {
    move |settings| settings.coercions = Coercions::of(all, &name("central"), &settings.calling)
}

fn institution(data: &[u8], syntax: &str) -> Option<String> {
    let mut scan = HeaderScan::new(&uid(syntax));
    scan.feed(data);
    scan.finish().attributes.of(Attribute::Institution).next().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_changed_then_converted_and_the_same_at_every_attempt() {
    let archive = Archive::start([Act::Answer(0xA700)], &[IMPLICIT]).await;
    let mut station = Station::new();
    let (id, data) = station.keep(0, EXPLICIT, &["central"]).await;
    let mut other = set("not-this", "not this");
    other.conditions = vec![Condition::Calling(vec!["NOBODY".parse().unwrap()])];
    let all = [other, set("first", "Clinic 7"), set("second", "Clinic 8")];
    station.deliver_with("central", archive.route(), coercing(&all));
    assert!(is_delivered(&station.settled(id, "central").await));
    let arrived = archive.arrived();
    assert_eq!(arrived.len(), 2, "the archive was full once");
    assert!(arrived[0].2 == arrived[1].2, "what leaves depends on the attempt");
    let (_, syntax, sent) = &arrived[1];
    assert_eq!((syntax, institution(sent, IMPLICIT).as_deref()), (&uid(IMPLICIT), Some("Clinic 7")));
    assert_ne!(institution(&data, EXPLICIT).as_deref(), Some("Clinic 7"));
    let originals = b"\x00\x04\x61\x05";
    assert!(sent.windows(4).any(|tag| tag == originals), "nothing says that it was changed");
    let kept = tokio::task::block_in_place(|| {
        let mut kept = Vec::new();
        std::io::Read::read_to_end(&mut station.spool.read(id).unwrap(), &mut kept).unwrap();
        kept
    });
    assert!(kept == data, "what is kept stays as it came");
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_changed_as_wanted_is_parked_and_not_sent() {
    let archive = Archive::start([], &[EXPLICIT]).await;
    let mut station = Station::new();
    let (id, _) = station.keep(0, EXPLICIT, &["central", "files"]).await;
    // The longest LO, in front of what is there.
    let all = [coercion("too-long", Tag(0x0010, 0x0020), Action::Prefix("x".repeat(64)))];
    station.deliver_with("central", archive.route(), coercing(&all));
    let state = station.settled(id, "central").await;
    let DeliveryState::Parked { reason, .. } = state else { panic!("{state:?}") };
    assert!(
        reason.contains("what [coerce.too-long] asks for cannot be done") && reason.contains("(0010,0020)"),
        "{reason}"
    );
    assert_eq!(archive.script.lock().unwrap().begun, 0, "nothing may be sent");
    let folder = tempfile::tempdir().unwrap();
    station.deliver_with("files", Route::Folder(folder.path().to_owned()), coercing(&all));
    let state = station.settled(id, "files").await;
    assert!(matches!(state, DeliveryState::Parked { .. }), "{state:?}");
    station.stop().await;
}
