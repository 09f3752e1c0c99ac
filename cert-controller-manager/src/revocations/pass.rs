//! What the steps of a pass share.

use jiff::{SignedDuration, Timestamp};

use super::{index::RevocationKey, observed::Observed};
use crate::api::CertificateRevocation;

/// Interval of passes while waiting; watch events usually come first.
pub(super) const FALLBACK: SignedDuration = SignedDuration::from_secs(15);
/// Delay of the certificates that another tenant's CA revokes.
pub(super) const POSTPONED_RECHECK: SignedDuration = SignedDuration::from_secs(1);

/// One CertificateRevocation in one pass.
pub(super) struct Pass<'a> {
    pub(super) key: &'a RevocationKey,
    pub(super) revocation: &'a CertificateRevocation,
    pub(super) observed: Observed,
    pub(super) renew: bool,
    pub(super) date: Timestamp,
    pub(super) now: Timestamp,
}
