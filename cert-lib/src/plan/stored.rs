//! A certificate in a Secret.

use jiff::Timestamp;

use super::suggested::{ServingCertificate, Suggested};
use crate::model::{bundle::Leaf, request::Fingerprint};

/// A certificate in a Secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored {
    /// The content of the certificate.
    pub leaf: Leaf,
    /// The fingerprint of its request, from the label of the Secret.
    pub fingerprint: Option<Fingerprint>,
    /// When it was requested; an estimate from `notBefore` if that is not stored.
    pub requested_at: Timestamp,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Whether labels and entries are as requested.
    pub layout_is_current: bool,
    /// Renewal information of the CA, if it was fetched.
    pub suggested: Option<Box<Suggested>>,
    /// Whether there is a record that its issuer issued it.
    pub record: Record,
}

/// Whether a record, which only the manager can write, shows that the issuer issued a certificate.
/// A tenant can put a self-made certificate into a Secret. Such a certificate is never urgent, and
/// an order does not replace it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Record {
    /// The record was not looked up. It counts as found, and a plan that [relies on
    /// it](super::Plan::needs_record) must not be carried out.
    Unknown,
    /// There is a record.
    Found,
    /// There is no record.
    Missing,
}

impl Stored {
    /// The values that its renewal depends on.
    #[must_use]
    pub fn serving(&self) -> ServingCertificate<'_> {
        let Self { leaf, requested_at, suggested, .. } = self;
        ServingCertificate { leaf, requested_at: *requested_at, suggested: suggested.as_deref() }
    }
}
