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
    issuers::limits::CaOrder,
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
        let quota = self.issuers.lookup(issuer).quota();
        let ca_account = quota.as_ref().and_then(|quota| quota.ca_account());
        let counted = want.request.as_ref().ok().zip(ca_account).map(|(request, ca_account)| {
            let counted = (request.names(), order_kind(request, certificate, secret));
            CaOrder::new(ca_account, key.tenant(), counted, now)
        });
        let priority = priority(backoff, secret);
        let (certificate, issuer) = (key.clone(), issuer.clone());
        NewOrder { certificate, tenant: key.tenant(), issuer, priority, quota, counted }
    }
}

/// A failed renewal keeps normal priority: its certificate is in use.
fn priority(backoff: Option<Backoff>, secret: &SecretState) -> Priority {
    let has_certificate = !matches!(secret, SecretState::Missing | SecretState::Unusable(_));
    if backoff.is_none() || has_certificate { Priority::Normal } else { Priority::Retry }
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
