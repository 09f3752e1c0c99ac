//! The result of a plan.

use jiff::Timestamp;

use crate::model::{cert_id::CertId, reason::Reason};

/// What to do, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// What to do.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// The message for the status.
    pub message: String,
    /// Whether the running order, if any, is obsolete and must be ended first.
    pub gives_up: bool,
    /// The certificate of the same issuer that a new order replaces (RFC 9773 section 5).
    pub replaces: Option<CertId>,
    /// Whether a new certificate is urgent: our own limits do not apply.
    pub urgent: bool,
    /// Whether the plan depends on a record that was [not looked up](super::Record::Unknown).
    pub needs_record: bool,
    /// Whether a new certificate is needed that another owner may have. The caller then looks for
    /// it and plans again with [`Have::shared`](super::Have::shared).
    pub wants_new: bool,
    /// Whether the Secret holds an unexpired certificate for the request.
    pub ready: bool,
    /// When to plan again at the latest.
    pub look_again: Timestamp,
}

/// What to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Nothing to do.
    Keep,
    /// Place an order. A running one for another request is ended first.
    Start,
    /// Copy the certificate and key of another owner with the same request; no order.
    Share,
    /// Advance the running order.
    Resume,
    /// Write the Secret again: its certificate is right, its layout is not.
    Rewrite,
    /// Wait.
    Hold,
    /// A user must change the specification or the Secret.
    Refuse,
}
