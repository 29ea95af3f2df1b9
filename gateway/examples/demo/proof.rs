//! The comparison of what was sent with what arrived: the SHA-256 of each data set, at three places.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use aws_lc_rs::digest;
use serde::Deserialize;
use waystation::dataset::part10;

/// One line of `waystation receipts --json`.
#[derive(Deserialize)]
pub(crate) struct Receipt {
    pub sha256: String,
}

/// Prints the counts. Every data set that the gateway acknowledged must have arrived as it was sent.
pub(crate) fn print(study: &Path, receipts: &[Receipt], archive: Option<&Path>) -> Result<(), Box<dyn Error>> {
    let sent = hashes(study)?;
    let acknowledged: HashSet<_> = receipts.iter().map(|receipt| receipt.sha256.as_str()).collect();
    let kept: Vec<_> = sent.keys().filter(|hash| acknowledged.contains(hash.as_str())).collect();
    println!("  {} different data sets were read from {}", sent.len(), study.display());
    println!("  {} of them the gateway has acknowledged, with the same SHA-256", kept.len());
    if kept.is_empty() {
        return Err("not one instance was taken".into());
    }
    let Some(archive) = archive else { return Ok(()) };
    let arrived = hashes(archive)?;
    let identical = kept.iter().filter(|hash| arrived.contains_key(hash.as_str())).count();
    println!("  {identical} of those lie in {} with the same SHA-256", archive.display());
    if identical < kept.len() {
        return Err("what arrived is not what was sent".into());
    }
    println!("  What arrived is what was sent.");
    Ok(())
}

/// SHA-256 → file, of the data set of every DICOM file below `folder`.
fn hashes(folder: &Path) -> Result<HashMap<String, std::path::PathBuf>, Box<dyn Error>> {
    let mut found = HashMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let file = BufReader::new(File::open(&path)?);
            let Ok((_, mut file)) = part10::read_file_meta(file) else { continue };
            let mut context = digest::Context::new(&digest::SHA256);
            let mut buffer = vec![0; 256 << 10];
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    n => context.update(&buffer[..n]),
                }
            }
            let hash = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            found.insert(hash, path);
        }
    }
    Ok(found)
}
