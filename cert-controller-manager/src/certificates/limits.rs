//! Rate limits of the CA for the orders of Certificates: limits that the CA imposed and estimated ones.
//!
//! Reads the statuses of Certificates to rebuild the estimates after a restart. Records orders,
//! certificates and failures. The counters are in [`crate::issuers::quota::limits`].

use cert_lib::{
    issue::{Disposition, IssueError},
    model::{
        name::DnsName,
        reason::Reason,
        request::{MAX_DNS_NAMES, Request},
    },
    plan::{
        RateLimit, Record, SecretState, Want,
        limits::{Order, OrderKind},
        reissue_loop,
    },
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::{act::Pass, reconcile::Controller, status};
use crate::{
    api::{Certificate, CertificateKey, IssuerKey, certificate::CertificateStatus, is_served},
    issuers::quota::{CaAccount, limits::LONGEST},
    runtime::{errors::brief, fence::NotLeading, heavy::heavy},
};

/// Duration of a limit for which the CA gives no time.
const UNTIMED_LIMIT_RETRY: SignedDuration = SignedDuration::from_mins(1);
/// Longest window of the estimated limits. Older certificates do not count.
const LIMIT_WINDOW: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Objects that determine how the CA counts an order.
pub(super) struct OrderContext<'a> {
    pub(super) key: &'a CertificateKey,
    pub(super) certificate: &'a Certificate,
    pub(super) want: &'a Want,
    pub(super) issuer: &'a IssuerKey,
    pub(super) secret: &'a SecretState,
}

/// A new order for a Certificate, as its CA counts it. Computed once per pass.
pub struct CountedOrder {
    ca_account: CaAccount,
    names: Vec<DnsName>,
    kind: OrderKind,
}

impl CountedOrder {
    fn order(&self) -> Order<'_> {
        Order { account: &self.ca_account.account, names: &self.names, kind: self.kind }
    }
}

impl Controller {
    /// Returns how the CA counts an order; `None` without a valid request or an ACME account.
    pub(super) fn counted_order(
        &self,
        context: &OrderContext<'_>,
        now: Timestamp,
    ) -> Option<CountedOrder> {
        let request = context.want.request.as_ref().ok()?;
        let ca_account = self.quota(context.issuer)?.ca_account()?;
        let claimed = order_kind(request, context.certificate, context.secret);
        let kind = ca_account.ca.accepted_kind(claimed, context.key, now);
        Some(CountedOrder { ca_account, names: request.names(), kind })
    }

    /// Returns the rate limit that delays a new order.
    pub(super) fn rate_limit(
        &self,
        context: &OrderContext<'_>,
        counted: Option<&CountedOrder>,
        now: Timestamp,
    ) -> RateLimit {
        let Some(counted) = counted else { return RateLimit::Off };
        if let Some(wait) = counted.ca_account.ca.server_limit(&counted.order(), now) {
            return RateLimit::Imposed { time: wait.until, why: wait.to_string() };
        }
        if counted.ca_account.ca.needs_estimates(context.issuer) {
            heavy(|| self.rebuild_estimates(context.issuer, &counted.ca_account, now));
        }
        match counted.ca_account.ca.estimated_wait(&counted.order(), context.key, now) {
            Some(wait) => RateLimit::Estimated { time: wait.until, why: wait.to_string() },
            None => RateLimit::Off,
        }
    }

    /// Queues a Certificate that waits for an estimated limit. Returns whether it must wait. A limit
    /// imposed by the CA needs no queue.
    pub(super) fn queue_for_limit(&self, pass: &Pass<'_>) -> bool {
        let Some(counted) = &pass.observed.counted else { return true };
        let by_ca = matches!(pass.observed.have.rate_limit, RateLimit::Imposed { .. });
        by_ca || counted.ca_account.ca.wait(&counted.order(), pass.key, pass.now).is_some()
    }

    /// Records failed validations, denied renewals and imposed limits of a failed order.
    pub(super) async fn record_failure(&self, pass: &Pass<'_>, error: &IssueError) {
        let Some(counted) = &pass.observed.counted else { return };
        let (ca_account, now) = (&counted.ca_account, self.clock.now());
        ca_account.ca.failed(&ca_account.account, error.unproved(), now);
        if error.denies_renewal() {
            ca_account.ca.renewal_denied(counted.kind, pass.key, now);
        }
        let Some(about) = error.limit() else { return };
        let until = match error.disposition() {
            Disposition::Until(time) => time.min(now.saturating_add(LONGEST).unwrap_or(now)),
            Disposition::Retry(_) | Disposition::FixIssuer | Disposition::FixRequest => {
                now.saturating_add(UNTIMED_LIMIT_RETRY).unwrap_or(now)
            }
        };
        let Some(limited) = ca_account.ca.record(&counted.order(), about, until, now) else {
            return;
        };
        let issuer = &pass.observed.issuer.key;
        tracing::warn!(issuer = %issuer, "the CA of issuer {issuer} accepts no more orders for {limited} until {until}");
        let Some(quota) = self.quota(issuer) else { return };
        match quota.store_limits().await {
            Err(error) if !NotLeading::is(&error) => {
                tracing::warn!(issuer = %issuer, "cannot store rate limits in the status of issuer {issuer}, trying again: {}", brief(&error));
                self.issuers.wake(issuer);
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// Returns the recent times of repeated issuance for these names, this one included if it is a
    /// repetition: the request was already fulfilled, or the last certificate is only a short time old.
    pub(super) fn reissued_now(
        &self,
        pass: &Pass<'_>,
        request: &Request,
        why: Reason,
    ) -> Vec<Timestamp> {
        let (have, now) = (&pass.observed.have, self.clock.now());
        let stored = match &have.secret {
            SecretState::Holds(stored) => Some(stored),
            SecretState::Missing | SecretState::NotWritable(_) | SecretState::Unusable(_) => None,
        };
        let is_fulfilled = status::is_renewal_fulfilled(pass.certificate, &request.fingerprint);
        let is_soon = stored.is_some_and(|stored| {
            reissue_loop::is_soon_after(stored.requested_at.max(stored.leaf.not_before), now)
        });
        let is_repeated = match why {
            Reason::SecretMissing | Reason::SecretUnusable => is_fulfilled,
            // A request that changes back and forth is never fulfilled.
            Reason::SecretMismatch => {
                let names = request.names().into_iter().collect();
                is_fulfilled || (is_soon && stored.is_some_and(|it| it.leaf.names == names))
            }
            // With a tool that applies `renew: true` repeatedly, the request is never fulfilled.
            Reason::RenewalDemanded => is_soon,
            Reason::RenewalDue => {
                stored.is_some_and(|stored| now < reissue_loop::is_settled(stored))
            }
            _ => false,
        };
        // A tool that restores an old Secret repeatedly makes a renewal due each time.
        if !is_repeated && !have.is_put_back() {
            return have.reissued.clone();
        }
        let times = reissue_loop::kept(have.reissued.iter().copied().chain([now]), now);
        self.retry_states.record_reissued(pass.key, request.names(), times.clone());
        times
    }

    /// Restores the estimates from the statuses of Certificates once all of them are listed, because
    /// certificates issued before this process started count, too.
    fn rebuild_estimates(&self, issuer: &IssuerKey, ca_account: &CaAccount, now: Timestamp) {
        let all_are_known = self.lists.has(crate::api::CertificateCluster::Source)
            && (self.places.one_cluster || self.lists.has(crate::api::CertificateCluster::Target));
        if !all_are_known || !ca_account.ca.needs_estimates(issuer) {
            return;
        }
        let object = self.object(issuer);
        let mut issued = Vec::new();
        self.index.each(|certificate| {
            let status = certificate.status.as_ref();
            let by = status.and_then(|status| status.issuer_ref.as_ref());
            // The status of a Certificate of another class is not maintained.
            if is_served(certificate, &self.settings.classes)
                && by.is_some_and(|it| it.name == object.name && it.namespace == object.namespace)
            {
                issued.extend(status.and_then(|status| last_issued(certificate, status, now)));
            }
        });
        issued.sort_by_key(|(at, ..)| *at);
        let account = ca_account.account.as_str();
        let orders =
            issued.iter().map(|(at, names, kind)| (Order { account, names, kind: *kind }, *at));
        ca_account.ca.restore_estimates(issuer, orders, now);
    }
}

impl Pass<'_> {
    /// Counts a placed order.
    pub(super) fn record_order(&self) {
        if let Some(counted) = &self.observed.counted {
            counted.ca_account.ca.ordered(&counted.order(), self.key, self.now);
        }
    }

    /// Counts the issued certificate of an order.
    pub(super) fn record_issued(&self) {
        if let Some(counted) = &self.observed.counted {
            counted.ca_account.ca.issued(&counted.order(), self.now);
        }
    }
}

/// Returns the last issuance of a Certificate if it is within [`LIMIT_WINDOW`]. It is a renewal if the
/// Certificate is older than the window.
fn last_issued(
    certificate: &Certificate,
    status: &CertificateStatus,
    now: Timestamp,
) -> Option<(Timestamp, Vec<DnsName>, OrderKind)> {
    let at: Timestamp = status.issuance_date.as_ref()?.parse().ok()?;
    let is_recent = |time: Timestamp| now.duration_since(time) < LIMIT_WINDOW;
    if !is_recent(at) {
        return None;
    }
    let others = status.dns_names.iter().flatten();
    let names = status.common_name.iter().chain(others).take(MAX_DNS_NAMES + 1);
    let names = names.filter_map(|name| name.parse().ok());
    let created = certificate.creation_timestamp().map(|time| time.0);
    let kind = match created.is_some_and(is_recent) {
        true => OrderKind::New,
        false => OrderKind::Renewal,
    };
    Some((at.min(now), names.collect(), kind))
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
    let replaces = stored.is_some_and(|stored| {
        stored.fingerprint.as_ref() == Some(&request.fingerprint) && stored.leaf.id.is_some()
    });
    let in_secret = stored.is_some_and(|stored| {
        stored.leaf.names == request.names().into_iter().collect::<std::collections::BTreeSet<_>>()
    });
    if replaces {
        OrderKind::Replacement
    } else if in_secret || status::is_renewal_fulfilled(certificate, &request.fingerprint) {
        OrderKind::Renewal
    } else {
        OrderKind::New
    }
}
