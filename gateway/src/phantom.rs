//! Waystation's phantom.
