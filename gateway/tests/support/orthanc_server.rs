//! An Orthanc that runs, whatever it is an archive for, and its REST interface, which answers on the loopback interface only.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::PATIENCE;
use super::ports::free_port;
use super::process::Process;

/// A running Orthanc.
pub(crate) struct Server {
    /// Of the REST interface.
    pub(crate) port: u16,
    /// The value of the header Authorization, if it wants one.
    authorization: Option<&'static str>,
    _process: Process,
}

impl Server {
    /// Starts it with everything it writes below `folder`, and waits until it says that it has started.
    pub(crate) fn start(folder: &Path, particular: &Value, authorization: Option<&'static str>) -> Self {
        let port = free_port();
        let mut configuration = json!({
            "StorageDirectory": folder.join("storage"),
            "IndexDirectory": folder.join("storage"),
            "HttpPort": port,
            "RemoteAccessAllowed": false,
        });
        configuration.as_object_mut().unwrap().extend(particular.as_object().unwrap().clone());
        let file = folder.join("orthanc.json");
        std::fs::write(&file, configuration.to_string()).unwrap();
        let mut command = Command::new("Orthanc");
        command.env("TCP_NODELAY", "1").arg(&file);
        let process = Process::spawn("Orthanc", command);
        process.wait_for_line(0, PATIENCE, |line| line.contains("Orthanc has started").then_some(()));
        Self { port, authorization, _process: process }
    }

    /// Its own names of the instances that it has.
    pub(crate) fn instances(&self) -> Vec<String> {
        serde_json::from_slice(&self.get("/instances")).unwrap()
    }

    /// Fetches every instance as a Part 10 file into `folder`.
    pub(crate) fn fetch_all(&self, folder: &Path) -> Vec<PathBuf> {
        let fetch = |name: String| {
            let path = folder.join(format!("{name}.dcm"));
            std::fs::write(&path, self.get(&format!("/instances/{name}/file"))).unwrap();
            path
        };
        self.instances().into_iter().map(fetch).collect()
    }

    /// What it answers to a request with this body.
    pub(crate) fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.ask(method, path, &body.to_string());
        serde_json::from_slice(&answer).unwrap_or_default()
    }

    pub(crate) fn get(&self, path: &str) -> Vec<u8> {
        self.ask("GET", path, "")
    }

    /// HTTP/1.0, so that the body ends with the connection.
    fn ask(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let credentials = self.authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
        write!(stream, "{method} {path} HTTP/1.0\r\n{credentials}Content-Length: {}\r\n\r\n{body}", body.len())
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        assert!(head.contains(" 200 "), "Orthanc answered {path} with {head}");
        answer.split_off(end + 4)
    }
}
