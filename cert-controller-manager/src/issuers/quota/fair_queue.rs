//! Order in which Certificates use the quota of an issuer. Namespaces take turns, so a namespace with
//! ten thousand Certificates does not use up the quota of a namespace with one. Pure.
//!
//! The usage of a namespace counts for a day. It is in memory only: after a restart all namespaces
//! start at zero.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::api::{CertificateKey, Tenant};

const HOUR: i64 = 3_600;
const HOURS: i64 = 24;
/// A Certificate that does not check again for this long after its time is no longer waiting.
const RECHECK_GRACE: SignedDuration = SignedDuration::from_mins(2);

/// See the [module](self).
#[derive(Debug, Default)]
pub struct FairQueue {
    waiting: BTreeMap<Tenant, VecDeque<Waiter>>,
    usage: HashMap<Tenant, Usage>,
}

#[derive(Debug)]
struct Waiter {
    certificate: CertificateKey,
    rechecks_at: Timestamp,
}

/// Number of requests of a namespace in each hour, as pairs of hour and count.
#[derive(Debug, Default)]
struct Usage(VecDeque<(i64, i64)>);

impl Usage {
    fn record(&mut self, now: Timestamp) {
        let hour = now.as_second() / HOUR;
        match self.0.back_mut() {
            Some((last, count)) if *last == hour => *count += 1,
            _ => self.0.push_back((hour, 1)),
        }
        while self.0.front().is_some_and(|(first, _)| *first <= hour - HOURS) {
            self.0.pop_front();
        }
    }

    fn remove_last(&mut self) {
        if let Some((_, count)) = self.0.back_mut() {
            *count = (*count - 1).max(0);
        }
    }

    fn count(&self, now: Timestamp) -> i64 {
        let hour = now.as_second() / HOUR;
        self.0.iter().filter(|(at, _)| *at > hour - HOURS).map(|(_, count)| count).sum()
    }
}

impl FairQueue {
    /// Adds `certificate`, which checks again at `time`, to the queue. A known one keeps its position.
    pub fn wait(&mut self, certificate: &CertificateKey, time: Timestamp) {
        let queue = self.waiting.entry(certificate.tenant()).or_default();
        match queue.iter_mut().find(|it| it.certificate == *certificate) {
            Some(known) => known.rechecks_at = time,
            None => queue.push_back(Waiter { certificate: certificate.clone(), rechecks_at: time }),
        }
    }

    /// Removes `certificate` from the queue. *Idempotent*.
    pub fn leave(&mut self, certificate: &CertificateKey) {
        let tenant = certificate.tenant();
        if let Some(queue) = self.waiting.get_mut(&tenant) {
            queue.retain(|it| it.certificate != *certificate);
            if queue.is_empty() {
                self.waiting.remove(&tenant);
            }
        }
    }

    /// Returns whether no Certificate waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Counts a request of `certificate`.
    pub fn record(&mut self, certificate: &CertificateKey, now: Timestamp) {
        self.usage.retain(|_, usage| usage.count(now) > 0);
        self.usage.entry(certificate.tenant()).or_default().record(now);
    }

    /// Removes the last request of the namespace, because it was not sent.
    pub fn remove_last(&mut self, tenant: &Tenant) {
        if let Some(usage) = self.usage.get_mut(tenant) {
            usage.remove_last();
        }
    }

    /// Returns how many Certificates are served before `certificate`: those before it in its namespace,
    /// and as many of each other namespace. A namespace that used less is served one more.
    #[must_use]
    pub fn count_before(&self, certificate: &CertificateKey, now: Timestamp) -> i64 {
        if self.waiting.is_empty() {
            return 0;
        }
        let alive =
            |it: &&Waiter| it.rechecks_at.saturating_add(RECHECK_GRACE).is_ok_and(|it| it > now);
        let tenant = certificate.tenant();
        let own = self.waiting.get(&tenant);
        let own = own.into_iter().flatten().take_while(|it| it.certificate != *certificate);
        let own = own.filter(alive).count();
        let own_rank = (self.used(&tenant, now), &tenant);
        let others = self.waiting.iter().filter(|(other, _)| **other != tenant);
        let others = others.map(|(other, queue)| {
            let limit = own + usize::from((self.used(other, now), other) < own_rank);
            queue.iter().filter(alive).take(limit).count()
        });
        i64::try_from(own + others.sum::<usize>()).unwrap_or(i64::MAX)
    }

    /// Returns whether the namespace used its share of `per_day`. All namespaces that used the quota or
    /// wait for it have equal shares.
    #[must_use]
    pub fn has_used_share(
        &self,
        certificate: &CertificateKey,
        per_day: i64,
        now: Timestamp,
    ) -> bool {
        let alive =
            |it: &Waiter| it.rechecks_at.saturating_add(RECHECK_GRACE).is_ok_and(|it| it > now);
        let used =
            self.usage.iter().filter(|(_, usage)| usage.count(now) > 0).map(|(tenant, _)| tenant);
        let waiting = self.waiting.iter().filter(|(_, queue)| queue.iter().any(alive));
        let active = used.chain(waiting.map(|(tenant, _)| tenant));
        let tenant = certificate.tenant();
        let active: HashSet<&Tenant> = active.chain([&tenant]).collect();
        let share = per_day / i64::try_from(active.len()).unwrap_or(i64::MAX);
        self.used(&tenant, now) >= share
    }

    fn used(&self, tenant: &Tenant, now: Timestamp) -> i64 {
        self.usage.get(tenant).map_or(0, |usage| usage.count(now))
    }
}
