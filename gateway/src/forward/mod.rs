//! Waystation's forward.

pub mod transcode;
