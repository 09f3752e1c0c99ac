//! What a CA's limits mean for a Certificate: what the CA said of them, and our own picture; and what
//! its orders mean for that picture.

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

/// A limit without a time: the others of the account try again after this, one first.
const UNTIMED: SignedDuration = SignedDuration::from_mins(1);
/// How far back limits reach that are counted here.
const REACH: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What is looked at.
pub(super) struct OrderContext<'a> {
    pub(super) key: &'a CertificateKey,
    pub(super) certificate: &'a Certificate,
    pub(super) want: &'a Want,
    pub(super) issuer: &'a IssuerKey,
    pub(super) secret: &'a SecretState,
}

/// A new order for a Certificate, as its CA counts it. Made once per pass.
pub struct CountedOrder {
    asks: CaAccount,
    names: Vec<DnsName>,
    novelty: OrderKind,
}

impl CountedOrder {
    fn order(&self) -> Order<'_> {
        Order { account: &self.asks.account, names: &self.names, kind: self.novelty }
    }
}

impl Controller {
    /// How the CA would count an order; `None` where there is nothing to order, or nobody counts.
    pub(super) fn counted_order(
        &self,
        it: &OrderContext<'_>,
        now: Timestamp,
    ) -> Option<CountedOrder> {
        let request = it.want.request.as_ref().ok()?;
        let asks = self.quota(it.issuer)?.asks()?;
        let claimed = order_kind(request, it.certificate, it.secret);
        let novelty = asks.ca.accepted_kind(claimed, it.key, now);
        Some(CountedOrder { asks, names: request.names(), novelty })
    }

    /// What holds a new order back.
    pub(super) fn rate_limit(
        &self,
        it: &OrderContext<'_>,
        counted: Option<&CountedOrder>,
        now: Timestamp,
    ) -> RateLimit {
        let Some(counted) = counted else { return RateLimit::Off };
        if let Some(wait) = counted.asks.ca.server_limit(&counted.order(), now) {
            return RateLimit::Imposed { time: wait.until, why: wait.to_string() };
        }
        if counted.asks.ca.needs_estimates(it.issuer) {
            heavy(|| self.rebuild_estimates(it.issuer, &counted.asks, now));
        }
        match counted.asks.ca.estimated_wait(&counted.order(), it.key, now) {
            Some(wait) => RateLimit::Estimated { time: wait.until, why: wait.to_string() },
            None => RateLimit::Off,
        }
    }

    /// Lines a Certificate up that waits for our picture of the limits. Returns whether it waits.
    pub(super) fn queue_for_limit(&self, pass: &Pass<'_>) -> bool {
        let Some(counted) = &pass.observed.counted else { return true };
        let by_ca = matches!(pass.observed.have.rate_limit, RateLimit::Imposed { .. });
        by_ca || counted.asks.ca.wait(&counted.order(), pass.key, pass.now).is_some()
    }

    /// What a failure says about limits.
    pub(super) async fn record_failure(&self, pass: &Pass<'_>, error: &IssueError) {
        let Some(counted) = &pass.observed.counted else { return };
        let (asks, now) = (&counted.asks, self.clock.now());
        asks.ca.failed(&asks.account, error.unproved(), now);
        if error.denies_renewal() {
            asks.ca.renewal_denied(counted.novelty, pass.key, now);
        }
        let Some(about) = error.limit() else { return };
        let until = match error.disposition() {
            Disposition::Until(time) => time.min(now.saturating_add(LONGEST).unwrap_or(now)),
            Disposition::Retry(_) | Disposition::FixIssuer | Disposition::FixRequest => {
                now.saturating_add(UNTIMED).unwrap_or(now)
            }
        };
        let Some(limited) = asks.ca.record(&counted.order(), about, until, now) else { return };
        let issuer = &pass.observed.issuer.key;
        tracing::warn!(issuer = %issuer, "the CA of issuer {issuer} takes no more orders for {limited} until {until}");
        let Some(quota) = self.quota(issuer) else { return };
        match quota.store_limits().await {
            Err(error) if !NotLeading::is(&error) => {
                tracing::warn!(issuer = %issuer, "issuer {issuer}: what the CA said of its limits cannot be stored yet: {}", brief(&error));
                self.issuers.wake(issuer);
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// When a certificate for these names was issued again, this time included: only what replaces a
    /// Secret that was as it should be before counts, and what was wanted, for whatever reason, soon after
    /// the last certificate.
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
            // Whoever changes a request to and fro never finds it fulfilled.
            Reason::SecretMismatch => {
                let names = request.names().into_iter().collect();
                is_fulfilled || (is_soon && stored.is_some_and(|it| it.leaf.names == names))
            }
            // A tool that applies `renew: true` again and again never sees it fulfilled.
            Reason::RenewalDemanded => is_soon,
            Reason::RenewalDue => {
                stored.is_some_and(|stored| now < reissue_loop::is_settled(stored))
            }
            _ => false,
        };
        // Who puts an old Secret back each time makes a renewal due each time.
        if !is_repeated && !have.is_put_back() {
            return have.reissued.clone();
        }
        let times = reissue_loop::kept(have.reissued.iter().copied().chain([now]), now);
        self.retry_states.record_reissued(pass.key, request.names(), times.clone());
        times
    }

    /// What was issued before this process began is in the statuses: it counts, too.
    fn rebuild_estimates(&self, issuer: &IssuerKey, asks: &CaAccount, now: Timestamp) {
        let all_are_known = self.lists.has(crate::api::CertificateCluster::Source)
            && (self.places.one_cluster || self.lists.has(crate::api::CertificateCluster::Target));
        if !all_are_known || !asks.ca.needs_estimates(issuer) {
            return;
        }
        let object = self.object(issuer);
        let mut issued = Vec::new();
        self.index.each(|certificate| {
            let status = certificate.status.as_ref();
            let by = status.and_then(|status| status.issuer_ref.as_ref());
            // Nobody corrects the status of what is not ours to serve.
            if is_served(certificate, &self.settings.classes)
                && by.is_some_and(|it| it.name == object.name && it.namespace == object.namespace)
            {
                issued.extend(status.and_then(|status| earlier(certificate, status, now)));
            }
        });
        issued.sort_by_key(|(at, ..)| *at);
        let account = asks.account.as_str();
        let orders = issued
            .iter()
            .map(|(at, names, novelty)| (Order { account, names, kind: *novelty }, *at));
        asks.ca.restore_estimates(issuer, orders, now);
    }
}

impl Pass<'_> {
    /// An order is placed.
    pub(super) fn record_order(&self) {
        if let Some(counted) = &self.observed.counted {
            counted.asks.ca.ordered(&counted.order(), self.key, self.now);
        }
    }

    /// Its certificate is there.
    pub(super) fn record_issued(&self) {
        if let Some(counted) = &self.observed.counted {
            counted.asks.ca.issued(&counted.order(), self.now);
        }
    }
}

/// The last certificate of a Certificate, if limits still count it. What is older than they reach was
/// renewed, which costs less.
fn earlier(
    certificate: &Certificate,
    status: &CertificateStatus,
    now: Timestamp,
) -> Option<(Timestamp, Vec<DnsName>, OrderKind)> {
    let at: Timestamp = status.issuance_date.as_ref()?.parse().ok()?;
    let is_recent = |time: Timestamp| now.duration_since(time) < REACH;
    if !is_recent(at) {
        return None;
    }
    let others = status.dns_names.iter().flatten();
    let names = status.common_name.iter().chain(others).take(MAX_DNS_NAMES + 1);
    let names = names.filter_map(|name| name.parse().ok());
    let created = certificate.creation_timestamp().map(|time| time.0);
    let novelty = match created.is_some_and(is_recent) {
        true => OrderKind::New,
        false => OrderKind::Renewal,
    };
    Some((at.min(now), names.collect(), novelty))
}

/// What a CA sees in an order, as far as Certificate and Secret can be believed. One for a certificate
/// that the Secret holds says which it replaces; names that were certified for this request before are
/// no new ones, even if their Secret is gone.
fn order_kind(request: &Request, certificate: &Certificate, secret: &SecretState) -> OrderKind {
    let stored = match secret {
        // One of somebody's own making is not known to the CA.
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
