//! Waystation's receive.
