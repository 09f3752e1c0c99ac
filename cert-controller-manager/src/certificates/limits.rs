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
        Brake, Record, SecretState, Want,
        limits::{Novelty, Order},
        repeats,
    },
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::{act::Pass, reconcile::Controller, status};
use crate::{
    api::{Certificate, CertificateKey, IssuerKey, certificate::CertificateStatus, is_served},
    issuers::quota::{Asks, limits::LONGEST},
    runtime::{errors::brief, fence::NotLeading, heavy::heavy},
};

/// A limit without a time: the others of the account try again after this, one first.
const UNTIMED: SignedDuration = SignedDuration::from_mins(1);
/// How far back limits reach that are counted here.
const REACH: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What is looked at.
pub(super) struct Situation<'a> {
    pub(super) key: &'a CertificateKey,
    pub(super) certificate: &'a Certificate,
    pub(super) want: &'a Want,
    pub(super) issuer: &'a IssuerKey,
    pub(super) secret: &'a SecretState,
}

/// A new order for a Certificate, as its CA counts it. Made once per pass.
pub struct Counted {
    asks: Asks,
    names: Vec<DnsName>,
    novelty: Novelty,
}

impl Counted {
    fn order(&self) -> Order<'_> {
        Order { account: &self.asks.account, names: &self.names, novelty: self.novelty }
    }
}

impl Controller {
    /// How the CA would count an order; `None` where there is nothing to order, or nobody counts.
    pub(super) fn counted(&self, it: &Situation<'_>, now: Timestamp) -> Option<Counted> {
        let request = it.want.request.as_ref().ok()?;
        let asks = self.quota(it.issuer)?.asks()?;
        let claimed = novelty(request, it.certificate, it.secret);
        let novelty = asks.ca.believed(claimed, it.key, now);
        Some(Counted { asks, names: request.names(), novelty })
    }

    /// What holds a new order back.
    pub(super) fn brake(
        &self,
        it: &Situation<'_>,
        counted: Option<&Counted>,
        now: Timestamp,
    ) -> Brake {
        let Some(counted) = counted else { return Brake::Off };
        if let Some(wait) = counted.asks.ca.said(&counted.order(), now) {
            return Brake::ByCa { time: wait.until, why: wait.to_string() };
        }
        if counted.asks.ca.wants_recall(it.issuer) {
            heavy(|| self.recall(it.issuer, &counted.asks, now));
        }
        match counted.asks.ca.room(&counted.order(), it.key, now) {
            Some(wait) => Brake::ByUs { time: wait.until, why: wait.to_string() },
            None => Brake::Off,
        }
    }

    /// Lines a Certificate up that waits for our picture of the limits. Returns whether it waits.
    pub(super) fn line_up(&self, pass: &Pass<'_>) -> bool {
        let Some(counted) = &pass.observed.counted else { return true };
        let by_ca = matches!(pass.observed.have.brake, Brake::ByCa { .. });
        by_ca || counted.asks.ca.wait(&counted.order(), pass.key, pass.now).is_some()
    }

    /// What a failure says about limits.
    pub(super) async fn note_failure(&self, pass: &Pass<'_>, error: &IssueError) {
        let Some(counted) = &pass.observed.counted else { return };
        let (asks, now) = (&counted.asks, self.clock.now());
        asks.ca.failed(&asks.account, error.unproved(), now);
        if error.denies_renewal() {
            asks.ca.denied(counted.novelty, pass.key, now);
        }
        let Some(about) = error.limit() else { return };
        let until = match error.disposition() {
            Disposition::Until(time) => time.min(now.saturating_add(LONGEST).unwrap_or(now)),
            Disposition::Retry(_) | Disposition::FixIssuer | Disposition::FixRequest => {
                now.saturating_add(UNTIMED).unwrap_or(now)
            }
        };
        let Some(limited) = asks.ca.met(&counted.order(), about, until, now) else { return };
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
        let is_fulfilled = status::is_fulfilled(pass.certificate, &request.fingerprint);
        let is_soon = stored.is_some_and(|stored| {
            repeats::is_soon_after(stored.requested_at.max(stored.leaf.not_before), now)
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
            Reason::RenewalDue => stored.is_some_and(|stored| now < repeats::grown_up(stored)),
            _ => false,
        };
        // Who puts an old Secret back each time makes a renewal due each time.
        if !is_repeated && !have.is_put_back() {
            return have.reissued.clone();
        }
        let times = repeats::kept(have.reissued.iter().copied().chain([now]), now);
        self.setbacks.note_reissued(pass.key, request.names(), times.clone());
        times
    }

    /// What was issued before this process began is in the statuses: it counts, too.
    fn recall(&self, issuer: &IssuerKey, asks: &Asks, now: Timestamp) {
        let all_are_known = self.lists.has(crate::api::Home::Source)
            && (self.places.one_cluster || self.lists.has(crate::api::Home::Target));
        if !all_are_known || !asks.ca.wants_recall(issuer) {
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
            .map(|(at, names, novelty)| (Order { account, names, novelty: *novelty }, *at));
        asks.ca.recall(issuer, orders, now);
    }
}

impl Pass<'_> {
    /// An order is placed.
    pub(super) fn note_order(&self) {
        if let Some(counted) = &self.observed.counted {
            counted.asks.ca.ordered(&counted.order(), self.key, self.now);
        }
    }

    /// Its certificate is there.
    pub(super) fn note_issued(&self) {
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
) -> Option<(Timestamp, Vec<DnsName>, Novelty)> {
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
        true => Novelty::New,
        false => Novelty::Renewal,
    };
    Some((at.min(now), names.collect(), novelty))
}

/// What a CA sees in an order, as far as Certificate and Secret can be believed. One for a certificate
/// that the Secret holds says which it replaces; names that were certified for this request before are
/// no new ones, even if their Secret is gone.
fn novelty(request: &Request, certificate: &Certificate, secret: &SecretState) -> Novelty {
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
        Novelty::Replacement
    } else if in_secret || status::is_fulfilled(certificate, &request.fingerprint) {
        Novelty::Renewal
    } else {
        Novelty::New
    }
}
