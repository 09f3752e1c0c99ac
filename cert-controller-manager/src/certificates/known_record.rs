//! Whether the issuer of a Certificate issued the certificate in its Secret, as far as that is known.

use cert_lib::{model::bundle::LeafDigest, plan::Record};
use jiff::{SignedDuration, Timestamp};

/// Interval for another search of a missing record.
const MISSING_RECHECK: SignedDuration = SignedDuration::from_mins(10);

/// See the [module](self).
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownRecord {
    pub(super) leaf: LeafDigest,
    pub(super) record: Record,
    pub(super) at: Timestamp,
}

impl KnownRecord {
    /// What is known of the certificate `leaf`, if that is recent enough.
    pub(super) fn of(&self, leaf: LeafDigest, now: Timestamp) -> Option<Record> {
        let is_fresh =
            self.record == Record::Found || now.duration_since(self.at) < MISSING_RECHECK;
        (self.leaf == leaf && is_fresh).then_some(self.record)
    }
}
