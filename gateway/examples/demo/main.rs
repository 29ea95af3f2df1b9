//! `make demo`: the main job, start to end, on this machine.
//!
//! A throw-away CA, a phantom CT series (or the folder in `STUDY`), a gateway as it would stand in a clinic, and a second
//! one that plays the archive (or the archive in `ARCHIVE`). The series is sent to the clinic's gateway as a modality
//! would send it; the gateway carries it over TLS; at the end every instance has a receipt, and what arrived is compared
//! with what was sent, byte for byte. Nothing is left running, and everything written is below `target/demo`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a demonstration talks to the person in front of it")]

mod pki;
mod proof;
mod station;

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use station::Station;
use waystation::clock;

/// How long the whole delivery may make no progress before the demo gives up and says why.
const STALLED: Duration = Duration::from_secs(60);

/// What was sent and what arrived are compared byte for byte, by any program that knows SHA-256: so nothing is written in
/// another transfer syntax for the way.
const AS_STORED: &str = "compress = false\n";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let own_study = env::var_os("STUDY").filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = own_study.as_ref().filter(|folder| !folder.is_dir()) {
        return Err(
            format!("STUDY={} is not a folder that can be read; name one with DICOM files", folder.display()).into()
        );
    }
    let home = fresh_folder()?;
    let pki = pki::Pki::create(&home.join("pki"))?;
    println!("Everything that this demo writes is in {}.\n", home.display());

    let study = match own_study {
        Some(folder) => folder,
        None => {
            let folder = home.join("study");
            step("A phantom CT series is made: 60 slices of 512 × 512, 16 bit");
            station::command(&["phantom".as_ref(), folder.as_os_str(), "--slices".as_ref(), "60".as_ref()])?;
            folder
        }
    };

    let archive_url = env::var("ARCHIVE").ok().filter(|value| !value.is_empty());
    let (centre, url) = match archive_url {
        Some(url) => (None, url),
        None => {
            step("The archive starts: a Waystation that accepts TLS with a client certificate and files what it gets");
            let folder = home.join("archive");
            std::fs::create_dir(&folder)?;
            let to = format!("files=file://{}", folder.canonicalize()?.display());
            let centre = Station::start(
                "centre",
                &home,
                &["--aet", "CENTRE", "--listen-tls", "127.0.0.1:0", "--to", &to, "--allow-any"],
                &pki.centre,
            )?;
            let url = format!("dicoms://CENTRE@localhost:{}", centre.port("listen-tls")?);
            (Some(centre), url)
        }
    };

    step(&format!("The clinic's gateway starts; its destination is {url}"));
    let configuration = home.join("clinic.toml");
    std::fs::write(&configuration, format!("[to.central]\nurl = {url:?}\n{AS_STORED}"))?;
    let configuration = configuration.to_str().ok_or("the path of this folder is not UTF-8")?;
    let clinic = Station::start(
        "clinic",
        &home,
        &["--config", configuration, "--aet", "WAYSTATION", "--listen", "127.0.0.1:0", "--allow-any"],
        &pki::Files::from_environment().unwrap_or(pki.clinic),
    )?;

    step("A modality sends the series to the gateway: every line of the bar is an instance that is safe on disk");
    let gateway = format!("dicom://WAYSTATION@127.0.0.1:{}", clinic.port("listen")?);
    if let Err(error) = station::command(&["send".as_ref(), gateway.as_ref(), study.as_os_str()]) {
        println!("({error}; the lines above say which, and why. The others go on.)");
    }

    step("The gateway forwards it");
    let receipts = wait_until_delivered(&clinic)?;
    if let Some(centre) = &centre {
        wait_until_delivered(centre)?;
    }

    step("The receipts");
    station::command(&["receipts".as_ref(), "--data".as_ref(), clinic.data().as_os_str()])?;

    step("The proof: what was sent, what the gateway holds, what arrived");
    let archive = centre.as_ref().map(|_| home.join("archive"));
    proof::print(&study, &receipts, archive.as_deref())?;

    clinic.stop()?;
    centre.map(Station::stop).transpose()?;
    println!("\nNothing is left running. The logs: {}", home.join("*.log").display());
    Ok(())
}

/// An empty `target/demo`.
fn fresh_folder() -> Result<PathBuf, Box<dyn Error>> {
    let target = env::current_exe()?.ancestors().nth(3).map(Path::to_owned).ok_or("no target folder")?;
    let home = target.join("demo");
    if home.exists() {
        std::fs::remove_dir_all(&home)?;
    }
    std::fs::create_dir_all(&home)?;
    Ok(home)
}

fn step(sentence: &str) {
    println!("\n── {sentence}");
}

/// Shows progress until nothing is waiting any more, then returns the receipts.
fn wait_until_delivered(station: &Station) -> Result<Vec<proof::Receipt>, Box<dyn Error>> {
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("{prefix:8} {bar:40} {pos}/{len} instances  {msg}")?.progress_chars("█▓░"),
    );
    bar.set_prefix(station.name().to_owned());
    let (mut last, mut moved) = (0, clock::now());
    loop {
        let queue = station.queue()?;
        bar.set_length(queue.delivered + queue.waiting + queue.parked);
        bar.set_position(queue.delivered);
        bar.set_message(queue.sentence.clone());
        if queue.waiting == 0 {
            bar.finish();
            if queue.parked > 0 {
                let receipts = ["receipts".as_ref(), "--state".as_ref(), "parked".as_ref(), "--data".as_ref()];
                station::command(&[receipts.as_slice(), &[station.data().as_os_str()]].concat())?;
                return Err(format!("the archive did not take {} instances: see why above", queue.parked).into());
            }
            return station.receipts();
        }
        if queue.delivered != last {
            (last, moved) = (queue.delivered, clock::now());
        } else if moved.elapsed() > STALLED {
            bar.abandon();
            return Err(format!("nothing has moved for {} s: {}", STALLED.as_secs(), queue.sentence).into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
