//! Where a destination is: `dicom://AET@host:port`, `dicoms://AET@host:port`, `https://host/path` or `file:///folder`.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Component, PathBuf};
use std::str::FromStr;

use super::web::WebUrl;
use crate::model::AeTitle;

/// A DICOM application on the network: whom to call and where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DicomPeer {
    /// The called AE title.
    pub aet: AeTitle,
    /// A DNS name, or an IP address without brackets. Under TLS the peer's certificate must name exactly this.
    pub host: String,
    /// The TCP port; never 0.
    pub port: u16,
}

/// The address of a destination, as the configuration gives it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DestinationUrl {
    /// `dicom://AET@host:port`: C-STORE in the clear. For a network that is safe by other means.
    Dicom(DicomPeer),
    /// `dicoms://AET@host:port`: C-STORE over TLS.
    Dicoms(DicomPeer),
    /// `https://host[:port]/path`: STOW-RS, always over TLS; the base of a DICOMweb service.
    Dicomweb(WebUrl),
    /// `file:///folder`: DICOM files below this absolute folder.
    Folder(PathBuf),
}

impl DestinationUrl {
    /// Whether it is reached over TLS, so that its certificate is checked.
    #[must_use]
    pub fn over_tls(&self) -> bool {
        matches!(self, Self::Dicoms(_) | Self::Dicomweb(_))
    }
}

/// Why a text is not the URL of a destination, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} {problem}. {remedy}")]
pub struct UrlError {
    url: String,
    /// What is wrong, as the end of a sentence that starts with the URL.
    pub problem: String,
    /// What to do: a whole sentence.
    pub remedy: String,
}

impl UrlError {
    /// The URL as it may be shown: cut to a length that fits a line, and without a password.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.url
    }
}

const FORMS: &str = "Write dicoms://AET@host:port (TLS), dicom://AET@host:port (in the clear), https://host/path \
                     (DICOMweb) or file:///folder.";

const NOT_IN_THE_CLEAR: &str =
    "Write https://. Images and credentials do not go in the clear, and there is no switch for it.";

impl FromStr for DestinationUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        let wrong = |(problem, remedy): (String, String)| UrlError { url: showable(url), problem, remedy };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong(because("has no scheme", FORMS)))?;
        match scheme {
            "dicom" => dicom_peer(rest).map(Self::Dicom).map_err(wrong),
            "dicoms" => dicom_peer(rest).map(Self::Dicoms).map_err(wrong),
            "https" => WebUrl::after_scheme(rest).map(Self::Dicomweb).map_err(wrong),
            "http" => Err(wrong(because("is not encrypted", NOT_IN_THE_CLEAR))),
            "file" => folder(rest).map(Self::Folder).map_err(wrong),
            _ => Err(wrong(because(format!("has the unknown scheme {scheme:?}"), FORMS))),
        }
    }
}

/// The URL without what may be a password, as in `https://user:password@host`.
fn showable(url: &str) -> String {
    let without = match url.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://…@{host}"),
            None => url.to_owned(),
        },
        _ => url.to_owned(),
    };
    without.chars().take(120).collect()
}

pub(super) fn because(problem: impl Into<String>, remedy: impl Into<String>) -> (String, String) {
    (problem.into(), remedy.into())
}

/// Reads `AET@host:port`.
fn dicom_peer(rest: &str) -> Result<DicomPeer, (String, String)> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (aet, authority) = rest.split_once('@').ok_or_else(|| {
        because(
            "names no AE title",
            "Put the AE title of the archive and an @ in front of the host: dicoms://AET@host:port.",
        )
    })?;
    let aet = percent_decoded(aet)
        .ok_or_else(|| {
            because("has a % in the AE title that no two hexadecimal digits follow", "Write %25 for a percent sign.")
        })?
        .parse::<AeTitle>()
        .map_err(|error| {
            because(format!("is not usable: {error}"), "Ask the archive for its AE title; case matters.")
        })?;
    if authority.contains(['/', '?', '#', '@']) {
        return Err(because("has something after host and port", "A DICOM address ends with the port."));
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once("]:").filter(|(host, _)| host.parse::<Ipv6Addr>().is_ok()),
        None => authority.rsplit_once(':').filter(|(host, _)| is_host(host)),
    }
    .ok_or_else(|| host_problem(authority))?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| {
        because(
            format!("has the port {port:?}"),
            "A port is a number from 1 to 65535; DICOM uses 104 or 11112, over TLS 2762.",
        )
    })?;
    Ok(DicomPeer { aet, host: host.to_owned(), port })
}

fn host_problem(authority: &str) -> (String, String) {
    let is_ipv6 = authority.parse::<Ipv6Addr>().is_ok() || authority.matches(':').count() > 1;
    if is_ipv6 {
        because("has an IPv6 address that is not in brackets", "Write it as dicoms://AET@[2001:db8::1]:2762.")
    } else if !authority.contains(':') {
        because("names no port", "Add it after the host: DICOM uses 104 or 11112, over TLS 2762.")
    } else {
        because("has a host that is neither a DNS name nor an IP address", FORMS)
    }
}

/// Whether the text is an IPv4 address or a DNS name (RFC 1123, plus the underscore met in the field).
pub(super) fn is_host(host: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(allowed);
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(is_label)
}

/// Reads the part after `file://`.
fn folder(rest: &str) -> Result<PathBuf, (String, String)> {
    if !rest.starts_with('/') {
        return Err(because("names a host", "A folder has three slashes and an absolute path: file:///srv/dicom."));
    }
    let path = percent_decoded(rest).filter(|path| !path.contains('\0')).map(PathBuf::from).ok_or_else(|| {
        because("has a % that no two hexadecimal digits of UTF-8 follow", "Write %25 for a percent sign.")
    })?;
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if climbs || path.parent().is_none() {
        return Err(because("is no folder of its own", "Name one absolute folder, without '..', below the root."));
    }
    Ok(path)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        let digits = std::str::from_utf8(&digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        decoded.push(u8::from_str_radix(digits, 16).ok()?);
    }
    String::from_utf8(decoded).ok()
}

/// Writes a text with everything that has a meaning in a URL escaped.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => {
                    write!(f, "{}", char::from(byte))?
                }
                _ => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for DicomPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{}@{open}{}{close}:{}", Escaped(self.aet.as_str()), self.host, self.port)
    }
}

impl fmt::Display for DestinationUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dicom(peer) => write!(f, "dicom://{peer}"),
            Self::Dicoms(peer) => write!(f, "dicoms://{peer}"),
            Self::Dicomweb(url) => url.fmt(f),
            Self::Folder(path) => write!(f, "file://{}", Escaped(&path.to_string_lossy())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        url.parse::<DestinationUrl>().unwrap_err().to_string()
    }

    #[test]
    fn the_forms_are_read_and_shown_alike() {
        for url in [
            "dicom://ARCHIVE@pacs.example.org:11112",
            "dicoms://ARCHIVE@192.0.2.7:2762",
            "dicoms://ARCHIVE@[2001:db8::1]:2762",
            "dicoms://MY%20PACS@pacs:104",
            "https://pacs.example.org/dicom-web",
            "https://[2001:db8::1]:8443/dcm4chee-arc/aets/DCM4CHEE/rs",
            "file:///srv/dicom%20out",
        ] {
            assert_eq!(url.parse::<DestinationUrl>().unwrap().to_string(), url);
        }
        let spaced = "dicom://MY PACS@pacs:104".parse::<DestinationUrl>().unwrap();
        assert!(matches!(spaced, DestinationUrl::Dicom(peer) if peer.aet.as_str() == "MY PACS"));
    }

    #[test]
    fn a_wrong_url_is_refused_with_the_form_that_is_right() {
        assert!(refusal("pacs:104").contains("has no scheme. Write dicoms://AET@host:port"));
        assert!(refusal("ftp://pacs/dicomweb").contains("unknown scheme \"ftp\""));
        assert!(refusal("http://pacs/dicomweb").contains("is not encrypted. Write https://"));
        let with_password = refusal("https://me:secret@pacs/dicomweb");
        assert!(with_password.contains("…@pacs/dicomweb") && with_password.contains("password-file"));
        assert!(!with_password.contains("secret"), "{with_password}");
        assert!(refusal("DICOM://A@h:104").contains("unknown scheme"));
        assert!(refusal("dicom://pacs:104").contains("names no AE title"));
        assert!(refusal("dicom://ARCHIVE@pacs").contains("names no port"));
        assert!(refusal("dicom://ARCHIVE@pacs:0").contains("port \"0\""));
        assert!(refusal("dicom://ARCHIVE@pacs:70000").contains("from 1 to 65535"));
        assert!(refusal("dicom://ARCHIVE@2001:db8::1:104").contains("brackets"));
        assert!(refusal("dicom://ARCHIVE@pa cs:104").contains("neither a DNS name nor an IP address"));
        assert!(refusal("dicom://SEVENTEEN-LETTERS@pacs:104").contains("more than 16 characters"));
        assert!(refusal("dicom://A%2@pacs:104").contains('%'));
        assert!(refusal("dicom://A@pacs:104/path").contains("ends with the port"));
        assert!(refusal("file://srv/dicom").contains("three slashes"));
        assert!(refusal("file:///srv/../etc").contains("'..'"));
        assert!(refusal("file:///").contains("below the root"));
    }
}
