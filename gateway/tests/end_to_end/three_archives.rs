//! A thousand instances of all kinds to three archives at once, one of which dies at random: what the ledger says of each is
//! exactly what it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::controls::{paired_by_instance, taken_by};
use crate::support::dcmtk::{Storescp, all_succeed};
use crate::support::gateway::{Counters, Gateway, Setup};
use crate::support::orthanc::Orthanc;
use crate::support::orthanc_web::{OrthancWeb, PASSWORD, USER};
use crate::support::part10::{DataSet, data_sets};
use crate::support::pki::Pki;
use crate::support::pynetdicom::{self, same_elements};
use crate::support::{Scratch, files_below, phantom, studies, until};

const INSTANCES: usize = 1_000;
/// How often the archive dies.
const DEATHS: u32 = 12;
/// How many instances it takes in between, at most.
const LIFE: usize = 60;
/// On a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// Real studies that Orthanc and DCMTK take, CT slices, and as many other SOP classes as make a thousand.
fn mixture(scratch: &Scratch) -> Vec<PathBuf> {
    let direct = Scratch::new();
    let (orthanc, storescp) = (Orthanc::start(direct.path(), None), Storescp::start(direct.folder("storescp"), None));
    let mut files = taken_by(&storescp.target(None), &taken_by(&orthanc.target(None), &studies::assortment()));
    files.extend(phantom::ct_series(&scratch.folder("slices"), 600, 32));
    let missing = u32::try_from(INSTANCES - files.len()).unwrap();
    files.extend(phantom::of_different_classes(&scratch.folder("classes"), missing));
    files
}

/// (SOP Instance UID, SHA-256 of the data set)
type Instances = BTreeSet<(String, String)>;

fn instances(data_sets: Vec<DataSet>) -> Instances {
    data_sets.into_iter().map(|data_set| (data_set.sop_instance, data_set.sha256)).collect()
}

/// What the ledger says, read as what it is: lines of JSON.
#[derive(Default)]
struct Told {
    delivered: BTreeMap<String, Instances>,
    confirmed: BTreeMap<String, Instances>,
}

fn told(data: &Path) -> Told {
    let (mut told, mut received) = (Told::default(), BTreeMap::new());
    let mut files = files_below(&data.join("ledger"));
    files.sort();
    for file in files {
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            let id = line["id"].to_string();
            match (text("what").as_str(), text("outcome").as_str()) {
                ("received", _) => drop(received.insert(id, (text("sop_instance"), text("sha256")))),
                ("attempted", "delivered" | "warned") => {
                    told.delivered.entry(text("destination")).or_default().insert(received[&id].clone());
                }
                ("verified", "confirmed") => {
                    told.confirmed.entry(text("destination")).or_default().insert(received[&id].clone());
                }
                _ => {}
            }
        }
    }
    told
}

/// Lets the archive live for as long as it takes some, again and again, and then for good. Gives how often the gateway had
/// something for an archive that was dead.
fn dies_at_random(archive: &mut Storescp, gateway: &mut Gateway) -> u32 {
    let mut noticed = 0;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..DEATHS {
        archive.come_back();
        let enough = (archive.files().len() + random.usize(1..LIFE)).min(INSTANCES);
        until("the archive to take some", LIMIT, || match archive.files().len() {
            count if count >= enough => Ok(()),
            count => Err(format!("{count} of {enough} files; {}", gateway.log())),
        });
        archive.go_away();
        let is_over = |counters: &Counters| counters.failures > 0 || counters.undelivered == 0;
        noticed += u32::from(gateway.counters_such_that("dcmtk", LIMIT, is_over).failures > 0);
    }
    archive.come_back();
    noticed
}

#[test]
fn a_thousand_instances_for_three_archives_of_which_one_dies_at_random_and_the_ledger_agrees() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let files = mixture(&scratch);
    assert_eq!(files.len(), INSTANCES);
    let orthanc = Orthanc::start(&scratch.folder("orthanc"), None);
    let web = OrthancWeb::start(&scratch.folder("web"), &pki.identity("web"));
    let mut dcmtk = Storescp::away(scratch.folder("dcmtk"), None);
    let password = scratch.path().join("password");
    std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    let settings = format!(
        "[retry]\nfirst-delay = \"200ms\"\nmax-delay = \"1s\"\n\
         [to.orthanc]\nurl = \"{}\"\nverify = \"commitment\"\nverify-after = \"1s\"\n\
         [to.dcmtk]\nurl = \"{}\"\ncompress = false\n\
         [to.web]\nurl = \"{}\"\nuser = \"{USER}\"\npassword-file = {password:?}\n",
        orthanc.url(),
        dcmtk.url("127.0.0.1"),
        web.url(),
    );
    let setup = Setup::new(scratch.folder("data")).tls(&pki.identity("gateway"));
    let mut gateway = setup.configured(&scratch.path().join("gateway.toml"), &settings).start();
    let description = json!({
        "AET": "WAYSTATION", "Host": "127.0.0.1", "Port": gateway.target().port,
        "AllowStorageCommitment": true, "AllowNAction": true,
    });
    orthanc.server.send("PUT", "/modalities/gateway", &description);

    all_succeed(&pynetdicom::send(&gateway.target(), &files), &files);
    assert!(dies_at_random(&mut dcmtk, &mut gateway) >= 3, "it hardly died: {}", gateway.log());
    for destination in ["orthanc", "dcmtk", "web"] {
        let counters = gateway.drained(destination, LIMIT);
        assert_eq!((counters.delivered, counters.parked), (INSTANCES as u64, 0), "{}", gateway.parked_text());
    }
    until("Orthanc to commit to everything", LIMIT, || {
        let status = gateway.status_json()?;
        let confirmed = status["destinations"].as_array().into_iter().flatten();
        let confirmed = confirmed.filter(|to| to["name"] == "orthanc").map(|to| to["confirmed"]["instances"].as_u64());
        if confirmed.eq([Some(INSTANCES as u64)]) { Ok(()) } else { Err(gateway.log()) }
    });

    let sent = instances(data_sets(&files));
    let told = told(&gateway.setup().data);
    for destination in ["orthanc", "dcmtk", "web"] {
        assert!(told.delivered[destination] == sent, "{destination}: {} told", told.delivered[destination].len());
    }
    assert!(told.confirmed["orthanc"] == sent && told.confirmed.len() == 1);
    assert!(instances(data_sets(&dcmtk.files())) == sent, "DCMTK holds something else than the ledger says");
    for arrived in
        [orthanc.server.fetch_all(&scratch.folder("from-orthanc")), web.server.fetch_all(&scratch.folder("from-web"))]
    {
        assert_eq!(arrived.len(), INSTANCES);
        same_elements(&paired_by_instance(&files, &arrived)).unwrap();
    }
    assert!(gateway.ask(&["ledger", "check"]).status.success());
}
