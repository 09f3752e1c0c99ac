//! A queue in which tenants take turns, and which counts what each of them used. Pure.
//!
//! Waiting keys are served by their place within their tenant. Of equal places, that of the tenant that
//! used less is first. So a tenant with ten thousand keys does not delay a tenant with one.
//!
//! Usage is in memory only: after a restart, all tenants start at zero.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::Hash,
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

/// See the [module](self).
#[derive(Debug)]
pub struct FairQueue<T, K> {
    waiting: BTreeMap<T, BTreeMap<u64, K>>,
    /// What each tenant used in each step.
    usage: HashMap<T, BTreeMap<i64, i64>>,
    /// A [`STEPS`]th of the time for which usage counts, in seconds.
    step: i64,
    next_number: u64,
}

/// Usage is counted in so many steps of time.
const STEPS: i64 = 24;

impl<T: Clone + Eq + Hash + Ord, K> FairQueue<T, K> {
    /// An empty queue. Usage counts for the time `window`.
    #[must_use]
    pub fn new(window: SignedDuration) -> Self {
        let step = (window.as_secs() / STEPS).max(1);
        Self { waiting: BTreeMap::new(), usage: HashMap::new(), step, next_number: 0 }
    }

    /// Adds a key of `tenant` behind its other keys. Returns its number, by which it leaves.
    pub fn join(&mut self, tenant: &T, key: K) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.waiting.entry(tenant.clone()).or_default().insert(number, key);
        number
    }

    /// Removes a key. *Idempotent*.
    pub fn leave(&mut self, tenant: &T, number: u64) -> Option<K> {
        let keys = self.waiting.get_mut(tenant)?;
        let key = keys.remove(&number);
        if keys.is_empty() {
            self.waiting.remove(tenant);
        }
        key
    }

    /// Returns tenant and number of the next key of those tenants that `may` be served.
    pub fn first(&self, now: Timestamp, may: impl Fn(&T) -> bool) -> Option<(T, u64)> {
        let tenants = self.waiting.iter().filter(|(tenant, _)| may(tenant));
        let (tenant, keys) = tenants.min_by_key(|(tenant, _)| (self.used(tenant, now), *tenant))?;
        Some((tenant.clone(), *keys.first_key_value()?.0))
    }

    /// The number of keys that are served before a key of `tenant`: those before `number` in its
    /// tenant, and as many of each other tenant. Without a number, it is behind all keys of its tenant.
    #[must_use]
    pub fn before(&self, tenant: &T, number: Option<u64>, now: Timestamp) -> i64 {
        let own = self.waiting.get(tenant).map_or(0, |keys| match number {
            Some(number) => keys.range(..number).count(),
            None => keys.len(),
        });
        let own_rank = (self.used(tenant, now), tenant);
        let others = self.waiting.iter().filter(|(other, _)| *other != tenant);
        let others = others.map(|(other, keys)| {
            let is_first = (self.used(other, now), other) < own_rank;
            keys.len().min(own + usize::from(is_first))
        });
        i64::try_from(own + others.sum::<usize>()).unwrap_or(i64::MAX)
    }

    /// The tenants with waiting keys.
    pub fn tenants(&self) -> impl Iterator<Item = &T> {
        self.waiting.keys()
    }

    /// Counts one use.
    pub fn record(&mut self, tenant: &T, now: Timestamp) {
        let first = self.first_step(now);
        self.usage.retain(|_, usage| {
            *usage = usage.split_off(&first);
            !usage.is_empty()
        });
        *self.usage.entry(tenant.clone()).or_default().entry(first + STEPS - 1).or_default() += 1;
    }

    /// Takes the last use of a tenant back.
    pub fn unrecord(&mut self, tenant: &T) {
        if let Some(mut last) = self.usage.get_mut(tenant).and_then(BTreeMap::last_entry) {
            *last.get_mut() -= 1;
        }
    }

    /// Whether a tenant used its share of `total`. All tenants that used something or wait have equal
    /// shares.
    #[must_use]
    pub fn has_used_share(&self, tenant: &T, total: i64, now: Timestamp) -> bool {
        let users = self.usage.keys().filter(|tenant| self.used(tenant, now) > 0);
        let active = users.chain(self.waiting.keys()).chain([tenant]);
        let active = active.collect::<HashSet<&T>>().len();
        self.used(tenant, now) >= total / i64::try_from(active).unwrap_or(i64::MAX)
    }

    /// Whether no key waits and no use counts.
    #[must_use]
    pub fn is_idle(&self, now: Timestamp) -> bool {
        self.waiting.is_empty() && self.usage.keys().all(|tenant| self.used(tenant, now) == 0)
    }

    /// How much of the usage of a tenant counts.
    #[must_use]
    pub fn used(&self, tenant: &T, now: Timestamp) -> i64 {
        let first = self.first_step(now);
        self.usage.get(tenant).map_or(0, |usage| usage.range(first..).map(|(_, count)| count).sum())
    }

    fn first_step(&self, now: Timestamp) -> i64 {
        now.as_second() / self.step - STEPS + 1
    }
}

/// A queue that its positions share.
#[derive(Clone, Debug)]
pub struct SharedQueue<T>(Arc<Mutex<FairQueue<T, ()>>>);

/// A position in a [`SharedQueue`]. Dropping it leaves the queue.
#[derive(Debug)]
pub struct Position<T: Clone + Eq + Hash + Ord> {
    queue: SharedQueue<T>,
    tenant: T,
    number: u64,
}

impl<T: Clone + Eq + Hash + Ord> SharedQueue<T> {
    /// An empty queue. Usage counts for the time `window`.
    #[must_use]
    pub fn new(window: SignedDuration) -> Self {
        Self(Arc::new(Mutex::new(FairQueue::new(window))))
    }

    /// Joins the queue, or keeps the `previous` position if it is one in this queue.
    #[must_use]
    pub fn join(&self, tenant: &T, previous: Option<Position<T>>) -> Position<T> {
        let kept = previous.filter(|it| self.has(tenant, it));
        kept.unwrap_or_else(|| {
            let number = self.0.lock().join(tenant, ());
            Position { queue: self.clone(), tenant: tenant.clone(), number }
        })
    }

    /// See [`FairQueue::before`].
    #[must_use]
    pub fn before(&self, tenant: &T, position: Option<&Position<T>>, now: Timestamp) -> i64 {
        let number = position.filter(|it| self.has(tenant, it)).map(|it| it.number);
        self.0.lock().before(tenant, number, now)
    }

    /// Calls a function with the queue. It must not wait.
    pub fn with<R>(&self, call: impl FnOnce(&mut FairQueue<T, ()>) -> R) -> R {
        call(&mut self.0.lock())
    }

    fn has(&self, tenant: &T, position: &Position<T>) -> bool {
        Arc::ptr_eq(&self.0, &position.queue.0) && position.tenant == *tenant
    }
}

impl<T: Clone + Eq + Hash + Ord> Drop for Position<T> {
    fn drop(&mut self) {
        self.queue.0.lock().leave(&self.tenant, self.number);
    }
}

#[cfg(test)]
mod tests;
