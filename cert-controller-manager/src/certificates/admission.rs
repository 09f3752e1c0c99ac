//! Admission of new orders: order slots, the quota of the issuer, and the rate limits of its CA.
//!
//! [`Admission::check`] only reads, for the plan. [`Admission::wait`] queues a Certificate that is held
//! back, and [`Admission::acquire`] takes what an order needs. What they return gives itself back: a
//! [`Ticket`] leaves its queue when it is dropped, and a [`Permit`], which the running order holds,
//! releases the slot. Tenants take turns in each queue.

mod emergencies;
pub mod slots;

use std::{fmt, sync::Arc};

use cert_lib::{
    clock::Clock,
    issue::{Disposition, IssueError},
    model::{name::DnsName, reason::Reason},
    plan::{
        Admission as Verdict, Quota, RateLimit,
        limits::{Order, OrderKind},
    },
};
use jiff::{SignedDuration, Timestamp};

use self::{
    emergencies::EmergencyBudget,
    slots::{OrderSlots, Place, Priority},
};
use crate::{
    api::{CertificateKey, IssuerKey, Tenant},
    issuers::{
        limits::LONGEST,
        quota::{self, CaAccount, Reservation},
    },
    runtime::{fair_queue::Position, queue::Shared},
};

/// See the [module](self).
pub struct Admission {
    slots: OrderSlots,
    emergencies: EmergencyBudget,
}

/// A new order for a Certificate, as admission counts it. Computed once per pass.
pub struct NewOrder {
    certificate: CertificateKey,
    tenant: Tenant,
    issuer: IssuerKey,
    priority: Priority,
    quota: Option<Arc<quota::Quota>>,
    counted: Option<CountedOrder>,
}

/// An order as its CA counts it.
struct CountedOrder {
    ca_account: CaAccount,
    names: Vec<DnsName>,
    kind: OrderKind,
}

/// A position in the queue for what holds an order back.
pub enum Ticket {
    /// In that for order slots.
    Slot(Place),
    /// In that for the quota or for a rate limit.
    Other(Position<Tenant>),
}

/// The right to run one order. Dropping it releases the slot.
pub struct Permit {
    _slot: Place,
    /// `None` without a quota, in an emergency, and for an order of an earlier process.
    request: Option<Reservation>,
}

/// How urgent an order is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Urgency {
    /// Quota and estimated limits apply.
    Normal,
    /// They do not, because the certificate in use ends soon.
    Emergency,
    /// The same, for a certificate without a record of its issuance: a tenant has few of these a day.
    Unrecorded,
}

/// Duration of a limit for which the CA gives no time.
const UNTIMED_LIMIT_RETRY: SignedDuration = SignedDuration::from_mins(1);

impl NewOrder {
    /// An order that an issuer with this `quota` places for a Certificate. Without `names`, limits of the
    /// CA are not counted. `claimed` is the kind that Certificate and Secret show, which tenants write.
    pub(super) fn new(
        certificate: &CertificateKey,
        (issuer, quota): (&IssuerKey, Option<Arc<quota::Quota>>),
        priority: Priority,
        names: Option<Vec<DnsName>>,
        claimed: OrderKind,
        now: Timestamp,
    ) -> Self {
        let tenant = certificate.tenant();
        let ca_account = quota.as_ref().and_then(|quota| quota.ca_account());
        let counted = names.zip(ca_account).map(|(names, ca_account)| {
            let order = Order { account: &ca_account.account, names: &names, kind: claimed };
            let kind = ca_account.ca.counted_kind(&order, &tenant, claimed, now);
            CountedOrder { ca_account, names, kind }
        });
        let (certificate, issuer) = (certificate.clone(), issuer.clone());
        Self { certificate, tenant, issuer, priority, quota, counted }
    }

    /// Counts the issued certificate of the order.
    pub(super) fn issued(&self, now: Timestamp) {
        if let Some(counted) = &self.counted {
            counted.ca_account.ca.issued(&counted.order(), now);
        }
    }

    /// Counts failed validations, and records a limit that the CA imposed.
    pub(super) fn failed(&self, error: &IssueError, now: Timestamp) {
        let Some(counted) = &self.counted else { return };
        let CaAccount { ca, account, .. } = &counted.ca_account;
        ca.failed(account, error.unproved(), now);
        let Some(about) = error.limit() else { return };
        let until = match error.disposition() {
            Disposition::Until(time) => time.min(now.saturating_add(LONGEST).unwrap_or(now)),
            Disposition::Retry(_) | Disposition::FixIssuer | Disposition::FixRequest => {
                now.saturating_add(UNTIMED_LIMIT_RETRY).unwrap_or(now)
            }
        };
        let about = (about, error.is_published_limit());
        let Some(limited) = ca.record(&counted.order(), about, until, now) else { return };
        let issuer = &self.issuer;
        tracing::warn!(%issuer, "the CA of issuer {issuer} accepts no more orders for {limited} until {until}");
        if let Some(quota) = &self.quota {
            quota.store_limits();
        }
    }

    fn rate_limit(&self, position: Option<&Position<Tenant>>, now: Timestamp) -> RateLimit {
        let Some(counted) = &self.counted else { return RateLimit::Off };
        let (ca, order) = (&counted.ca_account.ca, counted.order());
        if let Some(wait) = ca.server_limit(&order, now) {
            return RateLimit::Imposed { time: wait.until, why: wait.to_string() };
        }
        match ca.estimated_wait(&order, &self.tenant, position, now) {
            Some(wait) => RateLimit::Estimated { time: wait.until, why: wait.to_string() },
            None => RateLimit::Off,
        }
    }
}

impl CountedOrder {
    fn order(&self) -> Order<'_> {
        Order { account: &self.ca_account.account, names: &self.names, kind: self.kind }
    }
}

impl Admission {
    /// Permits `orders_at_once` orders of each issuer at once. Certificates that get a slot while they
    /// wait are put into `wake`.
    #[must_use]
    pub fn new(orders_at_once: usize, clock: Arc<dyn Clock>, wake: Shared<CertificateKey>) -> Self {
        let slots = OrderSlots::new(orders_at_once, clock, wake);
        Self { slots, emergencies: EmergencyBudget::default() }
    }

    /// Whether an order may be placed now, for a Certificate that waits with `ticket`.
    pub(super) fn check(
        &self,
        order: &NewOrder,
        ticket: Option<&Ticket>,
        now: Timestamp,
    ) -> Verdict {
        let (tenant, priority) = (&order.tenant, order.priority);
        let (place, position) = match ticket {
            Some(Ticket::Slot(place)) => (Some(place), None),
            Some(Ticket::Other(position)) => (None, Some(position)),
            None => (None, None),
        };
        Verdict {
            quota: order.quota.as_ref().map_or(Quota::Open, |it| it.check(tenant, position)),
            rate_limit: order.rate_limit(position, now),
            slot: self.slots.check(&order.issuer, tenant, priority, place),
            may_skip_limits: self.emergencies.is_left(tenant, now),
        }
    }

    /// Queues a Certificate whose order is held back for this reason, or keeps its `previous` position.
    /// A limit that the CA imposed needs no queue.
    pub(super) fn wait(
        &self,
        order: &NewOrder,
        reason: Reason,
        previous: Option<Ticket>,
        now: Timestamp,
    ) -> Option<Ticket> {
        let (place, position) = previous.map_or((None, None), Ticket::split);
        match reason {
            Reason::Queued => {
                let certificate = &order.certificate;
                let place = self.slots.enter(&order.issuer, certificate, order.priority, place);
                // A slot became free after the check.
                if place.has_slot() {
                    self.slots.wake(certificate);
                }
                Some(Ticket::Slot(place))
            }
            Reason::QuotaExhausted => {
                let quota = order.quota.as_ref()?;
                Some(Ticket::Other(quota.wait(&order.tenant, position)))
            }
            Reason::RateLimited => {
                let counted = order.counted.as_ref()?;
                let ca = &counted.ca_account.ca;
                ca.wait(&counted.order(), &order.tenant, position, now).map(Ticket::Other)
            }
            _ => None,
        }
    }

    /// Takes an order slot and a request of the quota.
    ///
    /// The slot is first, because many callers see the same free slot and it could be taken while they
    /// wait for the request.
    ///
    /// # Errors
    /// The quota cannot be stored. Nothing is taken.
    pub(super) async fn acquire(
        &self,
        order: &NewOrder,
        ticket: Option<Ticket>,
        urgency: Urgency,
        now: Timestamp,
    ) -> kube::Result<Result<Permit, Option<Ticket>>> {
        let (place, position) = ticket.map_or((None, None), Ticket::split);
        let slot = self.slots.enter(&order.issuer, &order.certificate, order.priority, place);
        if !slot.has_slot() {
            return Ok(Err(Some(Ticket::Slot(slot))));
        }
        let request = match &order.quota {
            Some(quota) => quota.spend(&order.tenant, position.as_ref()).await?,
            None => None,
        };
        if order.quota.is_some() && request.is_none() && urgency == Urgency::Normal {
            return Ok(Err(position.map(Ticket::Other)));
        }
        // Last: where nothing is ordered, nothing of that budget is used.
        if urgency == Urgency::Unrecorded && !self.emergencies.take(&order.tenant, now) {
            request.into_iter().for_each(Reservation::refund);
            return Ok(Err(None));
        }
        Ok(Ok(Permit { _slot: slot, request }))
    }

    /// Number of running orders of an issuer.
    #[cfg(test)]
    pub(super) fn running(&self, issuer: &IssuerKey) -> usize {
        self.slots.running(issuer)
    }

    /// A permit for an order of an earlier process. It takes a slot even above the limit.
    #[must_use]
    pub fn resume(&self, issuer: &IssuerKey, certificate: &CertificateKey) -> Permit {
        Permit { _slot: self.slots.resume(issuer, certificate), request: None }
    }
}

impl Ticket {
    fn split(self) -> (Option<Place>, Option<Position<Tenant>>) {
        match self {
            Self::Slot(place) => (Some(place), None),
            Self::Other(position) => (None, Some(position)),
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket")
    }
}

impl Permit {
    /// The CA has placed the order: it counts for the limits of the CA.
    pub(super) fn placed(&mut self, order: &NewOrder, now: Timestamp) {
        self.request.iter_mut().for_each(Reservation::settle);
        if let Some(counted) = &order.counted {
            counted.ca_account.ca.ordered(&counted.order(), &order.tenant, now);
        }
    }

    /// Returns the request to the quota. Only permitted if the order was certainly not sent to the CA.
    pub(super) fn refund(self) {
        self.request.into_iter().for_each(Reservation::refund);
    }
}

#[cfg(test)]
mod tests;
