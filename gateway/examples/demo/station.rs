//! One running `waystation`, and what it says about itself.

use std::error::Error;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use waystation::clock;

use crate::pki::Files;
use crate::proof::Receipt;

/// A gateway of the demo; it ends with this value.
pub(crate) struct Station {
    name: &'static str,
    data: PathBuf,
    process: Child,
}

/// What waits, what is done, and what the destination is doing.
pub(crate) struct Queue {
    pub(crate) waiting: u64,
    pub(crate) delivered: u64,
    pub(crate) parked: u64,
    pub(crate) sentence: String,
}

impl Station {
    /// Starts `waystation run` and waits until it answers on its control socket.
    pub(crate) fn start(name: &'static str, home: &Path, flags: &[&str], tls: &Files) -> Result<Self, Box<dyn Error>> {
        let data = home.join(name);
        let log = home.join(format!("{name}.log"));
        let mut command = Command::new(binary()?);
        command.arg("run").arg("--data").arg(&data).args(flags);
        command.arg("--ca").arg(&tls.ca).arg("--cert").arg(&tls.cert).arg("--key").arg(&tls.key);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?).spawn()?;
        let mut station = Self { name, data, process };
        let deadline = clock::now() + Duration::from_secs(20);
        while station.status().is_err() {
            if let Some(status) = station.process.try_wait()? {
                return Err(format!("{name} ended with {status}; its log is {}", log.display()).into());
            }
            if clock::now() > deadline {
                return Err(format!("{name} does not answer; its log is {}", log.display()).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(station)
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The port that the system gave to a listener that was asked for with port 0.
    pub(crate) fn port(&self, listener: &str) -> Result<u16, Box<dyn Error>> {
        let status = self.status()?;
        let address = status[listener][0].as_str().ok_or_else(|| format!("{} has no {listener}", self.name))?;
        Ok(address.rsplit(':').next().unwrap_or_default().parse()?)
    }

    pub(crate) fn queue(&self) -> Result<Queue, Box<dyn Error>> {
        let status = self.status()?;
        let destination = &status["destinations"][0];
        let instances = |state: &str| destination[state]["instances"].as_u64().unwrap_or(0);
        let sentence = destination["sentence"].as_str().unwrap_or_default().to_owned();
        Ok(Queue {
            waiting: instances("queued"),
            delivered: instances("delivered"),
            parked: instances("parked"),
            sentence,
        })
    }

    pub(crate) fn receipts(&self) -> Result<Vec<Receipt>, Box<dyn Error>> {
        let text = self.ask("receipts")?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Asks it to finish, as the service manager would, and waits for its end.
    pub(crate) fn stop(mut self) -> Result<(), Box<dyn Error>> {
        nix::sys::signal::kill(pid(&self.process)?, nix::sys::signal::Signal::SIGTERM)?;
        let status = self.process.wait()?;
        if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", self.name).into()) }
    }

    fn status(&self) -> Result<Value, Box<dyn Error>> {
        Ok(serde_json::from_str(&self.ask("status")?)?)
    }

    fn ask(&self, question: &str) -> Result<String, Box<dyn Error>> {
        let output = Command::new(binary()?).args([question, "--json", "--data"]).arg(&self.data).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// Runs `waystation` in the foreground, its output shown.
pub(crate) fn command(arguments: &[&OsStr]) -> Result<(), Box<dyn Error>> {
    let status = Command::new(binary()?).args(arguments).status()?;
    if status.success() { Ok(()) } else { Err(format!("waystation {arguments:?} ended with {status}").into()) }
}

/// The binary beside this example: `target/release/waystation` for `target/release/examples/demo`.
fn binary() -> Result<PathBuf, Box<dyn Error>> {
    let folder = std::env::current_exe()?.ancestors().nth(2).map(Path::to_owned).ok_or("no build folder")?;
    let binary = folder.join("waystation");
    if binary.is_file() {
        Ok(binary)
    } else {
        Err(format!("{} is missing: cargo build --release", binary.display()).into())
    }
}

fn pid(process: &Child) -> Result<nix::unistd::Pid, Box<dyn Error>> {
    Ok(nix::unistd::Pid::from_raw(i32::try_from(process.id())?))
}
