//! Waystation's config.
