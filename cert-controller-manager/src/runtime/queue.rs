//! The work queue: keys to reconcile, with optional delays.
//!
//! A key is in the queue at most once and is never reconciled concurrently. A key that is pushed during
//! its reconciliation runs once more. For a key with several delays, the earliest time wins. The
//! `Controller` of kube does the same, but drops keys of deleted objects, which need work here
//! (see `docs/decisions/0002-own-work-queue.md`).

mod tenant_pool;

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, task::JoinSet, time::Instant};

pub use self::tenant_pool::PoolSizes;
use self::tenant_pool::TenantPool;

/// Delay of a key after a panic, which is a bug.
const AFTER_PANIC: Duration = Duration::from_secs(60);

/// See the [module](self).
#[derive(Debug)]
pub struct Queue<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<K> {
    ready: VecDeque<K>,
    /// The keys in `ready`.
    waiting: HashSet<K>,
    /// Keys that are being reconciled, and whether they were pushed since.
    running: HashMap<K, bool>,
    due: HashMap<K, Instant>,
    /// `due` by time.
    timeline: BTreeSet<(Instant, K)>,
    /// How many of `running` wait for a worker.
    parked: usize,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        let state = State {
            ready: VecDeque::new(),
            waiting: HashSet::new(),
            running: HashMap::new(),
            due: HashMap::new(),
            timeline: BTreeSet::new(),
            parked: 0,
        };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    /// Reconciles `key` as soon as possible.
    pub fn push(&self, key: K) {
        self.lock().push(key);
        self.changed.notify_one();
    }

    /// Reconciles `key` after `delay`, or earlier if it is pushed.
    pub fn push_after(&self, key: K, delay: Duration) {
        self.lock().push_at(key, Instant::now() + delay);
        self.changed.notify_one();
    }

    /// The number of ready keys, and of keys that are being reconciled.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let state = self.lock();
        (state.ready.len() + state.parked, state.running.len() - state.parked)
    }

    /// The number of ready keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().ready.len()
    }

    /// Whether no key is ready.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the next ready key out of the queue, without a reconciliation.
    #[cfg(test)]
    pub(crate) fn try_next(&self) -> Option<K> {
        let mut state = self.lock();
        let key = state.ready.pop_front()?;
        state.waiting.remove(&key);
        Some(key)
    }

    /// Waits for the next key to reconcile. Call [`done`](Self::done) afterwards.
    pub(crate) async fn next(&self) -> K {
        loop {
            let next_due = {
                let mut state = self.lock();
                state.promote_due(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.waiting.remove(&key);
                    state.running.insert(key.clone(), false);
                    return key;
                }
                state.timeline.first().map(|(time, _)| *time)
            };
            let due = async {
                match next_due {
                    Some(time) => tokio::time::sleep_until(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Marks `key` as reconciled. It runs again after `again`.
    pub(crate) fn done(&self, key: K, again: Option<Duration>) {
        let mut state = self.lock();
        if state.running.remove(&key) == Some(true) {
            state.push(key);
        } else if let Some(delay) = again {
            state.push_at(key, Instant::now() + delay);
        }
        drop(state);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash + Ord> State<K> {
    fn push(&mut self, key: K) {
        if let Some(pushed) = self.running.get_mut(&key) {
            *pushed = true;
            return;
        }
        if let Some(time) = self.due.remove(&key) {
            self.timeline.remove(&(time, key.clone()));
        }
        if self.waiting.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    fn push_at(&mut self, key: K, time: Instant) {
        if self.waiting.contains(&key) {
            return;
        }
        if let Some(before) = self.due.get(&key).copied() {
            if before <= time {
                return;
            }
            self.timeline.remove(&(before, key.clone()));
        }
        self.due.insert(key.clone(), time);
        self.timeline.insert((time, key));
    }

    /// Makes due keys ready.
    fn promote_due(&mut self, now: Instant) {
        while let Some((time, _)) = self.timeline.first()
            && *time <= now
        {
            let Some((_, key)) = self.timeline.pop_first() else { break };
            self.due.remove(&key);
            self.push(key);
        }
    }
}

/// Reconciles the keys of the queue, in two pools of workers. Never returns. `tenant_of` returns the
/// tenant whose server a reconciliation may wait for. `reconcile` returns the delay until the next
/// attempt. A panic is caught and logged, and the key is retried later.
pub async fn drain<K, F>(
    queue: &Queue<K>,
    pools: PoolSizes,
    tenant_of: impl Fn(&K) -> Option<String>,
    reconcile: impl Fn(K) -> F,
) -> std::convert::Infallible
where
    K: Clone + Eq + Hash + Ord + std::fmt::Debug + Send + 'static,
    F: Future<Output = Option<Duration>> + Send + 'static,
{
    let mut running = JoinSet::new();
    let mut keys = HashMap::new();
    let mut tenants: TenantPool<K> = TenantPool::new(pools);
    loop {
        while let Some((tenant, key)) = tenants.next() {
            let task = running.spawn(reconcile(key.clone()));
            keys.insert(task.id(), (key, Some(tenant)));
        }
        queue.lock().parked = tenants.waiting();
        let is_free = running.len() - tenants.running() < pools.shared;
        tokio::select! {
            key = queue.next(), if is_free => match tenant_of(&key) {
                Some(tenant) => tenants.push(tenant, key),
                None => {
                    let task = running.spawn(reconcile(key.clone()));
                    keys.insert(task.id(), (key, None));
                }
            },
            Some(result) = running.join_next_with_id() => {
                let (id, again) = match result {
                    Ok((id, again)) => (id, Ok(again)),
                    Err(error) => (error.id(), Err(AFTER_PANIC)),
                };
                let Some((key, tenant)) = keys.remove(&id) else { continue };
                tenants.done(tenant.as_deref());
                if again.is_err() {
                    tracing::error!(?key, "bug: the reconciliation of {key:?} panicked; it is retried in a minute");
                }
                queue.done(key, again.unwrap_or_else(Some));
            },
        }
    }
}

/// A shared queue.
pub type Shared<K> = Arc<Queue<K>>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex as StdMutex;

    /// Runs a queue and records the keys with their start in seconds.
    async fn run(queue: Arc<Queue<&'static str>>, work: Duration) -> Vec<(u64, &'static str)> {
        let log = Arc::new(StdMutex::new(Vec::new()));
        let start = Instant::now();
        let reconcile = {
            let log = log.clone();
            move |key: &'static str| {
                let log = log.clone();
                async move {
                    log.lock().unwrap().push((start.elapsed().as_secs(), key));
                    tokio::time::sleep(work).await;
                    None
                }
            }
        };
        let _ = tokio::time::timeout(
            Duration::from_secs(100),
            drain(&queue, PoolSizes { shared: 2, ..PoolSizes::default() }, |_| None, reconcile),
        )
        .await;
        let log = log.lock().unwrap();
        log.clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_pushed_twice_runs_once() {
        let queue = Arc::new(Queue::default());
        queue.push("a");
        queue.push("a");
        assert_eq!(run(queue, Duration::ZERO).await, [(0, "a")]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_time_wins() {
        let queue = Arc::new(Queue::default());
        queue.push_after("later", Duration::from_secs(30));
        queue.push_after("later", Duration::from_secs(10));
        queue.push_after("later", Duration::from_secs(20));
        queue.push_after("now", Duration::from_secs(10));
        queue.push("now");
        assert_eq!(run(queue, Duration::ZERO).await, [(0, "now"), (10, "later")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_pushed_while_it_runs_runs_once_more_afterwards() {
        let queue = Arc::new(Queue::default());
        queue.push("a");
        let pusher = {
            let queue = queue.clone();
            async move {
                tokio::time::sleep(Duration::from_secs(2)).await;
                queue.push("a");
                queue.push("a");
            }
        };
        let (log, ()) = tokio::join!(run(queue.clone(), Duration::from_secs(5)), pusher);
        assert_eq!(log, [(0, "a"), (5, "a")]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_concurrency_is_limited() {
        let queue = Arc::new(Queue::default());
        for key in ["a", "b", "c"] {
            queue.push(key);
        }
        let log = run(queue, Duration::from_secs(5)).await;
        assert_eq!(log, [(0, "a"), (0, "b"), (5, "c")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_panics_is_retried_after_a_minute_without_delaying_others() {
        let queue = Arc::new(Queue::default());
        queue.push("bad");
        queue.push("good");
        let log = Arc::new(StdMutex::new(Vec::new()));
        let start = Instant::now();
        let reconcile = |key: &'static str| {
            let log = log.clone();
            async move {
                let elapsed = start.elapsed().as_secs();
                log.lock().unwrap().push((elapsed, key));
                assert!(key != "bad" || elapsed > 0, "a defect");
                None
            }
        };
        let _ = tokio::time::timeout(
            Duration::from_secs(100),
            drain(&queue, PoolSizes { shared: 2, ..PoolSizes::default() }, |_| None, reconcile),
        )
        .await;
        assert_eq!(*log.lock().unwrap(), [(0, "bad"), (0, "good"), (60, "bad")]);
    }
}
