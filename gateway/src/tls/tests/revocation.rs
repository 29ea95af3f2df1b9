//! Certificates that their authority has taken back, and lists that are not what they seem.

use super::*;

const MODALITY: u64 = 4711;
const LIST_YEARS: (i32, i32) = (2025, 2090);

/// The configuration of a gateway that trusts these authorities and has these lists.
fn gateway(ours: &Authority, others: &[&Authority], lists: &[String]) -> TlsFiles {
    let pem = |authority: &&Authority| std::fs::read_to_string(authority.ca()).unwrap();
    let ca: String = std::iter::once(&ours).chain(others).map(pem).collect();
    let file = |name: &str, content: String| {
        let path = ours.path(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let crl = (!lists.is_empty()).then(|| file("crl.pem", lists.concat()));
    TlsFiles { ca: Some(file("all.pem", ca)), crl, identity: Some(ours.issue(ARCHIVE, NOW)) }
}

/// What becomes of a modality that shows this certificate to the gateway, and trusts the authority of the gateway.
async fn modality(gateway: &TlsFiles, ours: &Authority, shown: IdentityFiles) -> Outcome {
    let server = server_config(gateway, ClientCertificates::Required).unwrap();
    connect(server, client_config(&files(ours, Some(shown))).unwrap(), ARCHIVE).await
}

fn why(outcome: Outcome) -> String {
    explain(&outcome.server.expect_err("refused"))
}

#[tokio::test]
async fn a_revoked_modality_gets_nothing_in_and_the_others_do() {
    let ours = Authority::new("ours");
    let gateway = gateway(&ours, &[], &[ours.list(&[MODALITY], LIST_YEARS)]);
    let (revoked, good) = (ours.issue_numbered("ct1", NOW, Some(MODALITY)), ours.issue("ct2", NOW));
    let outcome = modality(&gateway, &ours, revoked).await;
    let told = explain(outcome.client.as_ref().expect_err("refused"));
    assert!(told.contains("our certificate has been revoked"), "{told}");
    let why = why(outcome);
    assert!(why.contains("has been revoked by the authority that issued it"), "{why}");
    assert_eq!(modality(&gateway, &ours, good).await.server.unwrap(), b"ping");
}

#[tokio::test]
async fn a_revoked_archive_is_sent_nothing() {
    let ours = Authority::new("ours");
    let archive = ours.issue_numbered(ARCHIVE, NOW, Some(7));
    let server = server_config(&files(&ours, Some(archive)), ClientCertificates::None).unwrap();
    let gateway = gateway(&ours, &[], &[ours.list(&[7], LIST_YEARS)]);
    let (client, _) = refusal(server.clone(), client_config(&gateway).unwrap(), ARCHIVE).await;
    assert!(client.contains("has been revoked by the authority that issued it"), "{client}");
    let without = TlsFiles { crl: None, ..gateway };
    assert!(connect(server, client_config(&without).unwrap(), ARCHIVE).await.server.is_ok());
}

/// One `ca` for archives and modalities, and only the clinic's own authority has a list.
#[tokio::test]
async fn an_authority_without_a_list_is_not_asked_about_and_the_other_is_still_held_to_its_own() {
    let (ours, vendor, stranger) = (Authority::new("ours"), Authority::new("vendor"), Authority::new("stranger"));
    let gateway = gateway(&ours, &[&vendor], &[ours.list(&[MODALITY], LIST_YEARS)]);
    let of_vendor = vendor.issue_numbered("us1", NOW, Some(MODALITY));
    assert!(modality(&gateway, &ours, of_vendor).await.server.is_ok());
    let revoked = ours.issue_numbered("ct1", NOW, Some(MODALITY));
    let reason = why(modality(&gateway, &ours, revoked).await);
    assert!(reason.contains("has been revoked"), "{reason}");
    assert!(modality(&gateway, &ours, ours.issue("ct2", NOW)).await.server.is_ok());
    let reason = why(modality(&gateway, &ours, stranger.issue("x", NOW)).await);
    assert!(reason.contains("an authority we do not trust"), "{reason}");

    let archive = |identity| server_config(&files(&ours, Some(identity)), ClientCertificates::None).unwrap();
    let good = archive(vendor.issue(ARCHIVE, NOW));
    assert!(connect(good, client_config(&gateway).unwrap(), ARCHIVE).await.server.is_ok());
    let revoked = archive(ours.issue_numbered(ARCHIVE, NOW, Some(MODALITY)));
    let (client, _) = refusal(revoked, client_config(&gateway).unwrap(), ARCHIVE).await;
    assert!(client.contains("has been revoked"), "{client}");
}

/// A private authority is often made anew under its old name: two keys, of which only the new one has a list.
#[tokio::test]
async fn an_authority_that_has_changed_its_key_is_two_and_each_is_held_to_its_own_list() {
    let (old, renewed) = (Authority::new("ours"), Authority::new("ours"));
    let gateway = gateway(&old, &[&renewed], &[renewed.list(&[MODALITY], LIST_YEARS)]);
    assert!(modality(&gateway, &old, old.issue("ct1", NOW)).await.server.is_ok());
    assert!(modality(&gateway, &old, renewed.issue("ct2", NOW)).await.server.is_ok());
    let reason = why(modality(&gateway, &old, renewed.issue_numbered("ct3", NOW, Some(MODALITY))).await);
    assert!(reason.contains("has been revoked"), "{reason}");
}

/// The authority between has a list and the one above it has none: who is revoked must not come in over the other way.
#[tokio::test]
async fn a_way_around_the_list_over_an_authority_above_leads_nowhere() {
    let root = Authority::new("root");
    let between = Authority::below(&root, "between");
    let gateway = gateway(&root, &[&between], &[between.list(&[MODALITY], LIST_YEARS)]);
    let chained = |serial| {
        let shown = between.issue_numbered("ct1", NOW, serial);
        let chain = [&shown.cert, &between.ca()].map(|file| std::fs::read_to_string(file).unwrap()).concat();
        std::fs::write(&shown.cert, chain).unwrap();
        shown
    };
    let reason = why(modality(&gateway, &root, chained(Some(MODALITY))).await);
    assert!(reason.contains("has been revoked"), "{reason}");
    assert!(modality(&gateway, &root, chained(None)).await.server.is_ok());
}

/// The chain of an authority with a list leads over one of which no list speaks.
#[tokio::test]
async fn what_no_list_speaks_of_is_refused_where_there_has_to_be_one() {
    let root = Authority::new("root");
    let between = Authority::below(&root, "between");
    let gateway = gateway(&root, &[], &[root.list(&[], LIST_YEARS)]);
    let shown = between.issue("ct1", NOW);
    let chain = [&shown.cert, &between.ca()].map(|file| std::fs::read_to_string(file).unwrap()).concat();
    std::fs::write(&shown.cert, chain).unwrap();
    let reason = why(modality(&gateway, &root, shown).await);
    assert!(reason.contains("no revocation list tells"), "{reason}");
}

#[tokio::test]
async fn the_newest_list_of_an_authority_counts_wherever_it_stands() {
    let ours = Authority::new("ours");
    let (old, new) = (ours.list(&[], (2024, 2090)), ours.list(&[MODALITY], (2025, 2090)));
    for lists in [[old.clone(), new.clone()], [new, old]] {
        let gateway = gateway(&ours, &[], &lists);
        let revoked = ours.issue_numbered("ct1", NOW, Some(MODALITY));
        assert!(why(modality(&gateway, &ours, revoked).await).contains("has been revoked"));
    }
}

/// A clinic whose list could not be fetched for a while still has patients.
#[tokio::test]
async fn a_list_that_is_out_of_date_goes_on_counting_and_is_warned_of() {
    let ours = Authority::new("ours");
    let gateway = gateway(&ours, &[], &[ours.list(&[MODALITY], (2021, 2022))]);
    let revoked = ours.issue_numbered("ct1", NOW, Some(MODALITY));
    assert!(why(modality(&gateway, &ours, revoked).await).contains("has been revoked"));
    assert!(modality(&gateway, &ours, ours.issue("ct2", NOW)).await.server.is_ok());

    let live = Live::load(gateway, Purpose { inwards: Some(ClientCertificates::Required), outwards: true }).unwrap();
    let (before, after) = (Timestamp::from_millis(1_620_000_000_000), Timestamp::from_millis(1_700_000_000_000));
    assert_eq!(live.concerns(before), Vec::<String>::new());
    let concerns = live.concerns(after).join("\n");
    assert!(concerns.contains("list of CN=ours in ") && concerns.contains("due on 2022-01-01"), "{concerns}");
}

#[test]
fn an_authority_without_a_list_is_told_of() {
    let (ours, vendor) = (Authority::new("ours"), Authority::new("vendor"));
    let files = gateway(&ours, &[&vendor], &[ours.list(&[], LIST_YEARS)]);
    let live = Live::load(files, Purpose { inwards: None, outwards: true }).unwrap();
    let concerns = live.concerns(Timestamp::from_millis(1_700_000_000_000));
    assert_eq!(concerns.len(), 1, "{concerns:?}");
    assert!(concerns[0].contains("has no revocation list of CN=vendor"), "{concerns:?}");
}

#[test]
fn a_list_that_is_nobodys_or_damaged_is_named_together_with_what_to_do() {
    let (ours, foreign, namesake) = (Authority::new("ours"), Authority::new("foreign"), Authority::new("ours"));
    let authorities = Authorities::load(&ours.ca()).unwrap();
    let path = ours.path("crl.pem");
    let say = |content: &[u8]| {
        std::fs::write(&path, content).unwrap();
        RevocationLists::load(&path, &authorities).unwrap_err().to_string()
    };
    let foreign = say(foreign.list(&[], LIST_YEARS).as_bytes());
    assert!(foreign.contains("a revocation list of CN=foreign, which is not among the authorities of ca"), "{foreign}");
    let forged = say(namesake.list(&[1], LIST_YEARS).as_bytes());
    assert!(forged.contains("in the name of CN=ours that is not signed with its key"), "{forged}");
    assert!(say(b"").contains("holds no revocation list"));
    assert!(say(&std::fs::read(ours.ca()).unwrap()).contains("BEGIN X509 CRL"));
    assert!(say(&[0x30, 0x82, 0x01, 0x00]).contains("is not PEM"));
    assert!(say(b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n").contains("openssl crl -noout -text"));
    // A list of version 1 says no version: the first field is the algorithm.
    let first = b"-----BEGIN X509 CRL-----\nMAYwBDAAMAA=\n-----END X509 CRL-----\n";
    assert!(say(first).contains("version 1"));
    let missing = RevocationLists::load(&ours.path("missing.pem"), &authorities).unwrap_err().to_string();
    assert!(missing.contains("missing.pem: cannot be read"), "{missing}");

    let files = TlsFiles { crl: Some(path), ..TlsFiles::default() };
    assert!(client_config(&files).unwrap_err().to_string().contains("crl needs ca"));
}
