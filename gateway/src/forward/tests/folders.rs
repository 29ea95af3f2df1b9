//! Folders as destinations.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_gets_files_that_hold_the_data_set() {
    let folder = tempfile::tempdir().unwrap();
    let mut station = Station::new();
    let (id, data) = station.keep(0, EXPLICIT, &["files"]).await;
    station.deliver_to("files", Route::Folder(folder.path().to_owned()));
    let state = station.settled(id, "files").await;
    let DeliveryState::Delivered { answer, .. } = state else { panic!("{state:?}") };
    let path = folder.path().join(answer.strip_prefix("filed as ").unwrap());
    let (meta, mut rest) = crate::dataset::part10::read_file_meta(std::fs::File::open(path).unwrap()).unwrap();
    let mut filed = Vec::new();
    std::io::Read::read_to_end(&mut rest, &mut filed).unwrap();
    assert_eq!(meta.transfer_syntax, uid(EXPLICIT));
    assert!(filed == data);
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_instance_that_cannot_be_filed_is_parked_and_the_others_are_filed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("1.2"), "in the way of every study 1.2").unwrap();
    let mut station = Station::new();
    let (id, _) = station.keep(0, EXPLICIT, &["files"]).await;
    station.deliver_to("files", Route::Folder(folder.path().to_owned()));
    let state = station.settled(id, "files").await;
    let DeliveryState::Parked { reason, .. } = state else { panic!("{state:?}") };
    assert!(reason.contains("look what is in its way") && reason.ends_with("waystation retry files"), "{reason}");
    station.stop().await;
}
