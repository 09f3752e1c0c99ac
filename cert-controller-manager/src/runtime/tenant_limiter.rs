//! How many passes wait for servers of tenants. Such a server may take its time with every answer, and
//! a pass that waits for it is one that nobody else has.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Who finds no room looks again after this, where a look costs little.
pub const LATER: Duration = Duration::from_secs(1);
/// Who has not looked again for so long does not wait any more. Nobody looks less often than every five
/// seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// See the [module](self).
#[derive(Debug)]
pub struct TenantLimiter {
    most: usize,
    most_each: usize,
    house: Mutex<Occupancy>,
}

#[derive(Debug, Default)]
struct Occupancy {
    /// How many of each tenant are inside.
    inside: HashMap<String, usize>,
    /// Tenants that found all room taken, the first one first, and when they looked last.
    waiting: Vec<(String, Instant)>,
}

/// One pass. Makes room when it is dropped.
#[derive(Debug)]
pub struct Permit<'a> {
    tenant_limiter: &'a TenantLimiter,
    tenant: Option<String>,
}

impl TenantLimiter {
    /// Room for so many, and for so many of each tenant.
    #[must_use]
    pub fn new(most: usize, most_each: usize) -> Self {
        Self { most, most_each, house: Mutex::default() }
    }

    /// Room for a pass of `tenant`, if there is any. For one of nobody's there always is. Tenants that
    /// find all room taken come in in the order in which they asked first: what looks most often has
    /// nothing from it.
    pub fn acquire(&self, tenant: Option<&str>) -> Option<Permit<'_>> {
        let room = self.try_acquire(tenant);
        if let (None, Some(tenant)) = (&room, tenant) {
            self.lock().wait(tenant, self.most_each);
        }
        room
    }

    /// The same for one who does not come again.
    pub fn try_acquire(&self, tenant: Option<&str>) -> Option<Permit<'_>> {
        let Some(tenant) = tenant else {
            return Some(Permit { tenant_limiter: self, tenant: None });
        };
        let may_enter = self.lock().enter(tenant, self.most, self.most_each);
        may_enter.then(|| Permit { tenant_limiter: self, tenant: Some(tenant.to_owned()) })
    }

    fn lock(&self) -> MutexGuard<'_, Occupancy> {
        self.house.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Occupancy {
    fn enter(&mut self, tenant: &str, most: usize, most_each: usize) -> bool {
        self.waiting.retain(|(_, looked)| looked.elapsed() < PATIENCE);
        let place = self.waiting.iter().position(|(other, _)| other == tenant);
        let before = place.unwrap_or(self.waiting.len());
        let own = self.own(tenant);
        if own >= most_each || self.inside.values().sum::<usize>() + before >= most {
            return false;
        }
        self.waiting.retain(|(other, _)| other != tenant);
        self.inside.insert(tenant.to_owned(), own + 1);
        true
    }

    /// Puts `tenant` in line, or keeps its place there. Who has its share is not in line.
    fn wait(&mut self, tenant: &str, most_each: usize) {
        if self.own(tenant) >= most_each {
            return;
        }
        let now = Instant::now();
        match self.waiting.iter_mut().find(|(other, _)| other == tenant) {
            Some((_, looked)) => *looked = now,
            None => self.waiting.push((tenant.to_owned(), now)),
        }
    }

    fn own(&self, tenant: &str) -> usize {
        self.inside.get(tenant).copied().unwrap_or_default()
    }

    fn leave(&mut self, tenant: &str) {
        if let Some(own) = self.inside.get_mut(tenant) {
            *own -= 1;
        }
        self.inside.retain(|_, own| *own > 0);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(tenant) = &self.tenant {
            self.tenant_limiter.lock().leave(tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_some_of_each_and_who_leaves_makes_room() {
        let tenant_limiter = TenantLimiter::new(3, 2);
        let first = tenant_limiter.acquire(Some("a")).unwrap();
        let _second = tenant_limiter.acquire(Some("a")).unwrap();
        assert!(tenant_limiter.acquire(Some("a")).is_none(), "it has its share");
        let _third = tenant_limiter.acquire(Some("b")).unwrap();
        assert!(tenant_limiter.acquire(Some("c")).is_none(), "all room is taken");
        assert!(tenant_limiter.acquire(None).is_some(), "we are no guests");
        drop(first);
        assert!(tenant_limiter.acquire(Some("c")).is_some());
        assert!(tenant_limiter.acquire(Some("a")).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_asked_first_enters_first_however_often_others_ask() {
        let tenant_limiter = TenantLimiter::new(1, 1);
        let greedy = tenant_limiter.acquire(Some("greedy")).unwrap();
        assert!(tenant_limiter.acquire(Some("modest")).is_none(), "all room is taken");
        drop(greedy);
        assert!(tenant_limiter.acquire(Some("greedy")).is_none(), "somebody waits");
        let modest = tenant_limiter.acquire(Some("modest")).unwrap();
        assert!(tenant_limiter.try_acquire(Some("passing")).is_none(), "all room is taken");
        assert!(
            tenant_limiter.acquire(Some("other")).is_none(),
            "all room is taken, and greedy waits"
        );
        drop(modest);
        assert!(tenant_limiter.acquire(Some("other")).is_none(), "greedy waits");
        tokio::time::advance(PATIENCE).await;
        assert!(
            tenant_limiter.acquire(Some("other")).is_some(),
            "greedy has gone, passing was not in line"
        );
    }
}
