//! Waystation's tls.
