//! What admission needs to know of a new order: names, kind and priority.

use std::collections::BTreeSet;

use cert_lib::{
    model::request::Request,
    plan::{Record, SecretState, Stored, Want, backoff::Backoff, limits::OrderKind},
};
use jiff::Timestamp;

use super::{
    admission::{NewOrder, slots::Priority},
    controller::Controller,
    status,
};
use crate::{
    api::{Certificate, CertificateKey, IssuerKey},
    issuers::registry::Lookup,
};

impl Controller {
    /// The order that a Certificate would place now.
    pub(super) fn new_order(
        &self,
        (key, certificate): (&CertificateKey, &Certificate),
        want: &Want,
        issuer: &IssuerKey,
        (secret, backoff): (&SecretState, Option<Backoff>),
        now: Timestamp,
    ) -> NewOrder {
        let quota = match self.issuers.lookup(issuer) {
            Lookup::Ready { quota, .. } => quota,
            Lookup::Missing | Lookup::Unknown | Lookup::NotReady(_) => None,
        };
        let request = want.request.as_ref().ok();
        let claimed =
            request.map_or(OrderKind::New, |request| order_kind(request, certificate, secret));
        let names = request.map(Request::names);
        NewOrder::new(key, (issuer, quota), priority(backoff, secret), names, claimed, now)
    }
}

/// A failed renewal keeps normal priority: its certificate is in use.
fn priority(backoff: Option<Backoff>, secret: &SecretState) -> Priority {
    match (backoff, secret) {
        (Some(_), SecretState::Missing | SecretState::Unusable(_)) => Priority::Retry,
        (Some(_), SecretState::Holds(_) | SecretState::NotWritable(_)) | (None, _) => {
            Priority::Normal
        }
    }
}

/// Returns the order kind according to Certificate and Secret, which tenants can change.
///
/// An order for the certificate in the Secret names the certificate that it replaces (RFC 9773). Names
/// that were issued for this request before are a renewal, even if their Secret is deleted.
fn order_kind(request: &Request, certificate: &Certificate, secret: &SecretState) -> OrderKind {
    let stored = match secret {
        // Without a record, the certificate is not from this controller, so the CA may not know it.
        SecretState::Holds(stored) => Some(stored).filter(|it| it.record != Record::Missing),
        SecretState::Missing | SecretState::NotWritable(_) | SecretState::Unusable(_) => None,
    };
    let is_same = |stored: &Stored| stored.fingerprint.as_ref() == Some(&request.fingerprint);
    let has_names =
        |stored: &Stored| stored.leaf.names == request.names().into_iter().collect::<BTreeSet<_>>();
    if stored.is_some_and(|stored| is_same(stored) && stored.leaf.id.is_some()) {
        OrderKind::Replacement
    } else if stored.is_some_and(has_names)
        || status::is_renewal_fulfilled(certificate, &request.fingerprint)
    {
        OrderKind::Renewal
    } else {
        OrderKind::New
    }
}
