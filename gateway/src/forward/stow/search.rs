//! Which instances a service has: Search for Instances (QIDO-RS, PS3.18 10.6).
//!
//! One question names a series and several instances of it, `SOPInstanceUID=1.2.3,1.2.4` (PS3.18 8.3.4.2), and is asked
//! page by page until everything is found or a page is empty. The URL stays below 2,000 letters, which is the least that
//! servers take. What comes back is bounded three times: a page in bytes, the matches of all pages in number, and what is
//! kept of them are the instances that were asked for.
//!
//! An instance counts as found only if a match names it by its SOP Instance UID (0008,0018). Services exist that leave out
//! what they do not know of a question, `offset` as well: a page that brings nothing new ends the asking, and says that
//! there may be more.

use std::collections::HashSet;
use std::time::Duration;

use hyper::Method;

use super::answer;
use super::client::Line;
use super::credentials::Keyring;
use super::judgement::{self, About, Answer, Judgement};
use super::session::{Session, Trouble};
use super::{Service, WebSettings};
use crate::forward::courier::Settings;
use crate::model::Uid;

/// Instances in one question.
pub(in crate::forward) const MOST_INSTANCES: usize = 20;

/// Matches beyond those asked for, before the asking ends: a service may have an instance twice.
const MORE: usize = 20;

/// A connection for questions.
pub(in crate::forward) struct Search {
    session: Session,
}

/// What was answered.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::forward) enum Found {
    /// These of the instances asked for are there; `whole` says that there is nothing else.
    These { found: HashSet<Uid>, whole: bool },
    /// This question is not answered, and why.
    Refused(String),
}

/// Why nothing was learned.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::forward) enum Silence {
    /// The service cannot be used now, and how long it wants to be left in peace.
    Trouble { sentence: String, wait: Option<Duration> },
    /// It can be reached, and does not answer this question.
    Unanswered(String),
    /// It does not answer such questions.
    NotOffered(String),
}

impl From<Trouble> for Silence {
    fn from(Trouble { sentence, wait, .. }: Trouble) -> Self {
        Self::Trouble { sentence, wait }
    }
}

/// What one page means.
#[derive(Debug, PartialEq, Eq)]
enum Page {
    /// SOP Instance UIDs, as they are written there.
    Matches(Vec<String>),
    Refused(String),
}

impl Search {
    /// A connection of its own to the service, which may take `patience` for an answer.
    pub(in crate::forward) fn new(service: Service, settings: &Settings, patience: Duration) -> Self {
        let WebSettings { credentials, proxy, .. } = service.settings;
        let line = Line {
            tls: service.tls,
            proxy,
            dialer: settings.dialer.clone(),
            connect: settings.timeouts.association,
            stall: settings.timeouts.write,
            patience,
        };
        Self { session: Session::new(service.url, line, Keyring::new(credentials)) }
    }

    /// Lets go of the connection.
    pub(in crate::forward) fn close(&mut self) {
        self.session.close();
    }

    /// Asks for these instances, of this study and series as far as they are known.
    pub(in crate::forward) async fn instances(
        &mut self,
        above: (Option<&Uid>, Option<&Uid>),
        instances: &[&Uid],
    ) -> Result<Found, Silence> {
        let question = question(above, instances);
        let mut matches = Matches::new(instances);
        loop {
            let path = matches.next_page(&question);
            let answer = self.ask(&path).await?;
            let (url, credentials) = (self.session.url.to_string(), self.session.credentials());
            match read(&answer, About { url: &url, credentials: &credentials })? {
                Page::Refused(why) => return Ok(Found::Refused(why)),
                Page::Matches(page) => {
                    if let Some(whole) = matches.take(&page) {
                        return Ok(Found::These { found: matches.found, whole });
                    }
                }
            }
        }
    }

    /// One page. What breaks a connection that stood is about the question.
    async fn ask(&mut self, path: &str) -> Result<Answer, Silence> {
        self.session.reach().await?;
        match self.session.ask(Method::GET, path).await {
            Ok(answer) => Ok(answer),
            Err(Trouble { sentence, .. }) if !self.session.is_open() => Err(Silence::Unanswered(sentence)),
            Err(trouble) => Err(trouble.into()),
        }
    }
}

/// The resource and the query, but for the page. UIDs need no escaping.
fn question((study, series): (Option<&Uid>, Option<&Uid>), instances: &[&Uid]) -> String {
    let above = match (study, series) {
        (Some(study), Some(series)) => format!("/studies/{study}/series/{series}"),
        (Some(study), None) => format!("/studies/{study}"),
        (None, _) => String::new(),
    };
    let list: Vec<&str> = instances.iter().map(|instance| instance.as_str()).collect();
    format!("{above}/instances?SOPInstanceUID={}&includefield=00080018", list.join(","))
}

/// The matches of one question, over all pages.
struct Matches<'a> {
    asked: &'a [&'a Uid],
    found: HashSet<Uid>,
    /// Everything that was named, wanted or not; at most as much as one page more than counts.
    named: HashSet<String>,
    count: usize,
}

impl<'a> Matches<'a> {
    fn new(asked: &'a [&'a Uid]) -> Self {
        Self { asked, found: HashSet::new(), named: HashSet::new(), count: 0 }
    }

    fn most(&self) -> usize {
        self.asked.len().saturating_add(MORE)
    }

    fn next_page(&self, question: &str) -> String {
        let limit = self.most();
        match self.count {
            0 => format!("{question}&limit={limit}"),
            offset => format!("{question}&limit={limit}&offset={offset}"),
        }
    }

    /// Takes a page. When no other is to be asked for: whether there is nothing else.
    fn take(&mut self, page: &[String]) -> Option<bool> {
        let mut brings_something = false;
        for instance in page.iter().take(self.most() + 1) {
            self.count += 1;
            brings_something |= self.named.insert(instance.clone());
            let wanted = self.asked.iter().find(|asked| asked.as_str() == instance);
            self.found.extend(wanted.map(|wanted| (*wanted).clone()));
        }
        if page.is_empty() || self.asked.iter().all(|asked| self.found.contains(*asked)) {
            return Some(true);
        }
        (self.count > self.most() || !brings_something).then_some(false)
    }
}

/// What an answer to a question means. Pure.
fn read(answer: &Answer, about: About<'_>) -> Result<Page, Silence> {
    let said = judgement::shown(answer.status);
    let About { url, credentials } = about;
    match answer.status.as_u16() {
        204 => return Ok(Page::Matches(Vec::new())),
        403 => {
            return Ok(Page::Refused(format!(
                "{url} does not tell us whether it has it ({said}): have the right to read granted there to {credentials}"
            )));
        }
        405 | 501 => {
            return Err(Silence::NotOffered(format!(
                "{url} does not answer queries (QIDO-RS, {said}), so nothing that was delivered there is confirmed: \
                 enable it at the archive, or set verify = \"none\""
            )));
        }
        402 | 404 | 406..=428 | 430..=499 | 400 => {
            return Ok(Page::Refused(format!("the archive answered the query with {said}")));
        }
        _ => {}
    }
    if let Some(Judgement::Destination { sentence, wait }) = judgement::of_destination(answer, about) {
        return Err(Silence::Trouble { sentence, wait });
    }
    if !answer.status.is_success() {
        return Err(Silence::Unanswered(format!("{url} answered the query with {said}")));
    }
    let page = answer::found(&answer.body).map(Page::Matches);
    Ok(page.unwrap_or_else(|| {
        Page::Refused(format!("the archive answered the query with {said} and no list of instances"))
    }))
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use serde_json::json;

    use super::*;

    const ABOUT: About<'_> = About { url: "https://archive/rs", credentials: "the token in /run/token" };

    fn uid(text: &str) -> Uid {
        text.parse().unwrap()
    }

    fn answer(status: u16, kind: &str, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        let wait = Some(Duration::from_secs(7));
        Answer { status, wait, location: None, content_type: Some(kind.to_owned()), body: body.as_bytes().to_vec() }
    }

    fn page(uids: &[&str]) -> Vec<String> {
        uids.iter().map(|uid| (*uid).to_owned()).collect()
    }

    #[test]
    fn a_question_names_what_is_known_and_fits_in_the_url_of_every_server() {
        let (study, series, one, two) = (uid("1.2"), uid("1.2.3"), uid("1.2.3.4"), uid("1.2.3.5"));
        assert_eq!(
            question((Some(&study), Some(&series)), &[&one, &two]),
            "/studies/1.2/series/1.2.3/instances?SOPInstanceUID=1.2.3.4,1.2.3.5&includefield=00080018"
        );
        assert!(question((Some(&study), None), &[&one]).starts_with("/studies/1.2/instances?"));
        assert!(question((None, Some(&series)), &[&one]).starts_with("/instances?"));
        let long = uid(&"1.".repeat(31).chars().chain("23".chars()).collect::<String>());
        let longest = question((Some(&long), Some(&long)), &[&long; MOST_INSTANCES]);
        assert!(long.as_str().len() == 64 && longest.len() < 1_700, "{}", longest.len());
    }

    #[test]
    fn pages_are_asked_for_until_all_is_found_or_nothing_more_comes() {
        let (one, two, three) = (uid("1.1"), uid("1.2"), uid("1.3"));
        let asked = [&one, &two, &three];
        let mut matches = Matches::new(&asked);
        assert_eq!(matches.next_page("?x"), "?x&limit=23");
        assert_eq!(matches.take(&page(&["1.1", "1.9"])), None);
        assert_eq!(matches.next_page("?x"), "?x&limit=23&offset=2");
        assert_eq!(matches.take(&page(&["1.2", "1.2"])), None);
        assert_eq!(matches.take(&page(&["1.3"])), Some(true), "all are there");
        assert_eq!(Matches::new(&asked).take(&[]), Some(true), "none is there");

        let mut matches = Matches::new(&asked);
        assert_eq!(matches.take(&page(&["1.1"])), None);
        assert_eq!(matches.take(&page(&["1.1"])), Some(false), "the offset is not heeded");
        assert_eq!(matches.found, HashSet::from([one.clone()]));

        let many: Vec<String> = (0..1_000).map(|number| format!("2.{number}")).collect();
        let mut matches = Matches::new(&asked);
        assert_eq!(matches.take(&many), Some(false), "more than was asked for");
        assert!(matches.found.is_empty() && matches.named.len() <= 24, "and little of it is kept");
    }

    #[test]
    fn only_a_list_that_names_the_instance_finds_it() {
        const JSON: &str = "application/dicom+json";
        let body = json!([
            { "00080018": { "vr": "UI", "Value": ["1.1"] }, "00100010": { "vr": "PN", "Value": [{ "Alphabetic": "DOE" }] } },
            { "0020000D": { "vr": "UI", "Value": ["1.2"] } },
            { "00080018": { "vr": "UI" } },
        ]);
        let read = |status, body: &str| read(&answer(status, JSON, body), ABOUT);
        assert_eq!(read(200, &body.to_string()), Ok(Page::Matches(page(&["1.1"]))));
        assert_eq!(read(204, ""), Ok(Page::Matches(Vec::new())));
        assert_eq!(read(200, "[]"), Ok(Page::Matches(Vec::new())));
        for unreadable in ["", "{}", "7", "<x/>", "[7]", "{\"00080018\":{\"Value\":[\"1.1\"]}}"] {
            assert!(matches!(read(200, unreadable), Ok(Page::Refused(_))), "{unreadable}");
        }
    }

    #[test]
    fn every_status_is_about_the_question_or_about_the_service() {
        let read = |status: u16| read(&answer(status, "text/plain", ""), ABOUT);
        for status in [400, 403, 404, 406, 414, 422, 431] {
            assert!(matches!(read(status), Ok(Page::Refused(_))), "{status}");
        }
        for status in [405, 501] {
            let Err(Silence::NotOffered(sentence)) = read(status) else { panic!("{status}") };
            assert!(sentence.contains("set verify = \"none\""), "{sentence}");
        }
        for status in [500, 502, 504, 507] {
            assert!(matches!(read(status), Err(Silence::Unanswered(_))), "{status}");
        }
        for status in [301, 401, 429, 503] {
            let Err(Silence::Trouble { wait, sentence }) = read(status) else { panic!("{status}") };
            assert!(wait.is_some() && sentence.contains("https://archive/rs"), "{sentence}");
        }
        let portal = super::read(&answer(200, "text/html", "<html>"), ABOUT);
        assert!(matches!(portal, Err(Silence::Trouble { .. })), "a web page is no archive");
    }
}
