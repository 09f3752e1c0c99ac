//! Shares certificates between Certificates with the same request, and lets one order serve all of
//! them. Rate limits and quotas count each certificate for the same names.
//!
//! [`claims`] decides which certificates may be shared.

mod claims;

use std::cmp::Reverse;

use cert_lib::{
    issue::{Capabilities, verify::verify},
    model::{
        bundle::Bundle,
        reason::Reason,
        request::{Request, Subject},
    },
    plan::{Ordered, Shared, Stored, Want, can_take},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;

use super::{
    controller::Controller,
    index::EqualRequests,
    pass::{Observed, Pass, Sharing, Step},
    secret::{self, Body, Facts},
};
use crate::{
    api::{
        Certificate, CertificateKey, ObjectKey, certificate::State, is_served, secret::is_revoked,
    },
    issuers::query::fingerprint,
    runtime::{heavy::reading, requeue},
};

/// Maximum number of equal requests that a pass looks at.
const MAX_EQUAL: usize = 64;
/// Maximum number of Certificates that are queued after an issuance. The others find the
/// certificate in their next regular pass.
const MAX_WOKEN: usize = 1_000;
/// How long to wait for the order of another Certificate.
const ORDER_TIMEOUT: SignedDuration = SignedDuration::from_mins(15);

impl Controller {
    /// Looks for a certificate or a running order of an equal request. Returns whether it found
    /// one.
    pub(super) async fn find_shareable(
        &self,
        key: &CertificateKey,
        certificate: &Certificate,
        want: &Want,
        observed: &mut Observed,
        now: Timestamp,
    ) -> bool {
        let Ok(request) = &want.request else { return false };
        if matches!(request.subject, Subject::Csr(_)) {
            return false;
        }
        // A certificate does not show its profile or its chain, so such requests are not shared.
        if request.acme.profile.is_some() || request.acme.preferred_chain.is_some() {
            return false;
        }
        let equal = self.index.equal_requests(key, certificate, MAX_EQUAL);
        let mut found = Vec::new();
        for candidate in self.candidates((key, certificate), request, observed, &equal) {
            let held = self.check_candidate(certificate, &candidate, observed).await;
            let held = held.filter(|it| can_take(want, &observed.have, &self.policy, now, it));
            found.extend(held.map(|held| (candidate.secret, held)));
        }
        found.sort_by_key(|(_, held)| Reverse(held.leaf.not_after));
        let mut best = None;
        for (secret, held) in found {
            if best.is_none()
                && self
                    .read_shareable(&secret, &held, request, now)
                    .await
                    .is_ok_and(|it| it.is_some())
            {
                best = Some((secret, held));
            }
        }
        let ordered = self.pending_order((key, certificate), want, observed, &equal, now);
        let (from, held) = best.unzip();
        observed.sharing = Sharing { identity_hash: equal.identity_hash, from };
        observed.have.shared = Shared { held, ordered };
        observed.have.shared != Shared::default()
    }

    /// Reads a Secret and its certificate, if that is still `expected` and satisfies `request`.
    async fn read_shareable(
        &self,
        from: &ObjectKey,
        expected: &Stored,
        request: &Request,
        now: Timestamp,
    ) -> kube::Result<Option<(Secret, Bundle)>> {
        let held = self.secrets.api(from).get_opt(&from.name).await?;
        let held = held.filter(|held| !reading(held, || is_revoked(held)));
        let bundle = held.as_ref();
        let bundle = bundle.and_then(|held| reading(held, || secret::bundle(held)).ok());
        let bundle = bundle.filter(|it| it.leaf == expected.leaf && it.key.is_some());
        Ok(held.zip(bundle.filter(|bundle| verify(bundle, request, now).is_ok())))
    }

    /// The order of an equal request that is running or about to be placed.
    fn pending_order(
        &self,
        (key, certificate): (&CertificateKey, &Certificate),
        want: &Want,
        observed: &Observed,
        equal: &EqualRequests,
        now: Timestamp,
    ) -> Option<Ordered> {
        let issuer = &observed.issuer.key;
        let capabilities = observed.issuer.capabilities();
        let running = equal.others.iter().find_map(|(other, certificate)| {
            let order = self.orders.get(other)?;
            let is_same = will_share(key, other, capabilities)
                && is_new_enough(want, order.progress.started(), now)
                && order.issuer == *issuer
                && is_served(certificate.as_ref(), &self.settings.classes)
                && *order.progress.fingerprint()
                    == fingerprint(&certificate.spec, &self.settings, issuer);
            let until = order.progress.started().saturating_add(ORDER_TIMEOUT).ok()?;
            (is_same && now < until).then(|| Ordered { by: other.object.to_string(), until })
        });
        running.or_else(|| {
            let (holder, until) = self.claims.holder(equal.identity_hash?, issuer, now)?;
            let is_valid = holder != *key
                && will_share(key, &holder, capabilities)
                && self.index.are_equal_requests((key, certificate), &holder);
            is_valid.then(|| Ordered { by: holder.object.to_string(), until })
        })
    }

    /// Whether this Certificate may place the order for all equal requests.
    pub(super) fn claims_order(&self, pass: &Pass<'_>) -> bool {
        let issuer = &pass.observed.issuer.key;
        let Some(hash) = pass.observed.sharing.identity_hash else { return true };
        let this = (pass.key, pass.certificate);
        let capabilities = pass.observed.issuer.capabilities();
        let is_valid = |holder: &CertificateKey| {
            will_share(pass.key, holder, capabilities)
                && self.index.are_equal_requests(this, holder)
        };
        self.claims.take((hash, issuer), pass.key, pass.now, is_valid)
    }

    /// Queues the Certificates that may share the new certificate.
    pub(super) fn wake_equal_requests(&self, pass: &Pass<'_>) {
        let equal = self.index.equal_requests(pass.key, pass.certificate, MAX_WOKEN);
        equal.others.into_iter().for_each(|(key, _)| self.queue.push(key));
    }

    /// Writes the Secret with the certificate and key of another Certificate.
    ///
    /// # Errors
    /// When a Secret could not be read or written.
    pub(super) async fn share(&self, pass: &Pass<'_>, request: &Request) -> kube::Result<Step> {
        let Some((from, expected)) =
            pass.observed.sharing.from.as_ref().zip(pass.observed.have.shared.held.as_ref())
        else {
            return Ok(Step::Again);
        };
        if let Err(again) = self.records.may_rewrite(pass.key, pass.now) {
            let secret = &pass.observed.secret;
            let message = format!(
                "Secret {secret} is deleted or overwritten repeatedly: the next write is at {again}"
            );
            let mut outcome = pass.outcome(State::Error, message);
            outcome.reason = Reason::LoopSuspected;
            return Ok(Step::Publish(Box::new(outcome), again));
        }
        let shareable = self.read_shareable(from, expected, request, pass.now).await?;
        let Some((held, bundle)) = shareable else {
            let message = format!("the certificate in Secret {from} has just changed");
            let outcome = pass.outcome(State::Waiting, message);
            return Ok(Step::Publish(Box::new(outcome), pass.now + requeue::UNREACHABLE));
        };
        let body = match Body::from_secret(&held, &bundle, pass.observed.options.encoding) {
            Ok(body) => body,
            Err(error) => return Ok(secret::write::key_not_writable(pass, &error)),
        };
        let kind = pass.observed.facts.as_ref().map(|facts| facts.kind.as_str());
        let mut rendered =
            self.render_secret(pass, request, body, expected.requested_at, kind).await;
        secret::write::void_mark(&mut rendered.secret, pass.observed.facts.as_ref());
        let written = self.apply_secret(pass, &rendered.secret).await?;
        if written.as_ref().is_some_and(Facts::is_marked_revoked) {
            self.clear_revoked_mark(&pass.observed.secret).await?;
        }
        tracing::info!(certificate = %pass.key, "certificate {}: copied the certificate of Secret {from}, which was issued for the same request", pass.key);
        self.records.clear_failures(pass.key);
        Ok(Step::Again)
    }
}

/// Whether the other Certificate will share its new certificate. Certificates without an issuance
/// record are not shared across namespaces.
fn will_share(key: &CertificateKey, other: &CertificateKey, issuer: Capabilities) -> bool {
    key.object.namespace == other.object.namespace || issuer.needs_record()
}

/// Whether an order placed at `placed` satisfies the renewal dates of `want`.
fn is_new_enough(want: &Want, placed: Timestamp, now: Timestamp) -> bool {
    let renewed = want.renewed_after.filter(|after| *after <= now);
    renewed.into_iter().chain(want.new_key_after).all(|after| placed >= after)
}

#[cfg(test)]
mod tests {
    use cert_lib::model::request::Fingerprint;

    use super::*;
    use crate::api::{CertificateCluster, issuer::IssuerKind};

    #[test]
    fn an_order_is_awaited_only_if_its_certificate_can_be_shared() {
        let key = |namespace: &str| {
            CertificateKey::new(CertificateCluster::Source, ObjectKey::new(namespace, "a"))
        };
        for (issuer, other, waits) in [
            (IssuerKind::Acme, "ns", true),
            (IssuerKind::Acme, "other", true),
            (IssuerKind::Ca, "ns", true),
            (IssuerKind::Ca, "other", false),
            (IssuerKind::SelfSigned, "other", false),
        ] {
            let may = will_share(&key("ns"), &key(other), issuer.capabilities());
            assert_eq!(may, waits, "{issuer:?} {other}");
        }
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let owner = cert_lib::solve::Owner("ns/a".into());
        let subject = Subject::Names {
            common_name: None,
            dns_names: vec!["a.example".parse().unwrap()],
            key: cert_lib::model::request::KeyChoice::default(),
        };
        let want = Want::new(Request::new(owner, Fingerprint::stored("x"), subject));
        for (renewed, new_key, placed, waits) in [
            (None, None, 0, true),
            (Some(5), None, 4, false),
            (Some(5), None, 5, true),
            (Some(50), None, 4, true),
            (None, Some(5), 4, false),
            (None, Some(5), 5, true),
        ] {
            let (renewed_after, new_key_after) = (renewed.map(at), new_key.map(at));
            let want = Want { renewed_after, new_key_after, ..want.clone() };
            assert_eq!(is_new_enough(&want, at(placed), at(10)), waits, "{renewed:?} {new_key:?}");
        }
    }
}
