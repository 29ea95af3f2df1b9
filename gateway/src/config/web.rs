//! What is special about a destination that speaks DICOMweb: its URL, its credentials, a proxy, and how much goes in one
//! request.
//!
//! Credentials are files. Nothing here holds a secret, so nothing here can give one away; `forward::stow` reads them when
//! they are needed. A file that cannot be read now is warned of and not refused: what fetches tokens may not have run yet
//! when the box starts, and what modalities send must be taken all the same.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use super::finding::Finding;
use super::reader::{Given, Reader};
use super::units::Bytes;
use super::url::{DestinationUrl, because, is_host};
use super::validate::is_open;

const TABLE: &str = "to";

/// The port of HTTPS.
const HTTPS: u16 = 443;

/// The address of a web service, reached over TLS only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WebUrl {
    /// A DNS name, or an IP address without brackets. The certificate must name exactly this.
    pub host: String,
    /// The TCP port; never 0.
    pub port: u16,
    /// Empty, or an absolute path without a slash at its end, escaped as on the wire.
    pub path: String,
}

impl WebUrl {
    /// Reads the part after `https://` of the base of a DICOMweb service; `/studies` at its end is left out.
    pub(super) fn after_scheme(rest: &str) -> Result<Self, (String, String)> {
        let mut url = Self::read(rest)?;
        if let Some(base) = url.path.strip_suffix("/studies") {
            url.path.truncate(base.len());
        }
        Ok(url)
    }

    fn read(rest: &str) -> Result<Self, (String, String)> {
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at_checked(at).unwrap_or((rest, "")),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err(because(
                "holds a user or a password",
                "Take it out of the URL: credentials are given by user and password-file.",
            ));
        }
        let (host, port) = host_and_port(authority)
            .ok_or_else(|| because("has a host that is neither a DNS name nor an IP address", EXAMPLE))?;
        let port = match port {
            None => HTTPS,
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
                because(format!("has the port {port:?}"), "A port is a number from 1 to 65535; HTTPS uses 443.")
            })?,
        };
        if path.contains(['?', '#']) {
            return Err(because("has a query or a fragment", "Give the base of the service, without \"?\" and \"#\"."));
        }
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&b);
        if !path.bytes().all(is_allowed) {
            return Err(because("has a letter in its path that must be escaped", "Write a space as %20, for example."));
        }
        Ok(Self { host: host.to_owned(), port, path: path.trim_end_matches('/').to_owned() })
    }

    /// Host and port as they stand in a request and in a URL.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = bracketed(&self.host);
        if self.port == HTTPS { host } else { format!("{host}:{}", self.port) }
    }
}

const EXAMPLE: &str = "Write https://archive.example.org/dicom-web, or https://[2001:db8::1]:8443/dicom-web.";

/// Splits `host:port`, `host` or `[address]:port`; the host without brackets, and good.
fn host_and_port(authority: &str) -> Option<(&str, Option<&str>)> {
    match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            match rest {
                "" => Some((host, None)),
                rest => Some((host, Some(rest.strip_prefix(':')?))),
            }
        }
        None => {
            let (host, port) = match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            };
            is_host(host).then_some((host, port))
        }
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

impl FromStr for WebUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("https://").ok_or("is no https:// URL")?;
        Self::read(rest).map_err(|(problem, _)| problem)
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.authority(), self.path)
    }
}

/// Everything of `[to.NAME]` that only a DICOMweb destination has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSettings {
    /// How the gateway says who it is, beside its client certificate.
    pub credentials: Credentials,
    /// `proxy`: through which every connection goes. None from the environment.
    pub proxy: Option<Proxy>,
    /// `max-request`: bytes of one request; a larger instance goes alone.
    pub max_request: u64,
    /// `max-instances`: instances in one request.
    pub max_instances: u32,
}

impl Default for WebSettings {
    fn default() -> Self {
        Self { credentials: Credentials::None, proxy: None, max_request: 100 * MIB, max_instances: 50 }
    }
}

/// How the gateway says who it is. Each file is read again when it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Not at all, or by its client certificate.
    None,
    /// `token-file`: a bearer token (RFC 6750) that somebody else renews.
    Token(PathBuf),
    /// `oauth-*`: tokens by client credentials (RFC 6749 4.4).
    OAuth {
        /// `oauth-token-url`
        url: WebUrl,
        /// `oauth-client-id`
        client: String,
        /// `oauth-secret-file`
        secret: PathBuf,
        /// `oauth-scope`
        scope: Option<String>,
    },
    /// `user` and `password-file` (RFC 7617).
    Basic {
        /// `user`
        user: String,
        /// `password-file`
        password: PathBuf,
    },
}

/// An HTTP proxy that takes CONNECT (RFC 9110 9.3.6): it sees host, port and ciphertext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// A DNS name, or an IP address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// `proxy-user` and `proxy-password-file`.
    pub user: Option<(String, PathBuf)>,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", bracketed(&self.host), self.port)
    }
}

const KEYS: [&str; 12] = [
    "token-file",
    "oauth-token-url",
    "oauth-client-id",
    "oauth-secret-file",
    "oauth-scope",
    "user",
    "password-file",
    "proxy",
    "proxy-user",
    "proxy-password-file",
    "max-request",
    "max-instances",
];

const MIB: u64 = 1 << 20;

/// Takes note of the keys, so that none is told to be unknown where something else is wrong.
pub(super) fn note(reader: &mut Reader, name: &str) {
    for key in KEYS {
        let _ = reader.document.get(TABLE, name, key);
    }
}

/// The settings of `[to.NAME]` that are for DICOMweb; nothing, and a word about each that is there, if `url` is not.
pub(super) fn settings(
    reader: &mut Reader,
    name: &str,
    url: &DestinationUrl,
    warnings: &mut Vec<Finding>,
) -> Option<WebSettings> {
    if !matches!(url, DestinationUrl::Dicomweb(_)) {
        for key in KEYS {
            if let Some(entry) = reader.document.get(TABLE, name, key) {
                let what = "is only for a destination that speaks DICOMweb";
                reader.add(entry.place, entry.label, what, "Remove it, or give an https:// URL.");
            }
        }
        return None;
    }
    let mut form = Form { reader, name, warnings };
    let credentials = form.credentials();
    let proxy = form.proxy();
    let otherwise = "leave the key out for \"100MiB\"";
    let largest = form.reader.optional_quantity(
        (TABLE, name, "max-request"),
        (Bytes(64 << 10), Bytes(16 * 1024 * MIB)),
        otherwise,
    );
    let most = form.reader.optional_quantity((TABLE, name, "max-instances"), (1, 500), "leave the key out for 50");
    let default = WebSettings::default();
    Some(WebSettings {
        credentials,
        proxy,
        max_request: largest.map_or(default.max_request, |largest| largest.0),
        max_instances: most.unwrap_or(default.max_instances),
    })
}

/// One table that is being read.
struct Form<'a> {
    reader: &'a mut Reader,
    name: &'a str,
    warnings: &'a mut Vec<Finding>,
}

impl Form<'_> {
    fn credentials(&mut self) -> Credentials {
        let token = self.secret("token-file");
        let (oauth_url, client) = (self.text("oauth-token-url"), self.text("oauth-client-id"));
        let (secret, scope) = (self.secret("oauth-secret-file"), self.text("oauth-scope"));
        let (user, password) = (self.text("user"), self.secret("password-file"));
        let any_oauth = [&oauth_url, &client, &scope].into_iter().flatten().next().cloned();
        let any_oauth = any_oauth.or_else(|| secret.as_ref().map(named));
        let any_basic = user.clone().or_else(|| password.as_ref().map(named));
        let kinds = [token.as_ref().map(named), any_oauth.clone(), any_basic.clone()];
        if let [_, second, ..] = kinds.iter().flatten().collect::<Vec<_>>().as_slice() {
            let what = "is a second kind of credential for one destination";
            self.reader.refuse(second, what, "Give token-file, or the oauth- keys, or user and password-file.");
            return Credentials::None;
        }
        if let Some(token) = token {
            return Credentials::Token(token.value);
        }
        if let Some(given) = any_oauth {
            let (Some(url), Some(client), Some(secret)) = (oauth_url, client, secret) else {
                let what = "is not enough: client credentials have a token URL, a client ID and a secret";
                let remedy = "Give oauth-token-url, oauth-client-id and oauth-secret-file together.";
                self.reader.refuse(&given, what, remedy);
                return Credentials::None;
            };
            return self.oauth(&url, client.value, secret.value, scope.map(|scope| scope.value));
        }
        match (user, password, any_basic) {
            (Some(user), Some(password), _) if user.value.contains(':') || user.value.chars().any(char::is_control) => {
                self.reader.refuse(&user, "has a colon in it, or a control character", "HTTP has no way to send it.");
                Credentials::Basic { user: user.value, password: password.value }
            }
            (Some(user), Some(password), _) => Credentials::Basic { user: user.value, password: password.value },
            (_, _, Some(given)) => {
                self.reader.refuse(&given, "stands alone", "Give user and password-file together.");
                Credentials::None
            }
            _ => Credentials::None,
        }
    }

    fn oauth(&mut self, url: &Given<String>, client: String, secret: PathBuf, scope: Option<String>) -> Credentials {
        match url.value.parse::<WebUrl>() {
            Ok(url) => Credentials::OAuth { url, client, secret, scope },
            Err(problem) => {
                let remedy = "Give the token endpoint of the authorization server: https://host/path, without a query.";
                self.reader.refuse(url, format!("the token URL {problem}"), remedy);
                Credentials::None
            }
        }
    }

    fn proxy(&mut self) -> Option<Proxy> {
        let (user, password) = (self.text("proxy-user"), self.secret("proxy-password-file"));
        let user = match (user, password) {
            (Some(user), Some(password)) => Some((user.value, password.value)),
            (None, None) => None,
            (user, password) => {
                if let Some(given) = user.or_else(|| password.as_ref().map(named)) {
                    self.reader.refuse(&given, "stands alone", "Give proxy-user and proxy-password-file together.");
                }
                None
            }
        };
        let given = self.text("proxy")?;
        let rest = given.value.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
        let address = rest.and_then(host_and_port).and_then(|(host, port)| Some((host, port?.parse::<u16>().ok()?)));
        match address.filter(|(_, port)| *port > 0) {
            Some((host, port)) => Some(Proxy { host: host.to_owned(), port, user }),
            None => {
                let remedy =
                    "Write http://host:port; user and password are given by proxy-user and proxy-password-file.";
                self.reader.refuse(&given, "is not the address of a proxy", remedy);
                None
            }
        }
    }

    fn text(&mut self, key: &str) -> Option<Given<String>> {
        self.reader.text(TABLE, self.name, key)
    }

    /// The path of a file with a secret, with a warning about what may be wrong with it.
    fn secret(&mut self, key: &str) -> Option<Given<PathBuf>> {
        let given = self.reader.path_of((TABLE, self.name, key))?;
        let warning = match std::fs::metadata(&given.value) {
            Err(error) => Some((
                format!("{} cannot be read now: {error}", given.value.display()),
                "Nothing is delivered to this destination before the user of the gateway can read it.",
            )),
            Ok(metadata) if is_open(&metadata) => Some((
                format!("every user of this machine can read {}", given.value.display()),
                "Take the rights away: chmod o= on the file.",
            )),
            Ok(_) => None,
        };
        if let Some((what, remedy)) = warning {
            let (place, key) = (given.place.clone(), given.label.clone());
            self.warnings.push(Finding { place, key, what, remedy: remedy.to_owned() });
        }
        Some(given)
    }
}

/// The same place, for a finding.
fn named(given: &Given<PathBuf>) -> Given<String> {
    Given { value: String::new(), place: given.place.clone(), label: given.label.clone() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{changed, read, refusal};
    use super::*;

    /// A DICOMweb destination with these lines in its table.
    fn destination(lines: &str) -> String {
        let url = format!("https://pacs.example.org/dicom-web\"\n{lines}\n#\"");
        changed("file:///srv/dicom", &url)
    }

    /// What is wrong with these lines; that there is no ca is beside the point here.
    fn wrong(lines: &str) -> String {
        refusal(&destination(lines))
    }

    fn url(text: &str) -> WebUrl {
        match text.parse::<DestinationUrl>().unwrap() {
            DestinationUrl::Dicomweb(url) => url,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn the_base_of_the_service_is_found_with_or_without_studies() {
        for text in ["https://h/dicom-web", "https://h:443/dicom-web/", "https://h/dicom-web/studies/"] {
            let found = url(text);
            assert_eq!((found.host.as_str(), found.port, found.path.as_str()), ("h", 443, "/dicom-web"), "{text}");
            assert_eq!(found.to_string(), "https://h/dicom-web");
        }
        assert_eq!(url("https://h:8443/studies").path, "");
        for bad in ["https:///x", "https://h:0/x", "https://h/x?y", "https://h/a b", "https://[::1/x", "https://h:/x"] {
            assert!(bad.parse::<DestinationUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn one_kind_of_credential_and_all_of_it() {
        assert!(wrong("user = \"me\"").contains("to.archive.user: stands alone"));
        assert!(wrong("password-file = \"p\"").contains("Give user and password-file together"));
        assert!(wrong("oauth-scope = \"s\"").contains("a token URL, a client ID and a secret"));
        assert!(wrong("token-file = \"t\"\nuser = \"me\"\npassword-file = \"p\"").contains("second kind"));
        let plain = "oauth-token-url = \"http://h/t\"\noauth-client-id = \"c\"\noauth-secret-file = \"s\"";
        assert!(wrong(plain).contains("is no https:// URL"), "{}", wrong(plain));
        assert!(wrong("proxy = \"https://p:3128\"").contains("is not the address of a proxy"));
        assert!(wrong("proxy-user = \"me\"").contains("proxy-password-file together"));
        assert!(wrong("max-request = \"1KiB\"").contains("is out of range"));
    }

    #[test]
    fn what_is_for_dicomweb_is_refused_elsewhere_and_https_needs_an_authority() {
        let text = changed("url = \"file:///srv/dicom\"", "url = \"file:///srv/dicom\"\nmax-instances = 3");
        assert!(refusal(&text).contains("only for a destination that speaks DICOMweb"));
        assert!(wrong("").contains("no ca is given to check it by"));
    }

    #[test]
    fn a_secret_that_is_not_there_yet_or_that_all_can_read_is_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        std::fs::write(&open, "secret").unwrap();
        std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let ca = folder.path().join("ca.pem");
        let authority = rcgen::generate_simple_self_signed(vec!["authority".to_owned()]).unwrap();
        std::fs::write(&ca, authority.cert.pem()).unwrap();
        let lines = |file: &str| {
            format!("token-file = {file:?}\nproxy = \"http://proxy:3128\"\nmax-request = \"5MiB\"\nmax-instances = 7")
        };
        let with_ca = |lines: &str| destination(lines).replacen("data =", &format!("ca = {ca:?}\ndata ="), 1);
        let config = read(&with_ca(&lines(open.to_str().unwrap()))).unwrap();
        assert!(config.warnings.iter().any(|finding| finding.what.contains("every user of this machine can read")));
        let settings = config.destinations[0].web.clone().unwrap();
        assert_eq!((settings.max_request, settings.max_instances), (5 << 20, 7));
        assert_eq!(settings.proxy.unwrap().to_string(), "http://proxy:3128");
        assert_eq!(settings.credentials, Credentials::Token(open));
        let config = read(&with_ca(&lines("/nowhere/token"))).unwrap();
        assert!(config.warnings.iter().any(|finding| finding.what.contains("/nowhere/token cannot be read now")));
    }
}
