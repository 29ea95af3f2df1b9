//! Waystation's dimse.
