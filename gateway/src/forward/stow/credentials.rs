//! How the gateway says who it is: a bearer token from a file, a token of its own by client credentials, or user and
//! password. Files are read whenever they are needed, so a new one counts with the next request.
//!
//! A secret is in no error, no log line and no `Debug`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use serde::Deserialize;
use tokio::io::AsyncReadExt;

use super::judgement::{Answer, shown};
use crate::config::{Credentials, WebUrl};

/// No file with a secret is longer, and no answer with a token.
const LONGEST: u64 = 64 << 10;

/// How long a token is used whose answer does not say when it expires.
const UNTOLD: Duration = Duration::from_secs(300);

/// How long before its end a token is renewed, if it lives long enough for that: no request must outlive it on its way.
const EARLY: Duration = Duration::from_secs(60);

/// Something that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// The first line of the file.
    pub(super) async fn read(file: &Path) -> Result<Self, String> {
        let failed = |problem: &dyn fmt::Display| format!("{} {problem}", file.display());
        let opened = tokio::fs::File::open(file).await;
        let mut content = Vec::new();
        let read = match opened {
            Ok(opened) => opened.take(LONGEST + 1).read_to_end(&mut content).await,
            Err(error) => Err(error),
        };
        read.map_err(|error| failed(&format_args!("cannot be read: {error}; check the path and its permissions")))?;
        if content.len() as u64 > LONGEST {
            return Err(failed(&"is longer than 64 KiB, so it holds no token and no password; check the path"));
        }
        let text = String::from_utf8(content).map_err(|_| failed(&"is not UTF-8; write it again as text"))?;
        match text.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
            Some(line) if !line.chars().any(char::is_control) => Ok(Self(line.to_owned())),
            Some(_) => Err(failed(&"holds a control character; write it again as one line of text")),
            None => Err(failed(&"is empty; put the secret into it as one line")),
        }
    }

    /// Without characters that a header cannot carry.
    fn bearer(&self) -> Option<HeaderValue> {
        sensitive(format!("Bearer {}", self.0))
    }
}

fn sensitive(text: String) -> Option<HeaderValue> {
    let is_plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let mut value = HeaderValue::from_str(&text).ok().filter(|_| is_plain)?;
    value.set_sensitive(true);
    Some(value)
}

/// The value of Authorization, or of Proxy-Authorization, for a user (RFC 7617).
pub(super) fn basic(user: &str, password: &Secret) -> Option<HeaderValue> {
    sensitive(format!("Basic {}", base64(format!("{user}:{}", password.0).as_bytes())))
}

/// A token of our own, and until when it is used.
#[derive(Debug)]
struct Token {
    secret: Secret,
    until: Instant,
}

/// The credentials of one destination.
#[derive(Debug)]
pub(super) struct Keyring {
    credentials: Credentials,
    token: Option<Token>,
}

/// What is to be shown with the next request.
#[derive(Debug)]
pub(super) enum Show {
    Nothing,
    This(HeaderValue),
    /// A token has to be asked for first.
    Ask(TokenRequest),
}

/// A request for a token (RFC 6749 4.4.2).
#[derive(Debug)]
pub(super) struct TokenRequest {
    pub(super) url: WebUrl,
    /// The client's ID and secret, as RFC 6749 2.3.1 wants every server to take them.
    pub(super) authorization: HeaderValue,
    /// `application/x-www-form-urlencoded`
    pub(super) form: String,
}

impl Keyring {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials, token: None }
    }

    /// What is to be shown at the time `now`; or why that is not to be had.
    pub(super) async fn show(&self, now: Instant) -> Result<Show, String> {
        let unfit = |file: &PathBuf| format!("{} holds what a header cannot carry; write it again", file.display());
        match &self.credentials {
            Credentials::None => Ok(Show::Nothing),
            Credentials::Token(file) => {
                let token = Secret::read(file).await?.bearer();
                token.map(Show::This).ok_or_else(|| unfit(file))
            }
            Credentials::Basic { user, password } => {
                let secret = Secret::read(password).await?;
                basic(user, &secret).map(Show::This).ok_or_else(|| unfit(password))
            }
            Credentials::OAuth { url, client, secret: file, scope } => {
                if let Some(token) = self.token.as_ref().filter(|token| token.until > now) {
                    return token.secret.bearer().map(Show::This).ok_or_else(|| "the token is no token".to_owned());
                }
                let secret = Secret(form_encoded(&Secret::read(file).await?.0));
                let authorization = basic(&form_encoded(client), &secret).ok_or_else(|| unfit(file))?;
                let scope = scope.as_ref().map(|scope| format!("&scope={}", form_encoded(scope)));
                let form = format!("grant_type=client_credentials{}", scope.unwrap_or_default());
                Ok(Show::Ask(TokenRequest { url: url.clone(), authorization, form }))
            }
        }
    }

    /// Takes the answer to a request for a token.
    pub(super) fn take(&mut self, answer: &Answer, now: Instant) -> Result<(), String> {
        let about = self.describe();
        if !answer.status.is_success() {
            let error = serde_json::from_slice::<TokenError>(&answer.body).ok();
            let error = error.filter(|error| error.error.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
            let said = shown(answer.status);
            let said = error.map_or(said.clone(), |error| format!("{said}, {:.40}", error.error));
            return Err(format!("no token is given for {about}: {said}"));
        }
        let given: TokenAnswer = serde_json::from_slice(&answer.body)
            .map_err(|_| format!("the answer to {about} holds no token; check oauth-token-url"))?;
        let secret = Secret(given.access_token);
        if !given.token_type.eq_ignore_ascii_case("bearer") || secret.bearer().is_none() {
            return Err(format!("the answer to {about} holds no bearer token; ask its administrator for one"));
        }
        let lives = given.expires_in.map_or(UNTOLD, |seconds| Duration::from_secs(seconds.min(86_400 * 365)));
        let used = lives.saturating_sub(EARLY.min(lives / 2));
        self.token = Some(Token { secret, until: now + used });
        Ok(())
    }

    /// Throws a token of our own away that was refused, so that another is asked for. Whether there was one.
    pub(super) fn forget(&mut self) -> bool {
        self.token.take().is_some()
    }

    /// What the credentials are, for sentences.
    pub(super) fn describe(&self) -> String {
        match &self.credentials {
            Credentials::None => {
                "the client certificate of the gateway, or give it credentials (token-file)".to_owned()
            }
            Credentials::Token(file) => format!("the token in {}", file.display()),
            Credentials::Basic { user, password } => {
                format!("the user {user} and the password in {}", password.display())
            }
            Credentials::OAuth { url, client, secret, .. } => {
                format!("the client {client} at {url} with the secret in {}", secret.display())
            }
        }
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    token_type: String,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
}

/// Some servers write the number as a text.
fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::Number(number) => number.as_u64(),
        serde_json::Value::String(text) => text.parse().ok(),
        _ => None,
    })
}

/// RFC 6749 5.2. The description beside it is written for developers and not shown.
#[derive(Deserialize)]
struct TokenError {
    error: String,
}

/// `application/x-www-form-urlencoded`
fn form_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' => encoded.push(char::from(byte)),
            b' ' => encoded.push('+'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// RFC 4648 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let index = usize::try_from(bits >> (18 - 6 * digit) & 63).unwrap_or(0);
            let letter = LETTERS.get(index).copied().unwrap_or(b'=');
            text.push(if digit <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;
    use crate::clock;

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, wait: None, location: None, content_type: None, body: body.as_bytes().to_vec() }
    }

    fn header(show: Show) -> String {
        match show {
            Show::This(value) => value.to_str().unwrap().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (text, expected) in vectors {
            assert_eq!(base64(text.as_bytes()), expected);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[tokio::test]
    async fn files_are_read_again_each_time_and_what_is_wrong_with_them_is_told_without_their_content() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let keyring = Keyring::new(Credentials::Token(file.clone()));
        let now = clock::of_runtime();
        assert!(keyring.show(now).await.unwrap_err().contains("cannot be read"));
        std::fs::write(&file, "one\n").unwrap();
        assert_eq!(header(keyring.show(now).await.unwrap()), "Bearer one");
        std::fs::write(&file, "  two  \nthe rest\n").unwrap();
        assert_eq!(header(keyring.show(now).await.unwrap()), "Bearer two");
        for (content, problem) in [
            (b"\n".to_vec(), "is empty"),
            (b"a\tb".to_vec(), "control"),
            (vec![0xff], "UTF-8"),
            (vec![b'x'; 70_000], "64 KiB"),
            ("töken".into(), "cannot carry"),
        ] {
            std::fs::write(&file, &content).unwrap();
            let error = keyring.show(now).await.unwrap_err();
            assert!(error.contains(problem) && !error.contains("töken"), "{error}");
        }
        let password = Credentials::Basic { user: "Aladdin".to_owned(), password: file.clone() };
        std::fs::write(&file, "open sesame").unwrap();
        let shown = Keyring::new(password).show(now).await.unwrap();
        assert_eq!(header(shown), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }

    #[tokio::test]
    async fn a_token_is_asked_for_kept_until_shortly_before_its_end_and_forgotten_when_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "s3cr+t").unwrap();
        let mut keyring = Keyring::new(Credentials::OAuth {
            url: "https://login/token".parse().unwrap(),
            client: "gate way".to_owned(),
            secret: file,
            scope: Some("dicom:write x".to_owned()),
        });
        let now = clock::of_runtime();
        let Show::Ask(request) = keyring.show(now).await.unwrap() else { panic!() };
        assert_eq!(request.form, "grant_type=client_credentials&scope=dicom%3Awrite+x");
        let expected = format!("Basic {}", base64(b"gate+way:s3cr%2Bt"));
        assert_eq!(request.authorization, expected.as_str());
        assert!(!format!("{request:?} {keyring:?}").contains("s3cr"), "no secret is shown");

        let good = r#"{"access_token":"abc","token_type":"Bearer","expires_in":3600}"#;
        keyring.take(&answer(200, good), now).unwrap();
        assert!(!format!("{keyring:?}").contains("abc"));
        assert_eq!(header(keyring.show(now + Duration::from_secs(3539)).await.unwrap()), "Bearer abc");
        assert!(matches!(keyring.show(now + Duration::from_secs(3540)).await.unwrap(), Show::Ask(_)));
        keyring.take(&answer(200, r#"{"access_token":"d","token_type":"bearer","expires_in":"10"}"#), now).unwrap();
        assert!(matches!(keyring.show(now + Duration::from_secs(4)).await.unwrap(), Show::This(_)));
        assert!(matches!(keyring.show(now + Duration::from_secs(5)).await.unwrap(), Show::Ask(_)));
        assert!(keyring.forget() && !keyring.forget());
        assert!(matches!(keyring.show(now).await.unwrap(), Show::Ask(_)));

        let refused = keyring.take(&answer(401, r#"{"error":"invalid_client","error_description":"bad s3cr+t"}"#), now);
        let refused = refused.unwrap_err();
        assert!(refused.contains("HTTP 401 Unauthorized, invalid_client") && !refused.contains("bad"), "{refused}");
        for bad in [
            "",
            "{}",
            "<html>",
            r#"{"access_token":"a b\n","token_type":"bearer"}"#,
            r#"{"access_token":"a","token_type":"mac"}"#,
        ] {
            assert!(keyring.take(&answer(200, bad), now).is_err(), "{bad}");
        }
    }
}
