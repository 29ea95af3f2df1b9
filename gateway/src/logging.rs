//! Waystation's logging.
