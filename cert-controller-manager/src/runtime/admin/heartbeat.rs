//! Liveness of the controllers. Each controller has a heartbeat. If one is too old, the process is
//! unhealthy and the kubelet restarts it.
//!
//! A heartbeat is updated as long as its task is polled. This detects tasks that block or wait for
//! a lock forever. A cluster that does not answer has no effect: a restart would not help.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};

/// All heartbeats of the process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct HeartbeatState(Arc<Mutex<Vec<Registered>>>);

#[derive(Debug)]
struct Registered {
    name: &'static str,
    max_age: Duration,
    last: Arc<Mutex<Instant>>,
}

/// The heartbeat of one controller.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    period: Duration,
    last: Arc<Mutex<Instant>>,
}

/// The age of all heartbeats at one instant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Health(Vec<HeartbeatAge>);

/// The age of one heartbeat.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeartbeatAge {
    /// Name of the controller.
    pub name: &'static str,
    /// Time since the last beat.
    pub age: Duration,
    /// Maximum age.
    pub max_age: Duration,
}

impl HeartbeatState {
    /// Registers a heartbeat with its first beat now.
    #[must_use]
    pub fn register(&self, name: &'static str, max_age: Duration) -> Heartbeat {
        let last = Arc::new(Mutex::new(Instant::now()));
        self.lock().push(Registered { name, max_age, last: last.clone() });
        // Three beats within the maximum age, as in upstream.
        Heartbeat { period: (max_age / 3).max(Duration::from_millis(1)), last }
    }

    /// The current age of all heartbeats.
    #[must_use]
    pub fn examine(&self) -> Health {
        self.examine_at(Instant::now())
    }

    fn examine_at(&self, now: Instant) -> Health {
        let heartbeat = |registered: &Registered| HeartbeatAge {
            name: registered.name,
            age: now.saturating_duration_since(*lock(&registered.last)),
            max_age: registered.max_age,
        };
        Health(self.lock().iter().map(heartbeat).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Registered>> {
        lock(&self.0)
    }
}

impl Heartbeat {
    /// Updates the heartbeat.
    pub fn beat(&self) {
        *lock(&self.last) = Instant::now();
    }

    /// Runs `work` and updates the heartbeat in the same task. If `work` blocks the task, the updates stop.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut ticks = interval(self.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => return result,
                _ = ticks.tick() => self.beat(),
            }
        }
    }
}

impl Health {
    /// Whether no heartbeat is too old.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.0.iter().all(HeartbeatAge::is_in_time)
    }
}

impl HeartbeatAge {
    fn is_in_time(&self) -> bool {
        self.age <= self.max_age
    }
}

/// One summary line, then one line for each heartbeat.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let late: Vec<_> = self.0.iter().filter(|heartbeat| !heartbeat.is_in_time()).collect();
        if late.is_empty() {
            writeln!(f, "ok")?;
        } else {
            let names: Vec<_> = late.iter().map(|heartbeat| heartbeat.name).collect();
            writeln!(f, "not working: {}", names.join(", "))?;
        }
        for heartbeat in &self.0 {
            let (age, limit) = (heartbeat.age.as_secs(), heartbeat.max_age.as_secs());
            writeln!(f, "{}: {age} s ago (at most {limit} s)", heartbeat.name)?;
        }
        Ok(())
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, sleep};

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_late_heartbeat_is_reported_by_name_and_recovers() {
        let heartbeats = HeartbeatState::default();
        let certificates = heartbeats.register("certificates", LIMIT);
        let issuers = heartbeats.register("issuers", LIMIT);
        advance(LIMIT).await;
        assert!(heartbeats.examine().is_alive(), "as old as it may be");
        issuers.beat();
        advance(Duration::from_secs(1)).await;
        let health = heartbeats.examine();
        assert!(!health.is_alive());
        assert_eq!(
            health.to_string(),
            "not working: certificates\n\
             certificates: 31 s ago (at most 30 s)\n\
             issuers: 1 s ago (at most 30 s)\n"
        );
        certificates.beat();
        assert!(heartbeats.examine().to_string().starts_with("ok\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_heartbeat_is_updated_only_during_the_work() {
        let heartbeats = HeartbeatState::default();
        let beat = heartbeats.register("certificates", LIMIT);
        let done = beat.during(async {
            for _ in 0..10 {
                sleep(LIMIT).await;
                assert!(heartbeats.examine().is_alive());
            }
            "done"
        });
        assert_eq!(done.await, "done");
        advance(LIMIT * 2).await;
        assert!(!heartbeats.examine().is_alive());
    }

    #[test]
    fn a_process_without_controllers_is_alive() {
        let health = HeartbeatState::default().examine();
        assert!(health.is_alive());
        assert_eq!(health.to_string(), "ok\n");
    }
}
