//! Waystation's durable.
