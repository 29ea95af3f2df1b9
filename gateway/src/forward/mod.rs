//! Waystation's forward.
