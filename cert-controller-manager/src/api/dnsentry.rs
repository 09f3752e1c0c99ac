//! DNSEntry
