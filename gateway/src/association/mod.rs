//! Waystation's association.
