//! Limits the concurrent reconciliations that wait for servers of tenants, because a slow server would
//! block all workers.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Delay of a retry without a permit.
pub const LATER: Duration = Duration::from_secs(1);
/// A tenant that has not retried for this time loses its place in the queue. Waiting tenants retry at
/// least every five seconds.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// See the [module](self).
#[derive(Debug)]
pub struct TenantLimiter {
    most: usize,
    most_each: usize,
    occupancy: Mutex<Occupancy>,
}

#[derive(Debug, Default)]
struct Occupancy {
    /// Number of permits of each tenant.
    permits: HashMap<String, usize>,
    /// Waiting tenants in the order of arrival, with the time of their last attempt.
    waiting: Vec<(String, Instant)>,
}

/// The right to run one reconciliation. Released when it is dropped.
#[derive(Debug)]
pub struct Permit<'a> {
    tenant_limiter: &'a TenantLimiter,
    tenant: Option<String>,
}

impl TenantLimiter {
    /// Limits of all permits and of those of each tenant.
    #[must_use]
    pub fn new(most: usize, most_each: usize) -> Self {
        Self { most, most_each, occupancy: Mutex::default() }
    }

    /// Returns a permit for `tenant`, if one is available. Without a tenant, it is always available.
    /// Waiting tenants are served first come, first served, however often they retry.
    pub fn acquire(&self, tenant: Option<&str>) -> Option<Permit<'_>> {
        let room = self.try_acquire(tenant);
        if let (None, Some(tenant)) = (&room, tenant) {
            self.lock().wait(tenant, self.most_each);
        }
        room
    }

    /// Like [`Self::acquire`], for a caller that does not retry.
    pub fn try_acquire(&self, tenant: Option<&str>) -> Option<Permit<'_>> {
        let Some(tenant) = tenant else {
            return Some(Permit { tenant_limiter: self, tenant: None });
        };
        let is_admitted = self.lock().admit(tenant, self.most, self.most_each);
        is_admitted.then(|| Permit { tenant_limiter: self, tenant: Some(tenant.to_owned()) })
    }

    fn lock(&self) -> MutexGuard<'_, Occupancy> {
        self.occupancy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Occupancy {
    fn admit(&mut self, tenant: &str, most: usize, most_each: usize) -> bool {
        self.waiting.retain(|(_, last_attempt)| last_attempt.elapsed() < MAX_WAIT);
        let place = self.waiting.iter().position(|(other, _)| other == tenant);
        let before = place.unwrap_or(self.waiting.len());
        let own = self.own(tenant);
        if own >= most_each || self.permits.values().sum::<usize>() + before >= most {
            return false;
        }
        self.waiting.retain(|(other, _)| other != tenant);
        self.permits.insert(tenant.to_owned(), own + 1);
        true
    }

    /// Adds `tenant` to the queue, or keeps its place. A tenant with all its permits does not wait.
    fn wait(&mut self, tenant: &str, most_each: usize) {
        if self.own(tenant) >= most_each {
            return;
        }
        let now = Instant::now();
        match self.waiting.iter_mut().find(|(other, _)| other == tenant) {
            Some((_, last_attempt)) => *last_attempt = now,
            None => self.waiting.push((tenant.to_owned(), now)),
        }
    }

    fn own(&self, tenant: &str) -> usize {
        self.permits.get(tenant).copied().unwrap_or_default()
    }

    fn release(&mut self, tenant: &str) {
        if let Some(own) = self.permits.get_mut(tenant) {
            *own -= 1;
        }
        self.permits.retain(|_, own| *own > 0);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(tenant) = &self.tenant {
            self.tenant_limiter.lock().release(tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_limited_in_total_and_for_each_tenant() {
        let tenant_limiter = TenantLimiter::new(3, 2);
        let first = tenant_limiter.acquire(Some("a")).unwrap();
        let _second = tenant_limiter.acquire(Some("a")).unwrap();
        assert!(tenant_limiter.acquire(Some("a")).is_none(), "it has its share");
        let _third = tenant_limiter.acquire(Some("b")).unwrap();
        assert!(tenant_limiter.acquire(Some("c")).is_none(), "no permit is left");
        assert!(tenant_limiter.acquire(None).is_some(), "only tenants are limited");
        drop(first);
        assert!(tenant_limiter.acquire(Some("c")).is_some());
        assert!(tenant_limiter.acquire(Some("a")).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_tenants_are_served_first_come_first_served() {
        let tenant_limiter = TenantLimiter::new(1, 1);
        let greedy = tenant_limiter.acquire(Some("greedy")).unwrap();
        assert!(tenant_limiter.acquire(Some("modest")).is_none(), "no permit is left");
        drop(greedy);
        assert!(tenant_limiter.acquire(Some("greedy")).is_none(), "another tenant waits");
        let modest = tenant_limiter.acquire(Some("modest")).unwrap();
        assert!(tenant_limiter.try_acquire(Some("passing")).is_none(), "no permit is left");
        assert!(
            tenant_limiter.acquire(Some("other")).is_none(),
            "no permit is left, and greedy waits"
        );
        drop(modest);
        assert!(tenant_limiter.acquire(Some("other")).is_none(), "greedy waits");
        tokio::time::advance(MAX_WAIT).await;
        assert!(
            tenant_limiter.acquire(Some("other")).is_some(),
            "greedy has lost its place, passing did not wait"
        );
    }
}
