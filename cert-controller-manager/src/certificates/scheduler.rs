//! Limits how many orders of an issuer run at once. Namespaces take turns for the slots, so a
//! namespace with ten thousand Certificates does not delay a namespace with one.
//!
//! An order for a domain that fails validation keeps its slot until the validation times out. Three
//! rules keep slots available for other orders:
//! - One namespace has at most three quarters of the slots, and at most half while others wait.
//! - Certificates whose last attempt failed have at most half of the slots together.
//! - These Certificates are served after those with normal priority.
//!
//! Each of these limits is at least one slot.
//!
//! Waiting Certificates of a namespace are served first come, first served. The state is in memory.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use cert_lib::plan::Slot;

use crate::api::{CertificateKey, Tenant};

/// See the [module](self).
#[derive(Debug)]
pub struct OrderScheduler {
    max_running: usize,
    issuers: Mutex<HashMap<String, IssuerQueue>>,
}

/// Priority of a waiting Certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Priority {
    /// First attempt, or renewal.
    Normal,
    /// The last attempt failed, and there is no certificate to renew.
    Retry,
}

#[derive(Debug, Default)]
struct IssuerQueue {
    running: HashMap<CertificateKey, Priority>,
    /// Certificates with a reserved slot whose order does not run yet.
    admitted: HashMap<CertificateKey, Priority>,
    waiting: BTreeMap<Tenant, TenantQueue>,
    /// The namespace that was served last.
    last: Option<Tenant>,
    /// Number of normal Certificates served since the last retry.
    normal_turns: u32,
}

/// Waiting Certificates of one namespace, first come, first served.
#[derive(Debug, Default)]
struct TenantQueue {
    normal: VecDeque<CertificateKey>,
    retries: VecDeque<CertificateKey>,
    known: HashSet<CertificateKey>,
}

/// After so many normal Certificates, one retry is served first, so that retries do not starve.
const MAX_NORMAL_TURNS: u32 = 3;

impl OrderScheduler {
    /// Permits `max_running` orders of each issuer at once.
    #[must_use]
    pub fn new(max_running: usize) -> Self {
        Self { max_running, issuers: Mutex::default() }
    }

    /// Returns whether `key` may place an order now, without reserving a slot.
    #[must_use]
    pub fn check(&self, issuer: &str, key: &CertificateKey, priority: Priority) -> Slot {
        let issuers = self.lock();
        let Some(queue) = issuers.get(issuer) else { return Slot::Free };
        queue.check(self.max_running, key, priority)
    }

    /// Adds `key` to the queue; a later [`leave`](Self::leave) returns it when it has a slot. Reserves
    /// a slot at once if one became free after [`check`](Self::check).
    pub fn wait(&self, issuer: &str, key: &CertificateKey, priority: Priority) -> Slot {
        let mut issuers = self.lock();
        let queue = issuers.entry(issuer.to_owned()).or_default();
        if queue.check(self.max_running, key, priority) == Slot::Free {
            queue.remove(key);
            queue.admitted.insert(key.clone(), priority);
            return Slot::Free;
        }
        let tenant_queue = queue.waiting.entry(key.tenant()).or_default();
        if tenant_queue.known.insert(key.clone()) {
            tenant_queue.queue_mut(priority).push_back(key.clone());
        }
        Slot::Taken
    }

    /// Reserves a slot for `key`, then waits for `permit`. Returns `None` without a slot or a permit.
    ///
    /// The slot is first, because many callers see the same free slot and it could be taken while they
    /// wait for the permit. Without a permit, the slot is released. Slots and queue positions at other
    /// issuers are always released. Calls `wake` for each Certificate that gets a released slot.
    ///
    /// # Errors
    /// The errors of `permit`; the slot is released.
    pub async fn claim<P, E>(
        &self,
        issuer: &str,
        key: &CertificateKey,
        priority: Priority,
        permit: impl Future<Output = Result<Option<P>, E>>,
        wake: impl Fn(CertificateKey),
    ) -> Result<Option<P>, E> {
        self.leave_other_issuers(issuer, key).into_iter().for_each(&wake);
        if self.wait(issuer, key, priority) == Slot::Taken {
            return Ok(None);
        }
        let permitted = permit.await;
        if !matches!(permitted, Ok(Some(_))) {
            self.leave(key).into_iter().for_each(wake);
        }
        permitted
    }

    /// Releases slots and queue positions of `key` at all issuers except `issuer`. Returns the
    /// Certificates that get a slot.
    pub fn leave_other_issuers(&self, issuer: &str, key: &CertificateKey) -> Vec<CertificateKey> {
        self.change(|other, queue| {
            if other != issuer {
                queue.remove(key);
            }
        })
    }

    /// Number of used slots of the issuer, with reserved ones.
    #[must_use]
    pub fn running(&self, issuer: &str) -> usize {
        self.lock().get(issuer).map_or(0, IssuerQueue::taken)
    }

    /// Marks an order of `key` as running. Takes a slot even above the limit.
    pub fn enter(&self, issuer: &str, key: &CertificateKey, priority: Priority) {
        let mut issuers = self.lock();
        let queue = issuers.entry(issuer.to_owned()).or_default();
        queue.stop_waiting(key);
        queue.running.insert(key.clone(), priority);
    }

    /// Releases all slots and queue positions of `key`. Returns the Certificates that get a slot.
    pub fn leave(&self, key: &CertificateKey) -> Vec<CertificateKey> {
        self.change(|_, queue| queue.remove(key))
    }

    /// Releases the slots of `key` but not its queue positions. Returns the Certificates that get a
    /// slot.
    pub fn yield_slot(&self, key: &CertificateKey) -> Vec<CertificateKey> {
        self.change(|_, queue| {
            queue.running.remove(key);
            queue.admitted.remove(key);
        })
    }

    /// Changes the queues of all issuers. Returns the Certificates that get a slot.
    fn change(&self, change: impl Fn(&str, &mut IssuerQueue)) -> Vec<CertificateKey> {
        let mut issuers = self.lock();
        let mut admitted = Vec::new();
        for (issuer, queue) in issuers.iter_mut() {
            change(issuer, queue);
            while let Some((next, priority)) = queue.next(self.max_running) {
                queue.admitted.insert(next.clone(), priority);
                admitted.push(next);
            }
        }
        issuers.retain(|_, queue| !queue.is_idle());
        admitted
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, IssuerQueue>> {
        self.issuers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IssuerQueue {
    /// Does not consult the queue: free slots are reserved for waiting Certificates at once, so a
    /// remaining free slot is one that none of them may use.
    fn check(&self, max_running: usize, key: &CertificateKey, priority: Priority) -> Slot {
        let is_in = self.running.contains_key(key) || self.admitted.contains_key(key);
        match is_in || self.has_slot_for(max_running, &key.tenant(), priority) {
            true => Slot::Free,
            false => Slot::Taken,
        }
    }

    fn has_slot_for(&self, max_running: usize, tenant: &Tenant, priority: Priority) -> bool {
        let others_wait = self.waiting.keys().any(|other| other != tenant);
        let tenant_limit = match others_wait {
            true => max_running / 2,
            false => max_running.saturating_sub((max_running / 4).max(1)),
        };
        let retries = match priority {
            Priority::Normal => 0,
            Priority::Retry => self.count(|_, priority| priority == Priority::Retry),
        };
        self.taken() < max_running
            && self.count(|key, _| tenant.has(key)) < tenant_limit.max(1)
            && (retries == 0 || retries < max_running / 2)
    }

    fn taken(&self) -> usize {
        self.running.len() + self.admitted.len()
    }

    fn count(&self, counts: impl Fn(&CertificateKey, Priority) -> bool) -> usize {
        let taken = self.running.iter().chain(&self.admitted);
        taken.filter(|(key, priority)| counts(key, **priority)).count()
    }

    fn remove(&mut self, key: &CertificateKey) {
        self.running.remove(key);
        self.stop_waiting(key);
    }

    fn stop_waiting(&mut self, key: &CertificateKey) {
        self.admitted.remove(key);
        let tenant = key.tenant();
        let Some(tenant_queue) = self.waiting.get_mut(&tenant) else { return };
        if tenant_queue.known.remove(key) {
            tenant_queue.normal.retain(|other| other != key);
            tenant_queue.retries.retain(|other| other != key);
        }
        if tenant_queue.known.is_empty() {
            self.waiting.remove(&tenant);
        }
    }

    /// Removes and returns the next Certificate that may place an order. Normal priority is first,
    /// except after [`MAX_NORMAL_TURNS`].
    fn next(&mut self, max_running: usize) -> Option<(CertificateKey, Priority)> {
        if self.taken() >= max_running {
            return None;
        }
        let order = match self.normal_turns < MAX_NORMAL_TURNS {
            true => [Priority::Normal, Priority::Retry],
            false => [Priority::Retry, Priority::Normal],
        };
        order.into_iter().find_map(|priority| self.next_of(max_running, priority))
    }

    /// Removes and returns the first Certificate of the next namespace with this priority.
    fn next_of(
        &mut self,
        max_running: usize,
        priority: Priority,
    ) -> Option<(CertificateKey, Priority)> {
        let after = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let after = self.waiting.range((after, Bound::Unbounded));
        let tenant = after.chain(self.waiting.iter()).find(|(tenant, tenant_queue)| {
            !tenant_queue.queue(priority).is_empty()
                && self.has_slot_for(max_running, tenant, priority)
        });
        let tenant = tenant?.0.clone();
        let tenant_queue = self.waiting.get_mut(&tenant)?;
        let next = tenant_queue.queue_mut(priority).pop_front()?;
        tenant_queue.known.remove(&next);
        if tenant_queue.known.is_empty() {
            self.waiting.remove(&tenant);
        }
        self.last = Some(tenant);
        self.normal_turns = match priority {
            Priority::Normal => self.normal_turns.saturating_add(1),
            Priority::Retry => 0,
        };
        Some((next, priority))
    }

    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.admitted.is_empty() && self.waiting.is_empty()
    }
}

impl TenantQueue {
    fn queue(&self, priority: Priority) -> &VecDeque<CertificateKey> {
        match priority {
            Priority::Normal => &self.normal,
            Priority::Retry => &self.retries,
        }
    }

    fn queue_mut(&mut self, priority: Priority) -> &mut VecDeque<CertificateKey> {
        match priority {
            Priority::Normal => &mut self.normal,
            Priority::Retry => &mut self.retries,
        }
    }
}

#[cfg(test)]
mod tests;
