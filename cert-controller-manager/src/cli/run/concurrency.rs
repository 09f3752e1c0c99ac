//! How many objects each controller reconciles concurrently.

/// Maximum number of Certificates that are reconciled concurrently. Workers mostly wait for responses. The
/// scheduler limits the orders of each issuer, so that a CA that does not respond cannot block all workers.
pub(super) const CERTIFICATES_AT_ONCE: usize = 512;
pub(super) const ISSUERS_AT_ONCE: usize = 8;
pub(super) const SOURCES_AT_ONCE: usize = 16;
/// Low, because each worker sends many requests to the CA.
pub(super) const REVOCATIONS_AT_ONCE: usize = 4;
