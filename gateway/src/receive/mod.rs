//! Waystation's receive.

pub mod scan;
