//! Several C-STORE outstanding on one association (PS3.7 D.3.3.3), between the gateway and others.

use std::time::Duration;

use crate::support::dcmtk::{Storescp, all_succeed};
use crate::support::gateway::Setup;
use crate::support::part10::data_sets;
use crate::support::pki::Pki;
use crate::support::pynetdicom::{self, Manners, Scp};
use crate::support::{Scratch, phantom};

const TRANSFER: Duration = Duration::from_secs(120);
/// For the table of a destination: one association, and the data sets as they came in.
const ALONE: &str = "compress = false\nassociations = 1\n";

/// Another implementation sees what is on its way: as many as it grants, and the data sets of all of them as they were.
#[test]
fn an_archive_that_grants_several_operations_gets_them_one_behind_the_other() {
    for operations in [2, 4] {
        let scratch = Scratch::new();
        let pki = Pki::new(scratch.path(), "pki");
        let manners = Manners { operations: Some(operations), ..Manners::default() };
        let archive = Scp::with_manners(&scratch.folder("archive"), Some(&pki.identity("archive")), &manners);
        let settings = format!("[to.archive]\nurl = \"{}\"\n{ALONE}", archive.url());
        let setup = Setup::new(scratch.folder("data")).configured(&scratch.path().join("gateway.toml"), &settings);
        let mut gateway = setup.tls(&pki.identity("gateway")).start();
        let files = phantom::ct_series(&scratch.folder("series"), 20, 64);
        all_succeed(&pynetdicom::send(&gateway.target(), &files), &files);
        gateway.counters_such_that("archive", TRANSFER, |counters| counters.undelivered == 20);
        archive.go();
        let counters = gateway.drained("archive", TRANSFER);
        assert_eq!((counters.delivered, counters.parked), (20, 0), "{}", gateway.status_text());
        assert_eq!(archive.stored(), data_sets(&files));
        assert_eq!(archive.most_outstanding(), Some(operations));
    }
}

/// The far one grants what the near one asks for. Behind it is an archive that takes one at a time, as nearly all do.
#[test]
fn two_gateways_pass_a_study_on_with_several_outstanding_between_them() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let archive = Storescp::start(scratch.folder("archive"), Some(&pki.identity("archive")));
    let far_settings = format!("[to.archive]\nurl = \"{}\"\ncompress = false\n", archive.url("localhost"));
    let far = Setup::new(scratch.folder("far")).configured(&scratch.path().join("far.toml"), &far_settings);
    let mut far = far.tls(&pki.identity("far")).start();
    let near_settings = format!(
        "[to.far]\nurl = \"dicoms://WAYSTATION@localhost:{}\"\n{ALONE}",
        far.tls_target(&pki.identity("near")).port
    );
    let near = Setup::new(scratch.folder("near")).configured(&scratch.path().join("near.toml"), &near_settings);
    let mut near = near.tls(&pki.identity("near")).start();
    let files = phantom::ct_series(&scratch.folder("series"), 40, 64);
    all_succeed(&pynetdicom::send(&near.target(), &files), &files);
    assert_eq!(near.drained("far", TRANSFER).parked, 0, "{}", near.status_text());
    assert_eq!(far.drained("archive", TRANSFER).parked, 0, "{}", far.status_text());
    assert_eq!(data_sets(&archive.files()), data_sets(&files));
}
