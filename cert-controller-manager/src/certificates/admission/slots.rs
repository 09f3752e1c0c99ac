//! Limits how many orders of an issuer run at once. Namespaces take turns for the slots.
//!
//! An order for a domain that fails validation keeps its slot until the validation times out. Three
//! rules keep slots available for other orders:
//! - One namespace has at most three quarters of the slots, and at most half while others wait.
//! - Certificates whose last attempt failed have at most half of the slots together.
//! - These Certificates are served after those with normal priority.
//!
//! Each of these limits is at least one slot. The state is in memory.

use std::{collections::HashMap, sync::Arc};

use cert_lib::{clock::Clock, plan::Slot};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::{
    api::{CertificateKey, IssuerKey, Tenant},
    runtime::{fair_queue::FairQueue, queue::Shared},
};

/// See the [module](self).
#[derive(Clone)]
pub struct OrderSlots(Arc<Inner>);

struct Inner {
    max_running: usize,
    clock: Arc<dyn Clock>,
    /// Receives Certificates that got a slot while they waited.
    wake: Shared<CertificateKey>,
    issuers: Mutex<HashMap<IssuerKey, IssuerSlots>>,
}

/// Priority of a waiting Certificate.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Priority {
    /// First attempt, or renewal.
    Normal,
    /// The last attempt failed, and there is no certificate to renew.
    Retry,
}

/// A slot, or a place in the queue for one. When it is dropped, the next Certificate gets the slot.
pub struct Place {
    slots: OrderSlots,
    issuer: IssuerKey,
    tenant: Tenant,
    id: PlaceId,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct PlaceId {
    priority: Priority,
    number: u64,
}

#[derive(Debug)]
struct IssuerSlots {
    max_running: usize,
    taken: HashMap<PlaceId, Tenant>,
    waiting: HashMap<Priority, FairQueue<Tenant, CertificateKey>>,
    /// Number of normal Certificates served since the last retry.
    normal_turns: u32,
}

/// After so many normal Certificates, one retry is served first, so that retries do not starve.
const MAX_NORMAL_TURNS: u32 = 3;
/// Time for which the orders of a namespace count when namespaces take turns.
const USAGE_WINDOW: SignedDuration = SignedDuration::from_hours(24);

impl OrderSlots {
    /// Permits `max_running` orders of each issuer at once.
    #[must_use]
    pub fn new(max_running: usize, clock: Arc<dyn Clock>, wake: Shared<CertificateKey>) -> Self {
        Self(Arc::new(Inner { max_running, clock, wake, issuers: Mutex::default() }))
    }

    /// Whether a Certificate of `tenant`, which may have a `place`, gets a slot now.
    #[must_use]
    pub fn check(
        &self,
        issuer: &IssuerKey,
        tenant: &Tenant,
        priority: Priority,
        place: Option<&Place>,
    ) -> Slot {
        let has_slot = place.is_some_and(|it| it.issuer == *issuer && it.has_slot());
        let issuers = self.0.issuers.lock();
        // A slot that a waiting Certificate could use is never free.
        let has_room = || issuers.get(issuer).is_none_or(|it| it.has_room(tenant, priority));
        if has_slot || has_room() { Slot::Free } else { Slot::Taken }
    }

    /// Takes a slot or joins the queue. Keeps the `previous` place if it is still the right one.
    #[must_use]
    pub fn enter(
        &self,
        issuer: &IssuerKey,
        key: &CertificateKey,
        priority: Priority,
        previous: Option<Place>,
    ) -> Place {
        let is_same = |it: &Place| it.issuer == *issuer && it.id.priority == priority;
        if let Some(kept) = previous.filter(is_same) {
            return kept;
        }
        self.put(issuer, key, priority, |slots, _| slots.admit(self.0.clock.now()))
    }

    /// Takes a slot for an order that runs already, even above the limit.
    #[must_use]
    pub fn resume(&self, issuer: &IssuerKey, key: &CertificateKey) -> Place {
        self.put(issuer, key, Priority::Normal, |slots, place| {
            slots.queue(place.priority).leave(&key.tenant(), place.number);
            slots.taken.insert(place, key.tenant());
            Vec::new()
        })
    }

    fn put(
        &self,
        issuer: &IssuerKey,
        key: &CertificateKey,
        priority: Priority,
        admit: impl FnOnce(&mut IssuerSlots, PlaceId) -> Vec<(PlaceId, CertificateKey)>,
    ) -> Place {
        let mut issuers = self.0.issuers.lock();
        let slots = issuers.entry(issuer.clone());
        let slots = slots.or_insert_with(|| IssuerSlots::new(self.0.max_running));
        let number = slots.queue(priority).join(&key.tenant(), key.clone());
        let id = PlaceId { priority, number };
        let admitted = admit(slots, id);
        drop(issuers);
        let others = admitted.iter().filter(|(admitted, _)| *admitted != id);
        others.for_each(|(_, key)| self.wake(key));
        Place { slots: self.clone(), issuer: issuer.clone(), tenant: key.tenant(), id }
    }

    /// Queues a pass of a Certificate that has a slot.
    pub(super) fn wake(&self, key: &CertificateKey) {
        self.0.wake.push(key.clone());
    }
}

impl Place {
    /// Whether it is a slot.
    #[must_use]
    pub fn has_slot(&self) -> bool {
        let issuers = self.slots.0.issuers.lock();
        issuers.get(&self.issuer).is_some_and(|slots| slots.taken.contains_key(&self.id))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Inner { issuers, clock, .. } = self.slots.0.as_ref();
        let mut issuers = issuers.lock();
        let Some(slots) = issuers.get_mut(&self.issuer) else { return };
        slots.taken.remove(&self.id);
        slots.queue(self.id.priority).leave(&self.tenant, self.id.number);
        let admitted = slots.admit(clock.now());
        if slots.taken.is_empty() {
            // None waits either: a waiting Certificate would have a slot now.
            issuers.remove(&self.issuer);
        }
        drop(issuers);
        admitted.iter().for_each(|(_, key)| self.slots.wake(key));
    }
}

impl IssuerSlots {
    fn new(max_running: usize) -> Self {
        Self { max_running, taken: HashMap::new(), waiting: HashMap::new(), normal_turns: 0 }
    }

    /// Gives free slots to waiting Certificates. Returns those that got one.
    fn admit(&mut self, now: Timestamp) -> Vec<(PlaceId, CertificateKey)> {
        std::iter::from_fn(|| self.admit_next(now)).collect()
    }

    /// Gives a slot to the next Certificate that may place an order. Normal priority is first, except
    /// after [`MAX_NORMAL_TURNS`].
    fn admit_next(&mut self, now: Timestamp) -> Option<(PlaceId, CertificateKey)> {
        if self.taken.len() >= self.max_running {
            return None;
        }
        let priorities = match self.normal_turns < MAX_NORMAL_TURNS {
            true => [Priority::Normal, Priority::Retry],
            false => [Priority::Retry, Priority::Normal],
        };
        let (tenant, id) = priorities.into_iter().find_map(|priority| {
            let queue = self.waiting.get(&priority)?;
            let (tenant, number) = queue.first(now, |tenant| self.has_room(tenant, priority))?;
            Some((tenant, PlaceId { priority, number }))
        })?;
        let queue = self.queue(id.priority);
        let key = queue.leave(&tenant, id.number)?;
        queue.record(&tenant, now);
        self.normal_turns = match id.priority {
            Priority::Normal => self.normal_turns.saturating_add(1),
            Priority::Retry => 0,
        };
        self.taken.insert(id, tenant);
        Some((id, key))
    }

    /// Whether the [rules](self) permit one more order.
    fn has_room(&self, tenant: &Tenant, priority: Priority) -> bool {
        let Self { max_running, taken, waiting, .. } = self;
        let others_wait = waiting.values().flat_map(FairQueue::tenants).any(|it| it != tenant);
        let tenant_limit = match others_wait {
            true => max_running / 2,
            false => max_running.saturating_sub((max_running / 4).max(1)),
        };
        let of_tenant = taken.values().filter(|it| *it == tenant).count();
        let of_retries = taken.keys().filter(|id| id.priority == Priority::Retry).count();
        taken.len() < *max_running
            && of_tenant < tenant_limit.max(1)
            && (priority == Priority::Normal || of_retries == 0 || of_retries < max_running / 2)
    }

    fn queue(&mut self, priority: Priority) -> &mut FairQueue<Tenant, CertificateKey> {
        self.waiting.entry(priority).or_insert_with(|| FairQueue::new(USAGE_WINDOW))
    }
}

#[cfg(test)]
mod tests;
