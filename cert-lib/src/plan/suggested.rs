//! Renewal information of a CA, and the values of a certificate that its renewal depends on.

use jiff::{SignedDuration, Timestamp};

use super::spread::{deterministic_hash, part};
use crate::model::{bundle::Leaf, cert_id::CertId};

/// Renewal information of a CA (RFC 9773).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Suggested {
    /// The certificate that it is about. It does not count for another one.
    pub certificate: CertId,
    /// First instant of the window.
    pub start: Timestamp,
    /// Last instant of the window.
    pub end: Timestamp,
    /// URL with an explanation, which the CA sends in special cases.
    pub explanation_url: Option<String>,
    /// The selected instant in the window.
    pub(super) selected: Timestamp,
}

impl Suggested {
    /// Renewal information about `certificate`. Selects an instant in the window (RFC 9773 section
    /// 4.2): uniform over all certificates, and deterministic for this certificate and window.
    #[must_use]
    pub fn new(
        certificate: CertId,
        (start, end): (Timestamp, Timestamp),
        explanation_url: Option<String>,
    ) -> Self {
        let window = end.duration_since(start).max(SignedDuration::ZERO);
        let bytes = |time: Timestamp| time.as_nanosecond().to_be_bytes();
        let hash =
            deterministic_hash(&[certificate.as_str().as_bytes(), &bytes(start), &bytes(end)]);
        let selected = start.saturating_add(part(window, hash)).unwrap_or(end);
        Self { certificate, start, end, explanation_url, selected }
    }

    /// The selected instant of the renewal.
    #[must_use]
    pub fn selected(&self) -> Timestamp {
        self.selected
    }

    /// Whether it is plausible for `leaf`: a window after the end of the certificate is ignored.
    pub(super) fn fits(&self, leaf: &Leaf) -> bool {
        leaf.id.as_ref() == Some(&self.certificate)
            && self.start < self.end
            && self.end <= leaf.not_after
    }

    /// Whether the CA requests a much earlier renewal than usual: it will revoke the certificate.
    pub(super) fn is_urgent(&self, leaf: &Leaf) -> bool {
        // Usual windows are around two thirds of the lifetime, or half of a short one.
        let early = if lifetime(leaf) < SHORT_LIVED { 2 } else { 3 };
        let early = leaf.not_before.saturating_add(lifetime(leaf) * early / 5);
        self.explanation_url.is_some() || early.is_ok_and(|early| self.end < early)
    }
}

/// A certificate in use.
#[derive(Clone, Copy, Debug)]
pub struct ServingCertificate<'a> {
    /// Its content.
    pub leaf: &'a Leaf,
    /// When it was requested.
    pub requested_at: Timestamp,
    /// Renewal information of its CA.
    pub suggested: Option<&'a Suggested>,
}

/// The last second belongs to the validity (RFC 5280 section 4.1.2.5), and CAs count so.
pub(super) fn lifetime(leaf: &Leaf) -> SignedDuration {
    leaf.not_after.duration_since(leaf.not_before) + SignedDuration::from_secs(1)
}

/// Below this lifetime, half of it is left at the renewal.
pub(super) const SHORT_LIVED: SignedDuration = SignedDuration::from_hours(10 * 24);
