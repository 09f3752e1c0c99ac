//! The workers for reconciliations that may wait for servers of tenants: a slow server must not block
//! the others. Tenants take turns.

use std::collections::{HashMap, VecDeque};

/// Numbers of workers.
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolSizes {
    /// Workers that wait for no server of a tenant.
    pub shared: usize,
    /// Workers for all tenants.
    pub tenants: usize,
    /// At most so many of them for one tenant.
    pub each_tenant: usize,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct TenantPool<K> {
    sizes: PoolSizes,
    running: HashMap<String, usize>,
    /// Tenants with waiting keys, in the order of their turns.
    waiting: VecDeque<(String, VecDeque<K>)>,
}

impl<K> TenantPool<K> {
    pub(super) fn new(sizes: PoolSizes) -> Self {
        Self { sizes, running: HashMap::new(), waiting: VecDeque::new() }
    }

    /// Number of busy workers.
    pub(super) fn running(&self) -> usize {
        self.running.values().sum()
    }

    /// Number of waiting keys.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.iter().map(|(_, keys)| keys.len()).sum()
    }

    pub(super) fn push(&mut self, tenant: String, key: K) {
        match self.waiting.iter_mut().find(|(other, _)| *other == tenant) {
            Some((_, keys)) => keys.push_back(key),
            None => self.waiting.push_back((tenant, VecDeque::from([key]))),
        }
    }

    /// Starts the next key that a worker is free for. Its tenant waits for its next turn.
    pub(super) fn next(&mut self) -> Option<(String, K)> {
        if self.running() >= self.sizes.tenants {
            return None;
        }
        let of = |tenant: &String| self.running.get(tenant).copied().unwrap_or_default();
        let next =
            self.waiting.iter().position(|(tenant, _)| of(tenant) < self.sizes.each_tenant)?;
        let (tenant, mut keys) = self.waiting.remove(next)?;
        let key = keys.pop_front()?;
        if !keys.is_empty() {
            self.waiting.push_back((tenant.clone(), keys));
        }
        *self.running.entry(tenant.clone()).or_default() += 1;
        Some((tenant, key))
    }

    /// A worker is free again, if it was one for `tenant`.
    pub(super) fn done(&mut self, tenant: Option<&str>) {
        if let Some(running) = tenant.and_then(|tenant| self.running.get_mut(tenant)) {
            *running -= 1;
            self.running.retain(|_, running| *running > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_limited_in_total_and_for_each_tenant() {
        let mut pool = TenantPool::new(PoolSizes { shared: 1, tenants: 3, each_tenant: 2 });
        for (tenant, key) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5)] {
            pool.push(tenant.to_owned(), key);
        }
        let mut start = || std::iter::from_fn(|| pool.next()).map(|it| it.1).collect::<Vec<_>>();
        assert_eq!(start(), [1, 4, 5], "tenants take turns");
        pool.done(Some("b"));
        pool.done(None);
        let mut start = || std::iter::from_fn(|| pool.next()).map(|it| it.1).collect::<Vec<_>>();
        assert_eq!(start(), [2]);
        pool.done(Some("c"));
        assert_eq!(pool.next(), None, "a has its share");
        pool.done(Some("a"));
        assert_eq!(pool.next(), Some(("a".to_owned(), 3)));
    }
}
