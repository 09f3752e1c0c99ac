//! Limits how many orders of an issuer run at once. Namespaces take turns for the slots.
//!
//! An order for a domain that fails validation keeps its slot until the validation times out. Three
//! rules keep slots available for other orders:
//! - One namespace has at most three quarters of the slots, and at most half while others wait.
//! - Certificates whose last attempt failed have at most half of the slots together.
//! - These Certificates are served after those with normal priority.
//!
//! Each of these limits is at least one slot. The state is in memory.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

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
    taken: HashMap<PlaceId, Tenant>,
    normal: FairQueue<Tenant, CertificateKey>,
    retries: FairQueue<Tenant, CertificateKey>,
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
        if place.is_some_and(|place| place.issuer == *issuer && place.has_slot()) {
            return Slot::Free;
        }
        let issuers = self.0.issuers.lock();
        // A slot that a waiting Certificate could use is never free.
        let has_room = issuers
            .get(issuer)
            .is_none_or(|slots| slots.has_room(self.0.max_running, tenant, priority));
        if has_room { Slot::Free } else { Slot::Taken }
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
        self.put(issuer, key, priority, |slots, _| slots.admit(self.0.max_running, self.now()))
    }

    /// Takes a slot for an order that runs already, even above the limit.
    #[must_use]
    pub fn resume(&self, issuer: &IssuerKey, key: &CertificateKey) -> Place {
        self.put(issuer, key, Priority::Normal, |slots, place| {
            slots.normal.leave(&key.tenant(), place.number);
            slots.taken.insert(place, key.tenant());
            Vec::new()
        })
    }

    /// Number of used slots of an issuer.
    #[cfg(test)]
    pub(in crate::certificates) fn running(&self, issuer: &IssuerKey) -> usize {
        self.0.issuers.lock().get(issuer).map_or(0, |slots| slots.taken.len())
    }

    fn put(
        &self,
        issuer: &IssuerKey,
        key: &CertificateKey,
        priority: Priority,
        admit: impl FnOnce(&mut IssuerSlots, PlaceId) -> Vec<(PlaceId, CertificateKey)>,
    ) -> Place {
        let mut issuers = self.0.issuers.lock();
        let slots = issuers.entry(issuer.clone()).or_default();
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

    fn now(&self) -> Timestamp {
        self.0.clock.now()
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
        let Inner { issuers, max_running, .. } = self.slots.0.as_ref();
        let mut issuers = issuers.lock();
        let Some(slots) = issuers.get_mut(&self.issuer) else { return };
        slots.taken.remove(&self.id);
        slots.queue(self.id.priority).leave(&self.tenant, self.id.number);
        let admitted = slots.admit(*max_running, self.slots.now());
        if slots.taken.is_empty() {
            // None waits either: a waiting Certificate would have a slot now.
            issuers.remove(&self.issuer);
        }
        drop(issuers);
        admitted.iter().for_each(|(_, key)| self.slots.wake(key));
    }
}

impl Default for IssuerSlots {
    fn default() -> Self {
        let (normal, retries) = (FairQueue::new(USAGE_WINDOW), FairQueue::new(USAGE_WINDOW));
        Self { taken: HashMap::new(), normal, retries, normal_turns: 0 }
    }
}

impl IssuerSlots {
    /// Gives free slots to waiting Certificates. Returns those that got one.
    fn admit(&mut self, max_running: usize, now: Timestamp) -> Vec<(PlaceId, CertificateKey)> {
        let mut admitted = Vec::new();
        while let Some((tenant, id, key)) = self.next(max_running, now) {
            self.taken.insert(id, tenant);
            admitted.push((id, key));
        }
        admitted
    }

    /// Removes the next Certificate that may place an order from its queue. Normal priority is first,
    /// except after [`MAX_NORMAL_TURNS`].
    fn next(
        &mut self,
        max_running: usize,
        now: Timestamp,
    ) -> Option<(Tenant, PlaceId, CertificateKey)> {
        if self.taken.len() >= max_running {
            return None;
        }
        let order = match self.normal_turns < MAX_NORMAL_TURNS {
            true => [Priority::Normal, Priority::Retry],
            false => [Priority::Retry, Priority::Normal],
        };
        order.into_iter().find_map(|priority| self.next_of(priority, max_running, now))
    }

    /// Removes the next Certificate with this priority.
    fn next_of(
        &mut self,
        priority: Priority,
        max_running: usize,
        now: Timestamp,
    ) -> Option<(Tenant, PlaceId, CertificateKey)> {
        let Self { taken, normal, retries, .. } = self;
        let tenants: HashSet<&Tenant> = normal.tenants().chain(retries.tenants()).collect();
        let room = Room { max_running, priority, others_wait: tenants.len() > 1 };
        let queue = match priority {
            Priority::Normal => normal,
            Priority::Retry => retries,
        };
        let (tenant, number, key) = queue.next(now, |tenant| room.is_left(taken, tenant))?;
        queue.record(&tenant, now);
        self.normal_turns = match priority {
            Priority::Normal => self.normal_turns.saturating_add(1),
            Priority::Retry => 0,
        };
        Some((tenant, PlaceId { priority, number }, key))
    }

    fn has_room(&self, max_running: usize, tenant: &Tenant, priority: Priority) -> bool {
        let mut waiting = self.normal.tenants().chain(self.retries.tenants());
        let others_wait = waiting.any(|other| other != tenant);
        Room { max_running, priority, others_wait }.is_left(&self.taken, tenant)
    }

    fn queue(&mut self, priority: Priority) -> &mut FairQueue<Tenant, CertificateKey> {
        match priority {
            Priority::Normal => &mut self.normal,
            Priority::Retry => &mut self.retries,
        }
    }
}

/// The [rules](self) for one more order.
#[derive(Clone, Copy)]
struct Room {
    max_running: usize,
    priority: Priority,
    /// Whether Certificates of other namespaces wait.
    others_wait: bool,
}

impl Room {
    fn is_left(self, taken: &HashMap<PlaceId, Tenant>, tenant: &Tenant) -> bool {
        let Self { max_running, priority, others_wait } = self;
        let tenant_limit = match others_wait {
            true => max_running / 2,
            false => max_running.saturating_sub((max_running / 4).max(1)),
        };
        let of_tenant = taken.values().filter(|it| *it == tenant).count();
        let retries = taken.keys().filter(|id| id.priority == Priority::Retry).count();
        taken.len() < max_running
            && of_tenant < tenant_limit.max(1)
            && (priority == Priority::Normal || retries == 0 || retries < max_running / 2)
    }
}

#[cfg(test)]
mod tests;
