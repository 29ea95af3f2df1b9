//! Orthanc on both sides, as shipped: C-STORE to a modality, or its DICOMweb plugin's STOW client, as a job.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::link::namespace::Namespace;
use super::link::{FAR, Link};
use super::peer::{PATIENCE, Peer};

/// Where Debian puts the plugin.
const PLUGIN: &str = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so";
const DICOM: u16 = 4_242;
const HTTP: u16 = 8_042;

/// How it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Modality,
    Stow,
}

/// One that runs in a namespace.
pub(crate) struct Orthanc<'l> {
    namespace: &'l Namespace,
    _peer: Peer,
}

impl<'l> Orthanc<'l> {
    /// The archive.
    pub(crate) fn far(link: &'l Link, folder: &Path) -> Result<Self, Box<dyn Error>> {
        Self::start(link.far(), "orthanc-far", folder)
    }

    /// The one that sends.
    pub(crate) fn near(link: &'l Link, folder: &Path) -> Result<Self, Box<dyn Error>> {
        Self::start(link.near(), "orthanc-near", folder)
    }

    fn start(namespace: &'l Namespace, name: &str, folder: &Path) -> Result<Self, Box<dyn Error>> {
        let storage = folder.join(name);
        fs::create_dir_all(&storage)?;
        let settings = json!({
            "Name": name,
            "StorageDirectory": storage,
            "IndexDirectory": storage,
            "Plugins": [PLUGIN],
            "DicomWeb": { "Enable": true, "Root": "/dicom-web/", "Servers": {
                "far": { "Url": format!("http://{FAR}:{HTTP}/dicom-web/"), "HasDelete": false }
            } },
            "HttpPort": HTTP,
            "RemoteAccessAllowed": true,
            "AuthenticationEnabled": false,
            "DicomAet": "ORTHANC",
            "DicomPort": DICOM,
            "DicomModalities": { "far": ["ORTHANC", FAR.to_string(), DICOM] },
            "DicomAlwaysAllowStore": true,
            "UnknownSopClassAccepted": true,
        });
        let file = folder.join(format!("{name}.json"));
        fs::write(&file, settings.to_string())?;
        let mut command = Command::new("Orthanc");
        command.arg(file);
        let mut peer = Peer::start(name, namespace, folder, command)?;
        peer.listens(namespace, SocketAddr::from((Ipv4Addr::LOCALHOST, HTTP)))?;
        peer.listens(namespace, SocketAddr::from((Ipv4Addr::LOCALHOST, DICOM)))?;
        let orthanc = Self { namespace, _peer: peer };
        let mut tries = 0;
        // It listens a moment before it answers.
        while let Err(error) = orthanc.ask("GET", "/system", b"") {
            tries += 1;
            if tries > PATIENCE.as_secs() {
                return Err(error);
            }
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        Ok(orthanc)
    }

    /// Gives it these files over the loopback interface. Gives its own names for them.
    pub(crate) fn take(&self, files: &[PathBuf]) -> Result<Vec<String>, Box<dyn Error>> {
        let take = |path: &PathBuf| {
            let answer: Value = serde_json::from_slice(&self.ask("POST", "/instances", &fs::read(path)?)?)?;
            Ok(answer["ID"].as_str().ok_or("an instance without a name")?.to_owned())
        };
        files.iter().map(take).collect()
    }

    /// Begins to send. Gives the number of the job.
    pub(crate) fn send(&self, way: Way, names: &[String]) -> Result<String, Box<dyn Error>> {
        let path = match way {
            Way::Modality => "/modalities/far/store",
            Way::Stow => "/dicom-web/servers/far/stow",
        };
        let asked = json!({ "Resources": names, "Synchronous": false });
        let answer: Value = serde_json::from_slice(&self.ask("POST", path, asked.to_string().as_bytes())?)?;
        Ok(answer["ID"].as_str().ok_or_else(|| format!("no job in {answer}"))?.to_owned())
    }

    /// Whether the job has ended well, or in what words it has not, if it has ended.
    pub(crate) fn ended(&self, job: &str) -> Result<Option<Result<(), String>>, Box<dyn Error>> {
        let answer: Value = serde_json::from_slice(&self.ask("GET", &format!("/jobs/{job}"), b"")?)?;
        Ok(match answer["State"].as_str() {
            Some("Success") => Some(Ok(())),
            Some("Failure") => Some(Err(answer["ErrorDescription"].as_str().unwrap_or("no reason").to_owned())),
            _ => None,
        })
    }

    /// Writes every instance that it has into `folder`.
    pub(crate) fn fetch_all(&self, folder: &Path) -> Result<(), Box<dyn Error>> {
        let names: Vec<String> = serde_json::from_slice(&self.ask("GET", "/instances", b"")?)?;
        for name in names {
            fs::write(folder.join(&name), self.ask("GET", &format!("/instances/{name}/file"), b"")?)?;
        }
        Ok(())
    }

    /// HTTP/1.0, so that the body ends with the connection.
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
        let mut stream = self.namespace.enter(|| TcpStream::connect((Ipv4Addr::LOCALHOST, HTTP)))??;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or("an answer without an end")?;
        let rest = answer.split_off(end + 4);
        let head = String::from_utf8_lossy(&answer).into_owned();
        if !head.lines().next().is_some_and(|line| line.contains(" 200")) {
            return Err(format!("Orthanc answered {path} with {head}").into());
        }
        Ok(rest)
    }
}
