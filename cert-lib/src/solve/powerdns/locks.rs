//! Locks by name: changes of one record set wait for each other, changes of different ones do not.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Serialises changes of the same record set. Shared by all [`PowerDns`](super::PowerDns) of a
/// process, because several Issuers may use one server.
#[derive(Debug, Default)]
pub struct NameLocks {
    /// A lock stays here while a call holds it or waits for it.
    entries: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
}

/// A held lock. Dropping it removes the entry unless another call waits for it.
#[derive(Debug)]
pub(super) struct NameLock {
    locks: Arc<NameLocks>,
    key: String,
    entry: Option<Arc<AsyncMutex<()>>>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl NameLocks {
    /// Waits for the lock of `key`. `None` if too many calls are running.
    pub(super) async fn acquire(self: &Arc<Self>, key: String) -> Option<NameLock> {
        let entry = {
            let mut entries = self.lock();
            if entries.len() >= MAX_ENTRIES && !entries.contains_key(&key) {
                return None;
            }
            Arc::clone(entries.entry(key.clone()).or_default())
        };
        // From here on a cancelled call gives its entry back.
        let locks = Arc::clone(self);
        let mut held = NameLock { locks, key, entry: Some(Arc::clone(&entry)), guard: None };
        held.guard = Some(entry.lock_owned().await);
        Some(held)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<AsyncMutex<()>>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for NameLock {
    fn drop(&mut self) {
        let mut entries = self.locks.lock();
        self.guard = None;
        self.entry = None;
        if entries.get(&self.key).is_some_and(|entry| Arc::strong_count(entry) == 1) {
            entries.remove(&self.key);
        }
    }
}

/// More names than orders that run at once.
const MAX_ENTRIES: usize = 10_000;

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_name_has_one_holder_and_an_unused_entry_goes_away() {
        let locks = Arc::new(NameLocks::default());
        let first = locks.acquire("a".to_owned()).await.unwrap();
        let other = locks.acquire("b".to_owned()).now_or_never().unwrap();
        let mut second = Box::pin(locks.acquire("a".to_owned()));
        assert!(second.as_mut().now_or_never().is_none());
        let cancelled = locks.acquire("a".to_owned()).now_or_never();
        assert!(cancelled.is_none());
        drop((first, other));
        assert_eq!(locks.lock().keys().collect::<Vec<_>>(), ["a"]);
        let second = second.now_or_never().unwrap();
        assert_eq!(locks.lock().len(), 1);
        drop(second);
        assert!(locks.lock().is_empty());
    }

    #[tokio::test]
    async fn the_number_of_entries_is_bounded() {
        let locks = Arc::new(NameLocks::default());
        let mut held = Vec::new();
        for number in 0..MAX_ENTRIES {
            held.push(locks.acquire(number.to_string()).await.unwrap());
        }
        assert!(locks.acquire("one more".to_owned()).await.is_none());
        held.clear();
        assert!(locks.acquire("one more".to_owned()).await.is_some());
    }
}
