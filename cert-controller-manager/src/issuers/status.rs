//! What an Issuer says of itself. Pure.

use serde_json::Value;

use crate::api::{Issuer, issuer::IssuerStatus};

/// What a pass came to.
#[derive(Debug)]
pub enum Outcome {
    /// Certificates can be issued; the value is `status.acme`.
    Ready(Value),
    /// Certificates cannot be issued; the text says why and what to do.
    Error(String),
}

/// The status of `issuer` after `outcome`. What is known of an account is kept through an error.
#[must_use]
pub fn of(issuer: &Issuer, outcome: &Outcome) -> IssuerStatus {
    let before = issuer.status.clone().unwrap_or_default();
    let kind = match (&issuer.spec.acme, &issuer.spec.ca, &issuer.spec.self_signed) {
        (Some(_), _, _) => Some("acme"),
        (_, Some(_), _) => Some("ca"),
        (_, _, Some(_)) => Some("selfSigned"),
        (None, None, None) => None,
    };
    let (state, message, acme) = match outcome {
        Outcome::Ready(account) => ("Ready", None, Some(account.clone())),
        Outcome::Error(message) => ("Error", Some(message.clone()), before.acme),
    };
    IssuerStatus {
        observed_generation: issuer.metadata.generation,
        state: state.to_owned(),
        message,
        kind: kind.map(str::to_owned),
        acme,
        ca: before.ca,
        requests_per_day_quota: before.requests_per_day_quota,
    }
}
