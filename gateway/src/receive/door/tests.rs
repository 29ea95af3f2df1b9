//! What the book keeps, shows, and saves.

use std::sync::Arc;

use super::admit::{AdmitError, admit};
use super::keep::{FILE, Keeper};
use super::*;
use crate::config::{Admission, Flags, HandedOver, Source};
use crate::durable::FileSystem;
use crate::model::Timestamp;

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 7, 20));

fn aet() -> AeTitle {
    "WAYSTATION".parse().unwrap()
}

fn stranger(calling: &str, address: IpAddr) -> Who {
    Who::Stranger { calling: Some(calling.to_owned()), address }
}

fn modality(name: &str) -> Modality {
    Modality::new(name.parse().unwrap(), "CT1".parse().unwrap(), HOME, vec![aet()])
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + second * 1_000)
}

fn visit(second: u64, calling: &str, called: &str) -> Visit {
    Visit {
        at: at(second),
        ended_at: at(second),
        address: HOME,
        tls: false,
        subject: None,
        request: Some(Request::unreadable(calling, called)),
        outcome: Outcome::Refused,
        tally: Tally::default(),
        problem: true,
        sentence: format!("{calling} is not admitted"),
    }
}

fn knock(book: &mut Book, second: u64, calling: &str, address: IpAddr) {
    book.enter(&stranger(calling, address), visit(second, calling, "WAYSTATION"), []);
}

fn numbered(number: u32) -> IpAddr {
    IpAddr::V4((0x0a00_0000 + number).into())
}

/// Everybody in the book, by name.
fn names(book: &Book) -> Vec<String> {
    book.strangers().iter().map(|page| page.name.clone()).collect()
}

#[test]
fn a_flood_of_strangers_displaces_the_flood() {
    let mut book = Book::default();
    let ct = modality("ct1");
    book.configured([ct.name.clone()]);
    book.enter(&Who::Modality(ct.name.clone()), visit(0, "CT1", "PACS"), []);
    knock(&mut book, 1, "US1", HOME);
    for number in 0..1_000_u32 {
        knock(&mut book, 2 + u64::from(number), &format!("X{number}"), numbered(1));
    }
    assert_eq!(book.strangers().len(), STRANGERS);
    assert!(names(&book).contains(&"us1-1".to_owned()), "who knocks from another address is still there");
    for number in 0..1_000_u32 {
        knock(&mut book, 2_000 + u64::from(number), "X", numbered(number));
    }
    assert_eq!(book.strangers().len(), STRANGERS);
    assert!(book.page_of(&ct).is_some(), "a modality's page is never displaced by strangers");
}

#[test]
fn a_page_keeps_the_last_visits_and_counts_them_all() {
    let mut book = Book::default();
    for second in 0..100 {
        book.enter(&Who::Modality("ct1".parse().unwrap()), visit(second, "CT1", "PACS"), []);
        knock(&mut book, second, "US1", HOME);
    }
    let (ct, us) = (book.page("ct1").unwrap(), book.page("us1-1").unwrap());
    assert_eq!((ct.visits.len(), ct.refusals, ct.last_seen), (VISITS, 100, at(99)));
    assert_eq!((us.visits.len(), us.refusals), (STRANGERS_VISITS, 100));
}

#[test]
fn names_of_strangers_can_be_typed_and_are_nobody_elses() {
    let mut book = Book::default();
    book.configured(["ct1-1".parse().unwrap()]);
    for (number, calling) in ["CT1", "ct 1", "CT_1", "\\u{1b}[31m", "****", "A".repeat(64).as_str()].iter().enumerate()
    {
        knock(&mut book, number as u64, calling, HOME);
    }
    let nobody = Who::Stranger { calling: None, address: "2001:db8::1".parse().unwrap() };
    book.enter(&nobody, visit(9, "", ""), []);
    let mut names = names(&book);
    names.sort();
    let long = format!("{}-7", "a".repeat(30));
    assert_eq!(names, [long.as_str(), "ct-1-3", "ct-1-4", "ct1-2", "from-2001-db8--1-8", "stranger-6", "u-1b--31m-5"]);
    assert!(names.iter().all(|name| name.parse::<DestinationName>().is_ok()));
}

/// Between the list and the command that admits him, a stranger may have been displaced or forgotten, and another has
/// come; the gateway may have been started again.
#[test]
fn a_name_is_never_given_to_another() {
    let (data, disk) = (tempfile::tempdir().unwrap(), FileSystem::default());
    let keeper = Keeper::open(&disk, data.path());
    let mut given = BTreeSet::new();
    let mut comes = |keeper: &Keeper, number: u32| {
        let name = keeper.with(|book| {
            knock(book, u64::from(number), "US1", numbered(number));
            book.strangers()[0].name.clone()
        });
        assert!(name.parse::<DestinationName>().is_ok() && given.insert(name.clone()), "{name} was another's");
        name
    };
    for number in 0..1_000 {
        let name = comes(&keeper, number);
        if number % 3 == 0 {
            assert!(keeper.with(|book| book.forget(&name)));
        }
    }
    keeper.save(&disk).unwrap();
    let keeper = Keeper::open(&disk, data.path());
    comes(&keeper, 1_000);
    std::fs::write(data.path().join(FILE), "{").unwrap();
    comes(&Keeper::open(&disk, data.path()), 1_001);
}

#[test]
fn what_a_peer_sent_is_escaped_and_cut() {
    let mut book = Book::default();
    let mut visit = visit(0, "\u{1b}[2J\0", &"\u{7}".repeat(100_000));
    visit.sentence = "\u{1b}".repeat(100_000);
    visit.subject = Some("\u{202e}".repeat(100_000));
    book.enter(&stranger("X", HOME), visit, []);
    let saved = serde_json::to_string(&book.pages()).unwrap();
    assert!(saved.len() < 6_000, "{}", saved.len());
    let page = book.page("x-1").unwrap();
    let request = page.last().unwrap().request.as_ref().unwrap();
    assert_eq!(request.calling, "\\u{1b}[2J\\u{0}");
    assert!(!page.last().unwrap().sentence.contains('\u{1b}'));
}

#[test]
fn the_view_lists_every_modality_and_every_knock_with_what_to_do() {
    let mut book = Book::default();
    let ct = Arc::new(modality("ct1"));
    book.configured([ct.name.clone()]);
    let quiet = Modality { name: "mr1".parse().unwrap(), aet: "MR1".parse().unwrap(), ..modality("ct1") };
    let admission = Admission::of(vec![Arc::clone(&ct), Arc::new(quiet)]);
    let lateness = skew::Lateness { seconds: -420, zone_known: true };
    let well = Visit { problem: false, outcome: Outcome::Released, ..visit(1, "CT1", "WAYSTATION") };
    book.enter(&Who::Modality(ct.name.clone()), well, [lateness; 3]);
    knock(&mut book, 2, "US1", HOME);
    book.enter(&Who::Stranger { calling: None, address: HOME }, visit(3, "", ""), []);
    knock(&mut book, 4, "\\u{1b}", HOME);
    let view = book.view(&admission, &aet(), |_| 2);
    let [seen, never] = &view.admitted[..] else { panic!("{view:?}") };
    assert_eq!((seen.name.as_str(), seen.open, seen.associations), ("ct1", 2, 1));
    let problem = seen.problem.as_ref().unwrap();
    assert!(problem.starts_with("its clock is 7 min ahead of this box: set it there"), "{problem}");
    assert!(never.last_seen.is_none() && never.problem.is_none() && never.clock.is_none());
    let [unprintable, nobody, us] = &view.knocks[..] else { panic!("{view:?}") };
    assert!(unprintable.cannot_be_admitted.as_ref().unwrap().contains("printable ASCII"));
    assert!(nobody.cannot_be_admitted.as_ref().unwrap().contains("did not come as far as to name itself"));
    assert_eq!((us.cannot_be_admitted.clone(), us.problem.as_deref()), (None, Some("US1 is not admitted")));
    let one = book.view_of("us1-1", &admission, &aet(), |_| 0).unwrap();
    assert_eq!(one.visits.len(), 1);
    assert!(book.view_of("nobody", &admission, &aet(), |_| 0).is_none());
    assert!(book.forget("us1-1") && !book.forget("us1-1"));
}

#[test]
fn the_book_is_there_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let disk = FileSystem::default();
    let keeper = Keeper::open(&disk, data.path());
    keeper.save(&disk).unwrap();
    assert!(!data.path().join(FILE).exists(), "nothing has changed");
    keeper.with(|book| knock(book, 1, "US1", HOME));
    keeper.save(&disk).unwrap();
    let again = Keeper::open(&disk, data.path());
    assert_eq!(again.with(|book| book.page("us1-1").cloned()), keeper.with(|book| book.page("us1-1").cloned()));
    assert!(!again.with(Book::take_changed));
}

#[test]
fn a_damaged_book_is_set_aside_and_a_new_one_begun() {
    let data = tempfile::tempdir().unwrap();
    let disk = FileSystem::default();
    for damaged in ["", "{", "{\"version\":2,\"pages\":[]}", "\u{0}", &"[".repeat(100_000)] {
        std::fs::write(data.path().join(FILE), damaged).unwrap();
        let keeper = Keeper::open(&disk, data.path());
        assert!(keeper.with(|book| book.pages().is_empty()));
        assert_eq!(std::fs::read_to_string(data.path().join("door.json.damaged")).unwrap(), damaged);
        keeper.with(|book| knock(book, 1, "US1", HOME));
        keeper.save(&disk).unwrap();
        assert!(!Keeper::open(&disk, data.path()).with(|book| book.pages().is_empty()));
    }
}

/// A folder in its place stands for what the system does not give: want of a descriptor, a read error of the disk.
#[test]
fn a_book_that_the_system_does_not_give_now_is_left_in_place_and_joined_later() {
    let data = tempfile::tempdir().unwrap();
    let (disk, file, away) = (FileSystem::default(), data.path().join(FILE), data.path().join("away"));
    let keeper = Keeper::open(&disk, data.path());
    let ct = modality("ct1");
    let comes = |book: &mut Book, second| book.enter(&Who::Modality(ct.name.clone()), visit(second, "CT1", "PACS"), []);
    keeper.with(|book| {
        book.configured([ct.name.clone()]);
        comes(book, 1);
        knock(book, 1, "US1", HOME);
        knock(book, 1, "MR1", HOME);
    });
    keeper.save(&disk).unwrap();
    std::fs::hard_link(&file, &away).unwrap();
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();

    let keeper = Keeper::open(&disk, data.path());
    keeper.with(|book| {
        book.configured([ct.name.clone()]);
        comes(book, 2);
        knock(book, 2, "US1", HOME);
        knock(book, 2, "XA1", HOME);
    });
    let told = keeper.save(&disk).unwrap_err().to_string();
    assert!(told.contains("still cannot be read"), "{told}");
    assert!(file.is_dir() && !data.path().join("door.json.damaged").exists());
    std::fs::remove_dir(&file).unwrap();
    std::fs::hard_link(&away, &file).unwrap();
    keeper.save(&disk).unwrap();
    for keeper in [&keeper, &Keeper::open(&disk, data.path())] {
        keeper.with(|book| {
            assert_eq!(book.page_of(&ct).map(|page| (page.refusals, page.visits.len())), Some((2, 2)));
            let mut knocks: Vec<_> = book.strangers().iter().map(|page| (page.calling(), page.refusals)).collect();
            knocks.sort();
            let expected = [("MR1", 1), ("US1", 2), ("XA1", 1)].map(|(aet, times)| (aet.parse().ok(), times));
            assert_eq!(knocks, expected);
        });
    }
}

#[test]
fn a_book_that_cannot_be_saved_is_saved_later() {
    let data = tempfile::tempdir().unwrap();
    let disk = FileSystem::default();
    let keeper = Keeper::open(&disk, &data.path().join("missing"));
    keeper.with(|book| knock(book, 1, "US1", HOME));
    keeper.save(&disk).unwrap_err();
    std::fs::create_dir(data.path().join("missing")).unwrap();
    keeper.save(&disk).unwrap();
    assert!(data.path().join("missing").join(FILE).exists());
}

/// A gateway's data folder with somebody at the door.
struct Hall {
    data: tempfile::TempDir,
    disk: FileSystem,
    keeper: Keeper,
}

impl Hall {
    fn new() -> Self {
        let (data, disk) = (tempfile::tempdir().unwrap(), FileSystem::default());
        let keeper = Keeper::open(&disk, data.path());
        Self { data, disk, keeper }
    }

    fn admit(
        &self,
        admission: &Admission,
        knock: &str,
        name: Option<&str>,
    ) -> Result<(Arc<Modality>, Admission), AdmitError> {
        let name = name.map(|name| name.parse().unwrap());
        self.admit_beside(&self.source(), admission, (knock, name, at(9)))
    }

    fn admit_beside(
        &self,
        source: &Source,
        admission: &Admission,
        request: (&str, Option<DestinationName>, Timestamp),
    ) -> Result<(Arc<Modality>, Admission), AdmitError> {
        admit(&self.disk, (self.data.path(), source), &self.keeper, admission, &aet(), request)
    }

    /// The same, with this text in a configuration file.
    fn configured(&self, text: &str) -> Source {
        let file = self.data.path().join("waystation.toml");
        std::fs::write(&file, text).unwrap();
        Source { file: Some(file), ..self.source() }
    }

    /// Flags alone, which name nobody.
    fn source(&self) -> Source {
        let flags = Flags {
            data: Some(self.data.path().to_owned()),
            aet: Some("WAYSTATION".to_owned()),
            listen: vec!["0.0.0.0:11112".to_owned()],
            listen_tls: Vec::new(),
            to: vec!["archive=file:///srv/dicom".to_owned()],
            ..Flags::default()
        };
        Source { file: None, flags, sockets: HandedOver::default() }
    }

    /// The same with a listener for TLS.
    fn over_tls(&self) -> Source {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["gateway".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2090, 1, 1);
        let file = self.data.path().join("all.pem");
        std::fs::write(&file, params.self_signed(&key).unwrap().pem() + &key.serialize_pem()).unwrap();
        let (ca, cert, key) = (Some(file.clone()), Some(file.clone()), Some(file));
        let flags = Flags { listen_tls: vec!["0.0.0.0:2762".to_owned()], ca, cert, key, ..self.source().flags };
        Source { flags, ..self.source() }
    }

    /// What a gateway reads here that starts now.
    fn reads(&self) -> Vec<Arc<Modality>> {
        self.source().load(at(10)).unwrap().admission.modalities().to_vec()
    }
}

#[test]
fn who_is_admitted_is_let_in_now_and_after_a_restart_and_keeps_his_page() {
    let hall = Hall::new();
    hall.keeper.with(|book| book.enter(&stranger("US 1\"", HOME), visit(1, "US 1\"", "PACS"), []));
    let (modality, admission) = hall.admit(&Admission::of(Vec::new()), "us-1-1", Some("echo-lab")).unwrap();
    assert_eq!(modality.called.iter().map(AeTitle::as_str).collect::<Vec<_>>(), ["WAYSTATION", "PACS"]);
    assert_eq!(admission.modalities(), std::slice::from_ref(&modality));
    assert_eq!(hall.reads(), [modality], "the file says the same");
    let page = hall.keeper.with(|book| book.page("echo-lab").cloned()).unwrap();
    assert_eq!((page.visits.len(), page.is_stranger()), (1, false));
}

#[test]
fn what_it_proved_when_it_knocked_is_asked_of_it_from_then_on() {
    let hall = Hall::new();
    let visit = Visit { tls: true, subject: Some("CN=us1".to_owned()), ..visit(1, "US1", "WAYSTATION") };
    hall.keeper.with(|book| book.enter(&stranger("US1", HOME), visit, []));
    let request = ("us1-1", None, at(9));
    let (modality, _) = hall.admit_beside(&hall.over_tls(), &Admission::of(Vec::new()), request).unwrap();
    assert!(modality.tls && modality.certificate_subject.as_deref() == Some("CN=us1"));
    let text = std::fs::read_to_string(hall.data.path().join("modalities/us1.toml")).unwrap();
    assert!(text.contains("certificate-subject = \"CN=us1\"") && !text.contains("called"), "{text}");
}

#[test]
fn what_cannot_be_admitted_is_refused_with_the_reason_and_changes_nothing() {
    let hall = Hall::new();
    hall.keeper.with(|book| {
        knock(book, 1, "CT1", numbered(1));
        knock(book, 2, "\\u{1b}", HOME);
        book.enter(&Who::Stranger { calling: None, address: HOME }, visit(3, "", ""), []);
        knock(book, 4, "CT1", HOME);
    });
    let ct = Admission::of(vec![Arc::new(modality("ct1"))]);
    let says = |admission: &Admission, knock: &str, name: Option<&str>| {
        hall.admit(admission, knock, name).unwrap_err().to_string()
    };
    assert!(says(&ct, "nobody", None).contains("nobody at the door is called \"nobody\""));
    assert!(says(&ct, "ct1-1", Some("ct1")).contains("a modality is called ct1 already; give this one another name"));
    assert!(says(&ct, "u-1b-2", None).contains("printable ASCII"));
    assert!(says(&ct, "from-192-168-7-20-3", None).contains("did not come as far"));
    assert!(
        says(&ct, "ct1-4", None).contains("CT1 calls from 192.168.7.20 and is listed already: it is the modality ct1")
    );
    assert!(says(&Admission::Any, "ct1-1", None).contains("allow-any"));
    std::fs::create_dir(hall.data.path().join("modalities")).unwrap();
    std::fs::write(hall.data.path().join("modalities/new.toml"), "").unwrap();
    assert!(says(&ct, "ct1-1", Some("new")).contains("new.toml is there already"));
    std::fs::remove_file(hall.data.path().join("modalities/new.toml")).unwrap();
    assert!(hall.reads().is_empty());
    hall.admit(&ct, "ct1-1", Some("ct2")).unwrap();
    assert!(says(&ct, "ct2", None).contains("nobody at the door"), "it is inside");
}

/// Somebody has edited the configuration and not reloaded it yet: what is admitted now must not keep the gateway from
/// starting, or be left out, at the next restart.
#[test]
fn who_does_not_fit_to_the_configuration_on_the_disk_is_not_admitted() {
    let hall = Hall::new();
    hall.keeper.with(|book| {
        knock(book, 1, "US1", HOME);
        book.enter(&stranger("MR1", HOME), Visit { tls: true, ..visit(2, "MR1", "WAYSTATION") }, []);
    });
    let nobody = Admission::of(Vec::new());
    let said = |source: &Source, knock: &str| {
        let refused = hall.admit_beside(source, &nobody, (knock, None, at(9))).unwrap_err();
        assert!(!hall.data.path().join("modalities").exists(), "nothing was written: {refused}");
        refused.to_string()
    };
    for (tables, knock, sentence) in [
        ("[modality.us1]\naet = \"X\"\naddresses = [\"10.0.0.1\"]", "us1-1", "us1 is also [modality.us1] in"),
        ("[modality.x]\naet = \"US1\"\naddresses = [\"192.168.0.0/16\"]", "us1-1", "from the same address"),
        ("allow-any = true", "us1-1", "contradicts the modalities"),
        ("", "mr1-2", "the gateway listens nowhere over TLS"),
        ("lissen = 1", "us1-1", "cannot be used, so a restart would fail: mend it first"),
    ] {
        let refused = said(&hall.configured(tables), knock);
        assert!(refused.contains(sentence), "{tables}: {refused}");
    }
    let elsewhere = Source { flags: Flags { data: Some("/srv/else".into()), ..hall.source().flags }, ..hall.source() };
    assert!(said(&elsewhere, "us1-1").contains("names another data folder, /srv/else: restart the gateway first"));
    hall.admit_beside(&hall.configured(""), &nobody, ("us1-1", None, at(9))).unwrap();
}

mod release {
    //! The sentence about an association that ended well.

    use super::super::visit::of_release;
    use super::*;
    use crate::dimse::Status;

    fn request(proposed: usize, accepted: usize) -> Request {
        let contexts = vec![ContextSummary {
            id: 1,
            sop_class: Some("1.2.840.10008.5.1.4.31".parse().unwrap()),
            proposed: Vec::new(),
            proposed_left_out: 0,
            agreed: None,
            refused: None,
        }];
        Request {
            contexts,
            contexts_proposed: proposed,
            contexts_accepted: accepted,
            ..Request::unreadable("CT1", "WAYSTATION")
        }
    }

    #[test]
    fn it_says_what_came_of_it_and_what_to_do() {
        let stored = |stored| Tally { stored, ..Tally::default() };
        assert_eq!(of_release(&request(1, 1), &stored(1)), (false, "1 instance is safe here".to_owned()));
        assert_eq!(of_release(&request(1, 1), &stored(7)), (false, "7 instances are safe here".to_owned()));
        let echo = Tally { echoes: 1, ..Tally::default() };
        assert!(of_release(&request(1, 1), &echo).1.contains("C-ECHO"));
        assert_eq!(of_release(&request(1, 1), &Tally::default()).1, "it came and asked for nothing");
        let (problem, sentence) = of_release(&request(3, 0), &Tally::default());
        assert!(problem && sentence.contains("nothing of the 3 that it proposed"), "{sentence}");
        let refused = |code, comment: &str| Tally {
            stored: 2,
            refused: 1,
            last_refusal: Some((Status(code), comment.to_owned())),
            ..Tally::default()
        };
        let (problem, sentence) = of_release(&request(1, 1), &refused(0xc000, "The data set is empty."));
        assert!(problem && sentence.starts_with("1 of 3 instances were refused, the last with"), "{sentence}");
        assert!(sentence.contains("(The data set is empty): what it sends is broken"), "{sentence}");
        assert!(of_release(&request(1, 1), &refused(0xa700, "")).1.contains("more disk"));
    }
}
