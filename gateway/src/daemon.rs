//! Waystation's daemon.
