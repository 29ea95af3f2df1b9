//! Attributes that are changed on the way, looked at by a reader that knows nothing of how it was done.

use std::path::PathBuf;
use std::time::Duration;

use crate::support::dcmtk::all_succeed;
use crate::support::gateway::Setup;
use crate::support::part10::{DataSet, read_meta};
use crate::support::pynetdicom::{self, Scp, coerced};
use crate::support::{Scratch, files_below, studies};

const TRANSFER: Duration = Duration::from_secs(300);

const SETTINGS: &str = r#"
[coerce.clinic-7]
to = ["archive", "nas"]
set = ["InstitutionName = Clinic 7", "(0008,1040) = Radiology"]
remove = ["StationName"]
prefix = ["StudyDescription = C7-"]

[coerce.others]
to = ["archive", "nas"]
calling = "NOBODY"
set = ["StudyDescription = not of this modality"]
"#;

/// One of every kind of file, in every transfer syntax there is: the archive and the folder get the same changed bytes,
/// another destination gets what came in, and what the last item of Original Attributes Sequence says leads back to it.
#[test]
fn what_is_changed_on_the_way_says_so_and_can_be_undone_by_what_it_says() {
    let scratch = Scratch::new();
    let archive = Scp::start(&scratch.folder("scp"), None);
    let (nas, plain) = (scratch.folder("nas"), scratch.folder("plain"));
    let setup = Setup::new(scratch.folder("data"))
        .configured(&scratch.path().join("waystation.toml"), SETTINGS)
        .with_destination("archive", &archive.url())
        .without_compression("archive")
        .with_folder("nas", &nas)
        .with_folder("plain", &plain);
    let mut gateway = setup.start();
    let files = studies::assortment();
    all_succeed(&pynetdicom::send(&gateway.target(), &files), &files);
    for destination in ["archive", "nas", "plain"] {
        let counters = gateway.drained(destination, TRANSFER);
        assert_eq!(counters.parked, 0, "{destination}: {}", gateway.parked_text());
    }

    let changed = files_below(&nas);
    assert_eq!(changed.len(), files.len());
    let after = |file: &PathBuf| {
        let instance = DataSet::of_file(file).sop_instance;
        let found = changed.iter().find(|changed| read_meta(changed).unwrap().sop_instance == instance);
        found.unwrap_or_else(|| panic!("{} is not there", file.display())).clone()
    };
    let pairs: Vec<(PathBuf, PathBuf)> = files.iter().map(|file| (file.clone(), after(file))).collect();
    let wanted =
        ["InstitutionName=Clinic 7", "InstitutionalDepartmentName=Radiology", "StationName-", "StudyDescription^C7-"];
    coerced(&pairs, &wanted).unwrap();

    let sorted = |files: &[PathBuf]| {
        let mut hashes: Vec<_> = files.iter().map(|file| DataSet::of_file(file).sha256).collect();
        hashes.sort();
        hashes
    };
    let mut at_archive: Vec<_> = archive.stored().into_iter().map(|data_set| data_set.sha256).collect();
    at_archive.sort();
    assert_eq!(at_archive, sorted(&changed), "C-STORE and folder deliver the same bytes");
    assert_eq!(sorted(&files_below(&plain)), sorted(&files), "who is not named gets what came in");
    let told = gateway.all_lines().iter().filter(|line| line.contains("attributes are changed")).count();
    assert_eq!(told, 2 * files.len(), "each is told once for each destination");
}
