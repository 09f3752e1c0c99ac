//! The settings of the solver.

use jiff::SignedDuration;

use crate::api::Realm;

/// Configuration of the solver.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Namespace of entries; that of the owner if unset (`--dns-namespace`).
    pub namespace: Option<String>,
    /// Class of the DNS controller (`--dns-class`).
    pub class: Option<String>,
    /// Realm of the manager.
    pub realm: Realm,
    /// Value of `spec.ownerId` for old DNS controllers (`--dns-owner-id`).
    pub owner_id: Option<String>,
    /// TTL of the records in seconds.
    pub ttl: i64,
    /// Delay after the values are visible (`--precheck-additional-wait`).
    pub additional_wait: Option<SignedDuration>,
    /// Whether DNSRecords are to be used instead (`--use-dnsrecords`).
    pub use_dnsrecords: bool,
}
