//! Waystation's dataset.
