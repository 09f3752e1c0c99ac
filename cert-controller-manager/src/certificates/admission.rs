//! Admission of new orders: order slots, the quota of the issuer, and the rate limits of its CA.
//!
//! [`Admission::check`] only reads, for the plan. [`Admission::wait`] queues a Certificate that is held
//! back, and [`Admission::acquire`] takes what an order needs. What they return gives itself back: a
//! [`Ticket`] leaves its queue when it is dropped, and a [`Permit`], which the running order holds,
//! releases the slot. Tenants take turns in each queue.

pub mod slots;

use std::sync::Arc;

use cert_lib::{
    clock::Clock,
    issue::IssueError,
    model::reason::Reason,
    plan::{Admission as Verdict, Quota, RateLimit},
};
use jiff::{SignedDuration, Timestamp};

use self::slots::{OrderSlots, Place, Priority};
use crate::{
    api::{CertificateKey, IssuerKey, Tenant},
    issuers::{
        limits::CaOrder,
        quota::{self, Reservation},
    },
    runtime::{
        fair_queue::{Position, SharedQueue},
        queue::Shared,
    },
};

/// See the [module](self).
pub struct Admission {
    slots: OrderSlots,
    /// Orders with [`Urgency::Unrecorded`]. None of them waits.
    emergencies: SharedQueue<Tenant>,
}

/// A new order for a Certificate, as admission counts it. Computed once per pass.
pub struct NewOrder {
    pub(super) certificate: CertificateKey,
    pub(super) tenant: Tenant,
    pub(super) issuer: IssuerKey,
    pub(super) priority: Priority,
    /// `None` for an issuer without a quota.
    pub(super) quota: Option<Arc<quota::Quota>>,
    /// `None` if no limits of a CA apply.
    pub(super) counted: Option<CaOrder>,
}

/// A position in the queue for what holds an order back.
#[derive(Default)]
pub struct Ticket {
    /// In that for order slots.
    place: Option<Place>,
    /// In that for the quota or for a rate limit.
    position: Option<Position<Tenant>>,
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
    /// The same, for a certificate without a record of its issuance. Records can be lost, and tenants
    /// can put certificates of any origin into their Secrets, so each has few of these orders a day.
    Unrecorded,
}

/// Number of these orders.
const MAX_UNRECORDED: i64 = 2;
const DAY: SignedDuration = SignedDuration::from_hours(24);

impl NewOrder {
    /// Counts the issued certificate of the order.
    pub(super) fn issued(&self, now: Timestamp) {
        self.counted.iter().for_each(|order| order.issued(now));
    }

    /// Counts failed validations, and records a limit that the CA imposed.
    pub(super) fn failed(&self, error: &IssueError, now: Timestamp) {
        let imposed = self.counted.as_ref().and_then(|order| order.failed(error, now));
        let (Some((limited, until)), issuer) = (imposed, &self.issuer) else { return };
        tracing::warn!(%issuer, "the CA of issuer {issuer} accepts no more orders for {limited} until {until}");
        self.quota.iter().for_each(|quota| quota.store_limits());
    }
}

impl Admission {
    /// Permits `orders_at_once` orders of each issuer at once. Certificates that get a slot while they
    /// wait are put into `wake`.
    #[must_use]
    pub fn new(orders_at_once: usize, clock: Arc<dyn Clock>, wake: Shared<CertificateKey>) -> Self {
        let slots = OrderSlots::new(orders_at_once, clock, wake);
        Self { slots, emergencies: SharedQueue::new(DAY) }
    }

    /// Whether an order may be placed now, for a Certificate that waits with `ticket`.
    pub(super) fn check(
        &self,
        order: &NewOrder,
        ticket: Option<&Ticket>,
        now: Timestamp,
    ) -> Verdict {
        let (tenant, priority) = (&order.tenant, order.priority);
        let place = ticket.and_then(|it| it.place.as_ref());
        let position = ticket.and_then(|it| it.position.as_ref());
        Verdict {
            quota: order.quota.as_ref().map_or(Quota::Open, |it| it.check(tenant, position)),
            rate_limit: order
                .counted
                .as_ref()
                .map_or(RateLimit::Off, |it| it.rate_limit(position, now)),
            slot: self.slots.check(&order.issuer, tenant, priority, place),
            may_skip_limits: self.emergencies.with(|it| it.used(tenant, now) < MAX_UNRECORDED),
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
        let Ticket { place, position } = previous.unwrap_or_default();
        let position = match reason {
            Reason::Queued => {
                let certificate = &order.certificate;
                let place = self.slots.enter(&order.issuer, certificate, order.priority, place);
                // A slot became free after the check.
                if place.has_slot() {
                    self.slots.wake(certificate);
                }
                return Some(Ticket { place: Some(place), position: None });
            }
            Reason::QuotaExhausted => order.quota.as_ref()?.wait(&order.tenant, position),
            Reason::RateLimited => order.counted.as_ref()?.wait(position, now)?,
            _ => return None,
        };
        Some(Ticket { place: None, position: Some(position) })
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
        let Ticket { place, position } = ticket.unwrap_or_default();
        let slot = self.slots.enter(&order.issuer, &order.certificate, order.priority, place);
        if !slot.has_slot() {
            return Ok(Err(Some(Ticket { place: Some(slot), position: None })));
        }
        let request = match &order.quota {
            Some(quota) => quota.spend(&order.tenant, position.as_ref()).await?,
            None => None,
        };
        if order.quota.is_some() && request.is_none() && urgency == Urgency::Normal {
            return Ok(Err(position.is_some().then_some(Ticket { place: None, position })));
        }
        // Last: where nothing is ordered, nothing of that budget is used.
        if urgency == Urgency::Unrecorded && !self.take_unrecorded(&order.tenant, now) {
            request.into_iter().for_each(Reservation::refund);
            return Ok(Err(None));
        }
        Ok(Ok(Permit { _slot: slot, request }))
    }

    fn take_unrecorded(&self, tenant: &Tenant, now: Timestamp) -> bool {
        self.emergencies.with(|emergencies| {
            let is_left = emergencies.used(tenant, now) < MAX_UNRECORDED;
            is_left.then(|| emergencies.record(tenant, now)).is_some()
        })
    }

    /// A permit for an order of an earlier process. It takes a slot even above the limit.
    #[must_use]
    pub fn resume(&self, issuer: &IssuerKey, certificate: &CertificateKey) -> Permit {
        Permit { _slot: self.slots.resume(issuer, certificate), request: None }
    }
}

impl Permit {
    /// The CA has placed the order: it counts for the limits of the CA.
    pub(super) fn placed(&mut self, order: &NewOrder, now: Timestamp) {
        self.request.iter_mut().for_each(Reservation::settle);
        order.counted.iter().for_each(|order| order.placed(now));
    }

    /// Returns the request to the quota. Only permitted if the order was certainly not sent to the CA.
    pub(super) fn refund(self) {
        self.request.into_iter().for_each(Reservation::refund);
    }
}

#[cfg(test)]
mod tests;
