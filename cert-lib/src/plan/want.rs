//! The desired state of a certificate, and the settings for all certificates.

use jiff::{SignedDuration, Timestamp};

use super::{renewal_window::RenewalWindow, stored::Stored};
use crate::model::request::{Refusal, Request};

/// The desired state of a certificate.
#[derive(Clone, Debug)]
pub struct Want {
    /// The request, or why there is none.
    pub request: Result<Request, Refusal>,
    /// `spec.renew`: a new certificate now.
    pub renew: bool,
    /// `spec.ensureRenewedAfter`: a certificate that was requested after this instant.
    pub renewed_after: Option<Timestamp>,
    /// The key of a certificate that was requested before this instant is not certified again: that
    /// certificate will be revoked.
    pub new_key_after: Option<Timestamp>,
    /// `spec.renewBefore`: how long before its end a certificate is renewed.
    pub renew_before: Option<SignedDuration>,
    /// `spec.renewBeforePercentage`: the same in percent of the lifetime.
    pub renew_before_percentage: Option<u8>,
    /// `spec.renewalWindows`: when renewals are allowed; at any time if empty.
    pub renewal_windows: Vec<RenewalWindow>,
}

impl Want {
    /// A certificate for this request, renewed by the policy.
    #[must_use]
    pub fn new(request: Request) -> Self {
        Self {
            request: Ok(request),
            renew: false,
            renewed_after: None,
            new_key_after: None,
            renew_before: None,
            renew_before_percentage: None,
            renewal_windows: Vec::new(),
        }
    }

    /// Whether the key of this certificate must not be certified again.
    #[must_use]
    pub fn gives_up_key(&self, stored: &Stored) -> bool {
        self.new_key_after.is_some_and(|after| stored.requested_at < after)
    }
}

/// Settings for all certificates.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// How long before its end a certificate of 90 days or more is renewed by default.
    pub renewal_window: SignedDuration,
    /// The same in percent of the lifetime, for all certificates; takes precedence over the window.
    pub renew_before_percentage: Option<u8>,
}
