//! An archive that speaks STOW-RS, in every mood that one can have. Whatever it does: nothing is lost, nothing is changed,
//! what is parked says why, and another destination beside it notices nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::dcmtk::{all_succeed, storescu};
use crate::support::gateway::{Gateway, Setup};
use crate::support::part10::data_sets;
use crate::support::pki::{Identity, Pki};
use crate::support::ports::free_port;
use crate::support::stow::{Act, ConnectProxy, Manners, StowArchive};
use crate::support::{PATIENCE, Scratch, files_below, phantom, pynetdicom, studies, until};

const TRANSFER: Duration = Duration::from_secs(180);

const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const IMPLICIT: &str = "1.2.840.10008.1.2";

/// A gateway with the archive and a folder as destinations, and everything that it needs for that.
struct Clinic {
    scratch: Scratch,
    archive: StowArchive,
    gateway: Gateway,
    beside: PathBuf,
}

/// With `lines` in the table of the archive, and this identity of the gateway.
fn clinic_with(scratch: Scratch, archive: StowArchive, gateway: &Identity, lines: &str) -> Clinic {
    let beside = scratch.folder("beside");
    let settings = format!(
        "[retry]\nfirst-delay = \"1s\"\nmax-delay = \"2s\"\n[delivery]\nresponse-timeout = \"5s\"\n\
         [to.archive]\nurl = \"{}\"\n{lines}\n[to.folder]\nurl = \"file://{}\"\n",
        archive.url(),
        beside.display()
    );
    let setup = Setup::new(scratch.folder("data")).tls(gateway);
    let gateway = setup.configured(&scratch.path().join("gateway.toml"), &settings).start();
    Clinic { scratch, archive, gateway, beside }
}

/// With an archive that follows this script, over HTTP/2 or not.
fn clinic(http2: bool, lines: &str, script: impl FnMut(u32) -> Act + Send + 'static) -> Clinic {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let manners = Manners { http2, ..Manners::of(pki.identity("archive")) };
    let archive = StowArchive::start(scratch.folder("archive"), manners, script);
    clinic_with(scratch, archive, &pki.identity("gateway"), lines)
}

impl Clinic {
    /// Sends a series of a hundred small images; the folder has all of them, whatever the archive does.
    fn send_a_hundred(&mut self) -> Vec<PathBuf> {
        let files = phantom::ct_series(&self.scratch.folder("series"), 100, 16);
        self.send(&files);
        files
    }

    fn hand_over(&self, files: &[PathBuf]) {
        all_succeed(&storescu(&self.gateway.target(), files), files);
    }

    fn send(&mut self, files: &[PathBuf]) {
        self.hand_over(files);
        let counters = self.gateway.drained("folder", PATIENCE);
        assert_eq!(counters.parked, 0);
        assert_eq!(data_sets(&files_below(&self.beside)), data_sets(files), "the folder beside");
    }

    /// Everything reaches the archive as it was.
    fn all_arrive(&mut self, files: &[PathBuf]) {
        let counters = self.gateway.drained("archive", TRANSFER);
        assert_eq!(counters.parked, 0, "{}", self.gateway.parked_text());
        assert!(self.archive.kept() == data_sets(files), "{}", self.gateway.log());
    }

    /// Everything reaches the archive but one instance, which is parked with these words.
    fn all_but_one_arrive(&mut self, files: &[PathBuf], one: &Path, words: &[&str]) {
        let counters = self.gateway.drained("archive", TRANSFER);
        assert_eq!(counters.parked, 1, "{}", self.gateway.parked_text());
        let rest: Vec<PathBuf> = files.iter().filter(|path| *path != one).cloned().collect();
        assert!(self.archive.kept() == data_sets(&rest));
        let parked = self.gateway.parked_text();
        for word in words.iter().chain(&["waystation retry archive"]) {
            assert!(parked.contains(word), "{word} in {parked}");
        }
    }

    /// The status says this within a while.
    fn status_says(&self, words: &str) {
        until("the status to say why", PATIENCE, || {
            let status = self.gateway.status_text();
            if status.contains(words) { Ok(()) } else { Err(status) }
        });
    }

    /// Nothing of an image has left.
    fn nothing_left(&mut self) {
        assert_eq!(self.archive.seen(|seen| (seen.posts, seen.bytes)), (0, 0));
        let counters = self.gateway.counters("archive").unwrap();
        assert_eq!((counters.delivered, counters.parked), (0, 0));
    }
}

#[test]
fn a_good_archive_gets_identical_instances_in_few_requests_over_http_1_and_2() {
    for http2 in [false, true] {
        let mut clinic = clinic(http2, "max-instances = 30", |_| Act::Store);
        let files = clinic.send_a_hundred();
        clinic.all_arrive(&files);
        clinic.archive.seen(|seen| {
            assert!(seen.sizes.iter().all(|size| *size <= 30) && seen.sizes.iter().any(|size| *size > 1));
            assert_eq!(seen.over_two, if http2 { seen.posts } else { 0 });
            assert_eq!((seen.announced, seen.broken), (seen.posts, 0));
            assert_eq!(seen.order.len(), 100, "each once");
        });
    }
}

/// Every kind of file, and so every transfer syntax that there is.
#[test]
fn every_transfer_syntax_leaves_as_it_came() {
    let mut clinic = clinic(true, "", |_| Act::Store);
    let files = studies::assortment();
    all_succeed(&pynetdicom::send(&clinic.gateway.target(), &files), &files);
    clinic.all_arrive(&files);
}

/// One after the other, and in between nothing: what remains is what was sent.
#[test]
fn an_archive_with_every_fault_there_is_gets_everything_in_the_end() {
    let faults = [
        Act::Refuse(500),
        Act::CloseAfter(0),
        Act::CloseAfter(3_000),
        Act::Hang,
        Act::HalfAnAnswer,
        Act::Wait(429, "1"),
        Act::Wait(503, "1"),
        Act::Refuse(503),
        Act::Refuse(401),
        Act::Refuse(403),
        Act::Refuse(404),
        Act::Refuse(400),
        Act::Refuse(409),
        Act::Refuse(415),
        Act::Refuse(507),
        Act::StoreAndSay(202, ""),
        Act::StoreAndSay(200, ""),
        Act::StoreAndSay(200, "{}"),
        Act::ForgetTheLast,
        Act::Redirect("https://127.0.0.1:1/elsewhere"),
        Act::Page,
        Act::TooLarge(2_000),
        Act::FailSome("", 0xa700),
        Act::FailSome(".3", 0x0111),
    ];
    for http2 in [false, true] {
        let faults = faults.clone();
        // Every second request goes well, so that each fault meets a request with several instances sooner or later.
        let script = move |number: u32| match usize::try_from(number).unwrap() {
            number if number % 2 == 0 => faults.get(number / 2).cloned().unwrap_or(Act::Store),
            _ => Act::Store,
        };
        let mut clinic = clinic(http2, "max-instances = 5", script);
        let files = clinic.send_a_hundred();
        let counters = clinic.gateway.drained("archive", TRANSFER);
        // What the archive said that it has already, and what was too large for it alone, it need not have.
        let kept = clinic.archive.kept();
        let sent = data_sets(&files);
        assert!(kept.iter().all(|data_set| sent.contains(data_set)), "nothing is changed");
        let missing = sent.len() - kept.len();
        assert!(missing <= 2, "{missing} are missing: {}", clinic.gateway.log());
        assert!(counters.parked <= 1, "{}", clinic.gateway.parked_text());
        assert!(clinic.archive.seen(|seen| seen.posts) > 40);
    }
}

#[test]
fn an_instance_that_the_archive_does_not_want_is_parked_and_the_others_arrive() {
    for (act, words) in [
        (Act::FailSome(".7", 0xa900), ["A900", "does not match SOP class"]),
        (Act::FailSomeWith200(".7", 0x0110), ["0110", "processing failure"]),
        (Act::RefuseIfThereIs(".7", 400), ["HTTP 400", "refused 3 times"]),
        (Act::RefuseIfThereIs(".7", 409), ["HTTP 409", "refused 3 times"]),
        (Act::RefuseIfThereIs(".7", 415), ["is not taken in transfer syntax", EXPLICIT]),
        (Act::FailSome(".7", 0x0122), ["SOP class not supported", "enable it at the archive"]),
    ] {
        let mut clinic = clinic(true, "", move |_| act.clone());
        let files = clinic.send_a_hundred();
        clinic.all_but_one_arrive(&files, &files[6], &words);
    }
}

#[test]
fn what_the_archive_cannot_take_now_waits_and_lets_the_others_pass() {
    for act in [Act::FailSome(".7", 0xa700), Act::RefuseIfThereIs(".7", 500)] {
        let mut clinic = clinic(false, "", move |_| act.clone());
        clinic.send_a_hundred();
        clinic.gateway.counters_such_that("archive", TRANSFER, |counters| {
            (counters.delivered, counters.undelivered, counters.parked) == (99, 1, 0)
        });
    }
}

#[test]
fn what_the_archive_says_that_it_has_already_is_delivered() {
    let mut clinic = clinic(true, "", |_| Act::FailSome(".7", 0x0111));
    clinic.send_a_hundred();
    let counters = clinic.gateway.drained("archive", TRANSFER);
    assert_eq!((counters.delivered, counters.parked), (100, 0));
    assert!(clinic.gateway.all_lines().iter().any(|line| line.contains("delivered with a warning")));
}

#[test]
fn requests_become_smaller_until_the_archive_takes_them_and_what_is_too_large_alone_is_parked() {
    let mut clinic = clinic(true, "", |_| Act::TooLarge(20_000));
    let mut files = phantom::ct_series(&clinic.scratch.folder("series"), 60, 16);
    let large = phantom::ct_series(&clinic.scratch.folder("large"), 1, 256).remove(0);
    files.push(large.clone());
    clinic.send(&files);
    clinic.all_but_one_arrive(&files, &large, &["HTTP 413", "client_max_body_size"]);
    clinic.status_says("1 are parked");
}

/// It has promised to have it: that is all that can be known without asking.
#[test]
fn an_archive_that_forgets_has_said_that_it_has_it() {
    let mut clinic = clinic(true, "", |_| Act::Forget);
    clinic.send_a_hundred();
    let counters = clinic.gateway.drained("archive", TRANSFER);
    assert_eq!((counters.delivered, counters.parked), (100, 0));
}

#[test]
fn an_archive_that_takes_one_transfer_syntax_gets_a_lossless_conversion() {
    let mut clinic = clinic(false, "", |_| Act::Only(EXPLICIT));
    let implicit = studies::all()
        .iter()
        .find(|study| study.reason.is_none() && study.transfer_syntax == IMPLICIT && study.size < 1 << 20);
    let mut files = phantom::ct_series(&clinic.scratch.folder("series"), 3, 16);
    let implicit = implicit.expect("a file in Implicit VR among the studies");
    files.push(implicit.path.clone());
    all_succeed(&pynetdicom::send(&clinic.gateway.target(), &files), &files);
    let counters = clinic.gateway.drained("archive", TRANSFER);
    assert_eq!((counters.delivered, counters.parked), (4, 0), "{}", clinic.gateway.parked_text());
    let kept = clinic.archive.kept();
    let converted = kept.iter().find(|data_set| data_set.sop_instance == implicit.sop_instance).unwrap();
    assert_eq!(converted.transfer_syntax, EXPLICIT);
}

/// The archive wants a token from now on, and gets it as soon as it is in the file.
#[test]
fn a_token_that_has_expired_stops_everything_until_there_is_a_new_one_in_its_file() {
    for http2 in [false, true] {
        let scratch = Scratch::new();
        let pki = Pki::new(scratch.path(), "pki");
        let manners =
            Manners { http2, authorization: Some("Bearer new".to_owned()), ..Manners::of(pki.identity("archive")) };
        let archive = StowArchive::start(scratch.folder("archive"), manners, |_| Act::Store);
        let token = scratch.path().join("token");
        std::fs::write(&token, "old\n").unwrap();
        let lines = format!("token-file = {token:?}");
        let mut clinic = clinic_with(scratch, archive, &pki.identity("gateway"), &lines);
        let files = clinic.send_a_hundred();
        clinic.status_says(&format!("renew the token in {}", token.display()));
        clinic.nothing_left();
        std::fs::write(&token, "new\n").unwrap();
        clinic.all_arrive(&files);
        assert!(!clinic.gateway.all_lines().iter().any(|line| line.contains("Bearer")), "no token in the journal");
    }
}

#[test]
fn tokens_are_asked_for_with_client_credentials_and_renewed_when_refused() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let manners = Manners { authorization: Some("Bearer none".to_owned()), ..Manners::of(pki.identity("archive")) };
    let archive = StowArchive::start(scratch.folder("archive"), manners, |_| Act::Store);
    let secret = scratch.path().join("secret");
    std::fs::write(&secret, "wrong\n").unwrap();
    let lines = format!(
        "oauth-token-url = \"https://127.0.0.1:{}/token\"\noauth-client-id = \"gateway\"\n\
         oauth-secret-file = {secret:?}\noauth-scope = \"dicom\"\nmax-instances = 10",
        archive.port
    );
    let mut clinic = clinic_with(scratch, archive, &pki.identity("gateway"), &lines);
    let files = clinic.send_a_hundred();
    clinic.status_says("invalid_client");
    clinic.nothing_left();
    std::fs::write(&secret, "open sesame\n").unwrap();
    // Somebody revokes the first token in the middle.
    until("the first half", TRANSFER, || {
        let posts = clinic.archive.seen(|seen| seen.posts);
        if posts >= 3 { Ok(()) } else { Err(format!("{posts} requests")) }
    });
    clinic.archive.wants("Bearer revoked");
    clinic.all_arrive(&files);
    let log = clinic.gateway.all_lines().join("\n");
    assert!(!log.contains("sesame") && !log.contains("token-1"), "{log}");
}

#[test]
fn a_user_with_a_password_goes_through_a_proxy_that_wants_one_too() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let proxy = ConnectProxy::start("Proxy-Authorization: Basic Y2xpbmljOm9wZW4gc2VzYW1l\r\n");
    let authorization = Some("Basic Z2F0ZXdheTpvcGVuIHNlc2FtZQ==".to_owned());
    let manners = Manners { authorization, options: false, ..Manners::of(pki.identity("archive")) };
    let archive = StowArchive::start(scratch.folder("archive"), manners, |_| Act::Store);
    let password = scratch.path().join("password");
    std::fs::write(&password, "closed\n").unwrap();
    let lines = format!(
        "user = \"gateway\"\npassword-file = {password:?}\nproxy = \"http://127.0.0.1:{}\"\n\
         proxy-user = \"clinic\"\nproxy-password-file = {password:?}",
        proxy.port
    );
    let mut clinic = clinic_with(scratch, archive, &pki.identity("gateway"), &lines);
    let files = clinic.send_a_hundred();
    clinic.status_says("does not take the user clinic");
    clinic.nothing_left();
    std::fs::write(&password, "open sesame\n").unwrap();
    clinic.all_arrive(&files);
    let peer = format!("127.0.0.1:{}", clinic.archive.port);
    let connections = proxy.connections.lock().unwrap().clone();
    assert!(!connections.is_empty() && connections.iter().all(|to| *to == peer));
    let asked = clinic.archive.seen(|seen| seen.others.clone());
    assert!(asked.iter().any(|other| other == "GET /dicom-web/studies?limit=1"), "OPTIONS is not known: {asked:?}");
}

/// Of what the archive has taken it has forgotten the last: it is asked by QIDO-RS, and gets that again.
#[test]
fn an_archive_is_queried_for_what_it_took_and_gets_again_what_it_forgot() {
    for http2 in [false, true] {
        let script = |number| if number == 0 { Act::Forget } else { Act::Store };
        let lines = "verify = \"query\"\nverify-after = \"1s\"\nmax-instances = 5";
        let mut clinic = clinic(http2, lines, script);
        let files = clinic.send_a_hundred();
        until("all to be confirmed", TRANSFER, || {
            let status = clinic.gateway.status_json()?;
            let archive = status["destinations"].as_array().unwrap().iter().find(|to| to["name"] == "archive").unwrap();
            let count = |name: &str| archive[name]["instances"].as_u64();
            match (count("confirmed"), count("unverified")) {
                (Some(100), Some(0)) => Ok(()),
                _ => Err(format!("{archive}; {}", clinic.gateway.log())),
            }
        });
        clinic.all_arrive(&files);
        let asked = clinic.archive.seen(|seen| seen.others.clone());
        assert!(
            asked.iter().any(|other| other.contains("SOPInstanceUID=") && other.contains(',')),
            "in lists: {asked:?}"
        );
    }
}

/// A firewall in front of the archive does not like one instance, and answers as if nobody might store.
#[test]
fn an_instance_that_a_firewall_refuses_is_parked_and_the_others_arrive() {
    for status in [403, 404] {
        let mut clinic = clinic(true, "", move |_| Act::RefuseIfThereIs(".7", status));
        let files = clinic.send_a_hundred();
        let said = format!("HTTP {status}");
        clinic.all_but_one_arrive(&files, &files[6], &[said.as_str(), "something in front of the archive"]);
    }
}

#[test]
fn what_is_changed_on_the_way_leaves_by_stow_rs_as_it_is_filed() {
    let change = "[coerce.clinic]\nto = [\"archive\", \"folder\"]\nset = [\"InstitutionName = Clinic 7\"]";
    let mut clinic = clinic(true, change, |_| Act::Store);
    let files = phantom::ct_series(&clinic.scratch.folder("series"), 20, 16);
    clinic.hand_over(&files);
    for destination in ["archive", "folder"] {
        let counters = clinic.gateway.drained(destination, TRANSFER);
        assert_eq!((counters.delivered, counters.parked), (20, 0), "{}", clinic.gateway.parked_text());
    }
    let (kept, filed, sent) = (clinic.archive.kept(), data_sets(&files_below(&clinic.beside)), data_sets(&files));
    assert!(kept == filed && kept.iter().all(|data_set| !sent.contains(data_set)));
}

/// Nobody answers at the archive's port, and a service behind STOW-RS takes what waits for it.
#[test]
fn a_service_behind_stow_rs_stands_in_for_an_archive_that_is_away() {
    let lines = format!(
        "stands-in-for = \"central\"\nstand-in-after = \"1s\"\n[to.central]\nurl = \"dicom://CENTRAL@127.0.0.1:{}\"",
        free_port()
    );
    let mut clinic = clinic(true, &lines, |_| Act::Store);
    let files = clinic.send_a_hundred();
    let counters = clinic.gateway.drained("central", TRANSFER);
    assert_eq!((counters.delivered, counters.parked), (100, 0), "{}", clinic.gateway.log());
    assert!(clinic.archive.kept() == data_sets(&files));
    let receipts = clinic.gateway.ask(&["receipts", "--state", "delivered"]).text();
    assert!(receipts.contains("from archive, which stands in"), "{receipts:.2000}");
}

/// Certificate, key and authority are renewed under way: what comes after is sent over a connection that shows the new ones.
#[test]
fn a_new_certificate_and_a_new_authority_count_from_the_next_request_on() {
    let scratch = Scratch::new();
    let (old, new) = (Pki::new(scratch.path(), "old"), Pki::new(scratch.path(), "new"));
    let ours = old.identity("gateway");
    let manners = |pki: &Pki| Manners::of(pki.identity("archive"));
    let archive = StowArchive::start(scratch.folder("archive"), manners(&old), |_| Act::Store);
    let mut clinic = clinic_with(scratch, archive, &ours, "");
    let files = phantom::ct_series(&clinic.scratch.folder("series"), 20, 16);
    clinic.hand_over(&files[..10]);
    clinic.all_arrive(&files[..10]);
    // From now on the archive shows a certificate of the new authority, and wants one of it.
    clinic.archive.becomes(&manners(&new));
    clinic.hand_over(&files[10..]);
    clinic.status_says("certificate");
    assert_eq!(clinic.archive.kept().len(), 10);
    let renewed = new.identity("gateway");
    std::fs::copy(&renewed.ca, &ours.ca).unwrap();
    renewed.replace(&ours);
    clinic.gateway.reload("new certificates are in use");
    clinic.all_arrive(&files);
}

/// Not one byte of an image leaves for an archive that is not who it should be, or does not take us for who we are.
fn nothing_leaves(gateway: impl Fn(&Pki, &Pki) -> Identity, archive: impl Fn(&Pki, &Pki) -> Identity) {
    for http2 in [false, true] {
        let scratch = Scratch::new();
        let (pki, other) = (Pki::new(scratch.path(), "pki"), Pki::new(scratch.path(), "other"));
        let manners = Manners { http2, ..Manners::of(archive(&pki, &other)) };
        let archive = StowArchive::start(scratch.folder("archive"), manners, |_| Act::Store);
        let mut clinic = clinic_with(scratch, archive, &gateway(&pki, &other), "");
        clinic.send_a_hundred();
        clinic.gateway.counters_such_that("archive", PATIENCE, |counters| counters.failures >= 2);
        clinic.status_says("certificate");
        clinic.nothing_left();
    }
}

#[test]
fn nothing_leaves_for_an_archive_of_another_authority() {
    nothing_leaves(|pki, _| pki.identity("gateway"), |pki, other| other.identity("archive").trusting(pki));
}

#[test]
fn nothing_leaves_for_an_archive_with_another_name() {
    nothing_leaves(|pki, _| pki.identity("gateway"), |pki, _| pki.for_another_host());
}

#[test]
fn nothing_leaves_for_an_archive_whose_certificate_has_expired() {
    nothing_leaves(|pki, _| pki.identity("gateway"), |pki, _| pki.expired());
}

#[test]
fn nothing_leaves_for_an_archive_that_refuses_our_certificate() {
    nothing_leaves(|pki, other| other.identity("gateway").trusting(pki), |pki, _| pki.identity("archive"));
}
