//! The ACME protocol (RFC 8555).
pub mod order;
