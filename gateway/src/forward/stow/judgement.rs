//! What the answer to a Store Instances request means for each instance in it. Pure.
//!
//! | status (PS3.18 10.5.3) | meaning |
//! |---|---|
//! | 200, and other 2xx | each that the body does not list as failed is delivered; a page in HTML is no archive |
//! | 202, 409 | by the body; what it does not name is tried again alone, and then looked for by a query |
//! | 400, 406, 410, 411, 422 and other 4xx | each alone; then refused |
//! | 415 | each alone; then in another transfer syntax, if there is a lossless one; then refused |
//! | 413 | smaller requests; an instance that is too large alone is parked |
//! | 401 | the destination's: the credentials are not right |
//! | 403 | the destination's: rights are missing; or the instance's, see below |
//! | 404, 405, 3xx | the destination's: the URL is not right. Redirects are not followed: credentials do not go elsewhere |
//! | 429, 503 | the destination's: as long as Retry-After says |
//! | 408, 5xx | each alone, and later |
//!
//! 403, 404, 405, 3xx and a web page may be the answer to one body, by a firewall that looks into it: what goes on then is
//! in the courier.
//!
//! | Failure Reason (0008,1197) | meaning |
//! |---|---|
//! | 0111 | the archive has an instance of this UID and keeps the one it has: as for C-STORE |
//! | A7xx | later |
//! | 0122, C122 | in another transfer syntax, if there is a lossless one; then refused |
//! | everything else | refused: a few tries, then parked |
//!
//! What a server writes in its body beside UIDs and numbers is not shown: it may name patients.

use std::fmt;
use std::time::Duration;

use hyper::StatusCode;

use super::answer::{self, Listed};
use crate::forward::verdict::Verdict;
use crate::logging::escaped;

/// Letters of a peer's header that are shown.
const SHOWN: usize = 200;

/// An answer, as far as it counts.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Retry-After, within bounds.
    pub(super) wait: Option<Duration>,
    /// Location.
    pub(super) location: Option<String>,
    /// Content-Type.
    pub(super) content_type: Option<String>,
    /// Empty if there is none, or one that is too long.
    pub(super) body: Vec<u8>,
}

/// The body is not shown: it may hold a token, or name a patient.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, wait, location, content_type, body } = self;
        f.debug_struct("Answer")
            .field("status", status)
            .field("wait", wait)
            .field("location", location)
            .field("content_type", content_type)
            .field("body", &format_args!("{} bytes", body.len()))
            .finish()
    }
}

/// Who and what the sentences are about.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    /// The base of the service.
    pub(super) url: &'a str,
    /// Which credentials were shown.
    pub(super) credentials: &'a str,
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// For each instance of the request, in its order.
    Each(Vec<Fate>),
    /// The destination is to blame: nothing is said of any instance.
    Destination { sentence: String, wait: Option<Duration> },
    /// The request was too large.
    TooLarge,
}

/// What it means for one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Settled(Verdict),
    /// It has to go in a request of its own before anything can be said.
    Alone,
    /// It went alone, and the answer does not say whether it was stored.
    Unclear(String),
    /// The archive has an instance with this UID.
    Duplicate(String),
    /// The archive does not take it in this transfer syntax.
    Syntax(String),
}

/// Reads the answer to a request with these instances.
pub(super) fn judge(answer: &Answer, instances: &[&str], about: About<'_>) -> Judgement {
    let status = answer.status;
    let said = shown(status);
    let all = |alone: &dyn Fn() -> Fate| {
        let fate = if instances.len() > 1 { Fate::Alone } else { alone() };
        Judgement::Each(vec![fate; instances.len()])
    };
    if let Some(judgement) = of_destination(answer, about) {
        return judgement;
    }
    match status.as_u16() {
        200..=299 | 409 => match answer::read(&answer.body) {
            Some(listed) => each(status, &listed, instances),
            // The status says that all are stored. That an answer lists failures can be seen even if it cannot be read.
            None if status != StatusCode::ACCEPTED && status.is_success() && !lists_failures(answer) => {
                let answer = format!("{said}, without a list of instances");
                let delivered = Fate::Settled(Verdict::Delivered { answer, warned: false });
                Judgement::Each(vec![delivered; instances.len()])
            }
            None if status.is_success() => all(&|| Fate::Unclear(format!("{said} without a list that could be read"))),
            None => all(&|| Fate::Settled(Verdict::Refused { answer: said.clone() })),
        },
        413 => Judgement::TooLarge,
        415 => all(&|| Fate::Syntax(said.clone())),
        408 | 500..=599 => all(&|| Fate::Settled(Verdict::Later { answer: said.clone() })),
        _ => all(&|| Fate::Settled(Verdict::Refused { answer: said.clone() })),
    }
}

/// What the answer to any request says of the destination as a whole; nothing if it is not to blame.
pub(super) fn of_destination(answer: &Answer, about: About<'_>) -> Option<Judgement> {
    let (status, About { url, credentials }) = (answer.status, about);
    let said = shown(status);
    let sentence = match status.as_u16() {
        401 => format!("{url} does not know us ({said}): renew {credentials}"),
        403 => format!("{url} does not let us store ({said}): have the rights granted there to {credentials}"),
        404 | 405 => format!("{url} is not the base of a DICOMweb service that stores ({said}): correct the url"),
        300..=399 => {
            let to = answer.location.as_deref().map_or_else(|| "somewhere else".to_owned(), cut);
            format!("{url} sends us to {to} ({said}), which is not followed: correct the url")
        }
        429 => format!("{url} has had too many requests ({said}): it is left in peace for a while"),
        503 => format!("{url} is not available ({said}): it is tried again"),
        200..=299 if is_page(answer) => {
            format!(
                "{url} answers with a web page ({said}), so this is no archive, or a portal in between: correct the url"
            )
        }
        _ => return None,
    };
    Some(Judgement::Destination { sentence, wait: answer.wait })
}

/// Whether an answer that is the destination's to blame for may have been caused by what is in one body.
pub(super) fn may_be_about_a_body(answer: &Answer) -> bool {
    let status = answer.status;
    matches!(status.as_u16(), 403..=405) || status.is_redirection() || (status.is_success() && is_page(answer))
}

/// What such an answer says of an instance that went alone, while the service is well.
pub(super) fn about_a_body(answer: &Answer) -> String {
    let said = shown(answer.status);
    let said = if answer.status.is_success() { format!("{said} with a web page") } else { said };
    format!(
        "{said}, while everything else is answered well: something in front of the archive may take what is in this instance \
         for an attack, or the right to store in this study is missing"
    )
}

fn each(status: StatusCode, listed: &Listed, instances: &[&str]) -> Judgement {
    let alone = instances.len() == 1;
    let said = shown(status);
    let fate = |instance: &&str| {
        if let Some(reason) = listed.failed.get(*instance) {
            return failed(status, *reason);
        }
        match listed.stored.get(*instance) {
            Some(Some(warning)) => {
                let answer = format!("{said}, warning {warning:04X}: {}", answer::meaning(*warning));
                Fate::Settled(Verdict::Delivered { answer, warned: true })
            }
            Some(None) => Fate::Settled(Verdict::Delivered { answer: said.clone(), warned: false }),
            None if status == StatusCode::CONFLICT && alone => {
                Fate::Settled(Verdict::Refused { answer: format!("{said}, without a reason") })
            }
            None if listed.nameless_failure && alone => {
                Fate::Settled(Verdict::Refused { answer: format!("{said}, failed without a name") })
            }
            None if status == StatusCode::ACCEPTED && alone => {
                Fate::Unclear(format!("{said} that does not name the instance"))
            }
            None if status == StatusCode::ACCEPTED || status == StatusCode::CONFLICT || listed.nameless_failure => {
                Fate::Alone
            }
            None => Fate::Settled(Verdict::Delivered { answer: said.clone(), warned: false }),
        }
    };
    Judgement::Each(instances.iter().map(fate).collect())
}

fn failed(status: StatusCode, reason: Option<u16>) -> Fate {
    let said = shown(status);
    let Some(reason) = reason else {
        return Fate::Settled(Verdict::Refused { answer: format!("{said}, failed without a reason") });
    };
    let answer = format!("{said}, failure reason {reason:04X}: {}", answer::meaning(reason));
    match reason {
        0x0111 => Fate::Duplicate(answer),
        0x0122 | 0xc122 => Fate::Syntax(answer),
        0xa700..=0xa7ff => Fate::Settled(Verdict::Later { answer }),
        _ => Fate::Settled(Verdict::Refused { answer }),
    }
}

/// The status as people know it.
pub(super) fn shown(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("HTTP {} {reason}", status.as_u16()),
        None => format!("HTTP {}", status.as_u16()),
    }
}

fn is_page(answer: &Answer) -> bool {
    answer.content_type.as_deref().is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html"))
}

/// Whether a body that cannot be read holds a Failed SOP Sequence (0008,1198) or an Other Failures Sequence (0008,119A).
fn lists_failures(answer: &Answer) -> bool {
    answer
        .body
        .windows(8)
        .any(|window| window.eq_ignore_ascii_case(b"00081198") || window.eq_ignore_ascii_case(b"0008119A"))
}

fn cut(text: &str) -> String {
    escaped(&text.chars().take(SHOWN).collect::<String>()).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ABOUT: About<'_> = About { url: "https://archive/rs", credentials: "the token in /run/token" };

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            wait: None,
            location: None,
            content_type: Some("application/dicom+json".to_owned()),
            body: body.as_bytes().to_vec(),
        }
    }

    fn body(stored: &[&str], failed: &[(&str, u16)]) -> String {
        let stored: Vec<_> = stored.iter().map(|uid| json!({ "00081155": { "vr": "UI", "Value": [uid] } })).collect();
        let failed = failed.iter().map(|(uid, reason)| {
            json!({ "00081155": { "vr": "UI", "Value": [uid] }, "00081197": { "vr": "US", "Value": [reason] } })
        });
        let failed: Vec<_> = failed.collect();
        json!({ "00081199": { "vr": "SQ", "Value": stored }, "00081198": { "vr": "SQ", "Value": failed } }).to_string()
    }

    fn fates(status: u16, body: &str, instances: &[&str]) -> Vec<Fate> {
        match judge(&answer(status, body), instances, ABOUT) {
            Judgement::Each(fates) => fates,
            other => panic!("{other:?}"),
        }
    }

    fn short(fate: &Fate) -> &'static str {
        match fate {
            Fate::Settled(Verdict::Delivered { warned: false, .. }) => "delivered",
            Fate::Settled(Verdict::Delivered { warned: true, .. }) => "warned",
            Fate::Settled(Verdict::Later { .. } | Verdict::PutOff { .. }) => "later",
            Fate::Settled(Verdict::Refused { .. }) => "refused",
            Fate::Settled(Verdict::Hopeless { .. } | Verdict::Damaged { .. }) => "hopeless",
            Fate::Settled(Verdict::Kept { .. }) => "kept",
            Fate::Alone => "alone",
            Fate::Unclear(_) => "unclear",
            Fate::Duplicate(_) => "duplicate",
            Fate::Syntax(_) => "syntax",
        }
    }

    #[test]
    fn every_status_with_every_kind_of_body_for_one_and_for_many() {
        let mixed = body(&["1"], &[("2", 0xa900)]);
        let nameless = json!({ "0008119A": { "vr": "SQ", "Value": [{}] } }).to_string();
        let in_xml = |tag: &str, uid: &str| {
            let uid = format!("<DicomAttribute tag=\"00081155\"><Value>{uid}</Value></DicomAttribute>");
            let reason = "<DicomAttribute tag=\"00081197\"><Value>43264</Value></DicomAttribute>";
            format!(
                "<NativeDicomModel><DicomAttribute tag=\"{tag}\"><Item>{uid}{reason}</Item></DicomAttribute></NativeDicomModel>"
            )
        };
        let (xml, other_xml) = (in_xml("00081198", "2"), in_xml("0008119A", ""));
        let table: [(u16, &str, [&str; 3], &str); 26] = [
            (200, &mixed, ["delivered", "refused", "delivered"], "delivered"),
            (200, "", ["delivered"; 3], "delivered"),
            (200, "{}", ["delivered"; 3], "delivered"),
            (200, &nameless, ["alone"; 3], "refused"),
            (200, &xml, ["delivered", "refused", "delivered"], "delivered"),
            (202, &xml, ["alone", "refused", "alone"], "unclear"),
            (200, &other_xml, ["alone"; 3], "refused"),
            (200, &xml[..xml.len() - 1], ["alone"; 3], "unclear"),
            (200, &other_xml[..90], ["alone"; 3], "unclear"),
            (200, "<NativeDicomModel/>", ["delivered"; 3], "delivered"),
            (201, "", ["delivered"; 3], "delivered"),
            (202, &mixed, ["delivered", "refused", "alone"], "delivered"),
            (202, "", ["alone"; 3], "unclear"),
            (202, "{}", ["alone"; 3], "unclear"),
            (409, &mixed, ["delivered", "refused", "alone"], "delivered"),
            (409, "", ["alone"; 3], "refused"),
            (409, "{}", ["alone"; 3], "refused"),
            (400, &mixed, ["alone"; 3], "refused"),
            (411, "", ["alone"; 3], "refused"),
            (422, "", ["alone"; 3], "refused"),
            (415, "", ["alone"; 3], "syntax"),
            (408, "", ["alone"; 3], "later"),
            (500, &mixed, ["alone"; 3], "later"),
            (502, "", ["alone"; 3], "later"),
            (504, "<html>", ["alone"; 3], "later"),
            (507, "", ["alone"; 3], "later"),
        ];
        for (status, body, many, one) in table {
            let found: Vec<_> = fates(status, body, &["1", "2", "3"]).iter().map(short).collect();
            assert_eq!(found, many, "{status} {body}");
            assert_eq!(short(&fates(status, body, &["1"])[0]), one, "{status} {body}");
        }
        assert_eq!(judge(&answer(413, ""), &["1"], ABOUT), Judgement::TooLarge);
    }

    #[test]
    fn failure_reasons_are_sorted_by_what_can_be_done() {
        for (reason, expected) in [
            (0x0110, "refused"),
            (0x0111, "duplicate"),
            (0x0122, "syntax"),
            (0x0124, "refused"),
            (0xa700, "later"),
            (0xa7ff, "later"),
            (0xa900, "refused"),
            (0xc000, "refused"),
            (0xc122, "syntax"),
            (0x9999, "refused"),
        ] {
            for status in [200, 202, 409] {
                let found = fates(status, &body(&[], &[("1", reason)]), &["1"]);
                assert_eq!(short(&found[0]), expected, "{status} {reason:04x}");
            }
        }
        let both = body(&["1"], &[("1", 0xa900)]);
        assert_eq!(short(&fates(200, &both, &["1"])[0]), "refused", "failed weighs more than stored");
    }

    #[test]
    fn the_body_of_an_answer_is_not_shown() {
        let token = answer(200, r#"{"access_token":"s3cret","token_type":"Bearer"}"#);
        assert!(format!("{token:?}").contains("47 bytes") && !format!("{token:?}").contains("s3cret"), "{token:?}");
    }

    #[test]
    fn what_the_destination_is_to_blame_for_says_what_to_do() {
        let sentence = |answer: &Answer| match judge(answer, &["1", "2"], ABOUT) {
            Judgement::Destination { sentence, .. } => sentence,
            other => panic!("{other:?}"),
        };
        assert!(sentence(&answer(401, "")).contains("renew the token in /run/token"));
        assert!(sentence(&answer(403, "")).contains("/run/token"));
        assert!(sentence(&answer(404, "")).contains("correct the url"));
        assert!(sentence(&answer(405, "")).contains("correct the url"));
        let moved = Answer { location: Some("https://elsewhere/\u{1b}[2J".to_owned()), ..answer(302, "") };
        assert!(sentence(&moved).contains("https://elsewhere/\\u{1b}[2J"), "{}", sentence(&moved));
        let page = Answer { content_type: Some("Text/HTML; charset=utf-8".to_owned()), ..answer(200, "<html>") };
        assert!(sentence(&page).contains("web page"));
        let wait = Some(Duration::from_secs(7));
        for status in [429, 503] {
            let busy = Answer { wait, ..answer(status, "") };
            assert!(matches!(judge(&busy, &["1"], ABOUT), Judgement::Destination { wait: found, .. } if found == wait));
        }
    }
}
